//! Reads single files of an image from its layers, as overlayfs would show them, without mounting anything.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use crate::unpack::{is_whiteout, opaque_attribute};

/// As in the kernel.
const MAX_LINKS: usize = 40;

/// The content of a file of the image, at most `limit` bytes of it; `None` if there is no such file. `layers` has the
/// topmost first.
#[must_use]
pub(crate) fn read_file(layers: &[PathBuf], path: &str, limit: u64) -> Option<Vec<u8>> {
    let mut left: VecDeque<OsString> = parts(Path::new(path));
    let mut links = 0;
    // For each directory on the way the layers that show through, and the way itself.
    let mut stack: Vec<(Vec<usize>, OsString)> = Vec::new();
    let all: Vec<usize> = (0..layers.len()).collect();
    while let Some(part) = left.pop_front() {
        if part == ".." {
            stack.pop();
            continue;
        }
        let here: PathBuf = stack.iter().map(|(_, name)| name.as_os_str()).collect();
        let showing = stack.last().map_or(&all, |(showing, _)| showing);
        match look(layers, showing, &here, &part)? {
            Found::Directory(showing) => stack.push((showing, part)),
            Found::Link(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                if target.is_absolute() {
                    stack.clear();
                }
                for part in parts(&target).into_iter().rev() {
                    left.push_front(part);
                }
            }
            Found::File(file) if left.is_empty() => return read(&file, limit),
            Found::File(_) => return None,
        }
    }
    None
}

enum Found {
    /// The layers whose content of it shows.
    Directory(Vec<usize>),
    Link(PathBuf),
    File(PathBuf),
}

fn look(layers: &[PathBuf], showing: &[usize], directory: &Path, name: &OsStr) -> Option<Found> {
    let mut merged = Vec::new();
    for &layer in showing {
        let path = layers[layer].join(directory).join(name);
        let Ok(stat) = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if is_whiteout(&stat) {
            break;
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                merged.push(layer);
                if is_opaque(&path) {
                    break;
                }
            }
            // What lies below a directory and is none is hidden by it.
            _ if !merged.is_empty() => break,
            FileType::Symlink => return std::fs::read_link(&path).ok().map(Found::Link),
            FileType::RegularFile => return Some(Found::File(path)),
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return None,
        }
    }
    if merged.is_empty() { None } else { Some(Found::Directory(merged)) }
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(path, opaque_attribute(), &mut value).is_ok_and(|length| value[..length] == *b"y")
}

fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    // Every directory on the way was looked at; layers do not change.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty()).ok()?);
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content).ok()?;
    Some(content)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::XattrFlags;

    use super::*;

    #[test]
    fn files_are_found_as_the_mounted_image_would_show_them() {
        let dir = tempfile::tempdir().unwrap();
        let layers = ["top", "middle", "low"].map(|name| dir.path().join(name));
        for layer in &layers {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
            std::fs::create_dir_all(layer.join("opt/d")).unwrap();
        }
        let [top, middle, low] = &layers;
        let write = |layer: &Path, path: &str, text: &str| std::fs::write(layer.join(path), text).unwrap();
        let whiteout = |path: PathBuf| {
            rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        };
        write(low, "etc/passwd", "low");
        write(middle, "etc/passwd", "middle");
        write(low, "etc/only", "below");
        write(low, "etc/gone", "deleted");
        whiteout(top.join("etc/gone"));
        write(low, "opt/d/hidden", "deleted with its directory");
        rustix::fs::setxattr(middle.join("opt/d"), opaque_attribute(), b"y", XattrFlags::empty()).unwrap();
        write(middle, "opt/d/new", "new");
        symlink("/etc/passwd", top.join("opt/absolute")).unwrap();
        symlink("../../../etc/only", top.join("opt/relative")).unwrap();
        symlink("loop", top.join("opt/loop")).unwrap();
        symlink("/etc", top.join("elsewhere")).unwrap();
        let read = |path: &str| read_file(&layers, path, 100).map(|bytes| String::from_utf8(bytes).unwrap());
        for (path, expected) in [
            ("/etc/passwd", Some("middle")),
            ("etc/only", Some("below")),
            ("/etc/gone", None),
            ("/opt/d/hidden", None),
            ("/opt/d/new", Some("new")),
            ("/opt/absolute", Some("middle")),
            ("/opt/relative", Some("below")),
            ("/opt/loop", None),
            ("/elsewhere/only", Some("below")),
            ("/etc", None),
            ("/etc/passwd/x", None),
            ("/nowhere/x", None),
        ] {
            assert_eq!(read(path).as_deref(), expected, "{path}");
        }
        assert_eq!(read_file(&layers, "/etc/only", 3).unwrap(), b"bel");
    }
}
