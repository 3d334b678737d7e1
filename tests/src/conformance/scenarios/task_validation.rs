//! What a task must be, in the order the master looks.

use serde_json::{Value, json};

use crate::conformance::builder::{dialogue, info, launch, scalar, task};
use crate::conformance::dialogue::Dialogue;

pub(super) fn scenarios() -> Vec<Dialogue> {
    let bad = |name: &str, shows: &str, over: Value| {
        dialogue(&format!("task-validation/{name}"), shows, |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[launch(&[task("t", over)])]).update("f");
        })
    };
    let resources = |name: &str, shows: &str, list: Value| bad(name, shows, json!({"resources": list}));
    let executor = |over: Value| {
        let base = json!({"executor_id": {"value": "e"}, "framework_id": {"value": "${framework.1}"}, "command": {"value": "exit 0"},
            "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)]});
        crate::conformance::builder::with(base, over)
    };
    let long = "x".repeat(256);
    let volume = |volume: Value| json!({"container": {"type": "MESOS", "volumes": [volume]}});
    vec![
        bad("id-empty", "A task id is not empty.", json!({"task_id": {"value": ""}})),
        bad("id-slash", "It has no slash.", json!({"task_id": {"value": "a/b"}})),
        bad("id-dot", "It is no dot.", json!({"task_id": {"value": "."}})),
        bad("id-dotdot", "Nor two.", json!({"task_id": {"value": ".."}})),
        bad("id-control-character", "It has no control characters.", json!({"task_id": {"value": "a\u{1}b"}})),
        bad("id-too-long", "It is no longer than a file name.", json!({"task_id": {"value": long}})),
        bad("other-agent", "The task names the agent of the offer.", json!({"agent_id": {"value": "${agent.2}"}})),
        bad(
            "unknown-agent",
            "An agent that does not exist is another agent.",
            json!({"agent_id": {"value": "nowhere"}}),
        ),
        bad(
            "kill-policy-negative",
            "A grace period is not negative.",
            json!({"kill_policy": {"grace_period": {"nanoseconds": -1}}}),
        ),
        bad(
            "max-completion-time-negative",
            "Nor a time to complete.",
            json!({"max_completion_time": {"nanoseconds": -1}}),
        ),
        bad("check-without-type", "A check has a type.", json!({"check": {}})),
        bad("check-command-missing", "A COMMAND check has a command.", json!({"check": {"type": "COMMAND"}})),
        bad(
            "check-command-empty",
            "And the command a value.",
            json!({"check": {"type": "COMMAND", "command": {"command": {}}}}),
        ),
        bad("check-http-missing", "An HTTP check has its member.", json!({"check": {"type": "HTTP"}})),
        bad(
            "check-http-path",
            "Its path begins with a slash.",
            json!({"check": {"type": "HTTP", "http": {"port": 80, "path": "x"}}}),
        ),
        bad("check-tcp-missing", "So has a TCP check.", json!({"check": {"type": "TCP"}})),
        bad(
            "check-negative-delay",
            "Its times are not negative.",
            json!({"check": {"type": "TCP", "tcp": {"port": 80}, "delay_seconds": -1.0}}),
        ),
        bad(
            "health-check-nothing",
            "A health check without a type whose kind cannot be told.",
            json!({"health_check": {}}),
        ),
        bad(
            "health-check-command-empty",
            "A health check's command has a value.",
            json!({"health_check": {"type": "COMMAND", "command": {}}}),
        ),
        bad(
            "health-check-http-missing",
            "An HTTP health check has its member.",
            json!({"health_check": {"type": "HTTP"}}),
        ),
        bad(
            "health-check-http-scheme",
            "Its scheme is http or https.",
            json!({"health_check": {"type": "HTTP", "http": {"port": 80, "scheme": "ftp"}}}),
        ),
        bad(
            "health-check-http-path",
            "Its path begins with a slash.",
            json!({"health_check": {"type": "HTTP", "http": {"port": 80, "path": "x"}}}),
        ),
        bad("health-check-tcp-missing", "A TCP health check has its member.", json!({"health_check": {"type": "TCP"}})),
        bad(
            "health-check-negative-interval",
            "Its times are not negative.",
            json!({"health_check": {"type": "TCP", "tcp": {"port": 80}, "interval_seconds": -1.0}}),
        ),
        resources("no-resources", "A task uses something.", json!([])),
        resources("resources-zero", "Resources of value zero count as none.", json!([scalar("cpus", 0.0)])),
        resources("resources-negative", "A scalar is not negative.", json!([scalar("cpus", -1.0)])),
        resources(
            "resources-without-scalar",
            "A scalar resource has a scalar.",
            json!([{"name": "cpus", "type": "SCALAR"}]),
        ),
        resources(
            "resources-role-invalid",
            "A resource's role is a role.",
            json!([{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}, "role": "a b"}]),
        ),
        resources("resources-gpus-fraction", "GPUs come whole.", json!([scalar("cpus", 0.1), scalar("gpus", 0.5)])),
        resources(
            "resources-other-role",
            "Resources allocated to a role the offer is not for.",
            json!([{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}, "allocation_info": {"role": "other"}}]),
        ),
        resources(
            "resources-two-roles",
            "All are allocated to one role.",
            json!([{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}, "allocation_info": {"role": "other"}}, scalar("mem", 32.0)]),
        ),
        resources(
            "resources-mixed-revocable",
            "One name is revocable or not.",
            json!([scalar("cpus", 0.1), {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}, "revocable": {}}]),
        ),
        resources("too-much", "No more than was offered.", json!([scalar("cpus", 1000.0), scalar("mem", 32.0)])),
        resources(
            "unknown-resource",
            "A resource nobody offers is too much of it.",
            json!([scalar("cpus", 0.1), scalar("unicorns", 1.0)]),
        ),
        resources(
            "port-not-offered",
            "A port outside the offered ranges.",
            json!([scalar("cpus", 0.1), {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 80, "end": 80}]}}]),
        ),
        resources(
            "ranges-overlap",
            "Ranges do not overlap.",
            json!([{"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31_000, "end": 31_010}, {"begin": 31_005, "end": 31_006}]}}]),
        ),
        resources(
            "reserved-not-offered",
            "A reservation that the offer does not have.",
            json!([{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}, "role": "recorded"}]),
        ),
        bad("neither-command-nor-executor", "A task has a command or an executor.", json!({"command": null})),
        bad("command-and-executor", "Not both.", json!({"executor": executor(json!({}))})),
        bad(
            "executor-framework-other",
            "The executor is of this framework.",
            json!({"command": null, "executor": executor(json!({"framework_id": {"value": "someone"}}))}),
        ),
        bad(
            "executor-id-invalid",
            "An executor id has the rules of ids.",
            json!({"command": null, "executor": executor(json!({"executor_id": {"value": "a/b"}}))}),
        ),
        bad(
            "executor-without-command",
            "A custom executor has a command.",
            json!({"command": null, "executor": executor(json!({"command": null}))}),
        ),
        bad(
            "executor-default",
            "The default executor runs groups, not tasks.",
            json!({"command": null, "executor": executor(json!({"type": "DEFAULT", "command": null}))}),
        ),
        bad(
            "executor-default-with-command",
            "Nor with a command.",
            json!({"command": null, "executor": executor(json!({"type": "DEFAULT"}))}),
        ),
        bad(
            "executor-grace-negative",
            "Its grace period is not negative.",
            json!({"command": null, "executor": executor(json!({"shutdown_grace_period": {"nanoseconds": -1}}))}),
        ),
        bad(
            "executor-too-much",
            "Task and executor together fit into the offer.",
            json!({"command": null, "executor": executor(json!({"resources": [scalar("cpus", 8.0), scalar("mem", 32.0)]}))}),
        ),
        bad(
            "executor-resources-bad",
            "An executor's resources are valid.",
            json!({"command": null, "executor": executor(json!({"resources": [scalar("cpus", -1.0)]}))}),
        ),
        bad(
            "environment-secret-missing",
            "A SECRET variable has a secret.",
            json!({"command": {"environment": {"variables": [{"name": "A", "type": "SECRET"}]}}}),
        ),
        bad(
            "environment-value-missing",
            "A VALUE variable has a value.",
            json!({"command": {"environment": {"variables": [{"name": "A", "type": "VALUE"}]}}}),
        ),
        bad(
            "environment-both",
            "Not both.",
            json!({"command": {"environment": {"variables": [{"name": "A", "type": "VALUE", "value": "x",
                "secret": {"type": "VALUE", "value": {"data": "eA=="}}}]}}}),
        ),
        bad("container-docker-missing", "A DOCKER container has its member.", json!({"container": {"type": "DOCKER"}})),
        bad(
            "container-docker-name",
            "The parameter `name` is the agent's.",
            json!({"container": {"type": "DOCKER", "docker": {"image": "a", "parameters": [{"key": "name", "value": "x"}]}}}),
        ),
        bad(
            "volume-two-sources",
            "A volume has one source.",
            volume(json!({"mode": "RW", "container_path": "/a", "host_path": "/b",
            "source": {"type": "HOST_PATH", "host_path": {"path": "/b"}}})),
        ),
        bad(
            "volume-source-missing",
            "And the source its member.",
            volume(json!({"mode": "RW", "container_path": "/a", "source": {"type": "HOST_PATH"}})),
        ),
        bad("limits-other-resource", "Only cpus and mem have limits.", json!({"limits": {"disk": {"value": 100.0}}})),
        bad("limits-below-request", "A limit is not below the request.", json!({"limits": {"cpus": {"value": 0.01}}})),
        bad("limits-mem-below-request", "Of memory neither.", json!({"limits": {"mem": {"value": 1.0}}})),
        dialogue("task-validation/first-error-wins", "Of several errors the first in order is told.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            let wrong = json!({"task_id": {"value": "a/b"}, "agent_id": {"value": "nowhere"}, "resources": [], "command": null});
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[launch(&[task("t", wrong)])]).update("f");
        }),
        dialogue("task-validation/duplicate-in-one-launch", "The second of two tasks of one id is refused.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            let twin = || task("twin", json!({"command": {"value": "sleep 30"}}));
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[launch(&[twin(), twin()])]).update("f");
        }),
        dialogue("task-validation/others-go-on", "A task that is refused does not keep the next from running.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            let wrong = task("wrong", json!({"resources": []}));
            s.offers("f", 2)
                .accept(&f, &["${offer.1}"], &[launch(&[wrong, task("right", json!({}))])])
                .update("f")
                .update("f");
        }),
        dialogue("task-validation/sum-too-much", "Tasks of one ACCEPT share what was offered, in order.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            let half = |id: &str| {
                task(
                    id,
                    json!({"command": {"value": "sleep 30"}, "resources": [scalar("cpus", 5.0), scalar("mem", 32.0)]}),
                )
            };
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[launch(&[half("one"), half("two")])]).events("f", 2);
        }),
        dialogue("task-validation/launch-with-operation-id", "A LAUNCH carries no operation id.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            let mut operation = launch(&[task("t", json!({}))]);
            operation["id"] = json!({"value": "op"});
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[operation]).update("f");
        }),
        group("executor-without-type", "The executor of a group has a type.", json!({"type": null}), json!({})),
        group(
            "default-with-command",
            "The default executor has no command.",
            json!({"command": {"value": "exit 0"}}),
            json!({}),
        ),
        group(
            "executor-without-disk",
            "The executor of a group needs disk.",
            json!({"resources": [scalar("cpus", 0.1), scalar("mem", 32.0)]}),
            json!({}),
        ),
        group(
            "executor-too-small",
            "And enough memory.",
            json!({"resources": [scalar("cpus", 0.1), scalar("mem", 1.0), scalar("disk", 32.0)]}),
            json!({}),
        ),
        group(
            "task-with-executor",
            "A task's own executor is the group's.",
            json!({}),
            json!({"command": null, "executor": {"executor_id": {"value": "other"}, "command": {"value": "exit 0"}}}),
        ),
        group(
            "docker-container",
            "No Docker containers in groups.",
            json!({}),
            json!({"container": {"type": "DOCKER", "docker": {"image": "a"}}}),
        ),
        group(
            "executor-framework-missing",
            "The group's executor names the framework.",
            json!({"framework_id": null}),
            json!({}),
        ),
        group(
            "too-much",
            "The group fits as a whole or not at all.",
            json!({}),
            json!({"resources": [scalar("cpus", 1000.0)]}),
        ),
    ]
}

fn group(name: &str, shows: &str, executor_over: Value, task_over: Value) -> Dialogue {
    dialogue(&format!("task-groups/{name}"), shows, |s| {
        let f = s.subscribe("f", &info(json!({})));
        let executor = json!({"type": "DEFAULT", "executor_id": {"value": "pod"}, "framework_id": {"value": "${framework.1}"},
            "resources": [scalar("cpus", 0.1), scalar("mem", 32.0), scalar("disk", 32.0)]});
        let executor = crate::conformance::builder::with(executor, executor_over);
        let operation = json!({"type": "LAUNCH_GROUP", "launch_group": {"executor": executor,
            "task_group": {"tasks": [task("one", task_over), task("two", json!({}))]}}});
        s.offers("f", 2).accept(&f, &["${offer.1}"], &[operation]).events("f", 2);
    })
}
