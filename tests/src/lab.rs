//! The rack for people: what `./dev up`, `status`, `down`, `image`, `bench` and `load` do.

mod bench;
mod image;
mod load;
mod progress;
mod up;

use std::path::Path;

use anyhow::Result;

use crate::rack::{Kind, Rack};

pub use bench::bench;
pub use image::{Freshness, image};
pub use load::{
    Commits, Containers, Failover, Load, Part, Place, commits, containers, failover, load, part, run_as_init,
};
pub use up::{Stay, Up, up};

/// Whether a verb prints for people or for programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON document.
    Json,
}

/// Prints how the rack in `dir` stands; an error if none runs there.
pub fn status(dir: &Path, format: Format) -> Result<()> {
    let rack = Rack::find(dir)?;
    let status = rack.status()?;
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&status)?),
        Format::Text => {
            let pid = |pid: Option<u32>| pid.map_or_else(|| "not running".to_owned(), |pid| format!("pid {pid}"));
            let kind = match (status.kind, status.accelerator) {
                (Kind::Hosted, _) => "hosted agents".to_owned(),
                (Kind::Virtual, Some(accelerator)) => format!("virtual servers ({accelerator:?})").to_lowercase(),
                (Kind::Virtual, None) => "virtual servers".to_owned(),
            };
            println!("rack     {} in {}", kind, status.dir.display());
            println!("API      {} (loopback, no authentication)", status.api);
            println!("master   {}, log {}", pid(status.master.pid), status.master.log.display());
            println!("CA       {}", status.ca.display());
            for node in &status.nodes {
                println!(
                    "{:<8} {:<4} {:<12} {} rack {:<5} {}, console {}",
                    node.name,
                    node.state,
                    node.ip,
                    node.mac,
                    node.rack,
                    pid(node.pid),
                    node.console.display()
                );
            }
        }
    }
    Ok(())
}

/// Ends the rack in `dir` and waits until it is gone; fine if none runs there.
pub fn down(dir: &Path) -> Result<()> {
    match Rack::find(dir) {
        Ok(rack) => {
            rack.end()?;
            println!("the rack is down");
        }
        Err(error) => println!("{error}"),
    }
    Ok(())
}
