//! Networks of the operator's, by CNI 1.0: lists of plugins, programs that connect a container and let it go again.
//!
//! What a container was connected with is kept in a file of its own until it has been let go, and its network namespace by
//! a mount: plugins undo what they did there, when the container's processes are long gone, also after the agent was
//! restarted.

mod configuration;
mod execution;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use agent_core::bridge::{Mapping, NamedNetwork};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::configuration::Network;
use self::execution::{Call, PluginError};
use super::private_file;
use crate::logging::chain;
use crate::uptime;

/// What a container's interface is called in it.
const INTERFACE: &str = "eth0";
/// In the names of files of containers that are being let go; no id has it.
const LEAVES: char = '~';

/// Why a container is not connected, or not let go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CniError {
    #[error("this node has no network '{0}'")]
    Unknown(String),
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

/// One that is being let go.
#[derive(Debug)]
pub(crate) struct Leaving {
    container: String,
    file: PathBuf,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Cni {
    networks: BTreeMap<String, Network>,
    plugins: PathBuf,
    attachments: PathBuf,
    namespaces: PathBuf,
}

impl Cni {
    /// Reads the lists of a directory. Those that make no sense are told and left out.
    pub(crate) fn open(lists: &Path, plugins: &Path, state: &Path) -> io::Result<Self> {
        let (attachments, namespaces) = (state.join("cni"), state.join("netns"));
        private_file::make_directory(&attachments)?;
        private_file::make_directory(&namespaces)?;
        let networks = configuration::read(lists, plugins);
        Ok(Self { networks, plugins: plugins.to_owned(), attachments, namespaces })
    }

    /// Their names.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.networks.keys().cloned().collect()
    }

    /// Connects the container of this process; gives its addresses. When it cannot, nothing is left of it.
    pub(crate) fn add(&self, container: &str, pid: i32, wish: &NamedNetwork) -> Result<Vec<String>, CniError> {
        let network = self.networks.get(&wish.name).ok_or_else(|| CniError::Unknown(wish.name.clone()))?;
        if !wish.mappings.is_empty() && !network.maps_ports() {
            return Err(CniError::NoPorts(wish.name.clone()));
        }
        // One that was not undone would be found still.
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
        let file = self.file(container);
        if !file.exists() {
            return None;
        }
        let other = self.file(&format!("{container}{LEAVES}{}", uptime::millis()));
        match fs::rename(&file, &other) {
            Ok(()) => Some(Leaving { container: container.to_owned(), file: other }),
            Err(error) => {
                tracing::warn!(container, %error, "a container is not let go by its network");
                None
            }
        }
    }

    /// What a plugin cannot undo is told and left: it is asked once.
    pub(crate) fn finish(&self, leaving: &Leaving) {
        let container = leaving.container.as_str();
        if let Some(attachment) = read(&leaving.file) {
            for plugin in attachment.network.plugins.iter().rev() {
                if let Err(error) = self.call("DEL", container, &attachment, plugin, &attachment.result) {
                    let network = &attachment.network.name;
                    tracing::warn!(container, network, error = %chain(&error), "a plugin does not let a container go");
                }
            }
            match umount2(&attachment.namespace, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => tracing::warn!(container, %error, "a network namespace stays"),
            }
            if let Err(error) = private_file::remove(&attachment.namespace) {
                tracing::warn!(container, %error, "the file of a network namespace stays");
            }
        }
        if let Err(error) = private_file::remove(&leaving.file) {
            tracing::warn!(container, %error, "what a container was connected with stays written down");
        }
    }

    /// After a restart: lets those go nobody knows any more, and looks whether the others are still connected.
    pub(crate) fn recover(&self, known: &BTreeSet<String>) {
        let entries = fs::read_dir(&self.attachments).map(|entries| entries.flatten().collect::<Vec<_>>());
        for entry in entries.unwrap_or_default() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(container) = name.strip_suffix(".json") else { continue };
            if let Some((container, _)) = container.split_once(LEAVES) {
                self.finish(&Leaving { container: container.to_owned(), file: entry.path() });
                continue;
            }
            if !known.contains(container) {
                tracing::info!(container, "an earlier container is let go by its network");
                self.remove(container);
                continue;
            }
            if let Err(error) = self.check(container) {
                tracing::warn!(container, error = %chain(&error), "a container is not connected as it should be");
            }
        }
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
