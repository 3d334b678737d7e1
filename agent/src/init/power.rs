//! How a node ends: services first, then tasks, then the machine. Never by accident, always in bounded time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_core::handover::PowerAction;
use nix::mount::{MntFlags, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sync};

use super::cgroups;
use super::farewell;
use super::phases::{self, Phases};
use super::supervisor::Supervisor;
use crate::uptime;

/// What each of the steps may take.
const STEP_MS: u64 = 5_000;

/// Ends the tasks below a cgroup while the agent still lives, which so learns how each of them has ended: SIGTERM, then
/// SIGKILL as soon as only such are left as do not hear it.
pub(crate) fn end_tasks(supervisor: &mut Supervisor, tasks: &Path) {
    for pid in cgroups::processes_below(tasks) {
        // One that has just ended is what we want.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    // The first process of a container that has no handler for it never gets it.
    let deaf = || cgroups::processes_below(tasks).into_iter().all(|pid| !hears_sigterm(pid));
    supervisor.work_until(uptime::millis() + STEP_MS, |_| deaf());
    // Gone or empty already is fine.
    let _ = cgroups::kill_all(tasks);
    let told = |supervisor: &Supervisor| !cgroups::is_populated(tasks) && supervisor.exits_are_taken();
    if !supervisor.work_until(uptime::millis() + STEP_MS, told) {
        supervisor.console.say("the agent has not learnt in time how every task ended");
    }
}

/// Whether a process ends, or does something of its own, on SIGTERM: not if it ignores it, nor if it is the first of a
/// PID namespace and has no handler.
fn hears_sigterm(pid: i32) -> bool {
    const BIT: u64 = 1 << (Signal::SIGTERM as u64 - 1);
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let mask = |name: &str| u64::from_str_radix(field(name), 16).unwrap_or_default() & BIT != 0;
    let first = field("NSpid:").split_whitespace().skip(1).last() == Some("1");
    mask("SigCgt:") || !(first || mask("SigIgn:"))
}

/// Ends every process below us: the agent may finish what it does, then tasks and everything else are killed.
pub(crate) fn end_processes(supervisor: &mut Supervisor, tasks: Option<&Path>, leftovers: impl Fn()) {
    let within = |supervisor: &mut Supervisor, done: &dyn Fn(&Supervisor) -> bool| {
        supervisor.work_until(uptime::millis() + STEP_MS, done)
    };
    let gone = |supervisor: &Supervisor, names: &dyn Fn(&str) -> bool| {
        supervisor.services.iter().all(|service| service.pid().is_none() || !names(service.name()))
    };
    let signal = |supervisor: &Supervisor, names: &dyn Fn(&str) -> bool, signal: Signal| {
        supervisor.services.iter().filter(|service| names(service.name())).for_each(|service| service.signal(signal));
    };
    let agent = |name: &str| name == "agent";
    let all = |_: &str| true;

    signal(supervisor, &agent, Signal::SIGTERM);
    if !within(supervisor, &|supervisor| gone(supervisor, &agent)) {
        supervisor.console.say("the agent has not ended in time");
    }
    signal(supervisor, &all, Signal::SIGTERM);
    if let Some(tasks) = tasks {
        // Gone or empty already is fine.
        let _ = cgroups::kill_all(tasks);
    }
    let tasks_ended = || tasks.is_none_or(|tasks| !cgroups::is_populated(tasks));
    if !within(supervisor, &|supervisor| gone(supervisor, &all) && tasks_ended()) {
        supervisor.console.say("some processes have not ended in time: killed");
    }
    leftovers();
    let _ = within(supervisor, &|supervisor| gone(supervisor, &all));
}

/// What writing everything to disks may take, and what unmounting may: a disk that hangs must not keep the machine.
const SYNC: Duration = Duration::from_secs(30);
const UNMOUNT: Duration = Duration::from_secs(10);
/// What the kernel itself may take to end.
const LAST_CALL: Duration = Duration::from_secs(30);

/// Ends the machine. Returns only if the kernel refuses.
pub(crate) fn end_machine(supervisor: &mut Supervisor, action: PowerAction) {
    supervisor.watchdog.guard_the_end();
    farewell::say();
    let mut phases = Phases::watched_by(phases::end_hangs(action));
    phases.begin("kill", UNMOUNT);
    // Everything but us.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    phases.begin("sync", SYNC);
    sync();
    phases.begin("unmount", UNMOUNT);
    for target in targets(&fs::read_to_string("/proc/self/mounts").unwrap_or_default()) {
        // Lazily, so that one that is busy does not stop the others; the sync before has written what matters.
        let _ = umount2(target.as_str(), MntFlags::MNT_DETACH);
    }
    phases.begin("sync again", SYNC);
    sync();
    if action == PowerAction::PowerOff {
        supervisor.watchdog.disarm();
    }
    let (mode, word) = match action {
        PowerAction::Reboot => (RebootMode::RB_AUTOBOOT, "restarting"),
        PowerAction::PowerOff => (RebootMode::RB_POWER_OFF, "powering off"),
    };
    phases.begin("the kernel's end", LAST_CALL);
    supervisor.console.say(word);
    supervisor.console.flush();
    let Err(errno) = reboot(mode);
    supervisor.console.say(format!("the kernel refuses to end this machine: {errno}"));
}

/// What to unmount, the last mounted first. What lives in memory and what the console needs stays.
fn targets(mounts: &str) -> Vec<String> {
    let keep = |target: &str| {
        target == "/" || ["/proc", "/sys", "/dev", "/run"].iter().any(|top| Path::new(target).starts_with(top))
    };
    let target = |line: &str| line.split(' ').nth(1).map(unescape);
    mounts.lines().rev().filter_map(target).filter(|target| !keep(target)).collect()
}

/// Undoes the octal escapes of /proc/mounts.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Kills every descendant of this process, again and again until none is left: what hosted mode without cgroups has
/// instead of `cgroup.kill`. Bounded, in case something forks faster than we kill.
pub(crate) fn kill_descendants() {
    for _ in 0..100 {
        let pids = children();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // Their own children become ours when they are reaped.
        std::thread::sleep(std::time::Duration::from_millis(5));
        super::reaper::ended_children();
    }
}

/// The children of this process that have not ended.
fn children() -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let processes = procfs::process::all_processes().into_iter().flatten().flatten();
    let stats = processes.filter_map(|process| process.stat().ok());
    stats.filter(|stat| stat.ppid == own && stat.state != 'Z').map(|stat| stat.pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_last_is_unmounted_first_and_the_console_stays() {
        let mounts = "rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\ntmpfs /var tmpfs rw 0 0\n\
            /dev/sda /var/lib/my\\040disk ext4 rw 0 0\ntmpfs /running tmpfs rw 0 0\ndevtmpfs /dev devtmpfs rw 0 0\n";
        assert_eq!(targets(mounts), ["/running", "/var/lib/my disk", "/var"]);
    }
}
