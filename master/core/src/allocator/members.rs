//! Frameworks and their roles: who takes part.

use std::collections::{BTreeMap, BTreeSet};

use api::FrameworkId;

use super::constraints::Verdicts;
use super::quota::PlacedQuota;
use super::sorter::Sorter;
use super::{
    Abilities, Activity, Allocator, Client, Framework, Quantities, Role, Subscription, number_of, place_minimum,
};

impl Allocator {
    /// Adds a framework, or gives it other roles, abilities, minimums and constraints wholesale. An
    /// active one is considered on all agents; refusals of an inactive one are forgotten. Linear in A
    /// and in its roles.
    pub fn set_framework(&mut self, id: &FrameworkId, subscription: &Subscription, activity: Activity) {
        let active = activity == Activity::Active;
        let number = self.framework(id);
        let mut minimums = BTreeMap::new();
        for (role, alternatives) in &subscription.min_allocatable {
            minimums.insert(role.clone(), place_minimum(&mut self.kinds.names, alternatives));
        }
        for role in &subscription.roles {
            let role_number = self.role(role);
            self.client(number, role_number);
        }
        let Some(framework) = self.frameworks[number as usize].as_mut() else { return };
        framework.abilities = subscription.abilities;
        framework.active = active;
        let clients: Vec<(u32, u32)> = framework.clients.iter().map(|(role, client)| (*role, *client)).collect();
        let agents = self.agents.len();
        for (role, number) in clients {
            let name = &*self.roles[role as usize].name;
            let client = &mut self.clients[number as usize];
            client.subscribed = subscription.roles.contains(name);
            client.suppressed = subscription.suppressed.contains(name);
            self.own_minimums -= u32::from(client.minimum.is_some());
            client.minimum = minimums.remove(name);
            self.own_minimums += u32::from(client.minimum.is_some());
            client.verdicts = subscription.constraints.get(name).map(|constraints| {
                let mut verdicts = Verdicts::new(constraints.clone());
                verdicts.grow(agents);
                Box::new(verdicts)
            });
            if client.verdicts.is_some() {
                self.constrained.insert(number);
            } else {
                self.constrained.remove(&number);
            }
            if !active {
                self.next_epoch += 1;
                client.epoch = self.next_epoch;
            }
        }
        self.settle(number);
        if active {
            self.maintenance.due = true;
            self.consider_all();
        } else {
            self.maintenance.forget_framework(number);
        }
    }

    /// An inactive framework gets nothing, and what it refused is forgotten. Linear in its roles.
    pub fn deactivate_framework(&mut self, id: &FrameworkId) {
        let Some(number) = self.framework_numbers.get(id).copied() else { return };
        let Some(framework) = self.frameworks[number as usize].as_mut() else { return };
        framework.active = false;
        self.change_clients(number, |_| true, |client, epoch| client.epoch = epoch);
        self.maintenance.forget_framework(number);
    }

    /// Removes a framework. What it has not given back is nobody's share, and not free either until
    /// it is [recovered](Self::recover). Linear in its roles, and in A if it has something.
    pub fn remove_framework(&mut self, id: &FrameworkId) {
        let Some(number) = self.framework_numbers.remove(id) else { return };
        let Some(framework) = self.frameworks[number as usize].take() else { return };
        self.maintenance.forget_framework(number);
        for (role, client) in &framework.clients {
            self.orphan(*client);
            self.leave_role(*role, *client);
        }
        self.free_frameworks.push(number);
    }

    /// No offers for these roles. Linear in the framework's roles.
    pub fn suppress(&mut self, id: &FrameworkId, roles: &BTreeSet<String>) {
        let Some(number) = self.framework_numbers.get(id).copied() else { return };
        self.change_clients(number, |role| roles.contains(role), |client, _| client.suppressed = true);
    }

    /// Offers for these roles again, whatever was refused: all agents are considered. Linear in A and
    /// in the framework's roles.
    pub fn revive(&mut self, id: &FrameworkId, roles: &BTreeSet<String>) {
        let Some(number) = self.framework_numbers.get(id).copied() else { return };
        self.change_clients(
            number,
            |role| roles.contains(role),
            |client, epoch| {
                client.suppressed = false;
                client.epoch = epoch;
            },
        );
        self.maintenance.revive(number);
        self.consider_all();
    }

    /// Changes the clients of a framework whose role is wanted; each hears of an epoch never used before.
    fn change_clients(&mut self, number: u32, wanted: impl Fn(&str) -> bool, change: impl Fn(&mut Client, u32)) {
        let Some(framework) = self.frameworks[number as usize].as_ref() else { return };
        for (role, client) in &framework.clients {
            if wanted(&self.roles[*role as usize].name) {
                self.next_epoch += 1;
                change(&mut self.clients[*client as usize], self.next_epoch);
            }
        }
        self.settle(number);
    }

