//! Networks of the operator's, by CNI 1.0: lists of plugins, programs that connect a container and let it go again.
//!
//! What a container was connected with is kept in a file of its own until it has been let go, and its network namespace by
//! a mount: plugins undo what they did there, when the container's processes are long gone, also after the agent was
//! restarted.

mod configuration;
mod departures;
mod execution;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_core::bridge::{Mapping, NamedNetwork};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::configuration::Network;
use self::departures::{Departure, Departures};
use self::execution::{Call, PATIENCE, PluginError};
use super::private_file;
use crate::logging::chain;
use crate::uptime;

/// What a container's interface is called in it.
const INTERFACE: &str = "eth0";
/// In the names of files of containers that are being let go; no id has it.
const LEAVES: char = '~';
/// How long an earlier container of the same id may take to be let go: each plugin of a usual list as long as it may.
const LEAVE_PATIENCE: Duration = Duration::from_secs(4 * PATIENCE.as_secs());

/// Why a container is not connected, or not let go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CniError {
    #[error("this node has no network '{0}'")]
    Unknown(String),
    #[error("what it was connected with before has not been undone within {} s", LEAVE_PATIENCE.as_secs())]
    Leaves,
    #[error("network '{0}' maps no ports: none of its plugins has the capability portMappings")]
    NoPorts(String),
    #[error("cannot keep the container's network namespace")]
    Namespace(#[source] io::Error),
    #[error("cannot write down what the container is connected with")]
    Write(#[source] io::Error),
    #[error("network '{network}' cannot {what} the container")]
    Plugin { network: String, what: &'static str, source: PluginError },
}

/// What a container is connected with.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Attachment {
    /// As it was then: the operator may have changed it since.
    network: Network,
    mappings: Vec<Mapping>,
    /// Where its network namespace is kept.
    namespace: PathBuf,
    /// What the last plugin said; null until it has.
    result: Value,
}

/// One that is being let go. Until this is dropped, none of the same id is connected.
#[derive(Debug)]
pub(crate) struct Leaving {
    departure: Departure,
    file: PathBuf,
}

/// What is to be done after a restart.
#[derive(Debug)]
#[must_use]
pub(crate) struct Recovery {
    leaving: Vec<Leaving>,
    connected: Vec<String>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Cni {
    networks: BTreeMap<String, Network>,
    plugins: PathBuf,
    attachments: PathBuf,
    namespaces: PathBuf,
    departures: Arc<Departures>,
}

impl Cni {
    /// Reads the lists of a directory. Those that make no sense are told and left out.
    pub(crate) fn open(lists: &Path, plugins: &Path, state: &Path) -> io::Result<Self> {
        let (attachments, namespaces) = (state.join("cni"), state.join("netns"));
        private_file::make_directory(&attachments)?;
        private_file::make_directory(&namespaces)?;
        let networks = configuration::read(lists, plugins);
        Ok(Self { networks, plugins: plugins.to_owned(), attachments, namespaces, departures: Arc::default() })
    }

    /// Their names.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.networks.keys().cloned().collect()
    }

    /// Connects the container of this process, as soon as an earlier one of its id has been let go; gives its addresses.
    /// When it cannot, nothing is left of it.
    pub(crate) fn add(&self, container: &str, pid: i32, wish: &NamedNetwork) -> Result<Vec<String>, CniError> {
        let network = self.networks.get(&wish.name).ok_or_else(|| CniError::Unknown(wish.name.clone()))?;
        if !wish.mappings.is_empty() && !network.maps_ports() {
            return Err(CniError::NoPorts(wish.name.clone()));
        }
        self.departures.wait(container, LEAVE_PATIENCE).map_err(|_| CniError::Leaves)?;
        // One that was not undone would be found still.
        for leaving in self.leftovers(container) {
            self.finish(&leaving);
        }
        self.remove(container);
        let namespace = self.namespaces.join(format!("{container}-{}", uptime::millis()));
        let mut attachment =
            Attachment { network: network.clone(), mappings: wish.mappings.clone(), namespace, result: Value::Null };
        self.write(container, &attachment)?;
        let connected = keep_namespace(&attachment.namespace, pid).and_then(|()| self.connect(container, &attachment));
        match connected {
            Ok(result) => {
                attachment.result = result;
                self.write(container, &attachment).inspect_err(|_| self.remove(container))?;
                Ok(addresses(&attachment.result))
            }
            Err(error) => {
                self.remove(container);
                Err(error)
            }
        }
    }

    fn connect(&self, container: &str, attachment: &Attachment) -> Result<Value, CniError> {
        let mut result = Value::Null;
        for plugin in &attachment.network.plugins {
            result = self.call("ADD", container, attachment, plugin, &result).map_err(|source| CniError::Plugin {
                network: attachment.network.name.clone(),
                what: "connect",
                source,
            })?;
        }
        Ok(result)
    }

    /// Lets a container go, if it was connected.
    pub(crate) fn remove(&self, container: &str) {
        if let Some(leaving) = self.leave(container) {
            self.finish(&leaving);
        }
    }

    /// From now on it is as if it had never been connected; [`finish`](Self::finish) sees to it.
    pub(crate) fn leave(&self, container: &str) -> Option<Leaving> {
        let departure = self.departures.begin(container);
        let file = self.file(container);
        if !file.exists() {
            return None;
        }
        let other = self.file(&format!("{container}{LEAVES}{}", uptime::millis()));
        match fs::rename(&file, &other) {
            Ok(()) => Some(Leaving { departure, file: other }),
            Err(error) => {
                tracing::warn!(container, %error, "a container is not let go by its network");
                None
            }
        }
    }

    /// What a plugin cannot undo is told and stays written down: it is asked again after the next restart.
    pub(crate) fn finish(&self, leaving: &Leaving) {
        let container = leaving.departure.container.as_str();
        let mut failures = 0_usize;
        if let Some(attachment) = read(&leaving.file) {
            for plugin in attachment.network.plugins.iter().rev() {
                if let Err(error) = self.call("DEL", container, &attachment, plugin, &attachment.result) {
                    let network = &attachment.network.name;
                    tracing::warn!(container, network, error = %chain(&error), "a plugin does not let a container go");
                    failures += 1;
                }
            }
            // Also after a failure: an interface left in it would answer for an address that is maybe another's by then.
            // Plugins must be able to undo the rest without it.
            match umount2(&attachment.namespace, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => tracing::warn!(container, %error, "a network namespace stays"),
            }
            if let Err(error) = private_file::remove(&attachment.namespace) {
                tracing::warn!(container, %error, "the file of a network namespace stays");
            }
        }
        if failures > 0 {
            let path = leaving.file.display();
            tracing::warn!(container, failures, %path, "plugins are asked again to let it go when the agent starts anew");
            return;
        }
        if let Err(error) = private_file::remove(&leaving.file) {
            tracing::warn!(container, %error, "what a container was connected with stays written down");
        }
    }

    /// After a restart, before anybody is connected: from now on those nobody knows any more are leaving, and those an
    /// earlier agent did not let go. [`go_on`](Self::go_on) sees to them, which may take long.
    pub(crate) fn recover(&self, known: &BTreeSet<String>) -> Recovery {
        let mut recovery = Recovery { leaving: Vec::new(), connected: Vec::new() };
        for (name, file) in self.written() {
            match name.split_once(LEAVES) {
                // Plugins could not tell the two apart: this waits until the newer one is gone or connected anew.
                Some((container, _)) if known.contains(container) && self.file(container).exists() => {
                    tracing::info!(container, "what it was connected with earlier is undone after it is gone");
                }
                Some((container, _)) => {
                    recovery.leaving.push(Leaving { departure: self.departures.begin(container), file });
                }
                None if known.contains(&name) => recovery.connected.push(name),
                None => {
                    tracing::info!(container = name, "an earlier container is let go by its network");
                    recovery.leaving.extend(self.leave(&name));
                }
            }
        }
        // Those may be waited for.
        recovery.leaving.sort_by_key(|leaving| !known.contains(&leaving.departure.container));
        recovery
    }

    /// Lets go whom [`recover`](Self::recover) found, and looks whether the others are still connected.
    pub(crate) fn go_on(&self, recovery: Recovery) {
        for leaving in recovery.leaving {
            self.finish(&leaving);
        }
        for container in recovery.connected {
            if let Err(error) = self.check(&container) {
                tracing::warn!(container, error = %chain(&error), "a container is not connected as it should be");
            }
        }
    }

    /// Those of this id whose plugins failed to let them go.
    fn leftovers(&self, container: &str) -> Vec<Leaving> {
        let written = self.written().into_iter();
        let of_it = written.filter(|(name, _)| name.split_once(LEAVES).is_some_and(|(id, _)| id == container));
        of_it.map(|(_, file)| Leaving { departure: self.departures.begin(container), file }).collect()
    }

    /// All that is written down, by its names without their ending.
    fn written(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(&self.attachments).map(|entries| entries.flatten().collect::<Vec<_>>());
        let entries = entries.unwrap_or_else(|error| {
            tracing::warn!(%error, "what containers are connected with cannot be looked through");
            Vec::new()
        });
        let names = entries.into_iter().filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().strip_suffix(".json")?.to_owned();
            Some((name, entry.path()))
        });
        names.collect()
    }

    fn check(&self, container: &str) -> Result<(), CniError> {
        let Some(attachment) = read(&self.file(container)).filter(|attachment| attachment.network.is_checked()) else {
            return Ok(());
        };
        if attachment.result.is_null() {
            return Ok(()); // it is being connected anew
        }
        for plugin in &attachment.network.plugins {
            self.call("CHECK", container, &attachment, plugin, &attachment.result).map_err(|source| {
                CniError::Plugin { network: attachment.network.name.clone(), what: "find", source }
            })?;
        }
        Ok(())
    }

    fn call(
        &self,
        command: &'static str,
        container: &str,
        attachment: &Attachment,
        plugin: &Value,
        previous: &Value,
    ) -> Result<Value, PluginError> {
        let ports = attachment.mappings.iter().map(|mapping| {
            json!({"hostPort": mapping.host, "containerPort": mapping.container, "protocol": mapping.protocol.name()})
        });
        let configuration = attachment.network.of_plugin(plugin, ports.collect(), previous);
        // One that is gone, with the machine's last boot for instance, is said to be gone.
        let place = &attachment.namespace;
        let namespace = if is_namespace(place) { place.display().to_string() } else { String::new() };
        Call {
            command,
            container,
            namespace: &namespace,
            interface: INTERFACE,
            plugins: &self.plugins,
            configuration: &configuration,
        }
        .run()
    }

    fn file(&self, container: &str) -> PathBuf {
        self.attachments.join(format!("{container}.json"))
    }

    fn write(&self, container: &str, attachment: &Attachment) -> Result<(), CniError> {
        let text = serde_json::to_vec(attachment).map_err(|error| CniError::Write(error.into()))?;
        private_file::write(&self.file(container), &text).map_err(CniError::Write)
    }
}

