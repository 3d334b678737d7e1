//! On this host: in a mount namespace where the cgroup v2 hierarchy is where runtimes look for it. Where it has no
//! controllers nothing is limited, for nobody.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::bundle::{self, Bundle, Limits};
use super::launcher::Launcher;
use super::runtimes::{Foreign, Runtime, by_turns};
use super::{Containers, sample, show, whole};
use crate::bare_master::BareMaster;
use crate::hosted_agent::HostedAgent;
use crate::lab::load::report::Report;
use crate::rack::Programs;
use crate::rack::hosted::isolation_is_available;

const HIERARCHY: &str = "/sys/fs/cgroup";

/// More than any count of tasks takes.
const RESOURCES: &str = "cpus:1000;mem:1000000;disk:100000";

pub(super) fn measure(wanted: &Containers, dir: &Path, foreign: &[Foreign], report: &mut Report) -> Result<()> {
    let limits = if isolation_is_available() { Limits::Set } else { Limits::None };
    let _shown = (limits == Limits::None).then(show_hierarchy).transpose()?;
    let place = match limits {
        Limits::Set => "native",
        Limits::None => "native, no limits",
    };
    let root = dir.join("root");
    bundle::make_root(&root)?;
    bundle::make_cgroup()?;
    if wanted.rounds > 0 {
        let agent = Programs::find()?.agent;
        let mut runtimes: Vec<Box<dyn Runtime>> = vec![Box::new(Launcher::start(&agent, &dir.join("run"))?)];
        runtimes.extend(foreign.iter().map(|one| Box::new(one.clone()) as Box<dyn Runtime>));
        let mut bundle = Bundle::make(dir, &root, limits)?;
        let summaries = by_turns(&mut runtimes, &mut bundle, wanted.rounds)?;
        show(place, &summaries, report);
    }
    if !wanted.counts.is_empty() {
        let master = BareMaster::start(dir, &[])?;
        let isolation: &[&str] = match limits {
            Limits::Set => &[],
            Limits::None => &["--insecure-no-limits"],
        };
        let agent = HostedAgent::start_isolated(dir, &master, RESOURCES, isolation, &[]);
        let address = master.url.strip_prefix("http://").context("the API's URL begins with http://")?;
        whole::measure(place, address, &wanted.counts, &|| sample::of_host(agent.pid()), report)?;
    }
    Ok(())
}

/// The hierarchy, until it is dropped.
struct Shown;

impl Drop for Shown {
    fn drop(&mut self) {
        // The option is the whole host's, wherever the hierarchy is mounted; it had not given it.
        let (nothing, flags) = (None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID);
        if let Err(error) = mount(nothing, HIERARCHY, nothing, flags, nothing) {
            eprintln!("the cgroup hierarchy keeps `favordynmods`: {error}");
        }
    }
}

/// In a mount namespace of its own: the host's other processes see what they saw.
fn show_hierarchy() -> Result<Shown> {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot get a mount namespace")?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).context("cannot keep mounts apart")?;
    match umount2(HIERARCHY, MntFlags::MNT_DETACH) {
        // Nothing was mounted there.
        Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
        Err(error) => return Err(error).with_context(|| format!("cannot unmount {HIERARCHY}")),
    }
    ensure!(Path::new(HIERARCHY).is_dir(), "this kernel has no {HIERARCHY}");
    // As on a node of ours: for all runtimes, and until this ends for the host as well.
    mount(Some("cgroup2"), HIERARCHY, Some("cgroup2"), MsFlags::MS_NOSUID, Some("favordynmods"))
        .with_context(|| format!("cannot mount the cgroup v2 hierarchy on {HIERARCHY}"))?;
    Ok(Shown)
}
