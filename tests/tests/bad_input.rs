//! Malformed calls get Mesos's own status codes and messages, and leave the master as it was.
//!
//! Every text here is what Apache Mesos 1.11.0 answers, word for word; only the JSON parser's own words are cut off.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::bare_master::BareMaster;
use tests::framework::Framework;
use tests::http;

const SCHEDULER: &str = "/api/v1/scheduler";
const ANSWER: Duration = Duration::from_secs(10);
const JSON: &[(&str, &str)] = &[("Content-Type", "application/json"), ("Accept", "application/json")];

/// What it is called, headers, body; the status and how the text begins.
type Malformed<'a> = (&'a str, &'a [(&'a str, &'a str)], String, u16, &'a str);

/// An open master, and the directory it lives in.
struct Master {
    bare: BareMaster,
    _dir: tempfile::TempDir,
}

impl Master {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { bare: BareMaster::start(dir.path(), &["--advertise", "127.0.0.1"]).unwrap(), _dir: dir }
    }

    fn url(&self) -> &str {
        &self.bare.url
    }

    /// An answer that has no end (a stream, where an error was due) comes as a response with status 0.
    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> http::Response {
        http::request(method, &format!("{}{path}", self.url()), headers, body.map(str::as_bytes), ANSWER)
            .unwrap_or_else(|error| http::Response {
                status: 0,
                headers: Vec::new(),
                body: format!("{error:#}").into_bytes(),
            })
    }

    fn call(&self, body: &Value, headers: &[(&str, &str)]) -> http::Response {
        self.send("POST", SCHEDULER, headers, Some(&body.to_string()))
    }
}

/// A subscribed framework that lets us use its stream id for calls of our own making.
struct Subscribed {
    framework: Framework,
    stream: String,
}

fn subscribe(master: &Master, more: &Value) -> Subscribed {
    let framework = Framework::subscribe(master.url(), "bad input", more).unwrap();
    let stream = framework.stream_id().to_owned();
    Subscribed { framework, stream }
}

