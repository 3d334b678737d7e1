//! Maintenance: agents that will be away, and asking frameworks to leave them.

use std::time::Duration;

use api::{AgentId, FrameworkId, OfferId};

use super::{Leader, Turn};
use crate::allocator::{InverseAnswer, Unavailability};
use crate::state::State;

/// An inverse offer a framework holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OutstandingInverseOffer {
    /// Which; numbered with the offers.
    pub(crate) id: OfferId,
    /// Who is asked.
    pub(crate) framework: FrameworkId,
    /// To leave which agent.
    pub(crate) agent: AgentId,
    /// When the agent will be away.
    pub(crate) unavailability: Unavailability,
}

impl Leader {
    /// The allocator hears when the agent will be away.
    pub(super) fn load_unavailability(&mut self, state: &State, id: &AgentId) {
        let Some(agent) = state.agents.get(id) else { return };
        let window = state.maintenance.unavailability(agent);
        let window = window.map(|window| Unavailability { start: window.start, duration: window.duration });
        if self.allocator.unavailability(id) != window {
            self.allocator.update_unavailability(id, window);
        }
    }

    /// Offers name the window their agent is in: those of agents whose window is another are made anew.
    pub(super) fn maintenance_updated(&mut self, turn: &mut Turn<'_>) {
        for (id, agent) in &turn.state.agents {
            let window = turn.state.maintenance.unavailability(agent);
            let window = window.map(|window| Unavailability { start: window.start, duration: window.duration });
            if self.allocator.has_agent(id) && self.allocator.unavailability(id) != window {
                self.rescind_agent(turn, id);
                self.rescind_inverse_offers(turn, id);
                self.allocator.update_unavailability(id, window);
            }
        }
    }

    pub(super) fn rescind_inverse_offers(&mut self, turn: &mut Turn<'_>, agent: &AgentId) {
        let mine: Vec<OfferId> =
            self.inverse_offers.values().filter(|offer| offer.agent == *agent).map(|offer| offer.id.clone()).collect();
        for id in mine {
            if let Some(offer) = self.inverse_offers.remove(&id) {
                self.allocator.answer_inverse_offer(&offer.framework, agent, None, Duration::ZERO, turn.now.monotonic);
                self.tell_inverse_rescinded(turn, &offer);
            }
        }
    }

    /// The framework starts anew: nobody to tell.
    pub(super) fn discard_inverse_offers(&mut self, turn: &Turn<'_>, framework: &FrameworkId) {
        let now = turn.now.monotonic;
        let allocator = &mut self.allocator;
        self.inverse_offers.retain(|_, offer| {
            let mine = offer.framework == *framework;
            if mine {
                allocator.answer_inverse_offer(framework, &offer.agent, None, Duration::ZERO, now);
            }
            !mine
        });
    }

    /// Asks whoever is to be asked; each framework in one event.
    pub(super) fn make_inverse_offers(&mut self, turn: &mut Turn<'_>) {
        let mut made: std::collections::BTreeMap<FrameworkId, Vec<OutstandingInverseOffer>> = Default::default();
        for asked in self.allocator.inverse_offers(turn.now.monotonic) {
            let id = OfferId::from(format!("{}-O{}", self.prefix(turn.state), self.next_offer));
            self.next_offer += 1;
            let (framework, agent, unavailability) = (asked.framework, asked.agent, asked.unavailability);
            let offer = OutstandingInverseOffer { id: id.clone(), framework, agent, unavailability };
            made.entry(offer.framework.clone()).or_default().push(offer.clone());
            self.inverse_offers.insert(id, offer);
        }
        for (framework, offers) in made {
            self.tell_inverse_offers(turn, &framework, offers);
        }
    }

    /// ACCEPT_INVERSE_OFFERS and DECLINE_INVERSE_OFFERS. What is not this framework's is ignored.
    pub(super) fn answer_inverse_offers(
        &mut self,
        turn: &Turn<'_>,
        framework: &FrameworkId,
        ids: &[OfferId],
        answer: InverseAnswer,
        refuse_seconds: f64,
    ) {
        let refusal = Duration::try_from_secs_f64(refuse_seconds).unwrap_or_default();
        for id in ids {
            let Some(offer) = self.inverse_offers.get(id).filter(|offer| offer.framework == *framework).cloned() else {
                tracing::debug!(%framework, offer = %id, "answer to an inverse offer that is no longer valid");
                continue;
            };
            self.inverse_offers.remove(id);
            self.allocator.answer_inverse_offer(framework, &offer.agent, Some(answer), refusal, turn.now.monotonic);
        }
    }
}
