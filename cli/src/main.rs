//! `mesolith`: the operator's command line. One file a verb; all of them speak the public HTTP API.

mod advice;
mod cluster;
mod exec;
mod files;
mod fleet;
mod frameworks;
mod hw;
mod logs;
mod master;
mod masters;
mod network;
mod node;
mod nodes;
mod offers;
mod options;
mod pump;
mod render;
mod rules;
mod run;
mod scheduler;
mod secrets;
mod stats;
mod target;
mod tasks;
mod teardown;
mod version;

use std::process::ExitCode;

use api::node_api::Method;
use clap::Parser;

use crate::advice::advise;
use crate::cluster::Which;
use crate::options::{NetworkChange, Options, Verb};
use crate::render::{Format, Output};

fn main() -> ExitCode {
    let options = Options::parse();
    // Several threads, because a reader that does not take our output must not keep us from answering the master.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return advice::report(&anyhow::Error::new(error).context("cannot start"), 1),
    };
    let failure_code = options.verb.failure_code();
    let outcome = runtime.block_on(perform(options));
    // Reads of stdin or name look-ups still under way are not waited for.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) if advice::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => advice::report(&error, failure_code),
    }
}

async fn perform(options: Options) -> anyhow::Result<u8> {
    let output = Output::new(if options.json { Format::Json } else { Format::Table });
    let master = target::find(&options)?;
    match options.verb {
        Verb::Nodes { condition } => nodes::list(&master, &output, condition.as_deref()).await?,
        Verb::Tasks { all } => tasks::list(&master, &output, if all { Which::All } else { Which::Current }).await?,
        Verb::Frameworks { all } => {
            frameworks::list(&master, &output, if all { Which::All } else { Which::Current }).await?
        }
        Verb::Offers => offers::list(&master, &output).await?,
        Verb::Logs(which) => logs::show(&master, &which).await?,
        Verb::Files(which) => files::show(&master, &output, &which).await?,
        Verb::Exec(what) => return exec::exec(&master, &what).await,
        Verb::Attach(what) => return exec::attach(&master, &what).await,
        Verb::Hw { node } => hw::show(&master, &output, &node).await?,
        Verb::Node { node, method: Method::Network, network } => {
            network::perform(&master, &output, &node, &network).await?
        }
        Verb::Node { network: NetworkChange { change: Some(word), .. }, method, .. } => {
            return Err(advise(
                format!("`{method} {word}`: only `network` can be set"),
                "mesolith node NODE network set FILE",
            ));
        }
        Verb::Node { node, method, .. } => node::call(&master, &output, &node, method).await?,
        Verb::Stats { node } => stats::show(&master, &output, node.as_deref()).await?,
        Verb::Rules { what } => rules::perform(&master, &output, &what).await?,
        Verb::Claim(what) => fleet::claim(&master, &output, &what).await?,
        Verb::Claims { remove_rule } => fleet::claims(&master, &output, remove_rule.as_deref()).await?,
        Verb::Retire { node } => fleet::end(&master, &output, &node, fleet::End::Retire).await?,
        Verb::Reprovision { node } => fleet::end(&master, &output, &node, fleet::End::Reprovision).await?,
        Verb::Crashes { node, text } => fleet::crashes(&master, &output, node.as_deref(), text.as_deref()).await?,
        Verb::Authority { change } => fleet::authority(&master, &output, change.as_ref()).await?,
        Verb::Secrets { what } => secrets::perform(&master, &output, &what).await?,
        Verb::Run(task) => return run::run(&master, &output, &task).await,
        Verb::Teardown { framework } => teardown::teardown(&master, &output, &framework).await?,
        Verb::Masters { change: None } => masters::list(&master, &output).await?,
        Verb::Masters { change: Some(change) } => masters::change(&master, &output, &change).await?,
        Verb::Version => version::show(&master, &output).await?,
    }
    Ok(0)
}
