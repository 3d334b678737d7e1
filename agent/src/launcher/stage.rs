//! Where a container with a user namespace finds what it is made of.
//!
//! From its first step it is nobody on the node, and may pass through no directory that is not everybody's. So
//! everything its specification binds is shown once more below a directory anybody may pass through, under a name
//! nobody guesses, for as long as the container is being made.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use rustix::fs::{CWD, FileType, fstat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use serde_json::{Value, json};

use super::user_namespace::UserNamespace;

/// In memory, and everybody may pass through what is above it.
const STAGES: &str = "/run/mesolith-stages";

/// Why it cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("cannot make {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot show {} to a container with a user namespace", path.display())]
    Show { path: PathBuf, source: io::Error },
    #[error("cannot use {}", path.display())]
    Specification { path: PathBuf, source: io::Error },
}

/// One container's; gone with this.
#[derive(Debug)]
pub(super) struct Stage {
    directory: PathBuf,
    shown: usize,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.directory) {
            tracing::warn!(path = %self.directory.display(), %error, "a stage stays");
        }
    }
}

impl Stage {
    /// An empty one.
    pub(super) fn make(container: &str) -> Result<Self, StageError> {
        let directory = Path::new(STAGES).join(container);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StageError::Make { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o711).create(STAGES).map_err(failed(Path::new(STAGES)))?;
        // A launcher that died has left it.
        clear(&directory).map_err(failed(&directory))?;
        DirBuilder::new().mode(0o711).create(&directory).map_err(failed(&directory))?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711)).map_err(failed(&directory))?;
        Ok(Self { directory, shown: 0 })
    }

    /// Shows a file or directory of the node; with `names` as it is called there, if the file system can.
    pub(super) fn show(
        &mut self,
        path: &Path,
        names: Option<&UserNamespace>,
        depth: Depth,
    ) -> Result<PathBuf, StageError> {
        let failed = |source: io::Error| StageError::Show { path: path.to_owned(), source };
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if depth == Depth::All {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        let tree = open_tree(CWD, path, flags).map_err(|errno| failed(errno.into()))?;
        if let Some(names) = names {
            agent_sys::idmap::apply(&tree, names).map_err(failed)?;
        }
        let place = self.directory.join(self.shown.to_string());
        self.shown += 1;
        let kind = FileType::from_raw_mode(fstat(&tree).map_err(|errno| failed(errno.into()))?.st_mode);
        let made = match kind {
            FileType::Directory => DirBuilder::new().mode(0o711).create(&place),
            FileType::RegularFile
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Fifo
            | FileType::Socket
            | FileType::Symlink
            | FileType::Unknown => fs::File::create(&place).map(drop),
        };
        made.map_err(failed)?;
        move_mount(tree.as_fd(), "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|errno| failed(errno.into()))?;
        Ok(place)
    }

    /// Shows all a specification binds, and writes one that finds it here. Gives the new bundle.
    pub(super) fn specify(&mut self, bundle: &Path, names: &UserNamespace) -> Result<PathBuf, StageError> {
        let path = bundle.join("config.json");
        let failed = |path: &Path, source: io::Error| StageError::Specification { path: path.to_owned(), source };
        let text = fs::read(&path).map_err(|source| failed(&path, source))?;
        let mut config: Value = serde_json::from_slice(&text).map_err(|error| failed(&path, error.into()))?;
        let root = config["root"]["path"].as_str().map_or_else(|| bundle.join("rootfs"), |root| bundle.join(root));
        config["root"]["path"] = json!(self.show(&root, None, Depth::All)?);
        let list = config["linux"]["namespaces"].as_array_mut().into_iter().flatten();
        let mut shares_network = true;
        for namespace in list {
            if namespace["type"] == "user" {
                let number = std::os::fd::AsRawFd::as_raw_fd(&names.as_fd());
                namespace["path"] = json!(format!("/proc/{}/fd/{number}", std::process::id()));
            }
            shares_network &= namespace["type"] != "network";
        }
        // They are written already.
        for map in ["uidMappings", "gidMappings"] {
            if let Some(linux) = config["linux"].as_object_mut() {
                linux.remove(map);
            }
        }
        for mount in config["mounts"].as_array_mut().into_iter().flatten() {
            if mount["type"] == "bind" {
                let source = bundle.join(mount["source"].as_str().unwrap_or_default());
                mount["source"] = json!(self.show(&source, None, Depth::One)?);
            } else if mount["type"] == "sysfs" && shares_network {
                // The kernel makes one only for who owns the network it shows.
                mount["source"] = json!(self.show(Path::new("/sys"), None, Depth::One)?);
                mount["type"] = json!("bind");
                if let Some(options) = mount["options"].as_array_mut() {
                    options.push(json!("bind"));
                }
            }
        }
        let path = self.directory.join("config.json");
        crate::node::private_file::write(&path, config.to_string().as_bytes())
            .map_err(|source| failed(&path, source))?;
        Ok(self.directory.clone())
    }
}

/// With what is mounted below, or without.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Depth {
    One,
    All,
}

/// What a launcher that died has left of a container's stage.
pub(super) fn forget(container: &str) -> io::Result<()> {
    clear(&Path::new(STAGES).join(container))
}

/// Removes a stage, and nothing that is shown on it.
fn clear(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Not mounted.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        // Neither of the two removes what is shown, should it still be.
        if fs::symlink_metadata(&path)?.is_dir() { fs::remove_dir(&path)? } else { fs::remove_file(&path)? }
    }
    fs::remove_dir(directory)
}
