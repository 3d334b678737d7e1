//! `./dev up`: a rack, its boot shown, a sample task on each node, and what to try next.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::progress;
use crate::rack::programs::required;
use crate::rack::{Accelerator, Kind, Life, Options, Rack, isolation_is_available, usual_or_free_port};

/// What follows the samples.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stay {
    /// The rack runs until Ctrl-C.
    UntilInterrupted,
    /// The rack ends, and so do we, with status 0 if the samples ran.
    Once,
    /// The rack runs until `./dev down`; we end.
    Detached,
}

/// What `./dev up` was asked.
#[derive(Clone, Debug)]
pub struct Up {
    /// The rack's directory.
    pub dir: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// How many masters.
    pub masters: usize,
    /// Virtual servers or agents of this host.
    pub kind: Kind,
    /// What follows the samples.
    pub stay: Stay,
    /// The framework port; 5050, or a free one when 5050 is taken, if `None`.
    pub api_port: Option<u16>,
    /// Memory of each server.
    pub memory_mib: u32,
    /// Processors of each server.
    pub cpus: u32,
    /// Instead of the trial's answer.
    pub accelerator: Option<Accelerator>,
    /// More of the master's command line.
    pub master_args: Vec<String>,
    /// A boot image other than the rack's own.
    pub image_dir: Option<PathBuf>,
    /// Another `mesolith-master`.
    pub master_program: Option<PathBuf>,
}

/// Registering takes 10 s on an idle host, and a node more costs 4 s of a core.
fn boot_deadline(nodes: usize) -> Duration {
    Duration::from_secs(120 + 30 * nodes as u64)
}

/// Runs it.
pub fn up(wanted: Up) -> Result<()> {
    let begin = Instant::now();
    let api_port = wanted.api_port.or_else(usual_or_free_port);
    let mut options = Options::new()?;
    if let Some(program) = wanted.master_program {
        options.programs.master = program;
    }
    let options = Options {
        nodes: wanted.nodes,
        masters: wanted.masters,
        kind: wanted.kind,
        life: if wanted.stay == Stay::Detached { Life::Detached } else { Life::Attached },
        image_dir: wanted.image_dir.unwrap_or_else(|| wanted.dir.join("image")),
        dir: Some(wanted.dir.clone()),
        api_port,
        memory_mib: wanted.memory_mib,
        cpus: wanted.cpus,
        accelerator: wanted.accelerator,
        master_args: wanted.master_args,
        ..options
    };
    match options.kind {
        Kind::Virtual => println!("a private network, a master, and servers that boot over it: {}", options.nodes),
        Kind::Hosted => println!("a master and hosted agents: {}", options.nodes),
    }
    if options.kind == Kind::Hosted && !isolation_is_available() {
        println!("  this host has no cgroup v2 controllers: tasks run without limits (--insecure-no-isolation)");
    }
    let masters = options.masters;
    let rack = Rack::start(options)?;
    let status = rack.status()?;
    let accelerator = match status.accelerator {
        Some(Accelerator::Kvm) => ", servers run by KVM",
        Some(Accelerator::Tcg) => ", servers are emulated",
        None => "",
    };
    println!("  master   serves {} after {:.1} s{accelerator}", rack.api_url(), begin.elapsed().as_secs_f32());
    for master in status.masters.iter().skip(1) {
        println!("  master   {} is one of {masters}", master.url);
    }
    if wanted.api_port.is_none() && !rack.api_address().ends_with(":5050") {
        println!("  port 5050 is taken: the framework port is {}", rack.api_address());
    }
    progress::watch(&rack, boot_deadline(rack.options().nodes))?;
    samples(&rack)?;
    println!();
    mesolith(&rack, &["nodes"])?;
    println!("\nready after {:.1} s", begin.elapsed().as_secs_f32());
    match wanted.stay {
        Stay::Once => return rack.end(),
        Stay::UntilInterrupted | Stay::Detached => what_to_try(&rack),
    }
    if wanted.stay == Stay::Detached {
        println!("\nThe rack runs on: `./dev status` shows it, `./dev down` ends it.");
        rack.leave();
        return Ok(());
    }
    println!("\nCtrl-C ends the rack.");
    wait_for_interrupt(&rack)?;
    println!("\nending the rack");
    rack.end()
}

/// One task on each node, aimed at it by its rack.
fn samples(rack: &Rack) -> Result<()> {
    for node in rack.nodes() {
        let begin = Instant::now();
        let constraint = format!("rack:LIKE:{}", node.rack_name());
        let command = r#"echo "hello from $(uname -n), Linux $(uname -r), up $(cut -d. -f1 /proc/uptime) s""#;
        let output = Command::new(required(&rack.options().programs.cli)?)
            .args(["--master", rack.api_address(), "run", "--quiet", "--timeout", "60s", "--constraint", &constraint])
            .args(["--", command])
            .output()
            .context("cannot start mesolith")?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || said.is_empty() {
            let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("the sample task on {} failed ({}): {said} {error}", node.name(), output.status);
        }
        println!("  {:<8} {:<5} {said} ({:.1} s)", node.name(), node.rack_name(), begin.elapsed().as_secs_f32());
    }
    Ok(())
}

fn mesolith(rack: &Rack, args: &[&str]) -> Result<()> {
    let status = Command::new(&rack.options().programs.cli)
        .args(["--master", rack.api_address()])
        .args(args)
        .status()
        .context("cannot start mesolith")?;
    ensure!(status.success(), "`mesolith {}` failed: {status}", args.join(" "));
    Ok(())
}

fn what_to_try(rack: &Rack) {
    let cli = shorter(&rack.options().programs.cli);
    let master =
        if rack.api_address().ends_with(":5050") { String::new() } else { format!(" --master {}", rack.api_address()) };
    let node = rack.node(1);
    let console = shorter(&rack.dir().join(format!("{}.console", node.name())));
    println!(
        "
Try next:
  {cli}{master} run -- 'hostname; nproc; free -m'
  {cli}{master} run --cpus 0.5 --mem 64 --constraint 'rack:LIKE:{rack_name}' -- 'cat /proc/self/cgroup'
  {cli}{master} hw {name}
  {cli}{master} tasks --all
  tail -f {console}
  curl -s {api}/state
Any Mesos framework: its master is {address}.",
        rack_name = node.rack_name(),
        name = node.name(),
        api = rack.api_url(),
        address = rack.api_address(),
    );
}

/// A path as one would type it here.
fn shorter(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// Waits for Ctrl-C, or fails when the rack's process ends by itself.
fn wait_for_interrupt(rack: &Rack) -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("cannot block signals")?;
    let incoming = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("cannot wait for signals")?;
    loop {
        let mut fds = [PollFd::new(incoming.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(2000_u16)) {
            Ok(0) => {
                rack.status().context("the rack has ended by itself; see lab.log in its directory")?;
            }
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for signals"),
        }
    }
}
