//! Refusals: what a framework does not want to be offered again for a while. They are kept with
//! the agent they are about, since a run looks at one agent and many frameworks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::bag::Bag;

/// So many refusals of one agent by one client; then the one that ends first goes.
const MOST: usize = 64;

/// One agent's, in the order of clients.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Refusal>);

#[derive(Debug)]
struct Refusal {
    client: u32,
    /// Of the client, when it refused: a revival makes it another one.
    epoch: u32,
    until: u64,
    bag: Box<Bag>,
}

impl Refusals {
    fn of(&self, client: u32) -> &[Refusal] {
        let from = self.0.partition_point(|refusal| refusal.client < client);
        let count = self.0[from..].partition_point(|refusal| refusal.client == client);
        &self.0[from..from + count]
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refused is what a refusal contains whole: more, or something else, is worth a look.
    pub(super) fn refuse(&self, client: u32, epoch: u32, bag: &Bag) -> bool {
        !self.0.is_empty() && self.of(client).iter().any(|refusal| refusal.epoch == epoch && refusal.bag.contains(bag))
    }

    /// Adds one; others that say no more than it does go.
    pub(super) fn add(&mut self, client: u32, epoch: u32, bag: Bag, until: u64) {
        self.0.retain(|old| {
            old.client != client || old.epoch == epoch && !(old.until <= until && bag.contains(&old.bag))
        });
        let count = self.of(client).len();
        let from = self.0.partition_point(|refusal| refusal.client < client);
        if count >= MOST {
            let first = (from..from + count).min_by_key(|index| self.0[*index].until).unwrap_or(from);
            self.0.remove(first);
        }
        if self.0.capacity() == 0 {
            self.0.reserve_exact(1); // most agents are refused by one framework or by many
        }
        self.0.insert(from, Refusal { client, epoch, until, bag: Box::new(bag) });
    }

    /// Forgets what ended, and what was refused in another epoch.
    pub(super) fn expire(&mut self, now: u64, epoch: impl Fn(u32) -> Option<u32>) {
        self.0.retain(|refusal| refusal.until > now && epoch(refusal.client) == Some(refusal.epoch));
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u32, u32)> + '_ {
        self.0.iter().map(|refusal| (refusal.until, refusal.client, refusal.epoch))
    }

    pub(super) fn bags(&self) -> impl Iterator<Item = &Bag> {
        self.0.iter().map(|refusal| &*refusal.bag)
    }
}

/// When refusals end: (when, agent). Those that were forgotten before are in it until then, or until
/// there are too many of them.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    /// How many there were after the last [`rebuild`](Self::rebuild).
    rebuilt: usize,
}

impl Expiries {
    pub(super) fn push(&mut self, until: u64, agent: u32) {
        self.heap.push(Reverse((until, agent)));
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((until, _))| *until)
    }

    /// The agent of a refusal that has ended.
    pub(super) fn pop(&mut self, now: u64) -> Option<u32> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, agent))| agent)
    }

    /// Has it doubled since it was built?
    pub(super) fn is_crowded(&self) -> bool {
        self.heap.len() > 2 * self.rebuilt + 4096
    }

    pub(super) fn rebuild(&mut self, all: Vec<(u64, u32)>) {
        self.rebuilt = all.len();
        self.heap = all.into_iter().map(Reverse).collect();
    }
}

/// Time as a number: 584 years of nanoseconds.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(amount: u64) -> Bag {
        let mut bag = Bag::default();
        bag.plain.add_at(0, amount);
        bag
    }

    #[test]
    fn a_refusal_holds_for_what_it_contains() {
        let mut refusals = Refusals::default();
        refusals.add(7, 1, cpus(4), 100);
        refusals.add(3, 1, cpus(1), 50);
        assert!(refusals.refuse(7, 1, &cpus(4)) && refusals.refuse(7, 1, &cpus(2)));
        assert!(!refusals.refuse(7, 1, &cpus(5)), "more is worth a look");
        assert!(!refusals.refuse(7, 2, &cpus(4)), "revived since");
        assert!(!refusals.refuse(3, 1, &cpus(2)));
        refusals.add(7, 1, cpus(2), 90);
        refusals.add(7, 1, cpus(5), 100);
        assert_eq!(refusals.0.len(), 2, "the larger and longer one says it all");
        refusals.expire(50, |_| Some(1));
        assert!(!refusals.refuse(3, 1, &cpus(1)) && refusals.refuse(7, 1, &cpus(5)));
        refusals.expire(50, |_| None);
        assert!(refusals.is_empty());
    }

    #[test]
    fn refusals_are_bounded() {
        let mut refusals = Refusals::default();
        for number in 0..100 {
            refusals.add(1, 1, cpus(1000 - number), 1000 + number);
        }
        assert_eq!(refusals.0.len(), MOST);
    }
}
