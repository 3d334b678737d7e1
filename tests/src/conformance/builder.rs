//! Writes dialogues: the requests of a scheduler or an operator in as few words as they have.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::dialogue::{Answer, Dialogue, Reach, Request, Step, View};

/// A framework as its requests name it.
#[derive(Clone, Debug)]
pub struct Framework {
    /// The label of its stream.
    pub label: String,
    /// `${framework.1}`.
    pub id: String,
    /// `${stream.1}`.
    pub stream: String,
    /// Whether it speaks protobuf.
    pub protobuf: bool,
}

/// A dialogue being written.
#[derive(Debug)]
pub struct Script {
    dialogue: Dialogue,
    frameworks: usize,
    streams: usize,
}

/// Writes a dialogue.
#[must_use]
pub fn dialogue(name: &str, shows: &str, write: impl FnOnce(&mut Script)) -> Dialogue {
    reaching(Reach::Own, name, shows, write)
}

/// Writes a dialogue that touches more than its own frameworks.
#[must_use]
pub fn reaching(reach: Reach, name: &str, shows: &str, write: impl FnOnce(&mut Script)) -> Dialogue {
    let dialogue =
        Dialogue { name: name.into(), shows: shows.into(), seen_on: String::new(), reach, steps: Vec::new() };
    let mut script = Script { dialogue, frameworks: 0, streams: 0 };
    write(&mut script);
    script.dialogue
}

/// `over` laid over `base`: objects are merged, null takes a key away, all else replaces.
#[must_use]
pub fn with(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    let below = base.remove(&key).unwrap_or(Value::Null);
                    base.insert(key, with(below, value));
                }
            }
            Value::Object(base)
        }
        (_, over) => over,
    }
}

/// A framework of role `recorded` with the capability of several.
#[must_use]
pub fn info(over: Value) -> Value {
    let base =
        json!({"user": "root", "name": "recorded", "roles": ["recorded"], "capabilities": [{"type": "MULTI_ROLE"}]});
    with(base, over)
}

/// A resource as a task asks for it.
#[must_use]
pub fn scalar(name: &str, value: f64) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": value}})
}

/// A task on the first agent that ends at once.
#[must_use]
pub fn task(id: &str, over: Value) -> Value {
    let base = json!({
        "name": id, "task_id": {"value": id}, "agent_id": {"value": "${agent.1}"},
        "command": {"value": "exit 0"}, "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)]
    });
    with(base, over)
}

/// The operation that launches tasks.
#[must_use]
pub fn launch(tasks: &[Value]) -> Value {
    json!({"type": "LAUNCH", "launch": {"task_infos": tasks}})
}

/// A call as JSON: the member named after the type is left out if `body` is null.
#[must_use]
pub fn call(kind: &str, framework: &str, body: &Value) -> Value {
    let mut call = json!({"type": kind, "framework_id": {"value": framework}});
    if !body.is_null() {
        call[kind.to_lowercase()] = body.clone();
    }
    call
}

fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A request of the scheduler API in JSON, without a stream id.
#[must_use]
pub fn scheduler(json: Value) -> Request {
    Request {
        method: "POST".into(),
        path: "/api/v1/scheduler".into(),
        headers: headers(&[("Content-Type", "application/json"), ("Accept", "application/json")]),
        json: Some(json),
        ..Request::default()
    }
}

/// A request of the operator API in JSON.
#[must_use]
pub fn operator(json: Value) -> Request {
    Request { path: "/api/v1".into(), ..scheduler(json) }
}

/// The same request, its body and its answer in protobuf.
#[must_use]
pub fn in_protobuf(mut request: Request, message: &str, answer: &str) -> Request {
    request.headers = headers(&[("Content-Type", "application/x-protobuf"), ("Accept", "application/x-protobuf")]);
    request.message = Some(message.into());
    request.answer = Some(answer.into());
    request
}

/// A request without a body.
#[must_use]
pub fn plain(method: &str, path: &str) -> Request {
    Request { method: method.into(), path: path.into(), ..Request::default() }
}

impl Request {
    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Without that header.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// With this text as its body.
    #[must_use]
    pub fn body(mut self, text: &str) -> Self {
        self.json = None;
        self.text = Some(text.into());
        self
    }

