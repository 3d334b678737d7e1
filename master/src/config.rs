//! The command line, read once; every mistake reported together.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use api::node_api::NodeRole;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::claims::Admission;
use crate::machines::Machines;

pub mod access;

use access::{Access, AccessArgs};

/// The master of a Mesolith cluster: a pool of machines behind the Mesos v1 HTTP API.
#[derive(Debug, Parser)]
#[command(name = "mesolith-master", version, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    /// Something else than serving.
    #[command(subcommand)]
    pub command: Option<Subcommands>,
    /// How to serve.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What the program can do besides serving.
#[derive(Debug, Subcommand)]
pub enum Subcommands {
    /// Makes a join token for a hosted agent, by asking the master that runs on this data directory
    Token(TokenArgs),
    /// Issues, lists and revokes bearer tokens for programs that use the API
    #[command(subcommand)]
    ApiToken(ApiTokenCommand),
    /// Keeps a node out: its certificates open nothing any more, and it gets no token
    RevokeNode(RevokeNodeArgs),
    /// Lets a node that was revoked join again, with a new token
    ReadmitNode(NodeArgs),
    /// Refuses one certificate from now on, by its serial number
    RevokeCertificate(RevokeCertificateArgs),
    /// Makes a certificate with which a program uses the API as a principal, without a password
    ClientCertificate(ClientCertificateArgs),
    /// Saves the whole cluster into a file, and makes a new one from it
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// When most masters are lost for good: makes this one a cluster of its own
    Recover(RecoverArgs),
}

/// `mesolith-master snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Everything that is needed to begin again: state, authority, credentials
    Save {
        /// A master's data directory, whether it runs or not
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Where to
        file: PathBuf,
    },
    /// Makes a new data directory from a saved cluster
    Restore {
        /// A directory that does not exist, or is empty
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The saved cluster
        file: PathBuf,
    },
    /// Says what is in a saved cluster
    Inspect {
        /// The saved cluster
        file: PathBuf,
    },
}

/// `mesolith-master recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The stopped master's data directory
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Without this nothing is changed
    #[arg(long)]
    pub others_are_gone_for_good: bool,
}

