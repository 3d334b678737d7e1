//! What is in the image: the programs that are allowed, and nothing else that could be run.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fs;
use std::io::Read;

use initramfs::{EntryKind, cpio};
use tests::rack::Options;

/// Our own, under the names `init` and `modprobe` too, and what tasks without an image see as their system.
const PROGRAMS: [&str; 2] = ["usr/bin/mesolith-agent", "usr/share/mesolith/taskroot/bin/busybox"];
/// Where names of other programs may stand: nobody on the node itself sees them.
const TASK_ROOT: &str = "usr/share/mesolith/taskroot/";
const AGENT_LINKS: [&str; 2] = ["init", "usr/sbin/modprobe"];

/// What makes file systems and opens encrypted disks, compressed, with its libraries: `docs/disks.md`.
const DISK_TOOLS: &str = "usr/lib/mesolith/disk-tools/";
const TOOLS: [&str; 22] = [
    "cryptsetup",
    "ld-linux-x86-64.so.2",
    "libargon2.so.1",
    "libblkid.so.1",
    "libc.so.6",
    "libcom_err.so.2",
    "libcrypto.so.3",
    "libcryptsetup.so.12",
    "libdevmapper.so.1.02.1",
    "libe2p.so.2",
    "libext2fs.so.2",
    "libinih.so.1",
    "libjson-c.so.5",
    "libm.so.6",
    "libpcre2-8.so.0",
    "libpopt.so.0",
    "libselinux.so.1",
    "libudev.so.1",
    "liburcu.so.8",
    "libuuid.so.1",
    "mke2fs",
    "mkfs.xfs",
];

const ELF: &[u8] = b"\x7fELF";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
/// `e_type` of a file that is linked by somebody else: a driver.
const RELOCATABLE: u8 = 1;

#[test]
fn nothing_but_the_allowed_programs_can_be_run_on_a_node() {
    let path = Options::new().unwrap().image_dir.join("initramfs.img");
    let image = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; `./dev image` makes it", path.display()));
    let (mut programs, mut tools, mut drivers, mut rest) = (Vec::new(), Vec::new(), 0, image.as_slice());
    while !rest.is_empty() {
        let unpacked;
        let archive = if cpio::starts(rest) {
            let archive = cpio::read(rest).unwrap();
            rest = &rest[archive.len..];
            archive
        } else if rest.starts_with(ZSTD) {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(rest).unwrap().single_frame();
            let mut bytes = Vec::new();
            decoder.read_to_end(&mut bytes).unwrap();
            rest = decoder.finish();
            unpacked = bytes;
            cpio::read(&unpacked).unwrap()
        } else {
            assert_eq!(rest[0], 0, "the image holds something else between its archives");
            rest = &rest[1..];
            continue;
        };
        for (path, entry) in archive.manifest.entries() {
            assert_eq!((entry.uid, entry.gid), (0, 0), "{path} is root's");
            match &entry.kind {
                EntryKind::File(_) => {
                    assert_eq!(entry.permissions & 0o6022, 0, "{path}: nobody becomes another, nobody else writes");
                    let content = entry.content();
                    assert!(!content.starts_with(b"#!"), "{path} is a script");
                    let packed = content.starts_with(ZSTD).then(|| zstd::decode_all(content).unwrap());
                    if let Some(tool) = path.strip_prefix(DISK_TOOLS) {
                        assert!(packed.unwrap().starts_with(ELF), "{path} is no program");
                        tools.push(tool.to_owned());
                    } else if let Some(driver) = packed {
                        assert!(driver.starts_with(ELF) && driver[16] == RELOCATABLE, "{path} is no driver");
                        drivers += 1;
                    } else if content.starts_with(ELF) || entry.permissions & 0o111 != 0 {
                        programs.push(path.to_owned());
                    }
                }
                EntryKind::Symlink(target) => {
                    let name = path.rsplit('/').next().unwrap_or_default();
                    let to_agent = target.ends_with("mesolith-agent");
                    assert_eq!(to_agent, AGENT_LINKS.contains(&path), "{path} -> {target}");
                    let interpreters = ["sh", "ash", "bash", "python", "python3", "perl", "awk", "busybox"];
                    assert!(path.starts_with(TASK_ROOT) || !interpreters.contains(&name), "{path} -> {target}");
                }
                EntryKind::Directory | EntryKind::CharDevice { .. } => {}
            }
        }
    }
    programs.sort();
    assert_eq!(programs, PROGRAMS);
    tools.sort();
    assert_eq!(tools, TOOLS.map(|tool| format!("{tool}.zst")));
    assert!(drivers > 100, "{drivers} drivers: the image is the server's");
}
