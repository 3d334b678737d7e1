//! Scheduler calls: Mesos's checks in Mesos's order, then each call's own doing.

use std::sync::Arc;

use api::v1::Filters;
use api::v1::scheduler::Call;
use api::v1::scheduler::call::{Acknowledge, Decline, Kill, Type};
use api::{FrameworkId, TaskState};

use super::frameworks::Wish;
use super::{Leader, Turn};
use crate::allocator::InverseAnswer;
use crate::command::Command;
use crate::io::{RequestId, Response, StreamId, ToAgent};
use crate::validate;

impl Leader {
    pub(super) fn call(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        (stream, principal): (Option<StreamId>, Option<String>),
        call: Call,
    ) {
        if let Err(text) = validate::call(&call) {
            turn.refuse(request, 400, text);
            return;
        }
        let kind = call.r#type();
        if kind == Type::Subscribe {
            match (stream, call.subscribe) {
                (Some(stream), Some(subscribe)) => self.subscribe(turn, request, stream, *subscribe),
                _ => {
                    turn.refuse(request, 400, "Failed to validate scheduler::Call: Expecting 'subscribe' to be present")
                }
            }
            return;
        }
        let id = call.framework_id.unwrap_or_default();
        if let Err((status, text)) = self.check_stream(turn, &id, stream, principal.as_deref()) {
            turn.refuse(request, status, text);
            return;
        }
        let Some(framework) = turn.state.frameworks.get(&id).map(Arc::clone) else { return };
        if kind == Type::UpdateFramework {
            if let Some(body) = call.update_framework {
                self.update_framework(turn, request, &framework, *body);
            }
            return;
        }
        if kind == Type::Unknown {
            turn.refuse(request, 501, "");
            return;
        }
        // From here on nothing is an HTTP error: what goes wrong is told by events.
        turn.respond(request, Response::Accepted);
        match kind {
            Type::Teardown => turn.propose(Command::RemoveFramework { framework: id, at: turn.now.unix_ms }),
            Type::Accept => self.accept(turn, &framework, *call.accept.unwrap_or_default()),
            Type::Decline => self.decline(turn, &id, *call.decline.unwrap_or_default()),
            Type::Revive => self.set_suppressed(turn, &framework, call.revive.unwrap_or_default().roles, Wish::Revive),
            Type::Suppress => {
                self.set_suppressed(turn, &framework, call.suppress.unwrap_or_default().roles, Wish::Suppress)
            }
            Type::Kill => kill(turn, id, *call.kill.unwrap_or_default()),
            Type::Acknowledge => self.acknowledge(turn, &id, *call.acknowledge.unwrap_or_default()),
            Type::Reconcile => self.reconcile(turn, &framework, *call.reconcile.unwrap_or_default()),
            Type::AcceptInverseOffers => {
                let accept = *call.accept_inverse_offers.unwrap_or_default();
                let (ids, seconds) = (accept.inverse_offer_ids, refuse_seconds(accept.filters));
                self.answer_inverse_offers(turn, &id, &ids, InverseAnswer::Accept, seconds);
            }
            Type::DeclineInverseOffers => {
                let decline = *call.decline_inverse_offers.unwrap_or_default();
                let (ids, seconds) = (decline.inverse_offer_ids, refuse_seconds(decline.filters));
                self.answer_inverse_offers(turn, &id, &ids, InverseAnswer::Decline, seconds);
            }
            Type::AcknowledgeOperationStatus => {
                let acknowledge = *call.acknowledge_operation_status.unwrap_or_default();
                if let Ok(uuid) = <[u8; 16]>::try_from(acknowledge.uuid) {
                    let operation = acknowledge.operation_id.to_string();
                    turn.propose(Command::AcknowledgeOperation { framework: id, operation, uuid });
                }
            }
            Type::ReconcileOperations => {
                let asked = call.reconcile_operations.unwrap_or_default().operations;
                if asked.is_empty() {
                    self.reconcile_all_operations(turn, &id);
                }
                for one in asked {
                    self.reconcile_operation(turn, &id, one.operation_id.as_str(), one.agent_id.as_ref());
                }
            }
            Type::Message => self.message_executor(turn, &id, *call.message.unwrap_or_default()),
            Type::Shutdown => self.shut_down_executor(turn, &id, *call.shutdown.unwrap_or_default()),
            // The allocator hears no wishes.
            Type::Unknown | Type::Subscribe | Type::UpdateFramework | Type::Request => {
                tracing::debug!(framework = %id, call = kind.as_str_name(), "accepted a call that does nothing");
            }
        }
    }

