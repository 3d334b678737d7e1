//! The end of a node: what is ours on its disks is nobody's afterwards.

use agent_core::disks::content::Content;
use agent_core::disks::preparing;
use hwdetect::SysRoot;

use super::device::{geometry, look, sequence, write_anyway};
use super::{Board, durable};

/// Forgets the node's state, destroys the keys of encrypted partitions and the tables of all disks of ours. Gives how many.
/// The machine starts anew afterwards: what is mounted is not waited for.
pub(crate) fn wipe(board: &Board) -> usize {
    if let Some(directory) = board.state_directory()
        && let Err(error) = durable::forget(&directory)
    {
        tracing::warn!(%error, "the node's state on its disk is not forgotten file by file");
    }
    let mut wiped = 0;
    for disk in hwdetect::detect(&SysRoot::host()).disks {
        // Another node's is not ours to empty.
        if board.lock().strangers.contains_key(&sequence(&disk)) {
            continue;
        }
        let Content::Ours(layout) = look(&disk) else { continue };
        let Some(stages) = preparing::forget(&layout, geometry(&disk)) else { continue };
        match write_anyway(&disk, &stages) {
            Ok(()) => {
                tracing::warn!(disk = disk.name, serial = disk.serial, "a disk is emptied");
                wiped += 1;
            }
            Err(error) => tracing::error!(disk = disk.name, %error, "a disk is not emptied"),
        }
    }
    wiped
}
