//! Who is at the other end of each link: what switches announce, until it runs out or the cable is pulled.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hwdetect::lldp::{Announcement, Id, LldpError, STATION, parse_frame};

/// How often we say who we are.
pub const INTERVAL_MS: u64 = 30_000;
/// For how long others may believe it: four times the interval, as the standard has it.
pub const TTL_SECS: u16 = 120;
/// Devices remembered on one link. A switch is alone on a cable; more come through one that forwards what it should not.
const NEIGHBOURS_PER_LINK: usize = 8;

/// A device at the other end of a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Neighbour {
    /// Our interface.
    pub link: String,
    /// What it says of itself.
    pub announcement: Announcement,
}

/// What tells two devices on one link apart.
type Key = (u32, Id, Id);

#[derive(Clone, Debug)]
struct Heard {
    neighbour: Neighbour,
    until_ms: u64,
}

/// All neighbours on all links.
#[derive(Clone, Debug, Default)]
pub struct Neighbours(BTreeMap<Key, Heard>);

/// Whether something is other than before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Somebody came, went, or says something else.
    Changed,
    /// All is as it was.
    None,
}

impl Neighbours {
    /// Takes a frame that came in on interface `index`, called `link`.
    ///
    /// # Errors
    /// It is no LLDP frame.
    pub fn hear(&mut self, (index, link): (u32, &str), frame: &[u8], now_ms: u64) -> Result<Change, LldpError> {
        let announcement = parse_frame(frame)?;
        let key = (index, announcement.chassis.clone(), announcement.port.clone());
        if announcement.ttl_secs == 0 {
            // Goodbye.
            return Ok(if self.0.remove(&key).is_some() { Change::Changed } else { Change::None });
        }
        let until_ms = now_ms.saturating_add(u64::from(announcement.ttl_secs) * 1000);
        let neighbour = Neighbour { link: link.to_owned(), announcement };
        if let Some(known) = self.0.get_mut(&key) {
            known.until_ms = until_ms;
            let same = known.neighbour == neighbour;
            known.neighbour = neighbour;
            return Ok(if same { Change::None } else { Change::Changed });
        }
        // The one that will be forgotten first makes room.
        let mine: Vec<(u64, Key)> = self
            .0
            .iter()
            .filter(|((on, ..), _)| *on == index)
            .map(|(key, heard)| (heard.until_ms, key.clone()))
            .collect();
        if mine.len() >= NEIGHBOURS_PER_LINK
            && let Some((_, oldest)) = mine.into_iter().min()
        {
            self.0.remove(&oldest);
        }
        self.0.insert(key, Heard { neighbour, until_ms });
        Ok(Change::Changed)
    }

    /// The cable was pulled, or the card: who was there is not there any more.
    pub fn link_lost(&mut self, index: u32) -> Change {
        let before = self.0.len();
        self.0.retain(|(on, ..), _| *on != index);
        if self.0.len() == before { Change::None } else { Change::Changed }
    }

    /// Forgets who has not been heard for as long as they said.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Change {
        let before = self.0.len();
        self.0.retain(|_, heard| heard.until_ms > now_ms);
        if self.0.len() == before { Change::None } else { Change::Changed }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> u64 {
        self.0.values().map(|heard| heard.until_ms).min().unwrap_or(u64::MAX)
    }

    /// All of them, by interface.
    #[must_use]
    pub fn all(&self) -> Vec<Neighbour> {
        self.0.values().map(|heard| heard.neighbour.clone()).collect()
    }
}

/// What we say of ourselves on a link.
#[must_use]
pub fn own_announcement(mac: [u8; 6], link: &str, name: Option<&str>, address: Option<IpAddr>) -> Announcement {
    Announcement {
        chassis: Id::Mac(mac),
        port: Id::Text(link.to_owned()),
        ttl_secs: TTL_SECS,
        port_description: Some(link.to_owned()),
        system_name: name.map(str::to_owned),
        system_description: Some(format!("Mesolith {}", env!("CARGO_PKG_VERSION"))),
        capabilities: Some(STATION),
        management_addresses: address.into_iter().collect(),
        port_vlan: None,
        max_frame_bytes: None,
        location: None,
        asset_tag: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(chassis: &str, port: &str, ttl_secs: u16) -> Vec<u8> {
        let chassis = Id::Text(chassis.to_owned());
        let announcement = Announcement { chassis, ttl_secs, ..own_announcement([2; 6], port, Some("tor"), None) };
        announcement.to_frame([2; 6], 1)
    }

    fn ports(neighbours: &Neighbours) -> Vec<String> {
        neighbours.all().iter().map(|one| format!("{} {}", one.link, one.announcement.port)).collect()
    }

    #[test]
    fn a_neighbour_stays_until_its_time_is_over() {
        let mut neighbours = Neighbours::default();
        let eth0 = (2, "eth0");
        assert_eq!(neighbours.hear(eth0, &frame("tor", "p7", 120), 0), Ok(Change::Changed));
        assert_eq!(neighbours.hear(eth0, &frame("tor", "p7", 120), 30_000), Ok(Change::None));
        assert_eq!(neighbours.poll_timeout(), 150_000);
        assert_eq!(neighbours.handle_timeout(149_999), Change::None);
        assert_eq!(neighbours.handle_timeout(150_000), Change::Changed);
        assert_eq!((ports(&neighbours).len(), neighbours.poll_timeout()), (0, u64::MAX));
    }

    #[test]
    fn a_moved_cable_and_a_goodbye_are_changes_at_once() {
        let mut neighbours = Neighbours::default();
        neighbours.hear((2, "eth0"), &frame("tor", "p7", 120), 0).unwrap();
        neighbours.hear((3, "eth1"), &frame("tor", "p8", 120), 0).unwrap();
        assert_eq!(neighbours.link_lost(2), Change::Changed);
        assert_eq!(neighbours.link_lost(2), Change::None);
        assert_eq!(ports(&neighbours), ["eth1 p8"]);
        assert_eq!(neighbours.hear((3, "eth1"), &frame("tor", "p8", 0), 5), Ok(Change::Changed));
        assert_eq!(ports(&neighbours).len(), 0);
    }

    #[test]
    fn a_flood_of_devices_pushes_out_the_oldest_and_not_those_of_other_links() {
        let mut neighbours = Neighbours::default();
        neighbours.hear((2, "eth0"), &frame("tor", "p7", 120), 0).unwrap();
        for number in 0..100 {
            neighbours.hear((3, "eth1"), &frame(&format!("liar-{number}"), "p", 120), 1 + number).unwrap();
        }
        let known = ports(&neighbours);
        assert_eq!((known.len(), known[0].as_str()), (1 + NEIGHBOURS_PER_LINK, "eth0 p7"));
        assert!(neighbours.hear((2, "eth0"), &[0; 20], 0).is_err());
    }
}
