//! Builds real bundles from the pinned packages and reads them back: the same input gives the same bytes, and what is
//! in them is complete.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

use initramfs::index::ModuleIndex;
use initramfs::modules::ModuleInfo;
use initramfs::{EntryKind, Manifest, cpio};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mesolith-image");
const LOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packages.lock");
const CACHE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache");
const TASK_ROOT: &str = "usr/share/mesolith/taskroot";

/// The circumstances of a build that must not show in its bytes.
struct Circumstances {
    umask: &'static str,
    time_zone: &'static str,
    locale: &'static str,
}

fn build(directory: &Path, agent: &Path, circumstances: &Circumstances) -> PathBuf {
    fs::create_dir_all(directory).unwrap();
    let agent_here = directory.join("some-agent");
    fs::copy(agent, &agent_here).unwrap();
    let script = format!("umask {} && exec \"$@\"", circumstances.umask);
    let output = Command::new("sh")
        .args(["-c", &script, "sh", PROGRAM, "pxe", "--modules", "virt", "--zstd-level", "3"])
        .args(["--lock", LOCK, "--cache", CACHE, "--out", "bundle", "--agent"])
        .arg(&agent_here)
        .current_dir(directory)
        .env_remove("SOURCE_DATE_EPOCH")
        .env("TZ", circumstances.time_zone)
        .env("LC_ALL", circumstances.locale)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    directory.join("bundle")
}

/// One bundle with the test program itself as the agent: any static executable will do.
fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, bundle) = BUNDLE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let circumstances = Circumstances { umask: "022", time_zone: "UTC", locale: "C" };
        let bundle = build(directory.path(), Path::new(PROGRAM), &circumstances);
        (directory, bundle)
    });
    bundle
}

/// The two archives of an image: the compressed one, unpacked, and the plain one with the modules.
fn unpack(image: &[u8]) -> [Vec<u8>; 2] {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(image).unwrap().single_frame();
    let mut first = Vec::new();
    decoder.read_to_end(&mut first).unwrap();
    let frame = image.len() - decoder.finish().len();
    let second = frame.next_multiple_of(4);
    assert!(image[frame..second].iter().all(|byte| *byte == 0));
    [first, image[second..].to_vec()]
}

fn archives() -> &'static [Vec<u8>; 2] {
    static ARCHIVES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    ARCHIVES.get_or_init(|| unpack(&fs::read(bundle().join("initramfs.img")).unwrap()))
}

/// What the kernel has when it has unpacked one archive after the other.
fn manifest() -> Manifest<'static> {
    let mut manifest = Manifest::new();
    for archive in archives() {
        let archive = cpio::read(archive).unwrap();
        for (path, entry) in archive.manifest.entries() {
            manifest.insert(path, entry.clone()).unwrap();
        }
    }
    manifest
}

