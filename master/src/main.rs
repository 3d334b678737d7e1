//! `mesolith-master`: arguments, log, run, exit status.

use std::process::ExitCode;

use clap::Parser;
use master::config::{CommandLine, Subcommands};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    master::logging::init(command_line.serve.log_format);
    // Two TLS providers may be compiled in by accident of features; this decides.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mesolith-master: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match command_line.command {
        Some(Subcommands::Token(args)) => runtime.block_on(master::token_command::run(&args)),
        Some(Subcommands::ApiToken(command)) => runtime.block_on(master::token_command::api_token(&command)),
        Some(Subcommands::RevokeNode(args)) => runtime.block_on(master::token_command::revoke_node(&args)),
        Some(Subcommands::ReadmitNode(args)) => runtime.block_on(master::token_command::readmit_node(&args)),
        Some(Subcommands::RevokeCertificate(args)) => {
            runtime.block_on(master::token_command::revoke_certificate(&args))
        }
        Some(Subcommands::Snapshot(command)) => runtime.block_on(master::rescue::snapshot(&command)),
        Some(Subcommands::Recover(args)) => master::rescue::recover(&args),
        Some(Subcommands::ClientCertificate(args)) => master::token_command::client_certificate(&args),
        None => match master::config::read(command_line.serve, |name| std::env::var(name).ok()) {
            Ok(config) => runtime.block_on(master::run(config)),
            Err(errors) => {
                eprintln!("mesolith-master cannot start:\n{errors}");
                return ExitCode::from(2);
            }
        },
    };
    // Blocking tasks (a large rendering) must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesolith-master: {error:#}");
            ExitCode::FAILURE
        }
    }
}
