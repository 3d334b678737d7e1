//! Scheduler events.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::framework::MasterInfo;
use super::{Offer, TaskStatus};
use crate::{AgentId, ExecutorId, FrameworkId, OfferId};

/// `mesos.v1.scheduler.Event`: what the master tells a framework.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first event of a stream.
    Subscribed {
        /// The id to come back with.
        framework_id: FrameworkId,
        /// How often to expect a heartbeat.
        heartbeat_interval_seconds: f64,
        /// Who answered.
        master_info: Box<MasterInfo>,
    },
    /// New offers.
    Offers(Vec<Offer>),
    /// An offer is no longer valid.
    Rescind(OfferId),
    /// A task's state.
    Update(Box<TaskStatus>),
    /// Bytes from an executor, in base64.
    Message {
        /// Where from.
        agent_id: AgentId,
        /// Whose.
        executor_id: ExecutorId,
        /// base64.
        data: String,
    },
    /// An agent is lost, or (with `executor_id`) an executor ended.
    Failure {
        /// Which agent.
        agent_id: AgentId,
        /// Which executor, and its raw wait status.
        executor: Option<(ExecutorId, i32)>,
    },
    /// Unrecoverable; the stream closes.
    Error(String),
    /// Still here.
    Heartbeat,
}

impl Event {
    /// The type's name on the wire.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Subscribed { .. } => "SUBSCRIBED",
            Self::Offers(_) => "OFFERS",
            Self::Rescind(_) => "RESCIND",
            Self::Update(_) => "UPDATE",
            Self::Message { .. } => "MESSAGE",
            Self::Failure { .. } => "FAILURE",
            Self::Error(_) => "ERROR",
            Self::Heartbeat => "HEARTBEAT",
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde_json::json;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.kind())?;
        match self {
            Self::Subscribed { framework_id, heartbeat_interval_seconds, master_info } => {
                #[derive(Serialize)]
                struct Body<'a> {
                    framework_id: super::Value<&'a FrameworkId>,
                    heartbeat_interval_seconds: f64,
                    master_info: &'a MasterInfo,
                }
                let framework_id = super::Value::new(framework_id);
                let body = Body { framework_id, heartbeat_interval_seconds: *heartbeat_interval_seconds, master_info };
                map.serialize_entry("subscribed", &body)?;
            }
            Self::Offers(offers) => {
                #[derive(Serialize)]
                struct Body<'a> {
                    offers: &'a [Offer],
                }
                map.serialize_entry("offers", &Body { offers })?;
            }
            Self::Rescind(offer) => map.serialize_entry("rescind", &json!({"offer_id": {"value": offer}}))?,
            Self::Update(status) => {
                #[derive(Serialize)]
                struct Body<'a> {
                    status: &'a TaskStatus,
                }
                map.serialize_entry("update", &Body { status })?;
            }
            Self::Message { agent_id, executor_id, data } => map.serialize_entry(
                "message",
                &json!({"agent_id": {"value": agent_id}, "executor_id": {"value": executor_id}, "data": data}),
            )?,
            Self::Failure { agent_id, executor: None } => {
                map.serialize_entry("failure", &json!({"agent_id": {"value": agent_id}}))?;
            }
            Self::Failure { agent_id, executor: Some((executor, status)) } => map.serialize_entry(
                "failure",
                &json!({"agent_id": {"value": agent_id}, "executor_id": {"value": executor}, "status": status}),
            )?,
            Self::Error(message) => map.serialize_entry("error", &json!({ "message": message }))?,
            Self::Heartbeat => {}
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::{Call, Filters};

    #[test]
    fn every_event_but_the_heartbeat_has_the_member_its_type_names() {
        let events = [
            Event::Offers(vec![]),
            Event::Rescind("O1".into()),
            Event::Update(Box::new(TaskStatus::new("t".into(), crate::TaskState::Running))),
            Event::Message { agent_id: "S0".into(), executor_id: "e".into(), data: "aGk=".into() },
            Event::Failure { agent_id: "S0".into(), executor: Some(("e".into(), 256)) },
            Event::Error("no".into()),
        ];
        for event in events {
            let json = serde_json::to_value(&event).unwrap();
            assert!(json.get(event.kind().to_lowercase()).is_some(), "{json}");
        }
        assert_eq!(serde_json::to_string(&Event::Heartbeat).unwrap(), r#"{"type":"HEARTBEAT"}"#);
    }

    #[test]
    fn calls_are_read_as_leniently_as_mesos_reads_them() {
        let call: Call = serde_json::from_str(
            r#"{"framework_id":{"value":"f"},"type":"ACCEPT","accept":{"offer_ids":{"value":"o"},"extra":1,
               "operations":[{"type":"LAUNCH","launch":{"task_infos":[{"name":"t","task_id":{"value":"1:5:1"},
               "agent_id":{"value":"s"},"command":{"value":"true","shell":"true"},"resources":null}]}}],
               "filters":{"refuse_seconds":"7"}}}"#,
        )
        .unwrap();
        let accept = call.accept.unwrap();
        assert_eq!(accept.filters, Some(Filters { refuse_seconds: Some(7.0) }));
        assert_eq!(accept.offer_ids.len(), 1);
        let task = &accept.operations[0].launch.as_ref().unwrap().task_infos[0];
        assert!(task.command.as_ref().unwrap().is_shell() && task.resources.is_empty());
    }
}
