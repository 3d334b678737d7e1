//! Kinds of resources as numbers: everything about a resource but how much. Comparing two resources
//! is then comparing two numbers, and an agent's resources fit in a few words.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::resources::Reservation;
use api::{Milli, Resource, ResourceValue, Resources};
use serde::Serialize;

use super::bag::{Amount, Bag, Piece, SHARED, WHOLE, index};
use super::quantities::{KNOWN, Names, Quantities};

/// One kind.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Its value means nothing.
    pub(super) resource: Resource,
    pub(super) place: usize,
    /// Unreserved and not revocable: what quotas and headroom count.
    pub(super) plain: bool,
    /// A part of it is of use.
    pub(super) divisible: bool,
}

/// The kinds seen. Those in use nowhere are forgotten by [`keep`](Self::keep).
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    pub(super) names: Names,
    kinds: Vec<Option<Box<Kind>>>,
    numbers: BTreeMap<Box<[u8]>, u32>,
    free: Vec<u32>,
    /// Unreserved ports: on every agent.
    ports: Option<u32>,
    /// How many there were after the last [`keep`](Self::keep).
    kept: usize,
}

#[derive(Serialize)]
struct Identity<'a, D: Serialize> {
    name: &'a str,
    value: u8,
    reservations: &'a [Reservation],
    revocable: bool,
    disk: &'a D,
    provider: &'a Option<String>,
    shared: bool,
}

impl Kinds {
    pub(super) fn get(&self, kind: u32) -> &Kind {
        self.kinds[index(kind)].as_ref().expect("kinds in use are kept")
    }

    /// Everything in `resources`, in numbers.
    pub(super) fn bag(&mut self, resources: &Resources) -> Bag {
        let mut bag = Bag::default();
        for resource in resources {
            let bare = resource.reservations.is_empty()
                && !resource.revocable
                && resource.disk.is_none()
                && resource.provider_id.is_none()
                && !resource.shared;
            match &resource.value {
                ResourceValue::Scalar(amount) if bare => bag.plain.add_at(self.names.place(&resource.name), amount.0),
                ResourceValue::Scalar(amount) => bag.add(self.number(resource), Amount::Scalar(amount.0)),
                ResourceValue::Ranges(ranges) => {
                    let kind = match self.ports {
                        Some(ports) if bare && resource.name == "ports" => ports,
                        _ => self.number(resource),
                    };
                    if bare && resource.name == "ports" {
                        self.ports = Some(kind);
                    }
                    bag.add(kind, Amount::Ranges(Arc::new(ranges.clone())));
                }
                ResourceValue::Set(items) => bag.add(self.number(resource), Amount::Set(Arc::new(items.clone()))),
            }
        }
        bag.rest.shrink_to_fit();
        bag
    }

    fn number(&mut self, resource: &Resource) -> u32 {
        let value = match resource.value {
            ResourceValue::Scalar(_) => 0,
            ResourceValue::Ranges(_) => 1,
            ResourceValue::Set(_) => 2,
        };
        let identity = Identity {
            name: &resource.name,
            value,
            reservations: &resource.reservations,
            revocable: resource.revocable,
            disk: &resource.disk,
            provider: &resource.provider_id,
            shared: resource.shared,
        };
        let key = rmp_serde::to_vec(&identity).expect("a resource is plain data").into_boxed_slice();
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let place = self.names.place(&resource.name);
        let kind = Kind {
            place,
            plain: resource.reservations.is_empty() && !resource.revocable,
            divisible: super::quota::is_divisible(resource),
            resource: Resource { value: ResourceValue::Scalar(Milli::ZERO), ..resource.clone() },
        };
        let spot = self.free.pop().unwrap_or_else(|| {
            self.kinds.push(None);
            super::number_of(self.kinds.len() - 1)
        });
        let whole = if resource.stands_alone() { WHOLE } else { 0 };
        let shared = if resource.shared { SHARED } else { 0 };
        let number = spot | whole | shared;
        self.kinds[spot as usize] = Some(Box::new(kind));
        self.numbers.insert(key, number);
        number
    }

    /// Are there many more kinds than when they were last counted?
    pub(super) fn is_crowded(&self) -> bool {
        self.numbers.len() > 2 * self.kept + 1024
    }

