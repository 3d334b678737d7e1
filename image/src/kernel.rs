//! The kernel in a distribution's packages: its boot file, its release, all its modules.

use crate::deb::{Package, decompress};
use anyhow::{Context, Result, bail};
use initramfs::modules::Catalogue;
use std::borrow::Cow;

/// A kernel, borrowed from the packages that hold it.
pub(crate) struct Kernel<'a> {
    /// As `uname -r` will print it.
    pub(crate) release: String,
    /// The bootable file.
    pub(crate) vmlinuz: &'a [u8],
    /// Every module it comes with.
    pub(crate) catalogue: Catalogue<'a>,
}

impl<'a> Kernel<'a> {
    /// Finds the kernel in packages. Some distributions split it: boot file and modules may come from different ones.
    pub(crate) fn find(packages: &'a [Package]) -> Result<Kernel<'a>> {
        let files = || packages.iter().flat_map(Package::files);
        let boot_files: Vec<_> =
            files().filter_map(|(path, bytes)| Some((path.strip_prefix("boot/vmlinuz-")?, bytes))).collect();
        let (release, vmlinuz) = match boot_files[..] {
            [(release, vmlinuz)] => (release, vmlinuz),
            [] => bail!("the kernel package has no boot/vmlinuz-RELEASE"),
            [_, _, ..] => bail!("the kernel packages hold more than one boot/vmlinuz-RELEASE"),
        };
        let prefixes = [format!("lib/modules/{release}/"), format!("usr/lib/modules/{release}/")];
        let module_files = || files().filter_map(|(path, bytes)| Some((inside(path, &prefixes)?, bytes)));
        let list = |name: &str| {
            let bytes = module_files().find(|(path, _)| *path == name).map(|(_, bytes)| bytes);
            let text = bytes.with_context(|| format!("the kernel package has no {name} for {release}"))?;
            str::from_utf8(text).with_context(|| format!("{name} is not text"))
        };
        let mut catalogue = Catalogue::new(list("modules.builtin")?, list("modules.order")?);
        for (path, bytes) in module_files() {
            let Some(end) = path.rfind(".ko") else {
                continue;
            };
            match &path[end..] {
                ".ko" => catalogue.add(path, Cow::Borrowed(bytes))?,
                // Stored plain: the initramfs is compressed as a whole, and the loader stays simple.
                ".ko.xz" | ".ko.zst" => catalogue.add(&path[..end + 3], Cow::Owned(decompress(path, bytes)?))?,
                _ => {}
            }
        }
        if catalogue.is_empty() {
            bail!("the kernel packages hold no modules for {release}; give the package with the modules too");
        }
        Ok(Kernel { release: release.to_owned(), vmlinuz, catalogue })
    }
}

fn inside<'p>(path: &'p str, prefixes: &[String]) -> Option<&'p str> {
    prefixes.iter().find_map(|prefix| path.strip_prefix(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::tests::deb;

    fn error(packages: &[&[(&str, &[u8])]]) -> String {
        let packages: Vec<_> = packages.iter().map(|files| Package::unpack(&deb(files)).unwrap()).collect();
        format!("{:#}", Kernel::find(&packages).err().expect("there is no complete kernel"))
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(error(&[&[("etc/x", b"")]]).contains("no boot/vmlinuz"));
        assert!(error(&[&[("boot/vmlinuz-6.1", b"k")]]).contains("no modules.builtin for 6.1"));
        assert!(error(&[&[("boot/vmlinuz-1", b"k")], &[("boot/vmlinuz-2", b"k")]]).contains("more than one"));
        let lists: &[(&str, &[u8])] = &[("lib/modules/1/modules.builtin", b""), ("lib/modules/1/modules.order", b"")];
        assert!(error(&[&[("boot/vmlinuz-1", b"k")], lists]).contains("no modules for 1"));
        let broken: &[(&str, &[u8])] = &[("usr/lib/modules/1/kernel/a.ko", b"text")];
        assert!(error(&[&[("boot/vmlinuz-1", b"k")], lists, broken]).contains("kernel/a.ko is not a kernel module"));
    }
}
