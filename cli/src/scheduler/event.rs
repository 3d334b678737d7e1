//! Scheduler events as they come off the wire.

use anyhow::{Context, Result};
use api::mesos::{Event, MasterInfo, Offer, TaskStatus, Value};
use api::{AgentId, ExecutorId, FrameworkId, OfferId};
use serde::Deserialize;

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "type")]
    kind: String,
    subscribed: Option<Subscribed>,
    offers: Option<Offers>,
    rescind: Option<Rescind>,
    update: Option<Update>,
    message: Option<Message>,
    failure: Option<Failure>,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Subscribed {
    framework_id: Value<FrameworkId>,
    #[serde(default = "default_heartbeat")]
    heartbeat_interval_seconds: f64,
    #[serde(default)]
    master_info: MasterInfo,
}

const fn default_heartbeat() -> f64 {
    15.0
}

#[derive(Deserialize)]
struct Offers {
    #[serde(default)]
    offers: Vec<Offer>,
}

#[derive(Deserialize)]
struct Rescind {
    offer_id: Value<OfferId>,
}

#[derive(Deserialize)]
struct Update {
    status: TaskStatus,
}

#[derive(Deserialize)]
struct Message {
    agent_id: Value<AgentId>,
    executor_id: Value<ExecutorId>,
    data: String,
}

#[derive(Deserialize)]
struct Failure {
    agent_id: Value<AgentId>,
    executor_id: Option<Value<ExecutorId>>,
    status: Option<i32>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    message: String,
}

/// One record; `None` for a kind of event this client does not know.
pub(super) fn parse(record: &[u8]) -> Result<Option<Event>> {
    let wire: Wire = serde_json::from_slice(record).context("an event is not what Mesos sends")?;
    let lacking = || format!("a {} event lacks its member", wire.kind);
    let event = match wire.kind.as_str() {
        "SUBSCRIBED" => {
            let body = wire.subscribed.with_context(lacking)?;
            Event::Subscribed {
                framework_id: body.framework_id.value,
                heartbeat_interval_seconds: body.heartbeat_interval_seconds,
                master_info: Box::new(body.master_info),
            }
        }
        "OFFERS" => Event::Offers(wire.offers.with_context(lacking)?.offers),
        "RESCIND" => Event::Rescind(wire.rescind.with_context(lacking)?.offer_id.value),
        "UPDATE" => Event::Update(Box::new(wire.update.with_context(lacking)?.status)),
        "MESSAGE" => {
            let body = wire.message.with_context(lacking)?;
            Event::Message { agent_id: body.agent_id.value, executor_id: body.executor_id.value, data: body.data }
        }
        "FAILURE" => {
            let body = wire.failure.with_context(lacking)?;
            let executor = body.executor_id.map(|id| (id.value, body.status.unwrap_or(-1)));
            Event::Failure { agent_id: body.agent_id.value, executor }
        }
        "ERROR" => Event::Error(wire.error.with_context(lacking)?.message),
        "HEARTBEAT" => Event::Heartbeat,
        _ => return Ok(None),
    };
    Ok(Some(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_master_writes_is_what_we_read() {
        let events = [
            Event::Subscribed {
                framework_id: "f".into(),
                heartbeat_interval_seconds: 15.0,
                master_info: Box::new(MasterInfo::default()),
            },
            Event::Offers(vec![Offer::default()]),
            Event::Rescind("o".into()),
            Event::Update(Box::new(TaskStatus::new("t".into(), api::TaskState::Running))),
            Event::Message { agent_id: "a".into(), executor_id: "e".into(), data: "aGk=".into() },
            Event::Failure { agent_id: "a".into(), executor: None },
            Event::Failure { agent_id: "a".into(), executor: Some(("e".into(), 9)) },
            Event::Error("no".into()),
            Event::Heartbeat,
        ];
        for event in events {
            assert_eq!(parse(&serde_json::to_vec(&event).unwrap()).unwrap(), Some(event));
        }
    }

    #[test]
    fn unknown_kinds_are_passed_over_and_broken_ones_are_not() {
        assert_eq!(parse(br#"{"type":"INVERSE_OFFERS","inverse_offers":{}}"#).unwrap(), None);
        for bad in [&b"{}"[..], br#"{"type":"UPDATE"}"#, br#"{"type":"RESCIND","rescind":{}}"#, b"HEARTBEAT"] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
