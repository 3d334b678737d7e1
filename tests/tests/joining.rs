//! How nodes get in: what a joining node gives away, what a task can reach, and what a refused node is told.
//!
//! Two servers that boot over the network, one with a clock that stands in 2001, one with a clock of 2040. The second is
//! then reset again and again with something wrong. What needs no machine (a used token, another machine's token, an
//! expired one, a session without a certificate) is in the master's own tests.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::http;
use tests::rack::{Options, Rack};
use tests::tasks::Tasks;

const BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(60);
/// Garbage is looked for every 30 s, and on this node it takes the file of a whole disk away.
const COLLECTED: Duration = Duration::from_secs(90);

/// The honest node and the one that gets into trouble.
const HONEST: usize = 1;
const TROUBLED: usize = 2;

#[test]
fn nodes_join_without_giving_anything_away_and_are_refused_with_a_reason() {
    let rtc = |date: &str| vec!["-rtc".to_owned(), format!("base={date}")];
    let options = Options {
        memory_mib: 1024,
        // A task that may use this much fills the file system of the sandboxes before its own limit.
        cmdline: "mesolith.resources=mem:640".to_owned(),
        node_qemu_args: BTreeMap::from([
            ("node-1".to_owned(), rtc("2001-01-01T00:00:00")),
            ("node-2".to_owned(), rtc("2040-01-01T00:00:00")),
        ]),
        ..Options::new().unwrap()
    };
    let rack = Rack::start(options).unwrap();
    rack.wait_registered(2, BOOT).unwrap();
    wrong_clocks_are_set_before_joining(&rack);
    let mut tasks = Tasks::subscribe(rack.api_url(), "joining").unwrap();
    a_task_sees_nothing_of_its_node(&mut tasks);
    tasks.framework.call("TEARDOWN", &Value::Null).unwrap();
    no_token_is_where_others_read(&rack);
    a_script_is_worth_one_token(&rack);
    another_ca_is_refused(&rack);
    a_clock_that_nobody_can_set_is_named(&rack);
    a_node_that_was_revoked_meanwhile_is_refused(&rack);
    a_full_disk_is_survived(&rack);
    rack.end().unwrap();
}

fn wrong_clocks_are_set_before_joining(rack: &Rack) {
    for node in rack.nodes() {
        let line = node.wait_console("mesolith: clock: ", SOON).unwrap();
        assert!(line.contains("from the master"), "{line}");
        let log = node_log(rack, node.name());
        let set = log.lines().find(|line| line.contains("clock set")).unwrap_or_else(|| panic!("no clock set:\n{log}"));
        println!("{}: {} {}", node.name(), line.trim(), set.trim());
    }
}

/// What a task of a hostile user finds out and can do. Every line is `name: what came`, so that an applet the task root
/// lacks shows as an unexpected text, not as a refusal.
const NOSY: &str = r#"
try() { name=$1; shift; echo "$name: $("$@" 2>&1 | tr '\n' ' ')"; }
try cmdline cat /proc/cmdline
for path in /etc/mesolith /run/mesolith /var/lib/mesolith /sys/firmware/dmi /dev/mem /dev/kmsg /dev/sda /dev/ttyS0; do
  try "exists $path" ls -A $path
done
try token find / -xdev -name '*token*'
try environment env
try processes sh -c 'echo /proc/[0-9]*'
try first cat /proc/1/comm
try status grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd|CapAmb):' /proc/self/status
try cgroup cat /proc/self/cgroup
ls -l /proc/1/fd >descriptors
try descriptors sed 's/.* -> //' descriptors
try mknod mknod "$MESOS_SANDBOX/memory" c 1 1
try mount mount -t tmpfs none /tmp
try unshare unshare -m true
try dmesg dmesg
try hostname hostname other
try sysctl sh -c 'echo other >/proc/sys/kernel/core_pattern'
try sysrq sh -c 'echo h >/proc/sysrq-trigger'
try root touch /bin/new
try limit sh -c 'echo max >/sys/fs/cgroup/memory.max'
try raw ping -c 1 -W 1 127.0.0.1
try signal kill -9 -1
"#;

