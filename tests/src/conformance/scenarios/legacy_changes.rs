//! The endpoints before v1 that change something.

use serde_json::{Value, json};

use crate::conformance::builder::{dialogue, info, plain, reaching, scalar};
use crate::conformance::dialogue::{Dialogue, Reach, Request, View};

fn form(path: &str, body: &str) -> Request {
    plain("POST", path).header("Content-Type", "application/x-www-form-urlencoded").body(body)
}

fn put(path: &str, json: Value) -> Request {
    Request { json: Some(json), ..plain("PUT", path).header("Content-Type", "application/json") }
}

fn post(path: &str, json: Value) -> Request {
    Request { json: Some(json), ..plain("POST", path).header("Content-Type", "application/json") }
}

/// JSON as a form carries it.
fn encoded(json: &Value) -> String {
    let text = json.to_string();
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

pub(super) fn scenarios() -> Vec<Dialogue> {
    let one = |name: &str, shows: &str, request: Request| {
        dialogue(&format!("legacy-changes/{name}"), shows, |s| {
            s.look(plain("GET", "/slaves"), View::Exact, Some("/slaves/0/id")).ask(request);
        })
    };
    let mut cpus = scalar("cpus", 1.0);
    cpus["reservations"] = json!([{"type": "DYNAMIC", "role": "operated"}]);
    let some = encoded(&json!([cpus]));
    let mut all = vec![
        one("teardown-nothing", "/teardown without a framework.", form("/teardown", "")),
        one(
            "teardown-unknown",
            "/teardown of a framework nobody knows.",
            form("/master/teardown", "frameworkId=nobody"),
        ),
        one("reserve-no-agent", "/reserve without an agent.", form("/reserve", "resources=[]")),
        one("reserve-no-resources", "/reserve without resources.", form("/reserve", "slaveId=${agent.1}")),
        one(
            "reserve-unknown-agent",
            "/reserve on an agent nobody knows.",
            form("/reserve", &format!("slaveId=nowhere&resources={some}")),
        ),
        one(
            "reserve-bad-json",
            "/reserve with resources that are no JSON.",
            form("/reserve", "slaveId=${agent.1}&resources=x"),
        ),
        one("unreserve-no-resources", "/unreserve without resources.", form("/unreserve", "slaveId=${agent.1}")),
        one(
            "create-volumes-no-volumes",
            "/create-volumes without volumes.",
            form("/create-volumes", "slaveId=${agent.1}"),
        ),
        one(
            "destroy-volumes-no-volumes",
            "/destroy-volumes without volumes.",
            form("/destroy-volumes", "slaveId=${agent.1}"),
        ),
        one("weights-bad-json", "PUT /weights with no JSON.", put("/weights", json!({})).body("x")),
        one("weights-object", "PUT /weights with no list.", put("/weights", json!({}))),
        one(
            "weights-zero",
            "PUT /weights with a weight of zero.",
            put("/weights", json!([{"role": "operated", "weight": 0.0}])),
        ),
        one("quota-bad-json", "POST /quota with no JSON.", post("/quota", json!({})).body("x")),
        one(
            "quota-no-role",
            "POST /quota without a role.",
            post("/quota", json!({"guarantee": [scalar("cpus", 1.0)]})),
        ),
        one("quota-delete-none", "DELETE /quota of a role without.", plain("DELETE", "/quota/operated")),
        one("quota-delete-no-role", "DELETE /quota of no role.", plain("DELETE", "/quota")),
        one("machine-down-bad-json", "/machine/down with no JSON.", post("/machine/down", json!([])).body("x")),
        one("machine-down-empty", "/machine/down of nothing.", post("/machine/down", json!([]))),
        one(
            "machine-up-unknown",
            "/machine/up of a machine nobody knows.",
            post("/machine/up", json!([{"hostname": "m.example", "ip": "10.9.0.1"}])),
        ),
        one(
            "schedule-bad-json",
            "/maintenance/schedule with no JSON.",
            post("/maintenance/schedule", json!({})).body("x"),
        ),
        reaching(Reach::Fresh, "legacy-changes/weights", "PUT /weights, and back.", |s| {
            s.ask(put("/weights", json!([{"role": "operated", "weight": 2.0}])))
                .get("/weights", View::Exact)
                .get("/roles", View::Exact);
            s.ask(put("/weights", json!([{"role": "operated", "weight": 1.0}]))).get("/weights", View::Exact);
        }),
        reaching(Reach::Cluster, "legacy-changes/quota", "POST /quota, and DELETE.", |s| {
            s.ask(post("/quota", json!({"role": "operated", "guarantee": [scalar("cpus", 1.0), scalar("mem", 64.0)]})));
            s.get("/quota", View::Exact).get("/roles", View::Exact);
            s.ask(post("/quota", json!({"role": "operated", "guarantee": [scalar("cpus", 2.0)]})));
            s.ask(plain("DELETE", "/quota/operated")).get("/quota", View::Exact);
        }),
        reaching(Reach::Cluster, "legacy-changes/reserve", "/reserve, and /unreserve.", |s| {
            s.look(plain("GET", "/slaves"), View::Exact, Some("/slaves/0/id"));
            s.ask(form("/reserve", &format!("slaveId=${{agent.1}}&resources={some}")));
            s.eventually(
                plain("GET", "/slaves?slave_id=${agent.1}"),
                View::Exact,
                Some("/slaves/0/reserved_resources"),
            );
            s.ask(form("/unreserve", &format!("slaveId=${{agent.1}}&resources={some}")));
            s.eventually(
                plain("GET", "/slaves?slave_id=${agent.1}"),
                View::Exact,
                Some("/slaves/0/reserved_resources"),
            );
        }),
        dialogue("legacy-changes/teardown", "/teardown ends a framework.", |s| {
            s.subscribe_quietly("f", &info(json!({})));
            s.ask(form("/teardown", "frameworkId=${framework.1}")).end("f");
        }),
    ];
    for path in ["teardown", "reserve", "unreserve", "create-volumes", "destroy-volumes", "machine/down", "machine/up"]
    {
        let name = format!("get-{}", path.replace('/', "-"));
        all.push(one(&name, &format!("/{path} takes POST."), plain("GET", &format!("/{path}"))));
    }
    all
}
