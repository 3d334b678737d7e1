//! A container's files before it exists: the sandbox and `config.json`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use agent_core::launch::{Plan, User};
use agent_images::Store;
use agent_images::container_root::ContainerRootError;
use api::ContainerId;

use super::private_file;

/// What could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("cannot make the sandbox {}", path.display())]
    Sandbox { path: PathBuf, source: io::Error },
    #[error("cannot make the bundle {}", path.display())]
    Bundle { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Root(#[from] ContainerRootError),
    #[error("this node has no image store")]
    NoStore,
}

/// What the launcher mounts for the container's root, beside `config.json`.
pub(crate) const ROOT_FILE: &str = "root.json";

/// Makes the sandbox, its `stdout` and `stderr`, the bundle, and with an image what the root is put together from. Doing
/// it again changes nothing.
pub(crate) fn make(container: &ContainerId, plan: &Plan, store: Option<&Store>) -> Result<(), BundleError> {
    let sandbox = Path::new(&plan.sandbox);
    make_sandbox(sandbox, plan.user).map_err(|source| BundleError::Sandbox { path: sandbox.to_owned(), source })?;
    let bundle = Path::new(&plan.bundle);
    let config = plan.config.to_string();
    let failed = |source| BundleError::Bundle { path: bundle.to_owned(), source };
    private_file::make_directory(bundle).map_err(failed)?;
    if let Some(layers) = &plan.layers {
        let root = store.ok_or(BundleError::NoStore)?.make_root(container.as_str(), layers)?;
        let root = serde_json::to_vec(&root).map_err(|error| failed(error.into()))?;
        private_file::write(&bundle.join(ROOT_FILE), &root).map_err(failed)?;
    }
    private_file::write(&bundle.join("config.json"), config.as_bytes()).map_err(failed)
}

/// Removes the bundle; the sandbox stays for whoever wants to read it.
pub(crate) fn remove(bundle: &Path) -> io::Result<()> {
    match fs::remove_dir_all(bundle) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(crate) fn make_sandbox(path: &Path, user: User) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    let own = nix::unistd::geteuid().is_root();
    let give = |path: &Path| if own { std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)) } else { Ok(()) };
    for name in ["stdout", "stderr"] {
        let file = path.join(name);
        File::options().append(true).create(true).open(&file)?;
        give(&file)?;
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
            };
            make(&"c".into(), &plan, None).unwrap();
        }
        assert_eq!(fs::read_link(dir.path().join("runs/latest")).unwrap(), Path::new("b"));
        assert!(dir.path().join("runs/a/stdout").is_file());
        assert!(fs::read_to_string(dir.path().join("bundle/config.json")).unwrap().contains("1.0.2"));
        remove(&dir.path().join("bundle")).unwrap();
        remove(&dir.path().join("bundle")).unwrap();
    }
}
