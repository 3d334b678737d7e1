//! The command line.

use crate::rules::disks::WrittenDisks;
use std::path::PathBuf;
use std::time::Duration;

use api::node_api::Method;
use clap::{Args, Parser, Subcommand};

/// Looks at a Mesolith cluster and runs tasks on it.
#[derive(Debug, Parser)]
#[command(name = "mesolith", version, propagate_version = true, disable_version_flag = false)]
pub(crate) struct Options {
    /// HOST:PORT or URL of the master [default: the rack of ./.lab/status.json if there is one, else 127.0.0.1:5050]
    #[arg(long, global = true, env = "MESOLITH_MASTER", value_name = "ADDRESS")]
    pub(crate) master: Option<String>,
    /// The cluster's CA certificate (ca.pem in the master's data directory): use https and trust only it
    #[arg(long, global = true, env = "MESOLITH_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The principal and secret to log in with (api-credentials.json in the master's data directory)
    #[arg(long, global = true, env = "MESOLITH_CREDENTIALS", value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// Print JSON for machines instead of tables for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The nodes, what they have and what of it is used
    Nodes {
        /// Only those for which this holds: comparisons of attributes (and of name, state, cpus, mem, disk, gpus,
        /// tasks) with == != < <= > >= =~ has, joined by && || ! and parentheses
        #[arg(long = "where", value_name = "CONDITION")]
        condition: Option<String>,
    },
    /// Ask a node through the master what it sees at this moment, or end its machine
    Node {
        /// Its name, agent id or address
        node: String,
        /// version, inventory, stats, mounts, links, routes, network, time, disks (role reader); processes, containers, dmesg, reboot
        /// (operator); power-off, wipe (admin)
        #[arg(value_parser = method)]
        method: Method,
        #[command(flatten)]
        network: NetworkChange,
    },
    /// What the containers of tasks use at this moment, asked of the nodes (role operator)
    Stats {
        /// Only this one: its name, agent id or address
        node: Option<String>,
    },
    /// What you know of nodes that they do not know themselves: rules that set attributes
    Rules {
        #[command(subcommand)]
        what: Box<Rules>,
    },
    /// Say which machines belong to the cluster: by name, or all for which a condition holds, now or from now on
    Claim(Claim),
    /// The machines that belong to the cluster and the rules that say so
    Claims {
        /// Forget the rule of this name; what it claimed stays claimed
        #[arg(long, value_name = "NAME")]
        remove_rule: Option<String>,
    },
    /// Take a node out of the cluster for good: its tasks end, its keys are wiped and open nothing any more
    Retire {
        /// Its name
        node: String,
    },
    /// Make a node forget all it keeps, boot and join anew; it stays claimed
    Reprovision {
        /// Its name
        node: String,
    },
    /// Who vouches for nodes and masters, and how another takes its place
    Authority {
        /// [default: show it]
        #[command(subcommand)]
        change: Option<AuthorityChange>,
    },
    /// What nodes found of boots that ended badly: the last words of kernels
    Crashes {
        /// Only of this node
        node: Option<String>,
        /// Show the whole text of the report with this id
        #[arg(long, value_name = "ID")]
        text: Option<String>,
    },
    /// What tasks name instead of holding it themselves: names are shown, values never again
    Secrets {
        #[command(subcommand)]
        what: Secrets,
    },
    /// The tasks that are not over
    Tasks {
        /// Also those that are
        #[arg(long)]
        all: bool,
    },
    /// The frameworks that are subscribed
    Frameworks {
        /// Also those that are gone
        #[arg(long)]
        all: bool,
    },
    /// The offers frameworks hold at this moment
    Offers,
    /// The output of a task, or the log of a node
    Logs(Logs),
    /// What is in the sandbox of a task
    Files(Files),
    /// Run a program beside a task, in its container and as its user, and exit with its status
    Exec(Exec),
    /// Show what a task writes from now on, until it ends
    Attach(Attach),
    /// What a node is made of, and its attributes with where they are from
    Hw {
        /// Its name, agent id or address
        node: String,
    },
    /// Run a command on some node, show its output and exit with its status
    Run(Run),
    /// Remove a framework and kill its tasks
    Teardown {
        /// Its id, or its name if only one has it
        framework: String,
    },
    /// The masters, who of them leads, and how far the others are; or another set of them
    Masters {
        /// [default: show them]
        #[command(subcommand)]
        change: Option<MastersChange>,
    },
    /// The versions of this program and of the master
    Version,
}

