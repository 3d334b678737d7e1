//! Answers the node API: what is asked comes over the session the node opened itself, so nothing listens here.

mod counters;
mod disks;
mod kernel_log;
mod network;
mod processes;

use std::time::Duration;

use agent_core::handover::PowerAction;
use api::link::{NodeCall, NodeReply};
use api::node_api::{Method, NodeRole};
use hwdetect::SysRoot;
use serde_json::{Value, json};

pub(crate) use counters::pressure;

use super::disks::Board;
use super::statistics::{self, Running};
use super::timekeeping;

use crate::uptime;

/// Between the answer and the end: the answer has to reach the master first.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(500);
/// The link takes 8 MiB; an answer is refused before it could end the session.
const LONGEST: usize = 4 << 20;

/// Whose the machine is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    /// It booted our image.
    We,
    /// It runs somebody's distribution, and an agent.
    Host,
}

/// A call that was read and is allowed.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) request: u64,
    pub(crate) method: Method,
    pub(crate) principal: String,
}

impl Asked {
    /// Reads a call, and checks what the master has checked before: a mistake there shall not be one here.
    pub(crate) fn read(call: NodeCall) -> Result<Self, NodeReply> {
        let refuse = |error: String| NodeReply { request: call.request, json: Vec::new(), error };
        let method = Method::from_name(&call.method)
            .ok_or_else(|| refuse(format!("this node does not know the method '{}'", call.method)))?;
        let role = NodeRole::from_name(&call.role).filter(|role| role.may(method));
        if role.is_none() {
            return Err(refuse(format!("the role '{}' may not ask for {method}", call.role)));
        }
        Ok(Self { request: call.request, method, principal: call.principal })
    }

    /// What is to become of the machine after the answer.
    pub(crate) const fn power(&self) -> Option<PowerAction> {
        match self.method {
            Method::Reboot | Method::Wipe => Some(PowerAction::Reboot),
            Method::PowerOff => Some(PowerAction::PowerOff),
            Method::Version
            | Method::Inventory
            | Method::Stats
            | Method::Mounts
            | Method::Links
            | Method::Routes
            | Method::Network
            | Method::Processes
            | Method::Containers
            | Method::Time
            | Method::Disks
            | Method::Dmesg => None,
        }
    }

    /// Reads what was asked for. May take a moment: not for the driver's own task.
    pub(crate) fn answer(&self, boot_id: &str, owner: Owner, running: &[Running], board: &Board) -> NodeReply {
        let result = match self.method {
            Method::Version => Ok(version(boot_id, owner)),
            Method::Inventory => {
                serde_json::to_value(hwdetect::detect(&SysRoot::host())).map_err(|error| error.to_string())
            }
            Method::Stats => counters::stats(),
            Method::Mounts => counters::mounts(),
            Method::Links => network::links(),
            Method::Routes => network::routes(),
            Method::Network => Ok(super::network::report::now()),
            Method::Processes => processes::list(),
            Method::Containers => Ok(statistics::containers(running)),
            Method::Dmesg => kernel_log::read(),
            Method::Time => Ok(timekeeping::now()),
            Method::Disks => disks::list(board),
            Method::Reboot | Method::PowerOff | Method::Wipe if owner == Owner::Host => {
                Err("this node is hosted: its machine is not ours to end".to_owned())
            }
            Method::Reboot | Method::PowerOff | Method::Wipe => Ok(json!({ "accepted": self.method.name() })),
        };
        let (json, error) = match result.map(|value| value.to_string().into_bytes()) {
            Ok(json) if json.len() > LONGEST => (Vec::new(), format!("the answer has {} bytes: too many", json.len())),
            Ok(json) => (json, String::new()),
            Err(error) => (Vec::new(), error),
        };
        NodeReply { request: self.request, json, error }
    }
}

fn version(boot_id: &str, owner: Owner) -> Value {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let image = text("/etc/os-release");
    let image = image.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"'));
    json!({
        "agent": env!("CARGO_PKG_VERSION"),
        "image": image,
        "kernel": text("/proc/sys/kernel/osrelease"),
        "kernel_build": text("/proc/sys/kernel/version"),
        "boot_id": boot_id,
        "uptime_seconds": uptime::millis() / 1000,
        "hosted": owner == Owner::Host,
    })
}

/// A file of the kernel's, or why not.
fn kernel_file(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, role: &str) -> NodeCall {
        let (method, role) = (method.to_owned(), role.to_owned());
        NodeCall { request: 7, method, role, principal: "ops".to_owned() }
    }

    #[test]
    fn the_node_checks_the_role_again() {
        assert!(Asked::read(call("version", "reader")).is_ok());
        for (method, role, said) in [
            ("power-off", "operator", "may not ask for power-off"),
            ("processes", "reader", "may not ask for processes"),
            ("version", "", "may not ask"),
            ("shell", "admin", "does not know"),
        ] {
            let refused = Asked::read(call(method, role)).unwrap_err();
            assert!(refused.error.contains(said) && refused.request == 7, "{}", refused.error);
        }
    }

    #[test]
    fn this_machine_answers_every_question_and_a_hosted_one_is_not_ended() {
        for method in Method::ALL {
            let asked = Asked::read(call(method.name(), "admin")).unwrap();
            let reply = asked.answer("boot", Owner::Host, &[], &Board::default());
            if method.changes() {
                assert!(reply.error.contains("hosted"), "{method}: {}", reply.error);
            } else if method == Method::Dmesg && !reply.error.is_empty() {
                assert!(reply.error.contains("/dev/kmsg"), "{}", reply.error); // needs a privilege a test may lack
            } else {
                assert_eq!(reply.error, "", "{method}");
                let value: Value = serde_json::from_slice(&reply.json).unwrap();
                assert!(value.is_object(), "{method}: {value}");
            }
        }
    }
}
