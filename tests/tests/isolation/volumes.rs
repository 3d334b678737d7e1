//! Volumes of every kind, and that persistent ones outlive their tasks and the agent.

use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

use super::{Case, SOON, World, of_offer, scalar, task};

pub(super) const CASES: &[Case] = &[
    ("volumes of the sandbox and of memory", sandbox_and_tmpfs),
    ("volumes of the node", of_the_node),
    ("secrets", secrets),
    ("persistent volumes", persistent),
];

fn volumes(list: Value) -> Value {
    json!({"container": {"type": "MESOS", "volumes": list}})
}

fn sandbox_and_tmpfs(world: &mut World) {
    let more = volumes(json!([
        {"mode": "RW", "container_path": "/cache/deep", "host_path": "made/here"},
        {"mode": "RO", "container_path": "twice", "source": {"type": "SANDBOX_PATH", "sandbox_path": {"type": "SELF", "path": "made/here"}}},
        {"mode": "RW", "container_path": "/scratch", "source": {"type": "DOCKER_VOLUME",
            "docker_volume": {"driver": "tmpfs", "name": "x", "driver_options": {"parameter": [{"key": "size", "value": "1m"}]}}}},
    ]));
    let command = "echo one > /cache/deep/file; cat made/here/file twice/file; echo no > twice/file || echo read-only; \
                   dd if=/dev/zero of=/scratch/big bs=64k count=40 2>/dev/null || echo full; touch /other 2>/dev/null || echo root-is-read-only";
    let said = world.output("sandbox-volumes", command, more);
    assert_eq!(said, "one\none\nread-only\nfull\nroot-is-read-only\n");
    // The root everybody shares has no directory of it.
    assert_eq!(world.output("no-trace", "ls -d /cache /scratch 2>/dev/null; echo none", json!({})), "none\n");
}

fn of_the_node(world: &mut World) {
    let host = |path: &str, mode: &str| volumes(json!([{"mode": mode, "container_path": "host", "host_path": path}]));
    world.output("shm-write", "echo here > host/left", host("/dev/shm", "RW"));
    assert_eq!(world.output("shm-read", "cat host/left; rm host/left", host("/dev/shm", "RW")), "here\n");
    let said = world.output(
        "host-ro",
        "ls host/taskroot/bin/busybox; touch host/x 2>/dev/null || echo refused",
        host("/usr/share/mesolith", "RO"),
    );
    assert_eq!(said, "host/taskroot/bin/busybox\nrefused\n");
    for (id, path, mode, words) in [
        ("host-etc", "/etc", "RO", "does not show its path '/etc'"),
        ("host-run", "/run/mesolith", "RO", "does not show"),
        ("host-rw", "/usr/share/mesolith/taskroot", "RW", "read-only"),
    ] {
        let message = world.refused(id, host(path, mode));
        assert!(message.contains(words), "{id}: {message}");
    }
    let end = world.run("host-up", "true", host("/dev/shm/../../etc", "RO"));
    assert_eq!((&end["state"], &end["reason"]), (&json!("TASK_ERROR"), &json!("REASON_TASK_UNAUTHORIZED")), "{end}");
    let end = world.run("host-acl", "true", host("/data/forbidden", "RO"));
    assert_eq!(end["reason"], "REASON_TASK_UNAUTHORIZED", "{end}");
    // A link that another task left below the path leads nowhere.
    world.output("link-left", "ln -s /run/mesolith host/link && ln -s ../../etc host/up", host("/dev/shm", "RW"));
    for (id, path) in [("link-followed", "/dev/shm/link"), ("link-up", "/dev/shm/up")] {
        let message = world.refused(id, host(path, "RW"));
        assert!(message.contains("cannot find the volume"), "{id}: {message}");
    }
    world.output("link-removed", "rm host/link host/up", host("/dev/shm", "RW"));
}

