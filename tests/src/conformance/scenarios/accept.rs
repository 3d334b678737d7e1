//! ACCEPT: what the offers of one must have in common, and what becomes of those that have not.

use serde_json::{Value, json};

use crate::conformance::builder::{call, dialogue, info, launch, plain, scheduler, task};
use crate::conformance::dialogue::{Dialogue, View};

pub(super) fn scenarios() -> Vec<Dialogue> {
    let aware = || info(json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]}));
    let doubtful = |name: &str, shows: &str, info: Value, offers: Vec<&'static str>| {
        dialogue(&format!("accept/{name}"), shows, |s| {
            let f = s.subscribe("f", &info);
            s.offers("f", 2).accept(&f, &offers, &[launch(&[task("t", json!({}))])]).update("f");
        })
    };
    vec![
        doubtful("no-offers", "Tasks launched with no offer are lost.", info(json!({})), vec![]),
        doubtful(
            "no-offers-partition-aware",
            "A framework that knows partitions is told TASK_DROPPED.",
            aware(),
            vec![],
        ),
        doubtful("unknown-offer", "An offer nobody made.", info(json!({})), vec!["nothing"]),
        doubtful("duplicate-offer", "One offer named twice.", aware(), vec!["${offer.1}", "${offer.1}"]),
        doubtful("two-agents", "Offers of one ACCEPT are of one agent.", aware(), vec!["${offer.1}", "${offer.2}"]),
        doubtful(
            "valid-and-unknown",
            "One unknown offer spoils the others, which go back.",
            aware(),
            vec!["${offer.1}", "nothing"],
        ),
        dialogue("accept/used-offer", "An offer is used once.", |s| {
            let f = s.subscribe("f", &aware());
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[]);
            s.accept(&f, &["${offer.1}"], &[launch(&[task("late", json!({}))])]).update("f");
        }),
        dialogue("accept/declined-offer", "A declined offer is gone.", |s| {
            let f = s.subscribe("f", &aware());
            s.offers("f", 2).decline(&f, &["${offer.1}"], 600.0);
            s.accept(&f, &["${offer.1}"], &[launch(&[task("late", json!({}))])]).update("f");
        }),
        dialogue("accept/others-offer", "An offer made to somebody else.", |s| {
            let owner = s.subscribe("owner", &aware());
            s.offers("owner", 2);
            let thief = s.subscribe_quietly("thief", &aware());
            s.accept(&thief, &["${offer.1}"], &[launch(&[task("t", json!({}))])]).update("thief");
            s.accept(&owner, &["${offer.1}"], &[launch(&[task("mine", json!({"resources": []}))])]).update("owner");
        }),
        dialogue("accept/spoilt-offers-return", "Offers of a spoilt ACCEPT are offered again without a filter.", |s| {
            let f = s.subscribe("f", &aware());
            s.offers("f", 2).accept(&f, &["${offer.1}", "${offer.2}"], &[]).offers("f", 2);
        }),
        dialogue("accept/nothing", "An ACCEPT without operations declines, with its filter.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[]).quiet("f", 2_000);
        }),
        dialogue(
            "accept/operation-with-unknown-offer",
            "An operation with an id and a bad offer is answered OPERATION_ERROR.",
            |s| {
                let f = s.subscribe("f", &aware());
                s.offers("f", 2).accept(
                    &f,
                    &["nothing"],
                    &[json!({"type": "RESERVE", "id": {"value": "op"}, "reserve": {"resources": []}})],
                );
                s.update("f");
            },
        ),
        dialogue("accept/unknown-operation", "An operation of a type nobody knows is passed over.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[json!({"type": "TELEPORT"})]).no_update("f", 500);
        }),
        dialogue("accept/operation-without-member", "An operation without its member is refused at the door.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[json!({"type": "LAUNCH"})]).no_update("f", 500);
        }),
        dialogue("filters/decline", "A declined agent is not offered while the filter lasts.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).decline(&f, &["${offer.1}", "${offer.2}"], 600.0).quiet("f", 2_500);
        }),
        dialogue("filters/decline-zero", "A refusal of no seconds is no filter.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).decline(&f, &["${offer.1}", "${offer.2}"], 0.0).offers("f", 2);
        }),
        dialogue("filters/decline-short", "A short filter ends, and the agent comes back.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).decline(&f, &["${offer.1}", "${offer.2}"], 1.0).offers("f", 2);
        }),
        dialogue("filters/decline-default", "Without `filters` the refusal lasts five seconds.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2);
            s.call(&f, "DECLINE", json!({"offer_ids": [{"value": "${offer.1}"}, {"value": "${offer.2}"}]}))
                .quiet("f", 3_500)
                .offers("f", 2);
        }),
        dialogue("filters/decline-unknown", "Declining what was never offered does nothing.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.decline(&f, &["nothing"], 5.0).quiet("f", 500);
        }),
        dialogue("filters/decline-negative", "A negative refusal counts as the default.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).decline(&f, &["${offer.1}", "${offer.2}"], -1.0).quiet("f", 2_500);
        }),
        dialogue("filters/revive-clears", "REVIVE takes all filters away.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2)
                .decline(&f, &["${offer.1}", "${offer.2}"], 600.0)
                .call(&f, "REVIVE", Value::Null)
                .offers("f", 2);
        }),
        dialogue("filters/revive-role", "REVIVE of a role takes its filters away.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).decline(&f, &["${offer.1}", "${offer.2}"], 600.0);
            s.call(&f, "REVIVE", json!({"roles": ["recorded"]})).offers("f", 2);
        }),
        dialogue("filters/revive-other-role", "REVIVE with a role that is not its own is dropped.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).decline(&f, &["${offer.1}", "${offer.2}"], 600.0);
            s.call(&f, "REVIVE", json!({"roles": ["recorded", "other"]})).quiet("f", 1_500);
        }),
        dialogue("filters/suppress", "SUPPRESS: no offers until REVIVE.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2)
                .call(&f, "SUPPRESS", Value::Null)
                .decline(&f, &["${offer.1}", "${offer.2}"], 0.0)
                .quiet("f", 2_000);
            s.call(&f, "REVIVE", Value::Null).offers("f", 2);
        }),
        dialogue("filters/suppress-other-role", "SUPPRESS of a role that is not its own is dropped.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2)
                .call(&f, "SUPPRESS", json!({"roles": ["other"]}))
                .decline(&f, &["${offer.1}", "${offer.2}"], 0.0)
                .offers("f", 2);
        }),
        dialogue(
            "filters/suppressed-in-books",
            "Suppressed roles show in the framework's metrics, offers in its books.",
            |s| {
                let f = s.subscribe("f", &info(json!({})));
                s.offers("f", 2);
                s.look(plain("GET", "/frameworks?framework_id=${framework.1}"), View::Exact, Some("/frameworks/0"));
                s.call(&f, "SUPPRESS", json!({"roles": ["recorded"]}));
            },
        ),
        dialogue("filters/revive-invalid-role", "REVIVE with text that is no role is dropped.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.call(&f, "REVIVE", json!({"roles": ["a b"]})).quiet("f", 1_000);
            s.ask(scheduler(call("SUPPRESS", &f.id, &json!({"roles": ["a b"]}))).header("Mesos-Stream-Id", &f.stream));
        }),
    ]
}
