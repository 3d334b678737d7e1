//! One wish out of all layers: whoever speaks of a link first is heard, and every part says who that was.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::network::{Card, Ipv4Method, Ipv6Method, Link, Methods, Prefix, Selector, Settings, Vlan};

use super::kernel::{BondOptions, Kernel, Kind, Owner, Route, Seen};
use crate::dhcp::Lease;
use crate::dhcp6;

/// Default routes and others without a metric of their own: through the link whose way out is taken, and through others.
const PRIMARY_METRIC: u32 = 100;
const OTHER_METRIC: u32 = 1000;

/// Who says something of the network, the one that counts most first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Source {
    /// Whoever wrote the kernel command line.
    CommandLine,
    /// The operator's rules on the master.
    Master,
    /// Nobody.
    Default,
}

impl Source {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "command line",
            Self::Master => "master",
            Self::Default => "default",
        }
    }
}

/// What one of them says.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Who.
    pub source: Source,
    /// What.
    pub settings: &'a Settings,
}

/// What servers lend a link.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// DHCP.
    pub four: Option<Lease>,
    /// DHCPv6.
    pub six: Option<dhcp6::Lease>,
    /// What an agent before this one was lent, until DHCP speaks.
    pub before: Option<Inherited>,
}

/// What is on a link when an agent starts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Inherited {
    /// Addresses of IPv4.
    pub addresses: BTreeSet<Prefix>,
    /// Routes of IPv4.
    pub routes: BTreeSet<Route>,
}

impl Found {
    /// What DHCP lent the agent before, of a link with a carrier that asks again: its lease is not known, only what came
    /// of it. What somebody says (`shall`, without any lease) is no loan.
    #[must_use]
    pub fn left_on(seen: &Seen, shall: &WantedLink) -> Option<Self> {
        let ours = |(address, owner): (&Prefix, &Owner)| {
            let lent = *owner == Owner::Node && address.address.is_ipv4() && !shall.addresses.contains(address);
            lent.then_some(*address)
        };
        let before = Inherited {
            addresses: seen.addresses.iter().filter_map(ours).collect(),
            routes: seen.routes.iter().filter(|route| route.to.address.is_ipv4()).copied().collect(),
        };
        let asks = shall.methods.ipv4 == Ipv4Method::Dhcp && shall.bond.is_none();
        (asks && seen.up && seen.carrier && !before.addresses.is_empty())
            .then(|| Self { before: Some(before), ..Self::default() })
    }
}

/// What shall be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// By name: every card, and what is made of them.
    pub links: BTreeMap<String, WantedLink>,
    /// What somebody said and cannot be.
    pub problems: Vec<String>,
}

/// One link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WantedLink {
    /// What it is.
    pub kind: WantedKind,
    /// The bond it is a port of.
    pub bond: Option<String>,
    /// The largest packet; nobody says: as it is, but no more than Ethernet's 1500. While DHCP is asked: as it is.
    pub mtu: Option<u32>,
    /// Where more addresses are from.
    pub methods: Methods,
    /// Its addresses, static and lent.
    pub addresses: BTreeSet<Prefix>,
    /// Its routes, static and lent.
    pub routes: BTreeSet<Route>,
    /// Who says so.
    pub source: Source,
}

/// What a link shall be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WantedKind {
    /// It is there.
    Card,
    /// Made of its ports.
    Bond(BondOptions),
    /// A part of another.
    Vlan {
        /// Of which.
        of: String,
        /// Its number.
        id: u16,
    },
}

