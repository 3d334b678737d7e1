//! Task statuses and events: how they are made, and what prost's getters do not say.

use super::scheduler::{Event, event};
use super::{MasterInfo, Offer, Reason, Source, TaskStatus, TimeInfo};
use crate::{AgentId, ExecutorId, FrameworkId, OfferId, TaskId, TaskState};

impl TaskStatus {
    /// A status with nothing but the task and its state.
    #[must_use]
    pub fn new(task: TaskId, state: TaskState) -> Self {
        Self { task_id: task, state: state.into(), ..Self::default() }
    }

    /// The uuid's 16 bytes, or `None` when unset or not that.
    #[must_use]
    pub fn uuid_bytes(&self) -> Option<[u8; 16]> {
        self.uuid.as_deref()?.try_into().ok()
    }

    /// The reason, if one is given.
    #[must_use]
    pub fn given_reason(&self) -> Option<Reason> {
        Reason::try_from(self.reason?).ok()
    }

    /// The source, if one is given.
    #[must_use]
    pub fn given_source(&self) -> Option<Source> {
        Source::try_from(self.source?).ok()
    }
}

impl TimeInfo {
    /// From milliseconds since 1970.
    #[must_use]
    pub fn from_unix_ms(millis: u64) -> Self {
        Self { nanoseconds: i64::try_from(millis.saturating_mul(1_000_000)).unwrap_or(i64::MAX) }
    }
}

impl Event {
    fn of(kind: event::Type) -> Self {
        Self { r#type: Some(kind.into()), ..Self::default() }
    }

    /// The first event of a stream.
    #[must_use]
    pub fn new_subscribed(framework_id: FrameworkId, heartbeat_seconds: f64, master: MasterInfo) -> Self {
        let subscribed = event::Subscribed {
            framework_id,
            heartbeat_interval_seconds: Some(heartbeat_seconds),
            master_info: Some(master),
        };
        Self { subscribed: Some(Box::new(subscribed)), ..Self::of(event::Type::Subscribed) }
    }

    /// New offers.
    #[must_use]
    pub fn new_offers(offers: Vec<Offer>) -> Self {
        Self { offers: Some(Box::new(event::Offers { offers })), ..Self::of(event::Type::Offers) }
    }

    /// An offer is no longer valid.
    #[must_use]
    pub fn new_rescind(offer_id: OfferId) -> Self {
        Self { rescind: Some(Box::new(event::Rescind { offer_id })), ..Self::of(event::Type::Rescind) }
    }

    /// A task's state.
    #[must_use]
    pub fn new_update(status: TaskStatus) -> Self {
        Self { update: Some(Box::new(event::Update { status })), ..Self::of(event::Type::Update) }
    }

    /// Bytes from an executor.
    #[must_use]
    pub fn new_message(agent_id: AgentId, executor_id: ExecutorId, data: Vec<u8>) -> Self {
        let message = event::Message { agent_id, executor_id, data };
        Self { message: Some(Box::new(message)), ..Self::of(event::Type::Message) }
    }

    /// An agent is lost, or (with `executor`) an executor ended with that raw wait status.
    #[must_use]
    pub fn new_failure(agent_id: AgentId, executor: Option<(ExecutorId, i32)>) -> Self {
        let (executor_id, status) = executor.unzip();
        let failure = event::Failure { agent_id: Some(agent_id), executor_id, status };
        Self { failure: Some(Box::new(failure)), ..Self::of(event::Type::Failure) }
    }

    /// Unrecoverable; the stream closes.
    #[must_use]
    pub fn new_error(message: impl Into<String>) -> Self {
        let error = event::Error { message: message.into() };
        Self { error: Some(Box::new(error)), ..Self::of(event::Type::Error) }
    }

    /// Still here.
    #[must_use]
    pub fn new_heartbeat() -> Self {
        Self::of(event::Type::Heartbeat)
    }
}
