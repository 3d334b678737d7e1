//! Maintenance: the schedule, inverse offers, machines that go down and come up.

use serde_json::{Value, json};

use crate::conformance::builder::{dialogue, info, operator, plain, reaching};
use crate::conformance::dialogue::{Dialogue, Reach, Request, Step, View};

/// A window in the far future: 2033.
fn window(machines: Value) -> Value {
    json!({"machine_ids": machines, "unavailability": {"start": {"nanoseconds": 2_000_000_000_000_000_000_u64},
        "duration": {"nanoseconds": 3_600_000_000_000_u64}}})
}

fn schedule(windows: Value) -> Value {
    json!({"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule": {"schedule": {"windows": windows}}})
}

fn spare() -> Value {
    json!([{"hostname": "spare.example", "ip": "10.9.0.1"}])
}

fn start(machines: Value) -> Value {
    json!({"type": "START_MAINTENANCE", "start_maintenance": {"machines": machines}})
}

fn stop(machines: Value) -> Value {
    json!({"type": "STOP_MAINTENANCE", "stop_maintenance": {"machines": machines}})
}

pub(super) fn scenarios() -> Vec<Dialogue> {
    let wrong = |name: &str, shows: &str, call: Value| {
        dialogue(&format!("maintenance/{name}"), shows, |s| {
            s.operate(call);
        })
    };
    // Machines that were never named are refused in other words.
    let once_scheduled = |name: &str, shows: &str, call: Value| {
        reaching(Reach::Cluster, &format!("maintenance/{name}"), shows, |s| {
            s.operate(schedule(json!([window(spare())]))).operate(schedule(json!([]))).operate(call);
        })
    };
    let get = |kind: &str| operator(json!({"type": kind}));
    vec![
        wrong("window-without-machines", "A window is of some machines.", schedule(json!([window(json!([]))]))),
        wrong("machine-twice", "A machine is in one window.", schedule(json!([window(spare()), window(spare())]))),
        wrong("machine-nameless", "A machine has a name or an address.", schedule(json!([window(json!([{}]))]))),
        wrong("machine-bad-ip", "An address is one.", schedule(json!([window(json!([{"ip": "x"}]))]))),
        wrong(
            "negative-duration",
            "A window does not end before it begins.",
            schedule(
                json!([{"machine_ids": spare(), "unavailability": {"start": {"nanoseconds": 1}, "duration": {"nanoseconds": -1}}}]),
            ),
        ),
        once_scheduled("start-unscheduled", "Only scheduled machines go down.", start(spare())),
        once_scheduled("stop-not-down", "Only machines that are down come up.", stop(spare())),
        wrong("start-nothing", "START_MAINTENANCE of nothing.", start(json!([]))),
        reaching(
            Reach::Cluster,
            "maintenance/life-of-a-machine",
            "Scheduled, drained, down, up: a machine without an agent.",
            |s| {
                s.operate(schedule(json!([window(spare())])))
                    .ask(get("GET_MAINTENANCE_SCHEDULE"))
                    .ask(get("GET_MAINTENANCE_STATUS"));
                s.get("/maintenance/schedule", View::Exact).get("/maintenance/status", View::Exact);
                s.operate(stop(spare()))
                    .operate(start(spare()))
                    .ask(get("GET_MAINTENANCE_STATUS"))
                    .get("/maintenance/status", View::Exact);
                s.operate(schedule(json!([]))).operate(start(spare()));
                s.operate(stop(spare())).ask(get("GET_MAINTENANCE_SCHEDULE")).ask(get("GET_MAINTENANCE_STATUS"));
            },
        ),
        reaching(Reach::Cluster, "maintenance/legacy", "The same over the old paths.", |s| {
            let post = |path: &str, json: Value| Request {
                json: Some(json),
                ..plain("POST", path).header("Content-Type", "application/json")
            };
            s.ask(post("/maintenance/schedule", json!({"windows": [window(spare())]})))
                .get("/maintenance/schedule", View::Exact);
            s.ask(post("/machine/down", spare())).get("/maintenance/status", View::Exact);
            s.ask(post("/machine/up", spare())).get("/maintenance/schedule", View::Exact);
        }),
        reaching(
            Reach::Cluster,
            "maintenance/inverse-offers",
            "Agents that will be gone: unavailability in offers, inverse offers to who uses them.",
            |s| {
                let f = s.subscribe("f", &info(json!({})));
                s.offers("f", 2);
                s.operate(schedule(json!([window(json!([{"hostname": "${host}", "ip": "${ip}"}]))])));
                s.step(Step::Events {
                    stream: "f".into(),
                    count: 2,
                    skip: vec!["HEARTBEAT".into()],
                    expect: Value::Null,
                });
                s.offers("f", 4);
                s.ask(get("GET_MAINTENANCE_STATUS")).operate(schedule(json!([]))).call(&f, "SUPPRESS", Value::Null);
            },
        ),
    ]
}
