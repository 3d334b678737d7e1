//! What the numbers are.

use std::collections::BTreeMap;

use api::{Milli, Resource, Resources, TaskState};
use master_core::View;

use super::names::{COUNTERS, GAUGES, OPERATION_STATES, OPERATIONS, RESOURCES};
use crate::clock::unix_ms;
use crate::http::legacy::load::Load;
use crate::http::render::agent::{is_registered, is_unreachable};
use crate::timings;

/// What the state does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Milliseconds since 1970.
    pub(crate) started_ms: u64,
    /// Answers that were given to more than one.
    pub(crate) shared_reads: u64,
    /// Of the operator API's events.
    pub(crate) watchers: u64,
}

/// Everything, by Mesos's names.
#[allow(clippy::cast_precision_loss)] // counts beyond 2^53 do not occur
pub(crate) fn measure(view: &View, measured: &Measured) -> BTreeMap<String, f64> {
    let mut metrics = Metrics::default();
    metrics.set("master/elected", u64::from(view.leading));
    metrics.value("master/uptime_secs", unix_ms().saturating_sub(measured.started_ms) as f64 / 1000.0);
    metrics.set("master/operator_event_stream_subscribers", measured.watchers);
    metrics.set("master/http_cache_hits", measured.shared_reads);
    metrics.set("master/outstanding_offers", view.offers.len() as u64);
    agents(view, &mut metrics);
    frameworks(view, &mut metrics);
    tasks_and_resources(view, &mut metrics);
    counters(view, &mut metrics);
    allocator(view, &mut metrics);
    system(&mut metrics);
    metrics.timer("registrar/state_store_ms", &timings::STATE_STORE);
    metrics.set("registrar/log/recovered", u64::from(view.leading));
    for name in ["registrar/queued_operations", "registrar/registry_size_bytes", "registrar/state_fetch_ms"] {
        metrics.unless_known(name);
    }
    for name in COUNTERS.iter().chain(GAUGES) {
        metrics.unless_known(&format!("master/{name}"));
    }
    for state in OPERATION_STATES {
        metrics.unless_known(&format!("master/operations/{state}"));
        for operation in OPERATIONS {
            metrics.unless_known(&format!("master/operations/{operation}/{state}"));
        }
    }
    metrics.0
}

/// What Mesos has no name for.
pub(crate) fn own() -> BTreeMap<String, f64> {
    let mut metrics = Metrics::default();
    metrics.timer("mesolith/log_sync_ms", &timings::LOG_SYNC);
    metrics.0
}

#[derive(Default)]
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn value(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), value);
    }

    #[allow(clippy::cast_precision_loss)] // counts beyond 2^53 do not occur
    fn set(&mut self, name: &str, count: u64) {
        self.value(name, count as f64);
    }

    fn unless_known(&mut self, name: &str) {
        if !self.0.contains_key(name) {
            self.value(name, 0.0);
        }
    }

    fn timer(&mut self, name: &str, timer: &timings::Timer) {
        let summary = timer.summary();
        self.value(name, summary.last);
        self.set(&format!("{name}/count"), summary.count);
        for (suffix, value) in summary.statistics() {
            self.value(&format!("{name}/{suffix}"), value);
        }
    }
}

fn agents(view: &View, metrics: &mut Metrics) {
    let mut reachable = 0;
    let (mut connected, mut active) = (0, 0);
    for agent in view.state.agents.values().filter(|agent| is_registered(agent)) {
        reachable += 1;
        if view.connected_agents.contains(&agent.id) {
            connected += 1;
            active += u64::from(!agent.deactivated);
        }
    }
    metrics.set("master/slaves_connected", connected);
    metrics.set("master/slaves_disconnected", reachable - connected);
    metrics.set("master/slaves_active", active);
    metrics.set("master/slaves_inactive", reachable - active);
    let unreachable = view.state.agents.values().filter(|agent| is_unreachable(agent)).count();
    metrics.set("master/slaves_unreachable", unreachable as u64);
}

