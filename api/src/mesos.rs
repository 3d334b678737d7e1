//! Mesos v1 wire types: JSON in Mesos's spelling, and their translation into ours.
//!
//! Input is as lenient as Mesos's own parser: unknown fields are ignored, `null` is unset, a bare
//! object stands for a list of one, numbers and booleans may be strings, an unknown enum name in
//! an optional field is unset. Output has Mesos's names, order of kinds and defaults.

mod call;
mod event;
mod framework;
mod lenient;
mod offer;
mod resource;
mod status;
mod task;

pub use call::{
    Accept, Acknowledge, Call, Decline, Kill, Launch, LaunchGroup, Message, Operation, Reconcile, ReconcileTask,
    RolesCall, Shutdown, Subscribe,
};
pub use event::Event;
pub use framework::{Capability, FrameworkInfo, MasterInfo, OfferFilters};
pub use offer::{Address, Filters, Offer, OfferUrl};
pub use resource::ResourceError;
pub use resource::{
    AllocationInfo, Format, LegacyReservation, RangeValue, RangesValue, ScalarValue, SetValue, WireAttribute,
    WireReservation, WireResource, attributes_from_wire, attributes_to_wire, resources_from_wire, resources_to_wire,
};
pub use status::{Reason, Source, TaskStatus};
pub use task::{
    CommandInfo, DurationInfo, Environment, ExecutorInfo, KillPolicy, Label, Labels, TaskGroup, TaskInfo, Uri, Variable,
};

use serde::{Deserialize, Serialize};

/// Mesos wraps every id and many scalars: `{"value": …}`.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Value<T> {
    /// What is wrapped.
    pub value: T,
}

impl<T> Value<T> {
    /// Wraps it.
    pub const fn new(value: T) -> Self {
        Self { value }
    }
}

impl<T> From<T> for Value<T> {
    fn from(value: T) -> Self {
        Self { value }
    }
}
