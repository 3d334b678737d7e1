//! The operator's event stream.

use serde_json::{Value, json};

use crate::conformance::builder::{Script, dialogue, info, launch, operator, plain, reaching, task};
use crate::conformance::dialogue::{Dialogue, Reach, View};

fn watch(s: &mut Script) {
    s.open("o", operator(json!({"type": "SUBSCRIBE"}))).event_shape("o");
}

pub(super) fn scenarios() -> Vec<Dialogue> {
    vec![
        dialogue("events/first", "SUBSCRIBED with the whole state, then a HEARTBEAT.", |s| {
            watch(s);
            s.event_but("o", &[]);
        }),
        dialogue("events/any-path", "Whatever follows /api/v1 is the same stream.", |s| {
            s.open("o", operator(json!({"type": "SUBSCRIBE"})).at("/api/v1/operator")).event_shape("o");
        }),
        dialogue("events/framework", "A framework comes, changes and goes.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({"failover_timeout": 5.0})));
            watch(s);
            let changed = info(json!({"id": {"value": f.id}, "name": "renamed"}));
            s.call(&f, "UPDATE_FRAMEWORK", json!({"framework_info": changed, "suppressed_roles": ["recorded"]}))
                .event("o");
            s.call(&f, "TEARDOWN", Value::Null).event("o");
        }),
        dialogue("events/framework-added", "FRAMEWORK_ADDED for one that subscribes.", |s| {
            watch(s);
            s.subscribe_quietly("f", &info(json!({})));
            s.event("o");
        }),
        dialogue("events/framework-returns", "A framework that returns is FRAMEWORK_UPDATED.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({"failover_timeout": 5.0})));
            watch(s);
            s.subscribe_again("again", &f, info(json!({"failover_timeout": 5.0})));
            s.event("o");
        }),
        dialogue("events/task", "TASK_ADDED, then TASK_UPDATED for each new state.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2);
            watch(s);
            s.accept(&f, &["${offer.1}"], &[launch(&[task("t", json!({}))])]).event("o");
            s.update("f")
                .event("o")
                .acknowledge(&f, "t", 1)
                .update("f")
                .event("o")
                .acknowledge(&f, "t", 2)
                .update("f")
                .event("o");
        }),
        dialogue("events/snapshot", "SUBSCRIBED holds the frameworks and tasks of the moment.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).accept(
                &f,
                &["${offer.1}"],
                &[launch(&[task("t", json!({"command": {"value": "sleep 60"}}))])],
            );
            s.update("f").acknowledge(&f, "t", 1).update("f").acknowledge(&f, "t", 2);
            watch(s);
        }),
        reaching(Reach::Fresh, "events/agent-gone", "What an operator hears of an agent marked gone.", |s| {
            s.look(plain("GET", "/slaves"), View::Exact, Some("/slaves/0/id"));
            watch(s);
            s.operate(json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": {"value": "${agent.1}"}}}));
            s.no_update("o", 1_500);
        }),
    ]
}