fn frameworks(view: &View, metrics: &mut Metrics) {
    let (all, connected) = (view.state.frameworks.len() as u64, view.connected_frameworks.len() as u64);
    metrics.set("master/frameworks_connected", connected);
    metrics.set("master/frameworks_active", connected);
    metrics.set("master/frameworks_disconnected", all.saturating_sub(connected));
    metrics.set("master/frameworks_inactive", all.saturating_sub(connected));
    for framework in view.state.frameworks.values() {
        let prefix = format!("master/frameworks/{}/{}", normalized(&framework.info.name), framework.id);
        metrics.set(&format!("{prefix}/subscribed"), u64::from(view.connected_frameworks.contains(&framework.id)));
        for role in framework.info.effective_roles() {
            let is_suppressed = framework.suppressed_roles.contains(&role);
            metrics.set(&format!("{prefix}/roles/{role}/suppressed"), u64::from(is_suppressed));
        }
        let mut active = [0_u64; ACTIVE.len()];
        for task in framework.tasks.values() {
            if let Some(at) = ACTIVE.iter().position(|state| *state == task.state) {
                active[at] += 1;
            }
        }
        for (state, count) in ACTIVE.iter().zip(active) {
            metrics.set(&format!("{prefix}/tasks/active/{}", state.name().to_ascii_lowercase()), count);
        }
    }
}

const ACTIVE: [TaskState; 6] = [
    TaskState::Killing,
    TaskState::Running,
    TaskState::Staging,
    TaskState::Starting,
    TaskState::Unknown,
    TaskState::Unreachable,
];

/// Mesos leaves letters, digits and a few signs of a framework's name.
fn normalized(name: &str) -> String {
    name.chars().map(|c| if c.is_whitespace() || c == '/' { '_' } else { c }).collect()
}

fn tasks_and_resources(view: &View, metrics: &mut Metrics) {
    let (mut used, mut used_revocable) = (Sums::default(), Sums::default());
    let mut states: BTreeMap<TaskState, u64> = BTreeMap::new();
    for task in view.state.tasks() {
        *states.entry(task.state).or_default() += 1;
    }
    for held in view.state.holdings() {
        used.add(held.resources, is_steady);
        used_revocable.add(held.resources, is_revocable);
    }
    for (name, state) in [
        ("staging", TaskState::Staging),
        ("starting", TaskState::Starting),
        ("running", TaskState::Running),
        ("killing", TaskState::Killing),
        ("unreachable", TaskState::Unreachable),
    ] {
        metrics.set(&format!("master/tasks_{name}"), states.get(&state).copied().unwrap_or(0));
    }
    let (mut total, mut total_revocable) = (Sums::default(), Sums::default());
    for agent in view.state.agents.values().filter(|agent| is_registered(agent)) {
        total.add(&agent.resources, is_steady);
        total_revocable.add(&agent.resources, is_revocable);
    }
    let (mut offered, mut in_use) = (Sums::default(), used.clone());
    view.offers.values().for_each(|offer| offered.add(&offer.resources, is_steady));
    in_use.0.iter_mut().zip(offered.0).for_each(|(sum, more)| *sum += more);
    for (at, name) in RESOURCES.iter().enumerate() {
        for (suffix, total, used) in [("", &total, &used), ("_revocable", &total_revocable, &used_revocable)] {
            let (total, used) = (Milli(total.0[at]).units(), Milli(used.0[at]).units());
            metrics.value(&format!("master/{name}{suffix}_total"), total);
            metrics.value(&format!("master/{name}{suffix}_used"), used);
            metrics.value(&format!("master/{name}{suffix}_percent"), if total > 0.0 { used / total } else { 0.0 });
        }
        // As in Mesos, of what somebody has.
        if total.0[at] == 0 && in_use.0[at] == 0 && *name == "gpus" {
            continue;
        }
        let prefix = format!("allocator/mesos/resources/{name}");
        metrics.value(&format!("{prefix}/total"), Milli(total.0[at]).units());
        metrics.value(&format!("{prefix}/offered_or_allocated"), Milli(in_use.0[at]).units());
    }
}

const fn is_revocable(resource: &Resource) -> bool {
    resource.revocable
}

const fn is_steady(resource: &Resource) -> bool {
    !resource.revocable
}

/// Of [`RESOURCES`], in thousandths.
#[derive(Clone, Default)]
struct Sums([u64; RESOURCES.len()]);

