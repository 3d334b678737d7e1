//! What a rack is made of: chosen by a test or by `./dev up`, written to `options.json` for the process that serves it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::accelerator::Accelerator;
use super::programs::{self, Programs};

/// How the nodes run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Diskless virtual servers that boot over the network.
    #[default]
    Virtual,
    /// Agents as processes of this host: ready in seconds, and proof of nothing about booting.
    Hosted,
}

/// Who ends the rack.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// It ends with the handle, or with the process that holds the handle.
    #[default]
    Attached,
    /// It ends when told: `./dev down`.
    Detached,
}

/// What nodes are told of where they stand.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Places {
    /// Each has a `rack` on its kernel's command line.
    #[default]
    Told,
    /// Nothing.
    Untold,
    /// Nothing, and the master has no list of machines: each is called after its network card.
    Unlisted,
}

/// Who tells machines where to boot from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BootService {
    /// The DHCP server that gives them addresses.
    #[default]
    Dhcp,
    /// The first master; the DHCP server gives addresses, and knows nothing of booting.
    Master,
}

/// A rack to start. `Options::default()` is two virtual servers on a free port in a directory of its own.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Options {
    /// How many nodes; at most [`Options::MAX_NODES`].
    pub nodes: usize,
    /// How they run.
    pub kind: Kind,
    /// How many masters are one cluster.
    pub masters: usize,
    /// Who ends it.
    pub life: Life,
    /// Where consoles, logs, sockets and the master's data live; a temporary directory if `None`.
    pub dir: Option<PathBuf>,
    /// The framework port on loopback; a free one if `None`.
    pub api_port: Option<u16>,
    /// Memory of each virtual server.
    pub memory_mib: u32,
    /// Virtual processors of each server. A second one costs 30 percent more time at boot in emulation.
    pub cpus: u32,
    /// KVM or emulation; a trial decides if `None`.
    pub accelerator: Option<Accelerator>,
    /// The directory with `vmlinuz` and `initramfs.img`.
    pub image_dir: PathBuf,
    /// Added to the master's command line.
    pub master_args: Vec<String>,
    /// Added to each node's kernel command line.
    pub cmdline: String,
    /// Whether the master tells machines their racks; if not, they have to find them.
    pub places: Places,
    /// Who tells machines where to boot from.
    pub boot_service: BootService,
    /// Added to the DHCP server's configuration.
    pub dhcp: Vec<String>,
    /// Added to each QEMU's command line.
    pub qemu_args: Vec<String>,
    /// Added to the command line of one node's QEMU, by the node's name.
    pub node_qemu_args: BTreeMap<String, Vec<String>>,
    /// The files to run.
    pub programs: Programs,
}

impl Options {
    /// Master n has the address 10.77.0.n.
    pub const MAX_MASTERS: usize = 7;
    /// Node n has the address 10.77.0.(10+n); dynamic ones begin at .150.
    pub const MAX_NODES: usize = 64;

    /// Two virtual servers, the programs that lie beside the caller's own binary, and the image `./dev image` made.
    pub fn new() -> Result<Self> {
        let programs = Programs::find()?;
        Ok(Self {
            nodes: 2,
            masters: 1,
            kind: Kind::Virtual,
            life: Life::Attached,
            dir: None,
            api_port: None,
            memory_mib: 768,
            cpus: 1,
            accelerator: None,
            image_dir: programs::repository().join(".lab/image"),
            master_args: Vec::new(),
            cmdline: String::new(),
            places: Places::default(),
            boot_service: BootService::default(),
            dhcp: Vec::new(),
            qemu_args: Vec::new(),
            node_qemu_args: BTreeMap::new(),
            programs,
        })
    }

    /// The plan of node `number`, counted from 1.
    #[must_use]
    pub fn node(&self, number: usize) -> NodePlan {
        NodePlan {
            number,
            name: format!("node-{number}"),
            mac: format!("52:54:00:77:00:{number:02x}"),
            uuid: format!("4d65736f-6c69-7468-8000-{number:012x}"),
            address: format!("10.77.0.{}", 10 + number),
            // Racks r1-a, r1-b, … r1-z, r2-a: so `rack:LIKE:r1-.*` means something on a small rack.
            rack: format!("r{}-{}", 1 + (number - 1) / 26, ('a'..='z').nth((number - 1) % 26).unwrap_or('a')),
            tap: format!("tap{number}"),
        }
    }

    /// All plans.
    #[must_use]
    pub fn node_plans(&self) -> Vec<NodePlan> {
        (1..=self.nodes).map(|number| self.node(number)).collect()
    }

    /// Written for the serving process.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Read by the serving process.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not the options of a rack", file.display()))
    }
}

/// What is fixed about a node before it exists. Two racks in two private networks have the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodePlan {
    /// Counted from 1.
    pub number: usize,
    /// `node-1` and so on: the name the master gives it by its MAC.
    pub name: String,
    /// The MAC of its only NIC, in lower case.
    pub mac: String,
    /// Its SMBIOS system UUID.
    pub uuid: String,
    /// The address the DHCP server keeps for it.
    pub address: String,
    /// The value of its `rack` attribute.
    pub rack: String,
    /// Its port on the bridge.
    pub tap: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_differs_in_name_mac_uuid_address_and_rack() {
        let options = Options { nodes: Options::MAX_NODES, ..Options::new().unwrap() };
        let plans = options.node_plans();
        let parts: [fn(&NodePlan) -> &str; 5] = [|p| &p.name, |p| &p.mac, |p| &p.uuid, |p| &p.address, |p| &p.rack];
        for part in parts {
            let mut values: Vec<&str> = plans.iter().map(part).collect();
            values.sort_unstable();
            values.dedup();
            assert_eq!(values.len(), Options::MAX_NODES);
        }
    }
}
