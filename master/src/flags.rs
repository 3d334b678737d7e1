//! What `/flags` says: the names of Mesos's flags, with what is in force here.
//!
//! Tools read some of them (work directory, intervals, what asks for credentials). A flag of something
//! this master does in another way says what it comes to; of something it does not have, that it is off.

use std::collections::BTreeMap;
use std::time::Duration;

use master_core::state::{
    MAX_COMPLETED_FRAMEWORKS, MAX_COMPLETED_TASKS, MAX_UNREACHABLE_AGENTS, MAX_UNREACHABLE_TASKS,
};

use crate::config::Config;

/// The times that are no options of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Between pings of an agent.
    pub(crate) ping: Duration,
    /// From a start to the log being read.
    pub(crate) fetch: Duration,
    /// From a connection to a registration.
    pub(crate) register: Duration,
}

/// All, by name.
pub(crate) fn flags(config: &Config, core: &master_core::Config, times: Times) -> BTreeMap<String, String> {
    let enforced = config.access.enforced;
    let pings = config.agent_timeout.as_secs_f64() / times.ping.as_secs_f64();
    let mut flags: BTreeMap<&str, String> = BTreeMap::from([
        ("agent_ping_timeout", spelled(times.ping)),
        ("agent_reregister_timeout", spelled(core.reregister_timeout)),
        ("allocation_interval", spelled(config.allocation_interval)),
        ("authenticate_frameworks", enforced.frameworks.to_string()),
        ("authenticate_http_frameworks", enforced.frameworks.to_string()),
        ("authenticate_http_readonly", enforced.readonly.to_string()),
        ("authenticate_http_readwrite", enforced.readwrite.to_string()),
        ("authentication_v0_timeout", spelled(times.register)),
        ("hostname", config.advertise.clone()),
        ("max_agent_ping_timeouts", format!("{:.0}", pings.ceil())),
        ("max_completed_frameworks", MAX_COMPLETED_FRAMEWORKS.to_string()),
        ("max_completed_tasks_per_framework", MAX_COMPLETED_TASKS.to_string()),
        ("max_operator_event_stream_subscribers", config.access.event_streams.to_string()),
        ("max_unreachable_tasks_per_framework", MAX_UNREACHABLE_TASKS.to_string()),
        ("port", core.port.to_string()),
        ("registry_fetch_timeout", spelled(times.fetch)),
        ("registry_max_agent_count", MAX_UNREACHABLE_AGENTS.to_string()),
        ("work_dir", config.data.display().to_string()),
    ]);
    flags.extend(FIXED.iter().map(|(name, value)| (*name, (*value).to_owned())));
    if let Some(name) = &config.name {
        flags.insert("cluster", name.clone());
    }
    flags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What nobody can choose here.
const FIXED: [(&str, &str); 33] = [
    ("allocator", "HierarchicalDRF"),
    ("allocator_agent_recovery_factor", "0"), // offers are made as agents come back
    ("allocator_recovery_timeout", "0ns"),
    ("authenticate_agents", "true"), // by certificate, always
    ("authenticators", "x509"),
    ("authorizers", "local"),
    ("filter_gpu_resources", "true"),
    ("framework_sorter", "drf"),
    ("help", "false"),
    ("hostname_lookup", "false"),
    ("http_authenticators", "basic"),
    ("initialize_driver_logging", "true"),
    ("log_auto_initialize", "true"),
    ("logbufsecs", "0"),
    ("logging_level", "INFO"),
    ("memory_profiling", "false"),
    ("min_allocatable_resources", "cpus:0.01|mem:32"),
    ("offer_constraints_re2_max_mem", "64KB"),
    ("offer_constraints_re2_max_program_size", "4096"),
    ("publish_per_framework_metrics", "true"),
    ("quiet", "false"),
    ("recovery_agent_removal_limit", "100%"),
    ("registry", "replicated_log"),
    ("registry_gc_interval", "0ns"),             // at once, when there are too many
    ("registry_max_agent_age", "15250.28weeks"), // never by age: Mesos's longest duration
    ("registry_store_timeout", "30secs"),
    ("registry_strict", "false"),
    ("require_agent_domain", "false"),
    ("role_sorter", "drf"),
    ("root_submissions", "true"),
    ("version", "false"),
    ("webui_dir", ""),
    ("zk_session_timeout", "0ns"),
];

/// A duration in Mesos's spelling: the largest unit that gives a whole number.
fn spelled(duration: Duration) -> String {
    const UNITS: [(&str, u128); 7] = [
        ("weeks", 604_800_000_000_000),
        ("days", 86_400_000_000_000),
        ("hrs", 3_600_000_000_000),
        ("mins", 60_000_000_000),
        ("secs", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
    ];
    let nanos = duration.as_nanos();
    let unit = UNITS.iter().find(|(_, length)| nanos > 0 && nanos.is_multiple_of(*length));
    unit.map_or_else(|| format!("{nanos}ns"), |(name, length)| format!("{}{name}", nanos / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelled_as_mesos_spells_them() {
        for (millis, spelling) in [(0, "0ns"), (250, "250ms"), (1000, "1secs"), (90_000, "90secs"), (600_000, "10mins")]
        {
            assert_eq!(spelled(Duration::from_millis(millis)), spelling);
        }
        assert_eq!(spelled(Duration::from_nanos(1_500)), "1500ns");
        assert_eq!(spelled(Duration::from_secs(14 * 86_400)), "2weeks");
    }
}
