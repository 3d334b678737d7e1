//! Phases of boot and of the end, each with a deadline: a machine that hangs in one begins anew and says in which.
//!
//! `init` is one thread, and a system call that never returns would hold it for ever. While it is in a phase a second
//! thread waits beside it, and ends the machine when the phase does not end.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use agent_core::handover::PowerAction;
use nix::sys::reboot::{RebootMode, reboot};

use super::console;

/// What is done when a phase takes too long. Must not return.
type Overrun = fn(&str, Duration);

/// The phases of one boot or end.
#[derive(Debug)]
pub(crate) struct Phases {
    /// The next phase's name and deadline; none when all is over.
    watcher: Option<Sender<(&'static str, Duration)>>,
    current: Option<(&'static str, Instant)>,
    done: Vec<(&'static str, Duration)>,
}

impl Phases {
    /// None yet. Where no thread can be had there are no deadlines, which is better than no boot.
    pub(crate) fn watched_by(overrun: Overrun) -> Phases {
        let (sender, phases) = channel::<(&'static str, Duration)>();
        let watch = move || {
            let mut current: Option<(&'static str, Duration)> = None;
            loop {
                let next = match current {
                    Some((_, within)) => phases.recv_timeout(within),
                    None => phases.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                match (next, current) {
                    (Ok(phase), _) => current = Some(phase),
                    (Err(RecvTimeoutError::Timeout), Some((name, within))) => {
                        overrun(name, within);
                        current = None;
                    }
                    (Err(_), _) => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("phases".to_owned()).stack_size(64 << 10).spawn(watch);
        Phases { watcher: thread.is_ok().then_some(sender), current: None, done: Vec::new() }
    }

    /// The next phase begins; the one before is over.
    pub(crate) fn begin(&mut self, name: &'static str, within: Duration) {
        self.close();
        self.current = Some((name, Instant::now()));
        if let Some(watcher) = &self.watcher {
            // Gone only when it has ended the machine.
            let _ = watcher.send((name, within));
        }
    }

    /// All is over; what each took, for the log.
    pub(crate) fn end(mut self) -> String {
        self.close();
        self.watcher = None;
        let one = |(name, took): &(&'static str, Duration)| format!("{name} {} ms", took.as_millis());
        self.done.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn close(&mut self) {
        if let Some((name, since)) = self.current.take() {
            self.done.push((name, since.elapsed()));
        }
    }
}

/// A phase of the boot hangs: the machine is no use like this.
pub(crate) fn boot_hangs(name: &str, within: Duration) {
    console::cry_out(&format!("the boot hangs in `{name}` after {} s: this machine restarts", within.as_secs()));
    end_at_once(PowerAction::Reboot);
}

/// A phase of the end hangs: what it waits for is given up, and the machine ends as it was to end.
pub(crate) const fn end_hangs(action: PowerAction) -> Overrun {
    match action {
        PowerAction::Reboot => restarting_hangs,
        PowerAction::PowerOff => powering_off_hangs,
    }
}

fn restarting_hangs(name: &str, within: Duration) {
    go_on_without(name, within);
    end_at_once(PowerAction::Reboot);
}

fn powering_off_hangs(name: &str, within: Duration) {
    go_on_without(name, within);
    end_at_once(PowerAction::PowerOff);
}

fn go_on_without(name: &str, within: Duration) {
    console::cry_out(&format!("ending hangs in `{name}` after {} s: going on without it", within.as_secs()));
}

/// Without waiting for disks or file systems, which may be what hangs.
fn end_at_once(action: PowerAction) {
    let (mode, key) = last_calls(action);
    let _ = reboot(mode);
    // The kernel's own way, where the call hangs or is refused.
    let _ = std::fs::write("/proc/sysrq-trigger", key);
}

/// What the kernel is asked for, and the key that says the same.
const fn last_calls(action: PowerAction) -> (RebootMode, &'static str) {
    match action {
        PowerAction::Reboot => (RebootMode::RB_AUTOBOOT, "b"),
        PowerAction::PowerOff => (RebootMode::RB_POWER_OFF, "o"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn note(name: &str, _: Duration) {
        SEEN.lock().unwrap().push(name.to_owned());
    }

    #[test]
    fn a_machine_that_was_to_power_off_does_not_restart_when_its_end_hangs() {
        assert_eq!(last_calls(PowerAction::PowerOff), (RebootMode::RB_POWER_OFF, "o"));
        assert_eq!(last_calls(PowerAction::Reboot), (RebootMode::RB_AUTOBOOT, "b"));
    }

    #[test]
    fn only_a_phase_that_hangs_is_seen() {
        let mut phases = Phases::watched_by(note);
        phases.begin("quick", Duration::from_secs(60));
        phases.begin("slow", Duration::from_millis(20));
        let began = Instant::now();
        while SEEN.lock().unwrap().is_empty() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        phases.begin("after", Duration::from_secs(60));
        let said = phases.end();
        assert_eq!(*SEEN.lock().unwrap(), ["slow"]);
        assert!(said.starts_with("quick ") && said.contains(", slow ") && said.contains(", after "), "{said}");
    }
}