    pub(super) fn framework(&mut self, id: &FrameworkId) -> u32 {
        if let Some(number) = self.framework_numbers.get(id) {
            return *number;
        }
        let number = self.free_frameworks.pop().unwrap_or_else(|| {
            self.frameworks.push(None);
            number_of(self.frameworks.len() - 1)
        });
        let abilities = Abilities::default();
        let framework = Framework { id: id.clone(), active: false, abilities, clients: BTreeMap::new() };
        self.frameworks[number as usize] = Some(framework);
        self.framework_numbers.insert(id.clone(), number);
        number
    }

    pub(super) fn role(&mut self, name: &str) -> u32 {
        if let Some(number) = self.role_numbers.get(name) {
            return *number;
        }
        let top = name.split_once('/').map(|(top, _)| self.role(top));
        let number = self.free_roles.pop().unwrap_or_else(|| number_of(self.roles.len()));
        let role = Role {
            name: name.into(),
            top: top.unwrap_or(number),
            below: 0,
            frameworks: Sorter::new(self.fair_totals.clone()),
            members: 0,
            quota: PlacedQuota::default(),
            reserved: Quantities::default(),
            used: Quantities::default(),
        };
        self.role_numbers.insert(role.name.clone(), number);
        match self.roles.get_mut(number as usize) {
            Some(place) => *place = role,
            None => self.roles.push(role),
        }
        if let Some(top) = top {
            self.roles[top as usize].below += 1;
        }
        number
    }

    /// Forgets a role that nothing is known of.
    pub(super) fn forget_role(&mut self, number: u32) {
        let role = &self.roles[number as usize];
        let empty = role.members == 0
            && role.below == 0
            && role.quota.is_default()
            && role.reserved.is_zero()
            && role.used.is_zero();
        if !empty || self.role_numbers.get(&role.name) != Some(&number) {
            return;
        }
        let top = role.top;
        self.role_numbers.remove(&self.roles[number as usize].name);
        self.free_roles.push(number);
        if top != number {
            self.roles[top as usize].below -= 1;
            self.forget_role(top);
        }
    }

    /// The framework as a client of the role.
    pub(super) fn client(&mut self, framework_number: u32, role_number: u32) -> u32 {
        let framework =
            self.frameworks[framework_number as usize].as_mut().expect("numbers of frameworks are looked up");
        if let Some(client) = framework.clients.get(&role_number) {
            return *client;
        }
        self.next_epoch += 1;
        let client = Client {
            framework: framework_number,
            role: role_number,
            epoch: self.next_epoch,
            holds: 0,
            exists: true,
            subscribed: false,
            suppressed: false,
            minimum: None,
            verdicts: None,
        };
        let number = match self.free_clients.pop() {
            Some(number) => {
                self.clients[number as usize] = client;
                number
            }
            None => {
                self.clients.push(client);
                number_of(self.clients.len() - 1)
            }
        };
        framework.clients.insert(role_number, number);
        let role = &mut self.roles[role_number as usize];
        role.frameworks.add(framework.id.as_str(), number);
        role.members += 1;
        if role.members == 1 {
            self.role_sorter.add(&role.name, role_number);
        }
        number
    }

    /// What a client has is nobody's from now on.
    fn orphan(&mut self, client: u32) {
        if self.clients[client as usize].holds == 0 {
            return;
        }
        for number in 0..self.agents.len() {
            let Some(agent) = self.agents[number].as_mut() else { continue };
            if let Some(bag) = agent.take_holder(client) {
                self.uncharge(number_of(number), client, &bag);
                self.agent_mut(number_of(number)).hold(super::ORPHANS, &bag);
            }
        }
    }

    fn leave_role(&mut self, role_number: u32, client: u32) {
        let gone = &mut self.clients[client as usize];
        gone.exists = false;
        self.own_minimums -= u32::from(gone.minimum.take().is_some());
        gone.verdicts = None;
        self.constrained.remove(&client);
        self.free_clients.push(client);
        let role = &mut self.roles[role_number as usize];
        role.frameworks.remove(client);
        role.members -= 1;
        if role.members == 0 {
            self.role_sorter.remove(role_number);
        }
        self.count_active(role_number);
        self.forget_role(role_number);
    }

    /// Tells the sorters which of a framework's roles take part.
    pub(super) fn settle(&mut self, number: u32) {
        let Some(framework) = self.frameworks[number as usize].as_mut() else { return };
        let mut gone = Vec::new();
        for (role, number) in &framework.clients {
            let client = &self.clients[*number as usize];
            let takes_part = framework.active && client.subscribed && !client.suppressed;
            let activity = if takes_part { Activity::Active } else { Activity::Inactive };
            self.roles[*role as usize].frameworks.set_activity(*number, activity);
            if !client.subscribed && client.holds == 0 {
                gone.push((*role, *number));
            }
        }
        for (role, _) in &gone {
            framework.clients.remove(role);
        }
        let stay: Vec<u32> = framework.clients.keys().copied().collect();
        for (role, client) in gone {
            self.leave_role(role, client);
        }
        for role in stay {
            self.count_active(role);
        }
    }

    fn count_active(&mut self, role_number: u32) {
        let active = self.roles[role_number as usize].frameworks.has_active();
        self.role_sorter.set_activity(role_number, if active { Activity::Active } else { Activity::Inactive });
    }
}
