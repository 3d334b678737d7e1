//! The network on a kernel command line, in dracut's words (dracut.cmdline(7)), so that what boots other systems boots
//! this one: `ip=`, `bond=`, `vlan=`, `nameserver=`, `rd.route=`, `ifname=`. `docs/network.md` has the whole grammar.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::network::{
    Bond, BondMode, HashPolicy, Ipv4Method, Ipv6Method, LacpRate, Link, Methods, Prefix, Route, Selector, Settings,
    Vlan,
};

/// Reads the words of a command line; `None` when none is about the network.
///
/// # Errors
/// Every word that is wrong, with the reason.
pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Option<Settings>, Vec<String>> {
    let mut reader = Reader::default();
    let mut mistakes = Vec::new();
    let mut waiting = Vec::new();
    for word in words {
        let Some((key, value)) = word.split_once('=') else { continue };
        let read = match key {
            "BOOTIF" => {
                reader.boot_card = mac_with_dashes(value.get(3..).unwrap_or_default());
                Ok(())
            }
            "ifname" => reader.alias(value),
            // These name what the others have to have said.
            "ip" | "bond" | "vlan" | "nameserver" | "rd.route" => {
                waiting.push((key, value));
                Ok(())
            }
            _ => Ok(()),
        };
        mistakes.extend(read.err().map(|reason| format!("{word}: {reason}")));
    }
    for (key, value) in waiting {
        let read = match key {
            "ip" => reader.ip(value),
            "bond" => reader.bond(value),
            "vlan" => reader.vlan(value),
            "nameserver" => reader.server(value),
            _ => reader.route(value),
        };
        reader.spoken = true;
        mistakes.extend(read.err().map(|reason| format!("{key}={value}: {reason}")));
    }
    if let Err(reason) = reader.place_routes() {
        mistakes.push(reason);
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    if !reader.spoken {
        return Ok(None);
    }
    let mut settings = reader.settings;
    if settings.others.is_none() && reader.named {
        settings.others = Some(Methods::OFF);
    }
    settings.validate().map_err(|error| vec![format!("the network on the command line: {error}")])?;
    Ok(Some(settings))
}

#[derive(Debug, Default)]
struct Reader {
    settings: Settings,
    /// The card of a name, where it is not the kernel's.
    aliases: BTreeMap<String, Selector>,
    /// The one the machine was booted through.
    boot_card: Option<Selector>,
    /// A word was about the network; about a link by its name.
    spoken: bool,
    named: bool,
    routes: Vec<Route>,
}

impl Reader {
    fn link(&mut self, name: &str) -> Result<&mut Link, String> {
        let (name, card) = match mac_with_dashes(name) {
            Some(card) => (name.replace('-', "").to_ascii_lowercase(), Some(card)),
            None => (name.to_owned(), self.aliases.get(name).cloned()),
        };
        if !api::network::is_link_name(&name) {
            return Err(format!("`{name}` is no name of a link"));
        }
        self.named = true;
        let link = self.settings.links.entry(name).or_default();
        link.card = link.card.take().or(card).filter(|_| link.bond.is_none() && link.vlan.is_none());
        Ok(link)
    }

    /// `ifname=storage0:52:54:00:77:00:01`
    fn alias(&mut self, value: &str) -> Result<(), String> {
        let (name, mac) = value.split_once(':').ok_or("write ifname=NAME:MAC")?;
        let selector = mac.parse().ok().filter(|selector| matches!(selector, Selector::Mac(_)));
        let mac = selector.ok_or_else(|| format!("`{mac}` is no MAC"))?;
        self.aliases.insert(name.to_owned(), mac);
        Ok(())
    }

    fn ip(&mut self, value: &str) -> Result<(), String> {
        let fields = fields(value)?;
        let at = |index: usize| fields.get(index).copied().unwrap_or_default();
        match fields.as_slice() {
            [method] => {
                let (ipv4, ipv6) = methods(method).ok_or_else(|| format!("`{method}` is no method"))?;
                let others = self.settings.others.get_or_insert_default();
                others.ipv4 = ipv4.unwrap_or(others.ipv4);
                others.ipv6 = ipv6.unwrap_or(others.ipv6);
                Ok(())
            }
            [name, method, rest @ ..] if !method.is_empty() && methods(method).is_some() => {
                self.asking(name, method, rest)
            }
            // The kernel's own form, without addresses: `:::::eth0:dhcp`.
            ["", _, _, _, _, name, method, rest @ ..] => self.asking(name, method, rest),
            [_, _, _, _, ..] => {
                let name = match (at(5), &self.boot_card) {
                    ("", Some(Selector::Mac(mac))) => mac.replace(':', "-"),
                    ("", _) => return Err("it names no link, and BOOTIF= names no card".to_owned()),
                    (name, _) => name.to_owned(),
                };
                let address = address(at(0), at(3))?;
                let via = if at(2).is_empty() { None } else { Some(ip_address(at(2))?) };
                let method = if at(6).is_empty() { "none" } else { at(6) };
                self.asking(&name, method, fields.get(7..).unwrap_or_default())?;
                let link = self.link(&name)?;
                link.addresses.push(address);
                if let Some(via) = via {
                    link.routes.push(Route { to: everywhere(via), via: Some(via), metric: None });
                }
                Ok(())
            }
            _ => Err("write ip=METHOD, ip=LINK:METHOD or ip=ADDRESS::ROUTER:MASK::LINK:none".to_owned()),
        }
    }

    /// A link that asks, and what comes behind its method: `[mtu][:mac]` or `dns1[:dns2[:ntp]]`.
    fn asking(&mut self, name: &str, method: &str, rest: &[&str]) -> Result<(), String> {
        let (ipv4, ipv6) = methods(method).ok_or_else(|| format!("`{method}` is no method"))?;
        let link = self.link(name)?;
        // Several words for one link add up: `ip=eth0:dhcp ip=eth0:dhcp6`.
        link.ipv4 = ipv4.or(link.ipv4).or(Some(Ipv4Method::Off));
        link.ipv6 = ipv6.or(link.ipv6).or(Some(Ipv6Method::Off));
        if rest.iter().any(|field| ip_address(field).is_ok()) {
            // The third is a time server: mesolith.ntp has those.
            for server in rest.iter().take(2).filter(|server| !server.is_empty()) {
                self.server(server)?;
            }
            return Ok(());
        }
        match rest {
            [] | [""] => Ok(()),
            [mtu] | [mtu, ""] => {
                link.mtu = Some(mtu.parse().map_err(|_| format!("`{mtu}` is no MTU and no name server"))?);
                Ok(())
            }
            _ => Err("the MAC of a card cannot be set".to_owned()),
        }
    }

    /// `bond=bond0:eth0,eth1:mode=802.3ad,lacp_rate=fast:9000`
    fn bond(&mut self, value: &str) -> Result<(), String> {
        let mut parts = value.split(':');
        let (name, ports, options) = (parts.next(), parts.next(), parts.next());
        let (Some(name), Some(ports), Some(options)) = (name, ports, options) else {
            return Err("write bond=NAME:CARD,CARD:mode=802.3ad".to_owned());
        };
        let mut selectors = Vec::new();
        for port in ports.split(',') {
            let known = mac_with_dashes(port).or_else(|| self.aliases.get(port).cloned());
            selectors.push(match known {
                Some(selector) => selector,
                None => port.parse().map_err(|error| format!("{error}"))?,
            });
        }
        let mut bond = Bond {
            ports: selectors,
            mode: BondMode::ActiveBackup,
            lacp_rate: LacpRate::Slow,
            hash: HashPolicy::Layer2,
            miimon_ms: 100,
            min_links: 0,
        };
        let mut moded = false;
        for option in options.split(',') {
            let wrong = || format!("`{option}` is no option of a bond");
            let (key, value) = option.split_once('=').ok_or_else(wrong)?;
            match (key, value) {
                ("mode", "802.3ad" | "4") => (bond.mode, moded) = (BondMode::Lacp, true),
                ("mode", "active-backup" | "1") => (bond.mode, moded) = (BondMode::ActiveBackup, true),
                ("mode", other) => return Err(format!("mode {other}: 802.3ad or active-backup")),
                ("lacp_rate", "fast" | "1") => bond.lacp_rate = LacpRate::Fast,
                ("lacp_rate", "slow" | "0") => bond.lacp_rate = LacpRate::Slow,
                ("xmit_hash_policy", "layer2" | "0") => bond.hash = HashPolicy::Layer2,
                ("xmit_hash_policy", "layer3+4" | "1") => bond.hash = HashPolicy::Layer34,
                ("xmit_hash_policy", "layer2+3" | "2") => bond.hash = HashPolicy::Layer23,
                ("miimon", number) => bond.miimon_ms = number.parse().map_err(|_| wrong())?,
                ("min_links", number) => bond.min_links = number.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        if !moded {
            return Err("it has no mode=802.3ad or mode=active-backup".to_owned());
        }
        let mtu = parts.next().filter(|mtu| !mtu.is_empty());
        let mtu = mtu.map(|mtu| mtu.parse().map_err(|_| format!("`{mtu}` is no MTU"))).transpose()?;
        let named = self.named;
        let link = self.link(name)?;
        (link.bond, link.card, link.mtu) = (Some(bond), None, mtu.or(link.mtu));
        // Only who speaks of addresses leaves other cards without.
        self.named = named;
        Ok(())
    }

    /// `vlan=bond0.100:bond0`, `vlan=vlan100:eth0`
    fn vlan(&mut self, value: &str) -> Result<(), String> {
        let (name, of) = value.split_once(':').ok_or("write vlan=NAME:LINK")?;
        let digits = name.rsplit_once('.').map_or_else(|| name.strip_prefix("vlan"), |(_, id)| Some(id));
        let id = digits.and_then(|digits| digits.parse().ok());
        let id = id.ok_or("its number is in its name: vlan=eth0.100:eth0 or vlan=vlan100:eth0")?;
        let of = match mac_with_dashes(of) {
            Some(_) => return Err("give the card a name with ifname=NAME:MAC first".to_owned()),
            None => of.to_owned(),
        };
        if self.aliases.contains_key(&of) {
            // So that the name leads to the card.
            let named = self.named;
            self.link(&of)?;
            self.named = named;
        }
        let named = self.named;
        let link = self.link(name)?;
        (link.vlan, link.card) = (Some(Vlan { of, id }), None);
        self.named = named;
        Ok(())
    }

    fn server(&mut self, value: &str) -> Result<(), String> {
        let server = ip_address(value)?;
        if !self.settings.dns.contains(&server) {
            self.settings.dns.push(server);
        }
        Ok(())
    }

    /// `rd.route=10.0.0.0/8:10.1.0.1:bond0.100`
    fn route(&mut self, value: &str) -> Result<(), String> {
        let fields = fields(value)?;
        let (to, via, name) = match fields[..] {
            [to, via] => (to, via, None),
            [to, via, name] => (to, via, Some(name)),
            _ => return Err("write rd.route=NETWORK/LENGTH:ROUTER[:LINK]".to_owned()),
        };
        let via = if via.is_empty() { None } else { Some(ip_address(via)?) };
        let to: Prefix = to.replace(['[', ']'], "").parse().map_err(|error| format!("{error}"))?;
        let route = Route { to, via, metric: None };
        match name {
            Some(name) => self.link(name)?.routes.push(route),
            None => self.routes.push(route),
        }
        Ok(())
    }

    /// Routes without a link are through the one whose network their router is in.
    fn place_routes(&mut self) -> Result<(), String> {
        for route in std::mem::take(&mut self.routes) {
            let near = |link: &&mut Link| {
                route.via.is_some_and(|via| link.addresses.iter().any(|address| address.contains(via)))
            };
            match self.settings.links.values_mut().find(near) {
                Some(link) => link.routes.push(route),
                None => return Err(format!("rd.route={}: no link is near its router: name one", route.to)),
            }
        }
        Ok(())
    }
}

/// dracut's words; `None` where they say nothing of a family.
fn methods(word: &str) -> Option<(Option<Ipv4Method>, Option<Ipv6Method>)> {
    match word {
        "dhcp" => Some((Some(Ipv4Method::Dhcp), None)),
        "on" | "any" => Some((Some(Ipv4Method::Dhcp), Some(Ipv6Method::Auto))),
        "dhcp6" => Some((None, Some(Ipv6Method::Dhcp))),
        "auto6" => Some((None, Some(Ipv6Method::Slaac))),
        "either6" => Some((None, Some(Ipv6Method::Auto))),
        "none" | "off" | "static" => Some((None, None)),
        _ => None,
    }
}

/// Between colons, but for those in brackets.
fn fields(value: &str) -> Result<Vec<&str>, String> {
    let (mut fields, mut begin, mut inside) = (Vec::new(), 0, false);
    for (at, c) in value.char_indices() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            ':' if !inside => {
                fields.push(value.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            _ => {}
        }
    }
    fields.push(value.get(begin..).unwrap_or_default());
    if inside { Err("a bracket is not closed".to_owned()) } else { Ok(fields) }
}

fn ip_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| format!("`{text}` is no address"))
}

fn address(address: &str, mask: &str) -> Result<Prefix, String> {
    let (address, mask) = match address.split_once('/') {
        Some((address, length)) => (address, length),
        None => (address, mask),
    };
    let address = ip_address(address)?;
    let length = match mask.parse::<Ipv4Addr>() {
        Ok(mask) if mask.to_bits().leading_ones() == mask.to_bits().count_ones() => {
            u8::try_from(mask.to_bits().leading_ones()).ok()
        }
        Ok(_) => None,
        Err(_) => mask.parse().ok(),
    };
    length.and_then(|length| Prefix::new(address, length)).ok_or_else(|| format!("`{mask}` is no netmask of {address}"))
}

fn everywhere(family: IpAddr) -> Prefix {
    let address = match family {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Prefix { address, length: 0 }
}

/// `52-54-00-77-00-01`: a MAC where colons mean something else.
fn mac_with_dashes(text: &str) -> Option<Selector> {
    if text.len() != 17 || text.matches('-').count() != 5 {
        return None;
    }
    text.replace('-', ":").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Settings {
        parse(line.split(' ')).unwrap().unwrap()
    }

    fn json(line: &str) -> serde_json::Value {
        serde_json::to_value(read(line)).unwrap()
    }

    #[test]
    fn a_rack_with_a_bond_and_a_management_vlan() {
        let line = "quiet bond=bond0:eth0,52-54-00-77-01-02:mode=802.3ad,lacp_rate=fast,xmit_hash_policy=layer3+4:9000 \
                    vlan=bond0.100:bond0 ip=10.1.0.5::10.1.0.1:255.255.255.0:node-5:bond0.100:none:10.0.0.53 \
                    rd.route=10.9.0.0/16:10.1.0.9 nameserver=[fd00::53]";
        let expected = serde_json::json!({
            "links": {
                "bond0": {"bond": {"ports": ["eth0", "52:54:00:77:01:02"], "mode": "802.3ad", "lacp_rate": "fast",
                    "hash": "layer3+4", "miimon_ms": 100, "min_links": 0}, "mtu": 9000},
                "bond0.100": {"vlan": {"of": "bond0", "id": 100}, "ipv4": "off", "ipv6": "off", "addresses": ["10.1.0.5/24"],
                    "routes": [{"to": "0.0.0.0/0", "via": "10.1.0.1"}, {"to": "10.9.0.0/16", "via": "10.1.0.9"}]}
            },
            "others": {"ipv4": "off", "ipv6": "off"},
            "dns": ["10.0.0.53", "fd00::53"]
        });
        assert_eq!(json(line), expected);
    }

    #[test]
    fn each_form_of_ip() {
        assert_eq!(json("ip=dhcp"), serde_json::json!({"others": {"ipv4": "dhcp", "ipv6": "off"}}));
        assert_eq!(read("ip=any").others, Some(Methods::USUAL));
        let both = read("ip=eth0:dhcp ip=eth0:dhcp6:1400");
        let link = &both.links["eth0"];
        assert_eq!((link.ipv4, link.ipv6, link.mtu), (Some(Ipv4Method::Dhcp), Some(Ipv6Method::Dhcp), Some(1400)));
        assert_eq!(both.others, Some(Methods::OFF));
        assert_eq!(read("ip=:::::eth0:dhcp").links["eth0"].ipv4, Some(Ipv4Method::Dhcp));
        let six = read("ip=[fd00::5]::[fd00::1]:64::eth1:none");
        assert_eq!(six.links["eth1"].addresses[0].to_string(), "fd00::5/64");
        assert_eq!(six.links["eth1"].routes[0].to.to_string(), "::/0");
        let booted = read("BOOTIF=01-52-54-00-77-00-01 ip=10.0.0.5:10.0.0.1:10.0.0.1:255.255.0.0");
        assert_eq!(booted.links["525400770001"].card.as_ref().unwrap().to_string(), "52:54:00:77:00:01");
        let alias = read("ifname=san0:52:54:00:77:00:01 vlan=san0.7:san0 ip=san0.7:auto6 ip=dhcp");
        assert_eq!(alias.links["san0"].card.as_ref().unwrap().to_string(), "52:54:00:77:00:01");
        assert_eq!(alias.others.unwrap().ipv4, Ipv4Method::Dhcp);
        assert_eq!(parse(["quiet", "mesolith.name=a"]), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_reason() {
        for (line, said) in [
            ("ip=dhpc", "no method"),
            ("ip=10.0.0.5::10.0.0.1:255.0.255.0::eth0:none", "no netmask"),
            ("ip=10.0.0.5::10.0.0.1:255.255.255.0", "names no link"),
            ("ip=eth0:dhcp:1500:52:54:00:77:00:01", "cannot be set"),
            ("ip=[fd00::5::eth0", "bracket"),
            ("ip=a:b", "write ip="),
            ("bond=bond0:eth0,eth1", "write bond="),
            ("bond=bond0:eth0:miimon=100", "no mode"),
            ("bond=bond0:eth0:mode=balance-rr", "802.3ad or active-backup"),
            ("bond=bond0:eth0:mode=1,colour=red", "colour=red"),
            ("vlan=red:eth0", "number is in its name"),
            ("vlan=eth0.5000:eth0", "4094"),
            ("nameserver=dns", "no address"),
            ("rd.route=10.0.0.0/8:10.1.0.1", "name one"),
            ("rd.route=10.0.0.0/8", "write rd.route"),
            ("ifname=a:b", "no MAC"),
        ] {
            let mistakes = parse(line.split(' ')).unwrap_err();
            assert!(mistakes.iter().any(|mistake| mistake.contains(said)), "{line}: {mistakes:?}");
        }
    }
}
