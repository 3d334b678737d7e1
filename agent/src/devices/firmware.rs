//! Names the firmware files drivers asked for in vain: a network card without its own is silent, and this is why.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use tracing::warn;

/// Names told before; beyond that many something is wrong that more lines do not explain.
const MAX_NAMES: usize = 256;

/// Reads the kernel's log from its beginning.
#[derive(Debug)]
pub(super) struct FirmwareWatch {
    log: Option<File>,
    told: BTreeSet<String>,
}

impl FirmwareWatch {
    /// Without access to the kernel's log nothing is reported.
    pub(super) fn open() -> FirmwareWatch {
        let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let log = File::options().read(true).custom_flags(flags.bits()).open("/dev/kmsg").ok();
        FirmwareWatch { log, told: BTreeSet::new() }
    }

    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.log.as_ref().map(AsFd::as_fd)
    }

    /// Tells of what the log says since the last time.
    pub(super) fn report(&mut self) {
        let mut record = [0; 8192];
        while let Some(log) = &mut self.log {
            match log.read(&mut record) {
                Ok(0) => return,
                Ok(len) => {
                    let text = String::from_utf8_lossy(&record[..len]).into_owned();
                    if let Some((driver, file)) = missing_firmware(&text) {
                        self.tell(driver, file);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // EPIPE: records were overwritten before we came; the next read gives the oldest there is.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.log = None,
            }
        }
    }

    /// The kernel waits for user space to bring a file: it has none either, and the driver need not wait a minute.
    pub(super) fn refuse(&mut self, name: &str, device_path: &str) {
        self.tell("a driver", name);
        let loading = Path::new("/sys").join(device_path.trim_start_matches('/')).join("loading");
        // Gone already when the kernel has lost patience.
        let _ = std::fs::write(loading, "-1");
    }

    fn tell(&mut self, driver: &str, file: &str) {
        if self.told.len() < MAX_NAMES && self.told.insert(file.to_owned()) {
            warn!(driver, firmware = file, "firmware is not in the image: the device may not work");
        }
    }
}

/// The driver with its device, and the file, if a record of the kernel's log tells that firmware was not found.
fn missing_firmware(record: &str) -> Option<(&str, &str)> {
    // `priority,sequence,time,flags;text`, then lines that begin with a space.
    let (_, text) = record.split_once(';')?;
    let text = text.lines().next()?;
    let between = |start: &str, end: &str| {
        let (driver, rest) = text.split_once(start)?;
        let (file, _) = rest.split_once(end)?;
        Some((driver.trim_end_matches(": "), file))
    };
    // Debian's kernel words it differently from kernel.org's.
    between("Direct firmware load for ", " failed with error").or_else(|| between("firmware: failed to load ", " ("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_wordings_of_the_kernel_are_understood() {
        let tg3 = "4,812,3456789,-;tg3 0000:02:00.0: Direct firmware load for tigon/tg3.bin failed with error -2\n SUBSYSTEM=pci\n";
        assert_eq!(missing_firmware(tg3), Some(("tg3 0000:02:00.0", "tigon/tg3.bin")));
        let debian = "3,813,3456790,-;bnx2 0000:03:00.0: firmware: failed to load bnx2/bnx2-mips-09-6.2.1b.fw (-2)\n";
        assert_eq!(missing_firmware(debian), Some(("bnx2 0000:03:00.0", "bnx2/bnx2-mips-09-6.2.1b.fw")));
        for other in ["", "6,1,2,-;", "6,1,2,-;firmware: failed to load", "6,1,2,-;usb 1-1: new device"] {
            assert_eq!(missing_firmware(other), None, "{other}");
        }
    }
}
