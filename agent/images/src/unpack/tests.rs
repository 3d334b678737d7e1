//! Layers as they are and as attackers make them.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::*;

const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 100 };

/// A tar archive in the making.
#[derive(Default)]
struct Layer(Vec<u8>);

impl Layer {
    fn entry(mut self, kind: EntryType, path: &[u8], link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        // Not through `set_path`, which refuses what is to be tested.
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_size(data.len() as u64);
        header.set_mode(if kind == EntryType::Directory { 0o750 } else { 0o640 });
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.entry(EntryType::Regular, path.as_bytes(), "", data.as_bytes())
    }

    fn directory(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path.as_bytes(), "", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path.as_bytes(), target, b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path.as_bytes(), target, b"")
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    fn unpack(self, into: &Path) -> Result<Unpacked, UnpackError> {
        unpack(self.bytes().as_slice(), into, LIMITS, &AtomicBool::new(false))
    }
}

fn text(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::getxattr(path, opaque_attribute(), &mut value).is_ok_and(|length| value[..length] == *b"y")
}

fn hidden(path: &Path) -> bool {
    is_whiteout(&rustix::fs::lstat(path).unwrap())
}

#[test]
fn a_layer_is_unpacked_with_links_modes_and_times() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    Layer::default()
        .directory("./")
        .directory("bin/")
        .file("bin/tool", "#!tool")
        .link("bin/same", "bin/tool")
        .symlink("bin/away", "/etc/passwd")
        .symlink("lib", "usr/lib")
        .file("usr/lib/deep/x", "made without its parents")
        .file("lib/y", "through a link that stays inside")
        .entry(EntryType::Fifo, b"pipe", "", b"")
        .unpack(dir.path())
        .unwrap();
    assert_eq!(text(at("bin/same")), "#!tool");
    assert_eq!(at("bin/same").metadata().unwrap().ino(), at("bin/tool").metadata().unwrap().ino());
    assert_eq!(std::fs::read_link(at("bin/away")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(at("bin").metadata().unwrap().permissions().mode() & 0o7777, 0o750);
    assert_eq!(at("bin/tool").metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    for path in ["bin", "bin/tool", "."] {
        assert_eq!(at(path).metadata().unwrap().mtime(), 1_000_000_000, "{path}");
    }
    assert_eq!(at("bin/away").symlink_metadata().unwrap().mtime(), 1_000_000_000);
    assert_eq!(text(at("usr/lib/deep/x")), "made without its parents");
    assert_eq!(text(at("usr/lib/y")), "through a link that stays inside");
    assert!(at("pipe").metadata().unwrap().file_type().is_fifo());
}

#[test]
fn gzip_zstd_and_plain_layers_have_the_same_digest() {
    let plain = Layer::default().file("a", "content").bytes();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&plain).unwrap();
    // Some tools write several members.
    let (head, tail) = plain.split_at(700);
    let mut members = Vec::new();
    for part in [head, tail] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(part).unwrap();
        members.extend(encoder.finish().unwrap());
    }
    let packed = [plain.clone(), gzip.finish().unwrap(), members, zstd::encode_all(plain.as_slice(), 1).unwrap()];
    for bytes in packed {
        let dir = tempfile::tempdir().unwrap();
        let unpacked = unpack(bytes.as_slice(), dir.path(), LIMITS, &AtomicBool::new(false)).unwrap();
        use sha2::Digest as _;
        assert_eq!(unpacked.diff_id, Digest::of_sha256(&sha2::Sha256::digest(&plain)));
        assert_eq!((unpacked.bytes, unpacked.entries), (plain.len() as u64, 1));
        assert_eq!(text(dir.path().join("a")), "content");
    }
}

#[test]
fn deletions_become_what_overlayfs_understands() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    Layer::default()
        .file("a/.wh.gone", "")
        .file("b/.wh..wh..opq", "")
        .file(".wh.replaced", "")
        .file("replaced", "by a file")
        .file(".wh.tree", "")
        .file("tree/x", "new")
        .directory("late")
        .file(".wh.late", "")
        .file("kept", "kept")
        .file(".wh.kept", "")
        .file(".wh..wh.plnk/1.2", "")
        .unpack(dir.path())
        .unwrap();
    assert!(hidden(&at("a/gone")));
    assert!(opaque(&at("b")));
    assert_eq!(text(at("replaced")), "by a file");
    assert_eq!(text(at("tree/x")), "new");
    assert!(opaque(&at("tree")), "what lies below the new directory stays deleted");
    assert!(opaque(&at("late")));
    assert_eq!(text(at("kept")), "kept");
}

