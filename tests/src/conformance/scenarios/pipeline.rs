//! What the scheduler API refuses before it looks at a call, in the order it looks.

use serde_json::{Value, json};

use crate::conformance::builder::{call, dialogue, in_protobuf, info, plain, scheduler};
use crate::conformance::dialogue::{Dialogue, Request};

const NOBODY: &str = "00000000-0000-0000-0000-000000000000-0000";

pub(super) fn scenarios() -> Vec<Dialogue> {
    let subscribe = || scheduler(json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info(json!({}))}}));
    let one = |name: &str, shows: &str, request: Request| {
        dialogue(&format!("scheduler-errors/{name}"), shows, |s| {
            s.ask(request);
        })
    };
    let invalid = |name: &str, shows: &str, json: Value| one(name, shows, scheduler(json));
    let lacking = |kind: &str| {
        let name = format!("{}-without-its-member", kind.to_lowercase().replace('_', "-"));
        let shows = format!("{kind} without `{}` is refused before the framework is looked for.", kind.to_lowercase());
        invalid(&name, &shows, call(kind, NOBODY, &Value::Null))
    };
    let mut all = vec![
        one("get", "The scheduler API takes POST alone; the answer says so.", plain("GET", "/api/v1/scheduler")),
        one("put", "Any other method is refused the same way.", subscribe().by("PUT")),
        one("delete-master-path", "The same at the prefixed path.", plain("DELETE", "/master/api/v1/scheduler")),
        one("no-content-type", "A body without Content-Type is refused.", subscribe().without_header("Content-Type")),
        one(
            "unknown-content-type",
            "A type that is neither JSON nor protobuf is 415.",
            subscribe().header("Content-Type", "text/plain"),
        ),
        one(
            "content-type-before-body",
            "The type is looked at before the body is parsed.",
            subscribe().header("Content-Type", "text/xml").body("<x/>"),
        ),
        one("json-cut-off", "JSON that ends early: the parser's own words.", subscribe().body("{\"type\":")),
        one("json-no-json", "A body that is no JSON at all.", subscribe().body("hello")),
        one("json-empty", "An empty body that claims to be JSON.", subscribe().body("")),
        one("json-array", "JSON that is no object.", subscribe().body("[]")),
        one(
            "protobuf-garbage",
            "Bytes that are no protobuf message.",
            subscribe().header("Content-Type", "application/x-protobuf").body("hello"),
        ),
        one(
            "json-wrong-type",
            "A field of the wrong JSON type.",
            subscribe().body("{\"type\":\"KILL\",\"framework_id\":\"x\",\"kill\":{\"task_id\":{\"value\":\"t\"}}}"),
        ),
        one(
            "json-missing-required",
            "A required field that is missing is named.",
            scheduler(json!({"type": "KILL", "framework_id": {"value": NOBODY}, "kill": {}})),
        ),
        one(
            "json-missing-several",
            "All missing required fields are named.",
            scheduler(json!({"type": "ACKNOWLEDGE", "framework_id": {"value": NOBODY}, "acknowledge": {}})),
        ),
        one(
            "json-missing-nested",
            "Missing fields inside lists are named with their place.",
            scheduler(json!({"type": "ACCEPT", "framework_id": {"value": NOBODY}, "accept": {"operations": [
                {"type": "LAUNCH", "launch": {"task_infos": [{"name": "x"}]}}]}})),
        ),
        one(
            "json-bad-base64",
            "Bytes that are no base64.",
            scheduler(json!({"type": "ACKNOWLEDGE", "framework_id": {"value": NOBODY},
                "acknowledge": {"agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": "*"}})),
        ),
        one(
            "json-missing-framework-info",
            "SUBSCRIBE whose member lacks what it needs.",
            scheduler(json!({"type": "SUBSCRIBE", "subscribe": {}})),
        ),
        one(
            "json-framework-info-without-user",
            "FrameworkInfo needs a user and a name.",
            scheduler(json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {}}})),
        ),
        invalid("no-type", "A call without a type.", json!({"framework_id": {"value": NOBODY}})),
        invalid("unknown-type", "A type nobody has defined counts as none.", json!({"type": "DANCE"})),
        invalid(
            "type-unknown",
            "The type called UNKNOWN is asked for a framework like any other.",
            json!({"type": "UNKNOWN"}),
        ),
        one(
            "type-unknown-with-id",
            "UNKNOWN with a framework id.",
            scheduler(json!({"type": "UNKNOWN", "framework_id": {"value": NOBODY}})),
        ),
        invalid("subscribe-without-member", "SUBSCRIBE without `subscribe`.", json!({"type": "SUBSCRIBE"})),
        invalid(
            "subscribe-ids-differ",
            "The two places for a framework id must agree.",
            json!({"type": "SUBSCRIBE", "framework_id": {"value": NOBODY}, "subscribe": {"framework_info": info(json!({}))}}),
        ),
        invalid(
            "subscribe-id-only-inside",
            "An id in FrameworkInfo alone does not agree either.",
            json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info(json!({"id": {"value": NOBODY}}))}}),
        ),
        invalid("no-framework-id", "Every call but SUBSCRIBE needs a framework id.", json!({"type": "REVIVE"})),
        one(
            "subscribe-not-acceptable",
            "SUBSCRIBE needs an Accept that allows JSON or protobuf.",
            subscribe().header("Accept", "text/html"),
        ),
        one(
            "reconcile-operations-not-acceptable",
            "RECONCILE_OPERATIONS is asked the same.",
            scheduler(call("RECONCILE_OPERATIONS", NOBODY, &json!({}))).header("Accept", "text/html"),
        ),
        one(
            "kill-accepts-nothing",
            "Other calls have no answer, so Accept does not matter: the framework does.",
            scheduler(call("KILL", NOBODY, &json!({"task_id": {"value": "t"}}))).header("Accept", "text/html"),
        ),
        one(
            "subscribe-with-stream-id",
            "SUBSCRIBE opens a stream, so it names none.",
            subscribe().header("Mesos-Stream-Id", "x"),
        ),
        one(
            "unknown-framework",
            "A call for a framework the master does not know.",
            scheduler(call("REVIVE", NOBODY, &Value::Null)),
        ),
        one(
            "unknown-framework-with-stream",
            "The framework is looked for before the stream id.",
            scheduler(call("REVIVE", NOBODY, &Value::Null)).header("Mesos-Stream-Id", "x"),
        ),
        one(
            "unknown-framework-protobuf",
            "The same in protobuf.",
            in_protobuf(scheduler(call("REVIVE", NOBODY, &Value::Null)), "scheduler.Call", "scheduler.Event"),
        ),
        invalid(
            "acknowledge-short-uuid",
            "A status uuid has 16 bytes.",
            call(
                "ACKNOWLEDGE",
                NOBODY,
                &json!({"agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": "AAAA"}),
            ),
        ),
        invalid(
            "acknowledge-operation-short-uuid",
            "So has an operation's.",
            call(
                "ACKNOWLEDGE_OPERATION_STATUS",
                NOBODY,
                &json!({"agent_id": {"value": "a"}, "operation_id": {"value": "t"}, "uuid": "AAAA"}),
            ),
        ),
        invalid(
            "acknowledge-operation-without-agent",
            "Operations without an agent cannot be acknowledged.",
            call(
                "ACKNOWLEDGE_OPERATION_STATUS",
                NOBODY,
                &json!({"operation_id": {"value": "t"}, "uuid": "q83vEjRWeJCrze8SNFZ4kA=="}),
            ),
        ),
        invalid(
            "update-framework-ids-differ",
            "UPDATE_FRAMEWORK names the framework twice, alike.",
            call("UPDATE_FRAMEWORK", NOBODY, &json!({"framework_info": info(json!({}))})),
        ),
        dialogue("scheduler-errors/no-stream-id", "A subscribed framework names its stream in every call.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.ask(scheduler(call("REVIVE", &f.id, &Value::Null)));
        }),
        dialogue("scheduler-errors/wrong-stream-id", "A stream id that is not the current one.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.ask(scheduler(call("REVIVE", &f.id, &Value::Null)).header("Mesos-Stream-Id", "stale"));
        }),
        dialogue(
            "scheduler-errors/disconnected",
            "A framework whose stream is closed is known, not subscribed.",
            |s| {
                let f = s.subscribe_quietly("f", &info(json!({"failover_timeout": 60.0})));
                s.close("f").pause(300);
                s.call(&f, "REVIVE", Value::Null);
            },
        ),
        dialogue("scheduler-errors/after-teardown", "A framework torn down is not known any more.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(&f, "TEARDOWN", Value::Null).end("f");
            s.call(&f, "REVIVE", Value::Null);
        }),
        dialogue("scheduler-errors/lenient-json", "Unknown fields, nulls and numbers in quotes are taken.", |s| {
            let f = s.subscribe_quietly(
                "f",
                &info(json!({"failover_timeout": "5", "checkpoint": "true", "colour": "red", "labels": null})),
            );
            s.call(&f, "REVIVE", json!({"roles": [], "sound": 1}));
        }),
        dialogue(
            "scheduler-errors/bare-object-for-list",
            "A bare object where a list belongs is taken for its only element.",
            |s| {
                s.subscribe_quietly("f", &info(json!({"capabilities": {"type": "MULTI_ROLE"}})));
            },
        ),
        dialogue("scheduler-errors/camel-case", "Names are matched as they are written: camel case is unknown.", |s| {
            s.ask(scheduler(json!({"type": "SUBSCRIBE", "subscribe": {"frameworkInfo": info(json!({}))}})));
        }),
        dialogue("scheduler-errors/content-type-parameter", "A charset behind the type is 415.", |s| {
            s.ask(
                scheduler(call("REVIVE", NOBODY, &Value::Null))
                    .header("Content-Type", "application/json; charset=utf-8"),
            );
        }),
    ];
    all.extend(
        [
            "ACCEPT",
            "DECLINE",
            "ACCEPT_INVERSE_OFFERS",
            "DECLINE_INVERSE_OFFERS",
            "KILL",
            "SHUTDOWN",
            "ACKNOWLEDGE",
            "ACKNOWLEDGE_OPERATION_STATUS",
            "RECONCILE",
            "RECONCILE_OPERATIONS",
            "MESSAGE",
            "REQUEST",
            "UPDATE_FRAMEWORK",
        ]
        .map(lacking),
    );
    all
}
