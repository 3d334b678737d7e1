//! A machine larger than any of the captured: two sockets of two dies, 256 CPUs, numbered as firmware does, with the
//! second threads of all cores behind the first ones.

use std::fs;
use std::path::Path;
use std::time::Instant;

use hwdetect::{SysRoot, detect};

const SOCKETS: u32 = 2;
const DIES_PER_SOCKET: u32 = 2;
const CORES_PER_DIE: u32 = 32;
const CORES: u32 = SOCKETS * DIES_PER_SOCKET * CORES_PER_DIE;

fn build(root: &Path) {
    let write = |path: String, text: String| {
        let path = root.join("sys/devices/system").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text + "\n").unwrap();
    };
    let last = CORES * 2 - 1;
    for name in ["online", "present", "possible"] {
        write(format!("cpu/{name}"), format!("0-{last}"));
    }
    for cpu in 0..=last {
        let core = cpu % CORES;
        let die = core / CORES_PER_DIE;
        let (first, second) = (core, core + CORES);
        let die_first = die * CORES_PER_DIE;
        let die_list = format!(
            "{}-{},{}-{}",
            die_first,
            die_first + CORES_PER_DIE - 1,
            die_first + CORES,
            die_first + CORES + CORES_PER_DIE - 1
        );
        let topology = [
            ("physical_package_id", (die / DIES_PER_SOCKET).to_string()),
            ("die_id", (die % DIES_PER_SOCKET).to_string()),
            // Every die counts from zero.
            ("core_id", (core % CORES_PER_DIE).to_string()),
            ("thread_siblings_list", format!("{first},{second}")),
        ];
        for (name, text) in topology {
            write(format!("cpu/cpu{cpu}/topology/{name}"), text);
        }
        let caches =
            [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "98304K")];
        for (index, (level, kind, size)) in caches.into_iter().enumerate() {
            let shared = if level == "3" { die_list.clone() } else { format!("{first},{second}") };
            for (name, text) in [("level", level), ("type", kind), ("size", size), ("shared_cpu_list", &shared)] {
                write(format!("cpu/cpu{cpu}/cache/index{index}/{name}"), text.to_owned());
            }
        }
    }
}

#[test]
fn two_sockets_of_two_dies_are_counted_and_quickly() {
    let directory = tempfile::tempdir().unwrap();
    build(directory.path());
    let root = SysRoot::new(directory.path()).unwrap();
    let begun = Instant::now();
    let cpu = detect(&root).cpu;
    let took = begun.elapsed();
    assert_eq!((cpu.sockets, cpu.dies, cpu.cores, cpu.threads), (2, 4, 128, 256));
    let caches: Vec<_> = cpu.caches.iter().map(|cache| (cache.level, cache.shared_by.len())).collect();
    assert_eq!(caches, [(1, 128), (1, 128), (2, 128), (3, 4)]);
    assert_eq!(cpu.caches[3].shared_by[1].to_string(), "32-63,160-191");
    assert_eq!((cpu.logical[255].socket, cpu.logical[255].die, cpu.logical[255].core), (Some(1), Some(1), Some(31)));
    // The aim is 50 ms; a test among many on a busy machine gets twenty times that.
    assert!(took.as_millis() < 1000, "{took:?}");
}