fn index(manifest: &Manifest<'_>) -> (String, ModuleIndex) {
    let (path, entry) = manifest.entries().find(|(path, _)| path.ends_with("/mesolith.index")).unwrap();
    let directory = path.strip_suffix("mesolith.index").unwrap().to_owned();
    (directory, ModuleIndex::parse(entry.content().to_vec()).unwrap())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_same_input_gives_the_same_bytes_wherever_and_however_it_is_built() {
    let elsewhere = tempfile::tempdir().unwrap();
    let circumstances = Circumstances { umask: "077", time_zone: "Asia/Kathmandu", locale: "C.UTF-8" };
    let other = build(&elsewhere.path().join("a/deep er/place"), Path::new(PROGRAM), &circumstances);
    let names = |bundle: &Path| {
        let entries = fs::read_dir(bundle).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(bundle()), ["SIZES", "initramfs.img", "manifest.json", "vmlinuz"].map(String::from).into());
    for name in names(bundle()) {
        let same = fs::read(bundle().join(&name)).unwrap() == fs::read(other.join(&name)).unwrap();
        assert!(same, "{name} differs");
    }
}

#[test]
fn another_build_time_changes_the_bytes() {
    let output = Command::new(PROGRAM)
        .args(["pxe", "--modules", "virt", "--zstd-level", "3", "--lock", LOCK, "--cache", CACHE, "--agent", PROGRAM])
        .args(["--out", bundle().parent().unwrap().join("later").to_str().unwrap()])
        .env("SOURCE_DATE_EPOCH", "2000000000")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let later = fs::read(bundle().parent().unwrap().join("later/initramfs.img")).unwrap();
    assert_ne!(later, fs::read(bundle().join("initramfs.img")).unwrap());
    let [later, _] = unpack(&later);
    let later = cpio::read(&later).unwrap().manifest;
    let release = str::from_utf8(later.get("etc/mesolith/release").unwrap().content()).unwrap();
    assert!(release.contains("\"build_time_unix\":2000000000"), "{release}");
}

#[test]
fn every_module_finds_what_it_depends_on() {
    let manifest = manifest();
    let (directory, index) = index(&manifest);
    assert!(index.modules().len() > 100);
    let mut files = 0;
    for module in index.modules() {
        let entry = manifest.get(&format!("{directory}{}", module.path));
        let packed = entry.unwrap_or_else(|| panic!("{} is not in the image", module.path)).content();
        let info = ModuleInfo::read(&zstd::decode_all(packed).unwrap());
        let order: Vec<_> =
            index.load_order(module).into_iter().map(|step| (step.module.name, step.required)).collect();
        let own = order.iter().position(|(name, _)| *name == module.name).unwrap();
        for needed in info.unwrap().depends {
            let found = order[..own].contains(&(needed.as_str(), true)) || index.is_builtin(&needed);
            assert!(found, "{} needs {needed}, its load order is {order:?}", module.name);
        }
        files += 1;
    }
    let in_image = manifest.entries().filter(|(path, _)| path.contains(".ko")).count();
    assert_eq!(files, in_image);
    let [compressed, plain] = archives();
    assert!(cpio::read(compressed).unwrap().manifest.entries().all(|(path, _)| !path.contains(".ko")));
    assert!(
        cpio::read(plain).unwrap().manifest.entries().filter(|(path, _)| path.ends_with(".ko.zst")).count() == files
    );
}

#[test]
fn devices_of_a_virtual_machine_find_their_drivers() {
    let manifest = manifest();
    let (_, index) = index(&manifest);
    let cases = [
        ("pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00", "virtio_pci"),
        ("virtio:d00000001v00001AF4", "virtio_net"),
        ("pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", "nvme"),
        ("pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00", "e1000e"),
        ("fs-overlay", "overlay"),
        ("fs-squashfs", "squashfs"),
        ("nf-nat-not-there", ""),
    ];
    for (modalias, driver) in cases {
        let steps = index.resolve(modalias);
        assert_eq!(steps.iter().any(|step| step.module.name == driver), !driver.is_empty(), "{modalias}: {steps:?}");
    }
    let xfs: Vec<_> = index.resolve("xfs").iter().map(|step| step.module.name).collect();
    assert!(xfs.contains(&"crc32c_generic"), "xfs cannot be mounted without a crc32c: {xfs:?}");
}

#[test]
fn cpio_reads_the_same_names() {
    for archive in archives() {
        let names = cpio_names(archive);
        assert!(names.lines().eq(cpio::read(archive).unwrap().manifest.entries().map(|(path, _)| path)));
    }
}

fn cpio_names(archive: &'static [u8]) -> String {
    let mut child = Command::new("cpio")
        .args(["-it", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cpio is installed");
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(archive));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_kernel_finds_its_init_its_console_and_modprobe() {
    let manifest = manifest();
    let kind = |path: &str| &manifest.get(path).unwrap_or_else(|| panic!("{path} is missing")).kind;
    assert_eq!(*kind("init"), EntryKind::Symlink("/usr/bin/mesolith-agent".into()));
    assert_eq!(*kind("sbin"), EntryKind::Symlink("usr/sbin".into()));
    assert_eq!(*kind("usr/sbin/modprobe"), EntryKind::Symlink("/usr/bin/mesolith-agent".into()));
    assert_eq!(*kind("dev/console"), EntryKind::CharDevice { major: 5, minor: 1 });
    assert_eq!(manifest.get("usr/bin/mesolith-agent").unwrap().permissions, 0o755);
    let certificates = manifest.get("etc/ssl/certs/ca-certificates.crt").unwrap().content();
    let count = str::from_utf8(certificates).unwrap().matches("BEGIN CERTIFICATE").count();
    assert!(count > 100, "{count} certificates");
    assert!(manifest.entries().all(|(_, entry)| entry.uid == 0 && entry.gid == 0));
    let boot_protocol = &fs::read(bundle().join("vmlinuz")).unwrap()[0x202..0x206];
    assert_eq!(boot_protocol, b"HdrS");
}

#[test]
fn the_agent_without_its_symbols_still_runs() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = manifest();
    let agent = manifest.get("usr/bin/mesolith-agent").unwrap().content();
    assert!((agent.len() as u64) < fs::metadata(PROGRAM).unwrap().len());
    let output = executable(directory.path(), "agent", agent).arg("--version").output().unwrap();
    assert_eq!(text(&output), format!("mesolith-image {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_task_root_has_every_applet_of_its_busybox() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = manifest();
    let busybox = manifest.get(&format!("{TASK_ROOT}/bin/busybox")).unwrap().content();
    let output = executable(directory.path(), "busybox", busybox).arg("--list").output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let listed: BTreeSet<_> = listed.lines().filter(|name| !["busybox", "linuxrc"].contains(name)).collect();
    let prefix = format!("{TASK_ROOT}/bin/");
    let links: BTreeSet<_> = manifest
        .entries()
        .filter(|(_, entry)| entry.kind == EntryKind::Symlink("busybox".into()))
        .filter_map(|(path, _)| path.strip_prefix(&prefix))
        .collect();
    assert!(links.contains("sh") && links.contains("sleep"));
    assert_eq!(links, listed);
}

#[test]
fn sizes_and_inspect_describe_the_bundle_and_notice_a_changed_one() {
    let sizes = Command::new(PROGRAM).arg("sizes").arg(bundle()).output().unwrap();
    assert!(sizes.status.success());
    assert_eq!(text(&sizes), fs::read_to_string(bundle().join("SIZES")).unwrap());
    let inspect = Command::new(PROGRAM).arg("inspect").arg(bundle().join("initramfs.img")).output().unwrap();
    let listing = text(&inspect);
    assert!(listing.contains("init -> /usr/bin/mesolith-agent\n"), "{listing}");
    for archive in archives() {
        let count = cpio::read(archive).unwrap().manifest.len();
        assert!(listing.contains(&format!("{count} entries")), "{listing}");
    }

    let changed = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(bundle()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), changed.path().join(entry.file_name())).unwrap();
    }
    fs::write(changed.path().join("vmlinuz"), "other").unwrap();
    let sizes = Command::new(PROGRAM).arg("sizes").arg(changed.path()).output().unwrap();
    assert!(!sizes.status.success());
    assert!(text(&sizes).contains("vmlinuz is not the file its manifest describes"), "{}", text(&sizes));
}

#[test]
fn an_agent_that_needs_libraries_is_refused_before_anything_is_fetched() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM)
        .args(["pxe", "--agent", "/bin/sh", "--lock", LOCK, "--out", "bundle"])
        .current_dir(&directory)
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("/bin/sh cannot be PID 1: it is dynamically linked"), "{}", text(&output));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn a_version_apt_no_longer_offers_gets_advice() {
    let directory = tempfile::tempdir().unwrap();
    let script = "case \" $* \" in *' update '*) exit 0;; esac; echo \"E: Version '1' was not found\" >&2; exit 100";
    fake(directory.path(), "apt-get", script);
    let output = with_fakes(directory.path(), &["pxe", "--agent", PROGRAM, "--lock", LOCK, "--out", "bundle"]);
    let text = text(&output);
    assert!(!output.status.success());
    for expected in ["linux-image-", "--update-lock", "--kernel FILE.deb", "Version '1' was not found"] {
        assert!(text.contains(expected), "{text} lacks {expected}");
    }
}

