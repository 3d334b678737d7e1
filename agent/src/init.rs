//! PID 1: mounts, exit statuses, descriptors, watchdog, power, and the processes that do the work.
//!
//! It is one thread without a runtime, because it must never end: what can fail in interesting ways lives in a child
//! that can be started again. Drivers are loaded by `devices`, containers are made by `launcher`, the master is
//! talked to by `agent`. Containers end up as children of `init`, so their exits are seen the same way whether or not
//! the agent lives. In hosted mode the same loop runs as a child subreaper on somebody else's machine.

mod backoff;
mod cgroups;
mod clients;
mod console;
mod descriptors;
mod exits;
mod farewell;
mod faults;
pub(crate) mod hosted;
mod log_file;
mod mounts;
mod page;
mod phases;
mod power;
mod read_only_root;
mod reaper;
mod service;
mod settings;
mod supervisor;
pub(crate) mod systemd_scope;
mod watchdog;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};

pub(crate) use clients::welcome;

use crate::run_dir::{APPLIANCE, LAUNCHERS_VARIABLE, RUN_DIR_VARIABLE, RunDir, TASK_CGROUP_VARIABLE};
use crate::seqpacket::Listener;
use cgroups::Tree;
use clients::Clients;
use console::Console;
use phases::Phases;
use service::{Program, Service, ServicePlan};
use supervisor::{Owner, Supervisor};
use watchdog::Watchdog;

/// How long a message of failure stays on the screen before the machine begins anew.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What the phases of the boot may take; each takes milliseconds.
const MOUNTS: Duration = Duration::from_secs(30);
const SETTINGS: Duration = Duration::from_secs(30);

/// When memory runs out, tasks are killed first.
const OOM_SCORE: i32 = -900;

/// Where iPXE puts the join token, as a file of its own in a second initramfs.
const DELIVERED_TOKEN: &str = "/etc/mesolith/token";

/// Runs the machine. Never returns: what cannot go on restarts it.
pub(crate) fn run_appliance() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("mesolith-agent init is the first process of a machine; on a running system use --hosted");
        return ExitCode::from(2);
    }
    // Only the panic's text: a trace would be kept in memory to read symbols, and scroll the reason away.
    std::panic::set_hook(Box::new(|panic| give_up(&format!("init has failed: {panic}"))));
    match boot() {
        Ok(never) => match never {},
        Err(error) => give_up(&format!("cannot boot: {error:#}")),
    }
}

/// Brings the machine up and looks after it until it shall end.
fn boot() -> anyhow::Result<std::convert::Infallible> {
    let _ = nix::sys::prctl::set_name(c"mesolith-init");
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let mut phases = Phases::watched_by(phases::boot_hangs);
    phases.begin("mounts", MOUNTS);
    mounts::give_root_a_parent()?;
    let missing = mounts::mount_all()?;
    let mut console = Console::of_machine();
    let run = RunDir::new(APPLIANCE);
    console.keep_in(&run.logs().join("init.log"));
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    console.say(format!("Mesolith {} on Linux {}", env!("CARGO_PKG_VERSION"), kernel.trim_end()));
    for error in missing {
        console.say(format!("goes without: {}", crate::logging::chain(&error)));
    }
    if move_token(&run).context("cannot keep the join token")? {
        console.say("mounted file systems, took the join token");
    } else {
        console.say("mounted file systems");
    }
    phases.begin("settings", SETTINGS);
    for file in settings::apply_sysctls() {
        console.say(format!("the kernel does not accept our setting for {file}"));
    }
    settings::register_modprobe();
    if let Some(name) = settings::command_line_key(&command_line, "mesolith.name") {
        settings::name_machine(name).with_context(|| format!("cannot name this machine `{name}`"))?;
        console.say(format!("this is {name}"));
    }
    if let Err(error) = read_only_root::seal() {
        console.say(format!("the root stays writable: {error}"));
    }
    // Ctrl-Alt-Del comes as a signal instead of ending the machine at once.
    let _ = set_cad_enabled(false);

    let names = [&["devices"], launchers(), &["agent"]].concat();
    phases.begin("cgroups", SETTINGS);
    let tree = Tree::of_machine();
    tree.make(&names).context("cannot set up cgroups")?;
    let services = services(&names, &run, Some(&tree), &[], &[])?;
    let clients = Clients::new(Listener::bind(&run.init_socket())?);
    let mut supervisor = Supervisor::new(console, clients, services, Owner::Us)?;
    supervisor.watchdog =
        Watchdog::with_timeout(watchdog::timeout(settings::command_line_key(&command_line, watchdog::KEY)));
    match faults::Faults::open(&command_line) {
        Ok(None) => {}
        Ok(Some(line)) => {
            supervisor.console.say(format!("obeys faults on the second serial port ({})", faults::WORD));
            supervisor.faults = Some(line);
        }
        Err(error) => supervisor.console.say(format!("there is no line for faults: {error}")),
    }
    let took = phases.end();
    supervisor.console.say(format!("the machine is set up: {took}"));
    // The agent reports what hardware there is, so drivers come first.
    supervisor.start(Some(("agent", "devices")));
    let action = supervisor.run();
    supervisor.console.say("ending");
    power::end_processes(&mut supervisor, Some(&tree.tasks()), || {});
    power::end_machine(&mut supervisor, action);
    anyhow::bail!("the machine did not end")
}