    /// Forgets the kinds of which `used` says they are not.
    pub(super) fn keep(&mut self, used: &[bool]) {
        let (kinds, free) = (&mut self.kinds, &mut self.free);
        let ports = self.ports;
        self.numbers.retain(|_, number| {
            let spot = index(*number);
            let keep = used.get(spot).copied().unwrap_or(false) || Some(*number) == ports;
            if !keep {
                kinds[spot] = None;
                free.push(super::number_of(spot));
            }
            keep
        });
        self.kept = self.numbers.len();
    }

    /// How many kinds [`keep`](Self::keep) wants to hear of.
    pub(super) fn count(&self) -> usize {
        self.kinds.len()
    }

    /// As the API has them: what is `plain` by its place, then the rest.
    pub(super) fn resources(&self, bag: &Bag) -> Resources {
        let mut all = Vec::with_capacity(3 + bag.rest.len());
        for (place, amount) in bag.plain.iter().enumerate().filter(|(_, amount)| *amount > 0) {
            all.push(Resource::scalar(self.names.name(place), Milli(amount)));
        }
        for piece in &bag.rest {
            let mut resource = self.get(piece.kind).resource.clone();
            resource.value = match &piece.amount {
                Amount::Scalar(amount) => ResourceValue::Scalar(Milli(*amount)),
                Amount::Ranges(ranges) => ResourceValue::Ranges((**ranges).clone()),
                Amount::Set(items) => ResourceValue::Set((**items).clone()),
            };
            all.push(resource);
        }
        Resources::from_distinct(all)
    }

    /// The sums of the scalars of which `keep` says so; those without a kind of their own are in.
    fn sum(&self, bag: &Bag, keep: impl Fn(&Piece, &Kind) -> bool) -> Quantities {
        let mut sums = bag.plain.clone();
        for piece in &bag.rest {
            if let Amount::Scalar(amount) = piece.amount {
                let kind = self.get(piece.kind);
                if keep(piece, kind) {
                    sums.add_at(kind.place, amount);
                }
            }
        }
        sums
    }

    /// All scalars.
    pub(super) fn scalars(&self, bag: &Bag) -> Quantities {
        self.sum(bag, |_, _| true)
    }

    /// What shares count; shared resources are counted apart, once a client.
    pub(super) fn unshared(&self, bag: &Bag) -> Quantities {
        self.sum(bag, |piece, _| piece.kind & SHARED == 0)
    }

    /// What quotas and headroom count: unreserved and not revocable.
    pub(super) fn plain(&self, bag: &Bag) -> Quantities {
        self.sum(bag, |_, kind| kind.plain)
    }

    /// Has it a scalar of that name?
    pub(super) fn has(&self, bag: &Bag, name: &str) -> bool {
        self.names.find(name).is_some_and(|place| self.scalars(bag).get(place) > 0)
    }

    /// Is it a scalar that quotas cut?
    pub(super) fn is_plain_scalar(&self, piece: &Piece) -> bool {
        matches!(piece.amount, Amount::Scalar(_)) && self.get(piece.kind).plain
    }

    /// Nothing reserved, revocable or shared: it can go whole to anyone.
    pub(super) fn is_simple(&self, bag: &Bag) -> bool {
        bag.rest.iter().all(|piece| piece.kind & SHARED == 0 && self.get(piece.kind).plain)
    }
}

const _: () = assert!(KNOWN.len() == 4, "agents are sized for four names");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_come_back_as_they_went_in() {
        let mut kinds = Kinds::default();
        let text = "cpus:2; mem:10; tape:3; ports:[1-9]; cpus(a):1; tags:{x, y}";
        let bag = kinds.bag(&Resources::parse(text).unwrap());
        assert_eq!(kinds.resources(&bag).to_string(), text);
        assert_eq!(kinds.scalars(&bag).get(0), 3000);
        assert_eq!(kinds.plain(&bag).get(0), 2000);
        assert!(!kinds.is_simple(&bag));
    }

    #[test]
    fn kinds_in_use_nowhere_are_forgotten() {
        let mut kinds = Kinds::default();
        let bag = kinds.bag(&Resources::parse("cpus(a):1").unwrap());
        kinds.bag(&Resources::parse("cpus(b):1").unwrap());
        let mut used = vec![false; kinds.count()];
        used[index(bag.rest[0].kind)] = true;
        kinds.keep(&used);
        assert_eq!(kinds.numbers.len(), 1);
        assert_eq!(kinds.resources(&bag).to_string(), "cpus(a):1");
        kinds.bag(&Resources::parse("cpus(c):1").unwrap());
        assert_eq!(kinds.count(), 2, "the place of `b` is used again");
    }
}
