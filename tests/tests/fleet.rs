//! A fleet of machines nobody has told the master of: they wait, are claimed, crash, hang, and are retired.
#![cfg(feature = "nightly")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::framework::Framework;
use tests::http;
use tests::rack::{FaultLine, Options, Places, Rack};

const BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(60);

/// Named after their network cards.
const FIRST: &str = "node-770001";
const SECOND: &str = "node-770002";

/// A megabyte that the kernel leaves alone, for its last words: below what boot loaders use on machines of this size.
const CRASH_MEMORY: &str = "memmap=1M$256M ramoops.mem_address=0x10000000 ramoops.mem_size=0x100000 \
                            ramoops.record_size=0x20000 ramoops.ecc=1 mesolith.watchdog=40 mesolith.ntp=10.77.0.1";

#[test]
fn a_fleet_is_claimed_crashes_hangs_and_is_retired() {
    let mut options = Options { places: Places::Unlisted, ..Options::new().unwrap() };
    options.master_args = ["--admission", "claimed"].map(str::to_owned).to_vec();
    options.cmdline = CRASH_MEMORY.to_owned();
    let mut options = FaultLine::with_word(options);
    let first = options.node(1);
    let mut faulty = FaultLine::qemu_args();
    faulty.extend(
        ["-device", "i6300esb", "-action", "watchdog=reset", "-global", "ICH9-LPC.noreboot=off"].map(str::to_owned),
    );
    options.node_qemu_args.insert("node-1".to_owned(), faulty);
    // Firmware that gives two machines one UUID, and a clock that stands in 2001.
    options.node_qemu_args.insert(
        "node-2".to_owned(),
        vec!["-uuid".to_owned(), first.uuid, "-rtc".to_owned(), "base=2001-01-01T00:00:00".to_owned()],
    );
    let rack = Rack::start(options).unwrap();
    let _time_server = TimeServer::start(&rack);

    machines_wait_and_show_what_they_are(&rack);
    a_claim_makes_one_work(&rack);
    nothing_listens_on_a_node(&rack);
    a_rule_claims_the_other(&rack);
    a_clock_of_2001_is_right(&rack);
    let mut faults = FaultLine::connect(&rack).unwrap();
    the_last_words_of_a_kernel_are_kept(&rack, &mut faults);
    a_hung_agent_takes_the_machine_with_it_and_it_comes_back(&rack, &mut faults);
    a_retired_node_is_one_nobody_knows(&rack);
    rack.end().unwrap();
}

