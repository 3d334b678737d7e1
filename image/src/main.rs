//! `mesolith-image`: builds what a bare server boots, without root and without touching the machine it runs on.

mod agent;
mod apt;
mod console;
mod deb;
mod digest;
mod disk_tools;
mod firmware;
mod inspect;
mod kernel;
mod lock;
mod module_set;
mod packed;
mod pxe;
mod report;
mod rootfs;
mod task_root;

use anyhow::Result;
use clap::{Parser, Subcommand};
use console::Console;
use std::path::PathBuf;
use std::process::ExitCode;

/// Builds the Mesolith boot image: a Linux kernel and an initramfs with the agent, drivers and a small task root.
#[derive(Parser)]
#[command(name = "mesolith-image", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build a PXE bundle: vmlinuz, initramfs.img, manifest.json and SIZES. The same input gives the same bytes.
    Pxe(Box<pxe::Arguments>),
    /// Pin the newest kernel, busybox, CA certificates and disk tools that apt offers.
    UpdateLock {
        /// The lock file to rewrite.
        #[arg(long, value_name = "FILE", default_value = lock::DEFAULT_PATH)]
        lock: PathBuf,
        /// Where package lists are kept.
        #[arg(long, value_name = "DIR", default_value = apt::DEFAULT_CACHE)]
        cache: PathBuf,
    },
    /// List what an initramfs contains.
    Inspect {
        /// An initramfs.img, plain or zstd, also of several archives in a row.
        #[arg(value_name = "IMG")]
        image: PathBuf,
    },
    /// Print the sizes of a bundle and check its files against its manifest.
    Sizes {
        /// The directory `pxe` wrote.
        #[arg(value_name = "DIR")]
        bundle: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesolith-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let console = Console::new();
    match &arguments.verb {
        Verb::Pxe(options) => pxe::build(options, &console),
        Verb::UpdateLock { lock, cache } => lock::update(lock, cache, &console).map(drop),
        Verb::Inspect { image } => inspect::list(image),
        Verb::Sizes { bundle } => report::print_sizes(bundle),
    }
}
