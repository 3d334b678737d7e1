//! What a task is in its container: capabilities, limits of its processes, system calls, namespaces.

use serde_json::json;

use super::{Case, SOON, World, launch_by};
use tests::tasks::Tasks;

pub(super) const CASES: &[Case] = &[
    ("default confinement", by_default),
    ("named capabilities", named_capabilities),
    ("limits of processes", limits_of_processes),
    ("privileges need a rule", privileges),
];

const STATUS: &str = "grep -E '^(CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'; id -u";

fn by_default(world: &mut World) {
    let said = world.output("default", STATUS, json!({}));
    // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service
    for line in ["CapEff:00000000000005fb", "CapBnd:00000000000005fb", "NoNewPrivs:1", "Seccomp:2"] {
        assert!(said.lines().any(|said| said == line), "`{line}` in: {said}");
    }
    let own = "ls /proc | grep -c '^[0-9]'; cat /proc/1/comm; ls /sys/fs/cgroup/cgroup.procs; hostname; df -h /dev/shm";
    let said = world.output(
        "own",
        own,
        json!({"container": {"type": "MESOS", "hostname": "mine", "linux_info": {"shm_size": 8}}}),
    );
    assert!(said.contains("mine") && said.contains("8.0M"), "{said}");
}

fn named_capabilities(world: &mut World) {
    let set = json!({"capabilities": ["CHOWN", "KILL"]});
    let more = json!({"container": {"type": "MESOS", "linux_info": {"effective_capabilities": set}}});
    world.launch("capabilities", json!({"value": STATUS, "user": "nobody"}), more);
    let end = world.tasks.wait_first_end("capabilities", SOON).unwrap();
    assert_eq!(end["state"], "TASK_FINISHED", "{end}");
    let said = world.stdout("capabilities");
    for line in ["CapEff:0000000000000021", "CapBnd:0000000000000021", "CapAmb:0000000000000021", "65534"] {
        assert!(said.lines().any(|said| said == line), "`{line}` in: {said}");
    }
    let bounded =
        json!({"container": {"type": "MESOS", "linux_info": {"bounding_capabilities": {"capabilities": ["CHOWN"]}}}});
    let said = world.output("bounded", STATUS, bounded);
    assert!(said.contains("CapEff:0000000000000001\n") && said.contains("CapBnd:0000000000000001\n"), "{said}");
}

fn limits_of_processes(world: &mut World) {
    let rlimits =
        json!([{"type": "RLMT_NOFILE", "soft": 64, "hard": 128}, {"type": "RLMT_CORE", "soft": 0, "hard": 0}]);
    let more = json!({"container": {"type": "MESOS", "rlimit_info": {"rlimits": rlimits}}});
    let command =
        "ulimit -Sn; ulimit -Hn; for i in $(seq 100); do echo > f$i; done; tail -f f* 2>&1 | head -1 & sleep 2; true";
    let said = world.output("rlimits", command, more);
    assert!(said.starts_with("64\n128\n"), "{said}");
    assert!(said.contains("Too many open files") || said.contains("No file descriptors"), "{said}");
}

fn privileges(world: &mut World) {
    let asked = json!({"container": {"type": "MESOS", "linux_info": {"effective_capabilities": {"capabilities": ["SYS_ADMIN"]},
        "seccomp": {"unconfined": true}}}});
    let end = world.run("unauthorized", "true", asked.clone());
    assert_eq!((&end["state"], &end["reason"]), (&json!("TASK_ERROR"), &json!("REASON_TASK_UNAUTHORIZED")), "{end}");
    assert!(end["message"].as_str().unwrap().contains("run_privileged_tasks"), "{end}");
    let mut trusted = Tasks::subscribe_as(
        world.rack.api_url(),
        "trusted",
        &json!({"principal": "trusted", "roles": ["data"],
            "capabilities": super::CAPABILITIES.map(|kind| json!({"type": kind}))}),
    )
    .unwrap();
    // The trusted framework waits for an offer while the other one declines.
    let command = json!({"value": "mkdir m && mount -t tmpfs tmpfs m && grep sandbox/m /proc/mounts; grep -E '^Seccomp:' /proc/self/status"});
    world.tasks.take(std::time::Duration::from_secs(1)).unwrap();
    launch_by(&mut trusted, "authorized", command, asked);
    let end = trusted.wait_first_end("authorized", SOON).unwrap();
    assert_eq!(end["state"], "TASK_FINISHED", "{end} {}", trusted.stdout("authorized").unwrap_or_default());
    let said = trusted.stdout("authorized").unwrap();
    assert!(said.contains("/mnt/mesos/sandbox/m") && said.contains("Seccomp:\t0"), "{said}");
    trusted.framework.call("TEARDOWN", &serde_json::Value::Null).unwrap();
}
