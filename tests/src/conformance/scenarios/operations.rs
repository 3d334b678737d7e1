//! Offer operations: reservations and volumes, and what a framework hears of them.

use serde_json::{Value, json};

use crate::conformance::builder::{dialogue, info, launch, plain, reaching, scalar, task, with};
use crate::conformance::dialogue::{Dialogue, Reach, View};

fn refined() -> Value {
    info(
        json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}, {"type": "PARTITION_AWARE"}]}),
    )
}

fn reserved(name: &str, value: f64) -> Value {
    let mut resource = scalar(name, value);
    resource["reservations"] = json!([{"type": "DYNAMIC", "role": "recorded"}]);
    resource
}

fn volume(id: &str, value: f64) -> Value {
    let mut resource = reserved("disk", value);
    resource["disk"] = json!({"persistence": {"id": id}, "volume": {"mode": "RW", "container_path": "data"}});
    resource
}

fn operation(kind: &str, id: Option<&str>, body: Value) -> Value {
    let mut operation = json!({"type": kind, kind.to_lowercase(): body});
    if let Some(id) = id {
        operation["id"] = json!({"value": id});
    }
    operation
}

fn reserve(id: Option<&str>, resources: Value) -> Value {
    operation("RESERVE", id, json!({"resources": resources}))
}

fn unreserve(id: Option<&str>, resources: Value) -> Value {
    operation("UNRESERVE", id, json!({"resources": resources}))
}

fn create(id: Option<&str>, volumes: Value) -> Value {
    operation("CREATE", id, json!({"volumes": volumes}))
}

fn destroy(id: Option<&str>, volumes: Value) -> Value {
    operation("DESTROY", id, json!({"volumes": volumes}))
}

