//! The machine under us: processors, load, memory, as /proc tells.

/// At one moment. What cannot be read is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Over 1, 5 and 15 minutes.
    pub(crate) averages: [f64; 3],
    /// Processors we may use.
    pub(crate) cpus: u64,
    /// Memory nobody uses.
    pub(crate) memory_free_bytes: u64,
    /// All memory.
    pub(crate) memory_total_bytes: u64,
}

impl Load {
    /// Looks. Reads two short files of /proc, which never wait for a disk.
    pub(crate) fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
        Self { cpus, ..Self::parse(&text("/proc/loadavg"), &text("/proc/meminfo")) }
    }

    fn parse(loadavg: &str, meminfo: &str) -> Self {
        let mut averages = [0.0; 3];
        for (average, word) in averages.iter_mut().zip(loadavg.split_whitespace()) {
            *average = word.parse().unwrap_or(0.0);
        }
        let bytes = |name: &str| -> u64 {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kibibytes.unwrap_or(0).saturating_mul(1024)
        };
        let (memory_free_bytes, memory_total_bytes) = (bytes("MemFree"), bytes("MemTotal"));
        Self { averages, cpus: 0, memory_free_bytes, memory_total_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let load =
            Load::parse("0.50 1.25 2.00 3/400 5\n", "MemTotal:       1000 kB\nMemFree:  10 kB\nMemFreeX: 3 kB\n");
        assert_eq!(load.averages, [0.5, 1.25, 2.0]);
        assert_eq!((load.memory_free_bytes, load.memory_total_bytes), (10_240, 1_024_000));
        assert!(Load::read().memory_total_bytes > 0 && Load::read().cpus > 0);
    }
}
