//! What keeps a container apart: capabilities, mounts, devices, paths it must not see.

use serde_json::{Value, json};

use super::{Root, SANDBOX, User};

/// Enough for ordinary daemons that drop privileges themselves; neither raw sockets nor device nodes,
/// which a shared network and a shared kernel do not forgive.
const CAPABILITIES: [&str; 9] = [
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

pub(super) fn capabilities(user: User) -> Value {
    let root: &[&str] = if user.uid == 0 { &CAPABILITIES } else { &[] };
    json!({ "bounding": CAPABILITIES, "effective": root, "permitted": root, "inheritable": [], "ambient": [] })
}

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

/// The file systems of a container. On the host's own root only `/proc` must be its own.
pub(super) fn mounts(sandbox: &str, root: &Root) -> Value {
    let proc =
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] });
    if root.is_host {
        return json!([proc]);
    }
    let bind = |source: &str, destination: &str, mode: &str| {
        let options = ["bind", mode, "nosuid", "nodev"];
        json!({ "destination": destination, "type": "bind", "source": source, "options": options })
    };
    json!([
        proc,
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=64k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
        // Both count against the task's own memory limit.
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"] },
        { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
          "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
        bind("/etc/hosts", "/etc/hosts", "ro"),
        bind("/etc/resolv.conf", "/etc/resolv.conf", "ro"),
        bind(sandbox, SANDBOX, "rw"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_starts_with_capabilities_and_none_can_touch_devices() {
        assert_eq!(capabilities(User { uid: 33, gid: 33 })["effective"], json!([]));
        let root = capabilities(User::default()).to_string();
        for forbidden in ["SYS_ADMIN", "MKNOD", "NET_RAW", "NET_ADMIN", "SYS_PTRACE", "SYS_MODULE"] {
            assert!(!root.contains(forbidden), "{forbidden}");
        }
        assert_eq!(devices()[0], json!({ "allow": false, "access": "rwm" }));
        assert!(!devices().to_string().contains("rwm\",\"allow\":true"));
    }
}