pub(super) fn scenarios() -> Vec<Dialogue> {
    // Failures are told when the operation has an id.
    let wrong = |name: &str, shows: &str, operation: Value| {
        dialogue(&format!("operations/{name}"), shows, |s| {
            let f = s.subscribe("f", &refined());
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[operation]).update("f");
        })
    };
    let other_role = {
        let mut resource = scalar("cpus", 1.0);
        resource["reservations"] = json!([{"type": "DYNAMIC", "role": "other"}]);
        resource
    };
    let revocable = {
        let mut resource = reserved("cpus", 1.0);
        resource["revocable"] = json!({});
        resource
    };
    let without_path = {
        let mut resource = volume("v", 64.0);
        resource["disk"]["volume"] = Value::Null;
        resource
    };
    let unreserved_volume = {
        let mut resource = volume("v", 64.0);
        resource["reservations"] = json!([]);
        resource
    };
    let principal = {
        let mut resource = reserved("cpus", 1.0);
        resource["reservations"][0]["principal"] = json!("someone");
        resource
    };
    vec![
        wrong("reserve-too-much", "More than was offered.", reserve(Some("op"), json!([reserved("cpus", 100.0)]))),
        wrong(
            "reserve-unreserved",
            "RESERVE names resources that are reserved.",
            reserve(Some("op"), json!([scalar("cpus", 1.0)])),
        ),
        wrong("reserve-other-role", "For the role of the offer.", reserve(Some("op"), json!([other_role]))),
        wrong("reserve-revocable", "Revocable resources cannot be reserved.", reserve(Some("op"), json!([revocable]))),
        dialogue("operations/reserve-principal", "The principal is the framework's.", |s| {
            let f = s.subscribe("f", &with(refined(), json!({"principal": "me"})));
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[reserve(Some("op"), json!([principal]))]).update("f");
        }),
        wrong("reserve-nothing", "RESERVE of nothing.", reserve(Some("op"), json!([]))),
        wrong(
            "reserve-source",
            "Moving a reservation is for operators.",
            operation(
                "RESERVE",
                Some("op"),
                json!({"source": [scalar("cpus", 1.0)], "resources": [reserved("cpus", 1.0)]}),
            ),
        ),
        wrong(
            "unreserve-unreserved",
            "Only what is reserved can be unreserved.",
            unreserve(Some("op"), json!([scalar("cpus", 1.0)])),
        ),
        wrong(
            "unreserve-not-offered",
            "A reservation that is not in the offer.",
            unreserve(Some("op"), json!([reserved("cpus", 1.0)])),
        ),
        wrong(
            "create-unreserved",
            "Volumes are made of reserved disk.",
            create(Some("op"), json!([unreserved_volume])),
        ),
        wrong(
            "create-without-volume",
            "A persistent volume says where it goes.",
            create(Some("op"), json!([without_path])),
        ),
        wrong(
            "create-not-persistent",
            "CREATE is for persistent volumes.",
            create(Some("op"), json!([reserved("disk", 64.0)])),
        ),
        wrong("create-not-offered", "Disk that is not in the offer.", create(Some("op"), json!([volume("v", 64.0)]))),
        wrong(
            "create-duplicate",
            "Ids of volumes are unique.",
            create(Some("op"), json!([volume("v", 64.0), volume("v", 64.0)])),
        ),
        wrong("destroy-unknown", "A volume that does not exist.", destroy(Some("op"), json!([volume("v", 64.0)]))),
        wrong(
            "grow-not-persistent",
            "Only volumes grow.",
            operation(
                "GROW_VOLUME",
                Some("op"),
                json!({"volume": reserved("disk", 64.0), "addition": reserved("disk", 64.0)}),
            ),
        ),
        wrong(
            "grow-not-offered",
            "A volume that is not in the offer.",
            operation(
                "GROW_VOLUME",
                Some("op"),
                json!({"volume": volume("v", 64.0), "addition": reserved("disk", 64.0)}),
            ),
        ),
        wrong(
            "shrink-too-much",
            "A volume does not shrink to nothing.",
            operation("SHRINK_VOLUME", Some("op"), json!({"volume": volume("v", 64.0), "subtract": {"value": 64.0}})),
        ),
        wrong(
            "create-disk-without-provider",
            "Disks come from resource providers.",
            operation("CREATE_DISK", Some("op"), json!({"source": scalar("disk", 64.0), "target_type": "MOUNT"})),
        ),
        wrong(
            "destroy-disk-without-provider",
            "And go back to them.",
            operation("DESTROY_DISK", Some("op"), json!({"source": scalar("disk", 64.0)})),
        ),
        dialogue("operations/failure-without-id", "Without an id a failure is not told.", |s| {
            let f = s.subscribe("f", &refined());
            s.offers("f", 2)
                .accept(&f, &["${offer.1}"], &[reserve(None, json!([reserved("cpus", 100.0)]))])
                .no_update("f", 700);
        }),
        reaching(
            Reach::Cluster,
            "operations/reserve-and-unreserve",
            "A reservation made and taken back in one ACCEPT.",
            |s| {
                let f = s.subscribe("f", &refined());
                s.offers("f", 2);
                let (one, other) =
                    (reserve(None, json!([reserved("cpus", 1.0)])), unreserve(None, json!([reserved("cpus", 1.0)])));
                s.accept(&f, &["${offer.1}"], &[one, other]).no_update("f", 700);
                s.call(&f, "REVIVE", Value::Null).offers("f", 1);
            },
        ),
        reaching(
            Reach::Cluster,
            "operations/reserve",
            "A reservation is offered as such, and seen in the books, until UNRESERVE.",
            |s| {
                let f = s.subscribe("f", &refined());
                s.offers("f", 2).accept(
                    &f,
                    &["${offer.1}"],
                    &[reserve(None, json!([reserved("cpus", 2.0), reserved("mem", 64.0)]))],
                );
                s.offers("f", 1);
                s.look(plain("GET", "/slaves?slave_id=${agent.1}"), View::Exact, Some("/slaves/0"));
                s.accept(
                    &f,
                    &["${offer.3}"],
                    &[unreserve(None, json!([reserved("cpus", 2.0), reserved("mem", 64.0)]))],
                )
                .offers("f", 1);
            },
        ),
        reaching(Reach::Cluster, "operations/feedback", "Operations with ids are told when they are done.", |s| {
            let f = s.subscribe("f", &refined());
            let (make, take) = (
                reserve(Some("make"), json!([reserved("cpus", 1.0)])),
                unreserve(Some("take"), json!([reserved("cpus", 1.0)])),
            );
            // Suppressed, so that no offer can overtake the update.
            s.offers("f", 2).call(&f, "SUPPRESS", Value::Null).accept(&f, &["${offer.1}"], &[make]).update("f");
            s.call(
                &f,
                "ACKNOWLEDGE_OPERATION_STATUS",
                json!({"agent_id": {"value": "${agent.1}"}, "operation_id": {"value": "make"}, "uuid": "${update.1}"}),
            );
            s.call(&f, "REVIVE", Value::Null).offers("f", 1);
            s.accept(&f, &["${offer.3}"], &[take]).update("f");
        }),
        reaching(Reach::Cluster, "operations/volume", "A volume is created, offered, and destroyed.", |s| {
            let f = s.subscribe("f", &refined());
            let space = || json!([reserved("disk", 64.0)]);
            s.offers("f", 2).accept(
                &f,
                &["${offer.1}"],
                &[reserve(None, space()), create(None, json!([volume("v", 64.0)]))],
            );
            s.offers("f", 1);
            s.accept(&f, &["${offer.3}"], &[destroy(None, json!([volume("v", 64.0)])), unreserve(None, space())])
                .offers("f", 1);
        }),
        reaching(Reach::Cluster, "operations/grow-and-shrink", "A volume grows and shrinks.", |s| {
            let f = s.subscribe("f", &refined());
            s.offers("f", 2);
            s.accept(
                &f,
                &["${offer.1}"],
                &[reserve(None, json!([reserved("disk", 96.0)])), create(None, json!([volume("v", 64.0)]))],
            )
            .offers("f", 1);
            s.accept(
                &f,
                &["${offer.3}"],
                &[operation(
                    "GROW_VOLUME",
                    None,
                    json!({"volume": volume("v", 64.0), "addition": reserved("disk", 32.0)}),
                )],
            );
            s.offers("f", 1);
            s.accept(
                &f,
                &["${offer.4}"],
                &[operation("SHRINK_VOLUME", None, json!({"volume": volume("v", 96.0), "subtract": {"value": 32.0}}))],
            );
            s.offers("f", 1);
            s.accept(
                &f,
                &["${offer.5}"],
                &[destroy(None, json!([volume("v", 64.0)])), unreserve(None, json!([reserved("disk", 96.0)]))],
            )
            .offers("f", 1);
        }),
        reaching(
            Reach::Cluster,
            "operations/reserve-create-launch",
            "One ACCEPT reserves, creates and launches on what it made.",
            |s| {
                let f = s.subscribe("f", &refined());
                let run = launch(&[task(
                    "t",
                    json!({"resources": [reserved("cpus", 0.5), scalar("mem", 32.0)], "command": {"value": "exit 0"}}),
                )]);
                s.offers("f", 2).accept(&f, &["${offer.1}"], &[reserve(None, json!([reserved("cpus", 0.5)])), run]);
                s.update("f")
                    .acknowledge(&f, "t", 1)
                    .update("f")
                    .acknowledge(&f, "t", 2)
                    .update("f")
                    .acknowledge(&f, "t", 3);
                s.pause(1_500);
                s.operate(json!({"type": "UNRESERVE_RESOURCES", "unreserve_resources": {"agent_id": {"value": "${agent.1}"}, "resources": [reserved("cpus", 0.5)]}}));
            },
        ),
        reaching(
            Reach::Cluster,
            "operations/old-format",
            "A framework without RESERVATION_REFINEMENT reserves by `role` and `reservation`.",
            |s| {
                let f = s.subscribe("f", &info(json!({})));
                let mut old = scalar("cpus", 1.0);
                old["role"] = json!("recorded");
                old["reservation"] = json!({});
                s.offers("f", 2).accept(&f, &["${offer.1}"], &[reserve(None, json!([old]))]).offers("f", 1);
                s.accept(&f, &["${offer.3}"], &[unreserve(None, json!([old]))]).offers("f", 1);
            },
        ),
    ]
}