fn read(file: &Path) -> Option<Attachment> {
    let text = private_file::read(file).ok()??;
    match serde_json::from_slice(&text) {
        Ok(attachment) => Some(attachment),
        Err(error) => {
            tracing::warn!(path = %file.display(), %error, "what a container is connected with cannot be read");
            None
        }
    }
}

fn keep_namespace(place: &Path, pid: i32) -> Result<(), CniError> {
    let none = None::<&str>;
    File::create(place)
        .and_then(|_| {
            let source = format!("/proc/{pid}/ns/net");
            Ok(mount(Some(source.as_str()), place, none, MsFlags::MS_BIND, none)?)
        })
        .map_err(CniError::Namespace)
}

fn is_namespace(place: &Path) -> bool {
    /// `NSFS_MAGIC`.
    const NSFS: i64 = 0x6e73_6673;
    rustix::fs::statfs(place).is_ok_and(|about| about.f_type == NSFS)
}

/// Those of the container, without their networks' sizes.
fn addresses(result: &Value) -> Vec<String> {
    let inside = |index: &Value| {
        let interface = index.as_u64().and_then(|index| result["interfaces"].get(usize::try_from(index).ok()?));
        interface.is_none_or(|interface| interface["sandbox"].as_str().is_some_and(|sandbox| !sandbox.is_empty()))
    };
    let all = result["ips"].as_array().into_iter().flatten().filter(|ip| inside(&ip["interface"]));
    all.filter_map(|ip| Some(ip["address"].as_str()?.split('/').next()?.to_owned())).collect()
}

#[cfg(test)]
mod tests;
