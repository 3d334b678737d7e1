//! Operator calls that change something, and their errors.

use serde_json::{Value, json};

use crate::conformance::builder::{dialogue, info, plain, reaching, scalar};
use crate::conformance::dialogue::{Dialogue, Reach, Step, View};

fn agent_call(kind: &str, agent: &str) -> Value {
    json!({"type": kind, kind.to_lowercase(): {"agent_id": {"value": agent}}})
}

fn weights(weights: Value) -> Value {
    json!({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": weights}})
}

fn quota(configs: Value) -> Value {
    json!({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": configs}})
}

fn reserved(name: &str, value: f64) -> Value {
    let mut resource = scalar(name, value);
    resource["reservations"] = json!([{"type": "DYNAMIC", "role": "operated"}]);
    resource
}

fn volume(value: f64) -> Value {
    let mut resource = reserved("disk", value);
    resource["disk"] = json!({"persistence": {"id": "v"}, "volume": {"mode": "RW", "container_path": "data"}});
    resource
}

fn on_agent(kind: &str, body: Value) -> Value {
    let body = crate::conformance::builder::with(json!({"agent_id": {"value": "${agent.1}"}}), body);
    json!({"type": kind, kind.to_lowercase(): body})
}

pub(super) fn scenarios() -> Vec<Dialogue> {
    let wrong = |name: &str, shows: &str, call: Value| {
        dialogue(&format!("operator-changes/{name}"), shows, |s| {
            s.look(plain("GET", "/slaves"), View::Exact, Some("/slaves/0/id")).operate(call);
        })
    };
    let changing = |reach: Reach, name: &str, shows: &str, calls: Vec<Value>| {
        reaching(reach, &format!("operator-changes/{name}"), shows, |s| {
            s.look(plain("GET", "/slaves"), View::Exact, Some("/slaves/0/id"));
            for call in calls {
                s.operate(call);
            }
        })
    };
    let get = |kind: &str| json!({"type": kind});
    let none = || json!([{"role": "operated"}]);
    vec![
        wrong(
            "teardown-unknown",
            "A framework nobody knows.",
            json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": "nobody"}}}),
        ),
        wrong("weight-zero", "A weight is above zero.", weights(json!([{"role": "operated", "weight": 0.0}]))),
        wrong("weight-negative", "And not negative.", weights(json!([{"role": "operated", "weight": -1.0}]))),
        wrong("weight-role-invalid", "Its role is a role.", weights(json!([{"role": "a b", "weight": 2.0}]))),
        wrong("weight-role-missing", "A weight names a role.", weights(json!([{"weight": 2.0}]))),
        wrong(
            "quota-nested-role",
            "Quota is for top-level roles.",
            quota(json!([{"role": "a/b", "limits": {"cpus": {"value": 1.0}}}])),
        ),
        // A quota of `*` that was set once is listed for ever.
        changing(
            Reach::Fresh,
            "quota-star",
            "A quota for `*` is taken.",
            vec![
                quota(json!([{"role": "*", "limits": {"cpus": {"value": 1.0}}}])),
                get("GET_QUOTA"),
                quota(json!([{"role": "*"}])),
            ],
        ),
        wrong(
            "quota-role-invalid",
            "Its role is a role.",
            quota(json!([{"role": "a b", "limits": {"cpus": {"value": 1.0}}}])),
        ),
        wrong(
            "quota-guarantee-above-limit",
            "What is guaranteed is not above the limit.",
            quota(
                json!([{"role": "operated", "guarantees": {"cpus": {"value": 2.0}}, "limits": {"cpus": {"value": 1.0}}}]),
            ),
        ),
        wrong(
            "quota-negative",
            "Quantities are not negative.",
            quota(json!([{"role": "operated", "limits": {"cpus": {"value": -1.0}}}])),
        ),
        wrong(
            "quota-more-than-cluster",
            "The cluster can give what is guaranteed.",
            quota(
                json!([{"role": "operated", "guarantees": {"cpus": {"value": 1000.0}}, "limits": {"cpus": {"value": 1000.0}}}]),
            ),
        ),
        // The later one is kept.
        changing(
            Reach::Fresh,
            "quota-duplicate-role",
            "A role is named once.",
            vec![quota(
                json!([{"role": "operated", "limits": {"cpus": {"value": 1.0}}}, {"role": "operated", "limits": {"cpus": {"value": 2.0}}}]),
            )],
        ),
        wrong(
            "set-quota-invalid",
            "A guarantee is of scalars.",
            json!({"type": "SET_QUOTA", "set_quota": {"quota_request": {"role": "operated", "guarantee": [
                {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 2}]}}]}}}),
        ),
        wrong(
            "set-quota-too-much",
            "More than the cluster has.",
            json!({"type": "SET_QUOTA", "set_quota": {"quota_request": {"role": "operated", "guarantee": [scalar("cpus", 1000.0)]}}}),
        ),
        wrong(
            "reserve-unknown-agent",
            "An agent nobody knows.",
            json!({"type": "RESERVE_RESOURCES", "reserve_resources": {"agent_id": {"value": "nowhere"}, "resources": [reserved("cpus", 1.0)]}}),
        ),
        wrong(
            "reserve-unreserved",
            "RESERVE names reserved resources.",
            on_agent("RESERVE_RESOURCES", json!({"resources": [scalar("cpus", 1.0)]})),
        ),
        wrong(
            "reserve-too-much",
            "More than the agent has.",
            on_agent("RESERVE_RESOURCES", json!({"resources": [reserved("cpus", 1000.0)]})),
        ),
        wrong("reserve-nothing", "RESERVE of nothing.", on_agent("RESERVE_RESOURCES", json!({"resources": []}))),
        wrong(
            "unreserve-unreserved",
            "Only reservations are unreserved.",
            on_agent("UNRESERVE_RESOURCES", json!({"resources": [scalar("cpus", 1.0)]})),
        ),
        wrong(
            "unreserve-unknown",
            "A reservation that does not exist.",
            on_agent("UNRESERVE_RESOURCES", json!({"resources": [reserved("cpus", 1.0)]})),
        ),
        wrong(
            "create-unreserved",
            "Volumes are made of what is reserved.",
            on_agent("CREATE_VOLUMES", json!({"volumes": [volume(64.0)]})),
        ),
        wrong(
            "destroy-unknown",
            "A volume that does not exist.",
            on_agent("DESTROY_VOLUMES", json!({"volumes": [volume(64.0)]})),
        ),
        wrong(
            "grow-unknown-agent",
            "Growing on an agent nobody knows.",
            json!({"type": "GROW_VOLUME", "grow_volume": {"agent_id": {"value": "nowhere"}, "volume": volume(64.0), "addition": reserved("disk", 1.0)}}),
        ),
        wrong(
            "shrink-without-agent",
            "SHRINK_VOLUME needs an agent.",
            json!({"type": "SHRINK_VOLUME", "shrink_volume": {"volume": volume(64.0), "subtract": {"value": 1.0}}}),
        ),
        wrong("drain-unknown", "An agent nobody knows.", agent_call("DRAIN_AGENT", "nowhere")),
        wrong("deactivate-unknown", "An agent nobody knows.", agent_call("DEACTIVATE_AGENT", "nowhere")),
        wrong("reactivate-unknown", "An agent nobody knows.", agent_call("REACTIVATE_AGENT", "nowhere")),
        wrong("reactivate-active", "An agent that is active.", agent_call("REACTIVATE_AGENT", "${agent.1}")),
        wrong("gone-unknown", "An agent nobody knows.", agent_call("MARK_AGENT_GONE", "nowhere")),
        // A weight that was set once is listed for ever.
        changing(
            Reach::Fresh,
            "weights",
            "A weight is kept, seen, and set back.",
            vec![
                weights(json!([{"role": "operated", "weight": 2.5}])),
                get("GET_WEIGHTS"),
                get("GET_ROLES"),
                weights(json!([{"role": "operated", "weight": 1.0}])),
                get("GET_WEIGHTS"),
            ],
        ),
        // A quota that was set once is listed until it is removed.
        changing(
            Reach::Fresh,
            "quota",
            "A quota is kept, seen, and removed.",
            vec![
                quota(
                    json!([{"role": "operated", "guarantees": {"cpus": {"value": 1.0}}, "limits": {"cpus": {"value": 2.0}, "mem": {"value": 64.0}}}]),
                ),
                get("GET_QUOTA"),
                get("GET_ROLES"),
                quota(none()),
                get("GET_QUOTA"),
            ],
        ),
        // A quota that was set once is listed until it is removed.
        changing(
            Reach::Fresh,
            "quota-force",
            "Forced, a guarantee may be more than the cluster has.",
            vec![
                json!({"type": "UPDATE_QUOTA", "update_quota": {"force": true, "quota_configs": [
                {"role": "operated", "guarantees": {"cpus": {"value": 1000.0}}, "limits": {"cpus": {"value": 1000.0}}}]}}),
                get("GET_QUOTA"),
                quota(none()),
            ],
        ),
        // A quota that was set once is listed until it is removed.
        changing(
            Reach::Fresh,
            "set-and-remove-quota",
            "The older calls: a guarantee that is also the limit.",
            vec![
                quota(none()),
                json!({"type": "SET_QUOTA", "set_quota": {"quota_request": {"role": "operated", "guarantee": [scalar("cpus", 1.0)]}}}),
                get("GET_QUOTA"),
                json!({"type": "SET_QUOTA", "set_quota": {"quota_request": {"role": "operated", "guarantee": [scalar("cpus", 2.0)]}}}),
                json!({"type": "REMOVE_QUOTA", "remove_quota": {"role": "operated"}}),
                get("GET_QUOTA"),
            ],
        ),
        reaching(Reach::Cluster, "operator-changes/reserve", "Resources are reserved, seen, and unreserved.", |s| {
            s.look(plain("GET", "/slaves"), View::Exact, Some("/slaves/0/id"));
            s.operate(on_agent("RESERVE_RESOURCES", json!({"resources": [reserved("cpus", 2.0)]})));
            s.eventually(plain("GET", "/slaves?slave_id=${agent.1}"), View::Exact, Some("/slaves/0"));
            s.operate(on_agent("UNRESERVE_RESOURCES", json!({"resources": [reserved("cpus", 2.0)]})));
            s.eventually(
                plain("GET", "/slaves?slave_id=${agent.1}"),
                View::Exact,
                Some("/slaves/0/reserved_resources"),
            );
        }),
        reaching(
            Reach::Cluster,
            "operator-changes/volumes",
            "A volume is created, grown, shrunk and destroyed.",
            |s| {
                s.look(plain("GET", "/slaves"), View::Exact, Some("/slaves/0/id"));
                let books = || plain("GET", "/slaves?slave_id=${agent.1}");
                let part = Some("/slaves/0/reserved_resources_full");
                s.operate(on_agent("RESERVE_RESOURCES", json!({"resources": [reserved("disk", 96.0)]}))).pause(500);
                s.operate(on_agent("CREATE_VOLUMES", json!({"volumes": [volume(64.0)]}))).eventually(
                    books(),
                    View::Exact,
                    part,
                );
                s.operate(on_agent("GROW_VOLUME", json!({"volume": volume(64.0), "addition": reserved("disk", 32.0)})))
                    .eventually(books(), View::Exact, part);
                s.operate(on_agent("SHRINK_VOLUME", json!({"volume": volume(96.0), "subtract": {"value": 32.0}})))
                    .eventually(books(), View::Exact, part);
                s.operate(on_agent("DESTROY_VOLUMES", json!({"volumes": [volume(64.0)]}))).pause(500);
                s.operate(on_agent("UNRESERVE_RESOURCES", json!({"resources": [reserved("disk", 96.0)]}))).eventually(
                    books(),
                    View::Exact,
                    part,
                );
            },
        ),
        reaching(
            Reach::Cluster,
            "operator-changes/deactivate",
            "A deactivated agent makes no offers until it is reactivated.",
            |s| {
                let f = s.subscribe("f", &info(json!({})));
                s.offers("f", 2).operate(agent_call("DEACTIVATE_AGENT", "${agent.1}")).event("f");
                s.operate(agent_call("DEACTIVATE_AGENT", "${agent.1}"));
                s.look(plain("GET", "/slaves?slave_id=${agent.1}"), View::Exact, Some("/slaves/0/deactivated"));
                s.call(&f, "REVIVE", Value::Null)
                    .quiet("f", 1_500)
                    .operate(agent_call("REACTIVATE_AGENT", "${agent.1}"))
                    .offers("f", 1);
            },
        ),
        reaching(Reach::Fresh, "operator-changes/drain", "An idle agent is drained at once, and reactivated.", |s| {
            s.subscribe("f", &info(json!({})));
            s.offers("f", 2);
            s.operate(json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": {"value": "${agent.1}"}, "max_grace_period": {"seconds": 10}}})).event("f");
            s.eventually(plain("GET", "/slaves?slave_id=${agent.1}"), View::Exact, Some("/slaves/0/drain_info"));
            s.operate(agent_call("REACTIVATE_AGENT", "${agent.1}"));
            s.eventually(plain("GET", "/slaves?slave_id=${agent.1}"), View::Exact, Some("/slaves/0/deactivated"));
        }),
        reaching(
            Reach::Fresh,
            "operator-changes/weights-rescind",
            "A changed weight of a role with frameworks takes all offers back.",
            |s| {
                s.subscribe("f", &info(json!({})));
                s.offers("f", 2)
                    .operate(weights(json!([{"role": "recorded", "weight": 2.0}])))
                    .step(Step::Events {
                        stream: "f".into(),
                        count: 2,
                        skip: vec!["HEARTBEAT".into()],
                        expect: Value::Null,
                    })
                    .offers("f", 2);
                s.operate(weights(json!([{"role": "recorded", "weight": 1.0}])));
            },
        ),
        reaching(
            Reach::Fresh,
            "operator-changes/gone",
            "An agent marked gone is lost to its frameworks, for good.",
            |s| {
                s.subscribe("f", &info(json!({})));
                s.offers("f", 2).operate(agent_call("MARK_AGENT_GONE", "${agent.1}")).events("f", 2);
                s.operate(agent_call("MARK_AGENT_GONE", "${agent.1}"));
                s.eventually(plain("GET", "/slaves?slave_id=${agent.1}"), View::Exact, Some("/slaves"));
            },
        ),
        dialogue("operator-changes/teardown", "TEARDOWN ends a framework's stream.", |s| {
            s.subscribe_quietly("f", &info(json!({})));
            s.operate(json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": "${framework.1}"}}})).end("f");
            s.operate(json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": "${framework.1}"}}}));
        }),
    ]
}
