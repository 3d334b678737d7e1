//! User namespaces: root in a container is nobody on the node, and everything it has is its own all the same.

use serde_json::{Value, json};

use super::escapes::FORBIDDEN;
use super::{Case, SOON, World, scalar};

pub(super) const CASES: &[Case] = &[("user namespaces", own), ("ways out of one", ways_out)];
/// What takes longer than the ordinary suite has.
pub(super) const NIGHTLY: &[Case] = &[("a user namespace with a network and a user", with_network)];

/// What a task says that wants one.
pub(super) fn own_names() -> Value {
    json!({"labels": [{"key": "mesolith.user_namespace", "value": "own"}]})
}

/// The first id outside, as the task's own map has it.
fn first(said: &str) -> u64 {
    let map = said.lines().find(|line| line.trim_start().starts_with("0 ")).unwrap_or_default();
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!((words.len(), words.last()), (3, Some(&"65536")), "{said}");
    words[1].parse().unwrap()
}

fn own(world: &mut World) {
    let data = json!({"data": "cHc="});
    let secret = json!({"type": "VALUE", "value": data});
    let look = "cat /proc/self/uid_map; id -u; echo mine > file; mkdir -p deep/er; ls -ln file | cut -d' ' -f5; cat secret; echo; \
        touch /tmp/x /dev/shm/x cache/x && echo written; touch /bin/x 2>/dev/null || echo root is read-only; \
        ls -lnd /bin /bin/busybox cache . | grep -vc ' 65534 '; [ -r /etc/passwd ] && [ -c /dev/null ] && echo x > /dev/null && echo devices; \
        cat /sys/fs/cgroup/memory.max; while [ ! -e checked ]; do sleep 1; done; ls -ln checked | tr -s ' ' | cut -d' ' -f3,4; echo checked";
    let more = json!({"labels": own_names(),
        "check": {"type": "COMMAND", "interval_seconds": 1.0, "command": {"command": {"value":
            "[ $(id -u) = 0 ] && ! grep -q '4294967295' /proc/self/uid_map && touch checked"}}},
        "container": {"type": "MESOS", "volumes": [
            {"mode": "RW", "container_path": "cache", "host_path": "made"},
            {"mode": "RO", "container_path": "secret", "source": {"type": "SECRET", "secret": secret}}]}});
    world.launch("own-one", json!({ "value": format!("{look}; sleep 600") }), more.clone());
    let said = world.wait_stdout("own-one", "\nchecked\n");
    let one = first(&said);
    assert!(one >= 1 << 20, "nobody of the node: {said}");
    for line in ["0", "pw", "written", "root is read-only", "4", "devices", "50331648", "0 0"] {
        assert!(said.lines().any(|said| said == line), "`{line}` in: {said}");
    }
    // The node calls them otherwise, and nobody else the same.
    world.launch("own-two", json!({"value": "cat /proc/self/uid_map; sleep 600"}), json!({"labels": own_names()}));
    assert_ne!(first(&world.wait_stdout("own-two", " 65536\n")), one);
    let url = format!("{}/mesolith/v1/tasks/{}/own-one/browse", world.rack.api_url(), world.tasks.framework.id);
    let answer = tests::http::get(&url, SOON).unwrap();
    let files: Value = serde_json::from_str(&answer.text()).unwrap();
    let is_its = |file: &&Value| file["uid"] == one || file["uid"] == json!(one.to_string());
    let list = files.as_array().or(files["files"].as_array()).cloned().unwrap_or_default();
    assert!(list.iter().filter(is_its).count() >= 4, "{one} has the files: {}", answer.text());
    for id in ["own-one", "own-two"] {
        world.tasks.kill(id).unwrap();
        assert_eq!(world.tasks.wait_end(id, SOON).unwrap()["state"], "TASK_KILLED");
    }
    let end = world.run(
        "own-wrong",
        "true",
        json!({"labels": {"labels": [{"key": "mesolith.user_namespace", "value": "host"}]}}),
    );
    assert!(end["message"].as_str().unwrap().contains("not 'own'"), "{end}");
}

fn with_network(world: &mut World) {
    let container = json!({"type": "MESOS", "network_infos": [{"name": "bridge"}], "rlimit_info": {"rlimits": [
        {"type": "RLMT_NOFILE", "soft": 100_000, "hard": 200_000}]}});
    let command = "id -u; ulimit -Hn; ip -o addr show eth0 | grep -c 'inet 10.88'; ls /sys/class/net | tr '\\n' ' '; echo; echo x > file && cat file";
    let more = json!({"labels": own_names(), "container": container});
    world.launch("own-bridge", json!({"value": command, "user": "nobody"}), more);
    let end = world.tasks.wait_end("own-bridge", SOON).unwrap();
    assert_eq!(end["state"], "TASK_FINISHED", "{end}");
    assert_eq!(world.stdout("own-bridge"), "65534\n200000\n1\neth0 lo \nx\n");
}

fn ways_out(world: &mut World) {
    let mut command = String::new();
    for (name, attempt) in FORBIDDEN {
        command.push_str(&format!("( {attempt} ) > /dev/null 2>&1 && echo 'GOT OUT {name}'\n"));
    }
    command.push_str("echo all tried\n");
    let more = json!({"labels": own_names(), "resources": [scalar("cpus", 0.5), scalar("mem", 64.0)]});
    assert_eq!(world.output("own-forbidden", &command, more), "all tried\n");
}
