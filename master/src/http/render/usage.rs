//! What is used and offered, by agent and by framework: counted once for a whole answer.

use std::collections::HashMap;
use std::sync::Arc;

use api::{AgentId, FrameworkId};
use master_core::{OutstandingOffer, View};

use super::resources::Amounts;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    agents: HashMap<AgentId, AgentUsage>,
    frameworks: HashMap<FrameworkId, FrameworkUsage>,
}

/// Of one agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentUsage {
    /// By tasks and executors.
    pub(crate) used: Amounts,
    /// To frameworks.
    pub(crate) offered: Amounts,
}

/// Of one framework.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameworkUsage {
    /// By its tasks and executors.
    pub(crate) used: Amounts,
    /// To it.
    pub(crate) offered: Amounts,
    /// The same.
    pub(crate) offers: Vec<Arc<OutstandingOffer>>,
}

impl Usage {
    /// Counts.
    pub(crate) fn of(view: &View) -> Self {
        let mut usage = Self {
            agents: view.state.agents.keys().map(|id| (id.clone(), AgentUsage::default())).collect(),
            frameworks: HashMap::with_capacity(view.state.frameworks.len()),
        };
        for framework in view.state.frameworks.values() {
            let mut of_framework = FrameworkUsage::default();
            for task in framework.tasks.values().filter(|task| task.holds_resources()) {
                of_framework.used.add_all(&task.resources);
                if let Some(agent) = usage.agents.get_mut(&task.agent) {
                    agent.used.add_all(&task.resources);
                }
            }
            for executor in framework.executors.values() {
                of_framework.used.add_all(&executor.resources);
                if let Some(agent) = usage.agents.get_mut(&executor.agent) {
                    agent.used.add_all(&executor.resources);
                }
            }
            usage.frameworks.insert(framework.id.clone(), of_framework);
        }
        for offer in view.offers.values() {
            if let Some(agent) = usage.agents.get_mut(&offer.agent) {
                agent.offered.add_all(&offer.resources);
            }
            if let Some(framework) = usage.frameworks.get_mut(&offer.framework) {
                framework.offered.add_all(&offer.resources);
                framework.offers.push(offer.clone());
            }
        }
        usage
    }

    /// Of that agent.
    pub(crate) fn agent(&self, id: &AgentId) -> AgentUsage {
        self.agents.get(id).cloned().unwrap_or_default()
    }

    /// Of that framework.
    pub(crate) fn framework(&self, id: &FrameworkId) -> FrameworkUsage {
        self.frameworks.get(id).cloned().unwrap_or_default()
    }
}
