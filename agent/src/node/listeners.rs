//! Who listens on which port of the node: the kernel's list of sockets, and who of a container has them open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A socket that waits for connections, in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Ports by the socket's inode.
#[derive(Debug, Default)]
pub(crate) struct Listeners(BTreeMap<u64, u16>);

impl Listeners {
    /// Of this network namespace.
    pub(crate) fn now() -> Self {
        let mut all = BTreeMap::new();
        for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
            // A node without IPv6 has no second one.
            all.extend(listening(&fs::read_to_string(file).unwrap_or_default()));
        }
        Self(all)
    }

    /// The ports on which processes of a cgroup, or of one below it, listen.
    pub(crate) fn of_cgroup(&self, cgroup: &Path) -> BTreeSet<u16> {
        let mut ports = BTreeSet::new();
        if self.0.is_empty() {
            return ports;
        }
        let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        for pid in text.lines() {
            // One that ended meanwhile listens no more.
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let Ok(link) = fs::read_link(entry.path()) else { continue };
                ports.extend(inode(&link).and_then(|inode| self.0.get(&inode)));
            }
        }
        for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                ports.extend(self.of_cgroup(&entry.path()));
            }
        }
        ports
    }
}

/// `socket:[12345]`.
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// `  0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 …`.
fn listening(text: &str) -> Vec<(u64, u16)> {
    let one = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = words.get(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (*words.get(3)? == LISTEN).then_some(())?;
        Some((words.get(9)?.parse().ok()?, port))
    };
    text.lines().skip(1).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_sockets_that_wait_for_connections_count() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n\
             1: 0100007F:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n\
             2: broken\n";
        assert_eq!(listening(text), [(4711, 80)]);
    }

    #[test]
    fn our_own_listener_is_found_by_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cgroup = tempfile::tempdir().unwrap();
        let below = cgroup.path().join("below");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        assert!(Listeners::now().of_cgroup(cgroup.path()).contains(&port));
        drop(listener);
        assert!(!Listeners::now().of_cgroup(cgroup.path()).contains(&port));
    }
}
