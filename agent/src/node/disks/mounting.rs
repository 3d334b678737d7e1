//! Partitions of ours become directories: opened if they are encrypted, mounted, and found again after a restart of this
//! process.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::disks::gpt::Guid;
use agent_core::disks::layout::Part;
use api::disks::FileSystem;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::tools::{ToolError, Tools};

/// Below it each partition has a directory.
pub(crate) const DISKS: &str = "/var/disks";
/// Below the file system's root: what programs see. What is beside it is ours.
pub(crate) const DATA: &str = "data";

/// For a file system on a very large, slow disk.
const MAKE: Duration = Duration::from_secs(600);
/// For cryptsetup.
const OPEN: Duration = Duration::from_secs(60);

/// Why a partition cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountingError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("cannot mount {} on {}", device.display(), at.display())]
    Mount { device: PathBuf, at: PathBuf, source: io::Error },
    #[error("{} did not appear", .0.display())]
    Missing(PathBuf),
    #[error("cannot make {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
}

/// Where a partition is mounted.
pub(crate) fn mount_point(guid: Guid) -> PathBuf {
    Path::new(DISKS).join(guid.to_string())
}

/// What programs see of it.
pub(crate) fn data(guid: Guid) -> PathBuf {
    mount_point(guid).join(DATA)
}

/// Is something mounted there?
pub(crate) fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|about| about.dev()).ok();
    let parent = path.parent().and_then(device);
    device(path).is_some_and(|own| parent.is_some_and(|parent| parent != own))
}

fn mapping(guid: Guid) -> String {
    format!("mesolith-{guid}")
}

/// The device of an opened partition.
fn opened(guid: Guid) -> Option<PathBuf> {
    let wanted = mapping(guid);
    let entries = fs::read_dir("/sys/block").ok()?;
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let name = names.find(|name| {
        fs::read_to_string(format!("/sys/block/{name}/dm/name")).is_ok_and(|found| found.trim() == wanted)
    })?;
    Some(Path::new("/dev").join(name))
}

/// Loads the drivers the programs and the kernel need: some are asked for by names nobody looks up.
pub(crate) fn load_drivers(part: &Part) {
    let mut names = vec![part.filesystem.name()];
    if part.encrypted {
        names.extend(["dm-mod", "dm-crypt", "algif_skcipher"]);
    }
    for name in names {
        // A driver that is missing shows in what is tried next.
        let _ = std::process::Command::new("/usr/sbin/modprobe").arg(name).env_clear().status();
    }
}

/// Makes what belongs on a partition. `device` is the partition's.
pub(crate) fn make(
    part: &Part,
    device: &Path,
    tools: &Tools,
    key: Option<&[u8]>,
    flash: Flash,
) -> Result<(), MountingError> {
    load_drivers(part);
    let (guid, device) = (part.guid.to_string(), device.display().to_string());
    let target = match key.filter(|_| part.encrypted) {
        Some(key) => {
            // The key is by chance and long: making it expensive to guess would only take time at every boot.
            let format = [
                "luksFormat",
                "--type",
                "luks2",
                "--batch-mode",
                "--key-file",
                "-",
                "--pbkdf",
                "pbkdf2",
                "--pbkdf-force-iterations",
                "1000",
                "--uuid",
                &guid,
                "--label",
                "mesolith",
                &device,
            ];
            tools.run("cryptsetup", &format, key, OPEN)?;
            open(part, Path::new(&device), tools, key, flash)?.display().to_string()
        }
        None => device,
    };
    let label = format!("mesolith-{}", part.purpose);
    let label = &label[..label.len().min(12)];
    match part.filesystem {
        FileSystem::Ext4 => {
            // Nothing is kept for root; what can be done later is done by the kernel later.
            let options = "lazy_itable_init=1,lazy_journal_init=1";
            let arguments = ["-t", "ext4", "-q", "-F", "-m", "0", "-U", &guid, "-L", label, "-E", options, &target];
            tools.run("mke2fs", &arguments, &[], MAKE)?;
        }
        FileSystem::Xfs => {
            let uuid = format!("uuid={guid}");
            tools.run("mkfs.xfs", &["-q", "-f", "-L", label, "-m", &uuid, &target], &[], MAKE)?;
        }
    }
    Ok(())
}

