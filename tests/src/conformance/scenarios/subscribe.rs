//! SUBSCRIBE: what the first events are, who is refused, who supersedes whom.

use serde_json::{Value, json};

use crate::conformance::builder::{dialogue, info, launch, reaching, scheduler, task, with};
use crate::conformance::dialogue::{Dialogue, Reach};

pub(super) fn scenarios() -> Vec<Dialogue> {
    let refused = |name: &str, shows: &str, over: Value| {
        dialogue(&format!("subscribe/{name}"), shows, |s| {
            s.refused(info(over));
        })
    };
    let lasting = || info(json!({"failover_timeout": 60.0}));
    vec![
        dialogue("subscribe/first-events", "SUBSCRIBED, a HEARTBEAT at once, then an offer of each agent.", |s| {
            // Without suppression the first offers may overtake the heartbeat.
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.event_but("f", &[]).call(&f, "REVIVE", Value::Null).offers("f", 2);
        }),
        dialogue("subscribe/heartbeats", "The second HEARTBEAT comes fifteen seconds after the first.", |s| {
            s.subscribe_quietly("f", &info(json!({})));
            s.event_but("f", &[]).quiet("f", 13_000).event_but("f", &[]);
        }),
        dialogue("subscribe/master-path", "The prefixed path is the same API.", |s| {
            let request = scheduler(
                json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info(json!({})), "suppressed_roles": ["recorded"]}}),
            );
            s.open("f", request.at("/master/api/v1/scheduler")).event("f");
        }),
        dialogue("subscribe/accept-anything", "Without Accept, or with a wildcard, events are JSON.", |s| {
            let request = || {
                scheduler(
                    json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info(json!({})), "suppressed_roles": ["recorded"]}}),
                )
            };
            s.open("f", request().without_header("Accept")).event("f");
            s.open("g", request().header("Accept", "text/html, */*;q=0.1")).event("g");
        }),
        dialogue("subscribe/connection-close", "`Connection: close` does not end the stream.", |s| {
            let request = scheduler(
                json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info(json!({})), "suppressed_roles": ["recorded"]}}),
            );
            s.open("f", request.header("Connection", "close")).event("f").quiet("f", 500);
        }),
        dialogue("subscribe/empty-id", "An empty framework id is a new framework.", |s| {
            s.open(
                "f",
                scheduler(json!({"type": "SUBSCRIBE", "framework_id": {"value": ""}, "subscribe": {
                "framework_info": info(json!({"id": {"value": ""}})), "suppressed_roles": ["recorded"]}})),
            )
            .event("f");
        }),
        dialogue(
            "subscribe/single-role",
            "Without MULTI_ROLE offers carry no allocation_info and resources a role.",
            |s| {
                s.subscribe("f", &info(json!({"roles": null, "capabilities": null, "role": "recorded"})));
                s.offers("f", 2);
            },
        ),
        dialogue("subscribe/default-role", "Neither role nor roles: the role is `*`.", |s| {
            s.subscribe("f", &info(json!({"roles": null, "capabilities": null})));
            s.offers("f", 2);
        }),
        dialogue("subscribe/reservation-refinement", "With RESERVATION_REFINEMENT resources have no role.", |s| {
            s.subscribe(
                "f",
                &info(json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}]})),
            );
            s.offers("f", 2);
        }),
        dialogue("subscribe/no-roles", "MULTI_ROLE with an empty list of roles: subscribed, without offers.", |s| {
            s.subscribe("f", &info(json!({"roles": []})));
            s.quiet("f", 1_500);
        }),
        dialogue("subscribe/suppressed", "Roles suppressed from the start get no offers until REVIVE.", |s| {
            let f = s.subscribe_quietly("f", &info(json!({})));
            s.quiet("f", 1_500);
            s.call(&f, "REVIVE", Value::Null).offers("f", 2);
        }),
        dialogue(
            "subscribe/two-roles",
            "A framework may suppress one of its roles and be offered to the other.",
            |s| {
                s.subscribe_with("f", json!({"framework_info": info(json!({"roles": ["recorded", "second"]})), "suppressed_roles": ["second"]}));
                s.offers("f", 2);
            },
        ),
        dialogue("subscribe/nested-role", "A role may be a path.", |s| {
            s.subscribe("f", &info(json!({"roles": ["recorded/a/b"]})));
            s.offers("f", 2);
        }),
        dialogue("subscribe/unknown-capability", "A capability nobody knows is dropped.", |s| {
            s.subscribe_quietly("f", &info(json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "TELEPATHY"}]})));
        }),
        reaching(
            Reach::Fresh,
            "subscribe/unknown-id",
            "An id the master has never seen is taken: after a failover it knows none.",
            |s| {
                let id = json!({"value": "00000000-1111-0000-0000-000000000000-0042"});
                s.open(
                    "f",
                    scheduler(json!({"type": "SUBSCRIBE", "framework_id": id, "subscribe": {
                "framework_info": info(json!({"id": id})), "suppressed_roles": ["recorded"]}})),
                )
                .event("f");
                s.ask(
                    scheduler(json!({"type": "TEARDOWN", "framework_id": id})).header("Mesos-Stream-Id", "${stream.1}"),
                )
                .end("f");
            },
        ),
        dialogue("subscribe/id-with-slash", "Ids have rules, for frameworks too.", |s| {
            s.refused(info(json!({"id": {"value": "a/b"}})));
        }),
        dialogue(
            "subscribe/supersede",
            "A second SUBSCRIBE takes over: the first stream gets an ERROR and ends, its id is stale.",
            |s| {
                let first = s.subscribe_quietly("first", &lasting());
                let second = s.subscribe_again("second", &first, lasting());
                s.event("first").end("first");
                s.call(&first, "REVIVE", Value::Null);
                s.call(&second, "REVIVE", Value::Null).offers("second", 2);
            },
        ),
        dialogue(
            "subscribe/supersede-discards-offers",
            "Outstanding offers are discarded without RESCIND and come again.",
            |s| {
                let first = s.subscribe("first", &lasting());
                s.offers("first", 2);
                let second = s.subscribe_again("second", &first, lasting());
                s.event("first").end("first").offers("second", 2);
                s.accept(&second, &["${offer.1}"], &[launch(&[task("late", json!({}))])]).update("second");
            },
        ),
        dialogue("subscribe/return", "A framework whose connection broke returns within its failover timeout.", |s| {
            let first = s.subscribe("first", &lasting());
            s.offers("first", 2).close("first").pause(300);
            s.subscribe_again("second", &first, lasting());
            s.offers("second", 2);
        }),
        dialogue(
            "subscribe/gone-at-once",
            "Without a failover timeout the framework is removed with its connection.",
            |s| {
                let first = s.subscribe_quietly("first", &info(json!({})));
                s.close("first").pause(500);
                s.refused_with(json!({"framework_info": with(info(json!({})), json!({"id": {"value": first.id}}))}));
            },
        ),
        dialogue("subscribe/after-teardown", "A framework torn down cannot return.", |s| {
            let first = s.subscribe_quietly("first", &lasting());
            s.call(&first, "TEARDOWN", Value::Null).end("first");
            s.refused_with(json!({"framework_info": with(lasting(), json!({"id": {"value": first.id}}))}));
        }),
        dialogue("subscribe/change-user", "A changed user is ignored on the way back.", |s| {
            let first = s.subscribe_quietly("first", &lasting());
            s.subscribe_again(
                "second",
                &first,
                with(lasting(), json!({"user": "nobody", "checkpoint": true, "name": "renamed"})),
            );
            s.look(
                crate::conformance::builder::plain("GET", "/frameworks?framework_id=${framework.1}"),
                crate::conformance::dialogue::View::Exact,
                Some("/frameworks/0/user"),
            );
            s.look(
                crate::conformance::builder::plain("GET", "/frameworks?framework_id=${framework.1}"),
                crate::conformance::dialogue::View::Exact,
                Some("/frameworks/0/name"),
            );
        }),
        dialogue("subscribe/change-principal", "Changing the principal is refused.", |s| {
            let first = s.subscribe_quietly("first", &with(lasting(), json!({"principal": "one"})));
            s.refused_with(
                json!({"framework_info": with(lasting(), json!({"principal": "two", "id": {"value": first.id}}))}),
            );
        }),
        dialogue("subscribe/teardown", "TEARDOWN is answered 202 and ends the stream.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).call(&f, "TEARDOWN", Value::Null).end("f");
        }),
        refused("role-and-roles", "MULTI_ROLE goes with `roles`, not with `role`.", json!({"role": "recorded"})),
        refused("roles-without-capability", "`roles` needs MULTI_ROLE.", json!({"capabilities": null})),
        refused("duplicate-roles", "Roles are named once.", json!({"roles": ["a", "b", "a"]})),
        refused("role-empty", "A role is no empty text.", json!({"roles": [""]})),
        refused("role-dot", "Nor a dot.", json!({"roles": ["."]})),
        refused("role-dotdot", "Nor two.", json!({"roles": [".."]})),
        refused("role-dash", "It does not begin with a dash.", json!({"roles": ["-a"]})),
        refused("role-space", "It has no space.", json!({"roles": ["a b"]})),
        refused("role-slash-first", "It does not begin with a slash.", json!({"roles": ["/a"]})),
        refused("role-slash-last", "Nor end with one.", json!({"roles": ["a/"]})),
        refused("role-slash-twice", "Nor has two in a row.", json!({"roles": ["a//b"]})),
        refused("role-dots-inside", "No part of a path is a dot.", json!({"roles": ["a/./b"]})),
        refused("role-star-inside", "A star is a role alone, never a part of a path.", json!({"roles": ["a/*"]})),
        refused(
            "single-role-invalid",
            "The old field has the same rules.",
            json!({"roles": null, "capabilities": null, "role": "a/"}),
        ),
        refused(
            "failover-timeout-negative",
            "A failover timeout is no negative number.",
            json!({"failover_timeout": -1.0}),
        ),
        refused(
            "failover-timeout-too-long",
            "Nor longer than time can be counted.",
            json!({"failover_timeout": 1e300}),
        ),
        refused(
            "offer-filters-empty",
            "Minimal quantities of a filter name some resource.",
            json!({"offer_filters": {"recorded": {"min_allocatable_resources": {"quantities": [{}]}}}}),
        ),
        refused(
            "offer-filters-negative",
            "They are not negative.",
            json!({"offer_filters": {"recorded": {"min_allocatable_resources": {"quantities": [{"quantities": {"cpus": {"value": -1.0}}}]}}}}),
        ),
        refused(
            "offer-filters-other-role",
            "They are for the framework's own roles.",
            json!({"offer_filters": {"other": {"min_allocatable_resources": {"quantities": [{"quantities": {"cpus": {"value": 1.0}}}]}}}}),
        ),
        dialogue("subscribe/suppressed-role-not-its-own", "Only its own roles can be suppressed.", |s| {
            s.refused_with(json!({"framework_info": info(json!({})), "suppressed_roles": ["other"]}));
        }),
        dialogue(
            "subscribe/constraints-other-role",
            "Constraints for a role that is not the framework's are taken.",
            |s| {
                s.subscribe_with("f", json!({"framework_info": info(json!({})), "offer_constraints": {"role_constraints": {"other": {"groups": [
                {"attribute_constraints": [{"selector": {"attribute_name": "rack"}, "predicate": {"exists": {}}}]}]}}}}));
            },
        ),
        dialogue("subscribe/constraints-no-groups", "Constraints of a role hold at least one group.", |s| {
            s.refused_with(json!({"framework_info": info(json!({})), "offer_constraints": {"role_constraints": {"recorded": {"groups": []}}}}));
        }),
        dialogue("subscribe/constraints-empty-group", "A group holds at least one constraint.", |s| {
            s.refused_with(json!({"framework_info": info(json!({})), "offer_constraints": {"role_constraints": {"recorded": {"groups": [{}]}}}}));
        }),
        dialogue("subscribe/constraints-no-predicate", "A constraint has a predicate.", |s| {
            s.refused_with(json!({"framework_info": info(json!({})), "offer_constraints": {"role_constraints": {"recorded": {"groups": [
                {"attribute_constraints": [{"selector": {"attribute_name": "rack"}, "predicate": {}}]}]}}}}));
        }),
        dialogue("subscribe/constraints-no-selector", "A constraint has a selector.", |s| {
            s.refused_with(json!({"framework_info": info(json!({})), "offer_constraints": {"role_constraints": {"recorded": {"groups": [
                {"attribute_constraints": [{"selector": {}, "predicate": {"exists": {}}}]}]}}}}));
        }),
        dialogue("subscribe/constraints-bad-regex", "A regular expression is compiled at the door.", |s| {
            s.refused_with(json!({"framework_info": info(json!({})), "offer_constraints": {"role_constraints": {"recorded": {"groups": [
                {"attribute_constraints": [{"selector": {"attribute_name": "rack"}, "predicate": {"text_matches": {"regex": "("}}}]}]}}}}));
        }),
        dialogue("subscribe/constraints-hold", "Only agents that fit the constraints are offered.", |s| {
            let fit = |predicate: Value| {
                json!({"framework_info": info(json!({})), "offer_constraints": {"role_constraints": {"recorded": {"groups": [
                    {"attribute_constraints": [{"selector": {"attribute_name": "rack"}, "predicate": predicate}]}]}}}})
            };
            s.subscribe_with("none", fit(json!({"text_equals": {"value": "r9"}})));
            s.quiet("none", 1_500).close("none").pause(200);
            s.subscribe_with("all", fit(json!({"text_matches": {"regex": "r[0-9]"}})));
            s.offers("all", 2);
        }),
    ]
}
