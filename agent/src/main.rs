//! One static binary for every process of a node: which one this is, is decided here and nowhere else.

mod arguments;
mod devices;
mod enter;
mod init;
mod launcher;
mod logging;
mod modprobe;
mod modules;
mod node;
mod output_file;
mod renaming;
mod run_dir;
mod seqpacket;
mod uptime;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Role};

fn main() -> ExitCode {
    // `init` blocks signals to read them, and a child inherits that, down to the last task.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    let called_as = std::env::args_os().next().unwrap_or_default();
    let called_as = Path::new(&called_as).file_name().unwrap_or_default();
    // The kernel starts these two without knowing our subcommands.
    if std::process::id() == 1 || called_as == "init" {
        return init::run_appliance();
    }
    if called_as == "modprobe" {
        return modprobe::run(std::env::args().skip(1));
    }
    let arguments = Arguments::parse();
    let hosted = arguments.hosted().cloned();
    match (arguments.role, hosted) {
        (Some(Role::Init), _) => init::run_appliance(),
        (Some(Role::Modprobe { arguments }), _) => modprobe::run(arguments),
        (Some(Role::Launcher), _) => launcher::run(0),
        (Some(Role::SecondLauncher), _) => launcher::run(1),
        (Some(Role::Devices), _) => devices::run(),
        (Some(Role::SystemdScope { pid, name }), _) => init::systemd_scope::run(pid, &name),
        (Some(Role::PlainParent { task }), _) => launcher::plain_task::run_parent(&task),
        (Some(Role::PlainTask { task }), _) => launcher::plain_task::run(&task),
        (Some(Role::Enter), _) => enter::run(),
        (Some(Role::UserNamespace), _) => launcher::user_namespace::hold(),
        (Some(Role::Agent), Some(hosted)) => node::run_hosted(hosted),
        (Some(Role::Agent), None) => node::run_appliance(),
        (None, Some(hosted)) => init::hosted::run(&hosted),
        (None, None) => {
            let _ = Arguments::command().print_help();
            ExitCode::from(2)
        }
    }
}
