//! What boots before this one left behind: read from pstore, told to the master until it has it, then removed there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::link::{CrashReport, FromAgent, from_agent};
use sha2::{Digest, Sha256};

use super::events::Session;
use super::supervision;

/// Where the kernel shows what firmware or memory has kept.
const PSTORE: &str = "/sys/fs/pstore";
/// How often an unanswered report is sent again.
pub(crate) const AGAIN: Duration = Duration::from_secs(10);
/// Bytes of one report. The end says why.
const LONGEST: usize = 48 << 10;
/// Reports of one look; the rest is found by the next.
const MOST: usize = 16;

/// Reports that no master has taken.
#[derive(Debug, Default)]
pub(crate) struct CrashReports {
    waiting: BTreeMap<String, (CrashReport, Vec<PathBuf>)>,
}

impl CrashReports {
    /// Looks at what is there now.
    pub(crate) fn look(&mut self, boot_id: &str) {
        self.look_in(Path::new(PSTORE), boot_id);
    }

    fn look_in(&mut self, directory: &Path, boot_id: &str) {
        let mut records: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            records.entry(event_of(&name)).or_default().push(entry.path());
        }
        // What cannot be read is not empty: it stays, and does not take the place of what can be told.
        let readable = records.into_iter().filter_map(|(event, mut paths)| {
            paths.sort();
            match read_all(&paths) {
                Ok(parts) => Some((event, paths, parts)),
                Err(error) => {
                    tracing::debug!(event, %error, "a crash record cannot be read");
                    None
                }
            }
        });
        for (event, paths, mut parts) in readable.take(MOST) {
            // A long message is in parts, the last of it in the first: their headers say which (`Panic#1 Part1`).
            parts.sort_by_key(|(part, _)| std::cmp::Reverse(*part));
            let mut text: String = parts.into_iter().map(|(_, text)| text).collect();
            if text.trim().is_empty() {
                paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
                continue;
            }
            if text.len() > LONGEST {
                let from = (text.len() - LONGEST..).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                text = text.split_off(from);
            }
            let digest = Sha256::digest(text.as_bytes());
            let id = format!("{event}-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
            let kind = kind_of(&event, &text).to_owned();
            let unix_ms = supervision::now().unix_ms;
            let report = CrashReport { id: id.clone(), kind, unix_ms, text, boot_id: boot_id.to_owned() };
            self.waiting.entry(id).or_insert((report, paths));
        }
    }

    /// How many no master has.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Tells the master of all of them.
    pub(crate) fn send(&self, session: &Session) {
        for (report, _) in self.waiting.values() {
            let message = Some(from_agent::Message::CrashReport(report.clone()));
            // Full: sent again with the next look.
            let _ = session.urgent.try_send(FromAgent { message });
        }
    }

    /// A master has one: the machine need not keep it.
    pub(crate) fn taken(&mut self, id: &str) {
        if let Some((_, paths)) = self.waiting.remove(id) {
            for path in paths {
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "a crash record stays where it is");
                }
            }
        }
    }
}

/// Every record of one message, with its part's number.
fn read_all(paths: &[PathBuf]) -> std::io::Result<Vec<(u32, String)>> {
    let mut parts = Vec::new();
    for path in paths {
        let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        parts.push((part_of(&text), text));
    }
    Ok(parts)
}

/// Which records belong together: `dmesg-efi-169000000012001` is part 12 (of event 001) of one message, `dmesg-ramoops-0` a
/// whole one.
fn event_of(name: &str) -> String {
    let plain = name.trim_end_matches(".enc.z");
    match plain.strip_prefix("dmesg-efi-") {
        // Seconds since 1970, the part in two digits, the count in three.
        Some(digits) if digits.len() > 15 => format!("dmesg-efi-{}-{}", &digits[..10], &digits[digits.len() - 3..]),
        Some(digits) if digits.len() == 15 => format!("dmesg-efi-{}-{}", &digits[..10], &digits[12..]),
        Some(_) | None => plain.to_owned(),
    }
}

/// `Panic#2 Part3` in its first line.
fn part_of(text: &str) -> u32 {
    let first = text.lines().next().unwrap_or_default();
    first.split_once("Part").and_then(|(_, part)| part.trim().parse().ok()).unwrap_or(0)
}

fn kind_of(event: &str, text: &str) -> &'static str {
    let has = |word: &str| text.contains(word);
    if event.starts_with("pmsg") {
        "init"
    } else if event.starts_with("console") {
        "console"
    } else if has("Panic#") || has("Kernel panic") {
        "panic"
    } else if has("Oops#") || has("Oops:") {
        "oops"
    } else {
        "kernel"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_message_are_put_together_and_removed_when_a_master_has_them() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("dmesg-efi-170000000001001", "Panic#1 Part1\nKernel panic - not syncing: the end\n"),
            ("dmesg-efi-170000000002001", "Panic#1 Part2\nbefore\n"),
            ("dmesg-ramoops-0", "Oops#1 Part1\nBUG: unable\n"),
            ("pmsg-ramoops-0", ""),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut reports = CrashReports::default();
        reports.look_in(dir.path(), "boot");
        reports.look_in(dir.path(), "boot");
        assert_eq!(reports.len(), 2, "{reports:?}");
        let kinds: Vec<&str> = reports.waiting.values().map(|(report, _)| report.kind.as_str()).collect();
        assert_eq!(kinds, ["panic", "oops"]);
        let (first, _) = reports.waiting.values().next().unwrap();
        assert!(first.text.find("before").unwrap() < first.text.find("the end").unwrap(), "{}", first.text);
        let id = first.id.clone();
        reports.taken(&id);
        reports.taken("another");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["dmesg-ramoops-0"], "an empty record is removed, one that nobody took is not");
    }

    #[test]
    fn a_record_that_cannot_be_read_stays_with_all_of_its_message() {
        let dir = tempfile::tempdir().unwrap();
        let [unread, part, whole] = ["dmesg-efi-170000000001001", "dmesg-efi-170000000002001", "dmesg-ramoops-0"]
            .map(|name| dir.path().join(name));
        // Nobody reads a directory as a file, whatever they may.
        std::fs::create_dir(&unread).unwrap();
        std::fs::write(&part, "").unwrap();
        std::fs::write(&whole, "Oops#1 Part1\nBUG: unable\n").unwrap();
        let mut reports = CrashReports::default();
        reports.look_in(dir.path(), "boot");
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert!(unread.exists() && part.exists() && whole.exists());
    }
}
