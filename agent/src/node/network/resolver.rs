//! `/etc/resolv.conf` and `/etc/hosts`: the C library reads nothing else.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use agent_core::dhcp::Lease;

/// Writes both. In place, not by renaming: containers have the files bound, and a rename would leave them the old ones.
pub(super) fn write(lease: &Lease, name: Option<&str>) -> io::Result<()> {
    overwrite(Path::new("/etc/resolv.conf"), &resolv_conf(lease))?;
    overwrite(Path::new("/etc/hosts"), &hosts(lease, name))
}

fn resolv_conf(lease: &Lease) -> String {
    // The C library reads three servers.
    let servers = lease.dns.iter().take(3).map(|server| format!("nameserver {server}\n"));
    let search = lease.domain.iter().map(|domain| format!("search {domain}\n"));
    search.chain(servers).collect()
}

fn hosts(lease: &Lease, name: Option<&str>) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    if let Some(name) = name {
        let full = lease.domain.as_ref().map(|domain| format!("{name}.{domain} ")).unwrap_or_default();
        text.push_str(&format!("{} {full}{name}\n", lease.address));
    }
    text
}

fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_lease_becomes_both_files() {
        let lease = Lease {
            address: Ipv4Addr::new(10, 0, 0, 11),
            prefix_len: 24,
            routers: vec![],
            routes: vec![],
            dns: (1..=4).map(|last| Ipv4Addr::new(10, 0, 0, last)).collect(),
            ntp: vec![],
            domain: Some("rack.example".to_owned()),
            hostname: None,
            mtu: None,
            location: None,
            place: None,
            server: Ipv4Addr::new(10, 0, 0, 1),
            lease_secs: 60,
            renew_secs: 30,
            rebind_secs: 50,
        };
        assert_eq!(resolv_conf(&lease).lines().count(), 4);
        assert!(resolv_conf(&lease).starts_with("search rack.example\nnameserver 10.0.0.1\n"));
        assert!(hosts(&lease, Some("node-1")).ends_with("10.0.0.11 node-1.rack.example node-1\n"));
    }
}