fn secrets(world: &mut World) {
    let data = base64::engine::general_purpose::STANDARD.encode("pass word");
    let secret = json!({"type": "VALUE", "value": {"data": data}});
    let more = volumes(
        json!([{"mode": "RO", "container_path": "secret/file", "source": {"type": "SECRET", "secret": secret}}]),
    );
    let command = json!({"value": "cat secret/file; echo; ls -l secret/file | cut -c1-10; echo \"$TOKEN\"; echo x > secret/file || echo read-only",
        "user": "nobody", "environment": {"variables": [{"name": "TOKEN", "type": "SECRET", "secret": secret}]}});
    world.launch("secrets", command, more);
    let end = world.tasks.wait_first_end("secrets", SOON).unwrap();
    assert_eq!(end["state"], "TASK_FINISHED", "{end}");
    assert_eq!(world.stdout("secrets"), "pass word\n-r--------\npass word\nread-only\n");
    let reference = json!({"type": "REFERENCE", "reference": {"name": "nobody-made-it"}});
    let more =
        volumes(json!([{"mode": "RO", "container_path": "s", "source": {"type": "SECRET", "secret": reference}}]));
    assert!(world.refused("no-secret", more).contains("no secret 'nobody-made-it'"));
}

fn reserved(size: f64) -> Value {
    let mut disk = scalar("disk", size);
    disk["reservations"] = json!([{"type": "DYNAMIC", "role": "data", "principal": "ordinary"}]);
    disk
}

fn volume(size: f64) -> Value {
    let mut disk = reserved(size);
    disk["disk"] = json!({"persistence": {"id": "v1", "principal": "ordinary"}, "volume": {"container_path": "data", "mode": "RW"}});
    disk
}

/// Runs a task on the volume; first operations, if there are any. Its end and its words.
fn on_volume(world: &mut World, id: &str, command: &str, before: &[Value], has: &dyn Fn(&Value) -> bool) {
    on_volume_as(world, id, command, before, has, json!({}));
}

/// The same with labels.
fn on_volume_as(
    world: &mut World,
    id: &str,
    command: &str,
    before: &[Value],
    has: &dyn Fn(&Value) -> bool,
    labels: Value,
) {
    let more = json!({"labels": labels, "resources": [scalar("cpus", 0.1), scalar("mem", 48.0), volume(16.0)]});
    let operations = |offer: &Value| {
        if !offer["resources"].as_array().unwrap().iter().any(has) {
            return None;
        }
        let mut all: Vec<Value> = before
            .iter()
            .map(|operation| {
                let kind = operation["type"].as_str().unwrap().to_lowercase();
                let field = if kind == "reserve" { "resources" } else { "volumes" };
                json!({"type": operation["type"], (kind): {(field): of_offer(offer, &operation["of"])}})
            })
            .collect();
        let launch = task(offer, id, json!({ "value": command }), &more);
        all.push(json!({"type": "LAUNCH", "launch": {"task_infos": [launch]}}));
        Some(Value::Array(all))
    };
    world.tasks.accept_first(operations, SOON).unwrap();
}

