//! What a layer's entry may be called and be: the checks that need no file system.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What marks a deletion.
const WHITEOUT: &[u8] = b".wh.";
/// Deletes everything the layers below have in the same directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other marks of AUFS, which mean nothing to anybody else.
const AUFS: &[u8] = b".wh..wh.";
/// The kernel's longest name.
const NAME_MAX: usize = 255;

/// Why an entry is not unpacked; the whole layer is refused then.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It would lie outside.
    #[error("it is an absolute path")]
    Absolute,
    /// It may lie outside.
    #[error("it has `..` in its path")]
    Parent,
    /// The whole layer cannot be anything but a directory.
    #[error("it stands for the layer's root and is no directory")]
    Root,
    /// C programs would see another name.
    #[error("it has a NUL byte in its path")]
    Nul,
    /// No file can be called so.
    #[error("a part of its path has more than {NAME_MAX} bytes")]
    Long,
    /// `.wh.` alone.
    #[error("it is a whiteout of nothing")]
    Whiteout,
    /// It could reach the machine's devices.
    #[error("it is a device node; images may not bring any")]
    Device,
    /// A kind of entry we do not know.
    #[error("it is of the unknown type {0:?}")]
    Kind(char),
    /// Rare, and not needed for images.
    #[error("it is a sparse file in tar's own form")]
    Sparse,
    /// The header's size and that of the extended header differ.
    #[error("it is larger than 8 GiB")]
    Huge,
}

/// Where an entry goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The directories from the layer's root.
    pub parents: Vec<OsString>,
    /// The last part; empty for the root itself.
    pub name: OsString,
}

/// What an entry's name means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Meaning {
    /// Something to make.
    Entry(Place),
    /// Lower layers' entry of that place is deleted.
    Whiteout(Place),
    /// Lower layers' entries in that directory are deleted.
    Opaque(Vec<OsString>),
    /// Nothing.
    Nothing,
}

/// Splits a path into its parts, or says what is wrong with it.
///
/// # Errors
/// When it is absolute, contains `..`, a NUL or a part no file can have.
pub fn place(path: &[u8]) -> Result<Place, Refusal> {
    if path.starts_with(b"/") {
        return Err(Refusal::Absolute);
    }
    if path.contains(&0) {
        return Err(Refusal::Nul);
    }
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Refusal::Parent),
            part if part.len() > NAME_MAX => return Err(Refusal::Long),
            part => parts.push(OsStr::from_bytes(part).to_owned()),
        }
    }
    let name = parts.pop().unwrap_or_default();
    Ok(Place { parents: parts, name })
}

/// Tells marks of deletion from entries.
///
/// # Errors
/// As [`place`], and for marks that name nothing.
pub fn meaning(path: &[u8]) -> Result<Meaning, Refusal> {
    let Place { parents, name } = place(path)?;
    let bytes = name.as_bytes();
    if bytes == OPAQUE {
        return Ok(Meaning::Opaque(parents));
    }
    if bytes.starts_with(AUFS) {
        return Ok(Meaning::Nothing);
    }
    match bytes.strip_prefix(WHITEOUT) {
        Some(b"" | b"." | b"..") => Err(Refusal::Whiteout),
        Some(hidden) => Ok(Meaning::Whiteout(Place { parents, name: OsStr::from_bytes(hidden).to_owned() })),
        None => Ok(Meaning::Entry(Place { parents, name })),
    }
}

/// Whether an extended attribute is kept: users' own and file capabilities. Above all not `trusted.*`, with which a
/// layer could redirect overlayfs.
#[must_use]
pub fn keeps_xattr(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(parents: &[&str], name: &str) -> Place {
        Place { parents: parents.iter().map(OsString::from).collect(), name: name.into() }
    }

    #[test]
    fn paths_become_places_below_the_root() {
        for (path, expected) in [
            ("a", at(&[], "a")),
            ("./a/b/", at(&["a"], "b")),
            ("a//./b", at(&["a"], "b")),
            ("./", at(&[], "")),
            ("...", at(&[], "...")),
        ] {
            assert_eq!(place(path.as_bytes()), Ok(expected), "{path}");
        }
    }

    #[test]
    fn paths_that_could_lead_outside_are_refused() {
        let long = "x".repeat(256);
        for (path, refusal) in [
            ("/etc/passwd", Refusal::Absolute),
            ("../x", Refusal::Parent),
            ("a/../../x", Refusal::Parent),
            ("a/..", Refusal::Parent),
            ("a\0b", Refusal::Nul),
            (long.as_str(), Refusal::Long),
        ] {
            assert_eq!(place(path.as_bytes()), Err(refusal), "{path}");
        }
    }

    #[test]
    fn whiteouts_are_told_from_entries() {
        let opaque = Meaning::Opaque(vec!["a".into()]);
        for (path, expected) in [
            ("a/.wh.b", Ok(Meaning::Whiteout(at(&["a"], "b")))),
            ("a/.wh..wh..opq", Ok(opaque)),
            (".wh..wh.plnk", Ok(Meaning::Nothing)),
            (".wh.", Err(Refusal::Whiteout)),
            (".wh...", Err(Refusal::Whiteout)),
            ("a/.wh.x/b", Ok(Meaning::Entry(at(&["a", ".wh.x"], "b")))),
            ("a.wh.b", Ok(Meaning::Entry(at(&[], "a.wh.b")))),
        ] {
            assert_eq!(meaning(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn attributes_that_mean_something_to_the_kernel_stay_outside() {
        for (name, keeps) in [
            ("user.mime", true),
            ("security.capability", true),
            ("trusted.overlay.redirect", false),
            ("user.overlay.opaque", false),
            ("security.selinux", false),
            ("system.posix_acl_access", false),
        ] {
            assert_eq!(keeps_xattr(name.as_bytes()), keeps, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_leaves_the_root(path in proptest::collection::vec(proptest::sample::select(b"a./.wh\0".to_vec()), 0..24)) {
            if let Ok(Place { parents, name }) = place(&path) {
                for part in parents.iter().chain([&name]) {
                    proptest::prop_assert!(part != ".." && part != "." && !part.as_bytes().contains(&b'/'));
                }
            }
        }
    }
}
