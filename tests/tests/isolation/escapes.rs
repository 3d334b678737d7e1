//! Attempts to get out of a container, or to take the node along. Each is contained; that the node is healthy after it is
//! checked by whoever runs the case.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Case, PIDS, SOON, World, scalar};

pub(super) const CASES: &[Case] = &[
    ("what a container may not", forbidden),
    ("a fork bomb", fork_bomb),
    ("a memory bomb", memory_bomb),
    ("a disk fill", disk_fill),
    ("open files without end", descriptors),
    ("links in volumes", links),
];

/// So long at most a disk is filled with files.
const FILLS: Duration = Duration::from_secs(40);

/// As root in a container: each must fail.
pub(super) const FORBIDDEN: &[(&str, &str)] = &[
    ("mount", "mount -t tmpfs tmpfs /tmp"),
    ("bind", "mount -o bind /proc /tmp"),
    ("remount", "mount -o remount,rw /"),
    ("umount", "umount /proc"),
    ("unshare", "unshare -m true"),
    ("userns", "unshare -U -r true"),
    ("nsenter", "nsenter -t 1 -m true"),
    ("sysctl", "echo 1 > /proc/sys/kernel/panic"),
    ("core-pattern", "echo '|/bin/sh' > /proc/sys/kernel/core_pattern"),
    ("sysrq", "echo b > /proc/sysrq-trigger"),
    ("kmsg", "cat /dev/kmsg"),
    ("dmesg", "dmesg | grep -q ."),
    ("cmdline", "grep -q mesolith /proc/cmdline"),
    ("kcore", "dd if=/proc/kcore of=/dev/null bs=1 count=1 | grep -q ."),
    ("mem-device", "mknod /tmp/mem c 1 1 && dd if=/tmp/mem of=/dev/null bs=1 count=1"),
    ("disk-device", "mknod /tmp/disk b 253 0 && dd if=/tmp/disk of=/dev/null bs=1 count=1"),
    ("cgroup-write", "echo max > /sys/fs/cgroup/memory.max"),
    ("cgroup-leave", "echo $$ > /sys/fs/cgroup/../cgroup.procs"),
    ("cgroup-make", "mkdir /sys/fs/cgroup/mine"),
    ("sys-write", "echo 1 > /sys/kernel/mm/ksm/run"),
    ("release-agent", "mkdir /tmp/c && mount -t cgroup2 none /tmp/c"),
    ("module", "insmod /bin/busybox"),
    // It says that it cannot and ends well all the same.
    ("clock", "date -s 2001-01-01; [ $(date +%Y) = 2001 ]"),
    ("host-name", "hostname taken"),
    ("reboot", "reboot -f"),
    ("swap", "swapoff -a && swapon /bin/busybox"),
    ("raw-socket", "ping -c 1 -W 1 127.0.0.1"),
    ("interface", "ip link set lo down"),
    ("chroot-out", "mkdir -p /tmp/d && cd / && chroot /tmp/d /bin/true"),
    ("init-socket", "ls /run/mesolith"),
    ("oom-score", "echo -1000 > /proc/self/oom_score_adj"),
    ("others", "ls /proc/1/root/run/mesolith"),
    ("nice", "renice -n -10 $$"),
    ("real-time", "chrt -f 50 true"),
    ("root-write", "touch /bin/mine"),
];

fn forbidden(world: &mut World) {
    let mut command = String::new();
    for (name, attempt) in FORBIDDEN {
        command.push_str(&format!("( {attempt} ) > /dev/null 2>&1 && echo 'GOT OUT {name}'\n"));
    }
    command.push_str("echo all tried\n");
    let more = json!({"resources": [scalar("cpus", 0.5), scalar("mem", 64.0)]});
    let said = world.output("forbidden", &command, more);
    assert_eq!(said, "all tried\n");
    let said = world.output("host-name-kept", "hostname", json!({}));
    assert_eq!(said, "node-1\n");
}

fn fork_bomb(world: &mut World) {
    world.launch("bomb", json!({"value": "b() { b | b & }; b; sleep 600"}), json!({}));
    world.tasks.wait_state("bomb", "TASK_RUNNING", SOON).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    let container = world.container("bomb");
    if let Some(threads) = container["statistics"]["threads"].as_u64() {
        assert!(threads <= PIDS as u64, "{container}");
        world.tasks.kill("bomb").unwrap();
    }
    world.tasks.wait_first_end("bomb", SOON).unwrap();
}

fn memory_bomb(world: &mut World) {
    let end = world.run("memory-bomb", "x=x; while true; do x=$x$x; done", json!({}));
    assert_eq!(end["state"], "TASK_FAILED", "{end}");
    let end = world.run("shm-bomb", "dd if=/dev/zero of=/dev/shm/x bs=1M", json!({}));
    assert_eq!(end["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{end}");
}

/// A sandbox on a node without disks is memory, and the task's own.
fn disk_fill(world: &mut World) {
    let end = world.run("disk-fill", "dd if=/dev/zero of=fill bs=1M", json!({}));
    assert_eq!(
        (&end["state"], &end["reason"]),
        (&json!("TASK_FAILED"), &json!("REASON_CONTAINER_LIMITATION_MEMORY")),
        "{end}"
    );
    // Files of nothing take memory as well; how long it takes depends on the machine.
    let more = json!({"resources": [scalar("cpus", 0.5), scalar("mem", 32.0)]});
    world.launch("inodes", json!({"value": "i=0; mkdir d; while echo > d/$i; do i=$((i+1)); done"}), more);
    world.is_healthy("many files");
    let deadline = Instant::now() + FILLS;
    while world.tasks.ends("inodes").is_empty() && Instant::now() < deadline {
        world.tasks.take(Duration::from_millis(200)).unwrap();
    }
    if world.tasks.ends("inodes").is_empty() {
        world.tasks.kill("inodes").unwrap();
    }
    world.tasks.wait_first_end("inodes", SOON).unwrap();
}

fn descriptors(world: &mut World) {
    let command = "mkdir d; for i in $(seq 2000); do echo > d/$i; done; for i in $(seq 20); do tail -f d/* > /dev/null 2>&1 & done; \
                   sleep 5; echo open; sleep 600";
    let more = json!({"resources": [scalar("cpus", 1.0), scalar("mem", 128.0)]});
    world.launch("descriptors", json!({ "value": command }), more);
    world.wait_stdout("descriptors", "open");
    world.is_healthy("many open files");
    world.tasks.kill("descriptors").unwrap();
    world.tasks.wait_first_end("descriptors", SOON).unwrap();
}

/// The sandbox's own links are followed by nobody on the node: neither by who reads files nor by who mounts.
fn links(world: &mut World) {
    world.output("links", "ln -s /etc/hosts away; ln -s /run/mesolith/agent agent; ln -s / root; echo made", json!({}));
    for path in ["away", "agent/agent.json", "root/etc/hosts"] {
        let url = format!("{}/mesolith/v1/tasks/{}/links/files/{path}", world.rack.api_url(), world.tasks.framework.id);
        let answer = tests::http::get(&url, Duration::from_secs(30)).unwrap();
        assert_ne!(answer.status, 200, "{path}: {}", answer.text());
    }
    // A volume's mount point that is a link is not where it says.
    let more = json!({"container": {"type": "MESOS", "volumes": [
        {"mode": "RW", "container_path": "/tmp/x/../../etc", "host_path": "mine"}]}});
    assert!(world.refused("dots", more).contains("goes up"));
}
