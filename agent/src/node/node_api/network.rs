//! Interfaces and routes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::kernel_file;
use crate::node::network::report;

/// Every interface with its addresses and counters.
pub(super) fn links() -> Result<Value, String> {
    let mut addresses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in nix::ifaddrs::getifaddrs().map_err(|error| format!("cannot list addresses: {error}"))? {
        let length = one.netmask.as_ref().and_then(prefix_length);
        let address = one.address.as_ref().and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|address| address.ip().to_string());
            v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().to_string()))
        });
        if let Some(address) = address {
            let length = length.map(|length| format!("/{length}")).unwrap_or_default();
            addresses.entry(one.interface_name).or_default().push(format!("{address}{length}"));
        }
    }
    let report = report::now();
    let counters = parse_counters(&kernel_file("/proc/net/dev")?);
    let links: Vec<Value> = counters
        .into_iter()
        .map(|(name, [received, errors, dropped, sent])| {
            let file = |file: &str| kernel_file(&format!("/sys/class/net/{name}/{file}")).ok();
            let text = |name: &str| file(name).map(|text| text.trim().to_owned());
            let mut link = json!({
                "name": name,
                "state": text("operstate"),
                "mac": text("address"),
                "mtu": text("mtu").and_then(|mtu| mtu.parse::<u32>().ok()),
                "addresses": addresses.get(&name).cloned().unwrap_or_default(),
                "received_bytes": received,
                "receive_errors": errors,
                "receive_dropped": dropped,
                "sent_bytes": sent,
                // Unknown is -1, of virtual cards for one.
                "speed_mbps": text("speed").and_then(|speed| speed.parse::<u32>().ok()),
                "duplex": text("duplex").filter(|duplex| duplex != "unknown"),
                "carrier_changes": text("carrier_changes").and_then(|changes| changes.parse::<u64>().ok()),
            });
            for key in ["kind", "source", "bond", "mode", "ports", "of", "id", "ipv4", "ipv6", "primary", "driver"] {
                let known = &report["links"][&name][key];
                if !known.is_null() {
                    link[key] = known.clone();
                }
            }
            for (key, file) in BONDING {
                if let Some(value) = text(file).filter(|value| !value.is_empty()) {
                    link[key] = value.into();
                }
            }
            link
        })
        .collect();
    Ok(json!({ "links": links }))
}

/// What only bonds and their ports have.
const BONDING: [(&str, &str); 6] = [
    ("active_port", "bonding/active_slave"),
    ("lacp_ports", "bonding/ad_num_ports"),
    ("lacp_partner", "bonding/ad_partner_mac"),
    ("hash", "bonding/xmit_hash_policy"),
    ("port_state", "bonding_slave/state"),
    ("port_mii", "bonding_slave/mii_status"),
];

fn prefix_length(mask: &nix::sys::socket::SockaddrStorage) -> Option<u32> {
    let v4 = mask.as_sockaddr_in().map(|mask| mask.ip().to_bits().leading_ones());
    v4.or_else(|| mask.as_sockaddr_in6().map(|mask| mask.ip().to_bits().leading_ones()))
}

/// `eth0: bytes packets errs drop fifo frame compressed multicast bytes …`: bytes in, errors, drops, bytes out.
fn parse_counters(text: &str) -> BTreeMap<String, [u64; 4]> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let at = |index: usize| numbers.get(index).copied();
        Some((name.trim().to_owned(), [at(0)?, at(2)?, at(3)?, at(8)?]))
    };
    text.lines().filter_map(line).collect()
}

/// Both families' tables.
pub(super) fn routes() -> Result<Value, String> {
    let mut routes = parse_ipv4(&kernel_file("/proc/net/route")?);
    // A kernel without IPv6 has no such file.
    routes.extend(parse_ipv6(&kernel_file("/proc/net/ipv6_route").unwrap_or_default()));
    let report = report::now();
    for route in &mut routes {
        let by = route["link"].as_str().map(|link| report["links"][link]["source"].clone()).unwrap_or_default();
        if !by.is_null() {
            route["source"] = by;
        }
    }
    Ok(json!({ "routes": routes }))
}

/// `eth0 0000000A 0100000A 0003 0 0 100 00FFFFFF …`: addresses as the processor has them in memory.
fn parse_ipv4(text: &str) -> Vec<Value> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = |index: usize| {
            let number = u32::from_str_radix(fields.get(index)?, 16).ok()?;
            Some(Ipv4Addr::from(number.to_le_bytes()))
        };
        let (network, gateway, mask) = (address(1)?, address(2)?, address(7)?);
        Some(json!({
            "network": format!("{network}/{}", mask.to_bits().leading_ones()),
            "gateway": (!gateway.is_unspecified()).then(|| gateway.to_string()),
            "link": fields.first()?,
            "metric": fields.get(6)?.parse::<u32>().ok()?,
        }))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Destination, length, source, length, gateway, metric, and at the end the interface.
fn parse_ipv6(text: &str) -> Vec<Value> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| u128::from_str_radix(fields.get(index)?, 16).ok();
        let (network, gateway) = (Ipv6Addr::from(number(0)?), Ipv6Addr::from(number(4)?));
        Some(json!({
            "network": format!("{network}/{}", number(1)?),
            "gateway": (!gateway.is_unspecified()).then(|| gateway.to_string()),
            "link": fields.get(9)?,
            "metric": u32::try_from(number(5)?).ok()?,
        }))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_and_nonsense_is_passed_over() {
        let text = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                    eth0\t00000000\t0100004D\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                    eth0\t0000004D\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\nx\n";
        let routes = parse_ipv4(text);
        assert_eq!(routes[0], json!({"network": "0.0.0.0/0", "gateway": "77.0.0.1", "link": "eth0", "metric": 100}));
        assert_eq!(routes[1]["network"], "77.0.0.0/24");
        assert_eq!(routes.len(), 2);
        let text = "fd770000000000000000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\nnonsense\n";
        let expected = json!({"network": "fd77::/64", "gateway": null, "link": "eth0", "metric": 256});
        assert_eq!(parse_ipv6(text), [expected]);
        let counters = parse_counters("Inter-|   Receive\n  eth0: 10 1 2 3 0 0 0 0 40 4 0 0 0 0 0 0\n  lo: x\n");
        assert_eq!(counters, [("eth0".to_owned(), [10, 2, 3, 40])].into());
    }
}