#[test]
fn a_package_that_is_not_the_pinned_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fake(directory.path(), "apt-get", "echo something else > linux-image_1_amd64.deb");
    let output = with_fakes(directory.path(), &["pxe", "--agent", PROGRAM, "--lock", LOCK, "--out", "bundle"]);
    assert!(!output.status.success());
    assert!(text(&output).contains("but the lock file says"), "{}", text(&output));
}

#[test]
fn update_lock_pins_what_apt_offers_and_keeps_the_date_of_what_did_not_change() {
    let directory = tempfile::tempdir().unwrap();
    fake(directory.path(), "apt-get", "exit 0");
    let digest = "ab".repeat(32);
    let show = format!(
        "for name; do :; done\necho Package: $name\necho Version: 6.9-1\necho Architecture: amd64\n\
         test $name != linux-image-amd64 || echo 'Depends: linux-image-6.9.0-1-amd64 (= 6.9-1)'\necho SHA256: {digest}\n"
    );
    fake(directory.path(), "apt-cache", &show);
    let lock = directory.path().join("my.lock");
    let update = || with_fakes(directory.path(), &["update-lock", "--lock", "my.lock"]);
    let output = update();
    assert!(output.status.success(), "{}", text(&output));
    let written = fs::read_to_string(&lock).unwrap();
    assert!(written.contains(&format!("\nkernel linux-image-6.9.0-1-amd64 6.9-1 amd64 {digest}\n")), "{written}");
    let date = written.lines().find(|line| line.starts_with("date ")).unwrap();
    let older = written.replace(date, "date 2020-02-29");
    fs::write(&lock, &older).unwrap();
    assert!(text(&update()).contains("my.lock is up to date"));
    assert_eq!(fs::read_to_string(&lock).unwrap(), older);
}

fn fake(directory: &Path, name: &str, script: &str) {
    let bin = directory.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the program with stand-ins for apt, so that the test depends on no archive.
fn with_fakes(directory: &Path, arguments: &[&str]) -> Output {
    let path = format!("{}:/usr/bin:/bin", directory.join("bin").display());
    Command::new(PROGRAM).args(arguments).current_dir(directory).env("PATH", path).output().unwrap()
}

fn executable(directory: &Path, name: &str, bytes: &[u8]) -> Command {
    let path = directory.join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Command::new(path)
}