#[test]
fn malformed_requests_get_mesos_own_status_and_words() {
    let master = Master::start();
    let Subscribed { framework, stream } = subscribe(&master, &json!({}));
    let ours: &[(&str, &str)] = &[JSON[0], JSON[1], ("Mesos-Stream-Id", &stream)];
    let text: &[(&str, &str)] = &[("Content-Type", "text/plain")];
    let html: &[(&str, &str)] = &[JSON[0], ("Accept", "text/html")];
    let wrong: &[(&str, &str)] = &[JSON[0], JSON[1], ("Mesos-Stream-Id", "wrong")];
    let form: &[(&str, &str)] = &[("Content-Type", "application/x-www-form-urlencoded")];
    let of = |kind: &str, more: Value| {
        let mut call = json!({"type": kind, "framework_id": {"value": framework.id}});
        for (key, value) in more.as_object().unwrap() {
            call[key] = value.clone();
        }
        call.to_string()
    };
    let info = json!({"user": "root", "name": "x"});
    let subscribe_call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}).to_string();
    let two_ids = json!({"type": "SUBSCRIBE", "framework_id": {"value": "x"},
                         "subscribe": {"framework_info": {"user": "root", "name": "x", "id": {"value": "y"}}}});
    let acknowledge = |uuid: &str| {
        of("ACKNOWLEDGE", json!({"acknowledge": {"agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": uuid}}))
    };
    let wrong_stream = format!(
        "The stream ID 'wrong' included in this request didn't match the stream ID currently associated with framework ID {}",
        framework.id
    );
    let no_kill = "Failed to validate scheduler::Call: Expecting 'kill' to be present";
    let no_type = "Failed to validate scheduler::Call: Expecting 'type' to be present";
    let bad_json = "Failed to parse body into JSON: ";
    let requests: Vec<Malformed<'_>> = vec![
        ("no content type", &[], "{}".to_owned(), 400, "Expecting 'Content-Type' to be present"),
        (
            "plain text",
            text,
            "{}".to_owned(),
            415,
            "Expecting 'Content-Type' of application/json or application/x-protobuf",
        ),
        ("a cut object", JSON, "{".to_owned(), 400, bad_json),
        ("nothing", JSON, String::new(), 400, bad_json),
        ("bytes", JSON, "\u{0}\u{1}\u{fffd}".to_owned(), 400, bad_json),
        ("a list", JSON, "[]".to_owned(), 400, "Failed to convert JSON into Call protobuf: Expecting a JSON object"),
        ("an empty object", JSON, "{}".to_owned(), 400, no_type),
        ("an unknown type", JSON, r#"{"type":"FLY"}"#.to_owned(), 400, no_type),
        (
            "SUBSCRIBE alone",
            JSON,
            r#"{"type":"SUBSCRIBE"}"#.to_owned(),
            400,
            "Failed to validate scheduler::Call: Expecting 'subscribe' to be present",
        ),
        (
            "SUBSCRIBE without its framework",
            JSON,
            r#"{"type":"SUBSCRIBE","subscribe":{}}"#.to_owned(),
            400,
            "Failed to convert JSON into Call protobuf: Missing required fields: subscribe.framework_info",
        ),
        (
            "SUBSCRIBE with two ids",
            JSON,
            two_ids.to_string(),
            400,
            "Failed to validate scheduler::Call: 'framework_id' differs from 'subscribe.framework_info.id'",
        ),
        (
            "SUBSCRIBE with a stream id",
            ours,
            subscribe_call.clone(),
            400,
            "Subscribe calls should not include the 'Mesos-Stream-Id' header",
        ),
        (
            "SUBSCRIBE that accepts only HTML",
            html,
            subscribe_call,
            406,
            "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
        ),
        (
            "DECLINE of nobody",
            ours,
            r#"{"type":"DECLINE","decline":{"offer_ids":[]}}"#.to_owned(),
            400,
            "Failed to validate scheduler::Call: Expecting 'framework_id' to be present",
        ),
        (
            "a stranger",
            ours,
            r#"{"type":"REVIVE","framework_id":{"value":"nope"}}"#.to_owned(),
            400,
            "Framework cannot be found",
        ),
        (
            "no stream id",
            JSON,
            of("REVIVE", json!({})),
            400,
            "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
        ),
        ("another stream's id", wrong, of("REVIVE", json!({})), 400, &wrong_stream),
        ("KILL alone", ours, of("KILL", json!({})), 400, no_kill),
        (
            "KILL of nothing",
            ours,
            of("KILL", json!({"kill": {}})),
            400,
            "Failed to convert JSON into Call protobuf: Missing required fields: kill.task_id",
        ),
        (
            "KILL of a string",
            ours,
            of("KILL", json!({"kill": {"task_id": "t"}})),
            400,
            "Failed to convert JSON into Call protobuf: ",
        ),
        (
            "ACKNOWLEDGE of three bytes",
            ours,
            acknowledge("AAAA"),
            400,
            "Failed to validate scheduler::Call: Not a valid UUID",
        ),
        ("ACKNOWLEDGE of no base64", ours, acknowledge("??"), 400, "Failed to "),
        (
            "ACCEPT alone",
            ours,
            of("ACCEPT", json!({})),
            400,
            "Failed to validate scheduler::Call: Expecting 'accept' to be present",
        ),
        (
            "DECLINE alone",
            ours,
            of("DECLINE", json!({})),
            400,
            "Failed to validate scheduler::Call: Expecting 'decline' to be present",
        ),
        (
            "RECONCILE alone",
            ours,
            of("RECONCILE", json!({})),
            400,
            "Failed to validate scheduler::Call: Expecting 'reconcile' to be present",
        ),
    ];
    let mut wrong_answers = Vec::new();
    for (name, headers, body, status, text) in &requests {
        let answer = master.send("POST", SCHEDULER, headers, Some(body));
        if answer.status != *status || !answer.text().starts_with(text) {
            wrong_answers.push(format!("{name}: {} {:?} instead of {status} {text:?}", answer.status, answer.text()));
        }
    }
    let get = master.send("GET", SCHEDULER, &[], None);
    if get.status != 405
        || get.header("allow") != Some("POST")
        || !get.text().ends_with("Expecting one of { 'POST' }, but received 'GET'.")
    {
        wrong_answers.push(format!("GET: {} {:?} {:?}", get.status, get.text(), get.headers));
    }
    for (path, body, status, text) in [
        ("/teardown", "frameworkId=nope", 400, "No framework found with specified ID"),
        ("/teardown", "", 400, "Missing 'frameworkId' query parameter in the request body"),
        ("/api/v2/scheduler", "{}", 404, ""),
    ] {
        let answer = master.send("POST", path, form, Some(body));
        if answer.status != status || !answer.text().starts_with(text) {
            wrong_answers.push(format!("{path} {body:?}: {} {:?}", answer.status, answer.text()));
        }
    }
    assert!(wrong_answers.is_empty(), "{} wrong answers:\n{}", wrong_answers.len(), wrong_answers.join("\n"));
    // Nothing of it touched the framework: its stream still takes calls.
    framework.call("REVIVE", &Value::Null).unwrap();
    assert_eq!(http::get(&format!("{}/health", master.url()), ANSWER).unwrap().status, 200);
    println!("{} malformed requests answered as Mesos answers them", requests.len() + 4);
}

