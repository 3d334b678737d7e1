//! `hwdetect`: prints what this machine, or a captured one, is made of.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hwdetect::{Style, SysRoot};

/// Prints what this machine is made of.
///
/// Needs no privileges; as root it also shows serial numbers, the UUID and memory modules, which the kernel keeps from
/// others. Exit status: 0 printed, 1 the root cannot be used or the output not written, 2 wrong usage.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Read a captured tree instead: a directory that has `sys` and `proc` in it
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print JSON, with units in the names and null for what the kernel does not say
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // When the error stream is gone as well, the exit status has to do.
            let _ = writeln!(io::stderr(), "hwdetect: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let root = match &arguments.root {
        Some(directory) => SysRoot::new(directory)?,
        None => SysRoot::host(),
    };
    let inventory = hwdetect::detect(&root);
    let stdout = io::stdout();
    let text = if arguments.json {
        serde_json::to_string_pretty(&inventory)? + "\n"
    } else {
        let wants_colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        hwdetect::render(&inventory, if wants_colour { Style::Colour } else { Style::Plain })
    };
    match stdout.lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // `hwdetect | head` has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