impl Verb {
    /// What we exit with when we fail ourselves: for `run` a code of its own, as its others are the task's.
    pub(crate) const fn failure_code(&self) -> u8 {
        match self {
            Self::Run(_) | Self::Exec(_) => 125,
            Self::Nodes { .. }
            | Self::Node { .. }
            | Self::Stats { .. }
            | Self::Rules { .. }
            | Self::Claim(_)
            | Self::Claims { .. }
            | Self::Retire { .. }
            | Self::Reprovision { .. }
            | Self::Crashes { .. }
            | Self::Authority { .. }
            | Self::Secrets { .. }
            | Self::Tasks { .. }
            | Self::Frameworks { .. }
            | Self::Offers
            | Self::Logs(_)
            | Self::Files(_)
            | Self::Attach(_)
            | Self::Hw { .. }
            | Self::Teardown { .. }
            | Self::Masters { .. }
            | Self::Version => 1,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum MastersChange {
    /// Make a token, and show what to run on the machine that is to be one more master
    Add,
    /// Give a learner its vote
    Promote {
        /// Its number in the table
        id: u64,
    },
    /// Take a master out of the cluster, whether it still runs or not
    Remove {
        /// Its number in the table
        id: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityChange {
    /// Make a new one; both are trusted, and nodes get certificates of the new one by themselves
    Rotate,
    /// Trust the old one no more, once every node has a certificate of the new one
    Finish {
        /// Also if nodes have not: they have to join again
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// In the order they are looked at: the first that sets a name counts
    List,
    /// Keep a rule on the master and apply it to every node; one of the same name is replaced
    Add {
        #[command(flatten)]
        rule: WrittenRule,
        /// Put it before all others
        #[arg(long)]
        first: bool,
    },
    /// Forget a rule
    Remove {
        /// Its name
        name: String,
    },
    /// What a rule would do, without keeping it
    Test {
        #[command(flatten)]
        rule: WrittenRule,
    },
}

/// Behind `network`.
#[derive(Args, Debug)]
pub(crate) struct NetworkChange {
    /// With `network`: show (the usual), set FILE, revert
    #[arg(value_name = "show|set|revert", value_parser = ["show", "set", "revert"])]
    pub(crate) change: Option<String>,
    /// With `network set`: what the network is to be, as JSON; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How long the node looks for its master with it before it goes back to what was before (60)
    #[arg(long = "try", value_name = "SECONDS")]
    pub(crate) try_seconds: Option<u32>,
    /// It stays whatever happens: somebody else may have to set it right at the machine
    #[arg(long, conflicts_with = "try_seconds")]
    pub(crate) now: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Their names, without what is secret
    List,
    /// Keep one, read from standard input or a file; one of the same name is replaced
    Put {
        /// What tasks call it, such as team/database
        name: String,
        /// Read it from here
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// A line break at its end belongs to it
        #[arg(long)]
        newline: bool,
    },
    /// Forget one
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
All that is given must fit. Patterns are regular expressions for the whole text; what a named group finds
can be used in values.

Examples:
  mesolith rules add racks --switch 'tor-(?<rack>r[0-9]+)-.*' --switch-port 'Ethernet1/(?<unit>[0-9]+)' \\
      --set rack={rack} --set rack.unit={unit}
  mesolith rules add lab --subnet 10.77.0.0/24 --set zone=lab
  mesolith rules add pool --node '.*' --disks path --disk-class nvme --disk-count 1 --state-mib 512
  mesolith rules add data --node 'db-.*' --disks mount --disk-class hdd --filesystem xfs --encrypted
  mesolith rules test spare --mac 52:54:00:* --set tier=spare")]
pub(crate) struct WrittenRule {
    /// What to call it
    pub(crate) name: String,
    /// One of the machine's addresses, `*` for any part; may be repeated, one must fit
    #[arg(long, value_name = "MAC")]
    pub(crate) mac: Vec<String>,
    /// The machine's serial number
    #[arg(long, value_name = "REGEX")]
    pub(crate) serial: Option<String>,
    /// The network its address is in
    #[arg(long, value_name = "NETWORK/LENGTH")]
    pub(crate) subnet: Option<String>,
    /// The name of a switch it is plugged into
    #[arg(long, value_name = "REGEX")]
    pub(crate) switch: Option<String>,
    /// The port of that switch
    #[arg(long, value_name = "REGEX")]
    pub(crate) switch_port: Option<String>,
    /// The node's name
    #[arg(long, value_name = "REGEX")]
    pub(crate) node: Option<String>,
    /// An attribute to set; may be repeated
    #[arg(long, value_name = "NAME=VALUE", required_unless_present_any = ["reserve", "network", "disks"])]
    pub(crate) set: Vec<String>,
    /// Reserve for this role what nobody has reserved and no task uses, as it becomes free
    #[arg(long, value_name = "ROLE")]
    pub(crate) reserve: Option<String>,
    /// What their networks are to be: a file of JSON, tried by each node before it stays
    #[arg(long, value_name = "FILE")]
    pub(crate) network: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) disks: WrittenDisks,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Machines that wait are in `mesolith nodes` with the state unclaimed; `mesolith node NAME inventory` asks one what it is.

Examples:
  mesolith claim node-770001 node-770002
  mesolith claim --where \"node.vendor == 'dell' && disks.nvme >= 2\"
  mesolith claim --rule dell --where \"node.vendor == 'dell'\"     # from now on, as they come")]
pub(crate) struct Claim {
    /// Their names; one need not be there yet
    #[arg(required_unless_present = "condition", conflicts_with = "condition")]
    pub(crate) nodes: Vec<String>,
    /// All for which this holds, as in `mesolith nodes --where`
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
    /// Keep the condition under this name: machines for which it holds are claimed as they come
    #[arg(long, value_name = "NAME", requires = "condition")]
    pub(crate) rule: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Files {
    /// The task's id (FRAMEWORK/TASK if two frameworks use it)
    pub(crate) task: String,
    /// A directory in the sandbox [default: the sandbox]
    pub(crate) path: Option<String>,
    /// Copy this file to standard output instead
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    pub(crate) cat: Option<String>,
    /// Go on as the file grows, until the task ends
    #[arg(short, long, requires = "cat")]
    pub(crate) follow: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
It takes an operator (or a rule in the ACLs), and is written down at the master. The program ends when this one does.

Examples:
  mesolith exec -it web -- sh
  mesolith exec web -- cat /proc/1/status
  tar c . | mesolith exec -i web -- tar x -C /mnt/mesos/sandbox")]
pub(crate) struct Exec {
    /// Give it a terminal: programs for people want one
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Pass on what is typed, or comes in
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// A variable to add to those of the task; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The task's id (FRAMEWORK/TASK if two frameworks use it)
    pub(crate) task: String,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// The task's id (FRAMEWORK/TASK if two frameworks use it)
    pub(crate) task: String,
}

#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// A task's id (FRAMEWORK/TASK if two frameworks use it), or a node's name
    #[arg(value_name = "NODE|TASK")]
    pub(crate) of: String,
    /// Go on as it grows, until the task ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The task's stderr instead of its stdout
    #[arg(long)]
    pub(crate) stderr: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
One argument is a line for /bin/sh, several are a program and its arguments. With an image and nothing after the
dashes the image says what runs. Without an image the task sees a small busybox root, or what the cluster has instead.

Exit status: the task's; 128 + N after signal N; 124 after --timeout; 125 when it could not be run at all.
Ctrl-C kills the task and waits for its end; a second one does not wait.
With --json the task's output goes to stderr, and how it ended to stdout.

Examples:
  mesolith run --cpus 0.5 --mem 64 --constraint 'rack:LIKE:r1.*' -- 'hostname; nproc'
  mesolith run --env GREETING=hello -- sh -c 'echo $GREETING'
  mesolith run --image registry:5000/team/app:1.2")]
pub(crate) struct Run {
    /// Share of processors, in thousandths
    #[arg(long, default_value_t = 0.1)]
    pub(crate) cpus: f64,
    /// MiB of memory
    #[arg(long, default_value_t = 32.0)]
    pub(crate) mem: f64,
    /// MiB of disk
    #[arg(long, default_value_t = 0.0)]
    pub(crate) disk: f64,
    /// Whole GPUs
    #[arg(long, default_value_t = 0)]
    pub(crate) gpus: u32,
    /// The Docker or OCI image to run in, such as `registry:5000/team/app:1.2`
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<String>,
    /// The task's name [default: the program's]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The role to be offered resources for
    #[arg(long, default_value = "*")]
    pub(crate) role: String,
    /// Where to run: FIELD:OPERATOR[:VALUE], the field an attribute or `hostname`, the operator LIKE, UNLIKE
    /// (regular expressions), IS or CLUSTER (the same text); may be repeated, all must hold
    #[arg(long = "constraint", value_name = "FIELD:OP:VALUE")]
    pub(crate) constraints: Vec<String>,
    /// A variable for the task; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// Kill the task after so long: 90, 90s, 15m, 2h
    #[arg(long, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Give up when no fitting offer has come for so long
    #[arg(long, value_parser = duration, default_value = "30s", value_name = "DURATION")]
    pub(crate) wait: Duration,
    /// How long the task may take to end after SIGTERM before SIGKILL
    #[arg(long, value_parser = duration, default_value = "3s", value_name = "DURATION")]
    pub(crate) grace: Duration,
    /// Say nothing of our own on stderr unless something fails
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// What to run
    #[arg(last = true, required_unless_present = "image", num_args = 1..)]
    pub(crate) command: Vec<String>,
}

fn method(text: &str) -> Result<Method, String> {
    Method::from_name(text).ok_or_else(|| {
        let known: Vec<&str> = Method::ALL.iter().map(|method| method.name()).collect();
        format!("there is no such method, but {}", known.join(", "))
    })
}

/// `90`, `90s`, `1.5m`, `2h`, `250ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| !(c.is_ascii_digit() || c == '.')) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "ms" => 0.001,
        "s" | "secs" => 1.0,
        "m" | "min" | "mins" => 60.0,
        "h" | "hrs" => 3600.0,
        _ => return Err(format!("`{unit}` is no unit of time: use ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no duration: write 90s, 15m or 2h"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| format!("`{text}` is too long"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn durations_have_units_and_default_to_seconds() {
        for (text, millis) in [("90", 90_000), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000), ("250ms", 250)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "5 parsecs", "1.2.3s", "-1"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_follows_the_dashes_is_the_tasks_own() {
        let options = Options::try_parse_from(["mesolith", "run", "--mem", "64", "--", "sh", "-c", "--json"]).unwrap();
        let Verb::Run(run) = options.verb else { panic!("run was parsed as another verb") };
        assert_eq!(run.command, ["sh", "-c", "--json"]);
        assert!(!options.json);
        assert!(Options::try_parse_from(["mesolith", "run"]).is_err());
    }
}
