//! The same API in protobuf.

use serde_json::{Value, json};

use crate::conformance::builder::{dialogue, in_protobuf, info, launch, operator, scheduler, task};
use crate::conformance::dialogue::{Dialogue, View};

pub(super) fn scenarios() -> Vec<Dialogue> {
    let read = |kind: &str| {
        dialogue(&format!("protobuf/{}", kind.to_lowercase().replace('_', "-")), &format!("{kind} in protobuf."), |s| {
            s.look(in_protobuf(operator(json!({"type": kind})), "master.Call", "master.Response"), View::Shape, None);
        })
    };
    vec![
        dialogue("protobuf/subscribe", "The event stream in protobuf: SUBSCRIBED and offers.", |s| {
            s.subscribe_in_protobuf("f", &info(json!({})));
            s.offers("f", 2);
        }),
        dialogue("protobuf/calls", "Calls in protobuf are answered 202 without a body.", |s| {
            let f = s.subscribe_in_protobuf("f", &info(json!({})));
            s.offers("f", 2).decline(&f, &["${offer.1}", "${offer.2}"], 600.0);
            s.call(&f, "SUPPRESS", Value::Null).call(&f, "REVIVE", json!({"roles": ["recorded"]})).offers("f", 2);
            s.call(&f, "RECONCILE", json!({"tasks": [{"task_id": {"value": "ghost"}}]})).update("f");
            s.call(&f, "KILL", json!({"task_id": {"value": "ghost"}})).update("f");
        }),
        dialogue("protobuf/task", "A task's whole life in protobuf.", |s| {
            let f = s.subscribe_in_protobuf("f", &info(json!({})));
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[launch(&[task("t", json!({}))])]);
            s.update("f")
                .acknowledge(&f, "t", 1)
                .update("f")
                .acknowledge(&f, "t", 2)
                .update("f")
                .acknowledge(&f, "t", 3);
        }),
        dialogue("protobuf/task-error", "A refused task in protobuf.", |s| {
            let f = s.subscribe_in_protobuf("f", &info(json!({})));
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[launch(&[task("t", json!({"resources": []}))])]).update("f");
        }),
        dialogue("protobuf/reservation-refinement", "Offers after refinement, in protobuf.", |s| {
            s.subscribe_in_protobuf(
                "f",
                &info(json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}]})),
            );
            s.offers("f", 2);
        }),
        dialogue("protobuf/refused", "An ERROR event in protobuf.", |s| {
            let request = scheduler(
                json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info(json!({"roles": ["a b"]}))}}),
            );
            s.open("f", in_protobuf(request, "scheduler.Call", "scheduler.Event")).event("f").end("f");
        }),
        dialogue("protobuf/missing-required", "A message that lacks required fields is no message.", |s| {
            let request = scheduler(json!({"type": "KILL", "framework_id": {"value": "f"}, "kill": {}}));
            s.ask(in_protobuf(request, "scheduler.Call", "scheduler.Event"));
        }),
        dialogue("protobuf/json-asks-protobuf-answers", "Body and answer may differ: JSON in, protobuf out.", |s| {
            let request = in_protobuf(operator(json!({"type": "GET_HEALTH"})), "master.Call", "master.Response");
            let mut mixed = request.header("Content-Type", "application/json");
            mixed.message = None;
            s.ask(mixed);
        }),
        dialogue("protobuf/both-accepted", "Of several acceptable types JSON wins.", |s| {
            let request = operator(json!({"type": "GET_HEALTH"}));
            s.ask(request.header("Accept", "application/x-protobuf, application/json"));
        }),
        dialogue("protobuf/operator-subscribe", "The operator's event stream in protobuf.", |s| {
            s.open("o", in_protobuf(operator(json!({"type": "SUBSCRIBE"})), "master.Call", "master.Event"));
            s.event_shape("o").event_but("o", &[]);
        }),
        read("GET_VERSION"),
        read("GET_AGENTS"),
        read("GET_MASTER"),
        read("GET_STATE"),
        read("GET_FLAGS"),
        read("GET_ROLES"),
    ]
}
