//! Disks, devices and graphics processors, with a disk that is there for nothing else and devices that only play to be
//! processors; input, output and processors measured over half a minute.

use std::time::Duration;

use serde_json::{Value, json};
use tests::tasks::Tasks;

use super::{Case, SOON, World, launch_by, scalar};

pub(super) const CASES: &[Case] = &[
    ("devices of the node", devices),
    ("graphics processors", gpus),
    ("memory that is slowed and kept", memory),
    ("disks and processors to five percent", rates),
];

/// How far from its limit a measured rate may be.
const WITHIN: f64 = 0.05;

fn labels(pairs: &[(&str, &str)]) -> Value {
    json!({"labels": pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect::<Vec<_>>()})
}

/// By the framework that may run privileged tasks.
fn trusted(world: &mut World) -> Tasks {
    // The other one gives back what it holds, and wants nothing until it is told.
    world.tasks.framework.call("SUPPRESS", &Value::Null).unwrap();
    world.tasks.take(Duration::from_secs(1)).unwrap();
    let more = json!({"principal": "trusted", "roles": ["data"], "capabilities": super::CAPABILITIES.map(|kind| json!({"type": kind}))});
    Tasks::subscribe_as(world.rack.api_url(), "trusted", &more).unwrap()
}

fn run(tasks: &mut Tasks, id: &str, command: &str, more: Value) -> (Value, String) {
    launch_by(tasks, id, json!({ "value": command }), more);
    let end = tasks.wait_first_end(id, SOON).unwrap();
    let said = tasks.stdout(id).unwrap_or_default();
    (end, said)
}

fn devices(world: &mut World) {
    let ask = |device: &str| json!({ "labels": labels(&[("mesolith.devices", device)]) });
    let end = world.run("device-refused", "true", ask("/dev/vda:r"));
    assert_eq!(end["reason"], "REASON_TASK_UNAUTHORIZED", "{end}");
    let mut tasks = trusted(world);
    let read = "dd if=/dev/vda of=/dev/null bs=1M count=1 2>/dev/null && echo read; \
        ( : < /dev/vdb ) 2>/dev/null || echo no other; dd if=/dev/zero of=/dev/vda bs=512 count=1 2>/dev/null || echo not written";
    let (end, said) = run(&mut tasks, "device-read", read, ask("/dev/vda:r"));
    assert_eq!(said, "read\nno other\nnot written\n", "{end}");
    for (id, device, words) in [
        ("device-other", "/dev/ttyS0", "does not show its device"),
        ("device-none", "/dev/vdz", "no device '/dev/vdz'"),
    ] {
        let (end, _) = run(&mut tasks, id, "true", ask(device));
        assert!(end["message"].as_str().unwrap().contains(words), "{end}");
    }
    tasks.framework.call("TEARDOWN", &Value::Null).unwrap();
    world.tasks.framework.call("REVIVE", &Value::Null).unwrap();
}

/// The node was told that it has two, which are `/dev/mem` and `/dev/kmsg`, and where their driver's files are.
fn gpus(world: &mut World) {
    let one = json!({"resources": [scalar("cpus", 0.1), scalar("mem", 48.0), scalar("gpus", 1.0)]});
    let look = "ls /dev/mem /dev/kmsg 2>/dev/null; ls /usr/local/nvidia/taskroot/bin/busybox; sleep 3000";
    world.launch("gpu-one", json!({ "value": look }), one.clone());
    let said = world.wait_stdout("gpu-one", "busybox");
    assert_eq!(said.matches("/dev/").count(), 1, "one of them is its own: {said}");
    world.launch("gpu-two", json!({ "value": look }), one);
    let other = world.wait_stdout("gpu-two", "busybox");
    assert_ne!(said, other, "each has another");
    for id in ["gpu-one", "gpu-two"] {
        world.tasks.kill(id).unwrap();
    }
    for id in ["gpu-one", "gpu-two"] {
        assert_eq!(world.tasks.wait_first_end(id, SOON).unwrap()["state"], "TASK_KILLED");
    }
    let none = world.output("gpu-none", "ls /usr/local/nvidia 2>/dev/null; echo none", json!({}));
    assert_eq!(none, "none\n");
}

