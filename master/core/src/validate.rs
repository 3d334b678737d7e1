//! Mesos's rules for calls, frameworks and tasks, in Mesos's order and words: the first that is
//! broken is reported.

mod asked;
mod call;
mod check;
mod constraints;
mod container;
mod executor;
mod framework;
mod group;
mod privilege;
mod references;
mod resource;
mod role;
mod task;

pub use call::call;
pub(crate) use constraints::constraints;
pub(crate) use framework::{failover_timeout, framework, update};
pub(crate) use group::{GroupNeeds, group};
pub(crate) use privilege::{host_paths, privilege};
pub use references::references;
pub use resource::resources;
pub(crate) use resource::{operation, read};
pub(crate) use role::role;
pub(crate) use task::{Place, complete, complete_check, task};
