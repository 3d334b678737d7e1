//! Whether a container's executable is there, before the container is made.
//!
//! Afterwards it is too late for a good message: a program that cannot be executed is then only an exit status.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;

/// As in the kernel.
const MAX_LINKS: usize = 40;

/// Why the container could not execute what it shall.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ExecutableError {
    #[error("the container's specification names nothing to execute")]
    Nothing,
    #[error("the container's environment has no PATH to look for `{0}`")]
    NoPath(String),
    #[error("executable `{name}` not found in the container's PATH {path}")]
    NotInPath { name: String, path: String },
    #[error("executable `{0}` not found in the container's root")]
    NotFound(String),
    #[error("`{0}` is a directory, not an executable")]
    Directory(String),
    #[error("`{0}` has no execute permission")]
    Permission(String),
}

/// Looks the executable of a specification up, as the container will see its files.
pub(super) fn check(spec: &Spec, bundle: &Path) -> Result<(), ExecutableError> {
    let process = spec.process().as_ref().ok_or(ExecutableError::Nothing)?;
    let name = process.args().as_ref().and_then(|args| args.first()).ok_or(ExecutableError::Nothing)?;
    let environment = process.env().as_deref().unwrap_or_default();
    let path = environment.iter().find_map(|variable| variable.strip_prefix("PATH="));
    // libcontainer insists, whatever the name.
    let path = path.ok_or_else(|| ExecutableError::NoPath(name.clone()))?;
    let view = View::of(spec, bundle);
    let cwd = process.cwd();
    if name.contains('/') {
        return match view.find(&cwd.join(name)) {
            Found::Executable | Found::Unknown => Ok(()),
            Found::Nothing => Err(ExecutableError::NotFound(name.clone())),
            Found::Directory => Err(ExecutableError::Directory(name.clone())),
            Found::NoPermission => Err(ExecutableError::Permission(name.clone())),
        };
    }
    let mut best = ExecutableError::NotInPath { name: name.clone(), path: path.to_owned() };
    for directory in path.split(':') {
        match view.find(&cwd.join(directory).join(name)) {
            Found::Executable | Found::Unknown => return Ok(()),
            Found::NoPermission => best = ExecutableError::Permission(format!("{directory}/{name}")),
            Found::Nothing | Found::Directory => {}
        }
    }
    Err(best)
}

#[derive(Debug, Eq, PartialEq)]
enum Found {
    Executable,
    Nothing,
    Directory,
    NoPermission,
    /// It lies in something that is mounted when the container starts.
    Unknown,
}

/// The container's file system before it exists: a root, and what will be mounted over it.
struct View {
    root: PathBuf,
    /// (place in the container, what is bound there; nothing for a new file system)
    mounts: Vec<(PathBuf, Option<PathBuf>)>,
}

impl View {
    fn of(spec: &Spec, bundle: &Path) -> View {
        let root = spec.root().as_ref().map_or_else(|| bundle.join("rootfs"), |root| bundle.join(root.path()));
        let mounts = spec.mounts().as_deref().unwrap_or_default().iter().map(|mount| {
            let options = mount.options().as_deref().unwrap_or_default();
            let binds = mount.typ().as_deref() == Some("bind")
                || options.iter().any(|option| option == "bind" || option == "rbind");
            let source = mount.source().clone().filter(|_| binds);
            (mount.destination().clone(), source.map(|source| bundle.join(source)))
        });
        View { root, mounts: mounts.collect() }
    }