fn a_task_sees_nothing_of_its_node(tasks: &mut Tasks) {
    tasks.launch("nosy", NOSY, 0.2, 64.0, SOON).unwrap();
    let end = tasks.wait_end("nosy", SOON).unwrap();
    let said = tasks.stdout("nosy").unwrap();
    println!("{said}");
    let answers: BTreeMap<&str, &str> =
        said.lines().filter_map(|line| line.split_once(": ")).map(|(name, text)| (name, text.trim())).collect();
    let answer = |name: &str| *answers.get(name).unwrap_or_else(|| panic!("nothing about {name}: {end}\n{said}"));
    assert_eq!(answer("cmdline"), "");
    for path in
        ["/etc/mesolith", "/run/mesolith", "/var/lib/mesolith", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/ttyS0"]
    {
        let text = answer(&format!("exists {path}"));
        assert!(text.contains("No such file"), "{path}: {text}");
    }
    // Masked: an empty directory lies over it.
    assert!(!answer("exists /sys/firmware/dmi").contains("tables"));
    assert_eq!(answer("token"), "");
    assert!(
        !answer("environment").to_lowercase().contains("token") && answer("environment").contains("MESOS_TASK_ID=nosy")
    );
    let processes = answer("processes").split(' ').count();
    assert!(processes <= 6 && answer("processes").contains("/proc/1 "), "{}", answer("processes"));
    assert_eq!(answer("first"), "sh");
    let status: BTreeMap<&str, &str> = answer("status")
        .split_whitespace()
        .collect::<Vec<_>>()
        .chunks_exact(2)
        .map(|pair| (pair[0].trim_end_matches(':'), pair[1]))
        .collect();
    assert_eq!((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"), "{status:?}");
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service.
    assert_eq!(
        (status["CapEff"], status["CapBnd"], status["CapAmb"]),
        ("00000000000005fb", "00000000000005fb", "0000000000000000")
    );
    assert_eq!(answer("cgroup"), "0::/");
    // Nothing of the node's own is open: no socket, no pipe, no console. The list itself is, while it is made.
    let own = ["/dev/null", "/stdout", "/stderr", "/descriptors"];
    let open: Vec<&str> = answer("descriptors").split_whitespace().filter(|word| word.contains(['/', ':'])).collect();
    assert!(open.len() >= 3 && open.iter().all(|file| own.iter().any(|own| file.ends_with(own))), "{open:?}");
    for name in ["mknod", "mount", "unshare", "dmesg", "hostname", "raw"] {
        let text = answer(name).to_lowercase();
        assert!(text.contains("not permitted") || text.contains("denied"), "{name}: {text}");
    }
    for name in ["sysctl", "sysrq", "root", "limit"] {
        assert!(answer(name).contains("Read-only file system"), "{name}: {}", answer(name));
    }
}

/// Every 64 hexadecimal digits in a row are tried against the master's table, which holds the tokens' digests only.
fn tokens_in(text: &str, digests: &BTreeSet<String>) -> Vec<String> {
    let runs = text.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() >= 64);
    let windows = runs.flat_map(|run| (0..=run.len() - 64).map(|at| &run[at..at + 64]));
    let digest = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    windows.filter(|window| digests.contains(&digest(window))).map(str::to_owned).collect()
}

fn no_token_is_where_others_read(rack: &Rack) {
    let url = format!("{}/mesolith/v1/tokens", rack.api_url());
    let made = http::post_json(&url, &json!({"name": "spare"}).to_string(), SOON).unwrap().success().unwrap();
    let log = replicated_log(rack);
    // Each is kept under its digest.
    let digests: BTreeSet<String> =
        log.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() == 64).map(str::to_owned).collect();
    assert!(digests.len() >= 3, "a token for each node and one for us: {digests:?}");
    assert_eq!(tokens_in(&made.text(), &digests).len(), 1, "a token is found where there is one");
    let get = |path: &str| http::get(&format!("{}{path}", rack.api_url()), SOON).unwrap().success().unwrap().text();
    let mut places: Vec<(String, String)> = vec![
        ("the master's log".to_owned(), rack.master().log()),
        ("boot.log".to_owned(), rack.master().boot_log()),
        ("the replicated log".to_owned(), log),
    ];
    for path in ["/state", "/mesolith/v1/nodes", "/metrics/snapshot"] {
        places.push((path.to_owned(), get(path)));
    }
    for node in rack.nodes() {
        let name = node.name();
        // With the kernel's own messages, from its first.
        assert!(node.console().contains("Kernel command line: "), "{name}'s console has the kernel's messages");
        places.push((format!("{name}'s console"), node.console()));
        places.push((format!("{name}'s log"), node_log(rack, name)));
        places.push((format!("{name}'s inventory"), get(&format!("/mesolith/v1/nodes/{name}/inventory"))));
    }
    for (place, text) in &places {
        assert!(text.len() > 20, "{place} is empty");
        assert!(tokens_in(text, &digests).is_empty(), "{place} shows a token");
    }
    println!("no token in {:?}", places.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>());
}

/// What the master keeps, as text as far as it is any.
fn replicated_log(rack: &Rack) -> String {
    let files = fs::read_dir(rack.master().data().join("raft")).unwrap().map(|file| file.unwrap().path());
    files.map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()).collect()
}

