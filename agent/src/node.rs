//! The agent process: brings the network up, joins the master and looks after tasks.
//!
//! One task, [`driver`], owns the core and performs its effects; everything else owns one socket or one kernel
//! interface and talks to it through a bounded channel. The process may die at any moment: what it must remember is in
//! the checkpoint before anything depends on it, tasks are children of `init`, and the next process goes on.

mod authorities;
mod beside;
mod bridge;
pub(crate) mod bundle;
mod capacity;
mod cgroup;
mod checkpoint;
mod clock;
mod cni;
mod containers;
mod crash_reports;
mod directory;
mod disk_usage;
mod disks;
mod door;
mod driver;
mod events;
mod exec;
mod executor_api;
mod executors;
mod fetches;
mod file_reader;
mod garbage;
mod hotplug;
mod identity;
mod images;
mod init_client;
mod join;
mod judged;
mod later_volumes;
mod link;
mod listeners;
mod log_cap;
mod machine;
mod named;
mod network;
mod node_api;
mod node_log;
pub(crate) mod private_file;
mod probes;
mod projects;
mod residents;
mod settings;
mod statistics;
mod supervision;
mod task_links;
mod timekeeping;
mod tls;
mod volumes;
mod wipe;

use std::process::ExitCode;

use crate::arguments::HostedArgs;
use crate::logging;
use settings::Settings;

/// Runs on a machine that booted our image.
pub(crate) fn run_appliance() -> ExitCode {
    logging::start();
    run(Settings::of_appliance())
}

/// Runs on an ordinary distribution.
pub(crate) fn run_hosted(args: HostedArgs) -> ExitCode {
    logging::start();
    run(Settings::of_hosted(&args))
}

fn run(settings: Result<Settings, settings::SettingsError>) -> ExitCode {
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!(error = %logging::chain(&error), "this node cannot be set up");
            return ExitCode::from(2);
        }
    };
    // The supervisor that started us takes its signals by other means; ours shall end us.
    if let Err(error) = nix::sys::signal::SigSet::empty().thread_set_mask() {
        tracing::warn!(%error, "the signal mask cannot be reset");
    }
    raise_descriptor_limit();
    // Two workers: one may be in a system call. Blocking work is short but for unpacking images, and of those there are
    // no more than two at a time.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_stack_size(512 * 1024)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(driver::run(settings)),
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(never) => match never {},
        Err(error) => {
            tracing::error!(error = %logging::chain(&error), "the agent ends");
            ExitCode::FAILURE
        }
    }
}

/// A thousand, which is what a machine of ours begins with, is less than a thousand tasks may take in a bad moment.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const WANTED: u64 = 65_536;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    // Who may not raise the one may raise the other.
    if soft < WANTED && setrlimit(Resource::RLIMIT_NOFILE, WANTED, hard.max(WANTED)).is_err() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
