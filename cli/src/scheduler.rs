//! A client of the Mesos v1 scheduler API: events on one connection, calls on others.
//!
//! Knows nothing of what is scheduled; [`crate::run`] does.

mod event;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::recordio::Decoder;
use api::v1::offer::{Operation, operation};
use api::v1::scheduler::Call;
use api::v1::scheduler::call::{Accept, Acknowledge, Decline, Kill, Reconcile, Subscribe, Type, reconcile};
use api::v1::{ContentType, Filters, FrameworkInfo, KillPolicy, TaskInfo, TaskStatus};
use api::{AgentId, FrameworkId, OfferId, TaskId};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

pub(crate) use event::Event;

use crate::master::{Ask, Master};

const PATH: &str = "/api/v1/scheduler";
/// Offers of ten thousand nodes fit; a peer that announces more is not a master.
const MAX_RECORD: usize = 64 << 20;
/// A stream on which so many heartbeats failed to come is dead (Mesos's advice).
const MISSED_HEARTBEATS: f64 = 5.0;
/// The first event follows the answer at once.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(15);

/// The event stream is over, though the framework is not: subscribe again under the same id.
#[derive(Debug)]
pub(crate) struct StreamLost(pub(crate) String);

/// The master does not take the framework, and will not.
#[derive(Debug)]
pub(crate) struct Rejected(String);

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the master does not take the framework: {}", self.0)
    }
}

impl std::error::Error for Rejected {}

/// One subscription.
pub(crate) struct Scheduler {
    caller: Caller,
    body: Incoming,
    decoder: Decoder,
    silence: Duration,
}

impl Scheduler {
    /// Subscribes; with an id in `info` as the framework that came before.
    pub(crate) async fn subscribe(master: &Master, info: &FrameworkInfo) -> Result<Self> {
        let call = Call {
            framework_id: info.id.clone(),
            r#type: Some(Type::Subscribe.into()),
            subscribe: Some(Box::new(Subscribe { framework_info: info.clone(), ..Subscribe::default() })),
            ..Call::default()
        };
        let ask =
            Ask::post(PATH, "application/json", ContentType::Json.encode(&call)).header("accept", "application/json");
        let answer = master.open(ask).await.context("cannot subscribe")?;
        let stream = answer.headers().get("mesos-stream-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let stream = stream.context("the answer to SUBSCRIBE has no Mesos-Stream-Id")?;
        let caller = Caller { master: master.clone(), framework: FrameworkId::default(), stream };
        let body = answer.into_body();
        let mut scheduler = Self { caller, body, decoder: Decoder::new(MAX_RECORD), silence: SUBSCRIBED_WITHIN };
        match scheduler.next().await {
            Ok(Event::Subscribed { framework_id, heartbeat_interval_seconds }) => {
                scheduler.caller.framework = framework_id;
                let silence = heartbeat_interval_seconds.max(1.0) * MISSED_HEARTBEATS;
                scheduler.silence = Duration::try_from_secs_f64(silence).unwrap_or(SUBSCRIBED_WITHIN);
                Ok(scheduler)
            }
            Ok(Event::Error(message)) => Err(Rejected(message).into()),
            Ok(other) => bail!("the master's first event is {} instead of SUBSCRIBED", other.kind()),
            Err(StreamLost(reason)) => bail!("the event stream ended before SUBSCRIBED: {reason}"),
        }
    }

    /// The next event. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Event, StreamLost> {
        loop {
            while let Some(record) = self.decoder.pop().map_err(|error| StreamLost(error.to_string()))? {
                if let Some(event) = event::parse(&record).map_err(|error| StreamLost(format!("{error:#}")))? {
                    return Ok(event);
                }
            }
            match timeout(self.silence, self.body.frame()).await {
                Err(_) => return Err(StreamLost(format!("no heartbeat for {} s", self.silence.as_secs()))),
                Ok(None) => return Err(StreamLost("the master closed it".to_owned())),
                Ok(Some(Err(error))) => return Err(StreamLost(error.to_string())),
                Ok(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.decoder.push(data);
                    }
                }
            }
        }
    }

    /// What calls go through.
    pub(crate) const fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// Makes calls on behalf of one subscription.
