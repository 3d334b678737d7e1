//! A container's cgroup, read; and SIGTERM for everything in it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use agent_core::container::Usage;
use agent_core::launch::Limits;
use agent_core::record::Process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where the hierarchy is mounted.
const HIERARCHY: &str = "/sys/fs/cgroup";
/// How often a task that was asked to end is looked at.
const POLL: Duration = Duration::from_millis(50);

/// How long a container may take from its start to its own program before it is limited all the same.
const LAUNCH: Duration = Duration::from_secs(2);
/// How often it is looked at until then.
const LAUNCH_POLL: Duration = Duration::from_millis(5);

/// The directory of one container's cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// `parent` is absolute within the hierarchy, as in the container's specification.
    pub(crate) fn of(parent: &str, container: &str) -> Self {
        Self(PathBuf::from(format!("{HIERARCHY}{parent}/{container}")))
    }

    /// What it used; zeros when there is no cgroup.
    pub(crate) fn usage(&self) -> Usage {
        let text = |file: &str| fs::read_to_string(self.0.join(file)).unwrap_or_default();
        Usage {
            oom_kills: value_of(&text("memory.events"), "oom_kill").unwrap_or(0),
            memory_peak_bytes: text("memory.peak").trim().parse().ok(),
        }
    }

    /// Writes cpu.max once the first process runs the task's own program.
    pub(crate) async fn limit_cpu(&self, first: Process, cpu_max: &str) -> std::io::Result<()> {
        let ends = tokio::time::Instant::now() + LAUNCH;
        while is_still_us(first.pid) && tokio::time::Instant::now() < ends {
            tokio::time::sleep(LAUNCH_POLL).await;
        }
        match fs::write(self.0.join("cpu.max"), cpu_max) {
            // It has ended already, and its cgroup with it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Other limits than it was made with. What may be used of memory only grows: less than is used already would kill.
    pub(crate) async fn resize(&self, first: Process, limits: &Limits) -> std::io::Result<()> {
        let write = |file: &str, value: &str| match fs::write(self.0.join(file), value) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        write("cpu.weight", &limits.cpu_weight.to_string())?;
        let now = fs::read_to_string(self.0.join("memory.max")).unwrap_or_default();
        match (now.trim().parse::<u64>(), limits.memory_bytes) {
            (Ok(now), Some(bytes)) if bytes > now => write("memory.max", &bytes.to_string())?,
            (Ok(_), None) => write("memory.max", "max")?,
            (Ok(_) | Err(_), _) => {}
        }
        self.limit_cpu(first, &limits.cpu_max()).await
    }

    /// Writes cpuset.cpus.
    pub(crate) fn share_cores(&self, cpus: &str) -> std::io::Result<()> {
        match fs::write(self.0.join("cpuset.cpus"), cpus) {
            // It has ended already, and its cgroup with it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn processes(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid| *pid > 0).collect()
    }

    /// SIGTERM to the whole process tree, as Mesos's command executor sends it. True when SIGKILL is due before the
    /// grace is over.
    ///
    /// The first process is the init of a PID namespace: a SIGTERM it has no handler for is dropped by the kernel,
    /// where outside a namespace it would end. So such a process is let go as soon as it is alone, which is when its
    /// children have ended in their own time.
    pub(crate) async fn terminate(&self, first: Process, grace: Duration) -> bool {
        for pid in self.processes() {
            // One that ended between reading and signalling is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if handles_sigterm(first.pid) {
            return false;
        }
        let ends = tokio::time::Instant::now() + grace;
        while tokio::time::Instant::now() < ends {
            let left = self.processes();
            if left.iter().all(|pid| *pid == first.pid) {
                return !left.is_empty();
            }
            tokio::time::sleep(POLL).await;
        }
        false
    }
}

/// Has not yet executed anything else than this binary, which the launcher is, too.
fn is_still_us(pid: i32) -> bool {
    let file = |path: &str| fs::metadata(path).ok().map(|about| (about.dev(), about.ino()));
    match (file(&format!("/proc/{pid}/exe")), file("/proc/self/exe")) {
        (Some(theirs), Some(ours)) => theirs == ours,
        _ => false,
    }
}

/// Catches or ignores SIGTERM. A process that cannot be looked at counts as one that does.
fn handles_sigterm(pid: i32) -> bool {
    const BIT: u64 = 1 << (Signal::SIGTERM as u64 - 1);
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    match (mask("SigCgt:"), mask("SigIgn:")) {
        (Some(caught), Some(ignored)) => (caught | ignored) & BIT != 0,
        _ => true,
    }
}

fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Clock ticks between boot and a process's start; `None` when there is no such process.
pub(crate) fn start_ticks(pid: i32) -> Option<u64> {
    procfs::process::Process::new(pid).ok()?.stat().ok().map(|stat| stat.starttime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_whole_name() {
        let text = "low 0\nhigh 0\nmax 19\noom 1\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(value_of(text, "oom_kill"), Some(2));
        assert_eq!(value_of(text, "oom"), Some(1));
        assert_eq!(value_of(text, "oops"), None);
    }

    #[test]
    fn a_process_has_one_start_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(start_ticks(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(start_ticks(own), start_ticks(own));
        assert_eq!(start_ticks(i32::MAX), None);
    }
}
