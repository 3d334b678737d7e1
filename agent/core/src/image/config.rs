//! What an image says about the processes in it: the parts of its configuration that mean something here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::reference::Digest;

/// The defaults for processes. Times, history, health checks and declared volumes are not kept.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ImageConfig {
    /// `name`, `uid`, `name:group` or `uid:gid`; empty is nobody in particular.
    #[serde(default)]
    pub user: String,
    /// `NAME=value`, in their order.
    #[serde(default)]
    pub env: Vec<String>,
    /// What arguments are given to.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// The arguments when nobody gives others.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// Where it starts; empty is nowhere in particular.
    #[serde(default)]
    pub working_dir: String,
    /// For people.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What an image is made for, in Go's words.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Platform {
    /// `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `v8`.
    #[serde(default)]
    pub variant: String,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON of this form.
    #[error("the image's configuration cannot be read: {0}")]
    Unreadable(String),
    /// Windows has such.
    #[error("the image's layers are of type `{0}`, not `layers`")]
    Layers(String),
}

/// As it is in the registry: docker's `config` has capitals, null means empty.
#[derive(Deserialize)]
struct Document {
    #[serde(flatten)]
    platform: Platform,
    config: Option<Inner>,
    rootfs: Rootfs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inner {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Words>,
    cmd: Option<Words>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// Very old images have one string where there should be a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Many(Vec<String>),
    One(String),
}

impl Words {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::Many(words) => words,
            Self::One(word) => vec![word],
        }
    }
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(rename = "type", default)]
    kind: String,
    diff_ids: Vec<Digest>,
}

/// Reads an image's configuration: its defaults, the digests of its unpacked layers (the lowest first), its platform.
///
/// # Errors
/// When it is not one.
pub fn parse_config(bytes: &[u8]) -> Result<(ImageConfig, Vec<Digest>, Platform), ConfigError> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| ConfigError::Unreadable(error.to_string()))?;
    if !matches!(document.rootfs.kind.as_str(), "layers" | "") {
        return Err(ConfigError::Layers(document.rootfs.kind));
    }
    let inner = document.config.unwrap_or_default();
    let config = ImageConfig {
        user: inner.user.unwrap_or_default(),
        env: inner.env.unwrap_or_default(),
        entrypoint: inner.entrypoint.map(Words::into_vec).unwrap_or_default(),
        cmd: inner.cmd.map(Words::into_vec).unwrap_or_default(),
        working_dir: inner.working_dir.unwrap_or_default(),
        labels: inner.labels.unwrap_or_default(),
    };
    Ok((config, document.rootfs.diff_ids, document.platform))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn docker_and_oci_configurations_are_read() {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"User":"app","Env":["A=1"],"Entrypoint":["/run"],"Cmd":null,
                "WorkingDir":"/srv","Labels":{{"k":"v"}},"Volumes":{{"/data":{{}}}},"ExposedPorts":{{"80/tcp":{{}}}}}},
                "rootfs":{{"type":"layers","diff_ids":["sha256:{HEX}"]}},"history":[{{"created_by":"x"}}]}}"#
        );
        let (config, layers, platform) = parse_config(text.as_bytes()).unwrap();
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("app", "/srv"));
        assert_eq!(
            (config.entrypoint, config.cmd, config.env),
            (vec!["/run".to_owned()], vec![], vec!["A=1".to_owned()])
        );
        assert_eq!(layers[0].hex(), HEX);
        assert_eq!((platform.os.as_str(), platform.architecture.as_str()), ("linux", "amd64"));
        assert_eq!(config.labels["k"], "v");
        let bare = r#"{"rootfs":{"type":"layers","diff_ids":[]},"config":{"Cmd":"sh"}}"#;
        assert_eq!(parse_config(bare.as_bytes()).unwrap().0.cmd, ["sh"]);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for text in
            ["", "{}", "[]", r#"{"rootfs":{"diff_ids":["sha256:../../etc"]}}"#, r#"{"rootfs":{"diff_ids":[1]}}"#]
        {
            assert!(matches!(parse_config(text.as_bytes()), Err(ConfigError::Unreadable(_))), "{text}");
        }
        let windows = r#"{"rootfs":{"type":"layers+base","diff_ids":[]}}"#;
        assert_eq!(parse_config(windows.as_bytes()), Err(ConfigError::Layers("layers+base".to_owned())));
    }
}
