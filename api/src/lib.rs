//! The words every Mesolith program shares.
//!
//! Ids, resources, task states and attributes in the form the programs think in, the Mesos v1
//! wire types in the form frameworks spell them ([`mesos`]), RecordIO framing ([`recordio`]) and,
//! behind the `link` feature, the generated agent link ([`link`]). Nothing here does IO.

pub mod attributes;
pub mod id;
#[cfg(feature = "link")]
pub mod link;
pub mod mesos;
pub mod milli;
pub mod ranges;
pub mod recordio;
pub mod resources;
pub mod task_state;

pub use attributes::Attribute;
pub use id::{AgentId, ContainerId, ExecutorId, FrameworkId, MasterId, NodeName, OfferId, OperationId, TaskId};
pub use milli::Milli;
pub use ranges::Ranges;
pub use resources::{Resource, ResourceValue, Resources};
pub use task_state::TaskState;
