//! What a process costs, by /proc.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// A process that is measured.
#[derive(Clone, Copy)]
pub(super) struct Process(pub(super) u32);

impl Process {
    /// Processor time used so far, by all its threads: by clock tick.
    pub(super) fn cpu(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The second field is a name in parentheses, which may hold spaces.
        let rest = stat.rsplit_once(')').context("/proc/PID/stat has a name")?.1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system).context("/proc/PID/stat has times")?;
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("clock ticks are counted")?;
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// Resident memory, bytes.
    pub(super) fn resident(self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most resident memory it ever had, bytes.
    pub(super) fn peak(self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(self, field: &str) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let line = line.with_context(|| format!("/proc/PID/status has {field}"))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has the master ended?"))
    }
}
