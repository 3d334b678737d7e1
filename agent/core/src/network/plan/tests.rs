//! Plans applied to the model, which refuses what the kernel refuses.

use std::collections::{BTreeMap, BTreeSet};

use api::network::{BondMode, Card, HashPolicy, LacpRate, Methods, Prefix};
use proptest::prelude::*;

use super::*;
use crate::network::{BondOptions, Route, Source};

const CARDS: [&str; 4] = ["eth0", "eth1", "eth2", "eth3"];

fn options() -> impl Strategy<Value = BondOptions> {
    (any::<bool>(), any::<bool>(), any::<bool>(), 0u32..3).prop_map(|(lacp, fast, hash, min_links)| BondOptions {
        mode: if lacp { BondMode::Lacp } else { BondMode::ActiveBackup },
        lacp_rate: if fast { LacpRate::Fast } else { LacpRate::Slow },
        hash: if hash { HashPolicy::Layer34 } else { HashPolicy::Layer2 },
        miimon_ms: 100,
        min_links,
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    prop_oneof![
        (0u8..4, prop_oneof![Just(16u8), Just(24)])
            .prop_map(|(last, length)| Prefix { address: [10, 0, last, 5].into(), length }),
        (0u16..3).prop_map(|last| Prefix { address: [0xfd00, 0, 0, last, 0, 0, 0, 5].into(), length: 64 }),
    ]
}

fn routes() -> impl Strategy<Value = BTreeSet<Route>> {
    let route =
        (0u8..3, any::<bool>(), prop_oneof![Just(100u32), Just(1003)]).prop_map(|(net, router, metric)| Route {
            to: Prefix { address: [10, net, 0, 0].into(), length: 16 },
            via: router.then(|| [10, 0, 0, 1].into()),
            metric,
        });
    proptest::collection::btree_set(route, 0..3)
}

prop_compose! {
    fn link()(mtu in prop_oneof![Just(None), Just(Some(1500)), Just(Some(9000))],
              addresses in proptest::collection::btree_set(prefix(), 0..3), routes in routes()) -> WantedLink {
        WantedLink { kind: WantedKind::Card, bond: None, mtu, methods: Methods::OFF, addresses, routes, source: Source::Master }
    }
}

prop_compose! {
    /// Bonds b0 and b1 of some of four cards, VLANs of cards and bonds.
    fn wanted()(cards in proptest::collection::vec((link(), 0usize..5), 4),
                bonds in proptest::collection::vec(proptest::option::of((link(), options())), 2),
                vlans in proptest::collection::vec(proptest::option::of((link(), 0usize..6, 1u16..4)), 3)) -> Wanted {
        let mut links = BTreeMap::new();
        for (number, bond) in bonds.iter().enumerate() {
            if let Some((link, options)) = bond {
                links.insert(format!("b{number}"), WantedLink { kind: WantedKind::Bond(options.normal()), ..link.clone() });
            }
        }
        for (name, (link, bond)) in CARDS.iter().zip(cards) {
            let bond = Some(format!("b{bond}")).filter(|bond| links.contains_key(bond));
            let link = match bond {
                Some(_) => WantedLink { bond, addresses: BTreeSet::new(), routes: BTreeSet::new(), ..link },
                None => link,
            };
            links.insert((*name).to_owned(), link);
        }
        let mut taken = BTreeSet::new();
        for (number, vlan) in vlans.into_iter().enumerate() {
            let Some((link, of, id)) = vlan else { continue };
            let of = ["eth0", "eth1", "eth2", "eth3", "b0", "b1"][of].to_owned();
            let carries = links.get(&of).is_some_and(|parent| parent.bond.is_none());
            if carries && taken.insert((of.clone(), id)) {
                links.insert(format!("v{number}"), WantedLink { kind: WantedKind::Vlan { of, id }, ..link });
            }
        }
        Wanted { links, problems: Vec::new() }
    }
}

fn bare() -> Kernel {
    let card = |(number, name): (usize, &&str)| {
        let index = u32::try_from(number).unwrap() + 2;
        let mac = [2, 0, 0, 0, 0, u8::try_from(number).unwrap()];
        let seen = Seen {
            index,
            kind: Kind::Card(Card { name: (*name).to_owned(), ..Card::default() }),
            mac,
            up: false,
            carrier: true,
            mtu: 1500,
            bond: None,
            addresses: [(Prefix { address: [0xfe80, 0, 0, 0, 0, 0, 0, 1].into(), length: 64 }, Owner::Kernel)].into(),
            routes: BTreeSet::new(),
        };
        ((*name).to_owned(), seen)
    };
    Kernel { links: CARDS.iter().enumerate().map(card).collect() }
}

/// Everything, as it shall be.
fn holds(kernel: &Kernel, wanted: &Wanted) -> Result<(), String> {
    let made = |seen: &Seen| !matches!(seen.kind, Kind::Card(_));
    for (name, seen) in &kernel.links {
        if made(seen) && !wanted.links.contains_key(name) {
            return Err(format!("{name} is left over"));
        }
    }
    for (name, shall) in &wanted.links {
        let seen = kernel.links.get(name).ok_or(format!("{name} is missing"))?;
        let kind = match (&seen.kind, &shall.kind) {
            (Kind::Card(_), WantedKind::Card) => true,
            (Kind::Bond(is), WantedKind::Bond(shall)) => is.normal() == shall.normal(),
            (Kind::Vlan { of, id }, WantedKind::Vlan { of: shall, id: number }) => (of, id) == (shall, number),
            (Kind::Card(_) | Kind::Bond(_) | Kind::Vlan { .. }, _) => false,
        };
        let ours: BTreeSet<Prefix> =
            seen.addresses.iter().filter(|(_, owner)| **owner == Owner::Node).map(|(address, _)| *address).collect();
        let most = match &shall.kind {
            WantedKind::Vlan { of, .. } => kernel.links[of].mtu,
            WantedKind::Card | WantedKind::Bond(_) => u32::MAX,
        };
        let size = shall.bond.is_some() || shall.mtu.map_or(seen.mtu <= 1500, |mtu| seen.mtu == mtu.min(most));
        let same = ours == shall.addresses && seen.routes == shall.routes;
        if !(kind && seen.up && seen.bond == shall.bond && size && same) {
            return Err(format!("{name} is {seen:?}, not {shall:?}"));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_plan_reaches_what_is_wanted_from_anywhere_and_then_has_nothing_to_do(histories in proptest::collection::vec(wanted(), 1..4)) {
        let mut kernel = bare();
        for wanted in &histories {
            let steps = plan(&kernel, wanted);
            for step in &steps {
                let applied = kernel.apply(step);
                prop_assert!(applied.is_ok(), "{step}: {applied:?} in {steps:?}");
            }
            let held = holds(&kernel, wanted);
            prop_assert!(held.is_ok(), "{held:?} after {steps:?}");
            prop_assert_eq!(plan(&kernel, wanted), Vec::new());
        }
    }
}

#[test]
fn what_is_as_it_shall_be_is_not_touched_while_the_rest_changes() {
    let mut kernel = bare();
    let link = |address: [u8; 4]| WantedLink {
        kind: WantedKind::Card,
        bond: None,
        mtu: None,
        methods: Methods::OFF,
        addresses: [Prefix { address: address.into(), length: 24 }].into(),
        routes: BTreeSet::new(),
        source: Source::Default,
    };
    let mut wanted = Wanted::default();
    for (name, last) in CARDS.iter().zip(1..) {
        wanted.links.insert((*name).to_owned(), link([10, 0, last, 5]));
    }
    for step in plan(&kernel, &wanted) {
        kernel.apply(&step).unwrap();
    }
    wanted.links.insert("eth3".to_owned(), link([10, 9, 9, 9]));
    let steps: Vec<String> = plan(&kernel, &wanted).iter().map(Step::to_string).collect();
    assert_eq!(steps, ["remove 10.0.4.5/24 from eth3", "add 10.9.9.9/24 to eth3"]);
}
