//! Mesos's names. Those of a thing that this master does not have stay at zero, so that dashboards and
//! alerts find what they look for.

/// Of `master/`, counted since the process started.
pub(super) const COUNTERS: &[&str] = &[
    "dropped_messages",
    "http_cache_hits",
    "invalid_executor_to_framework_messages",
    "invalid_framework_to_executor_messages",
    "invalid_operation_status_update_acknowledgements",
    "invalid_operation_status_updates",
    "invalid_status_update_acknowledgements",
    "invalid_status_updates",
    "messages_authenticate",
    "messages_deactivate_framework",
    "messages_decline_offers",
    "messages_executor_to_framework",
    "messages_exited_executor",
    "messages_framework_to_executor",
    "messages_kill_task",
    "messages_launch_tasks",
    "messages_operation_status_update",
    "messages_operation_status_update_acknowledgement",
    "messages_reconcile_operations",
    "messages_reconcile_tasks",
    "messages_register_framework",
    "messages_register_slave",
    "messages_reregister_framework",
    "messages_reregister_slave",
    "messages_resource_request",
    "messages_revive_offers",
    "messages_status_update",
    "messages_status_update_acknowledgement",
    "messages_suppress_offers",
    "messages_unregister_framework",
    "messages_unregister_slave",
    "messages_update_slave",
    "recovery_slave_removals",
    "slave_registrations",
    "slave_removals",
    "slave_removals/reason_registered",
    "slave_removals/reason_unhealthy",
    "slave_removals/reason_unregistered",
    "slave_reregistrations",
    "slave_shutdowns_canceled",
    "slave_shutdowns_completed",
    "slave_shutdowns_scheduled",
    "slave_unreachable_canceled",
    "slave_unreachable_completed",
    "slave_unreachable_scheduled",
    "tasks_dropped",
    "tasks_error",
    "tasks_failed",
    "tasks_finished",
    "tasks_gone",
    "tasks_gone_by_operator",
    "tasks_killed",
    "tasks_lost",
    "valid_executor_to_framework_messages",
    "valid_framework_to_executor_messages",
    "valid_operation_status_update_acknowledgements",
    "valid_operation_status_updates",
    "valid_status_update_acknowledgements",
    "valid_status_updates",
];

/// Of `master/`, as of now.
pub(super) const GAUGES: &[&str] = &[
    "elected",
    "event_queue_dispatches",
    "event_queue_http_requests",
    "event_queue_messages",
    "frameworks_active",
    "frameworks_connected",
    "frameworks_disconnected",
    "frameworks_inactive",
    "operator_event_stream_subscribers",
    "outstanding_offers",
    "slaves_active",
    "slaves_connected",
    "slaves_disconnected",
    "slaves_inactive",
    "slaves_unreachable",
    "tasks_killing",
    "tasks_running",
    "tasks_staging",
    "tasks_starting",
    "tasks_unreachable",
    "uptime_secs",
];

/// Of `master/operations/`.
pub(super) const OPERATIONS: &[&str] =
    &["create", "create_disk", "destroy", "destroy_disk", "grow_volume", "reserve", "shrink_volume", "unreserve"];

/// What can become of an operation.
pub(super) const OPERATION_STATES: &[&str] =
    &["dropped", "error", "failed", "finished", "gone_by_operator", "pending", "recovering", "total", "unreachable"];

/// Resources that are measured by name.
pub(super) const RESOURCES: [&str; 4] = ["cpus", "disk", "gpus", "mem"];

/// Does it only grow?
pub(super) fn is_counter(name: &str) -> bool {
    if name.starts_with("mesolith/") {
        return true;
    }
    if let Some(of_master) = name.strip_prefix("master/") {
        return COUNTERS.contains(&of_master);
    }
    name == "allocator/mesos/allocation_runs" || name.ends_with("_ms/count")
}
