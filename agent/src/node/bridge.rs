//! The bridge containers with a network of their own are on: made when the first one comes, put right after a restart.

mod links;
mod netlink;
mod nftables;

use std::collections::BTreeMap;
use std::fs;
use std::io;

use agent_core::bridge::{Address, Subnet};

pub(crate) use nftables::Others;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Why a container is not on the bridge.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BridgeError {
    #[error("cannot make the bridge {}", links::BRIDGE)]
    Bridge(#[source] io::Error),
    #[error("cannot set the rules of nf_tables for the bridge")]
    Rules(#[source] io::Error),
    #[error("cannot forward packets ({FORWARDING})")]
    Forwarding(#[source] io::Error),
    #[error("cannot connect the container to the bridge")]
    Attach(#[source] io::Error),
}

/// Who is on it.
#[derive(Debug)]
pub(crate) struct Bridge {
    subnet: Subnet,
    others: Others,
    /// By container.
    connected: BTreeMap<String, Address>,
    ready: bool,
}

impl Bridge {
    /// With those that are on it already.
    pub(crate) fn new(subnet: Subnet, others: Others, connected: BTreeMap<String, Address>) -> Self {
        let mut bridge = Self { subnet, others, connected, ready: false };
        if !bridge.connected.is_empty()
            && let Err(error) = bridge.prepare()
        {
            tracing::error!(error = %crate::logging::chain(&error), "the bridge of containers cannot be put right");
        }
        bridge
    }

    /// Connects a container by one of its processes.
    pub(crate) fn attach(&mut self, container: &str, pid: i32, address: &Address) -> Result<(), BridgeError> {
        self.connected.insert(container.to_owned(), address.clone());
        let attached =
            self.prepare().and_then(|()| links::attach(pid, address.clone(), self.subnet).map_err(BridgeError::Attach));
        if attached.is_err() {
            self.connected.remove(container);
        }
        attached
    }

    /// Lets a container's address and ports go; one that has none is let go.
    pub(crate) fn detach(&mut self, container: &str) {
        let Some(address) = self.connected.remove(container) else { return };
        if let Err(error) = links::detach(address.ip) {
            tracing::warn!(container, %error, "a container's interface stays");
        }
        if let Err(error) = self.publish() {
            tracing::warn!(container, %error, "a container's ports stay mapped");
        }
    }

    /// The rules come first: not a packet is forwarded without them.
    fn prepare(&mut self) -> Result<(), BridgeError> {
        self.publish().map_err(BridgeError::Rules)?;
        if !self.ready {
            links::make_bridge(self.subnet).map_err(BridgeError::Bridge)?;
            fs::write(FORWARDING, "1").map_err(BridgeError::Forwarding)?;
            self.ready = true;
        }
        Ok(())
    }

    fn publish(&self) -> io::Result<()> {
        let published: Vec<Address> = self.connected.values().cloned().collect();
        nftables::apply(self.subnet, self.others, &published)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::process::Command;

    use agent_core::bridge::{Mapping, Protocol};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// In a network namespace of its own, where it may change everything.
    #[test]
    fn a_container_is_connected_and_nothing_is_left_of_it() {
        if !nix::unistd::geteuid().is_root() {
            // Asked of the kernel anyway, so that this cannot pass for nothing.
            assert!(links::make_bridge(Subnet::default()).is_err());
            return;
        }
        let outcome = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // A process with another network namespace stands for a container.
            let mut sleeper = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
            let pid = i32::try_from(sleeper.id()).unwrap();
            let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
            while fs::read_link(format!("/proc/{pid}/ns/net")).unwrap() == own {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let mut bridge = Bridge::new(Subnet::default(), Others::Drop, BTreeMap::new());
            let mapping = |protocol, host, container| Mapping { protocol, host, container };
            let ip = Ipv4Addr::new(10, 88, 0, 2);
            let mappings = vec![mapping(Protocol::Tcp, 31000, 80), mapping(Protocol::Udp, 31001, 53)];
            let address = Address { ip, mappings };
            links::make_bridge(Subnet::default()).unwrap();
            links::make_bridge(Subnet::default()).unwrap();
            nftables::apply(Subnet::default(), Others::Drop, std::slice::from_ref(&address)).unwrap();
            links::attach(pid, address.clone(), Subnet::default()).unwrap();
            // Again, as an agent would that died before it said so.
            links::attach(pid, address.clone(), Subnet::default()).unwrap();
            let interfaces = || fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            assert!(interfaces().contains("mesolith0:") && interfaces().contains("mv0a580002:"), "{}", interfaces());
            let inside = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
            assert!(inside.contains("eth0:"), "{inside}");
            let routes = fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap();
            assert!(routes.lines().any(|line| line.starts_with("eth0\t00000000\t0100580A")), "{routes}");
            bridge.connected.insert("c".to_owned(), address);
            bridge.detach("c");
            assert!(!interfaces().contains("mv0a580002:"), "{}", interfaces());
            sleeper.kill().unwrap();
            sleeper.wait().unwrap();
        });
        outcome.join().unwrap();
    }
}