/// Makes one wish of the layers, which come in the order of their weight.
#[must_use]
pub fn resolve(
    layers: &[Layer<'_>],
    kernel: &Kernel,
    found: &BTreeMap<String, Found>,
    primary: Option<&str>,
) -> Wanted {
    let mut resolver = Resolver { kernel, wanted: Wanted::default(), said: BTreeMap::new(), called: BTreeMap::new() };
    for layer in layers {
        resolver.take(*layer);
    }
    resolver.bonds();
    resolver.vlans();
    let (source, others) = layers
        .iter()
        .find_map(|layer| Some((layer.source, layer.settings.others?)))
        .unwrap_or((Source::Default, Methods::USUAL));
    resolver.cards(source, others);
    let Resolver { mut wanted, .. } = resolver;
    for (name, link) in &mut wanted.links {
        let seen = kernel.links.get(name);
        let index = seen.map_or(0, |seen| seen.index);
        let metric = if primary == Some(name) { PRIMARY_METRIC } else { OTHER_METRIC.saturating_add(index) };
        finish(link, found.get(name), seen, metric);
    }
    wanted
}

struct Resolver<'a> {
    kernel: &'a Kernel,
    wanted: Wanted,
    /// By name: what was said first.
    said: BTreeMap<String, (Source, &'a Link)>,
    /// The card an operator's own name means.
    called: BTreeMap<String, String>,
}

impl<'a> Resolver<'a> {
    fn hardware(&self) -> impl Iterator<Item = (&'a String, &'a Card)> + use<'a> {
        self.kernel.links.iter().filter_map(|(name, seen)| match &seen.kind {
            Kind::Card(card) => Some((name, card)),
            Kind::Bond(_) | Kind::Vlan { .. } => None,
        })
    }

    fn problem(&mut self, source: Source, problem: &str) {
        self.wanted.problems.push(format!("{}: {problem}", source.name()));
    }

    /// Of cards under their own names, whatever they were called.
    fn take(&mut self, layer: Layer<'a>) {
        for (name, link) in &layer.settings.links {
            let is_made = link.bond.is_some() || link.vlan.is_some();
            let is_card = self.hardware().any(|(card, _)| card == name);
            if is_made && is_card {
                self.problem(layer.source, &format!("a card is called {name}: nothing else can be"));
                continue;
            }
            if is_made {
                self.said.entry(name.clone()).or_insert((layer.source, link));
                continue;
            }
            let selector = link.card.clone().unwrap_or_else(|| Selector::Name(name.clone()));
            let cards: Vec<&String> =
                self.hardware().filter(|(_, card)| selector.fits(card)).map(|(name, _)| name).collect();
            match cards[..] {
                [] => self.problem(layer.source, &format!("no card is {selector}")),
                [card] => {
                    self.called.entry(name.clone()).or_insert_with(|| card.clone());
                    self.said.entry(card.clone()).or_insert((layer.source, link));
                }
                // Several may share what fits all of them, not an address.
                [..] if link.addresses.is_empty() => {
                    for card in cards {
                        self.said.entry(card.clone()).or_insert((layer.source, link));
                    }
                }
                [..] => self.problem(layer.source, &format!("several cards are {selector}: which has the address?")),
            }
        }
    }

    fn want(&mut self, name: &str, source: Source, kind: WantedKind, link: &Link) {
        let methods = Methods { ipv4: link.ipv4.unwrap_or_default(), ipv6: link.ipv6.unwrap_or_default() };
        let wanted = WantedLink {
            kind,
            bond: None,
            mtu: link.mtu,
            methods,
            addresses: link.addresses.iter().copied().collect(),
            routes: BTreeSet::new(),
            source,
        };
        self.wanted.links.insert(name.to_owned(), wanted);
    }

    fn bonds(&mut self) {
        for (name, (source, link)) in self.said.clone() {
            let Some(bond) = &link.bond else { continue };
            self.want(&name, source, WantedKind::Bond(bond.into()), link);
            let fits = |card: &Card| bond.ports.iter().any(|port| port.fits(card));
            let ports: Vec<String> =
                self.hardware().filter(|(_, card)| fits(card)).map(|(port, _)| port.clone()).collect();
            if ports.is_empty() {
                self.problem(source, &format!("no card is a port of {name}"));
            }
            for port in ports {
                let taken = self.wanted.links.get(&port).and_then(|port| port.bond.clone());
                let other = self.said.get(&port).map(|(other, _)| *other);
                match (taken, other) {
                    (Some(other), _) => {
                        self.problem(source, &format!("{port} is a port of {other}, and cannot be one of {name}"));
                        continue;
                    }
                    (None, Some(other)) if other < source => {
                        self.problem(source, &format!("{port} is spoken of on the {}: it is no port", other.name()));
                        continue;
                    }
                    (None, _) => {}
                }
                self.said.remove(&port);
                self.want(&port, source, WantedKind::Card, &Link::default());
                if let Some(wanted) = self.wanted.links.get_mut(&port) {
                    wanted.bond = Some(name.clone());
                }
            }
        }
    }

    fn vlans(&mut self) {
        for (name, (source, link)) in self.said.clone() {
            let Some(vlan) = &link.vlan else { continue };
            let of = self.called.get(&vlan.of).unwrap_or(&vlan.of);
            let vlan = Vlan { of: of.clone(), id: vlan.id };
            let is_card = self.hardware().any(|(card, _)| *card == vlan.of);
            let parent = self.wanted.links.get(&vlan.of);
            let problem = match parent {
                None if !is_card => Some(format!("{name} is a VLAN of {}, which is not there", vlan.of)),
                Some(WantedLink { bond: Some(bond), .. }) => {
                    Some(format!("{name} is a VLAN of {}, which is a port of {bond}", vlan.of))
                }
                Some(WantedLink { kind: WantedKind::Vlan { .. }, .. }) => {
                    Some(format!("{name} is a VLAN of {}, which is one itself", vlan.of))
                }
                None | Some(_) => None,
            };
            let twice = self.wanted.links.iter().find(
                |(_, link)| matches!(&link.kind, WantedKind::Vlan { of, id } if (of, id) == (&vlan.of, &vlan.id)),
            );
            let problem = problem.or_else(|| twice.map(|(other, _)| format!("{name} is the same VLAN as {other}")));
            match problem {
                Some(problem) => self.problem(source, &problem),
                None => self.want(&name, source, WantedKind::Vlan { of: vlan.of, id: vlan.id }, link),
            }
        }
    }

    fn cards(&mut self, by: Source, others: Methods) {
        for (name, _) in self.hardware() {
            if self.wanted.links.contains_key(name) {
                continue;
            }
            let nothing = Link::default();
            let (source, link) = self.said.get(name).copied().unwrap_or((by, &nothing));
            self.want(name, source, WantedKind::Card, link);
            let unsaid = link.ipv4.is_none() && link.ipv6.is_none() && link.addresses.is_empty();
            if let Some(wanted) = self.wanted.links.get_mut(name).filter(|_| unsaid) {
                wanted.methods = others;
            }
        }
        // Routes of what is wanted in the end.
        for (name, (_, link)) in &self.said {
            if let Some(wanted) = self.wanted.links.get_mut(name).filter(|wanted| wanted.bond.is_none()) {
                let route = |route: &api::network::Route| Route {
                    to: route.to,
                    via: route.via,
                    metric: route.metric.unwrap_or(0),
                };
                wanted.routes = link.routes.iter().map(route).collect();
            }
        }
    }
}

