//! The command line of `mesolith-agent`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Runs a node. On a machine that booted our image it is PID 1 and everything below; with --hosted it runs on an
/// ordinary distribution.
#[derive(Debug, Parser)]
#[command(name = "mesolith-agent", version, about, args_conflicts_with_subcommands = false)]
pub(crate) struct Arguments {
    /// Which process of the node to be; an operator needs none of them.
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// How to run on an ordinary distribution.
    #[command(flatten)]
    options: HostedArgs,
}

impl Arguments {
    /// The options of hosted mode, if it is wanted.
    pub(crate) fn hosted(&self) -> Option<&HostedArgs> {
        self.options.hosted.then_some(&self.options)
    }
}

/// The processes of a node.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Supervise the others; the first process of a machine
    #[command(hide = true)]
    Init,
    /// Make and end containers
    #[command(hide = true)]
    Launcher,
    /// Make and end containers beside the other one
    #[command(name = "launcher-2", hide = true)]
    SecondLauncher,
    /// Load drivers as devices appear
    #[command(hide = true)]
    Devices,
    /// Talk to the master and look after tasks
    #[command(hide = true)]
    Agent,
    /// Load kernel modules by name or alias
    #[command(hide = true)]
    Modprobe {
        /// As for modprobe(8); options are ignored.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Ask systemd for a delegated scope
    #[command(hide = true)]
    SystemdScope {
        /// The process that moves into it.
        pid: u32,
        /// The unit's name.
        name: String,
    },
    /// Become a program beside a task
    #[command(hide = true)]
    Enter,
    /// Be a new user namespace until its container has it
    #[command(hide = true)]
    UserNamespace,
    /// Start a task without isolation and end, so that the supervisor inherits it
    #[command(hide = true)]
    PlainParent {
        /// What to run.
        #[command(flatten)]
        task: PlainTask,
    },
    /// Wait for the word to start, then become the task
    #[command(hide = true)]
    PlainTask {
        /// What to run.
        #[command(flatten)]
        task: PlainTask,
    },
}

/// A task that runs as a plain process.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct PlainTask {
    /// Directory with config.json.
    #[arg(long)]
    pub(crate) bundle: PathBuf,
    /// Directory with the FIFO `start`.
    #[arg(long)]
    pub(crate) state: PathBuf,
    /// File to append to.
    #[arg(long)]
    pub(crate) stdout: PathBuf,
    /// File to append to.
    #[arg(long)]
    pub(crate) stderr: PathBuf,
}

