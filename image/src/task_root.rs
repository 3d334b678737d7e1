//! The default task root: the file system of a task that names no image. One static busybox under all its names.

use anyhow::{Context, Result, ensure};
use initramfs::Manifest;

/// Where it lies in the image.
pub(crate) const PATH: &str = "usr/share/mesolith/taskroot";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n";

/// Names that get no link: the file itself has the first, and the second is a boot loader's name for init.
const LEFT_OUT: [&str; 2] = ["busybox", "linuxrc"];

/// Puts the task root into a manifest.
pub(crate) fn add(manifest: &mut Manifest<'_>, busybox: Vec<u8>) -> Result<()> {
    let applets = applets(&busybox)?;
    let mut file =
        |path: &str, permissions, bytes: Vec<u8>| manifest.file(&format!("{PATH}/{path}"), permissions, bytes);
    file("bin/busybox", 0o755, busybox)?;
    file("etc/passwd", 0o644, PASSWD.into())?;
    file("etc/group", 0o644, GROUP.into())?;
    file("etc/hosts", 0o644, HOSTS.into())?;
    // Empty places for what is bound over them.
    file("etc/resolv.conf", 0o644, Vec::new())?;
    file("etc/hostname", 0o644, Vec::new())?;
    for applet in applets.iter().filter(|name| !LEFT_OUT.contains(&name.as_str())) {
        manifest.symlink(&format!("{PATH}/bin/{applet}"), "busybox")?;
    }
    // One directory of programs under all its usual names.
    manifest.symlink(&format!("{PATH}/sbin"), "bin")?;
    manifest.symlink(&format!("{PATH}/usr/bin"), "../bin")?;
    manifest.symlink(&format!("{PATH}/usr/sbin"), "../bin")?;
    for (directory, permissions) in [
        ("dev", 0o755),
        ("mnt/mesos/sandbox", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
    ] {
        manifest.directory(&format!("{PATH}/{directory}"), permissions)?;
    }
    Ok(())
}

/// The names busybox answers to, read from its table instead of by running it: the image may be built on another
/// processor. The table is all names in order, each ended by a NUL, and begins with `[` and `[[`.
fn applets(busybox: &[u8]) -> Result<Vec<String>> {
    let start = busybox.windows(6).position(|window| window == b"\0[\0[[\0").map(|at| at + 1);
    let table = &busybox[start.context("busybox has no applet table that this program can read")?..];
    let mut names: Vec<String> = Vec::new();
    for name in table.split(|byte| *byte == 0) {
        let name = str::from_utf8(name).unwrap_or_default();
        let in_order = names.last().is_none_or(|last| last.as_str() < name);
        let is_name = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if name.is_empty() || !in_order || !is_name {
            break;
        }
        names.push(name.to_owned());
    }
    ensure!(names.iter().any(|name| name == "sh"), "busybox has no shell, so it cannot be the task root");
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use initramfs::EntryKind;

    const FAKE: &[u8] = b"code\0[\0[[\0ash\0busybox\0sh\0zcip\0\0more\0zz\0";

    #[test]
    fn the_applet_table_ends_where_its_order_ends() {
        assert_eq!(applets(FAKE).unwrap(), ["[", "[[", "ash", "busybox", "sh", "zcip"]);
        assert!(applets(b"\0[\0[[\0ls\0\0").unwrap_err().to_string().contains("no shell"));
        assert!(applets(b"other").unwrap_err().to_string().contains("no applet table"));
    }

    #[test]
    fn a_task_finds_its_shell_and_a_writable_tmp() {
        let mut manifest = Manifest::new();
        add(&mut manifest, FAKE.to_vec()).unwrap();
        let entry = |path: &str| manifest.get(&format!("{PATH}/{path}")).unwrap();
        assert_eq!(entry("bin/sh").kind, EntryKind::Symlink("busybox".into()));
        assert_eq!(entry("bin/busybox").permissions, 0o755);
        assert_eq!(entry("usr/bin").kind, EntryKind::Symlink("../bin".into()));
        assert_eq!(entry("tmp").permissions, 0o1777);
        assert_eq!(entry("mnt/mesos/sandbox").kind, EntryKind::Directory);
    }
}