/// Can the disk be told what is not used?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flash {
    /// Yes, and it wants to know.
    Yes,
    /// It turns.
    No,
}

fn open(part: &Part, device: &Path, tools: &Tools, key: &[u8], flash: Flash) -> Result<PathBuf, MountingError> {
    if let Some(path) = opened(part.guid) {
        return Ok(path);
    }
    let (name, device) = (mapping(part.guid), device.display().to_string());
    let mut arguments = vec!["open", "--type", "luks2", "--key-file", "-"];
    if flash == Flash::Yes {
        arguments.push("--allow-discards");
    }
    arguments.extend([device.as_str(), name.as_str()]);
    tools.run("cryptsetup", &arguments, key, OPEN)?;
    opened(part.guid).ok_or_else(|| MountingError::Missing(Path::new("/dev/mapper").join(name)))
}

/// Mounts a partition, opening it first with the key it needs.
pub(crate) fn use_part(
    part: &Part,
    device: &Path,
    tools: Option<&Tools>,
    key: Option<&[u8]>,
    flash: Flash,
) -> Result<(), MountingError> {
    let at = mount_point(part.guid);
    if is_mounted(&at) {
        return Ok(());
    }
    load_drivers(part);
    let device = match (part.encrypted, tools, key) {
        (false, _, _) => device.to_owned(),
        (true, Some(tools), Some(key)) => open(part, device, tools, key, flash)?,
        (true, _, _) => opened(part.guid).ok_or_else(|| MountingError::Missing(mapping(part.guid).into()))?,
    };
    let directory = |path: &Path| {
        let path = path.to_owned();
        move |source| MountingError::Directory { path, source }
    };
    fs::create_dir_all(&at).map_err(directory(&at))?;
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = match part.filesystem {
        FileSystem::Ext4 => Some("errors=remount-ro"),
        FileSystem::Xfs => None,
    };
    mount(Some(&device), &at, Some(part.filesystem.name()), flags, options).map_err(|errno| MountingError::Mount {
        device,
        at: at.clone(),
        source: errno.into(),
    })?;
    let data = data(part.guid);
    fs::create_dir_all(&data).map_err(directory(&data))
}

/// Gives a partition back. `Lazily`: whoever still uses it does so until it is done.
pub(crate) fn release(guid: Guid, how: Release) -> io::Result<()> {
    let at = mount_point(guid);
    if is_mounted(&at) {
        let flags = match how {
            Release::Now => MntFlags::empty(),
            Release::Lazily => MntFlags::MNT_DETACH,
        };
        umount2(&at, flags)?;
    }
    // Without what was mounted it is an empty directory.
    let _ = fs::remove_dir(&at);
    Ok(())
}

/// How a partition is given back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Release {
    /// If nobody uses it.
    Now,
    /// In any case.
    Lazily,
}

/// Closes an encrypted one.
pub(crate) fn close(guid: Guid, tools: &Tools) -> Result<(), ToolError> {
    if opened(guid).is_none() {
        return Ok(());
    }
    tools.run("cryptsetup", &["close", &mapping(guid)], &[], OPEN)
}

/// Puts the pool in the place of the work directory: from here on everything that is written there is on the disk.
pub(crate) fn adopt_pool(guid: Guid, work_dir: &Path) -> Result<(), MountingError> {
    let images = work_dir.join("images");
    let data = data(guid);
    if is_mounted(&images) {
        // The tmpfs of a machine without disks; whoever has something open there keeps it.
        let _ = umount2(&images, MntFlags::MNT_DETACH);
    }
    // At the next boot it is this one again, whatever else is picked meanwhile.
    let mark = mount_point(guid).join(super::board::POOL);
    fs::write(&mark, []).map_err(|source| MountingError::Directory { path: mark, source })?;
    let none: Option<&str> = None;
    mount(Some(&data), work_dir, none, MsFlags::MS_BIND, none).map_err(|errno| MountingError::Mount {
        device: data.clone(),
        at: work_dir.to_owned(),
        source: errno.into(),
    })?;
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(0o711).create(&images) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(MountingError::Directory { path: images, source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Which partition the work directory is on, if it is on one of ours.
pub(crate) fn is_pool(guid: Guid, work_dir: &Path) -> bool {
    let about = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
    is_mounted(&mount_point(guid)) && about(&data(guid)).is_some_and(|data| about(work_dir) == Some(data))
}
