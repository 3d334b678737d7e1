//! The operator API: what it refuses, and what its calls that change nothing answer.

use serde_json::{Value, json};

use crate::conformance::builder::{dialogue, info, operator, plain, reaching};
use crate::conformance::dialogue::{Dialogue, Reach, Request, View};

pub(super) fn scenarios() -> Vec<Dialogue> {
    let health = || operator(json!({"type": "GET_HEALTH"}));
    let one = |name: &str, shows: &str, request: Request| {
        dialogue(&format!("operator-errors/{name}"), shows, |s| {
            s.ask(request);
        })
    };
    let invalid = |name: &str, shows: &str, json: Value| one(name, shows, operator(json));
    let lacking = |kind: &str| {
        let name = format!("{}-without-its-member", kind.to_lowercase().replace('_', "-"));
        invalid(&name, &format!("{kind} without `{}`.", kind.to_lowercase()), json!({"type": kind}))
    };
    let read = |kind: &str, view: View| {
        let name = format!("operator/{}", kind.to_lowercase().replace('_', "-"));
        dialogue(&name, &format!("{kind}."), |s| {
            s.look(operator(json!({"type": kind})), view, None);
        })
    };
    let mut all = vec![
        one("get", "The operator API takes POST alone.", plain("GET", "/api/v1")),
        one(
            "put-master-path",
            "Any other method is refused, at the prefixed path too.",
            health().by("PUT").at("/master/api/v1"),
        ),
        one("no-content-type", "A body without Content-Type is refused.", health().without_header("Content-Type")),
        one(
            "unknown-content-type",
            "A type that is neither JSON nor protobuf is 415.",
            health().header("Content-Type", "text/plain"),
        ),
        one("not-acceptable", "An Accept that allows neither is 406.", health().header("Accept", "text/html")),
        one(
            "not-acceptable-before-validation",
            "A call is validated before Accept is looked at.",
            operator(json!({"type": "TEARDOWN"})).header("Accept", "text/html"),
        ),
        one("json-cut-off", "JSON that ends early.", health().body("{")),
        one("json-array", "JSON that is no object.", health().body("[]")),
        one(
            "protobuf-garbage",
            "Bytes that are no protobuf message.",
            health().header("Content-Type", "application/x-protobuf").body("hello"),
        ),
        invalid("no-type", "A call without a type.", json!({})),
        invalid("unknown-type", "A type nobody has defined counts as none.", json!({"type": "DANCE"})),
        invalid(
            "missing-required",
            "A required field that is missing is named.",
            json!({"type": "TEARDOWN", "teardown": {}}),
        ),
        one(
            "operator-path",
            "Whatever follows the path is the same API: one driver calls it so.",
            health().at("/api/v1/operator"),
        ),
        one("master-operator-path", "At the prefixed path too.", health().at("/master/api/v1/operator")),
        one("no-accept", "Without Accept the answer is JSON.", health().without_header("Accept")),
        one(
            "json-refused-by-quality",
            "A quality of zero refuses a type.",
            health().header("Accept", "application/json;q=0"),
        ),
        read("GET_HEALTH", View::Exact),
        read("GET_VERSION", View::Exact),
        read("GET_FLAGS", View::Shape),
        read("GET_METRICS", View::Shape),
        read("GET_LOGGING_LEVEL", View::Exact),
        read("GET_STATE", View::Shape),
        read("GET_AGENTS", View::Exact),
        read("GET_FRAMEWORKS", View::Exact),
        read("GET_EXECUTORS", View::Exact),
        read("GET_OPERATIONS", View::Exact),
        read("GET_TASKS", View::Exact),
        read("GET_ROLES", View::Exact),
        read("GET_WEIGHTS", View::Exact),
        read("GET_QUOTA", View::Exact),
        read("GET_MASTER", View::Exact),
        read("GET_MAINTENANCE_STATUS", View::Exact),
        read("GET_MAINTENANCE_SCHEDULE", View::Exact),
        reaching(Reach::Fresh, "operator/get-metrics-timeout", "GET_METRICS with a timeout.", |s| {
            s.pause(3_000);
            s.look(
                operator(
                    json!({"type": "GET_METRICS", "get_metrics": {"timeout": {"nanoseconds": 5_000_000_000_u64}}}),
                ),
                View::Shape,
                None,
            );
        }),
        dialogue("operator/list-files-unknown", "A path nobody has attached.", |s| {
            s.operate(json!({"type": "LIST_FILES", "list_files": {"path": "/nowhere"}}));
            s.operate(json!({"type": "READ_FILE", "read_file": {"path": "/nowhere", "offset": 0}}));
        }),
        // It leaves a level behind, for a second.
        reaching(Reach::Fresh, "operator/set-logging-level", "The logging level is set for a while.", |s| {
            s.operate(json!({"type": "SET_LOGGING_LEVEL", "set_logging_level": {"level": 1, "duration": {"nanoseconds": 1_000_000_000}}}));
            s.operate(json!({"type": "GET_LOGGING_LEVEL"})).pause(1_200).operate(json!({"type": "GET_LOGGING_LEVEL"}));
            s.operate(json!({"type": "SET_LOGGING_LEVEL", "set_logging_level": {"level": 100, "duration": {"nanoseconds": 1_000_000_000}}}));
        }),
        dialogue(
            "operator/get-frameworks-subscribed",
            "A subscribed framework with its offers, in GET_FRAMEWORKS.",
            |s| {
                s.subscribe(
                    "f",
                    &info(json!({"failover_timeout": 5.0, "labels": {"labels": [{"key": "k", "value": "v"}]}})),
                );
                s.offers("f", 2).operate(json!({"type": "GET_FRAMEWORKS"}));
            },
        ),
        dialogue("operator/get-frameworks-completed", "A framework torn down is completed.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(&f, "TEARDOWN", Value::Null).end("f").operate(json!({"type": "GET_FRAMEWORKS"}));
        }),
        dialogue("operator/get-agents-offered", "What is on offer, in GET_AGENTS.", |s| {
            s.subscribe("f", &info(json!({})));
            s.offers("f", 2).operate(json!({"type": "GET_AGENTS"}));
        }),
        dialogue("operator/get-roles-subscribed", "The role of a subscribed framework in GET_ROLES.", |s| {
            s.subscribe("f", &info(json!({"roles": ["recorded/nested"]})));
            s.offers("f", 2).operate(json!({"type": "GET_ROLES"}));
        }),
        dialogue("operator/gzip", "A long answer is compressed when that is accepted.", |s| {
            s.look(operator(json!({"type": "GET_FLAGS"})).header("Accept-Encoding", "gzip"), View::Head, None);
            s.look(operator(json!({"type": "GET_HEALTH"})).header("Accept-Encoding", "gzip"), View::Exact, None);
        }),
    ];
    all.extend(
        [
            "GET_METRICS",
            "SET_LOGGING_LEVEL",
            "LIST_FILES",
            "READ_FILE",
            "UPDATE_WEIGHTS",
            "RESERVE_RESOURCES",
            "UNRESERVE_RESOURCES",
            "CREATE_VOLUMES",
            "DESTROY_VOLUMES",
            "GROW_VOLUME",
            "SHRINK_VOLUME",
            "UPDATE_MAINTENANCE_SCHEDULE",
            "START_MAINTENANCE",
            "STOP_MAINTENANCE",
            "DRAIN_AGENT",
            "DEACTIVATE_AGENT",
            "REACTIVATE_AGENT",
            "UPDATE_QUOTA",
            "SET_QUOTA",
            "REMOVE_QUOTA",
            "TEARDOWN",
            "MARK_AGENT_GONE",
        ]
        .map(lacking),
    );
    all
}
