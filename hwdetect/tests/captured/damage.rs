//! Machines whose files are missing, empty, cut short or full of nonsense: what cannot be read is absent, and nothing
//! panics.

use std::fs;
use std::path::Path;

use hwdetect::{Inventory, Style, SysRoot, detect, render};
use proptest::prelude::*;

use crate::capture::{MACHINES, unpack, unpack_changed};

/// Detects and shows: both must survive.
fn survive(directory: &Path) -> Inventory {
    let inventory = detect(&SysRoot::new(directory).unwrap());
    let _ = render(&inventory, Style::Plain);
    let json = serde_json::to_string(&inventory).unwrap();
    assert_eq!(serde_json::from_str::<Inventory>(&json).unwrap(), inventory);
    inventory
}

#[test]
fn files_full_of_one_nonsense_say_nothing_or_little() {
    let numbers = b"99999999999999999999999999\n".as_slice();
    let list = b"0-4294967295\n".as_slice();
    for nonsense in [b"".as_slice(), b"\xff\xfe\x00\x80nonsense\x00\n", b"-1\n", numbers, list, b":::,,,---@@@\n\n\n"] {
        for machine in MACHINES {
            let directory = unpack_changed(machine, |_, _| nonsense.to_vec());
            let inventory = survive(directory.path());
            assert_eq!(inventory.memory.total_bytes, None, "{machine} {nonsense:?}");
            assert!(inventory.nics.iter().all(|nic| nic.mac.is_none()), "{machine} {nonsense:?}");
        }
    }
}

#[test]
fn files_cut_in_half_say_less() {
    for machine in MACHINES {
        let directory = unpack_changed(machine, |_, bytes| bytes[..bytes.len() / 2].to_vec());
        survive(directory.path());
    }
}

#[test]
fn a_tree_of_which_only_one_part_is_there_gives_that_part() {
    let directory = unpack("compute-numa");
    let full = survive(directory.path());
    fs::remove_dir_all(directory.path().join("proc")).unwrap();
    let without_proc = survive(directory.path());
    assert_eq!((without_proc.memory.total_bytes, without_proc.cpu.model_name), (None, None));
    assert_eq!((&without_proc.disks, &without_proc.nics), (&full.disks, &full.nics));
    assert_eq!((without_proc.cpu.cores, without_proc.cpu.threads), (4, 8));

    fs::remove_dir_all(directory.path().join("sys/class/dmi")).unwrap();
    let from_tables = survive(directory.path());
    // The raw tables hold what the kernel's own decoding does.
    assert_eq!(from_tables.platform, full.platform);

    fs::remove_dir_all(directory.path().join("sys/firmware")).unwrap();
    assert_eq!(survive(directory.path()).platform, hwdetect::Platform::default());

    fs::remove_dir_all(directory.path().join("sys/devices")).unwrap();
    let bare = survive(directory.path());
    assert_eq!((bare.cpu.threads, bare.nics.len(), bare.memory.installed_bytes), (0, 0, None));
    // The links that are left point nowhere, and that is all that is known of what they name.
    assert!(bare.disks.iter().all(|disk| disk.size_bytes.is_none() && disk.serial.is_none()));
}

#[test]
fn an_empty_machine_is_an_empty_inventory() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("sys")).unwrap();
    assert_eq!(survive(directory.path()), Inventory::default());
}

#[test]
fn a_pipe_among_the_files_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("proc")).unwrap();
    let pipe = directory.path().join("proc/meminfo");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(survive(directory.path()).memory.total_bytes, None);
}

proptest! {
    // Each case unpacks thousands of files.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_bytes_changed_in_any_files_are_survived(
        machine in proptest::sample::select(&MACHINES[..]),
        seed in any::<u64>(),
    ) {
        let directory = unpack_changed(machine, |path, bytes| scramble(path, bytes, seed));
        survive(directory.path());
    }
}

/// Changes about one byte in eight of about half the files, the same way for the same seed.
fn scramble(path: &Path, mut bytes: Vec<u8>, seed: u64) -> Vec<u8> {
    // splitmix64: enough randomness for damage, and no state to share between files.
    let mut state = path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    };
    if next() % 2 == 0 {
        return bytes;
    }
    for byte in &mut bytes {
        let roll = next();
        if roll % 8 == 0 {
            *byte = roll.to_le_bytes()[5];
        }
    }
    bytes
}
