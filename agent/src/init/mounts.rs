//! The file systems of a machine that has nothing but its initramfs.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

/// Why the machine has not the file systems it needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("cannot make directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot mount {kind} on {target}")]
    Mount { kind: &'static str, target: &'static str, source: io::Error },
    #[error("cannot give the root file system a parent: {step}")]
    Root { step: &'static str, source: io::Error },
}

struct FileSystem {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    options: &'static str,
    required: bool,
}

const NONE: MsFlags = MsFlags::empty();
const NO_SUID: MsFlags = MsFlags::MS_NOSUID;
const NO_DEV: MsFlags = NO_SUID.union(MsFlags::MS_NODEV);
const NO_EXEC: MsFlags = NO_DEV.union(MsFlags::MS_NOEXEC);

/// In this order. /run may execute: a new agent is started from there. /var holds the sandboxes, so it has its own
/// size: a task that fills its sandbox must not take the memory of the root or of /run.
const FILE_SYSTEMS: &[FileSystem] = &[
    FileSystem { kind: "proc", target: "/proc", flags: NO_EXEC, options: "", required: true },
    FileSystem { kind: "sysfs", target: "/sys", flags: NO_EXEC, options: "", required: true },
    FileSystem { kind: "devtmpfs", target: "/dev", flags: NO_SUID, options: "mode=755", required: true },
    FileSystem {
        kind: "devpts",
        target: "/dev/pts",
        flags: NO_SUID.union(MsFlags::MS_NOEXEC),
        options: "mode=620,gid=5,ptmxmode=666",
        required: false,
    },
    FileSystem { kind: "tmpfs", target: "/dev/shm", flags: NO_DEV, options: "mode=1777", required: false },
    FileSystem { kind: "tmpfs", target: "/run", flags: NO_DEV, options: "mode=755,size=20%", required: true },
    FileSystem { kind: "tmpfs", target: "/tmp", flags: NO_DEV, options: "mode=1777,size=20%", required: true },
    FileSystem { kind: "tmpfs", target: "/var", flags: NO_DEV, options: "mode=755,size=50%", required: true },
    // Images, and what containers with one write into their roots.
    FileSystem {
        kind: "tmpfs",
        target: "/var/lib/mesolith/images",
        flags: NO_DEV,
        options: "mode=711,size=50%",
        required: true,
    },
    FileSystem {
        kind: "cgroup2",
        target: "/sys/fs/cgroup",
        flags: NO_EXEC,
        // The last one: a process enters its cgroup without waiting for the kernel's readers, which is most of a launch.
        options: "nsdelegate,memory_recursiveprot,favordynmods",
        required: true,
    },
    FileSystem { kind: "bpf", target: "/sys/fs/bpf", flags: NO_EXEC, options: "mode=700", required: false },
    FileSystem { kind: "securityfs", target: "/sys/kernel/security", flags: NO_EXEC, options: "", required: false },
    FileSystem { kind: "pstore", target: "/sys/fs/pstore", flags: NO_EXEC, options: "", required: false },
];

/// What is made once everything is mounted.
const DIRECTORIES: &[(&str, u32)] = &[
    ("/run/mesolith", 0o700),
    ("/run/mesolith/log", 0o700),
    ("/run/lock", 0o1777),
    ("/var/lib", 0o755),
    ("/var/lib/mesolith", 0o755),
    ("/var/log", 0o755),
    ("/var/tmp", 0o1777),
    ("/etc", 0o755),
];

/// Puts the root file system below a mount of itself.
///
/// The kernel's own root has no parent, so `pivot_root` in a container's mount namespace fails with EINVAL. Binding
/// the root on itself and moving that over `/` costs nothing, copies nothing, and gives it one. The chroot matters:
/// without the move before it, processes that join a container would stay outside.
pub(crate) fn give_root_a_parent() -> Result<(), MountError> {
    const HERE: &str = "/.root";
    let failed = |step| move |errno: nix::errno::Errno| MountError::Root { step, source: errno.into() };
    make_directory(Path::new(HERE), 0o700)?;
    let none: Option<&str> = None;
    mount(Some("/"), HERE, none, MsFlags::MS_BIND, none).map_err(failed("bind"))?;
    nix::unistd::chdir(HERE).map_err(failed("enter"))?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).map_err(failed("move"))?;
    nix::unistd::chroot(".").map_err(failed("chroot"))?;
    nix::unistd::chdir("/").map_err(failed("enter /"))
}

/// Mounts everything. Returns what is missing although it would be good to have.
pub(crate) fn mount_all() -> Result<Vec<MountError>, MountError> {
    let mut missing = Vec::new();
    for system in FILE_SYSTEMS {
        match system.mount() {
            Ok(()) => {}
            Err(error) if system.required => return Err(error),
            Err(error) => missing.push(error),
        }
    }
    for (path, mode) in DIRECTORIES {
        make_directory(Path::new(path), *mode)?;
    }
    link_devices();
    Ok(missing)
}

impl FileSystem {
    fn mount(&self) -> Result<(), MountError> {
        // In sysfs the kernel makes the directories; what is not there is not supported.
        let ours = !self.target.starts_with("/sys/");
        if ours {
            make_directory(Path::new(self.target), 0o755)?;
        }
        let options = Some(self.options).filter(|options| !options.is_empty());
        mount(Some(self.kind), self.target, Some(self.kind), self.flags | NONE, options)
            .map_err(|errno| MountError::Mount { kind: self.kind, target: self.target, source: errno.into() })
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), MountError> {
    let failed = |source| MountError::Directory { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// The links programs expect in /dev. Existing ones are right already.
fn link_devices() {
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let _ = std::os::unix::fs::symlink(target, Path::new("/dev").join(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_before_what_it_stands_on() {
        for (place, system) in FILE_SYSTEMS.iter().enumerate() {
            for later in &FILE_SYSTEMS[place + 1..] {
                assert!(
                    !system.target.starts_with(&format!("{}/", later.target)),
                    "{} hides {}",
                    later.target,
                    system.target
                );
            }
        }
    }
}
