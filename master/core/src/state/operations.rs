//! Operations on agents' resources: applied when committed, remembered until their framework has
//! acknowledged the outcome.

use std::sync::Arc;

use api::{AgentId, FrameworkId, Resources};
use serde::{Deserialize, Serialize};

use super::{Reachability, State};
use crate::command::ApplyOperation;
use crate::event::Event;
use crate::operation::{ResourceOperation, apply_operation, spell};

/// Outcomes of one framework kept until acknowledged; beyond that the oldest is forgotten, and
/// reconciling it says OPERATION_UNKNOWN.
pub const MAX_UNACKNOWLEDGED_OPERATIONS: usize = 1000;

/// How far an operation is: Mesos's OperationState.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum OperationState {
    /// Not committed yet.
    Pending,
    /// Done.
    Finished,
    /// It was tried, and could not be done.
    Failed,
    /// It is not valid.
    Error,
    /// It was not tried: its agent was not there any more.
    Dropped,
    /// Its agent is unreachable.
    Unreachable,
    /// Its agent is gone for good.
    GoneByOperator,
    /// Its agent has not come back since the failover.
    Recovering,
    /// Nothing is known of it.
    Unknown,
}

/// An operation whose outcome its framework has not acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Names it in the cluster.
    pub uuid: [u8; 16],
    /// Names the status.
    pub status_uuid: [u8; 16],
    /// Whose.
    pub framework: FrameworkId,
    /// Chosen by the framework.
    pub id: String,
    /// Where.
    pub agent: AgentId,
    /// The role of the offers it is from.
    pub role: String,
    /// What.
    pub operation: ResourceOperation,
    /// What came of it.
    pub converted: Resources,
    /// How far it is.
    pub state: OperationState,
    /// Milliseconds since 1970.
    pub at: u64,
}

impl State {
    /// What is not in use on an agent. What is shared is always free.
    pub(super) fn unused(&self, agent: &AgentId) -> Resources {
        let Some(agent) = self.agents.get(agent) else { return Resources::new() };
        let mut used = Resources::new();
        for resources in self.used_on(&agent.id) {
            used.add_all(&resources.filter(|resource| !resource.shared));
        }
        agent.resources.saturating_sub(&used)
    }

    /// Applies an operation to an agent's resources, as far as they are not in use.
    pub(super) fn convert(
        &mut self,
        agent: &AgentId,
        operation: &ResourceOperation,
        allocated_to: Option<&str>,
    ) -> Result<(), String> {
        let known = self.agents.get(agent).filter(|agent| agent.reachability == Reachability::Reachable);
        let known = known.ok_or("Agent is not registered")?;
        let unused = self.unused(agent);
        apply_operation(&unused, operation, allocated_to).map_err(|error| error.to_string())?;
        let total = apply_operation(&known.resources, operation, allocated_to).map_err(|error| error.to_string())?;
        if let Some(agent) = self.agents.get_mut(agent) {
            Arc::make_mut(agent).resources = Arc::new(total);
        }
        Ok(())
    }

    pub(super) fn apply_framework_operation(&mut self, apply: ApplyOperation, events: &mut Vec<Event>) {
        let refused = if self.frameworks.contains_key(&apply.framework) {
            self.convert(&apply.agent, &apply.operation, Some(&apply.role)).err()
        } else {
            Some("Framework has been removed".to_owned())
        };
        if let Some(why) = refused {
            events.push(Event::OperationDropped { apply: Box::new(apply), why });
            return;
        }
        if let Some(id) = &apply.id {
            self.bound_operations(&apply.framework);
            let record = Operation {
                uuid: apply.uuid,
                status_uuid: apply.status_uuid,
                framework: apply.framework.clone(),
                id: id.clone(),
                agent: apply.agent.clone(),
                role: apply.role.clone(),
                converted: apply.operation.converted(),
                operation: apply.operation.clone(),
                state: OperationState::Finished,
                at: apply.at,
            };
            self.operations.insert(apply.uuid, Arc::new(record));
        }
        events.push(Event::OperationApplied { apply: Box::new(apply) });
    }

    fn bound_operations(&mut self, framework: &FrameworkId) {
        let mine = || self.operations.values().filter(|operation| operation.framework == *framework);
        if mine().count() >= MAX_UNACKNOWLEDGED_OPERATIONS
            && let Some(oldest) =
                mine().min_by_key(|operation| (operation.at, operation.uuid)).map(|oldest| oldest.uuid)
        {
            self.operations.remove(&oldest);
        }
    }

    /// The operation a framework calls so, latest first.
    #[must_use]
    pub fn operation(&self, framework: &FrameworkId, id: &str) -> Option<&Arc<Operation>> {
        let mine = self.operations.values().filter(|operation| operation.framework == *framework && operation.id == id);
        mine.max_by_key(|operation| (operation.at, operation.uuid))
    }

    pub(super) fn acknowledge_operation(
        &mut self,
        framework: &FrameworkId,
        id: &str,
        status_uuid: [u8; 16],
        events: &mut Vec<Event>,
    ) {
        let found = self.operations.values().find(|operation| {
            operation.framework == *framework && operation.id == id && operation.status_uuid == status_uuid
        });
        let Some((uuid, agent)) = found.map(|operation| (operation.uuid, operation.agent.clone())) else { return };
        self.operations.remove(&uuid);
        events.push(Event::OperationAcknowledged { uuid });
        self.check_drained(&agent, events);
    }

    /// What became of an agent's conversions when the machine came back with other resources.
    pub(super) fn tell_lost_conversions(agent: &AgentId, lost: Resources, events: &mut Vec<Event>) {
        if !lost.is_empty() {
            tracing::warn!(%agent, lost = %spell(&lost, None), "reservations or volumes do not fit their agent any more");
            events.push(Event::ConversionsLost { agent: agent.clone(), lost });
        }
    }
}