fn persistent(world: &mut World) {
    let is_volume = |one: &Value| one["disk"]["persistence"]["id"] == "v1";
    let is_disk = |one: &Value| one["name"] == "disk" && one["disk"].is_null();
    let make = [json!({"type": "RESERVE", "of": [reserved(16.0)]}), json!({"type": "CREATE", "of": [volume(16.0)]})];
    on_volume(world, "v-first", "echo first > data/file; ls -ld data | cut -c1-10", &make, &is_disk);
    let end = world.tasks.wait_first_end("v-first", SOON).unwrap();
    assert_eq!(end["state"], "TASK_FINISHED", "{end}");
    // The next task finds it, also across the agent's death.
    on_volume(
        world,
        "v-second",
        "cat data/file; echo second >> data/file; while sleep 1; do echo beat; done",
        &[],
        &is_volume,
    );
    world.wait_stdout("v-second", "first\nbeat");
    let killed = world.faults.kill("agent").unwrap();
    world.agent = world.faults.wait_other("agent", killed, SOON).unwrap();
    let beats = world.stdout("v-second").lines().count();
    let deadline = Instant::now() + SOON;
    while world.stdout("v-second").lines().count() < beats + 3 {
        assert!(Instant::now() < deadline, "it beats no more");
        std::thread::sleep(Duration::from_millis(500));
    }
    world.tasks.kill("v-second").unwrap();
    assert_eq!(world.tasks.wait_first_end("v-second", SOON).unwrap()["state"], "TASK_KILLED");
    on_volume(world, "v-third", "cat data/file; sleep 3000", &[], &is_volume);
    assert_eq!(world.wait_stdout("v-third", "second"), "first\nsecond\n");
    // Statistics know it.
    let deadline = Instant::now() + SOON;
    loop {
        let statistics = world.container("v-third")["statistics"]["disk_statistics"][0].clone();
        if statistics["persistence"]["id"] == "v1" {
            assert_eq!(statistics["limit_bytes"], json!(16 << 20), "{statistics}");
            assert!(statistics["used_bytes"].as_u64().unwrap() > 0, "{statistics}");
            break;
        }
        assert!(Instant::now() < deadline, "no statistics of the volume: {}", world.container("v-third"));
        std::thread::sleep(Duration::from_millis(500));
    }
    world.tasks.kill("v-third").unwrap();
    assert_eq!(world.tasks.wait_first_end("v-third", SOON).unwrap()["state"], "TASK_KILLED");
    // A task with names of its own finds it its own, and whoever comes after, too.
    let names = super::namespaces::own_names();
    let look = "id -u; ls -ln data/file | tr -s ' ' | cut -d' ' -f3; echo own >> data/file";
    on_volume_as(world, "v-own", look, &[], &is_volume, names);
    let end = world.tasks.wait_first_end("v-own", SOON).unwrap();
    assert_eq!((&end["state"], world.stdout("v-own").as_str()), (&json!("TASK_FINISHED"), "0\n0\n"), "{end}");
    on_volume(world, "v-common", look, &[], &is_volume);
    let end = world.tasks.wait_first_end("v-common", SOON).unwrap();
    assert_eq!((&end["state"], world.stdout("v-common").as_str()), (&json!("TASK_FINISHED"), "0\n0\n"), "{end}");
    // Too much is the end, and the words say of what.
    on_volume(world, "v-full", "dd if=/dev/zero of=data/big bs=1M count=20; sleep 600", &[], &is_volume);
    let end = world.tasks.wait_first_end("v-full", SOON).unwrap();
    assert_eq!(end["reason"], "REASON_CONTAINER_LIMITATION_DISK", "{end}");
    assert!(end["message"].as_str().unwrap().contains("persistent volume 'v1'"), "{end}");
    // Destroyed and made anew it is empty.
    let destroy = |offer: &Value| {
        let has = offer["resources"].as_array().unwrap().iter().any(is_volume);
        has.then(|| json!([{"type": "DESTROY", "destroy": {"volumes": of_offer(offer, &json!([volume(16.0)]))}}]))
    };
    world.tasks.accept_first(destroy, SOON).unwrap();
    // Either form of a reservation.
    let is_reserved = |one: &Value| {
        let reserved = one["role"] == "data" || !one["reservations"].is_null();
        one["name"] == "disk" && one["disk"].is_null() && reserved
    };
    let make = [json!({"type": "CREATE", "of": [volume(16.0)]})];
    on_volume(world, "v-anew", "ls data | wc -l", &make, &is_reserved);
    let end = world.tasks.wait_first_end("v-anew", SOON).unwrap();
    assert_eq!((end["state"].as_str(), world.stdout("v-anew").trim()), (Some("TASK_FINISHED"), "0"), "{end}");
}
