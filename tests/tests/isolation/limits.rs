//! Limits: memory and processes exactly, disks by looking, and what statistics say of known loads.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Case, PIDS, SOON, World, scalar};

pub(super) const CASES: &[Case] = &[
    ("processes are counted exactly", processes),
    ("processors of one's own", cores),
    ("memory ends where it was said", memory),
    ("a full disk ends its task", disk),
    ("statistics of a known load", statistics),
];

fn processes(world: &mut World) {
    // The shell itself is one.
    let command = "i=1; while true; do sleep 300 & i=$((i+1)); echo $i; done";
    let end = world.run("pids", command, json!({}));
    let last = world.stdout("pids").lines().last().unwrap().to_owned();
    assert_eq!(last, PIDS.to_string(), "{end}");
}

/// The node has two: one is the task's, everybody else is moved to the other, and back.
fn cores(world: &mut World) {
    let show = "while true; do cat /sys/fs/cgroup/cpuset.cpus.effective; sleep 1; done";
    world.launch("cores-shared", json!({ "value": show }), json!({}));
    world.wait_stdout("cores-shared", "0-1\n");
    let own = json!({"labels": {"labels": [{"key": "mesolith.cpus", "value": "exclusive"}]},
        "resources": [scalar("cpus", 1.0), scalar("mem", 48.0)]});
    let look =
        "cat /sys/fs/cgroup/cpuset.cpus.effective; grep Cpus_allowed_list /proc/self/status | cut -f2; sleep 3000";
    world.launch("cores-own", json!({ "value": look }), own);
    assert_eq!(world.wait_stdout("cores-own", "\n0\n"), "0\n0\n");
    world.wait_stdout("cores-shared", "\n1\n");
    world.tasks.kill("cores-own").unwrap();
    world.tasks.wait_first_end("cores-own", SOON).unwrap();
    let said = world.wait_stdout("cores-shared", "\n1\n0-1\n");
    assert!(said.starts_with("0-1\n"), "{said}");
    world.tasks.kill("cores-shared").unwrap();
    world.tasks.wait_first_end("cores-shared", SOON).unwrap();
}

fn memory(world: &mut World) {
    let more = |mem: f64| json!({"resources": [scalar("cpus", 0.5), scalar("mem", mem)]});
    // What is written to a tmpfs is the task's own memory.
    let write = |mib: u32| format!("dd if=/dev/zero of=/tmp/m bs=1M count={mib} 2>/dev/null && echo fits");
    assert_eq!(world.output("mem-fits", &write(44), more(48.0)), "fits\n");
    let end = world.run("mem-over", &write(52), more(48.0));
    assert_eq!(end["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{end}");
    assert!(end["message"].as_str().unwrap().contains("Requested: 48MB Maximum Used: 48MB"), "{end}");
}

/// One that takes less runs meanwhile: `super::lasting`.
fn disk(world: &mut World) {
    let more = json!({"resources": [scalar("cpus", 0.1), scalar("mem", 64.0), scalar("disk", 8.0)]});
    let end = world.run("disk", "dd if=/dev/zero of=big bs=1M count=12 2>/dev/null; sleep 600", more);
    assert_eq!(
        (&end["state"], &end["reason"]),
        (&json!("TASK_FAILED"), &json!("REASON_CONTAINER_LIMITATION_DISK")),
        "{end}"
    );
    let message = end["message"].as_str().unwrap();
    assert!(message.starts_with("Disk usage (1") && message.ends_with("MB) exceeds quota (8MB)"), "{end}");
    assert_eq!(end["limitation"]["resources"][0]["name"], "disk", "{end}");
}

fn statistics(world: &mut World) {
    let more = json!({"resources": [scalar("cpus", 0.3), scalar("mem", 64.0), scalar("disk", 16.0)]});
    let command = "dd if=/dev/zero of=/tmp/m bs=1M count=20 2>/dev/null; dd if=/dev/zero of=file bs=1M count=4 2>/dev/null; \
                   echo loaded; while true; do true; done";
    world.launch("load", json!({ "value": command }), more);
    world.wait_stdout("load", "loaded");
    let used = |world: &World| {
        let container = world.container("load");
        let statistics = &container["statistics"];
        let number = |name: &str| statistics[name].as_f64().unwrap();
        (number("timestamp"), number("cpus_user_time_secs") + number("cpus_system_time_secs"), container.clone())
    };
    let (from, before, _) = used(world);
    std::thread::sleep(Duration::from_secs(12));
    let (to, after, container) = used(world);
    let cpus = (after - before) / (to - from);
    assert!((0.2..0.34).contains(&cpus), "0.3 processors were {cpus} in {} s", to - from);
    println!("   0.3 cpus: {cpus:.3} over {:.1} s", to - from);
    let statistics = &container["statistics"];
    let memory = statistics["mem_total_bytes"].as_u64().unwrap();
    assert!((24 << 20..64 << 20).contains(&memory), "{statistics}");
    assert!(statistics["mem_file_bytes"].as_u64().unwrap() >= 24 << 20, "{statistics}");
    assert_eq!(
        (&statistics["mem_limit_bytes"], &statistics["cpus_limit"]),
        (&json!(64 << 20), &json!(0.3)),
        "{statistics}"
    );
    assert!(statistics["cpus_nr_throttled"].as_u64().unwrap() > 0, "{statistics}");
    assert!(container["pressure"]["cpu"]["some"]["total"].as_f64().unwrap() > 0.0, "{container}");
    let deadline = Instant::now() + SOON;
    while world.container("load")["statistics"]["disk_used_bytes"].as_u64().unwrap_or(0) < 4 << 20 {
        assert!(Instant::now() < deadline, "{}", world.container("load"));
        std::thread::sleep(Duration::from_millis(500));
    }
    world.tasks.kill("load").unwrap();
    world.tasks.wait_first_end("load", SOON).unwrap();
    assert!(world.container("load").is_null(), "it is listed although it has ended");
}