#[test]
fn what_leads_outside_is_refused_and_touches_nothing() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("victim"), "safe").unwrap();
    let away = outside.path().to_str().unwrap();
    for (name, layer) in [
        ("absolute", Layer::default().entry(EntryType::Regular, b"/tmp/x", "", b"x")),
        ("parent", Layer::default().file("a/../../x", "x")),
        ("absolute link", Layer::default().symlink("l", away).file("l/victim", "x")),
        ("relative link", Layer::default().symlink("l", "../..").file("l/x", "x")),
        (
            "chain of links",
            Layer::default().directory("d").symlink("d/up", "..").symlink("l", "d/up/..").file("l/x", "x"),
        ),
        ("hard link outside", Layer::default().link("h", "../victim")),
        ("absolute hard link", Layer::default().link("h", &format!("{away}/victim"))),
        ("hard link through a link", Layer::default().symlink("l", away).link("h", "l/victim")),
        ("directory through a link", Layer::default().symlink("l", away).directory("l/made")),
        ("whiteout through a link", Layer::default().symlink("l", away).file("l/.wh.victim", "")),
        ("opaque through a link", Layer::default().symlink("l", away).file("l/.wh..wh..opq", "")),
        ("link to nothing", Layer::default().symlink("l", "nowhere").file("l/x", "x")),
        ("device", Layer::default().entry(EntryType::Block, b"sda", "", b"")),
        ("whiteout in overlayfs's own form", Layer::default().entry(EntryType::Char, b"null", "", b"")),
        ("root that is a file", Layer::default().file("./", "x")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("in/here");
        std::fs::create_dir_all(&root).unwrap();
        let error = layer.unpack(&root);
        if name == "root that is a file" {
            // An old way of writing directories.
            continue;
        }
        assert!(error.is_err(), "{name}: {error:?}");
        assert_eq!(text(outside.path().join("victim")), "safe", "{name}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{name}");
        assert_eq!(std::fs::read_dir(dir.path().join("in")).unwrap().count(), 1, "{name}");
    }
}

#[test]
fn a_link_in_the_way_of_a_file_is_replaced_and_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "safe").unwrap();
    let dir = tempfile::tempdir().unwrap();
    Layer::default()
        .symlink("l", victim.to_str().unwrap())
        .file("l", "own")
        .directory("d")
        .file("d/x", "x")
        .file("d", "a file instead of a directory")
        .unpack(dir.path())
        .unwrap();
    assert_eq!(text(victim), "safe");
    assert_eq!(text(dir.path().join("l")), "own");
    assert_eq!(text(dir.path().join("d")), "a file instead of a directory");
}

#[test]
fn bombs_end_at_the_limits() {
    let dir = tempfile::tempdir().unwrap();
    let zeros = vec![0; 2 << 20];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&Layer::default().entry(EntryType::Regular, b"big", "", &zeros).bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    let error = unpack(packed.as_slice(), dir.path(), LIMITS, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge(_)), "{error:?}");
    let many = (0..101).fold(Layer::default(), |layer, number| layer.file(&format!("f{number}"), ""));
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(many.unpack(dir.path()), Err(UnpackError::TooMany(100))));
    // Zeros after the archive's end count too.
    let mut padded = Layer::default().file("a", "").bytes();
    padded.resize(2 << 20, 0);
    let dir = tempfile::tempdir().unwrap();
    let error = unpack(padded.as_slice(), dir.path(), LIMITS, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge(_)), "{error:?}");
}

#[test]
fn what_is_cut_short_or_given_up_fails() {
    let whole = Layer::default().file("a", &"x".repeat(5000)).bytes();
    let dir = tempfile::tempdir().unwrap();
    assert!(unpack(&whole[..3000], dir.path(), LIMITS, &AtomicBool::new(false)).is_err());
    let dir = tempfile::tempdir().unwrap();
    let error = unpack(whole.as_slice(), dir.path(), LIMITS, &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(error, UnpackError::Cancelled));
    let dir = tempfile::tempdir().unwrap();
    assert!(
        unpack(
            &b"this is no tar archive at all, but it is long enough"[..],
            dir.path(),
            LIMITS,
            &AtomicBool::new(false)
        )
        .is_err()
    );
}

#[test]
fn long_names_and_attributes_come_from_extended_headers() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let record = |text: String| {
        let mut length = text.len() + 2;
        while format!("{length} {text}\n").len() != length {
            length += 1;
        }
        format!("{length} {text}\n")
    };
    let pax = record(format!("path={long}"))
        + &record("mtime=5.75".to_owned())
        + &record("SCHILY.xattr.user.k=v\nw".to_owned());
    let dir = tempfile::tempdir().unwrap();
    Layer::default()
        .entry(EntryType::XHeader, b"PaxHeaders/x", "", pax.as_bytes())
        .file("short", "long")
        .entry(EntryType::GNULongName, b"././@LongLink", "", format!("{long}2\0").as_bytes())
        .file("short", "gnu")
        .unpack(dir.path())
        .unwrap();
    assert_eq!(text(dir.path().join(&long)), "long");
    assert_eq!(text(dir.path().join(format!("{long}2"))), "gnu");
    assert_eq!(dir.path().join(&long).metadata().unwrap().mtime(), 5);
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(dir.path().join(&long), "user.k", &mut value);
    // Not every file system has users' attributes.
    assert!(length.is_err() || value[..length.unwrap()] == *b"v\nw");
}
