//! Volumes that are mounted into a container that runs, and taken away again.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use agent_core::launch::Later;
use agent_core::record::Process;
use agent_sys::idmap::{self, Writes};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, mkdirat, openat2};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::cgroup::start_ticks;
use super::disks;
use super::projects::Projects;
use super::volumes;
use crate::launcher::volumes::find;
use crate::renaming::{Renaming, rename_all};

/// Mounts volumes into the container of this process and takes others away, in this order: one may come to where another
/// was. Gives what went wrong, by place.
pub(crate) fn change(
    process: Process,
    ids: Option<u32>,
    added: Vec<Later>,
    removed: Vec<String>,
    projects: Option<&Projects>,
) -> Vec<(String, io::Error)> {
    let mut wrong = Vec::new();
    let mut trees = Vec::new();
    for later in added {
        match prepare(process, ids, &later, projects) {
            Ok(tree) => trees.push((tree, later)),
            Err(error) => wrong.push((later.place, error)),
        }
    }
    // A mount namespace is entered by a thread that shares nothing of its own view with others, and never left.
    let thread = std::thread::Builder::new().name("volumes".to_owned()).stack_size(256 * 1024);
    let inside = thread.spawn(move || {
        if let Err(error) = enter(process) {
            return vec![("/".to_owned(), error)];
        }
        let mut wrong = Vec::new();
        for place in removed {
            if let Err(error) = detach(&place) {
                wrong.push((place, error));
            }
        }
        for (tree, later) in trees {
            if let Err(error) = attach(&tree, &later, ids) {
                wrong.push((later.place, error));
            }
        }
        wrong
    });
    match inside.map(std::thread::JoinHandle::join) {
        Ok(Ok(more)) => wrong.extend(more),
        Ok(Err(_)) => wrong.push(("/".to_owned(), io::Error::other("the thread ended"))),
        Err(error) => wrong.push(("/".to_owned(), error)),
    }
    wrong
}

/// The volume, found on the node, as a mount without a place.
fn prepare(process: Process, ids: Option<u32>, later: &Later, projects: Option<&Projects>) -> io::Result<OwnedFd> {
    let volume = &later.volume;
    if !disks::is_there(&volume.base) {
        return Err(io::Error::other("its disk is not there"));
    }
    volumes::prepare(volume)?;
    if let Some(projects) = projects {
        let path = std::path::Path::new(&volume.base).join(&volume.path);
        projects.bound_volume(&path, volume.limit_bytes).map_err(io::Error::other)?;
    }
    let source = find(volume).map_err(io::Error::other)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(source.as_fd(), "", flags)?;
    if let Some(first) = ids {
        let names = File::open(format!("/proc/{}/ns/user", process.pid))?;
        match idmap::apply(&tree, &names) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && volume.shared => {
                return Err(io::Error::other("others share it, and its file system has one set of names"));
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                rename_all(tree.as_fd(), Renaming::Into(first))?;
            }
            applied => applied?,
        }
    }
    idmap::restrict(&tree, if later.read_only { Writes::Refused } else { Writes::Allowed })?;
    Ok(tree)
}

fn enter(process: Process) -> io::Result<()> {
    let target = agent_sys::pidfd::open(process.pid)?;
    // After it was opened: now the number cannot be another's any more.
    if start_ticks(process.pid) != Some(process.start_ticks) {
        return Err(io::Error::other("the container has ended"));
    }
    unshare(CloneFlags::CLONE_FS)?;
    Ok(setns(&target, CloneFlags::CLONE_NEWNS)?)
}

/// Through no link of the container's, which may have put one where a directory was; what it has moved elsewhere is not
/// found, which is an error: it would keep it.
fn detach(place: &str) -> io::Result<()> {
    let (parent, name) = place.rsplit_once('/').filter(|(_, name)| !name.is_empty()).ok_or(Errno::INVAL)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let mut here = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
    for name in parent.split('/').filter(|name| !name.is_empty()) {
        here = openat2(&here, name, flags, Mode::empty(), resolve)?;
    }
    // This thread's own: it shares none with others.
    rustix::process::fchdir(&here)?;
    Ok(umount2(name, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
}

/// Through no link of the container's.
fn attach(tree: &OwnedFd, later: &Later, ids: Option<u32>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let mut here = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
    for name in later.place.split('/').filter(|name| !name.is_empty()) {
        match mkdirat(&here, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let owner = ids.unwrap_or(0);
                let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
                chownat(&here, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Err(Errno::EXIST | Errno::ROFS) => {}
            Err(errno) => return Err(errno.into()),
        }
        here = openat2(&here, name, flags, Mode::empty(), resolve)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree.as_fd(), "", here.as_fd(), "", flags)?)
}
