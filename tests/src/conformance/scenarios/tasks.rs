//! Tasks that run, and the updates they send.

use serde_json::{Value, json};

use crate::conformance::builder::{Framework, Script, dialogue, info, launch, plain, task};
use crate::conformance::dialogue::{Dialogue, View};

fn aware() -> Value {
    info(json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]}))
}

/// Launches one task on the first agent and takes its STARTING and RUNNING.
fn running(s: &mut Script, over: Value) -> Framework {
    let f = s.subscribe("f", &aware());
    s.offers("f", 2).accept(&f, &["${offer.1}"], &[launch(&[task("t", over)])]);
    s.update("f").acknowledge(&f, "t", 1).update("f").acknowledge(&f, "t", 2);
    f
}

pub(super) fn scenarios() -> Vec<Dialogue> {
    vec![
        dialogue(
            "tasks/finished",
            "STARTING, RUNNING, FINISHED: each is sent when the one before is acknowledged.",
            |s| {
                let f = running(s, json!({}));
                s.update("f").acknowledge(&f, "t", 3);
                s.eventually(
                    plain("GET", "/frameworks?framework_id=${framework.1}"),
                    View::Exact,
                    Some("/frameworks/0/completed_tasks"),
                );
            },
        ),
        dialogue("tasks/failed", "A command that ends with an error.", |s| {
            let f = running(s, json!({"command": {"value": "exit 3"}}));
            s.update("f").acknowledge(&f, "t", 3);
        }),
        dialogue("tasks/unacknowledged", "The next update waits for the acknowledgement of the one before.", |s| {
            let f = s.subscribe("f", &aware());
            s.offers("f", 2)
                .accept(&f, &["${offer.1}"], &[launch(&[task("t", json!({}))])])
                .update("f")
                .no_update("f", 1_500);
            s.acknowledge(&f, "t", 1).update("f");
        }),
        dialogue("tasks/wrong-uuid", "An acknowledgement with another uuid is none.", |s| {
            let f = s.subscribe("f", &aware());
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[launch(&[task("t", json!({}))])]).update("f");
            s.call(&f, "ACKNOWLEDGE", json!({"agent_id": {"value": "${agent.1}"}, "task_id": {"value": "t"}, "uuid": "q83vEjRWeJCrze8SNFZ4kA=="}));
            s.no_update("f", 1_000).acknowledge(&f, "t", 1).update("f");
        }),
        dialogue("tasks/killed", "KILL ends a task.", |s| {
            let f = running(s, json!({"command": {"value": "sleep 60"}}));
            s.call(&f, "KILL", json!({"task_id": {"value": "t"}, "agent_id": {"value": "${agent.1}"}}))
                .update("f")
                .acknowledge(&f, "t", 3);
        }),
        dialogue("tasks/kill-other-agent", "KILL that names another agent is dropped.", |s| {
            let f = running(s, json!({"command": {"value": "sleep 60"}}));
            s.call(&f, "KILL", json!({"task_id": {"value": "t"}, "agent_id": {"value": "${agent.2}"}}))
                .no_update("f", 1_000);
        }),
        dialogue("tasks/reconcile-explicit", "Explicit reconciliation of a running task.", |s| {
            let f = running(s, json!({"command": {"value": "sleep 60"}}));
            s.call(&f, "RECONCILE", json!({"tasks": [{"task_id": {"value": "t"}}]})).update("f");
        }),
        dialogue("tasks/reconcile-other-agent", "With the wrong agent the task is still found.", |s| {
            let f = running(s, json!({"command": {"value": "sleep 60"}}));
            s.call(
                &f,
                "RECONCILE",
                json!({"tasks": [{"task_id": {"value": "t"}, "agent_id": {"value": "${agent.2}"}}]}),
            )
            .update("f");
        }),
        dialogue("tasks/reconcile-implicit", "Implicit reconciliation tells of every task.", |s| {
            let f = running(s, json!({"command": {"value": "sleep 60"}}));
            s.call(&f, "RECONCILE", json!({})).update("f").no_update("f", 500);
        }),
        dialogue("tasks/duplicate-id", "An id in use is refused.", |s| {
            let f = running(s, json!({"command": {"value": "sleep 60"}}));
            s.accept(&f, &["${offer.2}"], &[launch(&[task("t", json!({"agent_id": {"value": "${agent.2}"}}))])])
                .update("f");
        }),
        dialogue("tasks/remainder", "What a task leaves of an offer is declined with the filter of the ACCEPT.", |s| {
            running(s, json!({"command": {"value": "sleep 60"}}));
            s.quiet("f", 1_500);
        }),
        dialogue(
            "tasks/resubscribe",
            "A framework that returns keeps its tasks and hears the unacknowledged again.",
            |s| {
                let lasting = || info(json!({"failover_timeout": 60.0}));
                let f = s.subscribe("f", &lasting());
                s.offers("f", 2).accept(
                    &f,
                    &["${offer.1}"],
                    &[launch(&[task("t", json!({"command": {"value": "sleep 60"}}))])],
                );
                s.update("f").acknowledge(&f, "t", 1).update("f").acknowledge(&f, "t", 2).close("f").pause(300);
                let again = s.subscribe_again("again", &f, lasting());
                s.call(&again, "RECONCILE", json!({})).update("again");
            },
        ),
        dialogue("tasks/in-state", "A running task in /frameworks and /tasks.", |s| {
            running(
                s,
                json!({"command": {"value": "sleep 60"}, "labels": {"labels": [{"key": "k", "value": "v"}]},
                "discovery": {"visibility": "EXTERNAL", "name": "svc", "ports": {"ports": [{"number": 31_000, "name": "http", "protocol": "tcp"}]}}}),
            );
            s.eventually(
                plain("GET", "/frameworks?framework_id=${framework.1}"),
                View::Exact,
                Some("/frameworks/0/tasks"),
            );
            s.ask(plain("GET", "/tasks?framework_id=${framework.1}"));
            s.ask(plain("GET", "/tasks?framework_id=${framework.1}&task_id=t"));
            s.ask(plain("GET", "/tasks?framework_id=${framework.1}&task_id=other"));
            s.ask(plain("GET", "/tasks?framework_id=${framework.1}&offset=1"));
            s.ask(plain("GET", "/tasks?framework_id=${framework.1}&limit=0"));
        }),
        dialogue("tasks/in-get-tasks", "The same in GET_TASKS and GET_EXECUTORS.", |s| {
            running(s, json!({"command": {"value": "sleep 60"}}));
            s.operate(json!({"type": "GET_TASKS"})).operate(json!({"type": "GET_EXECUTORS"}));
        }),
        dialogue("tasks/order", "/tasks in order of their beginning, newest first, or the other way.", |s| {
            let f = running(s, json!({"command": {"value": "sleep 60"}}));
            s.accept(
                &f,
                &["${offer.2}"],
                &[launch(&[task("u", json!({"agent_id": {"value": "${agent.2}"}, "command": {"value": "sleep 60"}}))])],
            );
            s.update("f");
            for order in ["asc", "des", "sideways"] {
                s.look(
                    plain("GET", &format!("/tasks?framework_id=${{framework.1}}&order={order}")),
                    View::Exact,
                    Some("/tasks/0/id"),
                );
            }
            s.look(plain("GET", "/tasks?framework_id=${framework.1}&limit=1"), View::Shape, None);
        }),
        dialogue("tasks/teardown", "Torn down, a framework's tasks are over; it is found among the completed.", |s| {
            let f = running(s, json!({"command": {"value": "sleep 60"}}));
            s.call(&f, "TEARDOWN", Value::Null).end("f");
            s.eventually(plain("GET", "/frameworks"), View::Exact, Some("/completed_frameworks"));
        }),
    ]
}
