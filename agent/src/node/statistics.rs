//! What containers use, in the words of Mesos's `ResourceStatistics`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use agent_core::launch::{Limits, disk_limit_bytes};
use agent_core::record::{Part, Record};
use api::v1::cgroup_info::blkio::{self, Operation, throttling};
use api::v1::resource::disk_info::Persistence;
use api::v1::{ContainerId, ContainerStatus, DiskStatistics, NetworkInfo, ResourceStatistics, cgroup_info, device};
use serde_json::{Value, json};

/// One running container, as far as the driver knows it: what is read is read elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) record: Box<Record>,
    pub(crate) cgroup: PathBuf,
    pub(crate) networks: Vec<NetworkInfo>,
    /// Has interfaces of its own to count at.
    pub(crate) own_network: bool,
    pub(crate) seen: Seen,
}

/// What the last look at it found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) sandbox: Option<u64>,
    /// Persistent volumes by id: limit and use.
    pub(crate) volumes: BTreeMap<String, (u64, u64)>,
    /// Ports it listens on and was not given.
    pub(crate) ports: BTreeSet<u16>,
}

/// What Mesos's agent answers at `/containers`, as an object.
pub(crate) fn containers(running: &[Running]) -> Value {
    json!({ "containers": running.iter().map(Running::document).collect::<Vec<_>>() })
}

impl Running {
    /// The container's id, with that of its pod.
    pub(crate) fn id(&self) -> ContainerId {
        let plain = |id: &api::ContainerId| ContainerId { value: id.to_string(), ..ContainerId::default() };
        let mut id = plain(&self.record.container);
        if let Part::Member { executor, .. } = &self.record.part {
            id.parent = Some(Box::new(plain(executor)));
        }
        id
    }

    /// The container of its executor: its own, but for a task of a pod.
    pub(crate) fn executor_container(&self) -> &api::ContainerId {
        match &self.record.part {
            Part::Member { executor, .. } => executor,
            Part::Alone | Part::Executor { .. } => &self.record.container,
        }
    }

    pub(crate) fn status(&self) -> ContainerStatus {
        let record = &self.record;
        ContainerStatus {
            container_id: Some(self.id()),
            executor_pid: record.process.and_then(|process| u32::try_from(process.pid).ok()),
            network_infos: self.networks.clone(),
            ..ContainerStatus::default()
        }
    }

