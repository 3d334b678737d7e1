//! Loads the drivers of what the machine has: at boot for everything, later for what is plugged in.
//!
//! A process of its own, because a driver may take seconds to initialise, or never come back, and `init` must go on.

mod firmware;
pub(crate) mod uevent;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use agent_core::handover::{Hello, InitCall, InitRequest, MAX_PACKET, VERSION, Welcome};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{error, info, warn};

use crate::logging::{self, chain};
use crate::modules::{Modules, ModulesError};
use crate::run_dir::RunDir;
use crate::seqpacket::{Connection, SeqpacketError};
use crate::uptime;
use firmware::FirmwareWatch;
use uevent::{Uevent, UeventError, Uevents};

/// The machine is settled when no device has appeared for so long after the last driver was loaded.
const QUIET_MS: u64 = 50;
/// Or when this much time has passed: some buses never fall silent.
const SETTLE_MS: u64 = 10_000;

/// Why this process ends; `init` starts it again.
#[derive(Debug, thiserror::Error)]
enum DevicesError {
    #[error("cannot hear of new devices")]
    Uevents(#[source] UeventError),
    #[error("cannot load drivers")]
    Modules(#[source] ModulesError),
    #[error("cannot tell init that drivers are loaded")]
    Ready(#[source] SeqpacketError),
    #[error("cannot wait for devices")]
    Wait(#[source] nix::errno::Errno),
}

/// Runs for ever.
pub(crate) fn run() -> ExitCode {
    logging::start();
    let _ = nix::sys::prctl::set_name(c"mesolith-device");
    match serve() {
        Ok(never) => match never {},
        Err(error) => {
            error!(error = %chain(&error), "device handling ended");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<std::convert::Infallible, DevicesError> {
    // Before the walk, so that a device which appears meanwhile is seen by one or the other.
    let mut uevents = Uevents::open().map_err(DevicesError::Uevents)?;
    let mut firmware = FirmwareWatch::open();
    coldplug(&mut uevents, &mut firmware, || tell_ready(&RunDir::from_environment()))?;
    loop {
        wait(&uevents, &firmware, PollTimeout::NONE)?;
        firmware.report();
        let waiting = drain(&mut uevents, &mut firmware)?;
        if !waiting.is_empty() {
            // The index is some hundred kilobytes: it is read again for the rare new device and not kept.
            let modules = Modules::open().map_err(DevicesError::Modules)?;
            let mut known = BTreeSet::new();
            load(&modules, &waiting, &mut known);
        }
    }
}

/// Loads drivers for all there is, and for what appears because of them. What the agent needs to know the machine by,
/// networks and disks, goes first; `ready` is called when they have been quiet for a while, the others follow.
fn coldplug(
    uevents: &mut Uevents,
    firmware: &mut FirmwareWatch,
    ready: impl FnOnce() -> Result<(), SeqpacketError>,
) -> Result<(), DevicesError> {
    let started = uptime::millis();
    let modules = match Modules::open() {
        Ok(modules) => modules,
        // A kernel with everything built in needs no index.
        Err(error) => {
            warn!(error = %chain(&error), "no drivers can be loaded");
            return ready().map_err(DevicesError::Ready);
        }
    };
    let mut queue = Queue::default();
    let mut found = BTreeSet::new();
    find_aliases(Path::new("/sys/devices"), &mut found);
    queue.add(found);
    let (mut known, mut count) = (BTreeSet::new(), 0);
    let (mut ready, mut busy_ms) = (Some(ready), uptime::millis());
    loop {
        let now = uptime::millis();
        let settled = now.saturating_sub(busy_ms) >= QUIET_MS || now.saturating_sub(started) >= SETTLE_MS;
        if settled && let Some(ready) = ready.take() {
            info!(modules = count, millis = now.saturating_sub(started), "drivers of networks and disks loaded");
            ready().map_err(DevicesError::Ready)?;
        }
        // One driver that tests its ciphers takes a second: the others wait until `init` goes on.
        let least = if ready.is_some() { Class::Storage } else { Class::Other };
        match queue.next(least) {
            Some((class, alias)) => {
                count += load(&modules, &BTreeSet::from([alias]), &mut known);
                if class != Class::Other {
                    busy_ms = uptime::millis();
                }
            }
            None if settled => break,
            None => wait(uevents, firmware, PollTimeout::try_from(QUIET_MS).unwrap_or(PollTimeout::ZERO))?,
        }
        firmware.report();
        queue.add(drain(uevents, firmware)?);
    }
    // No device asks for these: they keep a kernel's last words over a restart.
    for (store, wanted) in [
        ("efi_pstore", Path::new("/sys/firmware/efi/efivars").exists()),
        ("ramoops", std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| line.contains("ramoops.mem_address="))),
    ] {
        if wanted {
            count += load(&modules, &BTreeSet::from([store.to_owned()]), &mut known);
        }
    }
    info!(modules = count, millis = uptime::millis().saturating_sub(started), "drivers loaded");
    Ok(())
}

/// What kind of device an alias is for, the most urgent first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Class {
    Network,
    Storage,
    Other,
}

impl Class {
    fn of(alias: &str) -> Class {
        // A PCI alias ends in its class: bc02 are network controllers, bc01 disks and their controllers. Virtual
        // machines have buses of their own, which carry little else.
        let virtual_bus = ["virtio:", "vmbus:", "xen:"].iter().any(|bus| alias.starts_with(bus));
        match alias {
            alias if virtual_bus || (alias.starts_with("pci:") && alias.contains("bc02sc")) => Class::Network,
            alias if alias.starts_with("scsi:") || (alias.starts_with("pci:") && alias.contains("bc01sc")) => {
                Class::Storage
            }
            _ => Class::Other,
        }
    }
}

/// Aliases to load, each once.
#[derive(Debug, Default)]
struct Queue {
    seen: BTreeSet<String>,
    waiting: BTreeSet<(Class, String)>,
}

impl Queue {
    fn add(&mut self, aliases: BTreeSet<String>) {
        for alias in aliases {
            if self.seen.insert(alias.clone()) {
                self.waiting.insert((Class::of(&alias), alias));
            }
        }
    }

    /// The most urgent one, if it is at least so urgent.
    fn next(&mut self, least: Class) -> Option<(Class, String)> {
        let (class, _) = self.waiting.first()?;
        if *class > least { None } else { self.waiting.pop_first() }
    }
}

/// Takes every waiting event; the aliases of new devices come back.
fn drain(uevents: &mut Uevents, firmware: &mut FirmwareWatch) -> Result<BTreeSet<String>, DevicesError> {
    let mut aliases = BTreeSet::new();
    loop {
        match uevents.next() {
            Ok(Some(Uevent::DeviceAdded { modalias })) => drop(aliases.insert(modalias)),
            Ok(Some(Uevent::FirmwareWanted { name, device_path })) => firmware.refuse(&name, &device_path),
            Ok(Some(Uevent::Other)) => {}
            Ok(None) => return Ok(aliases),
            // Events were lost: what they told of is found by looking.
            Err(UeventError::Overrun) => find_aliases(Path::new("/sys/devices"), &mut aliases),
            Err(error @ (UeventError::Open(_) | UeventError::Receive(_))) => return Err(DevicesError::Uevents(error)),
        }
    }
}

fn load(modules: &Modules, aliases: &BTreeSet<String>, known: &mut BTreeSet<String>) -> usize {
    let mut count = 0;
    for alias in aliases {
        let loaded = modules.load(alias, known);
        count += loaded.new.len();
        for (module, errno) in loaded.failed {
            warn!(module, alias, error = errno.desc(), "driver not loaded");
        }
    }
    count
}

/// Reads every `modalias` below a directory of sysfs. Links lead out of the tree and are not followed.
fn find_aliases(dir: &Path, found: &mut BTreeSet<String>) {
    // A device that goes away while we look is no error.
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            find_aliases(&entry.path(), found);
        } else if entry.file_name() == "modalias"
            && let Ok(alias) = std::fs::read_to_string(entry.path())
            && !alias.trim_end().is_empty()
        {
            found.insert(alias.trim_end().to_owned());
        }
    }
}

fn wait(uevents: &Uevents, firmware: &FirmwareWatch, timeout: PollTimeout) -> Result<(), DevicesError> {
    let mut set = vec![PollFd::new(uevents.as_fd(), PollFlags::POLLIN)];
    set.extend(firmware.descriptor().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    match poll(&mut set, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(DevicesError::Wait(errno)),
    }
}

fn tell_ready(run: &RunDir) -> Result<(), SeqpacketError> {
    let init = Connection::connect(&run.init_socket())?;
    init.send(&Hello { version: VERSION, client: "devices".to_owned() })?;
    let mut buffer = vec![0; MAX_PACKET];
    init.receive::<Welcome>(&mut buffer)?;
    init.send(&InitCall { id: 1, request: InitRequest::Ready })?;
    // The answer says nothing more than that it was read.
    init.receive::<serde_json::Value>(&mut buffer)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_come_first_then_disks_and_nothing_twice() {
        let mut queue = Queue::default();
        let nvme = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
        let e1000e = "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00";
        queue.add(["acpi:PNP0303:", nvme, e1000e].map(str::to_owned).into());
        assert_eq!(queue.next(Class::Storage).unwrap(), (Class::Network, e1000e.to_owned()));
        queue.add(["virtio:d00000001v00001AF4", e1000e].map(str::to_owned).into());
        assert_eq!(queue.next(Class::Network).unwrap().1, "virtio:d00000001v00001AF4");
        assert_eq!(queue.next(Class::Network), None);
        let rest: Vec<String> = std::iter::from_fn(|| queue.next(Class::Other)).map(|(_, alias)| alias).collect();
        assert_eq!(rest, [nvme, "acpi:PNP0303:"]);
    }

    #[test]
    fn aliases_are_found_at_every_depth_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("pci0/0000:00:1f.2/ata1");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("modalias"), "scsi:t-0x00\n").unwrap();
        std::fs::write(dir.path().join("pci0/modalias"), "\n").unwrap();
        std::fs::write(dir.path().join("modalias"), "cpu:type:x86\n").unwrap();
        std::os::unix::fs::symlink("..", deep.join("subsystem")).unwrap();
        let mut found = BTreeSet::new();
        find_aliases(dir.path(), &mut found);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["cpu:type:x86", "scsi:t-0x00"]);
    }
}