/// What servers lend, and the metrics nobody gave.
fn finish(link: &mut WantedLink, found: Option<&Found>, seen: Option<&Seen>, metric: u32) {
    if link.bond.is_some() {
        return;
    }
    link.routes = link.routes.iter().map(|route| Route { metric: or(route.metric, metric), ..*route }).collect();
    let asked = found.filter(|_| link.methods.ipv4 == Ipv4Method::Dhcp);
    let lease = asked.and_then(|found| found.four.as_ref());
    link.mtu = link.mtu.or_else(|| match (lease, link.methods.ipv4) {
        (Some(lease), _) => lease.mtu.map(u32::from),
        // Many cards drop their carrier when it changes: a lease that goes with the carrier must not change it back.
        (None, Ipv4Method::Dhcp) => seen.map(|seen| seen.mtu),
        (None, Ipv4Method::Off) => None,
    });
    if let (Some(before), None) = (asked.and_then(|found| found.before.as_ref()), lease) {
        let said: BTreeSet<Prefix> = link.routes.iter().map(|route| route.to).collect();
        link.addresses.extend(&before.addresses);
        link.routes.extend(before.routes.iter().filter(|route| !said.contains(&route.to)));
    }
    if let Some(lease) = lease {
        link.addresses.extend(Prefix::new(lease.address.into(), lease.prefix_len));
        let default = |router: &Ipv4Addr| (Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 }, *router);
        let classless = lease
            .routes
            .iter()
            .filter_map(|route| Some((Prefix::new(route.network.into(), route.prefix_len)?.network(), route.gateway)));
        for (to, via) in lease.routers.first().map(default).into_iter().chain(classless) {
            let via = (!via.is_unspecified()).then_some(IpAddr::V4(via));
            if !link.routes.iter().any(|known| known.to == to) {
                link.routes.insert(Route { to, via, metric });
            }
        }
    }
    let dhcp6 = matches!(link.methods.ipv6, Ipv6Method::Auto | Ipv6Method::Dhcp);
    if let Some(lease) = found.and_then(|found| found.six.as_ref()).filter(|_| dhcp6) {
        // What else is on the link, routers say (RFC 8415 section 18.2.10.1).
        link.addresses.extend(lease.addresses.iter().map(|lent| Prefix { address: lent.address.into(), length: 128 }));
    }
}

