//! One look at a task: what is to be done, and what came of it.

use api::v1::network_info::Protocol;
use api::v1::{CheckInfo, CommandInfo, HealthCheck, check_info, environment, health_check};

/// Which of the two it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// `TaskInfo.check`.
    Check,
    /// `TaskInfo.health_check`.
    Health,
}

/// One look at a task.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probe {
    /// For which check.
    pub kind: Kind,
    /// To be repeated in the answer.
    pub number: u64,
    /// What to look at.
    pub target: Target,
    /// For how long; none is as long as the task lives.
    pub timeout_ms: Option<u64>,
}

/// What is looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A program beside the task, as the task's user.
    Command {
        /// The program and its arguments.
        arguments: Vec<String>,
        /// Added to what the task has.
        environment: Vec<(String, String)>,
    },
    /// GET, on the task's own loopback interface.
    Http {
        /// With TLS; whose certificate it is does not matter.
        tls: bool,
        /// IPv6 instead of IPv4.
        v6: bool,
        /// Where.
        port: u16,
        /// What.
        path: String,
    },
    /// A connection, on the task's own loopback interface.
    Tcp {
        /// IPv6 instead of IPv4.
        v6: bool,
        /// Where.
        port: u16,
    },
}

/// What a probe saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// The program ended with this; 128 and the number for one that was ended by a signal.
    Exit(i32),
    /// The last answer's status.
    Status(u16),
    /// There is somebody.
    Connected,
    /// There is nobody.
    Refused(String),
    /// It could not be found out, or not in time.
    Failed(String),
}

impl Seen {
    /// What Mesos takes for healthy.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        match self {
            Self::Exit(code) => *code == 0,
            Self::Status(code) => (200..400).contains(code),
            Self::Connected => true,
            Self::Refused(_) | Self::Failed(_) => false,
        }
    }
}

pub(super) fn of_check(check: &CheckInfo) -> Option<Target> {
    match check.r#type() {
        check_info::Type::Command => command(&check.command.as_ref()?.command),
        check_info::Type::Http => {
            let http = check.http.as_ref()?;
            let path = http.path.clone().unwrap_or_default();
            Some(Target::Http { tls: false, v6: false, port: u16::try_from(http.port).ok()?, path })
        }
        check_info::Type::Tcp => Some(Target::Tcp { v6: false, port: u16::try_from(check.tcp.as_ref()?.port).ok()? }),
        check_info::Type::Unknown => None,
    }
}

pub(super) fn of_health_check(check: &HealthCheck) -> Option<Target> {
    // Frameworks older than the type name a command or an address alone.
    let kind = match (check.r#type, &check.command, &check.http) {
        (Some(_), _, _) => check.r#type(),
        (None, Some(_), _) => health_check::Type::Command,
        (None, None, Some(_)) => health_check::Type::Http,
        (None, None, None) => return None,
    };
    let is_v6 = |protocol: Protocol| protocol == Protocol::IPv6;
    match kind {
        health_check::Type::Command => command(check.command.as_ref()?),
        health_check::Type::Http => {
            let http = check.http.as_ref()?;
            let tls = http.scheme.as_deref() == Some("https");
            let (path, port) = (http.path.clone().unwrap_or_default(), u16::try_from(http.port).ok()?);
            Some(Target::Http { tls, v6: is_v6(http.protocol()), port, path })
        }
        health_check::Type::Tcp => {
            let tcp = check.tcp.as_ref()?;
            Some(Target::Tcp { v6: is_v6(tcp.protocol()), port: u16::try_from(tcp.port).ok()? })
        }
        health_check::Type::Unknown => None,
    }
}

fn command(command: &CommandInfo) -> Option<Target> {
    let arguments = crate::launch::arguments(command).ok()?;
    let variables = command.environment.iter().flat_map(|environment| &environment.variables);
    let environment = variables
        .filter(|variable| !variable.name.contains(['\0', '=']))
        // The task has its secrets in its own environment, which is also the check's.
        .filter(|variable| variable.r#type() == environment::variable::Type::Value)
        .map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default()))
        .collect();
    Some(Target::Command { arguments, environment })
}
