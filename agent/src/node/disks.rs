//! The node's disks: looked at, prepared as the operator's rules say, mounted, watched, and offered.
//!
//! One pass at a time does all of it on a thread that may block ([`worker`]); what it found is on the [`Board`], which
//! everybody may read. Nothing waits for a pass but the first registration of a boot, so that what is on disks is not taken
//! for lost.

pub(crate) mod board;
mod device;
mod durable;
mod health;
mod mounting;
mod owner;
pub(crate) mod settled;
mod tools;
mod volumes;
mod wiping;
pub(crate) mod worker;

pub(crate) use board::Board;
pub(crate) use volumes::{awaited, is_there};
pub(crate) use wiping::wipe;

use std::path::Path;
use std::time::Duration;

use agent_core::disks::gpt::Guid;
use mounting::MountingError;

use super::settings::Settings;

/// How often file systems are looked at for errors, and disks for what is new.
pub(crate) const EVERY: Duration = Duration::from_secs(30);
/// How often disks are asked how they are.
const HEALTH: Duration = Duration::from_secs(60);
/// How often they are told what is not used any more.
const TRIM: Duration = Duration::from_secs(24 * 3600);

/// Before anything else of the agent begins: what is ours on the disks that are there is mounted, what the node knew of itself
/// is brought back, and the pool becomes the work directory.
pub(crate) fn at_start(settings: &Settings) {
    if settings.hosted {
        return;
    }
    worker::mount_ours(settings);
    if let Some(directory) = settings.disks.state_directory() {
        durable::restore(&directory, &settings.state, settings.token.as_deref());
    }
    settings.disks.find_adopted(&settings.work_dir);
    // A new pool is the driver's to adopt, when no task is in its way: so is one that opened while tasks ran.
    let Some(guid) = settings.disks.marked_to_adopt(&settings.work_dir).filter(|_| !has_tasks(&settings.state)) else {
        return;
    };
    match adopt(guid, settings) {
        Ok(()) => tracing::info!(partition = %guid, "sandboxes, images and volumes are on a disk"),
        Err(error) => settings.disks.failed(guid, &crate::logging::chain(&error)),
    }
}

/// Did this process take over from one that ran tasks? The driver knows only later. What cannot be read has some.
fn has_tasks(state: &Path) -> bool {
    let any = |kind: &str| match std::fs::read_dir(state.join(kind)) {
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        Ok(mut entries) => entries.next().is_some(),
    };
    any("tasks") || any("executors")
}

/// Makes the pool the work directory.
pub(crate) fn adopt(guid: Guid, settings: &Settings) -> Result<(), MountingError> {
    mounting::adopt_pool(guid, &settings.work_dir)?;
    settings.disks.adopted(guid);
    Ok(())
}

/// Keeps what the node has to know again after its next boot.
pub(crate) fn save_state(settings: &Settings) {
    if let Some(directory) = settings.disks.state_directory()
        && let Err(error) = durable::save(&settings.state, &directory)
    {
        tracing::warn!(%error, "the node's state is not kept on its disk");
    }
}