/// The machines' addresses are no secret; the token of a machine that is up is gone all the same.
fn a_script_is_worth_one_token(rack: &Rack) {
    for node in rack.nodes() {
        let answer = boot_get(rack, &format!("/boot/token?mac={}&uuid={}", node.mac(), node.uuid()));
        assert!(answer.contains(" 403 ") && answer.contains("it was fetched"), "{answer}");
    }
    assert!(boot_get(rack, "/boot/time").contains(" 200 "), "the question itself is a good one");
}

fn another_ca_is_refused(rack: &Rack) {
    let wrong = "0".repeat(64);
    let marks = boot_troubled(rack, &format!("mesolith.ca=sha256:{wrong}"));
    let said = rack.node(TROUBLED).wait_console_after(marks.console, "REFUSED: ", BOOT).unwrap();
    let ca = rack.status().unwrap().ca;
    assert!(said.contains(&format!("told to trust sha256:{wrong}")), "{said}");
    assert!(said.contains(&format!("sha256:{}", fingerprint(&ca))), "the node says whose CA it met: {said}");
    let line = marks.wait_master(rack, "TLS handshake refused");
    assert!(line.contains(rack.node(TROUBLED).address()) && line.contains("trusts another CA"), "{line}");
    println!("another CA: {}\n  {}", said.trim(), line.trim());
    assert_eq!(rack.registered().len(), 1);
}

/// The machine's clock stands in 2040, and nothing tells it the time before it needs it.
fn a_clock_that_nobody_can_set_is_named(rack: &Rack) {
    let marks = boot_troubled(rack, "mesolith.boot=http://10.77.0.1:1");
    let said = rack.node(TROUBLED).wait_console_after(marks.console, "cannot join yet: ", BOOT).unwrap();
    assert!(said.contains("this node's clock is wrong") && said.contains("2040"), "{said}");
    let line = marks.wait_master(rack, "TLS handshake refused");
    assert!(line.contains(rack.node(TROUBLED).address()) && line.contains("clock"), "{line}");
    println!("a wrong clock: {}\n  {}", said.trim(), line.trim());
    assert_eq!(rack.registered().len(), 1);
}

/// The machine stands still between fetching its token and using it; meanwhile an operator revokes the node, and the
/// master starts anew.
fn a_node_that_was_revoked_meanwhile_is_refused(rack: &Rack) {
    let node = rack.node(TROUBLED);
    let fetched = node.pxe_evidence().token;
    let marks = boot_troubled(rack, "");
    let deadline = Instant::now() + BOOT;
    while node.pxe_evidence().token == fetched {
        assert!(Instant::now() < deadline, "no token was fetched:\n{}", node.console());
        std::thread::sleep(Duration::from_millis(20));
    }
    node.freeze().unwrap();
    let url = format!("{}/mesolith/v1/revocations/nodes/{}", rack.api_url(), node.name());
    http::post_json(&url, &json!({"reason": "stolen"}).to_string(), SOON).unwrap().success().unwrap();
    rack.master().restart().unwrap();
    node.thaw().unwrap();
    let said = node.wait_console_after(marks.console, "REFUSED: ", BOOT).unwrap();
    assert!(said.contains("was revoked by an operator: stolen"), "{said}");
    let line = marks.wait_master(rack, "node refused to join");
    assert!(line.contains(node.mac()) && line.contains("was revoked"), "{line}");
    println!("a revoked node: {}\n  {}", said.trim(), line.trim());
    // The honest node comes back to the restarted master with its certificate.
    assert_eq!(rack.wait_registered(1, SOON).unwrap().len(), 1);
}

/// Fills the sandboxes' file system, and what becomes free on it. The first page of stdout is there before, so there is
/// room to tell.
const FILL: &str = r#"trap 'echo ending; exit 0' TERM
echo begin
said=$(dd if=/dev/zero of=fill bs=1M 2>&1)
echo "dd: $said"
while :; do cat /dev/zero >> fill 2>&-; sleep 0.1; done"#;