    /// To another path.
    #[must_use]
    pub fn at(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    /// With another method.
    #[must_use]
    pub fn by(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }
}

impl Script {
    /// A request whose whole answer counts.
    pub fn ask(&mut self, request: Request) -> &mut Self {
        self.look(request, View::Exact, None)
    }

    /// A request of whose answer a view counts, and of its body perhaps only a part.
    pub fn look(&mut self, request: Request, view: View, part: Option<&str>) -> &mut Self {
        let part = part.map(str::to_owned);
        self.step(Step::Ask { request, view, part, eventually: false, expect: Answer::default() })
    }

    /// A request whose answer may take a moment to become what it is.
    pub fn eventually(&mut self, request: Request, view: View, part: Option<&str>) -> &mut Self {
        let part = part.map(str::to_owned);
        self.step(Step::Ask { request, view, part, eventually: true, expect: Answer::default() })
    }

    /// GET of a legacy endpoint.
    pub fn get(&mut self, path: &str, view: View) -> &mut Self {
        self.look(plain("GET", path), view, None)
    }

    /// An operator's call.
    pub fn operate(&mut self, json: Value) -> &mut Self {
        self.ask(operator(json))
    }

    /// Any step.
    pub fn step(&mut self, step: Step) -> &mut Self {
        self.dialogue.steps.push(step);
        self
    }

    /// Opens a stream.
    pub fn open(&mut self, label: &str, request: Request) -> &mut Self {
        self.streams += 1;
        self.step(Step::Open { stream: label.into(), request, expect: Answer::default() })
    }

    /// Subscribes a new framework and takes its SUBSCRIBED.
    pub fn subscribe(&mut self, label: &str, info: &Value) -> Framework {
        self.subscribe_with(label, json!({"framework_info": info}))
    }

    /// Subscribes a framework whose roles get no offers.
    pub fn subscribe_quietly(&mut self, label: &str, info: &Value) -> Framework {
        self.subscribe_with(label, json!({"framework_info": info, "suppressed_roles": info["roles"]}))
    }

    /// Subscribes a new framework with all of the call's member.
    pub fn subscribe_with(&mut self, label: &str, subscribe: Value) -> Framework {
        self.open(label, scheduler(json!({"type": "SUBSCRIBE", "subscribe": subscribe})));
        self.event(label);
        self.frameworks += 1;
        self.framework(label)
    }

