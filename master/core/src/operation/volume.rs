//! Persistent volumes: disks that outlive their tasks.

use std::fmt::Write;

use api::Resource;
use api::resources::{Disk, DiskKind};

/// Is it a persistent volume?
pub(crate) fn is_persistent(resource: &Resource) -> bool {
    persistence_id(resource).is_some()
}

/// Its id, unique within its role on its agent.
pub(crate) fn persistence_id(resource: &Resource) -> Option<&str> {
    Some(resource.disk.as_ref()?.persistence.as_ref()?.id.as_str())
}

/// Who made it, if it says so.
pub(crate) fn principal(resource: &Resource) -> Option<&str> {
    resource.disk.as_ref()?.persistence.as_ref()?.principal.as_deref()
}

/// Where in the container it is.
pub(crate) fn has_mount_point(resource: &Resource) -> bool {
    resource.disk.as_ref().is_some_and(|disk| disk.volume.is_some())
}

/// A path of the machine.
pub(crate) fn has_host_path(resource: &Resource) -> bool {
    let volume = resource.disk.as_ref().and_then(|disk| disk.volume.as_ref());
    volume.is_some_and(|volume| volume.host_path.is_some())
}

pub(crate) fn is_read_only(resource: &Resource) -> bool {
    resource.disk.as_ref().and_then(|disk| disk.volume.as_ref()).is_some_and(|volume| volume.read_only)
}

/// Is it of a disk other than the agent's root?
pub(crate) fn has_source(resource: &Resource) -> bool {
    resource.disk.as_ref().is_some_and(|disk| disk.source.is_some())
}

/// Is it a whole mounted disk?
pub(crate) fn is_mount(resource: &Resource) -> bool {
    let source = resource.disk.as_ref().and_then(|disk| disk.source.as_ref());
    source.is_some_and(|source| source.kind == DiskKind::Mount)
}

/// The disk it is made of.
pub(crate) fn stripped(resource: &Resource) -> Resource {
    let mut stripped = resource.clone();
    stripped.shared = false;
    let source = stripped.disk.take().and_then(|disk| disk.source);
    stripped.disk = source.map(|source| Box::new(Disk { source: Some(source), ..Disk::default() }));
    stripped
}

/// As messages spell it: `MOUNT:/mnt,id:path`.
pub(crate) fn spell_disk(disk: &Disk) -> String {
    let mut text = String::new();
    if let Some(source) = &disk.source {
        text.push_str(match source.kind {
            DiskKind::Unknown => "UNKNOWN",
            DiskKind::Path => "PATH",
            DiskKind::Mount => "MOUNT",
            DiskKind::Block => "BLOCK",
            DiskKind::Raw => "RAW",
        });
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        if source.id.is_some() || source.profile.is_some() {
            let _ = write!(text, "({},{},{})", part(&source.vendor), part(&source.id), part(&source.profile));
        } else if let Some(root) = &source.root {
            let _ = write!(text, ":{root}");
        }
    }
    if let Some(persistence) = &disk.persistence {
        let separator = if disk.source.is_some() { "," } else { "" };
        let _ = write!(text, "{separator}{}", persistence.id);
    }
    if let Some(volume) = &disk.volume {
        text.push(':');
        if let Some(host) = &volume.host_path {
            let _ = write!(text, "{host}:");
        }
        text.push_str(&volume.container_path);
        if volume.host_path.is_some() {
            text.push_str(if volume.read_only { ":ro" } else { ":rw" });
        }
    }
    text
}

/// A volume of `disk`, for tests.
#[cfg(test)]
pub(super) fn persistent(mut disk: Resource, id: &str, path: &str) -> Resource {
    use api::resources::{DiskVolume, Persistence};
    let source = disk.disk.take().and_then(|disk| disk.source);
    let persistence = Some(Persistence { id: id.to_owned(), principal: None });
    let volume = Some(DiskVolume { container_path: path.to_owned(), ..DiskVolume::default() });
    disk.disk = Some(Box::new(Disk { source, persistence, volume }));
    disk
}