fn a_full_disk_is_survived(rack: &Rack) {
    let node = rack.node(HONEST);
    let mut tasks = Tasks::subscribe(rack.api_url(), "full disk").unwrap();
    let started = node.console().matches("agent started").count();
    tasks.launch("fill", FILL, 0.3, 620.0, SOON).unwrap();
    tasks.wait_state("fill", "TASK_RUNNING", SOON).unwrap();
    let deadline = Instant::now() + SOON;
    let said = loop {
        let said = tasks.stdout("fill").unwrap();
        if said.contains("dd: ") {
            break said;
        }
        assert!(
            Instant::now() < deadline && tasks.ends("fill").is_empty(),
            "the disk is not full: {said} {:?}",
            tasks.ends("fill")
        );
        tasks.take(Duration::from_millis(200)).unwrap();
    };
    assert!(said.contains("No space left on device"), "{said}");

    // Nothing of the node's own is on it: a task that writes nothing runs.
    tasks.launch("quiet", "exit 0", 0.1, 16.0, SOON).unwrap();
    assert_eq!(tasks.wait_end("quiet", SOON).unwrap()["state"], "TASK_FINISHED");
    // One that writes learns that it cannot.
    tasks.launch("loud", "echo hello || exit 9", 0.1, 16.0, SOON).unwrap();
    let loud = tasks.wait_end("loud", SOON).unwrap();
    println!("on the full disk: {} {}", loud["state"], loud["message"]);
    assert_eq!((&loud["state"], &loud["message"]), (&json!("TASK_FAILED"), &json!("Command exited with status 9")));
    assert!(tasks.ends("fill").is_empty(), "who filled it still runs");
    assert_eq!(rack.wait_registered(1, SOON).unwrap()[0]["hostname"], node.address());

    // Its sandbox goes when it has ended, because the room is wanted.
    let mark = node_log(rack, node.name()).len();
    tasks.kill("fill").unwrap();
    assert_eq!(tasks.wait_end("fill", SOON).unwrap()["state"], "TASK_KILLED");
    let deadline = Instant::now() + COLLECTED;
    loop {
        let log = node_log(rack, node.name());
        if log.get(mark..).is_some_and(|new| new.contains("removed sandboxes of ended tasks")) {
            break;
        }
        assert!(Instant::now() < deadline, "no sandbox was collected:\n{log}");
        tasks.take(Duration::from_secs(1)).unwrap();
    }
    tasks.launch("again", "dd if=/dev/zero of=some bs=1M count=100 && echo written", 0.3, 160.0, SOON).unwrap();
    assert_eq!(tasks.wait_end("again", SOON).unwrap()["state"], "TASK_FINISHED");
    assert!(tasks.stdout("again").unwrap().contains("written"));
    let console = node.console();
    assert_eq!(console.matches("agent started").count(), started, "the agent did not restart");
    assert!(!console.contains("cannot write a checkpoint"), "checkpoints are on another file system");
    tasks.framework.call("TEARDOWN", &Value::Null).unwrap();
}

/// Where the logs stood before the machine was reset.
struct Marks {
    console: usize,
    master: usize,
}

impl Marks {
    /// The first line of the master's log since then that says so.
    fn wait_master(&self, rack: &Rack, text: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let log = rack.master().log();
            let new = log.get(self.master..).unwrap_or_default();
            if let Some(line) = new.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "the master does not say `{text}`:\n{new}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Presses the troubled machine's reset button, with this on its kernel command line: the last word on a key counts.
fn boot_troubled(rack: &Rack, cmdline: &str) -> Marks {
    let node = rack.node(TROUBLED);
    let file = rack.dir().join("machines.json");
    let mut machines: Vec<Value> = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let entry = machines.iter_mut().find(|machine| machine["mac"] == node.mac()).unwrap();
    entry["cmdline"] = json!(cmdline);
    fs::write(&file, serde_json::to_vec(&machines).unwrap()).unwrap();
    rack.master().restart().unwrap();
    let marks = Marks { console: node.console_mark(), master: rack.master().log().len() };
    node.reset().unwrap();
    marks
}

fn node_log(rack: &Rack, node: &str) -> String {
    http::get(&format!("{}/mesolith/v1/nodes/{node}/log", rack.api_url()), SOON).unwrap().success().unwrap().text()
}

/// One request to the boot endpoints from inside the rack's network, by bash: they are plain HTTP.
fn boot_get(rack: &Rack, path: &str) -> String {
    let boot = rack.status().unwrap().master.boot.unwrap();
    let (host, port) = boot.trim_start_matches("http://").split_once(':').unwrap();
    let script = r#"exec 3<>"/dev/tcp/$0/$1"; printf 'GET %s HTTP/1.1\r\nHost: boot\r\nConnection: close\r\n\r\n' "$2" >&3; timeout 10 cat <&3"#;
    let output = rack.inside(Path::new("bash")).args(["-c", script, host, port, path]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// SHA-256 of the certificate's DER, by the master's own account.
fn fingerprint(ca: &Path) -> String {
    let ready: Value = serde_json::from_slice(&fs::read(ca.with_file_name("ready.json")).unwrap()).unwrap();
    ready["ca_sha256"].as_str().unwrap().trim_start_matches("sha256:").to_owned()
}
