//! Checks and health checks: have they what their type asks for?

use api::v1::{CheckInfo, CommandInfo, HealthCheck, TaskInfo, check_info, health_check};

use super::container;

/// A task's check.
pub(super) fn check(task: &TaskInfo) -> Result<(), String> {
    let Some(check) = task.check.as_deref() else { return Ok(()) };
    checked(&check.into(), "CheckInfo", "check").map_err(|error| format!("Task uses invalid check: {error}"))
}

/// A task's health check.
pub(super) fn health_check(task: &TaskInfo) -> Result<(), String> {
    let Some(check) = task.health_check.as_deref() else { return Ok(()) };
    checked(&check.into(), "HealthCheck", "health check")
        .map_err(|error| format!("Task uses invalid health check: {error}"))
}

/// The type of a health check that does not say, as the master fills it in for LAUNCH.
pub(super) fn implied(check: &HealthCheck) -> Option<health_check::Type> {
    match (&check.command, &check.http) {
        (Some(_), None) => Some(health_check::Type::Command),
        (None, Some(_)) => Some(health_check::Type::Http),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// What checks and health checks have in common, wherever each keeps it.
struct Check<'a> {
    kind: Option<&'static str>,
    command: Option<&'a CommandInfo>,
    http: Option<(Option<&'a str>, Option<&'a str>)>,
    tcp: bool,
    seconds: [(&'static str, Option<f64>); 4],
}

impl<'a> From<&'a CheckInfo> for Check<'a> {
    fn from(check: &'a CheckInfo) -> Self {
        let kind = check.r#type.and_then(|kind| check_info::Type::try_from(kind).ok());
        Self {
            kind: kind.map(|kind| kind.as_str_name()),
            command: check.command.as_ref().map(|command| &command.command),
            http: check.http.as_ref().map(|http| (None, http.path.as_deref())),
            tcp: check.tcp.is_some(),
            seconds: [
                ("delay_seconds", check.delay_seconds),
                ("grace_period_seconds", None),
                ("interval_seconds", check.interval_seconds),
                ("timeout_seconds", check.timeout_seconds),
            ],
        }
    }
}

impl<'a> From<&'a HealthCheck> for Check<'a> {
    fn from(check: &'a HealthCheck) -> Self {
        let kind = check.r#type.and_then(|kind| health_check::Type::try_from(kind).ok());
        Self {
            kind: kind.map(|kind| kind.as_str_name()),
            command: check.command.as_ref(),
            http: check.http.as_ref().map(|http| (http.scheme.as_deref(), http.path.as_deref())),
            tcp: check.tcp.is_some(),
            seconds: [
                ("delay_seconds", check.delay_seconds),
                ("grace_period_seconds", check.grace_period_seconds),
                ("interval_seconds", check.interval_seconds),
                ("timeout_seconds", check.timeout_seconds),
            ],
        }
    }
}

fn checked(check: &Check<'_>, name: &str, what: &str) -> Result<(), String> {
    match check.kind.ok_or_else(|| format!("{name} must specify 'type'"))? {
        "COMMAND" => {
            let Some(command) = check.command else {
                return Err(format!("Expecting 'command' to be set for COMMAND {what}"));
            };
            if command.value.is_none() {
                let kind = if command.shell() { "shell command" } else { "executable path" };
                return Err(format!("Command {what} must contain '{kind}'"));
            }
            let whose = if what == "check" { "Check" } else { "Health check" };
            container::command(command).map_err(|error| format!("{whose}'s `CommandInfo` is invalid: {error}"))?;
        }
        "HTTP" => {
            let (scheme, path) = check.http.ok_or_else(|| format!("Expecting 'http' to be set for HTTP {what}"))?;
            if let Some(scheme) = scheme.filter(|scheme| *scheme != "http" && *scheme != "https") {
                return Err(format!("Unsupported HTTP {what} scheme: '{scheme}'"));
            }
            if let Some(path) = path.filter(|path| !path.starts_with('/')) {
                return Err(format!("The path '{path}' of HTTP {what} must start with '/'"));
            }
        }
        "TCP" => {
            if !check.tcp {
                return Err(format!("Expecting 'tcp' to be set for TCP {what}"));
            }
        }
        other => return Err(format!("'{other}' is not a valid {what} type")),
    }
    match check.seconds.iter().find(|(_, seconds)| seconds.is_some_and(|seconds| seconds < 0.0)) {
        Some((field, _)) => Err(format!("Expecting '{field}' to be non-negative")),
        None => Ok(()),
    }
}
