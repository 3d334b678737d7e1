//! Where a machine stands, by everything that knows something of it; which one counts is decided by their rank.

use api::facts::Source;
use hwdetect::{CivicAddress, Inventory};

use super::Surroundings;
use super::collector::Collector;
use super::spelling::place_words;
use crate::lldp::Neighbour;

pub(super) fn collect(facts: &mut Collector, inventory: &Inventory, surroundings: &Surroundings) {
    facts.from(Source::Agent, "").text("net.primary", surroundings.primary.as_ref());
    facts.from(Source::Agent, "").text("ip", surroundings.address.map(|address| address.to_string()));
    neighbours(facts, surroundings);
    if let Some(location) = &surroundings.location {
        civic(facts, Source::Dhcp, "DHCP option 99", location);
    }
    words(facts, Source::Dhcp, "DHCP option 224", surroundings.place.as_deref());
    let platform = &inventory.platform;
    for text in &platform.oem_strings {
        words(facts, Source::Smbios, "SMBIOS OEM string", Some(text));
    }
    words(facts, Source::Smbios, "SMBIOS chassis asset tag", platform.chassis.asset_tag.as_deref());
    words(facts, Source::Smbios, "SMBIOS board asset tag", platform.board.asset_tag.as_deref());
}

/// The link with the default route comes first: where two disagree, its switch is believed.
fn neighbours(facts: &mut Collector, surroundings: &Surroundings) {
    let mut neighbours: Vec<&Neighbour> =
        surroundings.neighbours.iter().filter(|neighbour| neighbour.announcement.forwards()).collect();
    let rank = |one: &Neighbour| surroundings.primary.as_ref() != Some(&one.link);
    neighbours.sort_by(|a, b| (rank(a), &a.link).cmp(&(rank(b), &b.link)));
    for neighbour in neighbours {
        let Neighbour { link, announcement } = neighbour;
        let name = announcement.system_name.clone().unwrap_or_else(|| announcement.chassis.to_string());
        let port = announcement.port.to_string();
        let evidence = format!("{link} hears {port} of {name}");
        let mut from = facts.from(Source::Lldp, &evidence);
        from.text("switch", Some(&name));
        from.text("switch.port", Some(&port));
        from.text(&format!("switch.{link}.name"), Some(&name));
        from.text(&format!("switch.{link}.port"), Some(&port));
        from.text(&format!("switch.{link}.chassis"), Some(announcement.chassis.to_string()));
        from.number(&format!("switch.{link}.vlan"), announcement.port_vlan);
        if let Some(location) = &announcement.location {
            civic(facts, Source::Lldp, &evidence, location);
        }
        words(facts, Source::Lldp, &evidence, announcement.port_description.as_deref());
        words(facts, Source::Lldp, &evidence, announcement.system_description.as_deref());
    }
}

fn civic(facts: &mut Collector, source: Source, evidence: &str, location: &CivicAddress) {
    words(facts, source, evidence, location.additional.as_deref());
    facts.from(source, evidence).text("dc", location.building.as_ref());
    facts.from(source, evidence).text("room", location.room.as_ref());
}

fn words(facts: &mut Collector, source: Source, evidence: &str, text: Option<&str>) {
    for (name, value) in place_words(text.unwrap_or_default()) {
        facts.from(source, evidence).text(name, Some(value));
    }
}
