//! What keeps a container apart: capabilities, mounts, devices, paths it must not see.

use serde_json::{Value, json};

use super::{Files, Names, SANDBOX};

/// Enough for ordinary daemons that drop privileges themselves; neither raw sockets nor device nodes,
/// which a shared network and a shared kernel do not forgive.
pub(super) const CAPABILITIES: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
];

/// Read as empty. `/proc/cmdline` carries the cluster's addresses; the others leak or crash kernels.
pub(super) const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/cmdline",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

/// Readable, not writable.
pub(super) const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Everything is forbidden but what no program can do without.
pub(super) fn devices() -> Value {
    let allow = |major: i64, minor: Option<i64>| {
        let mut rule = json!({ "allow": true, "type": "c", "major": major, "access": "rw" });
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        rule
    };
    json!([
        { "allow": false, "access": "rwm" },
        allow(1, Some(3)), // null
        allow(1, Some(5)), // zero
        allow(1, Some(7)), // full
        allow(1, Some(8)), // random
        allow(1, Some(9)), // urandom
        allow(5, Some(0)), // tty
        allow(5, Some(2)), // ptmx
        allow(136, None),  // pts
    ])
}

fn mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

/// The file systems of a container. On the host's own root it keeps the host's files, but neither the host's devices nor
/// a writable view of its kernel: there a task could lift its own limits.
pub(super) fn mounts(sandbox: &str, files: Files, shm_mib: Option<u64>, names: &Names, bundle: &str) -> Vec<Value> {
    let mut shm = mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777"]);
    if let (Some(mib), Some(options)) = (shm_mib, shm["options"].as_array_mut()) {
        options.push(json!(format!("size={mib}m")));
    }
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=64k"]),
        mount("devpts", "devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        // Counts against the task's own memory limit.
        shm,
        mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ];
    if files == Files::TaskRoots {
        // As /dev/shm does.
        mounts.push(mount("tmpfs", "tmpfs", "/tmp", &["nosuid", "nodev", "mode=1777"]));
    }
    if files != Files::Hosts {
        mounts.push(mount("bind", sandbox, SANDBOX, &["bind", "rw", "nosuid", "nodev"]));
    }
    for (name, own) in [("hosts", names.hosts.is_some()), ("resolv.conf", names.resolver.is_some())] {
        let place = format!("/etc/{name}");
        let source = if own { format!("{bundle}/{name}") } else { place.clone() };
        if own || files != Files::Hosts {
            mounts.push(mount("bind", &source, &place, &["bind", "ro", "nosuid", "nodev"]));
        }
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_hosts_root_devices_and_the_kernels_files_are_the_containers_own() {
        let places = |files: Files| -> Vec<String> {
            let mounts = mounts("/s", files, None, &Names::default(), "/b");
            mounts.iter().map(|mount| mount["destination"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(places(Files::Hosts), ["/proc", "/dev", "/dev/pts", "/dev/shm", "/sys", "/sys/fs/cgroup"]);
        assert!(places(Files::TaskRoots).starts_with(&places(Files::Hosts)));
        assert!(
            mounts("/s", Files::Hosts, None, &Names::default(), "/b")[5]["options"]
                .as_array()
                .unwrap()
                .contains(&json!("ro"))
        );
    }

    #[test]
    fn no_default_capability_can_touch_devices() {
        let root = CAPABILITIES.join(" ");
        for forbidden in ["SYS_ADMIN", "MKNOD", "NET_RAW", "NET_ADMIN", "SYS_PTRACE", "SYS_MODULE"] {
            assert!(!root.contains(forbidden), "{forbidden}");
        }
        assert_eq!(devices()[0], json!({ "allow": false, "access": "rwm" }));
        assert!(!devices().to_string().contains("rwm\",\"allow\":true"));
    }
}
