//! Outstanding offers: made once, and each leaves exactly once, by being accepted, declined,
//! rescinded or discarded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{AgentId, FrameworkId, OfferId, Resources};

/// An offer a framework holds.
#[derive(Clone, Debug, PartialEq)]
pub struct OutstandingOffer {
    /// Which.
    pub id: OfferId,
    /// Whose.
    pub framework: FrameworkId,
    /// Where.
    pub agent: AgentId,
    /// For which role.
    pub role: String,
    /// What.
    pub resources: Resources,
    /// Milliseconds since 1970.
    pub made_at: u64,
}

/// The table of outstanding offers.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    all: BTreeMap<OfferId, Arc<OutstandingOffer>>,
    by_agent: BTreeMap<AgentId, BTreeSet<OfferId>>,
    by_framework: BTreeMap<FrameworkId, BTreeSet<OfferId>>,
}

impl Offers {
    pub(crate) fn insert(&mut self, offer: OutstandingOffer) {
        let id = offer.id.clone();
        self.by_agent.entry(offer.agent.clone()).or_default().insert(id.clone());
        self.by_framework.entry(offer.framework.clone()).or_default().insert(id.clone());
        self.all.insert(id, Arc::new(offer));
    }

    pub(crate) fn get(&self, id: &OfferId) -> Option<&Arc<OutstandingOffer>> {
        self.all.get(id)
    }

    /// Takes an offer off the table: the only way it leaves.
    pub(crate) fn take(&mut self, id: &OfferId) -> Option<Arc<OutstandingOffer>> {
        let offer = self.all.remove(id)?;
        if let Some(ids) = self.by_agent.get_mut(&offer.agent) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_agent.remove(&offer.agent);
            }
        }
        if let Some(ids) = self.by_framework.get_mut(&offer.framework) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_framework.remove(&offer.framework);
            }
        }
        Some(offer)
    }

    /// Takes an offer if it is that framework's.
    pub(crate) fn take_of(&mut self, id: &OfferId, framework: &FrameworkId) -> Option<Arc<OutstandingOffer>> {
        if self.get(id)?.framework != *framework {
            return None;
        }
        #[cfg(feature = "planted-bugs")]
        if crate::planted::is(crate::planted::Bug::OfferStays) {
            return self.get(id).cloned();
        }
        self.take(id)
    }

    pub(crate) fn of_agent(&self, agent: &AgentId) -> Vec<Arc<OutstandingOffer>> {
        let ids = self.by_agent.get(agent).into_iter().flatten();
        ids.filter_map(|id| self.all.get(id).cloned()).collect()
    }

    pub(crate) fn take_agent(&mut self, agent: &AgentId) -> Vec<Arc<OutstandingOffer>> {
        let ids = self.by_agent.get(agent).cloned().unwrap_or_default();
        ids.iter().filter_map(|id| self.take(id)).collect()
    }

    pub(crate) fn take_framework(&mut self, framework: &FrameworkId) -> Vec<Arc<OutstandingOffer>> {
        let ids = self.by_framework.get(framework).cloned().unwrap_or_default();
        ids.iter().filter_map(|id| self.take(id)).collect()
    }

    pub(crate) const fn all(&self) -> &BTreeMap<OfferId, Arc<OutstandingOffer>> {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_leaves_once() {
        let mut offers = Offers::default();
        for (id, framework, agent) in [("O1", "F1", "S1"), ("O2", "F1", "S2"), ("O3", "F2", "S1")] {
            offers.insert(OutstandingOffer {
                id: id.into(),
                framework: framework.into(),
                agent: agent.into(),
                role: "*".to_owned(),
                resources: Resources::parse("cpus:1").unwrap(),
                made_at: 0,
            });
        }
        assert!(offers.take_of(&"O3".into(), &"F1".into()).is_none(), "not another framework's");
        assert!(offers.take_of(&"O1".into(), &"F1".into()).is_some());
        assert!(offers.take(&"O1".into()).is_none());
        assert_eq!(offers.take_agent(&"S1".into()).len(), 1);
        assert_eq!(offers.take_framework(&"F2".into()).len(), 0);
        assert_eq!(offers.take_framework(&"F1".into()).len(), 1);
        assert!(offers.all().is_empty() && offers.by_agent.is_empty() && offers.by_framework.is_empty());
    }
}