/// What `--hosted` needs to know.
#[derive(Clone, Debug, Args)]
pub(crate) struct HostedArgs {
    /// Run on an ordinary distribution, as a process among others
    #[arg(long)]
    pub(crate) hosted: bool,
    /// Where the master's agent port is; several with commas
    #[arg(
        long,
        value_name = "HOST:PORT",
        requires = "hosted",
        required_if_eq("hosted", "true"),
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) master: String,
    /// SHA-256 of the cluster's CA certificate, as the master prints it
    #[arg(
        long,
        value_name = "sha256:HEX",
        requires = "hosted",
        required_if_eq("hosted", "true"),
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) ca: String,
    /// File with the join token; needed until the node has its certificate
    #[arg(long, value_name = "FILE", requires = "hosted")]
    pub(crate) token_file: Option<PathBuf>,
    /// Where sockets, certificates, checkpoints and sandboxes are kept
    #[arg(
        long,
        value_name = "DIR",
        requires = "hosted",
        required_if_eq("hosted", "true"),
        default_value = ".",
        hide_default_value = true
    )]
    pub(crate) work_dir: PathBuf,
    /// The node's name [default: the host's name]
    #[arg(long, requires = "hosted")]
    pub(crate) name: Option<String>,
    /// Attributes to add, such as `rack:r1;zone:a`
    #[arg(long, value_name = "NAME:VALUE;...", requires = "hosted")]
    pub(crate) attributes: Option<String>,
    /// Resources to offer instead of those detected, such as `cpus:4;mem:8192`
    #[arg(long, value_name = "NAME:VALUE;...", requires = "hosted")]
    pub(crate) resources: Option<String>,
    /// Where container images are kept [default: `images` in the work directory]
    #[arg(long, value_name = "DIR", requires = "hosted")]
    pub(crate) image_dir: Option<PathBuf>,
    /// Image that tasks run in when they name none, instead of this host's own files
    #[arg(long, value_name = "NAME", requires = "hosted")]
    pub(crate) image: Option<String>,
    /// The same for tasks of single roles
    #[arg(long, value_name = "ROLE=NAME,...", requires = "hosted")]
    pub(crate) image_roles: Option<String>,
    /// JSON file with logins, mirrors and certificates for image registries
    #[arg(long, value_name = "FILE", requires = "hosted")]
    pub(crate) image_registries: Option<PathBuf>,
    /// What unpacked images may take before those nobody uses are removed
    #[arg(long, value_name = "MIB", requires = "hosted")]
    pub(crate) image_limit_mib: Option<String>,
    /// Paths of this host tasks may mount: /data,/opt:ro
    #[arg(long, value_name = "PATHS", requires = "hosted")]
    pub(crate) host_paths: Option<String>,
    /// Open this port to Mesos's tools: the agent's API, for whoever the master knows
    #[arg(long, value_name = "PORT", requires = "hosted")]
    pub(crate) agent_api: Option<String>,
    /// How long an executor may take to subscribe, such as 90secs [default: 1mins]
    #[arg(long, value_name = "TIME", requires = "hosted")]
    pub(crate) executor_registration_timeout: Option<String>,
    /// How long the sandbox of an ended task is kept on an empty disk, such as 12hrs [default: 1weeks]
    #[arg(long, value_name = "TIME", requires = "hosted")]
    pub(crate) gc_delay: Option<String>,
    /// How much of the disk shall stay free of them [default: 0.1]
    #[arg(long, value_name = "PART", requires = "hosted")]
    pub(crate) gc_disk_headroom: Option<String>,
    /// What each of a task's stdout and stderr keeps [default: 10]
    #[arg(long, value_name = "MIB", requires = "hosted")]
    pub(crate) log_limit_mib: Option<String>,
    /// What every task may ask of disks: sda:rbps=10m,wbps=5m,riops=100,wiops=100;sdb:...
    #[arg(long, value_name = "LIMITS", requires = "hosted")]
    pub(crate) io_max: Option<String>,
    /// Devices that tasks with the privilege may open: /dev/fuse,/dev/kvm
    #[arg(long, value_name = "PATHS", requires = "hosted")]
    pub(crate) devices: Option<String>,
    /// Devices of graphics processors instead of those detected: /dev/nvidia0,/dev/dri/renderD128+/dev/kfd
    #[arg(long, value_name = "PATHS", requires = "hosted")]
    pub(crate) gpus: Option<String>,
    /// Directory with what programs need to use them, shown to their tasks at /usr/local/nvidia
    #[arg(long, value_name = "DIR", requires = "hosted")]
    pub(crate) gpu_files: Option<String>,
    /// Whose tasks have user namespaces without asking: all, or roles
    #[arg(long, value_name = "ROLE,...", requires = "hosted")]
    pub(crate) user_namespaces: Option<String>,
    /// Directory with lists of CNI plugins, each a network for containers
    #[arg(long, value_name = "DIR", requires = "hosted")]
    pub(crate) cni_config: Option<String>,
    /// Directory with the plugins [default: /opt/cni/bin]
    #[arg(long, value_name = "DIR", requires = "cni_config")]
    pub(crate) cni_plugins: Option<String>,
    /// Run tasks as plain processes: no limits, no namespaces, no protection of this host from them
    #[arg(long, requires = "hosted")]
    pub(crate) insecure_no_isolation: bool,
    /// Run tasks in containers that nothing limits, on a host whose cgroup v2 hierarchy has no controllers
    #[arg(long, requires = "hosted", conflicts_with = "insecure_no_isolation")]
    pub(crate) insecure_no_limits: bool,
}

