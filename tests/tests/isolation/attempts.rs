//! Attempts that need two: a process and whoever enters beside it, a task and the next one.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Case, SOON, World, scalar};

pub(super) const CASES: &[Case] =
    &[("the program containers begin as", own_program), ("links that change while they are mounted", changing_links)];

/// A container's first process is the agent's own binary until it executes another; here it executes that binary again,
/// as `/proc/self/exe`, and stays. Root in the same container then tries to change it. (CVE-2019-5736 and its like.)
fn own_program(world: &mut World) {
    let attempts = "[ $(wc -c < /proc/1/exe) -gt 5000000 ] || exit 40; \
        ( : >> /proc/1/exe ) 2> /dev/null && exit 41; \
        chmod 700 /proc/1/exe 2> /dev/null && exit 42; \
        touch /proc/1/exe 2> /dev/null && exit 43; \
        chown 1 /proc/1/exe 2> /dev/null && exit 44; \
        exec 9< /proc/1/exe; chmod 0 /proc/self/fd/9 2> /dev/null && exit 45; \
        exit 77";
    let more = json!({
        "resources": [scalar("cpus", 0.5), scalar("mem", 128.0)],
        "check": {"type": "COMMAND", "command": {"command": {"value": attempts}}, "delay_seconds": 2,
            "interval_seconds": 2, "timeout_seconds": 60},
    });
    let program = "/proc/self/exe";
    let run_dir = json!([{"name": "MESOLITH_RUN_DIR", "value": "/mnt/mesos/sandbox/run"}]);
    let command = json!({"shell": false, "value": program, "arguments": [program, "launcher"], "user": "root",
        "environment": {"variables": run_dir}});
    world.launch("own-program", command, more);
    let deadline = Instant::now() + SOON;
    let code = loop {
        world.tasks.take(Duration::from_millis(500)).unwrap();
        let statuses = world.tasks.statuses("own-program");
        let mut found = statuses.iter().map(|status| &status["check_status"]["command"]["exit_code"]);
        if let Some(code) = found.rfind(|code| !code.is_null()) {
            break code.clone();
        }
        assert!(Instant::now() < deadline && world.tasks.ends("own-program").is_empty(), "{statuses:?}");
    };
    assert_eq!(code, 77, "the program could be changed, or was not there");
    world.tasks.kill("own-program").unwrap();
    world.tasks.wait_first_end("own-program", SOON).unwrap();
}

/// One task makes of a directory a link and back, as fast as it can, while others have it mounted: they see the
/// directory, or are refused; never where the link leads.
fn changing_links(world: &mut World) {
    let host = |path: &str| json!({"container": {"type": "MESOS", "volumes": [{"mode": "RW", "container_path": "host", "host_path": path}]}});
    let change = "cd host; mkdir -p race/sub; ln -sfn /run/mesolith away; echo changing; \
        while true; do mv race kept; mv away race; mv race away; mv kept race; done";
    world.launch("changing", json!({ "value": change }), host("/dev/shm"));
    world.wait_stdout("changing", "changing");
    for number in 0..6 {
        let id = format!("mounts-{number}");
        let end = world.run(
            &id,
            "ls host; echo; ls host/agent host/logs 2>/dev/null && echo GOT OUT; true",
            host("/dev/shm/race/sub"),
        );
        let said = world.tasks.stdout(&id).unwrap_or_default();
        assert!(!said.contains("GOT OUT"), "{said}");
        let refused = end["message"].as_str().unwrap_or_default().contains("cannot find the volume");
        assert!(end["state"] == "TASK_FINISHED" || refused, "{end}");
    }
    world.tasks.kill("changing").unwrap();
    world.tasks.wait_first_end("changing", SOON).unwrap();
    world.output("changed", "rm -rf host/race host/kept host/away", host("/dev/shm"));
    std::thread::sleep(Duration::from_millis(100));
}