/// `mesolith-master api-token`.
#[derive(Debug, Subcommand)]
pub enum ApiTokenCommand {
    /// Issues one and prints it: it is not shown again
    Create {
        /// The running master's data directory
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Whom it stands for
        #[arg(long)]
        principal: String,
        /// Days until it expires
        #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: u64,
        /// What it is for, shown in the list
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Lists them, without their secrets
    List {
        /// The running master's data directory
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Ends one at once
    Revoke {
        /// The running master's data directory
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// As in the list
        id: String,
    },
}

/// `mesolith-master readmit-node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The running master's data directory
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The node's name
    pub node: String,
}

/// `mesolith-master revoke-node`.
#[derive(Debug, Args)]
pub struct RevokeNodeArgs {
    /// Which.
    #[command(flatten)]
    pub of: NodeArgs,
    /// Shown to whoever tries, and in the list
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// `mesolith-master revoke-certificate`.
#[derive(Debug, Args)]
pub struct RevokeCertificateArgs {
    /// The running master's data directory
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Hexadecimal, as `openssl x509 -noout -serial` shows it
    pub serial: String,
    /// Shown to whoever tries, and in the list
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// `mesolith-master client-certificate`.
#[derive(Debug, Args)]
pub struct ClientCertificateArgs {
    /// The data directory with the cluster's CA
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The principal it names
    #[arg(long)]
    pub principal: String,
    /// What it may ask of nodes: reader, operator or admin [default: nothing, unless an administrator]
    #[arg(long, value_name = "ROLE", value_parser = node_role)]
    pub node_role: Option<NodeRole>,
    /// Writes PREFIX.pem and PREFIX.key
    #[arg(long, value_name = "PREFIX")]
    pub out: PathBuf,
    /// Days until it expires
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

/// `mesolith-master token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The running master's data directory
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The name the node will have
    #[arg(long)]
    pub name: String,
    /// Print JSON with the token, the CA's fingerprint and the master's address
    #[arg(long)]
    pub json: bool,
}

/// `mesolith-master` alone.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where the log, the certificate authority and the credentials are kept
    #[arg(long, value_name = "DIR", required = true, env = "MESOLITH_DATA")]
    pub data: Option<PathBuf>,
    /// Mesos v1 API; `fd:0` takes the listening socket passed as standard input
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:5050")]
    pub http: String,
    /// Who may use the API.
    #[command(flatten)]
    pub access: AccessArgs,
    /// gRPC for agents: mutual TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:5052")]
    pub link: String,
    /// Joins the masters of which one's link is at HOST:PORT, unless the data directory is a member's already
    #[arg(long, value_name = "HOST:PORT", requires = "token")]
    pub join: Option<String>,
    /// The token that `mesolith masters add` printed
    #[arg(long, value_name = "TOKEN", requires = "join", env = "MESOLITH_JOIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Joins without a vote: it has everything, and counts for no majority until it is promoted
    #[arg(long, requires = "join")]
    pub learner: bool,
    /// The read side of ZooKeeper's protocol, for frameworks with a zk://HOST:PORT/mesos URL; off unless given
    #[arg(long, value_name = "ADDR")]
    pub zk: Option<String>,
    /// Plain HTTP for machines that boot over the network; off unless given
    #[arg(long, value_name = "ADDR", requires = "boot_dir")]
    pub boot: Option<String>,
    /// The directory with vmlinuz and initramfs.img
    #[arg(long, value_name = "DIR")]
    pub boot_dir: Option<PathBuf>,
    /// Added to the kernel command line of every machine, such as `mesolith.image=REF`; a machine's own comes after it
    #[arg(long, value_name = "TEXT", requires = "boot", default_value = "", hide_default_value = true)]
    pub boot_cmdline: String,
    /// Address or name others reach this master by [default: the first address that is not loopback]
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Where clients reach this master's API, where that is another place than the address above: behind a forwarded port
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise_http: Option<String>,
    /// JSON list of machines: [{"mac":"52:54:00:77:00:01","name":"node-1","attributes":"rack:r1"}]
    #[arg(long, value_name = "FILE")]
    pub machines: Option<PathBuf>,
    /// Which machines get a boot script and a token to join [default: listed with --machines, else any]
    #[arg(long, value_enum, requires = "boot")]
    pub boot_machines: Option<BootMachines>,
    /// Tell machines on this interface where to boot from, beside whatever DHCP server gives them addresses: proxy DHCP, TFTP,
    /// and answers to those who look for an IPv6 router. Needs --boot, and the right to open such sockets
    #[arg(long, value_name = "INTERFACE", requires = "boot")]
    pub netboot: Option<String>,
    /// Where undionly.kpxe and ipxe.efi are, for machines whose firmware is no iPXE
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/ipxe", requires = "netboot")]
    pub netboot_dir: PathBuf,
    /// What becomes of a machine that is neither in the --machines file nor claimed (mesolith claim): it works like any
    /// other, or waits and offers nothing
    #[arg(long, value_enum, default_value_t)]
    pub admission: Admission,
    /// The cluster's name, shown in /state
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Seconds without an answer after which an agent is unreachable
    #[arg(long, value_name = "SECS", default_value_t = 75.0)]
    pub agent_timeout: f64,
    /// Seconds between looks at resources that were refused
    #[arg(long, value_name = "SECS", default_value_t = 1.0)]
    pub allocation_interval: f64,
    /// Log entries after which a snapshot is written, if the log did not outgrow the last one before
    #[arg(long, value_name = "N", default_value_t = 131_072, hide = true)]
    pub snapshot_every: u64,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// See [`ServeArgs::boot_machines`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum BootMachines {
    /// Those in the --machines file
    Listed,
    /// Every machine that asks: on a network where only your machines are
    Any,
}

/// See [`ServeArgs::log_format`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One line without colour and with every field quoted: for machines.
    Plain,
}

/// Where a listener comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listen {
    /// Bind it.
    Address(SocketAddr),
    /// It is standard input.
    StandardInput,
    /// systemd passed it as descriptor 3.
    Systemd,
}