fn memory(world: &mut World) {
    let set = labels(&[("mesolith.memory.low", "16"), ("mesolith.memory.high", "40"), ("mesolith.io.weight", "300")]);
    let show = "cd /sys/fs/cgroup; cat memory.low memory.high; cat io.weight | head -1; cat hugetlb.2MB.max";
    let said = world.output("memory-labels", show, json!({ "labels": set }));
    assert_eq!(said, format!("{}\n{}\ndefault 300\n0\n", 16 << 20, 40 << 20));
    let set = labels(&[("mesolith.hugepages", "2MB=4")]);
    assert_eq!(world.output("huge", "cat /sys/fs/cgroup/hugetlb.2MB.max", json!({ "labels": set })), "4194304\n");
    let wrong = labels(&[("mesolith.memory.low", "4096")]);
    assert!(world.refused("memory-wrong", json!({ "labels": wrong })).contains("at most the task's mem"));
    let wrong = labels(&[("mesolith.io.max", "nodisk:rbps=1m")]);
    assert!(world.refused("disk-wrong", json!({ "labels": wrong })).contains("no disk 'nodisk'"));
}

/// Both at the same time: who waits for a disk needs no processor.
fn rates(world: &mut World) {
    processors_begin(world);
    let mut tasks = trusted(world);
    disks(&mut tasks);
    tasks.framework.call("TEARDOWN", &Value::Null).unwrap();
    world.tasks.framework.call("REVIVE", &Value::Null).unwrap();
    processors_end(world);
}

/// 120 MiB at 4 MiB a second.
fn disks(tasks: &mut Tasks) {
    let set = labels(&[("mesolith.devices", "/dev/vda:r"), ("mesolith.io.max", "vda:rbps=4m")]);
    let command = "cat /sys/fs/cgroup/io.max; read a b < /proc/uptime; dd if=/dev/vda of=/dev/null bs=64k count=1920 2>/dev/null; \
        read c d < /proc/uptime; echo took $a $c";
    let more = json!({"labels": set, "resources": [scalar("cpus", 0.5), scalar("mem", 64.0)]});
    let (end, said) = run(tasks, "disk-rate", command, more);
    assert!(said.contains("rbps=4194304"), "{end} {said}");
    let took = said.lines().find_map(|line| line.strip_prefix("took ")).unwrap();
    let times: Vec<f64> = took.split(' ').map(|time| time.parse().unwrap()).collect();
    let rate = 120.0 / (times[1] - times[0]);
    println!("   4 MiB/s: {rate:.3} over {:.1} s", times[1] - times[0]);
    assert!((rate / 4.0 - 1.0).abs() < WITHIN, "4 MiB/s were {rate}");
}

/// As the kernel of the node counts them.
fn processors_begin(world: &mut World) {
    let more = json!({"resources": [scalar("cpus", 0.4), scalar("mem", 48.0)]});
    let command = "while read name usec; do [ $name = usage_usec ] && a=$usec; done < /sys/fs/cgroup/cpu.stat; read b x < /proc/uptime; \
        end=$((${b%.*}+31)); while true; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; read c x < /proc/uptime; \
        [ ${c%.*} -ge $end ] && break; done; \
        while read name usec; do [ $name = usage_usec ] && d=$usec; done < /sys/fs/cgroup/cpu.stat; echo $a $b $d $c";
    world.launch("cpu-rate", json!({"value": format!("sleep 3; {command}")}), more);
}

fn processors_end(world: &mut World) {
    let end = world.tasks.wait_first_end("cpu-rate", SOON).unwrap();
    assert_eq!(end["state"], "TASK_FINISHED", "{end}");
    let said = world.stdout("cpu-rate");
    let all: Vec<f64> = said.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let rate = (all[2] - all[0]) / 1e6 / (all[3] - all[1]);
    println!("   0.4 cpus: {rate:.4} over {:.1} s", all[3] - all[1]);
    assert!((rate / 0.4 - 1.0).abs() < WITHIN, "0.4 processors were {rate}");
}