impl HostedArgs {
    /// The same again, for the process that does the work.
    pub(crate) fn to_command_line(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["--hosted".into()];
        let mut option = |name: &str, value: Option<OsString>| {
            if let Some(value) = value {
                line.push(name.into());
                line.push(value);
            }
        };
        option("--master", Some(self.master.clone().into()));
        option("--ca", Some(self.ca.clone().into()));
        option("--token-file", self.token_file.clone().map(Into::into));
        option("--work-dir", Some(self.work_dir.clone().into()));
        option("--name", self.name.clone().map(Into::into));
        option("--attributes", self.attributes.clone().map(Into::into));
        option("--resources", self.resources.clone().map(Into::into));
        option("--image-dir", self.image_dir.clone().map(Into::into));
        option("--image", self.image.clone().map(Into::into));
        option("--image-roles", self.image_roles.clone().map(Into::into));
        option("--io-max", self.io_max.clone().map(Into::into));
        option("--devices", self.devices.clone().map(Into::into));
        option("--gpus", self.gpus.clone().map(Into::into));
        option("--gpu-files", self.gpu_files.clone().map(Into::into));
        option("--image-registries", self.image_registries.clone().map(Into::into));
        option("--image-limit-mib", self.image_limit_mib.clone().map(Into::into));
        option("--host-paths", self.host_paths.clone().map(Into::into));
        option("--executor-registration-timeout", self.executor_registration_timeout.clone().map(Into::into));
        option("--gc-delay", self.gc_delay.clone().map(Into::into));
        option("--gc-disk-headroom", self.gc_disk_headroom.clone().map(Into::into));
        option("--log-limit-mib", self.log_limit_mib.clone().map(Into::into));
        option("--cni-config", self.cni_config.clone().map(Into::into));
        option("--cni-plugins", self.cni_plugins.clone().map(Into::into));
        option("--user-namespaces", self.user_namespaces.clone().map(Into::into));
        option("--agent-api", self.agent_api.clone().map(Into::into));
        if self.insecure_no_isolation {
            line.push("--insecure-no-isolation".into());
        }
        if self.insecure_no_limits {
            line.push("--insecure-no-limits".into());
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["mesolith-agent"], line].concat())
    }

    const HOSTED: [&str; 7] = ["--hosted", "--master", "m:5052", "--ca", "sha256:00", "--work-dir", "/w"];

    #[test]
    fn hosted_names_what_it_lacks() {
        let error = parse(&["--hosted"]).unwrap_err().to_string();
        assert!(error.contains("--master") && error.contains("--work-dir"), "{error}");
    }

    #[test]
    fn no_option_means_no_hosted_mode() {
        assert!(parse(&["launcher"]).unwrap().hosted().is_none());
        assert!(parse(&[]).unwrap().hosted().is_none());
    }

    #[test]
    fn options_of_hosted_mode_without_it_are_refused() {
        assert!(parse(&["--master", "m:5052"]).is_err());
    }

    #[test]
    fn the_working_process_gets_the_same_options() {
        let mut line = HOSTED.to_vec();
        line.extend(["--attributes", "rack:r1;zone:a", "--insecure-no-isolation", "--name", "n"]);
        line.extend([
            "--image",
            "base:1",
            "--image-roles",
            "web=b:2",
            "--image-dir",
            "/i",
            "--image-registries",
            "/r",
            "--image-limit-mib",
            "64",
        ]);
        let hosted = parse(&line).unwrap().hosted().unwrap().clone();
        let mut again: Vec<OsString> = vec!["mesolith-agent".into()];
        again.extend(hosted.to_command_line());
        again.push("agent".into());
        let again = Arguments::try_parse_from(again).unwrap();
        assert!(matches!(again.role, Some(Role::Agent)));
        assert_eq!(format!("{:?}", again.hosted().unwrap().clone()), format!("{hosted:?}"));
    }
}
