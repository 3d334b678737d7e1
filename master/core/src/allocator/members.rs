//! Frameworks and their roles: who takes part.

use std::collections::{BTreeMap, BTreeSet};

use api::FrameworkId;

use super::quota::PlacedQuota;
use super::sorter::Sorter;
use super::{
    Abilities, Activity, Allocator, Client, Framework, Quantities, Role, Subscription, number_of, place_minimum,
};

impl Allocator {
    /// Adds a framework, or gives it other roles and abilities. An active one is considered.
    pub fn set_framework(&mut self, id: &FrameworkId, subscription: &Subscription, activity: Activity) {
        let active = activity == Activity::Active;
        let number = self.framework(id);
        let mut minimums = BTreeMap::new();
        for (role, alternatives) in &subscription.min_allocatable {
            minimums.insert(role.clone(), place_minimum(&mut self.names, alternatives));
        }
        for role in &subscription.roles {
            let role_number = self.role(role);
            self.client(number, role_number);
        }
        let Some(framework) = self.frameworks[number as usize].as_mut() else { return };
        framework.abilities = subscription.abilities;
        framework.active = active;
        for (role, client) in &mut framework.clients {
            let name = &self.roles[*role as usize].name;
            client.subscribed = subscription.roles.contains(name);
            client.suppressed = subscription.suppressed.contains(name);
            client.minimum = minimums.remove(name);
            if !active {
                client.refusals.clear();
            }
        }
        self.settle(number);
        if active {
            self.consider_all();
        }
    }

    /// An inactive framework gets nothing, and what it refused is forgotten.
    pub fn deactivate_framework(&mut self, id: &FrameworkId) {
        let Some(number) = self.framework_numbers.get(id).copied() else { return };
        let Some(framework) = self.frameworks[number as usize].as_mut() else { return };
        framework.active = false;
        framework.clients.values_mut().for_each(|client| client.refusals.clear());
        self.settle(number);
    }

    /// Removes a framework that has given everything back.
    pub fn remove_framework(&mut self, id: &FrameworkId) {
        let Some(number) = self.framework_numbers.remove(id) else { return };
        let Some(framework) = self.frameworks[number as usize].take() else { return };
        for role in framework.clients.keys() {
            self.leave_role(&framework.id, *role);
        }
    }

    /// No offers for these roles.
    pub fn suppress(&mut self, id: &FrameworkId, roles: &BTreeSet<String>) {
        self.change_clients(id, roles, |client| client.suppressed = true);
    }

    /// Offers for these roles again, whatever was refused.
    pub fn revive(&mut self, id: &FrameworkId, roles: &BTreeSet<String>) {
        self.change_clients(id, roles, |client| {
            client.suppressed = false;
            client.refusals.clear();
        });
        self.consider_all();
    }

    pub(super) fn change_clients(&mut self, id: &FrameworkId, roles: &BTreeSet<String>, change: impl Fn(&mut Client)) {
        let Some(number) = self.framework_numbers.get(id).copied() else { return };
        let Some(framework) = self.frameworks[number as usize].as_mut() else { return };
        for (role, client) in &mut framework.clients {
            if roles.contains(&self.roles[*role as usize].name) {
                change(client);
            }
        }
        self.settle(number);
    }

    pub(super) fn framework(&mut self, id: &FrameworkId) -> u32 {
        if let Some(number) = self.framework_numbers.get(id) {
            return *number;
        }
        // Numbers are not used again: sorters may still know the old one.
        let number = number_of(self.frameworks.len());
        let abilities = Abilities::default();
        self.frameworks.push(Some(Framework { id: id.clone(), active: false, abilities, clients: BTreeMap::new() }));
        self.framework_numbers.insert(id.clone(), number);
        number
    }

    pub(super) fn role(&mut self, name: &str) -> u32 {
        if let Some(number) = self.role_numbers.get(name) {
            return *number;
        }
        let top = match name.split_once('/') {
            Some((top, _)) => self.role(top),
            None => number_of(self.roles.len()),
        };
        let number = number_of(self.roles.len());
        self.roles.push(Role {
            name: name.to_owned(),
            top,
            frameworks: Sorter::new(),
            members: 0,
            quota: PlacedQuota::default(),
            reserved: Quantities::default(),
            used: Quantities::default(),
        });
        self.role_numbers.insert(name.to_owned(), number);
        number
    }

    /// Makes sure the framework is a client of the role.
    pub(super) fn client(&mut self, framework_number: u32, role_number: u32) {
        let Some(framework) = self.frameworks[framework_number as usize].as_mut() else { return };
        if framework.clients.contains_key(&role_number) {
            return;
        }
        framework.clients.insert(role_number, Client::default());
        let role = &mut self.roles[role_number as usize];
        role.frameworks.add(framework.id.as_str(), framework_number);
        role.members += 1;
        if role.members == 1 {
            self.role_sorter.add(&role.name, role_number);
        }
    }

    pub(super) fn leave_role(&mut self, framework: &FrameworkId, role_number: u32) {
        let role = &mut self.roles[role_number as usize];
        // What it had not given back yet (launches on their way) is no longer anybody's share.
        let left = role.frameworks.allocation(framework.as_str());
        if !left.is_zero() {
            self.role_sorter.unallocated(&role.name, &left);
            let top = role.top;
            self.change_role(top, |role| role.used.sub(&left));
        }
        let role = &mut self.roles[role_number as usize];
        role.frameworks.remove(framework.as_str());
        role.members -= 1;
        if role.members == 0 {
            self.role_sorter.remove(&role.name);
        }
        self.count_active(role_number);
    }

    /// Tells the sorters which of a framework's roles take part.
    pub(super) fn settle(&mut self, number: u32) {
        let Some(framework) = self.frameworks[number as usize].as_mut() else { return };
        let mut gone = Vec::new();
        for (role, client) in &framework.clients {
            let sorter = &mut self.roles[*role as usize].frameworks;
            let takes_part = framework.active && client.subscribed && !client.suppressed;
            let activity = if takes_part { Activity::Active } else { Activity::Inactive };
            sorter.set_activity(framework.id.as_str(), activity);
            if !client.subscribed && sorter.is_idle(framework.id.as_str()) {
                gone.push(*role);
            }
        }
        for role in &gone {
            framework.clients.remove(role);
        }
        let (id, all) = (framework.id.clone(), framework.clients.keys().copied().collect::<Vec<_>>());
        for role in gone {
            self.leave_role(&id, role);
        }
        for role in all {
            self.count_active(role);
        }
    }

    pub(super) fn count_active(&mut self, role_number: u32) {
        let role = &mut self.roles[role_number as usize];
        let activity = if role.frameworks.has_active() { Activity::Active } else { Activity::Inactive };
        self.role_sorter.set_activity(&role.name, activity);
    }
}
