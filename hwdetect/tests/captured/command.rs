//! The program: what it prints, and how it ends.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::capture::{detect, unpack};

fn hwdetect(arguments: &[&str], root: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hwdetect"));
    command.args(arguments);
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_table_names_what_is_in_the_machine() {
    let directory = unpack("storage");
    let output = hwdetect(&[], Some(directory.path()));
    assert!(output.status.success());
    let table = text(&output.stdout);
    for line in [
        "Machine\n",
        "  Model           Acme StorBox 12 A01\n",
        "  Topology       1 socket, 1 die, 4 cores, 4 threads\n",
        "  Usable     959.9 MiB\n",
        "  sdc       8 TB  rotating   sata    ST8000NM0055   ZA1AAAA2     512/512   0000:00:1f.2  naa.5000c500a0000002\n",
        "  eth2  physical  up       10 Gb/s  52:54:00:bb:00:03  virtio_net   1500  0000:00:09.0\n",
    ] {
        assert!(table.contains(line), "{line:?} is not in\n{table}");
    }
    assert!(!table.contains('\u{1b}'), "no colour but on a terminal");
    assert!(table.lines().all(|line| line == line.trim_end()));
}

#[test]
fn json_is_the_inventory() {
    let directory = unpack("netstack");
    let output = hwdetect(&["--json"], Some(directory.path()));
    assert!(output.status.success());
    let read: hwdetect::Inventory = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read, detect("netstack"));
}

#[test]
fn this_machine_is_detected_too() {
    let output = hwdetect(&["--json"], None);
    assert!(output.status.success());
    let read: hwdetect::Inventory = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        read.cpu.threads > 0 && read.memory.total_bytes > Some(1 << 20) && read.kernel.release.is_some(),
        "{read:?}"
    );
}

#[test]
fn a_root_that_is_no_machine_is_refused_with_its_reason() {
    let empty = tempfile::tempdir().unwrap();
    for (root, reason) in [
        (empty.path().to_owned(), "has neither `sys` nor `proc` in it"),
        (empty.path().join("missing"), "cannot read the root directory"),
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"), "is not a directory"),
    ] {
        let output = hwdetect(&[], Some(&root));
        assert_eq!(output.status.code(), Some(1));
        let message = text(&output.stderr);
        assert!(message.starts_with("hwdetect: ") && message.contains(reason), "{message}");
        assert!(message.contains(root.to_str().unwrap()), "{message}");
        assert!(output.stdout.is_empty());
    }
    let missing = hwdetect(&[], Some(&empty.path().join("missing")));
    assert!(text(&missing.stderr).contains("No such file or directory"));
}

#[test]
fn help_and_wrong_usage_have_their_statuses() {
    let help = hwdetect(&["--help"], None);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("--root <DIR>") && text(&help.stdout).contains("--json"));
    assert_eq!(hwdetect(&["--wrong"], None).status.code(), Some(2));
    assert_eq!(hwdetect(&["--root"], None).status.code(), Some(2));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let directory = unpack("storage");
    let mut child = Command::new(env!("CARGO_BIN_EXE_hwdetect"))
        .args(["--json", "--root"])
        .arg(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}
