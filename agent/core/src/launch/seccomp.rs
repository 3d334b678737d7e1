//! The default system call filter: what ordinary programs use is allowed, everything else fails.

use serde_json::{Value, json};

/// Flags of clone(2) that make namespaces: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// What a call outside the list fails with.
const EPERM: u32 = 1;
/// What clone3(2) fails with: the C library then falls back to clone(2), whose flags can be checked.
const ENOSYS: u32 = 38;
/// AF_VSOCK reaches the hypervisor, past the network.
const AF_VSOCK: u64 = 40;

/// An argument of which these bits are to be so. libcontainer takes the bits from `valueTwo` and what they are to be from
/// `value`; other runtimes, the other way round.
fn masked(index: u32, bits: u64, expected: u64) -> Value {
    json!({ "index": index, "value": expected, "valueTwo": bits, "op": "SCMP_CMP_MASKED_EQ" })
}

/// An allow-list, because new kernels bring new calls. Only the 64-bit calls: a 32-bit program is ended by the kernel.
/// Each list of calls is built and sorted anew for every container, and a second one would cost as much again.
pub(super) fn profile() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            { "names": ALLOWED, "action": "SCMP_ACT_ALLOW" },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [masked(0, NAMESPACE_FLAGS, 0)] },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE" }] },
            // Linux and the two personalities that only change what uname(2) says.
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0xffff_ffffu32, "op": "SCMP_CMP_EQ" }] },
        ],
    })
}

/// `FS_IOC_FSSETXATTR` and `FS_IOC_SETFLAGS`: with either the owner of a directory takes it out of its project.
const SET_ATTRIBUTES: [u32; 2] = [0x401c_5820, 0x4008_6602];

/// Takes from a filter, if there is one, what would lift a project's limit.
///
/// A rule looks at a number once, so "neither of two" is said by their bits: what differs from both in a bit they share
/// is neither. What shares all of those with them is forbidden as well; nobody has a use for it.
pub(super) fn keep_projects(filter: &mut Value) {
    let Some(rules) = filter.get_mut("syscalls").and_then(Value::as_array_mut) else { return };
    for rule in rules.iter_mut() {
        if let Some(names) = rule.get_mut("names").and_then(Value::as_array_mut) {
            names.retain(|name| name != "ioctl");
        }
    }
    let [one, other] = SET_ATTRIBUTES;
    for bit in (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| one & bit == other & bit) {
        rules.push(json!({ "names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
            "args": [masked(1, bit.into(), (!one & bit).into())] }));
    }
}

#[rustfmt::skip]
const ALLOWED: &[&str] = &[
    // files and directories
    "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3",
    "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchown", "fchownat",
    "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fremovexattr", "fsetxattr", "fstat", "fstatfs",
    "fsync", "ftruncate", "futimesat", "getcwd", "getdents", "getdents64", "getxattr", "lchown", "lgetxattr", "link",
    "linkat", "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "mkdir", "mkdirat", "mknod",
    "mknodat", "name_to_handle_at", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "pread64", "preadv",
    "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
    "removexattr", "rename", "renameat", "renameat2", "rmdir", "sendfile", "setxattr", "splice", "stat", "statfs",
    "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "tee", "truncate", "umask", "unlink",
    "unlinkat", "utime", "utimensat", "utimes", "vmsplice", "write", "writev",
    // waiting and events
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "poll", "ppoll", "pselect6", "select",
    "signalfd", "signalfd4", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit",
    // memory
    "brk", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mprotect",
    "mremap", "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
    "process_mrelease", "remap_file_pages",
    // processes and threads
    "alarm", "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork", "futex",
    "futex_waitv", "get_robust_list", "getcpu", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp",
    "getpid", "getppid", "getpriority", "getresgid", "getresuid", "getrlimit", "getrusage", "getsid", "gettid",
    "getuid", "ioprio_get", "ioprio_set", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "modify_ldt", "pause", "pidfd_open", "pidfd_send_signal", "prctl", "prlimit64",
    "restart_syscall", "rseq", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
    "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity",
    "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "set_robust_list",
    "set_tid_address", "setfsgid", "setfsuid", "setgid", "setgroups", "setpgid", "setpriority", "setregid",
    "setresgid", "setresuid", "setreuid", "setrlimit", "setsid", "setuid", "tgkill", "tkill", "vfork", "wait4",
    "waitid",
    // signals and timers
    "clock_getres", "clock_gettime", "clock_nanosleep", "getitimer", "gettimeofday", "nanosleep", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "rt_tgsigqueueinfo", "setitimer", "sigaltstack", "time", "timer_create", "timer_delete", "timer_getoverrun",
    "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime", "times",
    // sockets
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
    "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketpair",
    // System V and POSIX communication: in a namespace of their own
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl", "msgget",
    "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt", "shmget",
    // the rest
    "getrandom", "ioctl", "sysinfo", "uname", "chroot",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leaves_a_project_and_terminals_work() {
        let mut filter = profile();
        keep_projects(&mut filter);
        let allowed = |request: u64| {
            let rules = filter["syscalls"].as_array().unwrap();
            let mut of_ioctl = rules.iter().filter(|rule| rule["names"].to_string().contains("\"ioctl\""));
            of_ioctl.any(|rule| {
                let compared = &rule["args"][0];
                request & compared["valueTwo"].as_u64().unwrap() == compared["value"].as_u64().unwrap()
            })
        };
        assert!(SET_ATTRIBUTES.iter().all(|request| !allowed(u64::from(*request))));
        // TCGETS, TIOCGWINSZ, TIOCSPTLCK, FIONREAD, FIONBIO, FICLONE, FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR
        for request in [0x5401, 0x5413, 0x4004_5431, 0x541b, 0x5421, 0x4004_9409, 0x8008_6601, 0x801c_581f] {
            assert!(allowed(request), "{request:x}");
        }
    }

    #[test]
    fn what_has_no_filter_gets_none() {
        for mut none in [json!(null), json!({ "defaultAction": "SCMP_ACT_ALLOW" })] {
            let before = none.clone();
            keep_projects(&mut none);
            assert_eq!(none, before);
        }
    }

    #[test]
    fn the_list_has_no_duplicates_and_nothing_that_rules_a_machine() {
        let mut sorted = ALLOWED.to_vec();
        sorted.sort_unstable();
        let count = sorted.len();
        sorted.dedup();
        assert_eq!(sorted.len(), count);
        for forbidden in [
            "bpf",
            "mount",
            "umount2",
            "pivot_root",
            "unshare",
            "setns",
            "init_module",
            "finit_module",
            "reboot",
            "ptrace",
            "kexec_load",
            "clock_settime",
            "settimeofday",
            "swapon",
            "keyctl",
            "add_key",
            "io_uring_setup",
            "open_by_handle_at",
            "perf_event_open",
            "userfaultfd",
            "iopl",
            "ioperm",
            "process_vm_writev",
            "clone",
            "clone3",
            "syslog",
            "acct",
        ] {
            assert!(!ALLOWED.contains(&forbidden), "{forbidden}");
        }
    }
}