const fn or(metric: u32, other: u32) -> u32 {
    if metric == 0 { other } else { metric }
}

/// The link whose way out is taken: the one that had it, as long as it can; else one with a way out, else one with an
/// address. Bonds and VLANs somebody asked for come before plain cards.
#[must_use]
pub fn primary(kernel: &Kernel, wanted: &Wanted, before: Option<&str>) -> Option<String> {
    let rank = |name: &str| {
        let (seen, link) = (kernel.links.get(name)?, wanted.links.get(name)?);
        let reaches = seen.carrier && seen.up && link.bond.is_none();
        let has_address = seen.addresses.keys().chain(&link.addresses).any(|address| is_global(address.address));
        if !reaches || !has_address {
            return None;
        }
        let leads_out = link.routes.iter().any(|route| route.to.is_default());
        Some((!leads_out, matches!(link.kind, WantedKind::Card), link.source))
    };
    let all = wanted.links.keys().filter_map(|name| Some((rank(name)?, name.as_str())));
    let best = all.min()?;
    let kept = before.filter(|name| rank(name).is_some_and(|rank| rank.0 == best.0.0));
    Some(kept.unwrap_or(best.1).to_owned())
}

/// Others may reach us there.
#[must_use]
pub(super) fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => !four.is_link_local() && !four.is_loopback(),
        IpAddr::V6(six) => (six.segments()[0] & 0xffc0) != 0xfe80 && six != Ipv6Addr::LOCALHOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::plan;

    fn card(index: u32, name: &str) -> (String, Seen) {
        let card = Card { name: name.to_owned(), mac: format!("52:54:00:00:00:{index:02x}"), ..Card::default() };
        let seen = Seen {
            index,
            kind: Kind::Card(card),
            mac: [0; 6],
            up: true,
            carrier: true,
            mtu: 1500,
            bond: None,
            addresses: BTreeMap::new(),
            routes: BTreeSet::new(),
        };
        (name.to_owned(), seen)
    }

    fn kernel() -> Kernel {
        Kernel { links: [card(2, "eth0"), card(3, "eth1"), card(4, "eth2")].into() }
    }

    fn settings(json: &str) -> Settings {
        let settings: Settings = serde_json::from_str(json).unwrap();
        settings.validate().unwrap();
        settings
    }

    fn lease() -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 0, 11),
            prefix_len: 24,
            routers: vec![Ipv4Addr::new(10, 0, 0, 1)],
            routes: vec![],
            dns: vec![],
            ntp: vec![],
            domain: None,
            hostname: None,
            mtu: Some(9000),
            location: None,
            place: None,
            server: Ipv4Addr::new(10, 0, 0, 1),
            lease_secs: 60,
            renew_secs: 30,
            rebind_secs: 50,
        }
    }

    #[test]
    fn without_a_word_every_card_asks() {
        let found = BTreeMap::from([("eth1".to_owned(), Found { four: Some(lease()), ..Found::default() })]);
        let wanted = resolve(&[], &kernel(), &found, Some("eth1"));
        assert_eq!((wanted.links.len(), wanted.problems.len()), (3, 0));
        assert!(wanted.links.values().all(|link| link.methods == Methods::USUAL && link.source == Source::Default));
        let link = &wanted.links["eth1"];
        assert_eq!(link.mtu, Some(9000));
        let route = link.routes.first().unwrap();
        assert_eq!((route.to.length, route.metric, route.via), (0, 100, Some("10.0.0.1".parse().unwrap())));
        assert_eq!(primary(&kernel(), &wanted, None).as_deref(), Some("eth1"));
        assert_eq!(primary(&kernel(), &wanted, Some("eth0")).as_deref(), Some("eth1"), "it has no address");
    }

    #[test]
    fn a_link_that_asks_keeps_its_size_until_it_is_answered() {
        let mut kernel = kernel();
        kernel.links.get_mut("eth1").unwrap().mtu = 9000;
        let size = |found: &BTreeMap<String, Found>| resolve(&[], &kernel, found, None).links["eth1"].mtu;
        assert_eq!(size(&BTreeMap::new()), Some(9000), "its lease went with its carrier");
        assert!(plan(&kernel, &resolve(&[], &kernel, &BTreeMap::new(), None)).is_empty());
        let lease = |mtu| Found { four: Some(Lease { mtu, ..lease() }), ..Found::default() };
        assert_eq!(size(&BTreeMap::from([("eth1".to_owned(), lease(Some(9000)))])), Some(9000));
        assert_eq!(size(&BTreeMap::from([("eth1".to_owned(), lease(None))])), None, "1500");
        let off = settings(r#"{"others": {"ipv4": "off"}}"#);
        let layers = [Layer { source: Source::Master, settings: &off }];
        assert_eq!(resolve(&layers, &kernel, &BTreeMap::new(), None).links["eth1"].mtu, None);
    }

    #[test]
    fn what_the_agent_before_was_lent_stays_until_dhcp_speaks() {
        let mut kernel = kernel();
        let default = Route { to: "0.0.0.0/0".parse().unwrap(), via: Some("10.0.0.1".parse().unwrap()), metric: 100 };
        let (address, six): (Prefix, Prefix) = ("10.0.0.11/24".parse().unwrap(), "fd77::5/64".parse().unwrap());
        for (name, carrier) in [("eth0", true), ("eth1", false)] {
            let seen = kernel.links.get_mut(name).unwrap();
            seen.carrier = carrier;
            seen.addresses = [(address, Owner::Node), (six, Owner::Kernel)].into();
            seen.routes = [default].into();
        }
        let shall = resolve(&[], &kernel, &BTreeMap::new(), None);
        let left = |name: &str| Found::left_on(&kernel.links[name], &shall.links[name]);
        assert_eq!((left("eth1"), left("eth2")), (None, None), "no carrier, nothing there");
        let fixed = settings(r#"{"links": {"eth0": {"ipv4": "dhcp", "addresses": ["10.0.0.11/24"]}}}"#);
        let layers = [Layer { source: Source::Master, settings: &fixed }];
        let fixed = resolve(&layers, &kernel, &BTreeMap::new(), None);
        assert_eq!(Found::left_on(&kernel.links["eth0"], &fixed.links["eth0"]), None, "nobody lent it");
        let mut found = BTreeMap::from([("eth0".to_owned(), left("eth0").unwrap())]);
        kernel.links.remove("eth1");
        let wanted = resolve(&[], &kernel, &found, None);
        assert_eq!(
            (wanted.links["eth0"].addresses.clone(), primary(&kernel, &wanted, None).as_deref()),
            ([address].into(), Some("eth0"))
        );
        assert!(plan(&kernel, &wanted).is_empty(), "nothing is taken away");
        // What somebody says counts more, and who does not ask keeps nothing.
        let said =
            settings(r#"{"links": {"eth0": {"ipv4": "dhcp", "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.2"}]}}}"#);
        let layers = [Layer { source: Source::Master, settings: &said }];
        let routes = resolve(&layers, &kernel, &found, None).links["eth0"].routes.clone();
        assert!(routes.len() == 1 && !routes.contains(&default), "{routes:?}");
        let off = settings(r#"{"others": {"ipv4": "off"}}"#);
        let layers = [Layer { source: Source::Master, settings: &off }];
        assert!(resolve(&layers, &kernel, &found, None).links["eth0"].addresses.is_empty());
        // A lease takes its place.
        let other = Lease { address: Ipv4Addr::new(10, 0, 0, 12), ..lease() };
        found.get_mut("eth0").unwrap().four = Some(other);
        assert_eq!(
            resolve(&[], &kernel, &found, None).links["eth0"].addresses,
            ["10.0.0.12/24".parse().unwrap()].into()
        );
    }

    #[test]
    fn who_speaks_first_of_a_link_is_heard_and_others_are_told() {
        let first = settings(r#"{"links": {"bond0": {"bond": {"ports": ["eth1"], "mode": "active-backup"}}}}"#);
        let second = settings(
            r#"{"links": {"bond0": {"bond": {"ports": ["eth2"], "mode": "802.3ad"}},
                          "bond1": {"bond": {"ports": ["eth1", "eth2"], "mode": "802.3ad"}},
                          "bond1.7": {"vlan": {"of": "bond1", "id": 7}, "ipv4": "dhcp"},
                          "eth2.8": {"vlan": {"of": "eth2", "id": 8}}, "x.9": {"vlan": {"of": "x", "id": 9}},
                          "eth0": {"bond": {"ports": ["eth9"], "mode": "802.3ad"}}},
                "others": {"ipv4": "off"}}"#,
        );
        let layers = [
            Layer { source: Source::CommandLine, settings: &first },
            Layer { source: Source::Master, settings: &second },
        ];
        let wanted = resolve(&layers, &kernel(), &BTreeMap::new(), None);
        let bond = |name: &str| wanted.links[name].bond.as_deref();
        assert_eq!((bond("eth0"), bond("eth1"), bond("eth2")), (None, Some("bond0"), Some("bond1")));
        assert_eq!((wanted.links["bond0"].source, wanted.links["bond1"].source), (Source::CommandLine, Source::Master));
        assert_eq!(wanted.links["bond1.7"].methods.ipv4, Ipv4Method::Dhcp);
        assert_eq!((wanted.links["eth0"].methods, wanted.links["eth0"].source), (Methods::OFF, Source::Master));
        let all = wanted.problems.join("\n");
        for said in [
            "eth1 is a port of bond0",
            "eth2, which is a port of bond1",
            "x, which is not there",
            "a card is called eth0",
        ] {
            assert!(all.contains(said), "{said}: {all}");
        }
        assert!(!wanted.links.contains_key("eth2.8") && !wanted.links.contains_key("x.9"));
    }

    #[test]
    fn a_card_is_meant_by_its_mac_and_keeps_asking_when_only_its_size_was_said() {
        let said = settings(r#"{"links": {"storage": {"card": "52:54:00:00:00:03", "mtu": 9000}}}"#);
        let layers = [Layer { source: Source::Master, settings: &said }];
        let wanted = resolve(&layers, &kernel(), &BTreeMap::new(), None);
        assert_eq!((wanted.links["eth1"].mtu, wanted.links["eth1"].methods), (Some(9000), Methods::USUAL));
        let several =
            settings(r#"{"links": {"a": {"card": "eth*", "addresses": ["10.0.0.5/24"]}, "b": {"card": "ib0"}}}"#);
        let layers = [Layer { source: Source::Master, settings: &several }];
        let wanted = resolve(&layers, &kernel(), &BTreeMap::new(), None);
        assert_eq!(
            wanted.problems,
            ["master: several cards are eth*: which has the address?", "master: no card is ib0"]
        );
    }

    #[test]
    fn the_way_out_stays_until_its_carrier_goes() {
        let said = settings(
            r#"{"links": {"eth0": {"addresses": ["10.0.0.5/24"], "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}]},
                          "eth1": {"addresses": ["10.1.0.5/24"], "routes": [{"to": "0.0.0.0/0", "via": "10.1.0.1"}]},
                          "eth2": {"addresses": ["10.2.0.5/24"]}}}"#,
        );
        let layers = [Layer { source: Source::Master, settings: &said }];
        let mut kernel = kernel();
        let wanted = resolve(&layers, &kernel, &BTreeMap::new(), None);
        assert_eq!(primary(&kernel, &wanted, None).as_deref(), Some("eth0"));
        assert_eq!(primary(&kernel, &wanted, Some("eth1")).as_deref(), Some("eth1"));
        assert_eq!(primary(&kernel, &wanted, Some("eth2")).as_deref(), Some("eth0"), "eth2 has no way out");
        kernel.links.get_mut("eth0").unwrap().carrier = false;
        kernel.links.get_mut("eth1").unwrap().carrier = false;
        assert_eq!(primary(&kernel, &wanted, Some("eth0")).as_deref(), Some("eth2"));
        kernel.links.get_mut("eth2").unwrap().carrier = false;
        assert_eq!(primary(&kernel, &wanted, Some("eth2")), None);
    }
}
