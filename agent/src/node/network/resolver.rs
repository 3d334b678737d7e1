//! `/etc/resolv.conf` and `/etc/hosts`: the C library reads nothing else.

use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use super::stub;

/// Where names are found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Names {
    /// The network's servers, best first.
    pub(super) servers: Vec<IpAddr>,
    /// Domains to search in.
    pub(super) search: Vec<String>,
    /// Our domain.
    pub(super) domain: Option<String>,
    /// Our address.
    pub(super) address: Option<IpAddr>,
    /// Who said so: for people.
    pub(super) source: String,
    /// The node's own server can be asked.
    pub(super) cached: bool,
}

/// Writes both. In place, not by renaming: containers have the files bound, and a rename would leave them the old ones.
pub(super) fn write(names: &Names, name: Option<&str>) -> io::Result<()> {
    overwrite(Path::new("/etc/resolv.conf"), &resolv_conf(names))?;
    overwrite(Path::new("/etc/hosts"), &hosts(names, name))
}

/// The node's own server first. Containers with a network of their own find nobody there, hear so at once, and ask the
/// next one; so does everybody while the agent starts anew.
fn resolv_conf(names: &Names) -> String {
    let own = names.cached.then_some(IpAddr::V4(stub::ADDRESS));
    // The C library reads three servers.
    let servers = own.into_iter().chain(names.servers.iter().copied()).take(3);
    let servers = servers.map(|server| format!("nameserver {server}\n"));
    let search = (!names.search.is_empty()).then(|| format!("search {}\n", names.search.join(" ")));
    search.into_iter().chain(servers).collect()
}

fn hosts(names: &Names, name: Option<&str>) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    if let (Some(name), Some(address)) = (name, names.address) {
        let full = names.domain.as_ref().map(|domain| format!("{name}.{domain} ")).unwrap_or_default();
        text.push_str(&format!("{address} {full}{name}\n"));
    }
    text
}

fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_names_becomes_both_files() {
        let mut names = Names {
            servers: (1..=4).map(|last| [10, 0, 0, last].into()).collect(),
            search: vec!["rack.example".to_owned(), "example".to_owned()],
            domain: Some("rack.example".to_owned()),
            address: Some([10, 0, 0, 11].into()),
            ..Names::default()
        };
        assert_eq!(resolv_conf(&names).lines().count(), 4);
        assert!(resolv_conf(&names).starts_with("search rack.example example\nnameserver 10.0.0.1\n"));
        names.cached = true;
        assert!(resolv_conf(&names).ends_with("nameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n"));
        assert!(hosts(&names, Some("node-1")).ends_with("10.0.0.11 node-1.rack.example node-1\n"));
    }
}
