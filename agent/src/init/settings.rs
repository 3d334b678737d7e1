//! What the kernel is told once at boot: its own parameters, the machine's name, where modprobe is.

use std::fs;
use std::path::Path;

/// (file below /proc/sys, value, why)
const SYSCTLS: &[(&str, &str)] = &[
    // A broken kernel is no node: begin anew after ten seconds.
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    // Our lines in the kernel's log are not dropped for coming fast.
    ("kernel/printk_devkmsg", "on"),
    // Tasks learn nothing about the kernel's addresses and messages.
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    // Nor may they watch the kernel, or make it wait for them.
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/yama/ptrace_scope", "1"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("net/core/bpf_jit_harden", "2"),
    ("dev/tty/ldisc_autoload", "0"),
    ("kernel/randomize_va_space", "2"),
    ("vm/mmap_min_addr", "65536"),
    ("vm/mmap_rnd_bits", "32"),
    // This kernel runs until the machine restarts; only a person at the machine gets more by the magic key than a sync
    // and a restart.
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/sysrq", "176"),
    // A task that takes all memory is ended; the machine goes on.
    ("vm/panic_on_oom", "0"),
    ("vm/oom_kill_allocating_task", "0"),
    ("kernel/hung_task_timeout_secs", "120"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_fifos", "1"),
    ("fs/protected_regular", "2"),
    ("fs/suid_dumpable", "0"),
    // Many containers: many processes, watches and connections. A high pid_max also makes it rare that a number is
    // soon used again.
    ("kernel/pid_max", "4194304"),
    ("fs/inotify/max_user_instances", "8192"),
    ("fs/inotify/max_user_watches", "524288"),
    ("net/core/somaxconn", "4096"),
    // Addresses of links that are down are not answered for on others.
    ("net/ipv4/conf/all/arp_ignore", "1"),
    ("net/ipv4/conf/all/arp_announce", "2"),
    // No way for others to change where packets go.
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_source_route", "0"),
    ("net/ipv4/icmp_echo_ignore_broadcasts", "1"),
    ("net/ipv4/icmp_ignore_bogus_error_responses", "1"),
    ("net/ipv4/tcp_syncookies", "1"),
    ("net/ipv4/tcp_rfc1337", "1"),
    // Cores would fill the sandboxes unasked.
    ("kernel/core_pattern", "|/bin/false"),
];

/// Sets the kernel's parameters; returns the files it would not have. A kernel without one of them is fine.
pub(crate) fn apply_sysctls() -> Vec<&'static str> {
    // printk_devkmsg takes its words only with the newline.
    let set = |(file, value): &(&'static str, &str)| {
        let path = Path::new("/proc/sys").join(file);
        (path.exists() && fs::write(&path, format!("{value}\n")).is_err()).then_some(*file)
    };
    SYSCTLS.iter().filter_map(set).collect()
}

/// Makes the kernel find us when it wants a module: where the image has no modprobe of its own, a link to this
/// program.
pub(crate) fn register_modprobe() {
    const LINK: &str = "/run/mesolith/modprobe";
    if ["/sbin/modprobe", "/usr/sbin/modprobe"].iter().any(|path| Path::new(path).exists()) {
        return;
    }
    if let Ok(program) = std::env::current_exe()
        && std::os::unix::fs::symlink(program, LINK).is_ok()
    {
        // Without it modules asked for by name are not loaded; each asker says so itself.
        let _ = fs::write("/proc/sys/kernel/modprobe", LINK);
    }
}

/// One of our keys of the kernel's command line. The last one given counts.
pub(crate) fn command_line_key<'a>(command_line: &'a str, key: &str) -> Option<&'a str> {
    let mut values = command_line.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    values.next_back().filter(|value| !value.is_empty())
}

/// Mixes what the master gave us into the kernel's random numbers. It is not counted as chance: whoever listens to the
/// boot network has seen it; but machines that boot alike differ by it.
pub(crate) fn stir(secret: &[u8]) {
    // Random numbers are there all the same.
    let _ = fs::write("/dev/urandom", secret);
}

/// Names the machine, and writes the hosts file that name resolution needs when there is no other.
pub(crate) fn name_machine(name: &str) -> std::io::Result<()> {
    nix::unistd::sethostname(name)?;
    let hosts = Path::new("/etc/hosts");
    if !hosts.exists() {
        fs::write(hosts, format!("127.0.0.1 localhost {name}\n::1 localhost\n"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_whole_and_the_last_one_counts() {
        let line = "quiet mesolith.name=a mesolith.names=x mesolith.name=node-1 mesolith.empty= xmesolith.name=z\n";
        assert_eq!(command_line_key(line, "mesolith.name"), Some("node-1"));
        assert_eq!(command_line_key(line, "mesolith.empty"), None);
        assert_eq!(command_line_key(line, "mesolith.master"), None);
    }
}
