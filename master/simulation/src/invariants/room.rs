//! A full disk ends a reign: a leader that finds no room on its disk ceases to lead.

use std::collections::BTreeMap;

use crate::trace::{MS, Micros};

/// From the first write that is refused.
const GRACE: Micros = 800 * MS;
/// Whoever stood still has to ask the others first.
const AWAKE: Micros = 1500 * MS;

#[derive(Debug, Default)]
pub(crate) struct Room {
    /// The machines whose masters believe to lead.
    leading: BTreeMap<usize, u64>,
    /// Since when there is no room.
    refused: BTreeMap<usize, Micros>,
}

impl Room {
    /// A master begins or ceases to lead; so does one that ends.
    pub(crate) fn leads(&mut self, machine: usize, term: Option<u64>) {
        match term {
            Some(term) => drop(self.leading.insert(machine, term)),
            None => drop(self.leading.remove(&machine)),
        }
    }

    /// Does its master believe to lead?
    pub(crate) fn is_leading(&self, machine: usize) -> bool {
        self.leading.contains_key(&machine)
    }

    /// A machine now: has its disk refused a write, and since when has it been awake?
    pub(crate) fn look(&mut self, machine: usize, refuses: bool, awake: Micros, now: Micros) -> Result<(), String> {
        if !refuses {
            self.refused.remove(&machine);
            return Ok(());
        }
        let since = *self.refused.entry(machine).or_insert(now);
        match self.leading.get(&machine) {
            Some(term) if now > since + GRACE && now > awake + AWAKE => Err(format!(
                "master {machine} leads in term {term}, and its disk has been full for {} ms",
                (now - since) / MS
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_with_a_full_disk_is_seen() {
        let mut room = Room::default();
        room.leads(1, Some(4));
        room.look(1, true, 0, 2000 * MS).unwrap();
        room.look(1, true, 0, 2700 * MS).unwrap();
        assert!(room.look(1, true, 0, 2900 * MS).is_err());
        room.look(1, true, 2500 * MS, 2900 * MS).unwrap();
        room.look(1, false, 0, 3000 * MS).unwrap();
        room.look(1, true, 0, 3100 * MS).unwrap();
        room.leads(1, None);
        room.look(1, true, 0, 9000 * MS).unwrap();
    }
}
