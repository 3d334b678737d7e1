//! Offers: from the allocator to the frameworks, and back.

use std::collections::BTreeMap;
use std::time::Duration;

use api::v1::resource::AllocationInfo;
use api::v1::scheduler::Event;
use api::v1::{Address, Capability, Format, Offer, Url, attributes_to_wire, resources_to_wire};
use api::{AgentId, FrameworkId, OfferId};

use super::telling::unavailability_to_wire;
use super::{Leader, Turn};
use crate::allocator::Consider;
use crate::offers::OutstandingOffer;
use crate::state::Agent;

impl Leader {
    /// One run; each framework gets all its offers in one event.
    pub(super) fn allocate(&mut self, turn: &mut Turn<'_>) {
        turn.counters.allocation_runs += 1;
        let mut events: BTreeMap<FrameworkId, Vec<Offer>> = BTreeMap::new();
        for allocation in self.allocator.run(turn.now.monotonic) {
            let id = OfferId::from(format!("{}-O{}", self.prefix(turn.state), self.next_offer));
            self.next_offer += 1;
            let offer = OutstandingOffer {
                id,
                framework: allocation.framework,
                agent: allocation.agent,
                role: allocation.role,
                resources: allocation.resources,
                made_at: turn.now.unix_ms,
            };
            if let Some(wire) = self.offer_to_wire(turn, &offer) {
                turn.counters.offers_made += 1;
                events.entry(offer.framework.clone()).or_default().push(wire);
                if let Some(timeout) = self.config.offer_timeout {
                    let at = turn.now.monotonic + timeout;
                    if self.offer_deadlines.is_empty() {
                        self.timers.set(super::Timer::OfferTimeout, at);
                    }
                    self.offer_deadlines.push_back((at, offer.id.clone()));
                }
                self.offers.insert(offer);
            } else {
                self.give_back(&offer, Consider::Later);
            }
        }
        for (framework, offers) in events {
            self.tell(turn, &framework, Event::new_offers(offers));
        }
    }

    fn offer_to_wire(&self, turn: &Turn<'_>, offer: &OutstandingOffer) -> Option<Offer> {
        self.subscribers.get(&offer.framework)?;
        let framework = turn.state.framework(&offer.framework)?;
        let agent = turn.state.agents.get(&offer.agent)?;
        let role = framework.info.has(Capability::MultiRole).then(|| offer.role.clone());
        let format =
            Format { refined: framework.info.has(Capability::ReservationRefinement), allocation_role: role.clone() };
        Some(Offer {
            id: offer.id.clone(),
            framework_id: offer.framework.clone(),
            agent_id: offer.agent.clone(),
            hostname: agent.hostname.clone(),
            url: Some(Box::new(self.url(agent))),
            unavailability: self.allocator.unavailability(&offer.agent).map(unavailability_to_wire),
            allocation_info: role.map(|role| AllocationInfo { role: Some(role) }),
            resources: resources_to_wire(&offer.resources, &format),
            attributes: attributes_to_wire(&agent.attributes),
            executor_ids: framework.executors_on(&agent.id).map(|executor| executor.id.clone()).collect(),
            ..Offer::default()
        })
    }

    pub(super) fn url(&self, agent: &Agent) -> Url {
        Url {
            scheme: "http".to_owned(),
            address: Address {
                hostname: Some(agent.hostname.clone()),
                ip: Some(agent.address.clone()),
                port: i32::from(self.config.agent_port),
            },
            path: Some("/slave(1)".to_owned()),
            ..Url::default()
        }
    }

    /// The resources of an offer that left the table are free again.
    pub(super) fn give_back(&mut self, offer: &OutstandingOffer, consider: Consider) {
        self.allocator.recover(&offer.framework, &offer.role, &offer.agent, &offer.resources, consider);
    }

    /// As [`give_back`](Self::give_back), and not again to the same framework for a while.
    pub(super) fn give_back_refused(&mut self, turn: &Turn<'_>, offer: &OutstandingOffer, refuse_seconds: f64) {
        let refusal = Duration::try_from_secs_f64(refuse_seconds).unwrap_or_default();
        let OutstandingOffer { framework, role, agent, resources, .. } = offer;
        self.allocator.refuse(framework, role, agent, resources, refusal, turn.now.monotonic);
        self.give_back(offer, Consider::Later);
    }

    /// The agent is not there: whoever holds an offer of it is told.
    pub(super) fn rescind_agent(&mut self, turn: &mut Turn<'_>, agent: &AgentId) {
        for offer in self.offers.take_agent(agent) {
            turn.counters.offers_rescinded += 1;
            self.give_back(&offer, Consider::Later);
            self.tell(turn, &offer.framework, Event::new_rescind(offer.id.clone()));
        }
    }

    /// The framework is not there, or starts anew: nobody to tell.
    pub(super) fn discard_offers_of(&mut self, framework: &FrameworkId) {
        for offer in self.offers.take_framework(framework) {
            self.give_back(&offer, Consider::Now);
        }
    }
}
