//! What operators write, checked and applied in one step.

use super::State;
use super::draining::Drain;
use super::quotas::Capacity;
use crate::command::OperatorCommand;
use crate::event::Event;
use crate::io::operator::{OperatorWrite, Refusal};
use crate::operation::{Requester, ResourceOperation, Where, validate};

impl State {
    pub(super) fn operate(&mut self, command: OperatorCommand, events: &mut Vec<Event>) {
        let OperatorCommand { token, at, write } = command;
        let capacity = |force| if force { Capacity::Ignored } else { Capacity::Checked };
        let outcome = match write {
            OperatorWrite::UpdateWeights(weights) => self.update_weights(weights, events),
            OperatorWrite::UpdateQuota { force, configs } => self.update_quota(capacity(force), configs, events),
            OperatorWrite::SetQuota { force, role, guarantee } => {
                self.set_quota(capacity(force), role, guarantee, events)
            }
            OperatorWrite::RemoveQuota { role } => self.remove_quota(role, events),
            OperatorWrite::Apply { agent, operation, principal } => {
                let by = Requester::Operator { principal: principal.as_deref() };
                let applied = self.check_operation(&agent, &operation, &by).and_then(|()| {
                    let text = |text| Refusal { status: 409, text };
                    self.convert(&agent, &operation, None).map_err(text)
                });
                if applied.is_ok() {
                    let (from, to) = (operation.consumed(), operation.converted());
                    events.push(Event::ResourcesConverted { agent, from, to });
                } else {
                    events.push(Event::ConversionRefused { agent });
                }
                applied
            }
            OperatorWrite::UpdateMaintenanceSchedule(windows) => self.update_maintenance_schedule(windows, events),
            OperatorWrite::StartMaintenance(machines) => self.start_maintenance(&machines, at, events),
            OperatorWrite::StopMaintenance(machines) => self.stop_maintenance(&machines, events),
            OperatorWrite::DrainAgent { agent, max_grace_ms, mark_gone } => {
                let drain = Drain { max_grace_ms, mark_gone, drained: false, since: at };
                self.drain_agent(&agent, drain, events)
            }
            OperatorWrite::DeactivateAgent(agent) => self.deactivate_agent(&agent, events),
            OperatorWrite::ReactivateAgent(agent) => self.reactivate_agent(&agent, events),
            OperatorWrite::MarkAgentGone(agent) => self.mark_agent_gone(&agent, at, events),
            OperatorWrite::Keep { table, changes } => self.kept.change(table, changes),
            OperatorWrite::PutRule { rule, place } => self.put_rule(*rule, place, events),
            OperatorWrite::RemoveRule(name) => self.remove_rule(&name, events),
            OperatorWrite::Teardown(framework) => {
                if self.frameworks.contains_key(&framework) {
                    self.remove_framework(&framework, at, events);
                    Ok(())
                } else {
                    Err(Refusal::bad_request("No framework found with specified ID"))
                }
            }
        };
        events.push(Event::OperatorDone { token, outcome });
    }

    /// Is it well-formed for that agent?
    pub(crate) fn check_operation(
        &self,
        agent: &api::AgentId,
        operation: &ResourceOperation,
        by: &Requester<'_>,
    ) -> Result<(), Refusal> {
        let known = self.agents.get(agent).filter(|agent| agent.reachability == super::Reachability::Reachable);
        let Some(known) = known else { return Err(Refusal::bad_request("No agent found with specified ID")) };
        let used: Vec<&api::Resources> = self.used_on(agent).collect();
        let place = Where { total: &known.resources, used: &used };
        validate(operation, by, place).map_err(|error| {
            let name = operation.name();
            Refusal::bad_request(match operation {
                ResourceOperation::Unreserve { .. } | ResourceOperation::Destroy { .. } => {
                    format!("Invalid {name} operation: {error}")
                }
                ResourceOperation::Reserve { .. }
                | ResourceOperation::Create { .. }
                | ResourceOperation::Grow { .. }
                | ResourceOperation::Shrink { .. } => {
                    format!("Invalid {name} operation on agent {}: {error}", known.described())
                }
            })
        })
    }
}
