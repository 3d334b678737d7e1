//! Reservations and volumes: the same resources in another form.

use api::{AgentId, FrameworkId, Resources};

use super::Allocator;

/// Why nothing changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAvailable {
    /// There is no such agent in the cluster.
    #[error("the agent is not in the cluster")]
    NoAgent,
    /// The framework does not have what is to change, in that role on that agent.
    #[error("the framework does not hold what is to be changed")]
    NotHeld,
    /// Some of what is to change is offered or in use.
    #[error("what is to be changed is not free on the agent")]
    NotFree,
}

impl Allocator {
    /// A framework's operation turned what it was offered into something else: RESERVE, UNRESERVE,
    /// CREATE, DESTROY, GROW and SHRINK of accepted offers. What is held and what the agent has
    /// change alike; quotas follow. Linear in what the agent has.
    ///
    /// # Errors
    /// The framework does not hold all of `from`; nothing changes.
    pub fn update_allocation(
        &mut self,
        framework: &FrameworkId,
        role: &str,
        agent: &AgentId,
        from: &Resources,
        to: &Resources,
    ) -> Result<(), NotAvailable> {
        let number = self.find_agent(agent).ok_or(NotAvailable::NoAgent)?;
        let client = self.find_client(framework, role).ok_or(NotAvailable::NotHeld)?;
        let (from, to) = (self.kinds.bag(from), self.kinds.bag(to));
        let agent = self.agent(number);
        let position = agent.holder(client).map_err(|_| NotAvailable::NotHeld)?;
        if !agent.holders[position].bag.contains(&from) || !agent.total.contains(&from) {
            return Err(NotAvailable::NotHeld);
        }
        self.uncount_total(number);
        let agent = self.agent_mut(number);
        let (held, total) = (&mut agent.holders[position].bag, &mut agent.total);
        held.sub_all(&from);
        held.add_all(&to);
        total.sub_all(&from);
        total.add_all(&to);
        if agent.holders[position].bag.is_empty() {
            agent.holders.remove(position);
            self.clients[client as usize].holds -= 1;
        }
        self.agent_mut(number).refresh_free();
        self.count_total(number);
        self.recharge(number, client, &from, &to);
        Ok(())
    }

    /// An operator's operation turned what is free on an agent into something else; the agent is
    /// considered. Linear in what the agent has.
    ///
    /// # Errors
    /// Not all of `from` is free; nothing changes.
    pub fn update_available(&mut self, agent: &AgentId, from: &Resources, to: &Resources) -> Result<(), NotAvailable> {
        let number = self.find_agent(agent).ok_or(NotAvailable::NoAgent)?;
        let (from, to) = (self.kinds.bag(from), self.kinds.bag(to));
        let agent = self.agent(number);
        let in_use =
            |kind: u32| agent.holders.iter().any(|holder| holder.bag.rest.iter().any(|piece| piece.kind == kind));
        if !agent.free.contains(&from) || from.shared().any(|piece| in_use(piece.kind)) {
            return Err(NotAvailable::NotFree);
        }
        let mut total = agent.total.clone();
        total.sub_all(&from);
        total.add_all(&to);
        self.replace_total(number, total);
        self.considered.insert(number);
        self.deferred.append(&mut self.withheld);
        Ok(())
    }
}
