//! What takes longer: power that fails, disks that come, fail and go, and the end of a node.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{BOOT, SOON, Server};

/// Counts on the volume, each number certain before it is said.
const COUNT: &str = "i=$(cat data/last 2>/dev/null || echo 0); while true; do i=$((i+1)); echo $i > data/next; sync; \
                     mv data/next data/last; sync; echo $i; done";

fn pool_and_data(server: &Server) {
    server.rule(&["pool", "--disks", "path", "--disk-class", "nvme", "--disk-count", "1", "--state-mib", "128"]);
    server.rule(&["data", "--disks", "mount", "--disk-class", "virtual", "--filesystem", "xfs", "--encrypted"]);
    let both = |disks: &[Value]| disks.iter().filter(|disk| disk["state"] == "in use").count() == 2;
    server.wait_disks("both are in use", both);
    server.wait_pool();
}

fn last_said(server: &Server, task: &str) -> u64 {
    let said = server.tasks.stdout(task).unwrap_or_default();
    said.lines().rev().find_map(|line| line.parse().ok()).unwrap_or(0)
}

#[test]
fn a_server_that_loses_its_power_five_times_comes_back_with_its_disks() {
    let mut server = Server::start(&[]);
    pool_and_data(&server);
    let table = server.disks();
    let mut certain = 0;
    for round in 0..5 {
        let id = format!("count-{round}");
        match round {
            0 => server.make_volume_and(&id, COUNT),
            _ => server.on_volume(&id, COUNT),
        }
        server.tasks.wait_state(&id, "TASK_RUNNING", SOON).unwrap();
        let deadline = Instant::now() + SOON;
        // Each time at another moment.
        while last_said(&server, &id) < certain + 3 + round {
            assert!(Instant::now() < deadline, "{id} counts no more: {:?}", server.tasks.stdout(&id));
            thread::sleep(Duration::from_millis(137 * (round + 1)));
        }
        certain = last_said(&server, &id);
        let mark = server.rack.node(1).console_mark();
        server.rack.node(1).kill().unwrap();
        server.rack.node(1).power_on().unwrap();
        server.rack.node(1).wait_console_after(mark, "READY", BOOT).unwrap();
        server.tasks.wait_end(&id, SOON).unwrap();
        server.wait_pool();
        let check = format!("check-{round}");
        server.on_volume(&check, "cat data/last");
        let end = server.tasks.wait_end(&check, SOON).unwrap();
        assert_eq!(end["state"], "TASK_FINISHED", "{end}");
        let kept: u64 = server.tasks.stdout(&check).unwrap().trim().parse().unwrap();
        println!("power cut {round}: {certain} was certain, {kept} is there");
        assert!(kept >= certain, "{kept} < {certain}");
    }
    let same = |disk: &Value| (disk["serial"].clone(), disk["content"].clone());
    assert_eq!(server.disks().iter().map(same).collect::<Vec<_>>(), table.iter().map(same).collect::<Vec<_>>());
    server.rack.end().unwrap();
}

#[test]
fn a_disk_that_comes_is_used_one_that_fails_is_not_offered_and_one_that_goes_is_gone() {
    let server = Server::start(&["-device", "pcie-root-port,id=hp0,chassis=7"]);
    server.rule(&["plugged", "--disks", "mount", "--disk-serial", "NVB2"]);
    let node = server.rack.node(1);
    let file = server.path("plugged");
    std::fs::File::create(&file).unwrap().set_len(1_000_000_000 / 512 * 512).unwrap();
    let plug = || {
        let drive = json!({"driver": "raw", "node-name": "plugged", "file": {"driver": "file", "filename": file}});
        node.qmp("blockdev-add", drive).unwrap();
        let device = json!({"driver": "nvme", "id": "nvb2", "serial": "NVB2", "drive": "plugged", "bus": "hp0"});
        node.qmp("device_add", device).unwrap();
    };
    let wait = |what: &str, mib: &dyn Fn(f64) -> bool| {
        let deadline = Instant::now() + SOON;
        while !mib(server.offered().mount) {
            assert!(Instant::now() < deadline, "{what}: {:?} {:#?}", server.offered(), server.disks());
            thread::sleep(Duration::from_millis(300));
        }
    };
    plug();
    wait("it is offered", &|mib| mib > 700.0);
    let warn = |bits: u8| {
        let value = json!({"path": "/machine/peripheral/nvb2", "property": "smart_critical_warning", "value": bits});
        node.qmp("qom-set", value).unwrap();
    };
    warn(4);
    wait("it is not offered any more", &|mib| mib == 0.0);
    let failing = server.disks().into_iter().find(|disk| disk["serial"] == "NVB2").unwrap();
    assert_eq!((&failing["state"], &failing["health"]["verdict"]), (&json!("failing"), &json!("failing")), "{failing}");
    let told = server.cli(&["hw", "node-1"]);
    assert!(told.contains("disks.failing"), "{told}");
    warn(0);
    wait("it is offered again", &|mib| mib > 700.0);
    node.qmp("device_del", json!({"id": "nvb2"})).unwrap();
    wait("it is gone", &|mib| mib == 0.0);
    let gone = |disks: &[Value]| disks.iter().all(|disk| disk["serial"] != "NVB2");
    server.wait_disks("nor is it listed", gone);
    server.rack.end().unwrap();
}

#[test]
fn what_was_encrypted_cannot_be_read_after_the_node_was_provisioned_anew() {
    let mut server = Server::start(&[]);
    pool_and_data(&server);
    server.make_volume_and("write", "echo kept > data/file; sync");
    assert_eq!(server.tasks.wait_end("write", SOON).unwrap()["state"], "TASK_FINISHED");
    // LUKS2's own salts and keys, behind the partition's beginning.
    let keys = |server: &Server| server.bytes("virtio")[1 << 20..17 << 20].to_vec();
    let before = keys(&server);
    server.cli(&["rules", "remove", "data"]);
    let mark = server.rack.node(1).console_mark();
    server.cli(&["reprovision", "node-1"]);
    server.rack.node(1).wait_console_after(mark, "READY", BOOT).unwrap();
    assert!(before.windows(6).any(|window| window == b"SKUL\xba\xbe"), "LUKS2 was there");
    assert!(keys(&server).iter().all(|byte| *byte == 0), "its keys are not");
    let disks = server.disks();
    let data = disks.iter().find(|disk| disk["serial"] == "VB1").unwrap();
    assert_eq!((&data["state"], &data["content"]), (&json!("unused"), &json!("empty")), "{data}");
    // The pool's rule is still there: it is made anew.
    server.wait_pool();
    server.rack.end().unwrap();
}
