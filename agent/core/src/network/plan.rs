//! From what the kernel has to what is wanted: one step after the other, each tried on the model before the next is
//! chosen, so that what a step takes along (routes of a link that goes down, say) is put right by those after it.

use api::network::Prefix;

use super::kernel::{Kernel, Kind, Owner, Seen, Step};
use super::resolve::{Wanted, WantedKind, WantedLink};

/// No change takes more steps.
const MOST: usize = 20_000;

/// The steps in their order; none when all is as wanted.
#[must_use]
pub fn plan(kernel: &Kernel, wanted: &Wanted) -> Vec<Step> {
    let (mut model, mut steps) = (kernel.clone(), Vec::new());
    while steps.len() < MOST {
        let Some(step) = next(&model, wanted) else { break };
        let refused = model.apply(&step);
        debug_assert!(refused.is_ok(), "the planner knows what the kernel takes: {step}: {refused:?}");
        if refused.is_err() {
            break;
        }
        steps.push(step);
    }
    steps
}

fn next(kernel: &Kernel, wanted: &Wanted) -> Option<Step> {
    surplus(kernel, wanted)
        .or_else(|| bonds(kernel, wanted))
        .or_else(|| ports(kernel, wanted))
        .or_else(|| vlans(kernel, wanted))
        .or_else(|| sizes(kernel, wanted))
        .or_else(|| switched_on(kernel, wanted))
        .or_else(|| addresses(kernel, wanted))
        .or_else(|| routes(kernel, wanted))
}

/// Those that are there and wanted.
fn pairs<'a>(kernel: &'a Kernel, wanted: &'a Wanted) -> impl Iterator<Item = (&'a String, &'a Seen, &'a WantedLink)> {
    wanted.links.iter().filter_map(|(name, link)| Some((name, kernel.links.get(name)?, link)))
}

/// Bonds and VLANs nobody wants, or that would have to be something else. VLANs first.
fn surplus(kernel: &Kernel, wanted: &Wanted) -> Option<Step> {
    let is_surplus = |name: &String, seen: &Seen| {
        let kind = wanted.links.get(name).map(|link| &link.kind);
        match (&seen.kind, kind) {
            (Kind::Card(_), _) => false,
            (Kind::Bond(is), Some(WantedKind::Bond(shall))) => is.mode != shall.mode,
            (Kind::Vlan { of, id }, Some(WantedKind::Vlan { of: shall_of, id: shall_id })) => {
                (of, id) != (shall_of, shall_id)
            }
            (Kind::Bond(_) | Kind::Vlan { .. }, _) => true,
        }
    };
    let gone = kernel.links.iter().filter(|(name, seen)| is_surplus(name, seen));
    let (name, _) = gone.min_by_key(|(name, seen)| (matches!(seen.kind, Kind::Bond(_)), *name))?;
    Some(Step::Delete { link: name.clone() })
}

fn bonds(kernel: &Kernel, wanted: &Wanted) -> Option<Step> {
    for (name, link) in &wanted.links {
        let WantedKind::Bond(shall) = link.kind else { continue };
        let options = shall.normal();
        let link = name.clone();
        let Some(seen) = kernel.links.get(name) else { return Some(Step::CreateBond { link, options }) };
        let Kind::Bond(is) = seen.kind else { continue };
        if is.normal() == options {
            continue;
        }
        if is.lacp_rate != options.lacp_rate && seen.up {
            return Some(Step::Down { link });
        }
        return Some(Step::SetBond { link, options });
    }
    None
}

fn ports(kernel: &Kernel, wanted: &Wanted) -> Option<Step> {
    for (name, seen, shall) in pairs(kernel, wanted) {
        let link = name.clone();
        if seen.bond == shall.bond {
            continue;
        }
        if seen.bond.is_some() {
            return Some(Step::Release { link });
        }
        let Some(bond) = shall.bond.clone() else { continue };
        // What is left of its life as a card of its own.
        if let Some((address, _)) = seen.addresses.iter().find(|(_, owner)| **owner == Owner::Node) {
            return Some(Step::RemoveAddress { link, address: *address });
        }
        if seen.up {
            return Some(Step::Down { link });
        }
        return Some(Step::Enslave { link, bond });
    }
    None
}

fn vlans(kernel: &Kernel, wanted: &Wanted) -> Option<Step> {
    wanted.links.iter().find_map(|(name, link)| {
        let WantedKind::Vlan { of, id } = &link.kind else { return None };
        let can = kernel.links.contains_key(of) && !kernel.links.contains_key(name);
        can.then(|| Step::CreateVlan { link: name.clone(), of: of.clone(), id: *id })
    })
}

/// Those that carry others first: a VLAN's packets are no larger than its link's.
fn sizes(kernel: &Kernel, wanted: &Wanted) -> Option<Step> {
    let step = |vlans: bool| {
        pairs(kernel, wanted).find_map(|(name, seen, shall)| {
            let of = match &seen.kind {
                Kind::Vlan { of, .. } => Some(of),
                Kind::Card(_) | Kind::Bond(_) => None,
            };
            if of.is_some() != vlans || seen.bond.is_some() {
                return None;
            }
            let most = of.and_then(|of| kernel.links.get(of)).map_or(u32::MAX, |parent| parent.mtu);
            let mtu = shall.mtu.unwrap_or_else(|| seen.mtu.min(1500)).min(most);
            (seen.mtu != mtu).then(|| Step::SetMtu { link: name.clone(), mtu })
        })
    };
    step(false).or_else(|| step(true))
}

fn switched_on(kernel: &Kernel, wanted: &Wanted) -> Option<Step> {
    let down = |vlans: bool| {
        pairs(kernel, wanted)
            .find(|(_, seen, _)| !seen.up && matches!(seen.kind, Kind::Vlan { .. }) == vlans)
            .map(|(name, ..)| Step::Up { link: name.clone() })
    };
    down(false).or_else(|| down(true))
}

/// Those that go first: an address may move from one link to another.
fn addresses(kernel: &Kernel, wanted: &Wanted) -> Option<Step> {
    let gone = |seen: &Seen, shall: &WantedLink| {
        let surplus = |(address, owner): (&Prefix, &Owner)| {
            (*owner == Owner::Node && !shall.addresses.contains(address)).then_some(*address)
        };
        seen.addresses.iter().find_map(surplus)
    };
    let removed = pairs(kernel, wanted)
        .find_map(|(name, seen, shall)| Some(Step::RemoveAddress { link: name.clone(), address: gone(seen, shall)? }));
    removed.or_else(|| {
        pairs(kernel, wanted).find_map(|(name, seen, shall)| {
            let address = shall.addresses.iter().find(|address| !seen.addresses.contains_key(address))?;
            Some(Step::AddAddress { link: name.clone(), address: *address })
        })
    })
}

/// Those that go first; then those on links, then those through routers, which have to be reached.
fn routes(kernel: &Kernel, wanted: &Wanted) -> Option<Step> {
    let removed = pairs(kernel, wanted).find_map(|(name, seen, shall)| {
        let route = seen.routes.iter().find(|route| !shall.routes.contains(route))?;
        Some(Step::RemoveRoute { link: name.clone(), route: *route })
    });
    removed.or_else(|| {
        let missing = pairs(kernel, wanted).flat_map(|(name, seen, shall)| {
            let missing = shall.routes.iter().filter(|route| !seen.routes.contains(route));
            missing.map(move |route| (route.via.is_some(), name, route))
        });
        let (_, name, route) = missing.min()?;
        Some(Step::AddRoute { link: name.clone(), route: *route })
    })
}

#[cfg(test)]
mod tests;
