//! Scheduler events as they come off the wire.

use anyhow::{Context, Result};
use api::v1::scheduler::{self, event};
use api::v1::{ContentType, Offer, TaskStatus};
use api::{AgentId, ExecutorId, FrameworkId};

/// What a scheduler is told, each kind with what it needs of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// The first event of a stream.
    Subscribed { framework_id: FrameworkId, heartbeat_interval_seconds: f64 },
    /// New offers.
    Offers(Vec<Offer>),
    /// An offer is no longer valid.
    Rescind,
    /// A task's state.
    Update(Box<TaskStatus>),
    /// Bytes from an executor.
    Message,
    /// An agent is lost, or (with `executor`) an executor ended.
    Failure { agent_id: AgentId, executor: Option<ExecutorId> },
    /// Unrecoverable; the stream closes.
    Error(String),
    /// Still there.
    Heartbeat,
}

impl Event {
    /// The type's name on the wire.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Subscribed { .. } => "SUBSCRIBED",
            Self::Offers(_) => "OFFERS",
            Self::Rescind => "RESCIND",
            Self::Update(_) => "UPDATE",
            Self::Message => "MESSAGE",
            Self::Failure { .. } => "FAILURE",
            Self::Error(_) => "ERROR",
            Self::Heartbeat => "HEARTBEAT",
        }
    }
}

/// What Mesos's heartbeats come at unless it says otherwise.
const DEFAULT_HEARTBEAT_SECONDS: f64 = 15.0;

/// One record; `None` for a kind of event this client does not know.
pub(super) fn parse(record: &[u8]) -> Result<Option<Event>> {
    let wire: scheduler::Event = ContentType::Json.decode(record).context("an event is not what Mesos sends")?;
    let kind = wire.r#type();
    let lacking = || format!("a {} event lacks its member", kind.as_str_name());
    let event = match kind {
        event::Type::Subscribed => {
            let body = wire.subscribed.with_context(lacking)?;
            Event::Subscribed {
                framework_id: body.framework_id,
                heartbeat_interval_seconds: body.heartbeat_interval_seconds.unwrap_or(DEFAULT_HEARTBEAT_SECONDS),
            }
        }
        event::Type::Offers => Event::Offers(wire.offers.with_context(lacking)?.offers),
        event::Type::Rescind => {
            wire.rescind.with_context(lacking)?;
            Event::Rescind
        }
        event::Type::Update => Event::Update(Box::new(wire.update.with_context(lacking)?.status)),
        event::Type::Message => {
            wire.message.with_context(lacking)?;
            Event::Message
        }
        event::Type::Failure => {
            let body = wire.failure.with_context(lacking)?;
            Event::Failure { agent_id: body.agent_id.unwrap_or_default(), executor: body.executor_id }
        }
        event::Type::Error => Event::Error(wire.error.with_context(lacking)?.message),
        event::Type::Heartbeat => Event::Heartbeat,
        event::Type::Unknown
        | event::Type::InverseOffers
        | event::Type::RescindInverseOffer
        | event::Type::UpdateOperationStatus => return Ok(None),
    };
    Ok(Some(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_master_writes_is_what_we_read() {
        let status = TaskStatus::new("t".into(), api::TaskState::Running);
        let written = [
            scheduler::Event::new_subscribed("f".into(), 15.0, api::v1::MasterInfo::default()),
            scheduler::Event::new_offers(vec![Offer::default()]),
            scheduler::Event::new_rescind("o".into()),
            scheduler::Event::new_update(status.clone()),
            scheduler::Event::new_message("a".into(), "e".into(), b"hi".to_vec()),
            scheduler::Event::new_failure("a".into(), None),
            scheduler::Event::new_failure("a".into(), Some(("e".into(), 9))),
            scheduler::Event::new_error("no"),
            scheduler::Event::new_heartbeat(),
        ];
        let read = [
            Event::Subscribed { framework_id: "f".into(), heartbeat_interval_seconds: 15.0 },
            Event::Offers(vec![Offer::default()]),
            Event::Rescind,
            Event::Update(Box::new(status)),
            Event::Message,
            Event::Failure { agent_id: "a".into(), executor: None },
            Event::Failure { agent_id: "a".into(), executor: Some("e".into()) },
            Event::Error("no".into()),
            Event::Heartbeat,
        ];
        for (written, read) in written.iter().zip(read) {
            assert_eq!(parse(&ContentType::Json.encode(written)).unwrap(), Some(read));
        }
    }

    #[test]
    fn unknown_kinds_are_passed_over_and_broken_ones_are_not() {
        for unknown in [&br#"{"type":"INVERSE_OFFERS","inverse_offers":{}}"#[..], br#"{"type":"NEWS"}"#, b"{}"] {
            assert_eq!(parse(unknown).unwrap(), None);
        }
        for bad in [&br#"{"type":"UPDATE"}"#[..], br#"{"type":"RESCIND","rescind":{}}"#, b"HEARTBEAT", b"[]"] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