impl Sums {
    fn add(&mut self, resources: &Resources, wanted: fn(&Resource) -> bool) {
        for resource in resources.iter().filter(|resource| wanted(resource)) {
            if let api::ResourceValue::Scalar(amount) = resource.value
                && let Some(at) = RESOURCES.iter().position(|name| *name == resource.name)
            {
                self.0[at] = self.0[at].saturating_add(amount.0);
            }
        }
    }
}

fn counters(view: &View, metrics: &mut Metrics) {
    let counters = &view.counters;
    for (name, value) in [
        ("tasks_finished", counters.tasks_finished),
        ("tasks_failed", counters.tasks_failed),
        ("tasks_killed", counters.tasks_killed),
        ("tasks_lost", counters.tasks_lost),
        ("tasks_error", counters.tasks_error),
        ("slave_registrations", counters.agents_registered),
        ("slave_reregistrations", counters.agents_reregistered),
        ("slave_unreachable_completed", counters.agents_unreachable),
        ("slave_unreachable_scheduled", counters.agents_unreachable),
        ("messages_register_slave", counters.agents_registered),
        ("messages_reregister_slave", counters.agents_reregistered),
        ("messages_status_update", counters.status_updates),
        ("messages_status_update_acknowledgement", counters.acknowledgements),
        ("valid_status_updates", counters.status_updates),
        ("valid_status_update_acknowledgements", counters.acknowledgements),
    ] {
        metrics.set(&format!("master/{name}"), value);
    }
    for (name, value) in [
        ("calls", counters.calls),
        ("calls_refused", counters.calls_refused),
        ("offers_made", counters.offers_made),
        ("offers_accepted", counters.offers_accepted),
        ("offers_declined", counters.offers_declined),
        ("offers_rescinded", counters.offers_rescinded),
        ("tasks_launched", counters.tasks_launched),
        ("commands_committed", counters.commands_committed),
    ] {
        metrics.set(&format!("mesolith/{name}"), value);
    }
}

fn allocator(view: &View, metrics: &mut Metrics) {
    metrics.set("allocator/mesos/allocation_runs", view.counters.allocation_runs);
    metrics.timer("allocator/mesos/allocation_run_ms", &timings::ALLOCATION_RUN);
    metrics.timer("allocator/mesos/allocation_run_latency_ms", &timings::ALLOCATION_LATENCY);
    metrics.unless_known("allocator/event_queue_dispatches");
    metrics.unless_known("allocator/mesos/event_queue_dispatches");
    for quota in view.state.quotas.values() {
        for (kind, amounts) in [("guarantee", &quota.guarantees), ("limit", &quota.limits)] {
            for (name, amount) in amounts {
                let name = format!("allocator/mesos/quota/roles/{}/resources/{name}/{kind}", quota.role);
                metrics.value(&name, amount.units());
            }
        }
    }
}

fn system(metrics: &mut Metrics) {
    let load = Load::read();
    metrics.set("system/cpus_total", load.cpus);
    for (name, average) in ["1min", "5min", "15min"].iter().zip(load.averages) {
        metrics.value(&format!("system/load_{name}"), average);
    }
    metrics.set("system/mem_free_bytes", load.memory_free_bytes);
    metrics.set("system/mem_total_bytes", load.memory_total_bytes);
}

#[cfg(test)]
mod tests {
    use master_core::{Config, Master, State};

    use super::*;

    #[test]
    fn every_name_of_mesos_is_there() {
        let mut master = Master::new(Config::default(), State::default());
        let metrics = measure(&master.view(), &Measured { started_ms: 0, shared_reads: 7, watchers: 1 });
        for name in [
            "master/elected",
            "master/tasks_gone_by_operator",
            "master/cpus_revocable_percent",
            "master/operations/grow_volume/recovering",
            "master/slave_removals/reason_unhealthy",
            "allocator/mesos/allocation_run_ms/p9999",
            "allocator/mesos/allocation_run_latency_ms/min",
            "allocator/mesos/resources/disk/offered_or_allocated",
            "registrar/state_store_ms/p50",
            "system/load_15min",
        ] {
            assert!(metrics.contains_key(name), "{name}");
        }
        assert!((metrics["master/http_cache_hits"] - 7.0).abs() < f64::EPSILON);
        assert!(metrics["system/mem_total_bytes"] > 0.0);
    }
}
