//! Metrics: Mesos's names as a JSON object, and the same for Prometheus. Only what is really counted.

use std::collections::BTreeMap;
use std::fmt::Write;

use api::{Resources, TaskState};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use master_core::View;

use super::render::is_unreachable;
use super::router::Api;
use super::{json, overloaded};
use crate::clock::unix_ms;
use crate::driver::Message;

pub(super) async fn snapshot(State(api): State<Api>) -> Response {
    match api.driver.ask(Message::View).await {
        Ok(view) => json(&measure(&view, api.facts.started_ms)),
        Err(error) => overloaded(error),
    }
}

pub(super) async fn prometheus(State(api): State<Api>) -> Response {
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let mut response = Response::new(Body::from(exposition(&measure(&view, api.facts.started_ms))));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[allow(clippy::cast_precision_loss)] // counts beyond 2^53 do not occur
fn measure(view: &View, started_ms: u64) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let mut set = |name: &str, value: f64| {
        metrics.insert(format!("master/{name}"), value);
    };
    set("elected", f64::from(u8::from(view.leading)));
    set("uptime_secs", unix_ms().saturating_sub(started_ms) as f64 / 1000.0);
    let count = |count: usize| count as f64;
    let agents: Vec<_> = view.state.agents.values().collect();
    let reachable: Vec<_> = agents.iter().filter(|agent| !is_unreachable(agent)).collect();
    let connected = reachable.iter().filter(|agent| view.connected_agents.contains(&agent.id)).count();
    set("slaves_connected", count(connected));
    set("slaves_active", count(connected));
    set("slaves_disconnected", count(reachable.len() - connected));
    set("slaves_inactive", count(reachable.len() - connected));
    set("slaves_unreachable", count(agents.len() - reachable.len()));
    let frameworks = view.state.frameworks.len();
    let subscribed = view.connected_frameworks.len();
    set("frameworks_connected", count(subscribed));
    set("frameworks_active", count(subscribed));
    set("frameworks_disconnected", count(frameworks.saturating_sub(subscribed)));
    set("frameworks_inactive", count(frameworks.saturating_sub(subscribed)));
    set("outstanding_offers", count(view.offers.len()));
    let (mut total, mut used) = (Resources::default(), Resources::default());
    reachable.iter().for_each(|agent| total.add_all(&agent.resources));
    let mut states: BTreeMap<TaskState, usize> = BTreeMap::new();
    for task in view.state.tasks() {
        *states.entry(task.state).or_default() += 1;
        if task.holds_resources() {
            used.add_all(&task.resources);
        }
    }
    for name in ["cpus", "mem", "disk", "gpus"] {
        let (total, used) = (total.scalar(name).units(), used.scalar(name).units());
        set(&format!("{name}_total"), total);
        set(&format!("{name}_used"), used);
        set(&format!("{name}_percent"), if total > 0.0 { used / total } else { 0.0 });
    }
    // Gauges of what is there now; what has ended is counted since the process started.
    for (name, state) in [
        ("staging", TaskState::Staging),
        ("starting", TaskState::Starting),
        ("running", TaskState::Running),
        ("killing", TaskState::Killing),
        ("unreachable", TaskState::Unreachable),
    ] {
        set(&format!("tasks_{name}"), count(states.get(&state).copied().unwrap_or(0)));
    }
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
        ("messages_status_update_acknowledgement", counters.acknowledgements),
        ("valid_status_updates", counters.status_updates),
    ] {
        set(name, value as f64);
    }
    metrics.insert("allocator/mesos/allocation_runs".to_owned(), counters.allocation_runs as f64);
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
        metrics.insert(format!("mesolith/{name}"), value as f64);
    }
    metrics
}

/// `master/tasks_running` becomes `mesos_master_tasks_running`, ours `mesolith_…`.
fn exposition(metrics: &BTreeMap<String, f64>) -> String {
    metrics.iter().fold(String::new(), |mut text, (name, value)| {
        let flat: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let prefix = if flat.starts_with("mesolith_") { "" } else { "mesos_" };
        let is_counter = flat.starts_with("mesolith_")
            || [
                "finished",
                "failed",
                "killed",
                "lost",
                "error",
                "registrations",
                "runs",
                "completed",
                "updates",
                "ment",
            ]
            .iter()
            .any(|end| flat.ends_with(end));
        let kind = if is_counter { "counter" } else { "gauge" };
        writeln!(text, "# TYPE {prefix}{flat} {kind}\n{prefix}{flat} {value}").expect("a String takes every write");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_prometheus_names() {
        let metrics = BTreeMap::from([("master/tasks_running".to_owned(), 2.0), ("mesolith/calls".to_owned(), 3.0)]);
        let text = exposition(&metrics);
        assert!(text.contains("# TYPE mesos_master_tasks_running gauge\nmesos_master_tasks_running 2\n"));
        assert!(text.contains("# TYPE mesolith_calls counter\nmesolith_calls 3\n"));
    }
}
