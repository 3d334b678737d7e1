//! Calls about tasks, executors and the framework itself.

use serde_json::{Value, json};

use crate::conformance::builder::{dialogue, info, plain, with};
use crate::conformance::dialogue::{Dialogue, View};

pub(super) fn scenarios() -> Vec<Dialogue> {
    let aware = || info(json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]}));
    let update = |name: &str, shows: &str, over: Value| {
        dialogue(&format!("update-framework/{name}"), shows, |s| {
            let f = s.subscribe_quietly("f", &info(json!({"failover_timeout": 1.0})));
            let changed = with(info(json!({"id": {"value": f.id}})), over);
            s.call(&f, "UPDATE_FRAMEWORK", json!({"framework_info": changed, "suppressed_roles": changed["roles"]}));
            s.look(plain("GET", "/frameworks?framework_id=${framework.1}"), View::Exact, Some("/frameworks/0"));
        })
    };
    vec![
        dialogue("reconcile/explicit-unknown", "A task nobody knows, without an agent: TASK_LOST.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(&f, "RECONCILE", json!({"tasks": [{"task_id": {"value": "ghost"}}]})).update("f");
        }),
        dialogue(
            "reconcile/explicit-unknown-partition-aware",
            "The same for a framework that knows partitions: TASK_UNKNOWN.",
            |s| {
                let f = s.subscribe_quietly("f", &aware());
                s.call(&f, "RECONCILE", json!({"tasks": [{"task_id": {"value": "ghost"}}]})).update("f");
            },
        ),
        dialogue("reconcile/explicit-unknown-agent", "An agent nobody knows.", |s| {
            let f = s.subscribe_quietly("f", &aware());
            s.call(
                &f,
                "RECONCILE",
                json!({"tasks": [{"task_id": {"value": "ghost"}, "agent_id": {"value": "nowhere"}}]}),
            )
            .update("f");
        }),
        dialogue("reconcile/explicit-gone", "A registered agent that does not have the task: TASK_GONE.", |s| {
            let f = s.subscribe("f", &aware());
            s.offers("f", 2);
            s.call(
                &f,
                "RECONCILE",
                json!({"tasks": [{"task_id": {"value": "ghost"}, "agent_id": {"value": "${agent.1}"}}]}),
            )
            .update("f");
        }),
        dialogue("reconcile/explicit-lost", "The same told to a framework that knows no partitions: TASK_LOST.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2);
            s.call(
                &f,
                "RECONCILE",
                json!({"tasks": [{"task_id": {"value": "ghost"}, "agent_id": {"value": "${agent.1}"}}]}),
            )
            .update("f");
        }),
        dialogue("reconcile/explicit-several", "Each task that was asked for is answered.", |s| {
            let f = s.subscribe_quietly("f", &aware());
            s.call(&f, "RECONCILE", json!({"tasks": [{"task_id": {"value": "one"}}, {"task_id": {"value": "two"}}]}))
                .events("f", 2);
        }),
        dialogue("reconcile/implicit-nothing", "Without tasks implicit reconciliation says nothing.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(&f, "RECONCILE", json!({})).quiet("f", 500);
        }),
        dialogue("reconcile/operations-unknown", "An operation nobody knows: OPERATION_UNKNOWN.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(&f, "RECONCILE_OPERATIONS", json!({"operations": [{"operation_id": {"value": "ghost"}}]}))
                .no_update("f", 500);
        }),
        dialogue("reconcile/operations-unknown-agent", "The same with an agent that does not exist.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(
                &f,
                "RECONCILE_OPERATIONS",
                json!({"operations": [{"operation_id": {"value": "ghost"}, "agent_id": {"value": "nowhere"}}]}),
            );
            s.no_update("f", 500);
        }),
        dialogue("reconcile/operations-implicit", "Without operations nothing is said.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(&f, "RECONCILE_OPERATIONS", json!({})).no_update("f", 500);
        }),
        dialogue("calls/kill-unknown", "Killing a task nobody knows is answered as a reconciliation of it.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(&f, "KILL", json!({"task_id": {"value": "ghost"}})).update("f");
        }),
        dialogue("calls/kill-unknown-partition-aware", "The same for a framework that knows partitions.", |s| {
            let f = s.subscribe("f", &aware());
            s.offers("f", 2);
            s.call(&f, "KILL", json!({"task_id": {"value": "ghost"}})).update("f");
            s.call(&f, "KILL", json!({"task_id": {"value": "ghost"}, "agent_id": {"value": "${agent.1}"}})).update("f");
        }),
        dialogue("calls/acknowledge-unknown", "An acknowledgement of nothing is dropped.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2);
            s.call(&f, "ACKNOWLEDGE", json!({"agent_id": {"value": "${agent.1}"}, "task_id": {"value": "ghost"}, "uuid": "q83vEjRWeJCrze8SNFZ4kA=="}));
            s.call(&f, "ACKNOWLEDGE", json!({"agent_id": {"value": "nowhere"}, "task_id": {"value": "ghost"}, "uuid": "q83vEjRWeJCrze8SNFZ4kA=="}));
            s.no_update("f", 500);
        }),
        dialogue("calls/acknowledge-operation-unknown", "So is that of an operation nobody knows.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2);
            s.call(
                &f,
                "ACKNOWLEDGE_OPERATION_STATUS",
                json!({"agent_id": {"value": "${agent.1}"}, "operation_id": {"value": "ghost"},
                "uuid": "q83vEjRWeJCrze8SNFZ4kA=="}),
            );
            s.no_update("f", 500);
        }),
        dialogue("calls/message-unknown", "A message to an executor nobody knows is lost.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2);
            s.call(
                &f,
                "MESSAGE",
                json!({"agent_id": {"value": "${agent.1}"}, "executor_id": {"value": "ghost"}, "data": "aGVsbG8="}),
            );
            s.call(
                &f,
                "MESSAGE",
                json!({"agent_id": {"value": "nowhere"}, "executor_id": {"value": "ghost"}, "data": "aGVsbG8="}),
            );
            s.no_update("f", 500);
        }),
        dialogue("calls/shutdown-unknown", "Shutting down an executor nobody knows does nothing.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2);
            s.call(&f, "SHUTDOWN", json!({"agent_id": {"value": "${agent.1}"}, "executor_id": {"value": "ghost"}}));
            s.call(&f, "SHUTDOWN", json!({"agent_id": {"value": "nowhere"}, "executor_id": {"value": "ghost"}}))
                .no_update("f", 500);
        }),
        dialogue("calls/shutdown-without-agent", "SHUTDOWN needs an agent.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(&f, "SHUTDOWN", json!({"executor_id": {"value": "ghost"}}));
        }),
        dialogue("calls/request", "REQUEST is taken and changes nothing.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(
                &f,
                "REQUEST",
                json!({"requests": [{"resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}}]}]}),
            );
            s.quiet("f", 500);
        }),
        dialogue("calls/inverse-offers-unknown", "Answers to inverse offers nobody made are dropped.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(&f, "ACCEPT_INVERSE_OFFERS", json!({"inverse_offer_ids": [{"value": "nothing"}]}));
            s.call(&f, "DECLINE_INVERSE_OFFERS", json!({"inverse_offer_ids": [{"value": "nothing"}]})).quiet("f", 500);
        }),
        dialogue("calls/other-frameworks-stream", "A stream id of another framework is stale.", |s| {
            let one = s.subscribe_quietly("one", &info(json!({})));
            let mut two = s.subscribe_quietly("two", &info(json!({})));
            two.stream = one.stream;
            s.call(&two, "REVIVE", Value::Null);
        }),
        update(
            "name",
            "Name, URL, host name, labels and timeout can change while subscribed.",
            json!({"name": "renamed", "webui_url": "http://f.example", "hostname": "f.example", "failover_timeout": 2.0,
                "labels": {"labels": [{"key": "k", "value": "v"}]}}),
        ),
        update("roles", "So can roles.", json!({"roles": ["second", "third"]})),
        update(
            "capabilities",
            "And capabilities.",
            json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]}),
        ),
        update("user", "The user cannot.", json!({"user": "nobody"})),
        update("checkpoint", "Nor checkpointing.", json!({"checkpoint": true})),
        update("principal", "Nor the principal.", json!({"principal": "other"})),
        update("roles-invalid", "Roles are checked as in SUBSCRIBE.", json!({"roles": ["a b"]})),
        update(
            "multi-role-dropped",
            "MULTI_ROLE cannot be given up with several roles.",
            json!({"capabilities": null}),
        ),
        update("timeout-invalid", "So is the timeout.", json!({"failover_timeout": 1e300})),
        dialogue("update-framework/suppressed-not-its-own", "Only its own roles can be suppressed.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(
                &f,
                "UPDATE_FRAMEWORK",
                json!({"framework_info": info(json!({"id": {"value": f.id}})), "suppressed_roles": ["other"]}),
            );
        }),
        dialogue(
            "update-framework/replaces-suppression",
            "An update without suppressed roles un-suppresses all.",
            |s| {
                let f = s.subscribe_quietly("f", &info(json!({})));
                s.call(&f, "UPDATE_FRAMEWORK", json!({"framework_info": info(json!({"id": {"value": f.id}}))}))
                    .offers("f", 2);
            },
        ),
        dialogue("update-framework/bad-constraints", "Constraints are checked as in SUBSCRIBE.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(
                &f,
                "UPDATE_FRAMEWORK",
                json!({"framework_info": info(json!({"id": {"value": f.id}})),
                "offer_constraints": {"role_constraints": {"recorded": {"groups": []}}}}),
            );
        }),
    ]
}
