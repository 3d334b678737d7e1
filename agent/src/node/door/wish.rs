//! What the door asks of the driver, which alone knows the node.

use std::collections::BTreeSet;
use std::path::PathBuf;

use agent_core::image::Reference;
use agent_core::record::Process;
use api::ContainerId;
use api::link::{Inquiry, Verdict};
use tokio::sync::oneshot;

use super::picture::Picture;
use crate::node::beside::Isolation;

/// See the module. Whoever asks waits for the answer; one who has gone does not mind.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Who is that, and what may they?
    Inquire { inquiry: Box<Inquiry>, reply: oneshot::Sender<Verdict> },
    /// Everything.
    Picture(oneshot::Sender<Box<Picture>>),
    /// A picture of the node alone, without what runs or ran here: it costs little, whoever asks.
    Node(oneshot::Sender<Box<Picture>>),
    /// Which containers have a process.
    Running(oneshot::Sender<BTreeSet<ContainerId>>),
    /// Whose secret is this?
    Token { token: String, reply: oneshot::Sender<Option<ContainerId>> },
    /// What is known of a container with a process.
    Container { container: ContainerId, reply: oneshot::Sender<Option<Root>> },
    /// Remove images nobody uses but these.
    Prune { keep: Vec<Reference>, reply: oneshot::Sender<Result<usize, String>> },
}

/// A container of a task or of an executor.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    /// As whom it runs, as Mesos's lists mean it.
    pub(crate) user: String,
    /// Its first process, while it runs.
    pub(crate) process: Option<Process>,
    pub(crate) config: PathBuf,
    pub(crate) isolation: Isolation,
    pub(crate) sandbox: PathBuf,
    pub(crate) over: bool,
    /// As waitpid gives it, once it is known.
    pub(crate) exit: Option<i32>,
}