/// Everything decided.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// The API's listener.
    pub http: Listen,
    /// Who may use it.
    pub access: Access,
    /// The link's address.
    pub link: SocketAddr,
    /// The cluster to join: a master's link, and the token.
    pub join: Option<(String, String)>,
    /// Joins without a vote.
    pub learner: bool,
    /// Where ZooKeeper's clients ask for the leader.
    pub zk: Option<SocketAddr>,
    /// The boot endpoints' address and directory.
    pub boot: Option<(SocketAddr, PathBuf)>,
    /// What every machine's kernel command line has.
    pub boot_cmdline: String,
    /// What others reach us by.
    pub advertise: String,
    /// Where clients are sent, if not there.
    pub advertise_http: Option<String>,
    /// The operator's machines.
    pub machines: Machines,
    /// Others get nothing from the boot endpoints.
    pub only_listed: bool,
    /// The interface and directory of the service that makes machines boot.
    pub netboot: Option<(String, PathBuf)>,
    /// See [`ServeArgs::admission`].
    pub admission: Admission,
    /// The cluster's name.
    pub name: Option<String>,
    /// See [`ServeArgs::agent_timeout`].
    pub agent_timeout: Duration,
    /// See [`ServeArgs::allocation_interval`].
    pub allocation_interval: Duration,
    /// See [`ServeArgs::snapshot_every`].
    pub snapshot_every: u64,
}

/// All that is wrong with a command line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);

/// Decides. `lookup` reads the environment.
///
/// # Errors
/// Every mistake, each naming its flag.
pub fn read(args: ServeArgs, lookup: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    let mut mistakes = Vec::new();
    let mut address = |flag: &str, text: &str| {
        text.parse::<SocketAddr>()
            .map_err(|_| mistakes.push(format!("--{flag} {text}: not an address with a port, such as 0.0.0.0:5050")))
            .ok()
    };
    let systemd = lookup("LISTEN_FDS").is_some_and(|count| count != "0")
        && lookup("LISTEN_PID").is_none_or(|pid| pid == std::process::id().to_string());
    let http = match (systemd, args.http.as_str()) {
        (true, _) => Some(Listen::Systemd),
        (false, "fd:0") => Some(Listen::StandardInput),
        (false, text) => address("http", text).map(Listen::Address),
    };
    let link = address("link", &args.link);
    let zk = args.zk.as_deref().map(|text| address("zk", text));
    let boot_address = args.boot.as_deref().map(|text| address("boot", text));
    let boot = match (boot_address, args.boot_dir) {
        (Some(Some(address)), Some(directory)) => {
            for file in ["vmlinuz", "initramfs.img"] {
                if !directory.join(file).is_file() {
                    mistakes.push(format!("--boot-dir {}: {file} is missing", directory.display()));
                }
            }
            Some((address, directory))
        }
        (Some(_), None) => {
            mistakes.push("--boot needs --boot-dir".to_owned());
            None
        }
        (None | Some(None), _) => None,
    };
    if args.boot_cmdline.chars().any(|c| c.is_control() || !c.is_ascii()) {
        mistakes.push("--boot-cmdline must be one line of ASCII".to_owned());
    }
    let machines = match &args.machines {
        Some(path) => Machines::read(path).unwrap_or_else(|found| {
            mistakes.extend(found.iter().map(|mistake| format!("--machines {}: {mistake}", path.display())));
            Machines::default()
        }),
        None => Machines::default(),
    };
    let only_listed = match args.boot_machines {
        Some(which) => which == BootMachines::Listed,
        None => args.machines.is_some(),
    };
    if only_listed && args.machines.is_none() {
        mistakes.push("--boot-machines listed needs --machines FILE: without it no machine is listed".to_owned());
    }
    if let Some(address) = &args.join
        && !address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    {
        mistakes.push(format!("--join {address}: not an address with a port, such as master-1:5052"));
    }
    if let Some(address) = &args.advertise_http
        && !address.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok())
    {
        mistakes.push(format!("--advertise-http {address}: not an address with a port, such as master-1:5050"));
    }
    let access = access::read(args.access, &mut mistakes);
    let advertise = match args.advertise {
        Some(host) if is_host(&host) => host,
        Some(host) => {
            mistakes.push(format!("--advertise {host}: not a host name or IP address"));
            host
        }
        None => first_address().map_or_else(|| "127.0.0.1".to_owned(), |address| address.to_string()),
    };
    let mut seconds = |flag: &str, value: f64, least: f64| {
        if value.is_finite() && (least..=86_400.0 * 365.0).contains(&value) {
            return Duration::from_secs_f64(value);
        }
        mistakes.push(format!("--{flag} {value}: seconds, at least {least}"));
        Duration::ZERO
    };
    let agent_timeout = seconds("agent-timeout", args.agent_timeout, 1.0);
    let allocation_interval = seconds("allocation-interval", args.allocation_interval, 0.01);
    if args.snapshot_every == 0 {
        mistakes.push("--snapshot-every 0: at least 1".to_owned());
    }
    match (args.data, http, link) {
        (Some(data), Some(http), Some(link)) if mistakes.is_empty() => Ok(Config {
            data,
            http,
            access,
            link,
            join: args.join.zip(args.token),
            learner: args.learner,
            zk: zk.flatten(),
            boot,
            boot_cmdline: args.boot_cmdline,
            advertise,
            advertise_http: args.advertise_http,
            machines,
            only_listed,
            netboot: args.netboot.map(|interface| (interface, args.netboot_dir)),
            admission: args.admission,
            name: args.name,
            agent_timeout,
            allocation_interval,
            snapshot_every: args.snapshot_every,
        }),
        (data, _, _) => {
            if data.is_none() {
                mistakes.push("--data DIR is needed".to_owned());
            }
            Err(ConfigErrors(mistakes))
        }
    }
}

