//! The words between `init`, `launcher` and `agent`: versioned, because each can be replaced while
//! the others stay.
//!
//! Both `init` and `launcher` listen on a `SOCK_SEQPACKET` Unix socket. One packet is one message in
//! JSON, at most [`MAX_PACKET`] bytes; file descriptors ride along as `SCM_RIGHTS`. The peer's
//! credentials must be root's. A client sends [`Hello`] first and is answered with a [`Welcome`]; a
//! version the server does not know is refused by name, never guessed. Fields may be added to any
//! message; readers ignore fields they do not know. A field that changes meaning raises [`VERSION`].
//!
//! What survives what: `init` never ends, so exit statuses and stored descriptors live there.
//! `launcher` keeps container state in files, so it may be restarted. `agent` keeps checkpoints in
//! files and asks both for the rest.

use serde::{Deserialize, Serialize};

/// The version of these messages.
pub const VERSION: u32 = 1;
/// The longest packet either side sends; container specifications travel as files.
pub const MAX_PACKET: usize = 128 * 1024;
/// Where `init` listens.
pub const INIT_SOCKET: &str = "/run/mesolith/init.sock";
/// Where `launcher` listens.
pub const LAUNCHER_SOCKET: &str = "/run/mesolith/launcher.sock";

/// How many launchers a node has at most. The socket of another is called `launcher-2.sock`. Each can do what is asked of
/// any container, but after its own end removes only what it has left half made itself.
pub const LAUNCHERS: usize = 2;

/// Which of so many launchers makes a container: the same one every time.
#[must_use]
pub fn launcher_of(container: &str, launchers: usize) -> usize {
    // FNV-1a, because its answer has to be the same in every version.
    let hash = container
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // Stirred once more: of names that differ in their last letters only, a part of the bits would be the same.
    let stirred = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let spread = usize::try_from(stirred >> 33).unwrap_or(0);
    spread.checked_rem(launchers).unwrap_or(0)
}

/// The first packet of a connection.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// What the client speaks.
    pub version: u32,
    /// `agent`, for the log.
    pub client: String,
}

/// The answer to [`Hello`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Welcome {
    /// Go on.
    Ready {
        /// What the server speaks.
        version: u32,
    },
    /// The connection ends.
    Refused {
        /// Why, for a person.
        reason: String,
    },
}

/// What the agent asks of `init`. Each request carries a number its reply repeats.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct InitCall {
    /// Chosen by the client.
    pub id: u64,
    /// What to do.
    pub request: InitRequest,
}

/// See [`InitCall`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum InitRequest {
    /// Keep the exit status of this child until acknowledged. Exits of children nobody claims are
    /// kept too, for [`UNCLAIMED_SECS`], because a container may end before its pid was told.
    Claim {
        /// The child.
        pid: i32,
    },
    /// Send every status kept now, and each new one as it comes, as [`InitMessage::Exited`].
    WatchExits,
    /// The status has been made durable elsewhere: forget it.
    AcknowledgeExit {
        /// From [`Exit::sequence`].
        sequence: u64,
    },
    /// Keep the descriptor sent with this packet under a name (replaces one of the same name).
    StoreDescriptor {
        /// Chosen by the client, at most 255 bytes. At most [`MAX_DESCRIPTORS`] are kept.
        name: String,
    },
    /// Send a duplicate of the descriptor of that name.
    FetchDescriptor {
        /// As stored.
        name: String,
    },
    /// Close the stored descriptor.
    DropDescriptor {
        /// As stored.
        name: String,
    },
    /// The names of all stored descriptors.
    ListDescriptors,
    /// The agent makes progress. Without one for the watchdog's timeout, `init` stops feeding it.
    Alive,
    /// A line for the console's status page.
    Status {
        /// One line, at most 200 characters.
        line: String,
    },
    /// What the consoles' status page shows from now on.
    Page {
        /// At most [`PAGE_LINES`] lines.
        lines: Vec<String>,
    },
    /// The service that sends this has finished starting; what waits for it may start.
    Ready,
    /// Sync, unmount and end the machine.
    Power(PowerAction),
    /// What runs: pids and restarts of init's services, uptime, kept exits.
    Describe,
}

