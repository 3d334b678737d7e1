//! A container's files before it exists: the sandbox and `config.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use agent_core::launch::{Plan, User};
use agent_images::Store;
use agent_images::container_root::ContainerRootError;
use api::ContainerId;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::named::{self, NamedError};
use super::projects::{ProjectError, Projects};
use super::{private_file, volumes};
use crate::output_file;

/// What could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("cannot make the sandbox {}", path.display())]
    Sandbox { path: PathBuf, source: io::Error },
    #[error("cannot make the bundle {}", path.display())]
    Bundle { path: PathBuf, source: io::Error },
    #[error("cannot make the volume {path}")]
    Volume { path: String, source: io::Error },
    #[error(transparent)]
    Root(#[from] ContainerRootError),
    #[error(transparent)]
    Project(#[from] ProjectError),
    #[error(transparent)]
    Named(#[from] NamedError),
    #[error("this node has no image store")]
    NoStore,
}

/// What the launcher mounts for the container's root, beside `config.json`.
pub(crate) const ROOT_FILE: &str = "root.json";

/// Where the launcher puts `config.json` without the filter it loads itself.
pub(crate) const UNFILTERED: &str = "unfiltered";
/// What volumes the launcher shows, beside `config.json`.
pub(crate) const VOLUMES_FILE: &str = "volumes.json";
/// What images it mounts as volumes, by the places of these.
pub(crate) const IMAGES_FILE: &str = "image-volumes.json";
/// The read-only root it covers, if it has to.
pub(crate) const COVER_FILE: &str = "cover.json";

/// Makes the sandbox, its `stdout` and `stderr`, the bundle, and with an image what the root is put together from. Doing
/// it again changes nothing.
pub(crate) fn make(
    container: &ContainerId,
    plan: &Plan,
    store: Option<&Store>,
    projects: Option<&Projects>,
) -> Result<(), BundleError> {
    make_sandbox(plan, projects)?;
    let bundle = Path::new(&plan.bundle);
    let mut config = plan.config.clone();
    named::write(&plan.named, plan.user, &mut config)?;
    let config = config.to_string();
    let failed = |source| BundleError::Bundle { path: bundle.to_owned(), source };
    private_file::make_directory(bundle).map_err(failed)?;
    if let Some(layers) = &plan.layers {
        let root = store.ok_or(BundleError::NoStore)?.make_root(container.as_str(), layers)?;
        let root = serde_json::to_vec(&root).map_err(|error| failed(error.into()))?;
        private_file::write_for_now(&bundle.join(ROOT_FILE), &root).map_err(failed)?;
    }
    if !plan.image_volumes.is_empty() {
        let mut images = BTreeMap::new();
        for volume in &plan.image_volumes {
            let store = store.ok_or(BundleError::NoStore)?;
            images.insert(&volume.name, store.make_volume(container.as_str(), &volume.name, &volume.layers)?);
        }
        let images = serde_json::to_vec(&images).map_err(|error| failed(error.into()))?;
        private_file::write(&bundle.join(IMAGES_FILE), &images).map_err(failed)?;
    }
    for volume in &plan.volumes {
        volumes::prepare(volume).map_err(|source| BundleError::Volume { path: volume.path.clone(), source })?;
        if let Some(projects) = projects.filter(|_| volume.persistence.is_some()) {
            projects.bound_volume(&Path::new(&volume.base).join(&volume.path), volume.limit_bytes)?;
        }
    }
    let secrets = bundle.join("secrets");
    for (at, secret) in plan.secrets.iter().enumerate() {
        if at == 0 {
            private_file::make_directory(&secrets).map_err(failed)?;
        }
        let path = secrets.join(&secret.name);
        private_file::write_for_now(&path, &secret.content).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).map_err(failed)?;
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(plan.user.uid), Some(plan.user.gid)).map_err(failed)?;
        }
    }
    let resolver = plan.names.resolver.as_ref().map(|resolver| {
        let node = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        resolver.text(&node)
    });
    for (name, text) in [("hosts", plan.names.hosts.clone()), ("resolv.conf", resolver)] {
        let Some(text) = text else { continue };
        private_file::write_for_now(&bundle.join(name), text.as_bytes()).map_err(failed)?;
        // Whoever the task is reads them.
        fs::set_permissions(bundle.join(name), fs::Permissions::from_mode(0o644)).map_err(failed)?;
    }
    for (name, text) in [
        (VOLUMES_FILE, (!plan.volumes.is_empty()).then(|| serde_json::to_vec(&plan.volumes))),
        (COVER_FILE, plan.covered_root.as_ref().map(serde_json::to_vec)),
    ] {
        if let Some(text) = text {
            let text = text.map_err(|error| failed(error.into()))?;
            private_file::write_for_now(&bundle.join(name), &text).map_err(failed)?;
        }
    }
    private_file::write_for_now(&bundle.join("config.json"), config.as_bytes()).map_err(failed)
}