    /// What an absolute path in the container leads to, symbolic links followed inside the container.
    fn find(&self, path: &Path) -> Found {
        let mut left: Vec<PathBuf> = components(path).rev().collect();
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(component) = left.pop() {
            if component == Path::new("..") {
                here.pop();
                continue;
            }
            here.push(component);
            let Some(outside) = self.outside(&here) else {
                return Found::Unknown;
            };
            let metadata = match fs::symlink_metadata(&outside) {
                Ok(metadata) => metadata,
                // A place where something will be mounted may be made by the mount.
                Err(_) if self.leads_to_mount(&here) => continue,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Found::Unknown,
                Err(_) => return Found::Nothing,
            };
            if metadata.is_symlink() {
                links += 1;
                let Ok(target) = fs::read_link(&outside) else {
                    return Found::Unknown;
                };
                if links > MAX_LINKS {
                    return Found::Nothing;
                }
                here.pop();
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                left.extend(components(&target).rev());
            } else if left.is_empty() {
                return match metadata {
                    directory if directory.is_dir() => Found::Directory,
                    file if file.permissions().mode() & 0o111 == 0 => Found::NoPermission,
                    _ => Found::Executable,
                };
            }
        }
        Found::Directory
    }

    /// Where a path of the container is outside it; `None` if that is not known yet.
    fn outside(&self, path: &Path) -> Option<PathBuf> {
        // The last of several mounts on one place is on top.
        let mount = self.mounts.iter().rev().filter(|(place, _)| path.starts_with(place));
        match mount.max_by_key(|(place, _)| place.components().count()) {
            Some((place, source)) => {
                let below = path.strip_prefix(place).ok()?;
                let source = source.as_ref()?;
                Some(if below.as_os_str().is_empty() { source.clone() } else { source.join(below) })
            }
            None => Some(self.root.join(path.strip_prefix("/").ok()?)),
        }
    }

    fn leads_to_mount(&self, path: &Path) -> bool {
        self.mounts.iter().any(|(place, _)| place != path && place.starts_with(path))
    }
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = PathBuf> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn spec(name: &str, cwd: &str) -> Spec {
        serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"cwd": cwd, "args": [name], "user": {"uid": 0, "gid": 0}, "env": ["PATH=/usr/bin:/bin"]},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/mnt/sandbox", "type": "bind", "source": "sandbox", "options": ["rbind"]},
            ],
        }))
        .unwrap()
    }

    fn bundle() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(dir.path().join("sandbox")).unwrap();
        for (path, mode) in [("rootfs/usr/bin/busybox", 0o755), ("rootfs/usr/bin/data", 0o644), ("sandbox/run", 0o755)]
        {
            fs::write(dir.path().join(path), "").unwrap();
            fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        // Absolute links mean the container's root, not ours.
        symlink("/usr/bin", root.join("bin")).unwrap();
        symlink("busybox", root.join("usr/bin/sh")).unwrap();
        symlink("loop", root.join("usr/bin/loop")).unwrap();
        symlink("../../../../../../usr/bin/sh", root.join("usr/bin/up")).unwrap();
        dir
    }

    #[test]
    fn what_the_container_could_execute_is_accepted() {
        let dir = bundle();
        for (name, cwd) in [
            ("sh", "/"),
            ("/bin/sh", "/"),
            ("/bin/up", "/"),
            ("bin/sh", "/"),
            ("./sh", "/usr/bin"),
            ("../bin/busybox", "/usr/bin"),
            ("./run", "/mnt/sandbox"),
            ("/mnt/sandbox/../sandbox/run", "/"),
            // Known only when it is mounted.
            ("/proc/self/exe", "/"),
        ] {
            assert_eq!(check(&spec(name, cwd), dir.path()), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_it_could_not_is_named() {
        let dir = bundle();
        for (name, expected) in [
            ("nope", "executable `nope` not found in the container's PATH /usr/bin:/bin"),
            ("/opt/nope", "executable `/opt/nope` not found in the container's root"),
            ("/bin", "`/bin` is a directory, not an executable"),
            ("/usr/bin/data", "`/usr/bin/data` has no execute permission"),
            ("data", "`/bin/data` has no execute permission"),
            ("loop", "executable `loop` not found in the container's PATH /usr/bin:/bin"),
            ("/mnt/sandbox/nope", "executable `/mnt/sandbox/nope` not found in the container's root"),
        ] {
            assert_eq!(check(&spec(name, "/"), dir.path()).unwrap_err().to_string(), expected, "{name}");
        }
    }
}
