//! What the driver hears.

use std::net::IpAddr;

use agent_core::agent::Input;
use agent_core::attributes::Surroundings;
use agent_core::handover::PowerAction;
use api::link::{FromAgent, FromMaster};
use api::{ContainerId, FrameworkId, TaskId};
use tokio::sync::{mpsc, oneshot};

use super::capacity::{Detected, Told};
use super::disks::worker::Passed;
use super::door::wish::Wish;
use super::driver::watching::Watched;
use super::executors::Asked;
use super::identity::Identity;
use super::log_cap::Written;

/// Everything that reaches the driver, through one bounded channel: senders wait when it is full.
#[derive(Debug)]
pub(crate) enum Event {
    /// For the core.
    Core(Input),
    /// The node can be reached, and reach the master.
    Online(Online),
    /// A Join has ended.
    Joined(Result<Box<Identity>, JoinFailure>),
    /// A renewal of the certificate has ended.
    Renewed(Result<Box<Identity>, JoinFailure>),
    /// A session is open; `Register` was sent.
    SessionOpened { generation: u64, session: Session },
    /// The master said something.
    FromMaster { generation: u64, message: Box<FromMaster> },
    /// What the network knows of the machine's place is other than before.
    Surroundings(Box<Surroundings>),
    /// The network is other than before: the master has to be found anew.
    NetworkChanged,
    /// The hardware may be other than before.
    HardwareChanged,
    /// What a session that is being opened tells the master of the machine.
    Told(Box<Told>),
    /// The machine was looked at again.
    Detected(Box<Detected>),
    /// The disks were looked at, and what was to be done is done.
    DisksPassed(Passed),
    /// What tasks wrote was looked at.
    Watched(Box<Watched>),
    /// The session is over, or could not be opened.
    SessionEnded { generation: u64, reason: String },
    /// An operator ends the machine.
    Power(PowerAction),
    /// A reader asks whether a task still runs.
    IsLive { framework: FrameworkId, task: TaskId, reply: oneshot::Sender<bool> },
    /// An executor's process calls.
    ExecutorCall(Box<Asked>),
    /// An executor's stream is closed.
    ExecutorHungUp { container: ContainerId, stream: u64 },
    /// Somebody speaks to the node itself.
    Door(Wish),
    /// What frameworks are told to reach us by.
    KnownAs { hostname: String },
    /// Somebody asks where tasks that run write.
    LiveSandboxes(oneshot::Sender<Vec<Written>>),
    /// `init` does not answer any more: nothing can be supervised.
    InitGone,
}

/// What the network gave us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Online {
    pub(crate) address: Option<IpAddr>,
    pub(crate) domain: Option<String>,
}

/// Why there is no certificate.
#[derive(Debug)]
pub(crate) struct JoinFailure {
    pub(crate) reason: String,
    pub(crate) retry: bool,
}

/// The ways into an open session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Updates and answers. Full: updates are dropped and repeated later, as if the link had lost them.
    pub(crate) urgent: mpsc::Sender<FromAgent>,
    /// File contents; readers wait when it is full.
    pub(crate) bulk: mpsc::Sender<FromAgent>,
}

/// The driver's inbox.
pub(crate) type Events = mpsc::Sender<Event>;