#[derive(Clone)]
pub(crate) struct Caller {
    master: Master,
    framework: FrameworkId,
    stream: String,
}

impl Caller {
    /// The framework's id.
    pub(crate) const fn framework(&self) -> &FrameworkId {
        &self.framework
    }

    /// Launches `tasks` on these offers of one agent; the rest of them is refused for `refuse_seconds`.
    pub(crate) async fn accept(&self, offers: Vec<OfferId>, tasks: Vec<TaskInfo>, refuse_seconds: f64) -> Result<()> {
        let launch = Operation {
            r#type: Some(operation::Type::Launch.into()),
            launch: Some(Box::new(operation::Launch { task_infos: tasks })),
            ..Operation::default()
        };
        let accept = Accept { offer_ids: offers, operations: vec![launch], filters: filters(refuse_seconds) };
        self.call(Type::Accept, |call| call.accept = Some(Box::new(accept))).await
    }

    /// Refuses offers.
    pub(crate) async fn decline(&self, offers: Vec<OfferId>, refuse_seconds: f64) -> Result<()> {
        let decline = Decline { offer_ids: offers, filters: filters(refuse_seconds) };
        self.call(Type::Decline, |call| call.decline = Some(Box::new(decline))).await
    }

    /// Asks for no more offers.
    pub(crate) async fn suppress(&self) -> Result<()> {
        self.call(Type::Suppress, |_| ()).await
    }

    /// Asks for offers again, filters forgotten.
    pub(crate) async fn revive(&self) -> Result<()> {
        self.call(Type::Revive, |_| ()).await
    }

    /// Kills a task; what comes of it arrives as an update.
    pub(crate) async fn kill(&self, task: TaskId, agent: Option<AgentId>, policy: Option<KillPolicy>) -> Result<()> {
        let kill = Kill { task_id: task, agent_id: agent, kill_policy: policy };
        self.call(Type::Kill, |call| call.kill = Some(Box::new(kill))).await
    }

    /// Acknowledges an update; one without a uuid wants none.
    pub(crate) async fn acknowledge(&self, status: &TaskStatus) -> Result<()> {
        let Some(uuid) = status.uuid.clone() else { return Ok(()) };
        let agent_id = status.agent_id.clone().unwrap_or_default();
        let acknowledge = Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
        self.call(Type::Acknowledge, |call| call.acknowledge = Some(Box::new(acknowledge))).await
    }

    /// Asks for the state of a task.
    pub(crate) async fn reconcile(&self, task: TaskId, agent: Option<AgentId>) -> Result<()> {
        let tasks = vec![reconcile::Task { task_id: task, agent_id: agent }];
        self.call(Type::Reconcile, |call| call.reconcile = Some(Box::new(Reconcile { tasks }))).await
    }

    /// Ends the framework.
    pub(crate) async fn teardown(&self) -> Result<()> {
        self.call(Type::Teardown, |_| ()).await
    }

    async fn call(&self, kind: Type, fill: impl FnOnce(&mut Call)) -> Result<()> {
        let mut call =
            Call { framework_id: Some(self.framework.clone()), r#type: Some(kind.into()), ..Call::default() };
        fill(&mut call);
        let ask = Ask::post(PATH, "application/json", ContentType::Json.encode(&call))
            .header("accept", "application/json")
            .header("mesos-stream-id", &self.stream);
        self.master.fetch(ask).await.with_context(|| format!("{} failed", kind.as_str_name()))?;
        Ok(())
    }
}

#[allow(clippy::unnecessary_wraps)] // the field is optional on the wire
fn filters(refuse_seconds: f64) -> Option<Filters> {
    Some(Filters { refuse_seconds: Some(refuse_seconds) })
}
