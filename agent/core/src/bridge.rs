//! Networks of containers' own: who has which address on the node's bridge, and which ports of the node are whose.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use api::v1::container_info::docker_info::Network as DockerNetwork;
use api::v1::{ContainerInfo, TaskInfo, resources_from_wire};
use serde::{Deserialize, Serialize};

/// The addresses of a bridge: the first is the node's own on it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Default for Subnet {
    /// Seldom used by anybody's routers.
    fn default() -> Self {
        Self { network: Ipv4Addr::new(10, 88, 0, 0), prefix: 16 }
    }
}

impl std::str::FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a network such as 10.88.0.0/16, of 8 to 29 bits");
        let (network, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let network: Ipv4Addr = network.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let subnet = Self { network, prefix };
        let fine = (8..=29).contains(&prefix) && network.to_bits() & !subnet.mask().to_bits() == 0;
        if fine { Ok(subnet) } else { Err(wrong()) }
    }
}

impl Subnet {
    /// Its first address.
    #[must_use]
    pub const fn network(self) -> Ipv4Addr {
        self.network
    }

    /// How many bits of an address are the network's.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// The node's own address on the bridge.
    #[must_use]
    pub const fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    /// The bits that are the network's.
    #[must_use]
    pub const fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX << (32 - self.prefix))
    }

    /// The lowest address nobody has.
    #[must_use]
    pub fn free(self, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let last = self.network.to_bits() | !self.mask().to_bits();
        (self.gateway().to_bits() + 1..last).map(Ipv4Addr::from_bits).find(|ip| !taken.contains(ip))
    }
}

/// What a container has on the bridge.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Address {
    /// Its own.
    pub ip: Ipv4Addr,
    /// What of the node's ports are its.
    pub mappings: Vec<Mapping>,
}

/// A port of the node that is a port of a container.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Mapping {
    /// Of what.
    pub protocol: Protocol,
    /// The node's.
    pub host: u16,
    /// The container's.
    pub container: u16,
}

/// What has ports.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// As messages spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What a task wants of the network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wish {
    /// The node's own.
    Host,
    /// Loopback and nothing else.
    Nothing,
    /// An address on the bridge.
    Bridge(Vec<Mapping>),
    /// A network of the operator's.
    Named(NamedNetwork),
}

/// A network of the operator's that a container is on.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct NamedNetwork {
    /// What it is called.
    pub name: String,
    /// What of the node's ports are the container's.
    pub mappings: Vec<Mapping>,
    /// Its own addresses, once it is connected.
    pub addresses: Vec<String>,
}

/// What [`NetworkInfo`](api::v1::NetworkInfo) calls the bridge.
const NAMES: [&str; 3] = ["", "bridge", "mesolith"];

/// Reads it.
///
/// # Errors
/// What cannot be, for a person.
pub fn wish(task: &TaskInfo) -> Result<Wish, String> {
    let Some(container) = task.container.as_deref() else { return Ok(Wish::Host) };
    let named = container
        .network_infos
        .iter()
        .find_map(|network| network.name.as_deref().filter(|name| !NAMES.contains(name)).map(str::to_owned));
    if container.network_infos.len() > 1 {
        return Err("more than one network: a container has one".to_owned());
    }
    let own = |mappings: Vec<Mapping>| match &named {
        Some(name) => Wish::Named(NamedNetwork { name: name.clone(), mappings, addresses: Vec::new() }),
        None => Wish::Bridge(mappings),
    };
    let wish = match &container.docker {
        Some(docker) => match docker.network() {
            DockerNetwork::Host if !docker.port_mappings.is_empty() => {
                return Err(
                    "port mappings on network HOST: the task has the ports of its offer; map them on BRIDGE".to_owned()
                );
            }
            DockerNetwork::Host if container.network_infos.is_empty() => Wish::Host,
            DockerNetwork::None => Wish::Nothing,
            DockerNetwork::Host | DockerNetwork::Bridge => own(mappings(container)?),
            // A network of the operator's, by name; without one it is nobody's.
            DockerNetwork::User if container.network_infos.is_empty() => {
                return Err("network USER without network_infos: name the network".to_owned());
            }
            DockerNetwork::User => own(mappings(container)?),
        },
        None if container.network_infos.is_empty() => Wish::Host,
        None => own(mappings(container)?),
    };
    match &wish {
        Wish::Bridge(mappings) | Wish::Named(NamedNetwork { mappings, .. }) => check_ports(task, mappings)?,
        Wish::Host | Wish::Nothing => {}
    }
    Ok(wish)
}

