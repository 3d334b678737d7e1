//! The rack itself: servers come over the network, and nothing outlives the process that serves them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::rack::{Kind, Options, Rack};

/// A boot on a loaded host.
const BOOT: Duration = Duration::from_secs(180);

#[test]
fn two_servers_boot_over_the_network_and_register() {
    let rack = Rack::start(Options::new().unwrap()).unwrap();
    rack.wait_registered(2, BOOT).unwrap();
    for node in rack.nodes() {
        let evidence = node.pxe_evidence();
        assert!(evidence.shows(1), "{}: {evidence:?}", node.name());
        // What the firmware itself says: the boot ROM loaded the script, nobody gave QEMU a kernel.
        let console = node.console();
        for said in ["iPXE initialising devices...ok", "tftp://10.77.0.1/boot.ipxe... ok", "/boot/vmlinuz... ok"] {
            assert!(console.contains(said), "{} did not say `{said}`", node.name());
        }
        let command = std::fs::read(format!("/proc/{}/cmdline", node.status().unwrap().pid.unwrap())).unwrap();
        assert!(!String::from_utf8_lossy(&command).contains("-kernel"));
    }
    rack.end().unwrap();
}

#[test]
fn a_server_that_is_reset_boots_over_the_network_again() {
    let rack = Rack::start(Options { nodes: 1, ..Options::new().unwrap() }).unwrap();
    let node = rack.node(1);
    node.wait_console("as init process", BOOT).unwrap();
    let mark = node.console_mark();
    node.reset().unwrap();
    node.wait_console_after(mark, "as init process", BOOT).unwrap();
    assert!(node.pxe_evidence().shows(2), "{:?}", node.pxe_evidence());
}

#[test]
fn nothing_outlives_a_rack_whose_process_is_killed() {
    let rack = Rack::start(Options { nodes: 1, ..Options::new().unwrap() }).unwrap();
    let status = rack.status().unwrap();
    let server = status.nodes[0].pid.unwrap();
    let children = [server, status.master.pid.unwrap()];
    assert!(children.iter().all(|pid| lives(*pid)));
    assert!(Command::new("kill").args(["-9", &status.pid.to_string()]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while children.iter().any(|pid| lives(*pid)) {
        assert!(Instant::now() < deadline, "a child of the killed rack lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
    let dir = rack.dir().to_owned();
    rack.leave();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_second_rack_in_the_same_directory_is_refused_by_name() {
    let dir = std::env::temp_dir().join(format!("mesolith-same-dir-{}", std::process::id()));
    let options = Options { nodes: 1, kind: Kind::Hosted, dir: Some(dir.clone()), ..Options::new().unwrap() };
    let rack = Rack::start(options.clone()).unwrap();
    let error = Rack::start(options).err().expect("the directory is taken").to_string();
    assert!(error.contains("./dev down"), "{error}");
    assert_eq!(Rack::find(&dir).unwrap().api_url(), rack.api_url());
    rack.end().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Whether a process exists and is no zombie.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
