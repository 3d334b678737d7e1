//! `/etc/hosts` and `/etc/resolv.conf` of containers that have their own.

use super::image::Options;
use crate::bridge::{self, Address};

/// What a container resolves names by, where it is not what the node does.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names {
    /// The whole of `/etc/hosts`.
    pub hosts: Option<String>,
    /// `/etc/resolv.conf`.
    pub resolver: Option<Resolver>,
}

/// Empty is what the node has, without what only the node can reach.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Resolver {
    /// Addresses of servers.
    pub servers: Vec<String>,
    /// Domains to look in.
    pub search: Vec<String>,
}

impl Names {
    pub(super) fn of(address: Option<&Address>, hostname: &str, options: Option<&Options>) -> Self {
        let nothing = Options::default();
        let options = options.unwrap_or(&nothing);
        let hosts = match address {
            Some(address) => Some(bridge::hosts(address.ip, hostname, &options.hosts)),
            None if options.hosts.is_empty() => None,
            None => Some(bridge::hosts(std::net::Ipv4Addr::new(127, 0, 1, 1), hostname, &options.hosts)),
        };
        let asked = !options.dns.is_empty() || !options.dns_search.is_empty();
        let resolver = Resolver { servers: options.dns.clone(), search: options.dns_search.clone() };
        Self { hosts, resolver: (asked || address.is_some()).then_some(resolver) }
    }
}

impl Resolver {
    /// The file's text. `node` is the node's own.
    #[must_use]
    pub fn text(&self, node: &str) -> String {
        let of_node = |word: &str| -> Vec<String> {
            let lines = node.lines().filter_map(|line| line.trim().strip_prefix(word));
            lines.filter(|rest| rest.starts_with([' ', '\t'])).map(|rest| rest.trim().to_owned()).collect()
        };
        let reachable = |server: &String| !server.starts_with("127.") && server != "::1";
        let or_nodes = |own: &Vec<String>, nodes: Vec<String>| if own.is_empty() { nodes } else { own.clone() };
        let servers = or_nodes(&self.servers, of_node("nameserver").into_iter().filter(reachable).collect());
        let search = or_nodes(&self.search, of_node("search"));
        let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        if !search.is_empty() {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_resolver_is_the_nodes_without_what_only_the_node_reaches() {
        let node = "# made\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch lab example\noptions edns0\n";
        assert_eq!(Resolver::default().text(node), "nameserver 10.0.0.1\nsearch lab example\n");
        let own = Resolver { servers: vec!["10.9.9.9".to_owned()], search: Vec::new() };
        assert_eq!(own.text(node), "nameserver 10.9.9.9\nsearch lab example\n");
    }
}
