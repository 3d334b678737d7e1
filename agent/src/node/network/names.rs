//! Which name servers, domains and time servers count: the operator's, else those of the link whose way out is taken
//! first, then of the others.

use std::collections::BTreeMap;
use std::net::IpAddr;

use agent_core::network::{Advertisement, Found, Kernel, Layer};

use super::resolver::Names;

/// More domains than this are not searched.
const DOMAINS: usize = 6;
/// More servers than this are not asked.
const SERVERS: usize = 8;

/// What is known of names by all who say something.
pub(super) fn gather(
    layers: &[Layer<'_>],
    kernel: &Kernel,
    found: &BTreeMap<String, Found>,
    routers: &BTreeMap<u32, Advertisement>,
    primary: Option<&str>,
) -> Names {
    let mut names = Names::default();
    let said = layers.iter().find(|layer| !layer.settings.dns.is_empty());
    let searched = layers.iter().find(|layer| !layer.settings.search.is_empty());
    if let Some(layer) = said {
        layer.settings.dns.clone_into(&mut names.servers);
        layer.source.name().clone_into(&mut names.source);
    }
    if let Some(layer) = searched {
        layer.settings.search.clone_into(&mut names.search);
    }
    let mut links: Vec<&String> = kernel.links.keys().collect();
    links.sort_by_key(|link| (primary != Some(link.as_str()), *link));
    for link in links {
        let lent = found.get(link);
        let four = lent.and_then(|lent| lent.four.as_ref());
        let six = lent.and_then(|lent| lent.six.as_ref());
        let router = kernel.links.get(link).and_then(|seen| routers.get(&seen.index));
        if primary == Some(link.as_str()) {
            names.domain = four.and_then(|lease| lease.domain.clone()).or_else(|| {
                let domain = six.and_then(|lease| lease.domains.first().cloned());
                domain.or_else(|| router.and_then(|router| router.domains().into_iter().next()))
            });
        }
        if said.is_none() {
            let mut servers: Vec<IpAddr> = four.iter().flat_map(|lease| &lease.dns).map(|dns| (*dns).into()).collect();
            servers.extend(six.iter().flat_map(|lease| &lease.dns).map(|dns| IpAddr::V6(*dns)));
            // One that is on the link alone cannot be named without it.
            let reachable = |dns: &std::net::Ipv6Addr| (dns.segments()[0] & 0xffc0) != 0xfe80;
            servers.extend(router.iter().flat_map(|router| router.servers()).filter(reachable).map(IpAddr::V6));
            if !servers.is_empty() && names.source.is_empty() {
                names.source = format!("DHCP and routers, {link} first");
            }
            extend(&mut names.servers, servers, SERVERS);
        }
        if searched.is_none() {
            let mut domains: Vec<String> = four.iter().filter_map(|lease| lease.domain.clone()).collect();
            domains.extend(six.iter().flat_map(|lease| lease.domains.clone()));
            domains.extend(router.iter().flat_map(|router| router.domains()));
            extend(&mut names.search, domains, DOMAINS);
        }
    }
    names
}

/// Time servers of the network, best first.
pub(super) fn time_servers(found: &BTreeMap<String, Found>, primary: Option<&str>) -> Vec<String> {
    let lent = primary.and_then(|primary| found.get(primary));
    let four = lent.and_then(|lent| lent.four.as_ref());
    let six = lent.and_then(|lent| lent.six.as_ref());
    let mut servers: Vec<String> = four.iter().flat_map(|lease| &lease.ntp).map(ToString::to_string).collect();
    servers.extend(six.iter().flat_map(|lease| &lease.ntp).map(|ntp| format!("[{ntp}]")));
    servers
}

fn extend<T: PartialEq>(list: &mut Vec<T>, more: Vec<T>, most: usize) {
    for one in more {
        if !list.contains(&one) && list.len() < most {
            list.push(one);
        }
    }
}