    /// Is the call on the stream the framework has now?
    fn check_stream(
        &self,
        turn: &Turn<'_>,
        id: &FrameworkId,
        stream: Option<StreamId>,
        principal: Option<&str>,
    ) -> Result<(), (u16, String)> {
        let Some(framework) = turn.state.framework(id) else {
            return Err((400, "Framework cannot be found".to_owned()));
        };
        let own = framework.info.principal.as_deref();
        if let Some(principal) = principal.filter(|principal| own != Some(*principal)) {
            let own = own.unwrap_or_default();
            return Err((
                400,
                format!(
                    "Authenticated principal '{principal}' does not match principal '{own}' set in `FrameworkInfo`"
                ),
            ));
        }
        let Some(subscriber) = self.subscribers.get(id) else {
            return Err((403, "Framework is not subscribed".to_owned()));
        };
        match stream {
            None => Err((400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header".to_owned())),
            Some(stream) if stream != subscriber.stream => Err((
                400,
                format!(
                    "The stream ID '{}' included in this request didn't match the stream ID currently \
                     associated with framework ID {id}",
                    stream.0
                ),
            )),
            Some(_) => Ok(()),
        }
    }

    fn decline(&mut self, turn: &mut Turn<'_>, framework: &FrameworkId, decline: Decline) {
        let seconds = refuse_seconds(decline.filters);
        for id in &decline.offer_ids {
            // One that was rescinded meanwhile is ignored, and installs no filter.
            if let Some(offer) = self.offers.take_of(id, framework) {
                turn.counters.offers_declined += 1;
                #[cfg(feature = "planted-bugs")]
                if crate::planted::is(crate::planted::Bug::DeclinedLost) {
                    continue;
                }
                self.give_back_refused(turn, &offer, seconds);
            }
        }
    }

    fn acknowledge(&self, turn: &mut Turn<'_>, framework: &FrameworkId, acknowledge: Acknowledge) {
        turn.counters.acknowledgements += 1;
        let Acknowledge { agent_id: agent, task_id: task, uuid } = acknowledge;
        let Ok(uuid) = <[u8; 16]>::try_from(uuid) else { return };
        let known = turn.state.task(framework, &task);
        if known.is_some_and(|known| known.state.is_terminal() && known.agent == agent) {
            // May end the task: decided in the log. The agent is told when it is committed.
            turn.propose(Command::AcknowledgeTask { framework: framework.clone(), task, uuid });
        } else if let Some(session) = self.session_of(&agent) {
            let framework = framework.clone();
            turn.tell_agent(session, ToAgent::Acknowledge { framework, task, uuid });
        }
    }

    pub(super) fn state_of(&self, turn: &Turn<'_>, framework: &FrameworkId, task: &api::TaskId) -> Option<TaskState> {
        if self.launching.contains(&(framework.clone(), task.clone())) {
            return Some(TaskState::Staging);
        }
        turn.state.task(framework, task).map(|task| task.state)
    }
}

/// Decided in the log, after the launch that may be on its way.
fn kill(turn: &mut Turn<'_>, framework: FrameworkId, kill: Kill) {
    let grace_ms = kill.kill_policy.and_then(|policy| policy.grace_period).and_then(|grace| grace.millis());
    turn.propose(Command::KillTask { framework, task: kill.task_id, agent: kill.agent_id, grace_ms });
}

/// Five seconds also where no filters are given.
pub(super) fn refuse_seconds(filters: Option<Filters>) -> f64 {
    filters.unwrap_or_default().effective_refuse_seconds()
}
