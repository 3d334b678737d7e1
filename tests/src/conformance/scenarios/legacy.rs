//! The endpoints before v1, read only: at the root and below `/master`.

use serde_json::json;

use crate::conformance::builder::{dialogue, info, launch, plain, reaching, task};
use crate::conformance::dialogue::{Dialogue, Reach, View};

pub(super) fn scenarios() -> Vec<Dialogue> {
    let mut all = Vec::new();
    for (path, view) in [
        ("state", View::Shape),
        ("state-summary", View::Shape),
        ("slaves", View::Exact),
        ("frameworks", View::Exact),
        ("tasks", View::Exact),
        ("roles", View::Exact),
        ("weights", View::Exact),
        ("quota", View::Exact),
        ("flags", View::Shape),
        ("health", View::Exact),
        ("maintenance/status", View::Exact),
        ("maintenance/schedule", View::Exact),
        ("redirect", View::Exact),
    ] {
        let name = path.replace('/', "-");
        all.push(dialogue(
            &format!("legacy/{name}"),
            &format!("/{path} and /master/{path} of an idle cluster."),
            |s| {
                s.get(&format!("/{path}"), view).get(&format!("/master/{path}"), view);
            },
        ));
        if path != "redirect" && path != "health" {
            all.push(dialogue(&format!("legacy/{name}-jsonp"), &format!("/{path} for a script tag."), |s| {
                s.get(&format!("/{path}?jsonp=callback"), view);
            }));
        }
        all.push(dialogue(&format!("legacy/{name}-post"), &format!("/{path} by POST and by DELETE."), |s| {
            s.look(plain("POST", &format!("/{path}")), view, None).look(
                plain("DELETE", &format!("/{path}")),
                view,
                None,
            );
        }));
    }
    for (path, view) in
        [("state", View::Shape), ("state-summary", View::Shape), ("roles", View::Exact), ("slaves", View::Exact)]
    {
        all.push(dialogue(
            &format!("legacy-busy/{path}"),
            &format!("/{path} with a framework, an offer and a task."),
            |s| {
                let f = s.subscribe("f", &info(json!({})));
                s.offers("f", 2).accept(
                    &f,
                    &["${offer.1}"],
                    &[launch(&[task("t", json!({"command": {"value": "sleep 60"}}))])],
                );
                s.update("f").acknowledge(&f, "t", 1).update("f").acknowledge(&f, "t", 2);
                s.eventually(plain("GET", &format!("/{path}")), view, None);
            },
        ));
    }
    all.extend(vec![
        dialogue("legacy-busy/state-completed", "/state with a framework that is over.", |s| {
            let f = s.subscribe("f", &info(json!({})));
            s.offers("f", 2).accept(&f, &["${offer.1}"], &[launch(&[task("t", json!({}))])]);
            s.update("f")
                .acknowledge(&f, "t", 1)
                .update("f")
                .acknowledge(&f, "t", 2)
                .update("f")
                .acknowledge(&f, "t", 3)
                .pause(500);
            s.call(&f, "TEARDOWN", serde_json::Value::Null).end("f");
            s.look(plain("GET", "/state"), View::Shape, Some("/completed_frameworks"));
        }),
        dialogue("legacy/version", "/version is three numbers.", |s| {
            s.get("/version", View::Exact)
                .get("/master/version", View::Exact)
                .get("/version?jsonp=callback", View::Exact);
        }),
        // Names come with what has happened: on a master where nothing has.
        reaching(Reach::Fresh, "legacy/metrics", "The names of the metrics.", |s| {
            s.pause(3_000).get("/metrics/snapshot", View::Shape);
        }),
        dialogue("legacy/metrics-timeout", "A timeout that is none.", |s| {
            s.get("/metrics/snapshot?timeout=soon", View::Exact).get("/metrics/snapshot?timeout=5secs", View::Head);
        }),
        dialogue("legacy/gzip", "Long answers are compressed when that is accepted.", |s| {
            s.look(plain("GET", "/state").header("Accept-Encoding", "gzip"), View::Head, None);
            s.look(plain("GET", "/flags").header("Accept-Encoding", "gzip"), View::Head, None);
            s.look(plain("GET", "/health").header("Accept-Encoding", "gzip"), View::Head, None);
        }),
        dialogue("legacy/gzip-not-wanted", "And not when it is not.", |s| {
            s.look(plain("GET", "/state"), View::Head, None);
            s.look(plain("GET", "/state").header("Accept-Encoding", "deflate"), View::Head, None);
        }),
        dialogue("legacy/not-found", "What is not there.", |s| {
            for path in [
                "/state.json",
                "/master/state.json",
                "/nothing",
                "/master/nothing",
                "/slaves.json",
                "/api/v2",
                "/metrics",
            ] {
                s.look(plain("GET", path), View::Head, None);
            }
        }),
        dialogue("legacy/trailing-slash", "A slash at the end.", |s| {
            s.get("/master/frameworks/", View::Head).get("/slaves/", View::Head);
        }),
        dialogue("legacy/slaves-query", "One agent of /slaves.", |s| {
            s.look(plain("GET", "/slaves"), View::Exact, Some("/slaves/0/id"));
            s.get("/slaves?slave_id=${agent.1}", View::Exact).get("/slaves?slave_id=nobody", View::Exact);
        }),
        dialogue("legacy/frameworks-query", "One framework of /frameworks.", |s| {
            s.subscribe_quietly(
                "f",
                &info(json!({"webui_url": "http://f.example", "hostname": "f.example", "principal": "p",
                "labels": {"labels": [{"key": "k", "value": "v"}]}, "failover_timeout": 5.0, "checkpoint": true})),
            );
            s.get("/frameworks?framework_id=${framework.1}", View::Exact)
                .get("/frameworks?framework_id=nobody", View::Exact);
        }),
        dialogue("legacy/frameworks-disconnected", "A framework that is away.", |s| {
            s.subscribe_quietly("f", &info(json!({"failover_timeout": 60.0})));
            s.close("f").pause(300).get("/frameworks?framework_id=${framework.1}", View::Exact);
        }),
        dialogue("legacy/frameworks-old-role", "A framework of one role.", |s| {
            s.subscribe("f", &info(json!({"roles": null, "capabilities": null})));
            s.offers("f", 2).get("/frameworks?framework_id=${framework.1}", View::Exact);
        }),
        dialogue("legacy/tasks-query", "Queries of /tasks that are none.", |s| {
            s.get("/tasks?limit=x", View::Exact)
                .get("/tasks?offset=-1", View::Exact)
                .get("/tasks?limit=0", View::Exact)
                .get("/tasks?order=x", View::Head);
        }),
        dialogue("legacy/files", "The files of the master.", |s| {
            s.get("/files/browse", View::Exact).get("/files/browse?path=/nowhere", View::Exact);
            s.get("/files/read", View::Exact)
                .get("/files/read?path=/nowhere", View::Exact)
                .get("/files/read?path=/nowhere&offset=x", View::Exact);
            s.get("/files/download", View::Exact).get("/files/download?path=/nowhere", View::Exact);
        }),
        dialogue("legacy/logging-toggle", "The logging level over the old path.", |s| {
            s.get("/logging/toggle", View::Exact)
                .get("/logging/toggle?level=1", View::Exact)
                .get("/logging/toggle?level=x&duration=1secs", View::Exact);
        }),
        dialogue("legacy/redirect-path", "/redirect keeps what follows, at the prefixed path.", |s| {
            s.get("/redirect/state", View::Exact)
                .get("/master/redirect/state", View::Exact)
                .get("/master/redirect?a=b", View::Exact);
        }),
        dialogue("legacy/system-stats", "/system/stats.json of the machine.", |s| {
            s.get("/system/stats.json", View::Shape);
        }),
        dialogue("legacy/other-methods", "What is only read is read by any method.", |s| {
            s.look(plain("PUT", "/state"), View::Shape, None).ask(plain("POST", "/version"));
        }),
    ]);
    all
}