fn mappings(container: &ContainerInfo) -> Result<Vec<Mapping>, String> {
    let docker = container.docker.iter().flat_map(|docker| &docker.port_mappings);
    let docker = docker.map(|one| (one.host_port, one.container_port, one.protocol.as_deref()));
    let networks = container.network_infos.iter().flat_map(|network| &network.port_mappings);
    let networks = networks.map(|one| (one.host_port, one.container_port, one.protocol.as_deref()));
    let mut all = BTreeSet::new();
    for (host, inside, protocol) in docker.chain(networks) {
        let port = |number: u32| {
            u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| format!("{number} is not a port"))
        };
        let protocols: &[Protocol] = match protocol.unwrap_or("tcp").to_ascii_lowercase().as_str() {
            "tcp" | "" => &[Protocol::Tcp],
            "udp" => &[Protocol::Udp],
            "udp,tcp" | "tcp,udp" => &[Protocol::Tcp, Protocol::Udp],
            other => return Err(format!("the protocol '{other}' of a port mapping: there are tcp and udp")),
        };
        let (host, container) = (port(host)?, port(inside)?);
        for protocol in protocols {
            let mapping = Mapping { protocol: *protocol, host, container };
            let twice = all.iter().any(|known: &Mapping| (known.protocol, known.host) == (*protocol, host));
            if twice && !all.contains(&mapping) {
                return Err(format!("port {host} is mapped twice"));
            }
            all.insert(mapping);
        }
    }
    Ok(all.into_iter().collect())
}

/// Mesos's rule: what is mapped is of the task's resources.
fn check_ports(task: &TaskInfo, mappings: &[Mapping]) -> Result<(), String> {
    let ports = resources_from_wire(&task.resources).unwrap_or_default().ranges("ports");
    match mappings
        .iter()
        .find(|mapping| !ports.iter().any(|(begin, end)| (begin..=end).contains(&u64::from(mapping.host))))
    {
        Some(mapping) => Err(format!("Port {} not included in resources", mapping.host)),
        None => Ok(()),
    }
}

