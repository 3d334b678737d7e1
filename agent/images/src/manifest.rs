//! Manifests and indexes of images, as registries and archives have them.

use agent_core::image::{Digest, Platform};
use serde::Deserialize;

/// What registries are asked for.
pub const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// The largest manifest registries accept.
pub const MAX_BYTES: u64 = 4 << 20;
/// The largest configuration that is read.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// overlayfs's options have a page; Docker stops at the same number.
pub const MAX_LAYERS: usize = 127;

/// A piece of an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// An image for one platform.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// One image of an index.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct IndexEntry {
    /// Its manifest.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// What it is for.
    #[serde(default)]
    pub platform: Option<Platform>,
}

/// What a reference leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Document {
    /// An image.
    Image(Manifest),
    /// Images for several platforms.
    Index(Vec<IndexEntry>),
}

/// Why it is no image that can be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of this form.
    #[error("the manifest cannot be read: {0}")]
    Unreadable(String),
    /// From before 2016.
    #[error("the image has a manifest of schema {0}; push it anew with a client of this decade")]
    Schema(u64),
    /// A chart, a signature, a model.
    #[error("it holds `{0}`, which is no layer of a container image")]
    NoLayer(String),
    /// More than overlayfs takes.
    #[error("the image has {0} layers, more than {MAX_LAYERS}")]
    Layers(usize),
    /// No image for this machine.
    #[error("there is no image for {wanted}, only for {found}")]
    Platform {
        /// This machine.
        wanted: String,
        /// What there is.
        found: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    schema_version: Option<u64>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<IndexEntry>,
}

/// Reads a manifest or an index.
///
/// # Errors
/// When it is neither, or an image of a kind that cannot be run.
pub fn parse(bytes: &[u8]) -> Result<Document, ManifestError> {
    let unreadable = |error: serde_json::Error| ManifestError::Unreadable(error.to_string());
    let head: Head = serde_json::from_slice(bytes).map_err(unreadable)?;
    match head.schema_version {
        Some(2) | None => {}
        Some(other) => return Err(ManifestError::Schema(other)),
    }
    if head.manifests.is_some() {
        let index: Index = serde_json::from_slice(bytes).map_err(unreadable)?;
        return Ok(Document::Index(index.manifests));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(unreadable)?;
    if manifest.layers.len() > MAX_LAYERS {
        return Err(ManifestError::Layers(manifest.layers.len()));
    }
    if let Some(layer) = manifest.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
        return Err(ManifestError::NoLayer(layer.media_type.chars().take(100).collect()));
    }
    Ok(Document::Image(manifest))
}

/// Whether it can be unpacked. How it is compressed its first bytes say; layers kept elsewhere (`foreign`) are for
/// Windows.
fn is_layer(media_type: &str) -> bool {
    let kinds = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"];
    kinds.iter().any(|kind| {
        media_type.strip_prefix(kind).is_some_and(|rest| matches!(rest, "" | "+gzip" | "+zstd" | ".gzip" | ".zstd"))
    })
}

/// The image for this platform: of the same variant if there is one, else the first.
///
/// # Errors
/// When there is none; says what there is.
pub fn choose<'a>(entries: &'a [IndexEntry], wanted: &Platform) -> Result<&'a IndexEntry, ManifestError> {
    let fits = |entry: &&IndexEntry| {
        entry
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == wanted.os && platform.architecture == wanted.architecture)
    };
    let variant = |entry: &&IndexEntry| entry.platform.as_ref().is_some_and(|one| one.variant == wanted.variant);
    let mut fitting = entries.iter().filter(fits);
    let found = fitting.clone().find(variant).or_else(|| fitting.next());
    // An index of one image without a platform means that image.
    let only = || match entries {
        [entry] if entry.platform.is_none() => Some(entry),
        _ => None,
    };
    found.or_else(only).ok_or_else(|| {
        let known = entries.iter().filter_map(|entry| entry.platform.as_ref()).filter(|one| one.os != "unknown");
        let names: Vec<String> = known.map(named).take(20).collect();
        let found = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        ManifestError::Platform { wanted: named(wanted), found }
    })
}

fn named(platform: &Platform) -> String {
    let Platform { os, architecture, variant } = platform;
    if variant.is_empty() { format!("{os}/{architecture}") } else { format!("{os}/{architecture}/{variant}") }
}

/// This machine, in Go's words.
#[must_use]
pub fn own_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", "v8"),
        "x86" => ("386", ""),
        "powerpc64" => ("ppc64le", ""),
        other => (other, ""),
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn entry(os: &str, architecture: &str, variant: &str, size: u64) -> IndexEntry {
        let platform =
            Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() };
        let descriptor = Descriptor { media_type: String::new(), digest: Digest::of_sha256(&[7; 32]), size };
        IndexEntry { descriptor, platform: Some(platform) }
    }

    #[test]
    fn the_image_for_this_platform_is_chosen() {
        let wanted = |architecture: &str, variant: &str| Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        };
        let entries = [
            entry("unknown", "unknown", "", 0),
            entry("windows", "amd64", "", 1),
            entry("linux", "arm64", "v9", 2),
            entry("linux", "arm64", "v8", 3),
            entry("linux", "amd64", "", 4),
        ];
        let size = |platform| choose(&entries, &platform).map(|entry| entry.descriptor.size);
        assert_eq!(size(wanted("amd64", "")), Ok(4));
        assert_eq!(size(wanted("arm64", "v8")), Ok(3));
        assert_eq!(size(wanted("arm64", "")), Ok(2));
        let error = size(wanted("riscv64", "")).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no image for linux/riscv64, only for windows/amd64, linux/arm64/v9, linux/arm64/v8, linux/amd64"
        );
        let lone = [IndexEntry { platform: None, ..entry("", "", "", 5) }];
        assert_eq!(choose(&lone, &wanted("amd64", "")).unwrap().descriptor.size, 5);
        assert!(choose(&[], &wanted("amd64", "")).is_err());
    }

    #[test]
    fn manifests_of_both_kinds_are_read() {
        let descriptor = |kind: &str| format!(r#"{{"mediaType":"{kind}","digest":"sha256:{HEX}","size":3}}"#);
        let manifest = |layer: &str| {
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, descriptor("x"), descriptor(layer))
        };
        for kind in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert!(matches!(parse(manifest(kind).as_bytes()), Ok(Document::Image(_))), "{kind}");
        }
        for kind in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        ] {
            assert!(matches!(parse(manifest(kind).as_bytes()), Err(ManifestError::NoLayer(_))), "{kind}");
        }
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor("m"));
        assert!(matches!(parse(index.as_bytes()), Ok(Document::Index(list)) if list.len() == 1));
        assert_eq!(parse(br#"{"schemaVersion":1,"fsLayers":[]}"#), Err(ManifestError::Schema(1)));
        for text in ["", "{}", "[]", r#"{"schemaVersion":2,"config":{"digest":"sha256:x","size":1},"layers":[]}"#] {
            assert!(matches!(parse(text.as_bytes()), Err(ManifestError::Unreadable(_))), "{text}");
        }
        let many = vec![descriptor("application/vnd.oci.image.layer.v1.tar"); 128].join(",");
        let text = format!(r#"{{"config":{},"layers":[{many}]}}"#, descriptor("x"));
        assert_eq!(parse(text.as_bytes()), Err(ManifestError::Layers(128)));
    }
}
