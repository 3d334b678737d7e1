//! How much memory our own processes hold: said once on the console, because on a RAM-only node it is the tasks' loss.

use procfs::process::{Process, all_processes};

/// `resident: init 1.2 MB, launcher 4.5 MB, agent 11.0 MB`; empty when /proc cannot be read.
pub(crate) fn line() -> String {
    let Ok(us) = Process::myself().and_then(|process| process.exe()) else { return String::new() };
    let Ok(processes) = all_processes() else { return String::new() };
    let ours: Vec<String> = processes
        .filter_map(|process| {
            let process = process.ok()?;
            if process.exe().ok()? != us {
                return None;
            }
            let role = match process.pid() {
                1 => "init".to_owned(),
                _ => process.cmdline().ok()?.into_iter().last()?,
            };
            let resident_kib = process.status().ok()?.vmrss?;
            let tenths = resident_kib * 10 / 1024;
            Some(format!("{role} {}.{} MB", tenths / 10, tenths % 10))
        })
        .collect();
    format!("resident: {}", ours.join(", "))
}