/// Removes the bundle; the sandbox stays for whoever wants to read it. A launcher that died has left mounts in it, and what
/// is in those is not the bundle's.
pub(crate) fn remove(bundle: &Path) -> io::Result<()> {
    let volumes = fs::read_dir(bundle.join("volumes")).into_iter().flatten().flatten().map(|entry| entry.path());
    for place in volumes.chain([bundle.join("rootfs")]) {
        unmount(&place)?;
    }
    match fs::remove_dir_all(bundle) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Everything that is mounted there.
fn unmount(place: &Path) -> io::Result<()> {
    loop {
        match umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Nothing more; or nobody who could have mounted anything.
            Err(Errno::EINVAL | Errno::ENOENT | Errno::EPERM) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Makes the sandbox and its first files. Doing it again changes nothing.
pub(crate) fn make_sandbox(plan: &Plan, projects: Option<&Projects>) -> Result<(), BundleError> {
    let path = Path::new(&plan.sandbox);
    let failed = |source| BundleError::Sandbox { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)?;
    if let Some(projects) = projects {
        // Before anything is in it.
        projects.bound(path, plan.disk_bytes)?;
    }
    furnish(path, plan.user).map_err(failed)
}

fn furnish(path: &Path, user: User) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    let own = nix::unistd::geteuid().is_root();
    let give = |path: &Path| if own { std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)) } else { Ok(()) };
    for name in ["stdout", "stderr"] {
        let file = output_file::open(&path.join(name))?;
        if own {
            std::os::unix::fs::fchown(&file, Some(user.uid), Some(user.gid))?;
        }
    }
    give(path)?;
    link_latest(path)
}

/// `runs/latest`, as Mesos has it: how a finished task's files are found.
fn link_latest(sandbox: &Path) -> io::Result<()> {
    let (Some(runs), Some(name)) = (sandbox.parent(), sandbox.file_name()) else { return Ok(()) };
    let temporary = runs.join(".latest");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    symlink(name, &temporary)?;
    fs::rename(&temporary, runs.join("latest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_is_made_once_and_the_latest_run_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for run in ["runs/a", "runs/b", "runs/b"] {
            let plan = Plan {
                sandbox: path(run),
                bundle: path("bundle"),
                user: User { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() },
                config: serde_json::json!({ "ociVersion": "1.0.2" }),
                layers: None,
                disk_bytes: None,
                volumes: Vec::new(),
                image_volumes: Vec::new(),
                secrets: Vec::new(),
                covered_root: None,
                names: agent_core::launch::Names::default(),
                named: agent_core::launch::Named::default(),
            };
            make(&"c".into(), &plan, None, None).unwrap();
        }
        assert_eq!(fs::read_link(dir.path().join("runs/latest")).unwrap(), Path::new("b"));
        assert!(dir.path().join("runs/a/stdout").is_file());
        assert!(fs::read_to_string(dir.path().join("bundle/config.json")).unwrap().contains("1.0.2"));
        remove(&dir.path().join("bundle")).unwrap();
        remove(&dir.path().join("bundle")).unwrap();
    }
}