    fn document(&self) -> Value {
        let record = &self.record;
        json!({
            "container_id": record.container.as_str(),
            "executor_id": record.task.as_str(),
            "executor_name": record.info.name,
            "framework_id": record.framework.as_str(),
            "source": record.task.as_str(),
            "statistics": self.statistics(),
            "status": self.status(),
            "pressure": self.pressure(),
            "unallocated_ports": self.seen.ports,
        })
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.cgroup.join(file)).unwrap_or_default()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.text(file).trim().parse().ok()
    }

    pub(crate) fn statistics(&self) -> ResourceStatistics {
        let cpu = pairs(&self.text("cpu.stat"));
        let memory = pairs(&self.text("memory.stat"));
        let limits = Limits::of(&self.record.info, 0);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let swap = self.number("memory.swap.current");
        let current = self.number("memory.current");
        let small = |number: Option<&u64>| number.and_then(|number| u32::try_from(*number).ok());
        let mut statistics = ResourceStatistics {
            timestamp: since.as_secs_f64(),
            processes: count_lines(&self.text("cgroup.procs")),
            threads: self.number("pids.current").and_then(|number| u32::try_from(number).ok()),
            cpus_user_time_secs: cpu.get("user_usec").map(|usec| seconds(*usec)),
            cpus_system_time_secs: cpu.get("system_usec").map(|usec| seconds(*usec)),
            cpus_limit: limits.cpu_quota_us.map(|quota| thousandths(u64::try_from(quota).unwrap_or(0) / 100)),
            cpus_soft_limit: Some(thousandths(limits.cpu_milli)),
            cpus_nr_periods: small(cpu.get("nr_periods")),
            cpus_nr_throttled: small(cpu.get("nr_throttled")),
            cpus_throttled_time_secs: cpu.get("throttled_usec").map(|usec| seconds(*usec)),
            mem_total_bytes: current,
            mem_total_memsw_bytes: current.zip(swap).map(|(memory, swap)| memory.saturating_add(swap)),
            mem_limit_bytes: self.number("memory.max").or(limits.memory_bytes),
            mem_soft_limit_bytes: Some(limits.memory_low_bytes),
            mem_file_bytes: memory.get("file").copied(),
            mem_anon_bytes: memory.get("anon").copied(),
            mem_cache_bytes: memory.get("file").copied(),
            mem_rss_bytes: memory.get("anon").copied(),
            mem_mapped_file_bytes: memory.get("file_mapped").copied(),
            mem_swap_bytes: swap,
            mem_unevictable_bytes: memory.get("unevictable").copied(),
            disk_limit_bytes: disk_limit_bytes(&self.record.info),
            disk_used_bytes: self.seen.sandbox,
            disk_statistics: self.seen.volumes.iter().map(volume).collect(),
            blkio_statistics: blkio_statistics(&self.text("io.stat")),
            ..ResourceStatistics::default()
        };
        if self.own_network {
            self.count_packets(&mut statistics);
        }
        statistics
    }

    fn count_packets(&self, statistics: &mut ResourceStatistics) {
        let Some(process) = self.record.process else { return };
        let text = fs::read_to_string(format!("/proc/{}/net/dev", process.pid)).unwrap_or_default();
        let all = interface_counters(&text);
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped] = all;
        (statistics.net_rx_bytes, statistics.net_rx_packets) = (Some(rx_bytes), Some(rx_packets));
        (statistics.net_rx_errors, statistics.net_rx_dropped) = (Some(rx_errors), Some(rx_dropped));
        (statistics.net_tx_bytes, statistics.net_tx_packets) = (Some(tx_bytes), Some(tx_packets));
        (statistics.net_tx_errors, statistics.net_tx_dropped) = (Some(tx_errors), Some(tx_dropped));
    }

    /// How long its processes waited, in the kernel's words: Mesos has none for it.
    pub(crate) fn pressure(&self) -> Value {
        let one = |what: &str| {
            let text = self.text(&format!("{what}.pressure"));
            (!text.is_empty()).then(|| (what.to_owned(), super::node_api::pressure(&text)))
        };
        Value::Object(["cpu", "memory", "io"].into_iter().filter_map(one).collect())
    }
}

fn volume((id, (limit, used)): (&String, &(u64, u64))) -> DiskStatistics {
    DiskStatistics {
        persistence: Some(Persistence { id: id.clone(), ..Persistence::default() }),
        limit_bytes: Some(*limit),
        used_bytes: Some(*used),
        ..DiskStatistics::default()
    }
}

#[allow(clippy::cast_precision_loss)] // 2^53 microseconds are 285 years
fn seconds(usec: u64) -> f64 {
    usec as f64 / 1e6
}

#[allow(clippy::cast_precision_loss)] // processors are few
fn thousandths(number: u64) -> f64 {
    number as f64 / 1e3
}

fn count_lines(text: &str) -> Option<u32> {
    u32::try_from(text.lines().count()).ok()
}

/// `name number` lines.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(name, n)| Some((name.to_owned(), n.parse().ok()?))).collect()
}

/// `259:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn blkio_statistics(text: &str) -> Option<blkio::Statistics> {
    let one = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = words.next()?.split_once(':')?;
        let numbers: BTreeMap<&str, u64> = words
            .filter_map(|word| word.split_once('='))
            .filter_map(|(name, n)| Some((name, n.parse().ok()?)))
            .collect();
        let of = |read: &str, write: &str, discard: &str| {
            let value = |op: Operation, name: &str| blkio::Value {
                op: Some(op.into()),
                value: Some(numbers.get(name).copied().unwrap_or(0)),
            };
            vec![value(Operation::Read, read), value(Operation::Write, write), value(Operation::Discard, discard)]
        };
        Some(throttling::Statistics {
            device: Some(device::Number { major_number: major.parse().ok()?, minor_number: minor.parse().ok()? }),
            io_serviced: of("rios", "wios", "dios"),
            io_service_bytes: of("rbytes", "wbytes", "dbytes"),
        })
    };
    let throttling: Vec<throttling::Statistics> = text.lines().filter_map(one).collect();
    let all: cgroup_info::blkio::Statistics = blkio::Statistics { throttling, ..blkio::Statistics::default() };
    (!all.throttling.is_empty()).then_some(all)
}