/// Lines of the status page.
pub const PAGE_LINES: usize = 16;
/// How long an unclaimed exit status is kept.
pub const UNCLAIMED_SECS: u64 = 60;
/// How many descriptors `init` keeps; storing another is refused.
pub const MAX_DESCRIPTORS: usize = 1024;
/// How many exit statuses `init` keeps; beyond it the oldest unclaimed one is dropped and counted.
pub const MAX_EXITS: usize = 65_536;

/// How the machine ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum PowerAction {
    Reboot,
    PowerOff,
}

/// What `init` sends.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum InitMessage {
    /// The answer to the call of that number.
    Reply {
        /// From [`InitCall::id`].
        id: u64,
        /// What came of it.
        reply: InitReply,
    },
    /// A child ended. Repeated on every [`InitRequest::WatchExits`] until acknowledged.
    Exited(Exit),
}

/// See [`InitMessage::Reply`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum InitReply {
    /// Done. For `FetchDescriptor` the descriptor rides along.
    Done,
    /// Not done.
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// To `ListDescriptors`.
    Descriptors(Vec<String>),
    /// To `Describe`.
    Description {
        /// Name, pid (0 when not running), restarts.
        services: Vec<(String, i32, u32)>,
        /// Seconds since boot.
        uptime_secs: u64,
        /// Statuses not yet acknowledged.
        kept_exits: usize,
    },
}

/// One ended child.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// Counts up over init's life; never reused.
    pub sequence: u64,
    /// Whose.
    pub pid: i32,
    /// How it ended.
    pub status: ExitStatus,
    /// When it was reaped, milliseconds since boot.
    pub uptime_ms: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// exit(2) with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// What the agent asks of `launcher`, one call at a time, answered in order.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum LauncherRequest {
    /// Make the container's namespaces, cgroup and root; its process waits.
    Create {
        /// The container id, also the name of its state directory.
        container: String,
        /// Directory with `config.json` (OCI runtime specification).
        bundle: String,
        /// Files the process gets as stdout and stderr; opened for appending, made if missing.
        stdout: String,
        /// See `stdout`.
        stderr: String,
    },
    /// Let the waiting process go.
    Start {
        /// Which.
        container: String,
    },
    /// Signal the container's first process.
    Kill {
        /// Which.
        container: String,
        /// Signal number.
        signal: i32,
    },
    /// SIGKILL for everything in the container's cgroup (cgroup.kill).
    KillAll {
        /// Which.
        container: String,
    },
    /// Remove what `Create` made; with processes left, they are killed first. Not knowing the
    /// container is success.
    Delete {
        /// Which.
        container: String,
    },
    /// Every container there is.
    List,
}

/// The answer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum LauncherReply {
    /// To `Create`.
    Created {
        /// The first process, a child of `init`.
        pid: i32,
    },
    /// To everything else that went well.
    Done,
    /// To `List`.
    Containers(Vec<ContainerState>),
    /// Not done; nothing is left of a failed `Create`.
    Failed {
        /// The whole chain of causes, for a person.
        reason: String,
    },
}

/// One container the launcher knows.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its id.
    pub container: String,
    /// Its first process, if it was made.
    pub pid: Option<i32>,
    /// `creating`, `created`, `running`, `stopped`.
    pub status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_peers_extra_fields_are_ignored() {
        let hello: Hello = serde_json::from_str(r#"{"version":1,"client":"agent","mood":"good"}"#).unwrap();
        assert_eq!(hello, Hello { version: 1, client: "agent".to_owned() });
    }

    #[test]
    fn containers_are_shared_evenly_and_always_alike() {
        assert_eq!((launcher_of("a", 0), launcher_of("a", 1)), (0, 0));
        let of_first = (0..1000).filter(|number| launcher_of(&format!("container-{number}"), 2) == 0).count();
        assert!((400..600).contains(&of_first), "{of_first}");
        assert_eq!(launcher_of("00000000-0000-4000-8000-000000000000", 2), 0);
    }

    #[test]
    fn messages_round_trip() {
        let exit = Exit { sequence: 7, pid: 42, status: ExitStatus::Signal(9), uptime_ms: 1 };
        let text = serde_json::to_string(&InitMessage::Exited(exit)).unwrap();
        assert_eq!(serde_json::from_str::<InitMessage>(&text).unwrap(), InitMessage::Exited(exit));
        let call = InitCall { id: 1, request: InitRequest::Power(PowerAction::Reboot) };
        assert_eq!(serde_json::from_str::<InitCall>(&serde_json::to_string(&call).unwrap()).unwrap(), call);
    }
}