#[test]
fn a_framework_that_cannot_be_is_refused_on_its_stream() {
    let mut wrong_answers = Vec::new();
    let master = Master::start();
    for (more, message) in [
        (json!({"roles": ["a"]}), "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"),
        (
            json!({"role": "a b"}),
            "'FrameworkInfo.role' is not a valid role: Role component 'a b' is invalid because it contains backspace or whitespace",
        ),
        (json!({"role": "/a"}), "'FrameworkInfo.role' is not a valid role: Role '/a' cannot start with a slash"),
        (
            json!({"roles": ["a", "a"], "capabilities": [{"type": "MULTI_ROLE"}]}),
            "'FrameworkInfo.roles' contains duplicate items: { a }",
        ),
        (
            json!({"role": "a", "capabilities": [{"type": "MULTI_ROLE"}]}),
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable",
        ),
    ] {
        let mut info = json!({"user": "root", "name": "x"});
        for (key, value) in more.as_object().unwrap() {
            info[key] = value.clone();
        }
        // A 200 with the error as its only event, and then the end.
        let answer = master.call(&json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}), JSON);
        let body = answer.text();
        let event =
            body.split_once('\n').and_then(|(_, event)| serde_json::from_str::<Value>(event).ok()).unwrap_or_default();
        if answer.status != 200 || event["type"] != "ERROR" || event["error"]["message"] != message {
            wrong_answers.push(format!("{more}: {} {body} instead of {message}", answer.status));
        }
    }
    assert!(wrong_answers.is_empty(), "{} wrong answers:\n{}", wrong_answers.len(), wrong_answers.join("\n"));
}

#[test]
fn a_framework_without_its_stream_is_not_subscribed() {
    let master = Master::start();
    let Subscribed { framework, stream } = subscribe(&master, &json!({"failover_timeout": 60}));
    let id = framework.id.clone();
    drop(framework);
    let headers: &[(&str, &str)] = &[JSON[0], JSON[1], ("Mesos-Stream-Id", &stream)];
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = master.call(&json!({"type": "REVIVE", "framework_id": {"value": id}}), headers);
        if answer.status == 403 {
            assert_eq!(answer.text(), "Framework is not subscribed");
            break;
        }
        assert!(Instant::now() < deadline, "a closed stream still counts: {} {}", answer.status, answer.text());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_newest_subscription_supersedes_the_one_before() {
    let master = Master::start();
    let Subscribed { framework: first, stream } = subscribe(&master, &json!({"failover_timeout": 60}));
    let id = json!({"value": first.id});
    let second = Framework::subscribe(master.url(), "bad input", &json!({"failover_timeout": 60, "id": id})).unwrap();
    assert_eq!(second.id, first.id);
    let error = first.wait("ERROR", ANSWER).unwrap();
    assert_eq!(error["error"]["message"], "Framework failed over");
    let headers: &[(&str, &str)] = &[JSON[0], JSON[1], ("Mesos-Stream-Id", &stream)];
    let answer = master.call(&json!({"type": "REVIVE", "framework_id": id}), headers);
    assert_eq!(answer.status, 400, "{}", answer.text());
    second.call("REVIVE", &Value::Null).unwrap();
}

#[test]
fn offers_that_never_were_lose_the_tasks_launched_on_them() {
    let master = Master::start();
    let Subscribed { framework, .. } = subscribe(&master, &json!({}));
    let task = json!({"name": "t", "task_id": {"value": "t1"}, "agent_id": {"value": "nowhere"}, "command": {"value": "true"},
                      "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}]});
    let accept = json!({"offer_ids": [{"value": "never-made"}], "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]});
    framework.call("ACCEPT", &accept).unwrap();
    let status = framework.wait("UPDATE", ANSWER).unwrap()["update"]["status"].clone();
    assert_eq!(
        (&status["state"], &status["reason"]),
        (&json!("TASK_LOST"), &json!("REASON_INVALID_OFFERS")),
        "{status}"
    );
    assert!(status["message"].as_str().unwrap().starts_with("Task launched with invalid offers: "), "{status}");
    assert!(status["uuid"].is_null(), "an update of the master's own needs no acknowledgement: {status}");
    // An unknown offer declined, an unknown task killed: the first is nothing, the second is a question about the task.
    framework.call("DECLINE", &json!({"offer_ids": [{"value": "never-made"}]})).unwrap();
    framework.call("KILL", &json!({"task_id": {"value": "nobody"}})).unwrap();
    let status = framework.wait("UPDATE", ANSWER).unwrap()["update"]["status"].clone();
    assert_eq!((&status["task_id"]["value"], &status["state"]), (&json!("nobody"), &json!("TASK_LOST")), "{status}");
}

#[test]
fn the_api_asks_who_you_are_unless_told_not_to() {
    let dir = tempfile::tempdir().unwrap();
    let master = BareMaster::start_guarded(dir.path(), &["--advertise", "127.0.0.1"]).unwrap();
    let refused = http::get(&format!("{}/state", master.url), ANSWER);
    // The port speaks TLS: plain HTTP gets no answer at all, or one that is no success.
    assert!(refused.as_ref().map_or(true, |answer| answer.status >= 400), "{refused:?}");
}
