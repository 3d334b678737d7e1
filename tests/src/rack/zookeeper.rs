//! The masters' ZooKeeper ports, carried out of the rack's network to the host's loopback, where frameworks are.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::Rack;
use super::network::master_address;

/// Inside the rack.
pub(super) const ZK_PORT: u16 = 2181;

impl Rack {
    /// `zk://host:port,.../mesos` of all masters. Each connection is a `nc` (package netcat-openbsd).
    pub fn zk(&self) -> Result<String> {
        let mut hosts = Vec::new();
        for number in 1..=self.options.masters {
            let listener =
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen for ZooKeeper clients")?;
            hosts.push(listener.local_addr()?.to_string());
            let mut command = self.inside(Path::new("nc"));
            command.args(["-N", &master_address(number), &ZK_PORT.to_string()]).stderr(Stdio::null());
            // Ends with the test.
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(std::result::Result::ok) {
                    let Ok(other) = stream.try_clone() else { return };
                    let carried = command.stdin(OwnedFd::from(stream)).stdout(OwnedFd::from(other)).spawn();
                    // The command keeps copies of its last connection, which would never end.
                    command.stdin(Stdio::null()).stdout(Stdio::null());
                    if let Ok(mut carried) = carried {
                        std::thread::spawn(move || carried.wait());
                    }
                }
            });
        }
        Ok(format!("zk://{}/mesos", hosts.join(",")))
    }
}