/// `/etc/hosts` of a container with an address of its own.
#[must_use]
pub fn hosts(ip: Ipv4Addr, hostname: &str, more: &[(String, String)]) -> String {
    let mut text = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n{ip} {hostname}\n");
    for (name, address) in more {
        text.push_str(&format!("{address} {name}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(container: &str) -> Result<Wish, String> {
        let ports = r#"[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":31001}]}}]"#;
        wish(&serde_json::from_str(&format!(r#"{{"container":{container},"resources":{ports}}}"#)).unwrap())
    }

    fn tcp(host: u16, container: u16) -> Mapping {
        Mapping { protocol: Protocol::Tcp, host, container }
    }

    #[test]
    fn a_subnet_gives_the_lowest_address_nobody_has() {
        let subnet: Subnet = "10.1.2.0/29".parse().unwrap();
        assert_eq!((subnet.gateway(), subnet.mask()), (Ipv4Addr::new(10, 1, 2, 1), Ipv4Addr::new(255, 255, 255, 248)));
        let mut taken = BTreeSet::new();
        for last in 2..7 {
            let ip = subnet.free(&taken).unwrap();
            assert_eq!(ip, Ipv4Addr::new(10, 1, 2, last));
            taken.insert(ip);
        }
        assert_eq!(subnet.free(&taken), None, "the last address is everybody's");
        taken.remove(&Ipv4Addr::new(10, 1, 2, 4));
        assert_eq!(subnet.free(&taken), Some(Ipv4Addr::new(10, 1, 2, 4)));
        for wrong in ["10.1.2.0", "10.1.2.1/24", "10.1.2.0/30", "10.0.0.0/7", "x/16"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_ways_of_asking_for_the_bridge_are_one() {
        let docker = r#"{"type":"DOCKER","docker":{"image":"a","network":"BRIDGE",
            "port_mappings":[{"host_port":31000,"container_port":80},{"host_port":31001,"container_port":53,"protocol":"udp"}]}}"#;
        let udp = Mapping { protocol: Protocol::Udp, host: 31001, container: 53 };
        assert_eq!(of(docker), Ok(Wish::Bridge(vec![tcp(31000, 80), udp])));
        let mesos = r#"{"type":"MESOS","network_infos":[{"port_mappings":[{"host_port":31000,"container_port":80}]}]}"#;
        assert_eq!(of(mesos), Ok(Wish::Bridge(vec![tcp(31000, 80)])));
        assert_eq!(of(r#"{"type":"MESOS","network_infos":[{"name":"bridge"}]}"#), Ok(Wish::Bridge(vec![])));
        assert_eq!(of(r#"{"type":"DOCKER","docker":{"image":"a","network":"NONE"}}"#), Ok(Wish::Nothing));
        assert_eq!(of(r#"{"type":"DOCKER","docker":{"image":"a"}}"#), Ok(Wish::Host));
        assert_eq!(of(r#"{"type":"MESOS"}"#), Ok(Wish::Host));
    }

    #[test]
    fn another_name_is_a_network_of_the_operators() {
        let wish = of(
            r#"{"type":"MESOS","network_infos":[{"name":"overlay","port_mappings":[{"host_port":31000,"container_port":1}]}]}"#,
        );
        let Ok(Wish::Named(network)) = wish else { panic!("{wish:?}") };
        assert_eq!((network.name.as_str(), network.mappings.len()), ("overlay", 1));
        let docker = r#"{"type":"DOCKER","docker":{"image":"a","network":"USER"},"network_infos":[{"name":"lab"}]}"#;
        assert!(matches!(of(docker), Ok(Wish::Named(_))));
    }

    #[test]
    fn what_cannot_be_connected_says_why() {
        for (container, words) in [
            (r#"{"type":"MESOS","network_infos":[{},{}]}"#, "more than one"),
            (r#"{"type":"DOCKER","docker":{"image":"a","network":"USER"}}"#, "name the network"),
            (
                r#"{"type":"DOCKER","docker":{"image":"a","port_mappings":[{"host_port":31000,"container_port":80}]}}"#,
                "on network HOST",
            ),
            (
                r#"{"type":"DOCKER","docker":{"image":"a","network":"BRIDGE","port_mappings":[{"host_port":80,"container_port":80}]}}"#,
                "Port 80 not included in resources",
            ),
            (
                r#"{"type":"MESOS","network_infos":[{"port_mappings":[{"host_port":31000,"container_port":0}]}]}"#,
                "0 is not a port",
            ),
            (
                r#"{"type":"MESOS","network_infos":[{"port_mappings":[{"host_port":31000,"container_port":1,"protocol":"sctp"}]}]}"#,
                "'sctp'",
            ),
            (
                r#"{"type":"MESOS","network_infos":[{"port_mappings":[{"host_port":31000,"container_port":1},{"host_port":31000,"container_port":2}]}]}"#,
                "mapped twice",
            ),
        ] {
            let error = of(container).unwrap_err();
            assert!(error.contains(words), "{container}: {error}");
        }
    }
}