    /// Subscribes a new framework in protobuf.
    pub fn subscribe_in_protobuf(&mut self, label: &str, info: &Value) -> Framework {
        let request = scheduler(json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}));
        self.open(label, in_protobuf(request, "scheduler.Call", "scheduler.Event"));
        self.event(label);
        self.frameworks += 1;
        Framework { protobuf: true, ..self.framework(label) }
    }

    /// Subscribes the framework `known` again, on a new stream.
    pub fn subscribe_again(&mut self, label: &str, known: &Framework, info: Value) -> Framework {
        let info = with(info, json!({"id": {"value": known.id}}));
        let json =
            json!({"type": "SUBSCRIBE", "framework_id": {"value": known.id}, "subscribe": {"framework_info": info}});
        self.open(label, scheduler(json));
        self.event(label);
        Framework { id: known.id.clone(), ..self.framework(label) }
    }

    /// A subscription that is answered by an ERROR event and the end of the stream.
    pub fn refused(&mut self, info: Value) -> &mut Self {
        self.refused_with(json!({"framework_info": info}))
    }

    /// As [`refused`](Self::refused), with all of the call's member.
    pub fn refused_with(&mut self, subscribe: Value) -> &mut Self {
        let id = subscribe["framework_info"].get("id").cloned();
        let mut json = json!({"type": "SUBSCRIBE", "subscribe": subscribe});
        if let Some(id) = id {
            json["framework_id"] = id;
        }
        let label = format!("refused-{}", self.streams);
        self.open(&label, scheduler(json));
        self.event(&label).end(&label)
    }

    fn framework(&self, label: &str) -> Framework {
        Framework {
            label: label.into(),
            id: format!("${{framework.{}}}", self.frameworks),
            stream: format!("${{stream.{}}}", self.streams),
            protobuf: false,
        }
    }

    /// A call of a subscribed framework.
    pub fn call(&mut self, framework: &Framework, kind: &str, body: Value) -> &mut Self {
        let request = scheduler(call(kind, &framework.id, &body));
        let request =
            if framework.protobuf { in_protobuf(request, "scheduler.Call", "scheduler.Response") } else { request };
        self.ask(request.header("Mesos-Stream-Id", &framework.stream))
    }

    /// Accepts offers with operations.
    pub fn accept(&mut self, framework: &Framework, offers: &[&str], operations: &[Value]) -> &mut Self {
        let ids: Vec<Value> = offers.iter().map(|id| json!({"value": id})).collect();
        self.call(
            framework,
            "ACCEPT",
            json!({"offer_ids": ids, "operations": operations, "filters": {"refuse_seconds": 600.0}}),
        )
    }

    /// Declines offers for that long.
    pub fn decline(&mut self, framework: &Framework, offers: &[&str], refuse_seconds: f64) -> &mut Self {
        let ids: Vec<Value> = offers.iter().map(|id| json!({"value": id})).collect();
        self.call(framework, "DECLINE", json!({"offer_ids": ids, "filters": {"refuse_seconds": refuse_seconds}}))
    }

    /// Acknowledges the n-th update that carried a uuid.
    pub fn acknowledge(&mut self, framework: &Framework, task: &str, update: usize) -> &mut Self {
        self.call(
            framework,
            "ACKNOWLEDGE",
            json!({"agent_id": {"value": "${agent.1}"}, "task_id": {"value": task}, "uuid": format!("${{update.{update}}}")}),
        )
    }

    /// The next event, heartbeats apart.
    pub fn event(&mut self, label: &str) -> &mut Self {
        self.event_but(label, &["HEARTBEAT"])
    }

    /// The next event that is neither heartbeat nor offer.
    pub fn update(&mut self, label: &str) -> &mut Self {
        self.event_but(label, &["HEARTBEAT", "OFFERS"])
    }

    /// The next event of another type than these.
    pub fn event_but(&mut self, label: &str, skip: &[&str]) -> &mut Self {
        let skip = skip.iter().map(|kind| (*kind).to_owned()).collect();
        self.step(Step::Event { stream: label.into(), skip, view: View::Exact, expect: Value::Null })
    }

    /// The shape of the next event, heartbeats apart.
    pub fn event_shape(&mut self, label: &str) -> &mut Self {
        let skip = vec!["HEARTBEAT".to_owned()];
        self.step(Step::Event { stream: label.into(), skip, view: View::Shape, expect: Value::Null })
    }

    /// So many events in any order, heartbeats and offers apart.
    pub fn events(&mut self, label: &str, count: usize) -> &mut Self {
        let skip = vec!["HEARTBEAT".to_owned(), "OFFERS".to_owned()];
        self.step(Step::Events { stream: label.into(), count, skip, expect: Value::Null })
    }

    /// So many offers: one of each agent.
    pub fn offers(&mut self, label: &str, count: usize) -> &mut Self {
        self.step(Step::Offers { stream: label.into(), count, expect: Value::Null })
    }

    /// No event but heartbeats for a while.
    pub fn quiet(&mut self, label: &str, millis: u64) -> &mut Self {
        let skip = vec!["HEARTBEAT".to_owned()];
        self.step(Step::Quiet { stream: label.into(), millis, skip, expect: Value::Null })
    }

    /// No event but heartbeats and offers for a while.
    pub fn no_update(&mut self, label: &str, millis: u64) -> &mut Self {
        let skip = vec!["HEARTBEAT".to_owned(), "OFFERS".to_owned()];
        self.step(Step::Quiet { stream: label.into(), millis, skip, expect: Value::Null })
    }

    /// The master ends the stream.
    pub fn end(&mut self, label: &str) -> &mut Self {
        self.step(Step::End { stream: label.into(), expect: Value::Null })
    }

    /// The client ends it.
    pub fn close(&mut self, label: &str) -> &mut Self {
        self.step(Step::Close { stream: label.into() })
    }

    /// Waits.
    pub fn pause(&mut self, millis: u64) -> &mut Self {
        self.step(Step::Pause { millis })
    }
}
