//! What makes one disk another than the next: its source, what persists on it, where it is mounted.

use serde::{Deserialize, Serialize};

use crate::v1;
use crate::v1::resource::disk_info;

/// The identity of a disk resource beyond its name. Two plain amounts of disk have none.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Disk {
    /// Which device it is of; unset is the agent's work directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DiskSource>,
    /// Makes it a persistent volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// Where a container sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<DiskVolume>,
}

/// What a disk is made of.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum DiskKind {
    /// A kind of a later Mesos.
    #[default]
    Unknown,
    /// A directory: amounts of one root add up and can be split.
    Path,
    /// A mounted file system: handed out whole.
    Mount,
    /// A block device.
    Block,
    /// A device nobody has made anything of yet.
    Raw,
}

/// Where a disk comes from.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct DiskSource {
    /// What it is made of.
    pub kind: DiskKind,
    /// The directory of a PATH or MOUNT disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The storage system's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The storage profile it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Whose storage system `id` is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Key and value, in the order given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<(String, Option<String>)>,
}

/// What outlives the task that wrote it.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Persistence {
    /// Unique within its role on its agent.
    pub id: String,
    /// Who created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

/// Where a disk is mounted. Images and volume sources are for containers, not for disks: they are left behind.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct DiskVolume {
    /// In the container.
    pub container_path: String,
    /// On the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// Not writable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

impl DiskKind {
    /// `MOUNT` and so on.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "PATH" => Self::Path,
            "MOUNT" => Self::Mount,
            "BLOCK" => Self::Block,
            "RAW" => Self::Raw,
            _ => Self::Unknown,
        }
    }
}

impl Disk {
    /// Of that kind, and nothing else known of it.
    #[must_use]
    pub fn of_kind(kind: DiskKind) -> Self {
        Self { source: Some(DiskSource { kind, ..DiskSource::default() }), ..Self::default() }
    }

    /// Can some of it be taken? Of a whole disk or a persistent volume, no part is the same thing but smaller.
    #[must_use]
    pub fn is_divisible(&self) -> bool {
        self.persistence.is_none()
            && self.source.as_ref().is_none_or(|source| match source.kind {
                DiskKind::Mount | DiskKind::Block => false,
                DiskKind::Raw => source.id.is_none(),
                DiskKind::Path | DiskKind::Unknown => true,
            })
    }

    /// Persistent volumes and whole disks never merge: each is a thing of its own.
    #[must_use]
    pub fn merges(&self) -> bool {
        self.persistence.is_none() && self.source.as_ref().is_none_or(|source| source.kind == DiskKind::Path)
    }
}

impl From<&v1::resource::DiskInfo> for Disk {
    fn from(wire: &v1::resource::DiskInfo) -> Self {
        Self {
            source: wire.source.as_ref().map(|source| DiskSource {
                kind: match source.r#type() {
                    disk_info::source::Type::Unknown => DiskKind::Unknown,
                    disk_info::source::Type::Path => DiskKind::Path,
                    disk_info::source::Type::Mount => DiskKind::Mount,
                    disk_info::source::Type::Block => DiskKind::Block,
                    disk_info::source::Type::Raw => DiskKind::Raw,
                },
                root: (source.path.as_ref().and_then(|path| path.root.clone()))
                    .or_else(|| source.mount.as_ref().and_then(|mount| mount.root.clone())),
                id: source.id.clone(),
                profile: source.profile.clone(),
                vendor: source.vendor.clone(),
                metadata: source.metadata.as_ref().map(v1::Labels::pairs).unwrap_or_default(),
            }),
            persistence: wire
                .persistence
                .as_ref()
                .map(|made| Persistence { id: made.id.clone(), principal: made.principal.clone() }),
            volume: wire.volume.as_ref().map(|volume| DiskVolume {
                container_path: volume.container_path.clone(),
                host_path: volume.host_path.clone(),
                read_only: volume.mode() == v1::volume::Mode::Ro,
            }),
        }
    }
}

impl From<&Disk> for v1::resource::DiskInfo {
    fn from(disk: &Disk) -> Self {
        Self {
            source: disk.source.as_ref().map(source_to_wire),
            persistence: disk
                .persistence
                .as_ref()
                .map(|made| disk_info::Persistence { id: made.id.clone(), principal: made.principal.clone() }),
            volume: disk.volume.as_ref().map(|volume| v1::Volume {
                mode: if volume.read_only { v1::volume::Mode::Ro } else { v1::volume::Mode::Rw }.into(),
                container_path: volume.container_path.clone(),
                host_path: volume.host_path.clone(),
                ..v1::Volume::default()
            }),
        }
    }
}

fn source_to_wire(source: &DiskSource) -> disk_info::Source {
    let root = || source.root.clone();
    let kind = match source.kind {
        DiskKind::Unknown => disk_info::source::Type::Unknown,
        DiskKind::Path => disk_info::source::Type::Path,
        DiskKind::Mount => disk_info::source::Type::Mount,
        DiskKind::Block => disk_info::source::Type::Block,
        DiskKind::Raw => disk_info::source::Type::Raw,
    };
    // A root makes sense for these two only; a MOUNT disk of a storage system has one only when mounted.
    let rooted = |wanted| source.kind == wanted && source.root.is_some();
    disk_info::Source {
        r#type: kind.into(),
        path: rooted(DiskKind::Path).then(|| disk_info::source::Path { root: root() }),
        mount: rooted(DiskKind::Mount).then(|| disk_info::source::Mount { root: root() }),
        id: source.id.clone(),
        profile: source.profile.clone(),
        vendor: source.vendor.clone(),
        metadata: (!source.metadata.is_empty()).then(|| v1::Labels::from_pairs(&source.metadata)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_spelled_as_mesos_spells_it_and_read_back() {
        for (text, merges, divisible) in [
            (r#"{"source":{"type":"PATH","path":{"root":"/a"}}}"#, true, true),
            (r#"{"source":{"type":"MOUNT","mount":{"root":"/b"}}}"#, false, false),
            (r#"{"source":{"type":"RAW","vendor":"v","profile":"p"}}"#, false, true),
            (r#"{"source":{"type":"RAW","id":"i","metadata":{"labels":[{"key":"k","value":"v"}]}}}"#, false, false),
            (
                r#"{"persistence":{"id":"x","principal":"p"},"volume":{"mode":"RO","container_path":"d","host_path":"h"}}"#,
                false,
                false,
            ),
        ] {
            let wire: v1::resource::DiskInfo = serde_json::from_str(text).unwrap();
            let disk = Disk::from(&wire);
            assert_eq!(v1::resource::DiskInfo::from(&disk), wire, "{text}");
            assert_eq!((disk.merges(), disk.is_divisible()), (merges, divisible), "{text}");
            assert_eq!(serde_json::from_str::<Disk>(&serde_json::to_string(&disk).unwrap()).unwrap(), disk);
        }
    }
}