/// What makes containers. One launcher makes one after the other, and takes a processor for it: where there are several,
/// a second one makes every other container.
fn launchers() -> &'static [&'static str] {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if processors > 1 { &["launcher", "launcher-2"] } else { &["launcher"] }
}

/// The services of a node. `options` stand before each subcommand, `environment` goes to all.
fn services(
    names: &[&'static str],
    run: &RunDir,
    tree: Option<&Tree>,
    agent_options: &[OsString],
    environment: &[(&'static str, OsString)],
) -> anyhow::Result<Vec<Service>> {
    let mut common: Vec<(&'static str, OsString)> = vec![(RUN_DIR_VARIABLE, run.path().into())];
    if let Some(tree) = tree {
        common.push((TASK_CGROUP_VARIABLE, tree.tasks_in_hierarchy().into()));
    }
    common.extend_from_slice(environment);
    let is_launcher = |name: &str| name.starts_with("launcher");
    let launchers = names.iter().filter(|name| is_launcher(name)).count();
    common.push((LAUNCHERS_VARIABLE, launchers.to_string().into()));
    let service = |name: &&'static str| {
        let plan = ServicePlan {
            name,
            options: if *name == "agent" { agent_options.to_vec() } else { Vec::new() },
            environment: common.clone(),
            cgroup: tree.map(|tree| tree.service(name)),
            oom_score: (std::process::id() == 1).then_some(OOM_SCORE),
            log: run.logs().join(format!("{name}.log")),
            program: if is_launcher(name) && tree.is_some() { Program::Sealed } else { Program::Plain },
        };
        Service::new(plan).with_context(|| format!("cannot prepare {name}"))
    };
    names.iter().map(service).collect()
}

/// Moves the token out of the root file system, which tasks can see, to where only we can read it.
fn move_token(run: &RunDir) -> std::io::Result<bool> {
    let token = match fs::read(DELIVERED_TOKEN) {
        Ok(token) => token,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    settings::stir(&token);
    let path = run.path().join("token");
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    std::io::Write::write_all(&mut file, &token)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    // The root is memory: overwrite before the pages are given to somebody else.
    fs::write(DELIVERED_TOKEN, vec![0; token.len()])?;
    fs::remove_file(Path::new(DELIVERED_TOKEN))?;
    Ok(true)
}

/// Says why, waits so that a person can read it, restarts the machine.
fn give_up(reason: &str) -> ! {
    console::cry_out(reason);
    console::cry_out(&format!("this machine restarts in {} s", LAST_WORDS.as_secs()));
    std::thread::sleep(LAST_WORDS);
    nix::unistd::sync();
    let Err(errno) = reboot(RebootMode::RB_AUTOBOOT);
    // Only when this is not the first process of a machine after all, as in a test.
    console::cry_out(&format!("cannot restart: {errno}"));
    std::process::abort()
}
