//! Hosted mode: the supervising half of `init` on a machine that belongs to somebody else.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, anyhow, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::cgroups::{HIERARCHY, Tree};
use super::clients::Clients;
use super::console::Console;
use super::power;
use super::supervisor::{Owner, Supervisor};
use crate::arguments::HostedArgs;
use crate::run_dir::{HOST_ROOT_VARIABLE, ISOLATION_VARIABLE, LIMITS_VARIABLE, RunDir};
use crate::seqpacket::Listener;

/// What people do when this host cannot limit tasks.
const WAY_OUT: &str = "pass --insecure-no-isolation to run tasks as plain processes, without any limit or protection";

/// Runs a node until SIGTERM or SIGINT, which end its tasks, too.
pub(crate) fn run(arguments: &HostedArgs) -> ExitCode {
    match supervise(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesolith-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn supervise(arguments: &HostedArgs) -> anyhow::Result<()> {
    // Our children work in `/`.
    let work_dir = std::path::absolute(&arguments.work_dir).context("cannot find the work directory")?;
    let token_file = arguments.token_file.as_ref().map(std::path::absolute).transpose();
    let token_file = token_file.context("cannot find the token file")?;
    let run = RunDir::new(work_dir.join("run"));
    make_private(&work_dir)?;
    make_private(run.path())?;
    make_private(&run.logs())?;
    let mut console = Console::of_process();
    console.keep_in(&run.logs().join("init.log"));
    let mut environment: Vec<(&'static str, OsString)> = Vec::new();
    let tree = if arguments.insecure_no_isolation {
        console.say("tasks run as plain processes: nothing limits them and nothing protects this host from them");
        environment.push((ISOLATION_VARIABLE, "none".into()));
        None
    } else {
        let tree = delegated_tree(arguments)
            .map_err(|error| anyhow!("this host cannot isolate tasks: {error:#}; {WAY_OUT}"))?;
        console.say(format!("tasks live in cgroup {}", tree.tasks_in_hierarchy()));
        environment.push((HOST_ROOT_VARIABLE, run.host_root().into()));
        if arguments.insecure_no_limits {
            console.say("nothing limits what tasks take");
            environment.push((LIMITS_VARIABLE, "none".into()));
        }
        Some(tree)
    };
    // Containers whose launcher has ended become our children, as they become PID 1's on a machine of ours.
    nix::sys::prctl::set_child_subreaper(true).context("cannot become a child subreaper")?;
    let listener = Listener::bind(&run.init_socket())?;
    let options = HostedArgs { work_dir, token_file, ..arguments.clone() }.to_command_line();
    let names = service_names();
    let services = super::services(&names, &run, tree.as_ref(), &options, &environment)?;
    let mut supervisor = Supervisor::new(console, Clients::new(listener), services, Owner::SomebodyElse)?;
    supervisor.start(None);
    supervisor.run();
    supervisor.console.say("ending");
    let tasks = tree.as_ref().map(Tree::tasks);
    if let Some(tasks) = &tasks {
        power::end_tasks(&mut supervisor, tasks);
    }
    power::end_processes(&mut supervisor, tasks.as_deref(), power::kill_descendants);
    Ok(())
}

fn service_names() -> Vec<&'static str> {
    [super::launchers(), &["agent"]].concat()
}

/// A part of the cgroup tree that is ours: a scope from systemd where it runs, else one at the top.
fn delegated_tree(arguments: &HostedArgs) -> anyhow::Result<Tree> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can make containers");
    }
    let magic = statfs(HIERARCHY).with_context(|| format!("cannot look at {HIERARCHY}"))?.filesystem_type();
    if magic != CGROUP2_SUPER_MAGIC {
        bail!("{HIERARCHY} is not a cgroup v2 hierarchy (boot with systemd.unified_cgroup_hierarchy=1 for one)");
    }
    let base = if Path::new("/run/systemd/system").exists() {
        ask_systemd()?;
        own_cgroup()?
    } else {
        Path::new(HIERARCHY).join(format!("mesolith-{}", std::process::id()))
    };
    let tree = Tree::below(base.clone());
    let tree = if arguments.insecure_no_limits { tree.without_limits() } else { tree };
    if !base.exists() {
        std::fs::create_dir(&base).with_context(|| format!("cannot make cgroup {}", base.display()))?;
    }
    tree.make(&service_names())?;
    Ok(tree)
}

/// Moves this process into a scope of its own. A process of its own speaks D-Bus, because that needs a runtime.
fn ask_systemd() -> anyhow::Result<()> {
    let pid = std::process::id();
    let output = Command::new("/proc/self/exe")
        .args(["systemd-scope", &pid.to_string(), &format!("mesolith-agent-{pid}.scope")])
        .stdin(Stdio::null())
        .output()
        .context("cannot start the process that talks to systemd")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The directory of the cgroup this process is in.
fn own_cgroup() -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).context("/proc/self/cgroup names no cgroup")?;
    Ok(Path::new(HIERARCHY).join(path))
}

fn make_private(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make directory {}", path.display()))
}
