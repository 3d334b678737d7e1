//! `/metrics/snapshot`: what monitoring reads of Mesos's agents, by Mesos's names.

use std::collections::BTreeMap;

use agent_core::executor::Stage;
use api::{Milli, TaskState};

use super::documents::allocated;
use super::picture::Picture;

/// Every metric.
pub(crate) fn all(picture: &Picture, now_ms: u64) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let mut put = |name: &str, value: f64| {
        metrics.insert(name.to_owned(), value);
    };
    #[allow(clippy::cast_precision_loss)] // counts and milliseconds fit 2^53 for a long while
    let number = |value: u64| value as f64;
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let used = allocated(picture);
    for name in ["cpus", "mem", "disk", "gpus"] {
        for (infix, revocable) in [("", false), ("_revocable", true)] {
            let of = |resources: &api::Resources| {
                let same = resources.filter(|one| one.name == name && one.revocable == revocable);
                same.scalars().into_values().fold(Milli::ZERO, Milli::saturating_add).units()
            };
            let (total, used) = (of(&picture.resources), of(&used));
            put(&format!("slave/{name}{infix}_total"), total);
            put(&format!("slave/{name}{infix}_used"), used);
            put(&format!("slave/{name}{infix}_percent"), if total > 0.0 { used / total } else { 0.0 });
        }
    }
    let states = |state: TaskState| {
        let tasks = picture.executors.iter().flat_map(|shown| &shown.tasks);
        count(tasks.filter(|task| task.state == state).count())
    };
    for (name, state) in [
        ("staging", TaskState::Staging),
        ("starting", TaskState::Starting),
        ("running", TaskState::Running),
        ("killing", TaskState::Killing),
    ] {
        put(&format!("slave/tasks_{name}"), states(state));
    }
    let counters = picture.counters;
    for (name, value) in [
        ("tasks_finished", counters.finished),
        ("tasks_failed", counters.failed),
        ("tasks_killed", counters.killed),
        ("tasks_lost", counters.lost),
        ("tasks_gone", counters.gone),
        ("executors_terminated", counters.executors_ended),
        ("executors_preempted", 0),
        ("container_launch_errors", counters.launch_errors),
        ("recovery_errors", 0),
        ("registered", u64::from(picture.registered)),
    ] {
        put(&format!("slave/{name}"), number(value));
    }
    put("slave/uptime_secs", number(now_ms.saturating_sub(picture.started_ms)) / 1000.0);
    let stages = |wanted: fn(&Option<Stage>) -> bool| {
        let live = picture.executors.iter().filter(|shown| !shown.is_command || !shown.tasks.is_empty());
        count(live.filter(|shown| wanted(&shown.stage)).count())
    };
    put("slave/executors_registering", stages(|stage| matches!(stage, Some(Stage::Registering))));
    put("slave/executors_running", stages(|stage| matches!(stage, None | Some(Stage::Subscribed))));
    put("slave/executors_terminating", stages(|stage| matches!(stage, Some(Stage::Terminating))));
    let mut frameworks: Vec<_> = picture.executors.iter().map(|shown| &shown.framework).collect();
    frameworks.sort();
    frameworks.dedup();
    put("slave/frameworks_active", count(frameworks.len()));
    system(&mut put);
    metrics
}

fn system(put: &mut impl FnMut(&str, f64)) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let load = read("/proc/loadavg");
    let mut averages = load.split_whitespace().map(|word| word.parse().unwrap_or(0.0));
    for name in ["load_1min", "load_5min", "load_15min"] {
        put(&format!("system/{name}"), averages.next().unwrap_or(0.0));
    }
    let memory = read("/proc/meminfo");
    let kib = |name: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    put("system/mem_total_bytes", kib("MemTotal") * 1024.0);
    put("system/mem_free_bytes", kib("MemFree") * 1024.0);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    put("system/cpus_total", f64::from(u32::try_from(cpus).unwrap_or(u32::MAX)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_node_has_every_metric_dashboards_ask_for() {
        let resources = api::Resources::parse("cpus:4;mem:1024").unwrap();
        let picture = Picture { resources, started_ms: 1_000, registered: true, ..Picture::default() };
        let metrics = all(&picture, 61_000);
        for (name, value) in [
            ("slave/cpus_total", 4.0),
            ("slave/cpus_used", 0.0),
            ("slave/mem_total", 1024.0),
            ("slave/registered", 1.0),
            ("slave/uptime_secs", 60.0),
            ("slave/tasks_running", 0.0),
            ("slave/executors_running", 0.0),
        ] {
            assert_eq!(metrics.get(name), Some(&value), "{name}");
        }
        assert!(metrics["system/mem_total_bytes"] > 0.0 && metrics["system/cpus_total"] >= 1.0);
    }
}