fn wait<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not happen within {within:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn waiting(rack: &Rack) -> Vec<Value> {
    let answer = rack.get("/mesolith/v1/unclaimed").unwrap_or_default();
    answer["machines"].as_array().cloned().unwrap_or_default()
}

fn names(machines: &[Value]) -> Vec<String> {
    let mut names: Vec<String> = machines.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn node(rack: &Rack, name: &str) -> Option<Value> {
    let list = rack.get("/mesolith/v1/nodes").unwrap_or_default();
    list["nodes"].as_array()?.iter().find(|node| node["name"] == name).cloned()
}

fn connected(rack: &Rack, name: &str) -> Option<Value> {
    node(rack, name).filter(|node| node["state"] == "connected")
}

fn post(rack: &Rack, path: &str, body: &Value) -> Value {
    let url = format!("{}{path}", rack.api_url());
    http::post_json(&url, &body.to_string(), SOON).unwrap().success().unwrap().json().unwrap()
}

fn machines_wait_and_show_what_they_are(rack: &Rack) {
    wait("both machines wait", BOOT, || (waiting(rack).len() == 2).then_some(()));
    let machines = waiting(rack);
    assert_eq!(names(&machines), [FIRST, SECOND]);
    for machine in &machines {
        assert_eq!(machine["state"], "unclaimed");
        assert_eq!(machine["attributes"]["cpu.arch"], "x86_64", "{machine}");
        assert!(machine["macs"].as_array().is_some_and(|macs| !macs.is_empty()), "{machine}");
    }
    // They answer what they are asked, and work for nobody.
    let version = rack.get(&format!("/mesolith/v1/nodes/{FIRST}/api/version")).unwrap();
    assert_eq!(version["hosted"], false, "{version}");
    assert!(rack.registered().is_empty(), "no agent offers anything");
    let framework = Framework::subscribe(rack.api_url(), "nothing to offer", &Value::Null).unwrap();
    assert!(framework.wait("OFFERS", Duration::from_secs(5)).is_err(), "machines nobody has claimed are offered");
    framework.call("TEARDOWN", &Value::Null).unwrap();
    let duplicates = rack.get("/mesolith/v1/unclaimed").unwrap()["duplicates"].clone();
    assert_eq!(duplicates, json!({FIRST: [SECOND], SECOND: [FIRST]}), "firmware that repeats itself is flagged");
    assert!(rack.node(1).console().contains("UNCLAIMED"), "the console says it");
}

fn a_claim_makes_one_work(rack: &Rack) {
    let began = Instant::now();
    let claimed =
        post(rack, "/mesolith/v1/claims", &json!({"where": format!("name == '{FIRST}' && cpu.arch == 'x86_64'")}));
    assert_eq!(claimed["claimed"], json!([FIRST]));
    wait("the claimed machine registers", SOON, || connected(rack, FIRST));
    println!("claimed to registered: {:?}", began.elapsed());
    assert_eq!(names(&waiting(rack)), [SECOND]);
    let framework = Framework::subscribe(rack.api_url(), "an offer", &Value::Null).unwrap();
    let offers = framework.wait("OFFERS", SOON).unwrap();
    assert_eq!(offers["offers"]["offers"].as_array().unwrap().len(), 1);
    framework.call("TEARDOWN", &Value::Null).unwrap();
}

/// Tells the host's time to the rack.
struct TimeServer(std::process::Child);

const TIME_SERVER: &str = "
import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.77.0.1', 123))
def stamp():
    now = time.time() + 2208988800
    return struct.pack('!II', int(now) & 0xffffffff, int(now % 1 * 2**32))
while True:
    asked, who = s.recvfrom(512); came = stamp()
    s.sendto(bytes([0x24, 1, 6, 0xec]) + bytes(20) + asked[40:48] + came + stamp(), who)
";

impl TimeServer {
    fn start(rack: &Rack) -> Self {
        Self(rack.inside(python()).args(["-c", TIME_SERVER]).spawn().unwrap())
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        // It may have ended with the rack's network.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python() -> &'static std::path::Path {
    let places = ["/usr/bin/python3", "/usr/local/bin/python3"].map(std::path::Path::new);
    places.into_iter().find(|path| path.exists()).expect("python3 is installed: ./dev installs it")
}

fn a_clock_of_2001_is_right(rack: &Rack) {
    let said = wait("a time server is believed", SOON, || {
        let said = rack.get(&format!("/mesolith/v1/nodes/{SECOND}/api/time")).ok()?;
        (said["servers"]["synchronised"] == true).then_some(said)
    });
    let ours = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let off = i128::from(said["unix_ms"].as_u64().unwrap()) - i128::try_from(ours).unwrap();
    assert!(off.abs() < 5_000, "{off} ms: {said}");
    println!("a clock of 2001 is {off} ms off: {}", said["servers"]);
}

/// Every TCP port of the node, from the rack's network.
const SCAN: &str = "
import concurrent.futures, socket, sys
def look(port):
    s = socket.socket(); s.settimeout(3)
    try:
        s.connect((sys.argv[1], port)); return port
    except OSError: return None
    finally: s.close()
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print([port for port in pool.map(look, range(1, 65536)) if port])
";

fn nothing_listens_on_a_node(rack: &Rack) {
    let address = node(rack, FIRST).unwrap()["address"].as_str().unwrap().to_owned();
    let mut scan: Command = rack.inside(python());
    let output = scan.args(["-c", SCAN, &address]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "[]", "ports of {address} that are open");
    // What is mounted so that it can be written, and nothing else.
    let mounts = rack.get(&format!("/mesolith/v1/nodes/{FIRST}/api/mounts")).unwrap();
    let mut writable: Vec<&str> = Vec::new();
    for mount in mounts["mounts"].as_array().unwrap() {
        let (kind, target) = (mount["type"].as_str().unwrap(), mount["target"].as_str().unwrap());
        let is_read_only = mount["options"].to_string().split(|c: char| !c.is_alphanumeric()).any(|word| word == "ro");
        if ["tmpfs", "rootfs", "ramfs"].contains(&kind) && !is_read_only {
            writable.push(target);
        }
    }
    writable.sort_unstable();
    writable.dedup();
    for target in &writable {
        let listed = ["/dev/shm", "/etc", "/run", "/tmp", "/var", "/var/lib/mesolith/images"];
        let hidden = *target == "/"
            && mounts["mounts"]
                .as_array()
                .unwrap()
                .iter()
                .any(|mount| mount["target"] == "/" && mount["options"].to_string().contains("ro"));
        assert!(listed.contains(target) || hidden, "{target} can be written: {mounts}");
    }
}

fn a_rule_claims_the_other(rack: &Rack) {
    let url = format!("{}/mesolith/v1/claim-rules/lab", rack.api_url());
    let body = json!({"where": "net.mac.set =~ '52:54:00:.*'"}).to_string();
    let done = Command::new("curl").args(["-sf", "-X", "PUT", "-d", &body, &url]).status().unwrap();
    assert!(done.success());
    wait("the rule claims the other machine", SOON, || connected(rack, SECOND));
    let claims = rack.get("/mesolith/v1/claims").unwrap();
    assert_eq!(claims["nodes"][SECOND]["how"], json!({"rule": "lab"}), "{claims}");
    assert_eq!(claims["nodes"][FIRST]["how"], "hand");
}

fn boot_of(rack: &Rack) -> Value {
    node(rack, FIRST).unwrap()["boot_id"].clone()
}

fn the_last_words_of_a_kernel_are_kept(rack: &Rack, faults: &mut FaultLine) {
    let before = boot_of(rack);
    faults.panic().unwrap();
    wait("the machine is back", BOOT, || connected(rack, FIRST).filter(|node| node["boot_id"] != before));
    let crash = wait("the report comes", SOON, || {
        let answer = rack.get(&format!("/mesolith/v1/crashes?node={FIRST}")).ok()?;
        answer["crashes"].as_array()?.iter().find(|crash| crash["kind"] == "panic").cloned()
    });
    let text = crash["text"].as_str().unwrap();
    assert!(text.contains("Kernel panic") && text.contains("sysrq"), "{text}");
    println!("crash report {} of {} bytes", crash["id"], text.len());
}

fn a_hung_agent_takes_the_machine_with_it_and_it_comes_back(rack: &Rack, faults: &mut FaultLine) {
    let before = boot_of(rack);
    // The watchdog's driver may have come after the agent.
    rack.node(1).wait_console("armed the hardware watchdog", SOON).unwrap();
    let mark = rack.node(1).console_mark();
    faults.hang("agent").unwrap();
    rack.node(1).wait_console_after(mark, "no sign of life for", SOON).unwrap();
    wait("the watchdog restarts the machine", BOOT, || connected(rack, FIRST).filter(|node| node["boot_id"] != before));
}

fn a_retired_node_is_one_nobody_knows(rack: &Rack) {
    let answer = post(rack, &format!("/mesolith/v1/nodes/{FIRST}/retire"), &json!({}));
    assert_eq!(answer["wiped"], true, "{answer}");
    assert!(node(rack, FIRST).is_none(), "a retired node is in no list");
    // The rule would take it again.
    let url = format!("{}/mesolith/v1/claim-rules/lab", rack.api_url());
    assert!(Command::new("curl").args(["-sf", "-X", "DELETE", &url]).status().unwrap().success());
    wait("it comes back as one nobody knows", BOOT, || {
        waiting(rack).iter().any(|one| one["name"] == FIRST).then_some(())
    });
}
