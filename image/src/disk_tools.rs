//! The few programs a node runs that are not ours: those that make file systems and open encrypted disks.
//!
//! They lie compressed in one directory that nothing searches. The agent unpacks them when a rule wants a disk, and starts
//! them by the loader that lies beside them: what is in the image is otherwise without a dynamic program.

use crate::deb::Package;
use crate::digest::sha256;
use crate::packed::frame;
use crate::report::Program;
use anyhow::{Context, Result, bail};

/// Where they are in the image.
pub(crate) const PATH: &str = "usr/lib/mesolith/disk-tools/";

/// A file of a package, and what it is there for.
struct Tool {
    package: &'static str,
    /// The end of its path, after which only a version may follow.
    name: &'static str,
    reason: &'static str,
}

const fn tool(package: &'static str, name: &'static str, reason: &'static str) -> Tool {
    Tool { package, name, reason }
}

/// In this order they are pinned.
const TOOLS: &[Tool] = &[
    tool("e2fsprogs", "mke2fs", "makes ext4 on a disk a rule picks"),
    tool("xfsprogs", "mkfs.xfs", "makes XFS on a disk a rule picks"),
    tool("cryptsetup-bin", "cryptsetup", "makes and opens LUKS2 on a disk a rule wants encrypted"),
    tool("libc6", "ld-linux-x86-64.so.2", "loads the three"),
    tool("libc6", "libc.so.6", "the three"),
    tool("libc6", "libm.so.6", "cryptsetup, by its libraries"),
    tool("libext2fs2", "libext2fs.so.2", "mke2fs"),
    tool("libext2fs2", "libe2p.so.2", "mke2fs"),
    tool("libcom-err2", "libcom_err.so.2", "mke2fs"),
    tool("libblkid1", "libblkid.so.1", "the three look for what is there already"),
    tool("libuuid1", "libuuid.so.1", "the three"),
    tool("libinih1", "libinih.so.1", "mkfs.xfs"),
    tool("liburcu8", "liburcu.so.8", "mkfs.xfs"),
    tool("libcryptsetup12", "libcryptsetup.so.12", "cryptsetup"),
    tool("libpopt0", "libpopt.so.0", "cryptsetup"),
    tool("libdevmapper1.02.1", "libdevmapper.so.1.02.1", "cryptsetup"),
    tool("libssl3", "libcrypto.so.3", "cryptsetup derives keys with it"),
    tool("libargon2-1", "libargon2.so.1", "cryptsetup is linked to it"),
    tool("libjson-c5", "libjson-c.so.5", "cryptsetup: LUKS2 writes JSON"),
    tool("libudev1", "libudev.so.1", "libdevmapper is linked to it"),
    tool("libselinux1", "libselinux.so.1", "libdevmapper is linked to it"),
    tool("libpcre2-8-0", "libpcre2-8.so.0", "libselinux is linked to it"),
];

/// Their packages, each once.
pub(crate) fn packages() -> Vec<&'static str> {
    let mut packages: Vec<&'static str> = TOOLS.iter().map(|tool| tool.package).collect();
    packages.dedup();
    packages
}

/// Files of the image, by path, and what the manifest says of them.
type Packed = (Vec<(String, Vec<u8>)>, Vec<Program>);

/// Takes the tools out of their packages.
pub(crate) fn pack(packages: &[Package], level: i32) -> Result<Packed> {
    let (mut files, mut programs) = (Vec::new(), Vec::new());
    for Tool { package, name, reason } in TOOLS {
        let found = packages.iter().find_map(|package| find(package, name));
        let Some(bytes) = found else { bail!("no package has {name}, which {package} should") };
        programs.push(Program {
            name: (*name).to_owned(),
            size: bytes.len() as u64,
            sha256: sha256(bytes),
            reason: (*reason).to_owned(),
        });
        files.push((format!("{PATH}{name}.zst"), frame(bytes, level).with_context(|| format!("in {name}"))?));
    }
    Ok((files, programs))
}

/// A library is a link to a file with a longer version: `libblkid.so.1` to `libblkid.so.1.1.0`; links are not in a package's
/// list of files. Of libinih it is `libinih.so.55`.
fn find<'a>(package: &'a Package, name: &str) -> Option<&'a [u8]> {
    let base = |path: &'a str| path.rsplit('/').next().unwrap_or(path);
    let stem = name.split(".so.").next().filter(|_| name.contains(".so."));
    let elf = |(_, bytes): &(&str, &[u8])| bytes.starts_with(b"\x7fELF");
    let all = || package.files().filter(elf);
    let exact = all().find(|(path, _)| base(path) == name);
    let longer = || all().find(|(path, _)| base(path).strip_prefix(name).is_some_and(|rest| rest.starts_with('.')));
    let other = || {
        let stem = stem?;
        all().find(|(path, _)| base(path).strip_prefix(stem).is_some_and(|rest| rest.starts_with(".so.")))
    };
    exact.or_else(longer).or_else(other).map(|(_, bytes)| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::tests::deb;

    #[test]
    fn a_library_is_found_under_its_longer_name() {
        let package = Package::unpack(&deb(&[
            ("lib/x/libblkid.so.1.1.0", b"\x7fELF1"),
            ("lib/x/libinih.so.55", b"\x7fELF2"),
            ("usr/share/doc/libuuid.so.1", b"text"),
            ("sbin/mke2fs", b"\x7fELF3"),
        ]))
        .unwrap();
        assert_eq!(find(&package, "libblkid.so.1"), Some(&b"\x7fELF1"[..]));
        assert_eq!(find(&package, "libinih.so.1"), Some(&b"\x7fELF2"[..]));
        assert_eq!(find(&package, "mke2fs"), Some(&b"\x7fELF3"[..]));
        assert_eq!(find(&package, "libuuid.so.1"), None);
        let error = pack(&[package], 3).err().unwrap().to_string();
        assert!(error.contains("mkfs.xfs, which xfsprogs should"), "{error}");
    }

    #[test]
    fn every_package_is_named_once() {
        let mut names = packages();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