/// Received and sent of every interface but loopback: bytes, packets, errors, dropped, and again.
fn interface_counters(text: &str) -> [u64; 8] {
    let mut sum = [0u64; 8];
    for line in text.lines().skip(2) {
        let Some((name, rest)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = rest.split_whitespace().map(|number| number.parse().unwrap_or(0)).collect();
        for (total, at) in sum.iter_mut().zip([0, 1, 2, 3, 8, 9, 10, 11]) {
            *total = total.saturating_add(numbers.get(at).copied().unwrap_or(0));
        }
    }
    sum
}

/// The cgroup of a container.
pub(crate) fn cgroup_of(parent: &str, container: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(parent.trim_start_matches('/')).join(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(cgroup: &Path) -> Running {
        let record = json!({"version": 1, "boot_id": "b", "agent": "m-S0", "framework": "f", "task": "t",
            "container": "c", "info": {"name": "web", "task_id": {"value": "t"}, "resources": [
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
                {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
                {"name": "disk", "type": "SCALAR", "scalar": {"value": 10}}]},
            "framework_info": {"user": "root", "name": "f"}, "phase": "Running", "process": null, "state": "TASK_RUNNING",
            "updates": agent_core::status::Updates::default(), "complete_by_ms": null});
        Running {
            record: serde_json::from_value(record).unwrap(),
            cgroup: cgroup.to_owned(),
            networks: Vec::new(),
            own_network: false,
            seen: Seen {
                sandbox: Some(7),
                volumes: BTreeMap::from([("v".to_owned(), (9, 8))]),
                ports: BTreeSet::from([80]),
            },
        }
    }

    #[test]
    fn the_kernels_files_become_mesoss_fields() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            (
                "cpu.stat",
                "usage_usec 3500000\nuser_usec 2500000\nsystem_usec 1000000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 250000\n",
            ),
            ("memory.stat", "anon 1000\nfile 2000\nfile_mapped 300\nunevictable 0\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "67108864\n"),
            ("memory.swap.current", "0\n"),
            ("cgroup.procs", "1\n2\n"),
            ("pids.current", "5\n"),
            ("io.stat", "259:0 rbytes=100 wbytes=200 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=12\n"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let document = containers(&[running(dir.path())]);
        let one = &document["containers"][0];
        assert_eq!(
            (&one["container_id"], &one["executor_id"], &one["executor_name"]),
            (&json!("c"), &json!("t"), &json!("web"))
        );
        let statistics = &one["statistics"];
        for (field, expected) in [
            ("cpus_user_time_secs", json!(2.5)),
            ("cpus_system_time_secs", json!(1.0)),
            ("cpus_limit", json!(0.5)),
            ("cpus_soft_limit", json!(0.5)),
            ("cpus_nr_throttled", json!(4)),
            ("cpus_throttled_time_secs", json!(0.25)),
            ("mem_rss_bytes", json!(1000)),
            ("mem_file_bytes", json!(2000)),
            ("mem_total_bytes", json!(4096)),
            ("mem_limit_bytes", json!(64 << 20)),
            ("processes", json!(2)),
            ("threads", json!(5)),
            ("disk_limit_bytes", json!(10 << 20)),
            ("disk_used_bytes", json!(7)),
        ] {
            assert_eq!(statistics[field], expected, "{field}: {statistics}");
        }
        assert_eq!(statistics["disk_statistics"][0]["persistence"]["id"], "v");
        let throttling = &statistics["blkio_statistics"]["throttling"][0];
        assert_eq!(throttling["io_service_bytes"][1], json!({"op": "WRITE", "value": 200}));
        assert_eq!(one["pressure"]["cpu"]["some"]["avg10"], 1.5);
    }

    #[test]
    fn packets_are_counted_but_those_to_oneself() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        assert_eq!(interface_counters(text), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
