//! Persistent volumes: disks that outlive their tasks.

use api::Resource;

/// Is it a persistent volume?
pub(crate) fn is_persistent(resource: &Resource) -> bool {
    persistence_id(resource).is_some()
}

/// Its id, unique within its role on its agent.
pub(crate) fn persistence_id(resource: &Resource) -> Option<&str> {
    resource.disk.as_ref()?.pointer("/persistence/id")?.as_str()
}

/// Who made it, if it says so.
pub(crate) fn principal(resource: &Resource) -> Option<&str> {
    resource.disk.as_ref()?.pointer("/persistence/principal")?.as_str()
}

/// Where in the container it is.
pub(crate) fn has_mount_point(resource: &Resource) -> bool {
    resource.disk.as_ref().is_some_and(|disk| disk.get("volume").is_some())
}

/// A path of the machine.
pub(crate) fn has_host_path(resource: &Resource) -> bool {
    resource.disk.as_ref().is_some_and(|disk| disk.pointer("/volume/host_path").is_some())
}

pub(crate) fn is_read_only(resource: &Resource) -> bool {
    resource.disk.as_ref().is_some_and(|disk| disk.pointer("/volume/mode").is_some_and(|mode| mode == "RO"))
}

/// Is it of a disk other than the agent's root?
pub(crate) fn has_source(resource: &Resource) -> bool {
    resource.disk.as_ref().is_some_and(|disk| disk.get("source").is_some())
}

/// Is it a whole mounted disk?
pub(crate) fn is_mount(resource: &Resource) -> bool {
    resource.disk.as_ref().is_some_and(|disk| disk.pointer("/source/type").is_some_and(|kind| kind == "MOUNT"))
}

/// The disk it is made of.
pub(crate) fn stripped(resource: &Resource) -> Resource {
    let mut stripped = resource.clone();
    stripped.shared = false;
    let source = stripped.disk.take().and_then(|disk| disk.get("source").cloned());
    stripped.disk = source.map(|source| serde_json::json!({ "source": source }));
    stripped
}

/// As messages spell it: `[MOUNT:/mnt,id:path]`.
pub(super) fn spell(resource: &Resource) -> Option<String> {
    let disk = resource.disk.as_ref()?;
    let at = |path| disk.pointer(path).and_then(serde_json::Value::as_str);
    let mut text = String::new();
    if let Some(kind) = at("/source/type") {
        text.push_str(kind);
        if at("/source/id").is_some() || at("/source/profile").is_some() {
            let part = |path| at(path).unwrap_or_default();
            text.push_str(&format!("({},{},{})", part("/source/vendor"), part("/source/id"), part("/source/profile")));
        } else if let Some(root) = at("/source/mount/root").or_else(|| at("/source/path/root")) {
            text.push_str(&format!(":{root}"));
        }
    }
    if let Some(id) = at("/persistence/id") {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(id);
    }
    if let Some(path) = at("/volume/container_path") {
        text.push(':');
        if let Some(host) = at("/volume/host_path") {
            text.push_str(&format!("{host}:"));
        }
        text.push_str(path);
    }
    Some(text)
}

/// A volume of `disk`, for tests.
#[cfg(test)]
pub(super) fn persistent(mut disk: Resource, id: &str, path: &str) -> Resource {
    let source = disk.disk.take().and_then(|disk| disk.get("source").cloned());
    let mut info = serde_json::json!({"persistence": {"id": id}, "volume": {"mode": "RW", "container_path": path}});
    if let Some(source) = source {
        info["source"] = source;
    }
    disk.disk = Some(info);
    disk
}
