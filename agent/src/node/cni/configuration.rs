//! Lists of plugins, as files with the ending `conflist`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What we speak; a list may ask for any of 1.0 or before that has lists.
const VERSIONS: [&str; 6] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "0.2.0"];

/// One list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Network {
    pub(super) name: String,
    version: String,
    #[serde(default)]
    disable_check: bool,
    pub(super) plugins: Vec<Value>,
}

/// All lists of a directory, by their names; of two with one name the file that sorts first.
pub(super) fn read(lists: &Path, plugins: &Path) -> BTreeMap<String, Network> {
    let mut paths: Vec<_> = match fs::read_dir(lists) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) => {
            tracing::error!(path = %lists.display(), %error, "lists of network plugins cannot be read");
            Vec::new()
        }
    };
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "conflist"));
    paths.sort();
    let mut networks = BTreeMap::new();
    for path in paths {
        let parsed = fs::read(&path).map_err(|error| error.to_string()).and_then(|text| Network::parse(&text));
        let found = parsed.and_then(|network| network.find_plugins(plugins).map(|()| network));
        match found {
            Ok(network) if networks.contains_key(&network.name) => {
                tracing::error!(path = %path.display(), network = network.name, "a second network of this name is not used");
            }
            Ok(network) => {
                tracing::info!(network = network.name, plugins = network.plugins.len(), "a network for containers");
                networks.insert(network.name.clone(), network);
            }
            Err(reason) => tracing::error!(path = %path.display(), reason, "a network for containers is not used"),
        }
    }
    networks
}

impl Network {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let list: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let name = list["name"].as_str().unwrap_or_default();
        let fine = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(fine) {
            return Err(format!("`{name}` is no name of a network"));
        }
        let version = list["cniVersion"].as_str().unwrap_or_default();
        if !VERSIONS.contains(&version) {
            return Err(format!("cniVersion `{version}` is none of {}", VERSIONS.join(", ")));
        }
        let plugins = list["plugins"].as_array().filter(|plugins| !plugins.is_empty()).ok_or("it has no plugins")?;
        for plugin in plugins {
            let kind = plugin["type"].as_str().unwrap_or_default();
            if kind.is_empty() || kind.contains('/') || kind.starts_with('.') {
                return Err(format!("`{kind}` is no type of a plugin"));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            disable_check: list["disableCheck"].as_bool().unwrap_or(false),
            plugins: plugins.clone(),
        })
    }

    fn find_plugins(&self, directory: &Path) -> Result<(), String> {
        let missing = self.plugins.iter().filter_map(|plugin| plugin["type"].as_str());
        match missing.into_iter().find(|kind| !directory.join(kind).is_file()) {
            Some(kind) => Err(format!("there is no plugin `{kind}` in {}", directory.display())),
            None => Ok(()),
        }
    }

    /// Can ports of the node be mapped to its containers?
    pub(super) fn maps_ports(&self) -> bool {
        self.plugins.iter().any(maps_ports)
    }

    /// CHECK came with 0.4.0.
    pub(super) fn is_checked(&self) -> bool {
        !self.disable_check && !self.version.starts_with("0.3") && !self.version.starts_with("0.2")
    }

    /// What one of its plugins is told.
    pub(super) fn of_plugin(&self, plugin: &Value, ports: Vec<Value>, previous: &Value) -> Value {
        let mut own: Map<String, Value> = plugin.as_object().cloned().unwrap_or_default();
        let maps = maps_ports(plugin);
        own.remove("capabilities");
        own.insert("name".to_owned(), json!(self.name));
        own.insert("cniVersion".to_owned(), json!(self.version));
        if maps && !ports.is_empty() {
            own.insert("runtimeConfig".to_owned(), json!({ "portMappings": ports }));
        }
        if !previous.is_null() {
            own.insert("prevResult".to_owned(), previous.clone());
        }
        Value::Object(own)
    }
}

fn maps_ports(plugin: &Value) -> bool {
    plugin["capabilities"]["portMappings"] == true
}
