//! A task that took more than it was given of something the kernel does not bound: it is ended, and told why.

use api::TaskState;
use api::v1::value::{self, Scalar};
use api::v1::{Reason, Resource, Source, TaskResourceLimitation};
use serde::{Deserialize, Serialize};

use crate::container::{Cause, Ending};
use crate::ending::Verdict;

/// What was taken.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Overrun {
    /// More of a disk than it has.
    Disk {
        /// What it was given, in bytes.
        limit: u64,
        /// What it uses.
        used: u64,
        /// Of this persistent volume, not of its sandbox.
        volume: Option<String>,
    },
    /// Ports nobody gave it.
    Ports(Vec<u16>),
    /// A persistent volume of one of its tasks is not where it belongs, or one that is no more still is.
    Volume {
        /// Where, as the container sees it.
        place: String,
        /// What is wrong.
        why: String,
    },
}

const MIB: u64 = 1 << 20;

impl Overrun {
    /// Mesos's words.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Disk { limit, used, volume } => {
                let whose = volume.as_ref().map_or_else(String::new, |id| format!(" of persistent volume '{id}'"));
                format!("Disk usage ({}MB){whose} exceeds quota ({}MB)", used.div_ceil(MIB), limit.div_ceil(MIB))
            }
            Self::Ports(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                format!("Container is listening on unallocated ports: {}", ports.join(", "))
            }
            Self::Volume { place, why } => format!("Persistent volume at '{place}': {why}"),
        }
    }

    /// How its task ended.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let (reason, resource) = match self {
            Self::Disk { used, .. } => {
                #[allow(clippy::cast_precision_loss)] // no disk has 2^53 MiB
                let scalar = Scalar { value: used.div_ceil(MIB) as f64 };
                let disk = Resource {
                    name: "disk".to_owned(),
                    r#type: value::Type::Scalar.into(),
                    scalar: Some(scalar),
                    role: Some("*".to_owned()),
                    ..Resource::default()
                };
                (Reason::ContainerLimitationDisk, disk)
            }
            Self::Ports(ports) => {
                let one = |port: &u16| value::Range { begin: (*port).into(), end: (*port).into() };
                let ports = Resource {
                    name: "ports".to_owned(),
                    r#type: value::Type::Ranges.into(),
                    ranges: Some(value::Ranges { range: ports.iter().map(one).collect() }),
                    role: Some("*".to_owned()),
                    ..Resource::default()
                };
                (Reason::ContainerLimitation, ports)
            }
            Self::Volume { .. } => {
                return Verdict {
                    state: TaskState::Failed,
                    reason: Some(Reason::ContainerUpdateFailed),
                    source: Source::Agent,
                    message: self.message(),
                    limitation: None,
                };
            }
        };
        Verdict {
            state: TaskState::Failed,
            reason: Some(reason),
            source: Source::Agent,
            message: self.message(),
            limitation: Some(Box::new(TaskResourceLimitation { resources: vec![resource] })),
        }
    }
}

/// Was it this that ended the task? One that ended by itself meanwhile ended by itself.
#[must_use]
pub fn ended_it(ending: &Ending) -> bool {
    match ending {
        Ending::Exit { cause, .. } => *cause == Some(Cause::Overrun),
        Ending::NeverStarted(_) | Ending::LaunchFailed(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_and_the_resource_are_mesoss() {
        let disk = Overrun::Disk { limit: 32 * MIB, used: 40 * MIB + 1, volume: None };
        let verdict = disk.verdict();
        assert_eq!(verdict.message, "Disk usage (41MB) exceeds quota (32MB)");
        assert_eq!(verdict.reason, Some(Reason::ContainerLimitationDisk));
        let of_volume = Overrun::Disk { limit: MIB, used: 2 * MIB, volume: Some("v".to_owned()) };
        assert!(of_volume.message().contains("of persistent volume 'v'"));
        let ports = Overrun::Ports(vec![80, 443]).verdict();
        assert_eq!(ports.message, "Container is listening on unallocated ports: 80, 443");
        assert_eq!(ports.limitation.unwrap().resources[0].ranges.as_ref().unwrap().range.len(), 2);
    }
}