fn node_role(text: &str) -> Result<NodeRole, String> {
    NodeRole::from_name(text).ok_or_else(|| "the roles are reader, operator and admin".to_owned())
}

fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (!text.is_empty()
            && text.len() <= 253
            && text.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            }))
}

/// The first address of an interface that is up and not loopback; IPv4 before IPv6.
fn first_address() -> Option<IpAddr> {
    use nix::net::if_::InterfaceFlags;
    let addresses: Vec<IpAddr> = nix::ifaddrs::getifaddrs()
        .ok()?
        .filter(|interface| {
            interface.flags.contains(InterfaceFlags::IFF_UP) && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            // A link-local address is no use without its interface.
            let v6 = || address.as_sockaddr_in6().map(|v6| v6.ip()).filter(|ip| ip.segments()[0] & 0xffc0 != 0xfe80);
            v4.or_else(|| v6().map(IpAddr::from))
        })
        .collect();
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> ServeArgs {
        CommandLine::try_parse_from([&["mesolith-master", "--data", "/d"], args].concat()).unwrap().serve
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let args = parse(&[
            "--http",
            "5050",
            "--link",
            "here",
            "--boot",
            "x",
            "--boot-dir",
            "/nowhere",
            "--agent-timeout",
            "0",
            "--advertise",
            "a b",
            "--machines",
            "/nowhere/machines.json",
        ]);
        let errors = read(args, |_| None).unwrap_err().0;
        for flag in ["--http", "--link", "--boot", "--agent-timeout", "--advertise", "--machines"] {
            assert!(errors.iter().any(|error| error.starts_with(flag)), "{flag}: {errors:#?}");
        }
    }

    #[test]
    fn the_listener_is_an_address_standard_input_or_systemds() {
        let http = |args: &[&str], listen: Option<&str>| {
            let lookup = |name: &str| (name == "LISTEN_FDS").then(|| listen.map(str::to_owned)).flatten();
            read(parse(args), lookup).unwrap().http
        };
        assert_eq!(http(&[], None), Listen::Address("0.0.0.0:5050".parse().unwrap()));
        assert_eq!(http(&["--http", "fd:0"], None), Listen::StandardInput);
        assert_eq!(http(&[], Some("1")), Listen::Systemd);
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
        let token = CommandLine::try_parse_from(["mesolith-master", "token", "--data", "/d", "--name", "n"]).unwrap();
        assert!(matches!(token.command, Some(Subcommands::Token(_))));
        assert!(CommandLine::try_parse_from(["mesolith-master"]).is_err());
        let mesoss = ["--authenticate_http_readonly", "--authenticate-frameworks=true", "--acls", "{}"];
        let access = parse(&mesoss).access;
        assert_eq!((access.authenticate_http_readonly, access.authenticate_http_frameworks), (Some(true), Some(true)));
        assert!(CommandLine::try_parse_from(["mesolith-master", "--data", "/d", "--tls-cert", "/c"]).is_err());
    }

    #[test]
    fn only_listed_machines_boot_where_there_is_a_list() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("machines.json");
        std::fs::write(&list, "[]").unwrap();
        for file in ["vmlinuz", "initramfs.img"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let (dir, list) = (dir.path().to_str().unwrap(), list.to_str().unwrap());
        let only_listed = |more: &[&str]| {
            let args = [&["--boot", "127.0.0.1:0", "--boot-dir", dir], more].concat();
            read(parse(&args), |_| None).map(|config| config.only_listed)
        };
        assert!(!only_listed(&[]).unwrap() && only_listed(&["--machines", list]).unwrap());
        assert!(!only_listed(&["--machines", list, "--boot-machines", "any"]).unwrap());
        assert!(only_listed(&["--boot-machines", "listed"]).is_err());
    }
}
