//! The lock file: which packages the image is made of, to the byte.
//!
//! ```text
//! date 2026-11-21
//! kernel linux-image-6.1.0-56-amd64 6.1.192-2 amd64 <sha256>
//! task-root busybox-static 1:1.35.0-4+deb12u1+b1 amd64 <sha256>
//! certificates ca-certificates 20250419~deb12u2 all <sha256>
//! disk-tools e2fsprogs 1.47.0-2+b2 amd64 <sha256>
//! ```
//!
//! The date is the day of pinning and the image's build time, so that no clock has a say in its bytes.

use crate::apt::Apt;
use crate::console::Console;
use crate::digest::write_file;
use crate::disk_tools;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the lock file lies in the source tree, from its root.
pub(crate) const DEFAULT_PATH: &str = "image/packages.lock";

/// The committed lock file, for a program that runs outside the source tree.
const EMBEDDED: &str = include_str!("../packages.lock");

const SECONDS_OF_DAY: u64 = 86_400;

/// What a package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Kernel,
    TaskRoot,
    Certificates,
    /// Several packages: the programs that make and open what is on disks, and their libraries.
    DiskTools,
}

impl Role {
    const ALL: [Role; 4] = [Role::Kernel, Role::TaskRoot, Role::Certificates, Role::DiskTools];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Role::Kernel => "kernel",
            Role::TaskRoot => "task-root",
            Role::Certificates => "certificates",
            Role::DiskTools => "disk-tools",
        }
    }

    /// The option that replaces the package by a file.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Role::Kernel => "--kernel",
            Role::TaskRoot => "--busybox",
            Role::Certificates => "--ca-certificates",
            Role::DiskTools => "--disk-tools",
        }
    }

    /// The packages to ask apt for when pinning. The kernel's is a meta package that depends on the newest real one.
    fn packages(self) -> Vec<&'static str> {
        match self {
            Role::Kernel => vec!["linux-image-amd64"],
            Role::TaskRoot => vec!["busybox-static"],
            Role::Certificates => vec!["ca-certificates"],
            Role::DiskTools => disk_tools::packages(),
        }
    }
}

/// One package, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) role: Role,
    pub(crate) package: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
    pub(crate) sha256: String,
}

/// All packages and the day they were pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    /// Seconds since 1970 of that day's beginning, in UTC.
    pub(crate) date_unix: u64,
    pins: Vec<Pin>,
}

impl Lock {
    /// Reads the lock file, or the one compiled in when the default path does not exist here.
    pub(crate) fn load(path: &Path) -> Result<Lock> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(_) if path == Path::new(DEFAULT_PATH) && !path.exists() => EMBEDDED.to_owned(),
            Err(error) => return Err(error).with_context(|| format!("cannot read lock file {}", path.display())),
        };
        Lock::parse(&text).with_context(|| format!("in lock file {}", path.display()))
    }

    /// The packages of a role: one, or all of its tools'.
    pub(crate) fn pins(&self, role: Role) -> impl Iterator<Item = &Pin> {
        self.pins.iter().filter(move |pin| pin.role == role)
    }

    fn parse(text: &str) -> Result<Lock> {
        let mut date_unix = None;
        let mut pins: Vec<Pin> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let content = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = content.split_whitespace().collect();
            let pin = match words.as_slice() {
                [] => continue,
                ["date", date] => {
                    let seconds = parse_date(date).with_context(|| format!("line {}: date {date:?}", number + 1))?;
                    date_unix = Some(seconds);
                    continue;
                }
                [role, package, version, architecture, sha256] => Role::ALL
                    .into_iter()
                    .find(|known| known.word() == *role)
                    .filter(|_| is_digest(sha256))
                    .filter(|_| [package, version, architecture].iter().all(|word| is_plain(word)))
                    .map(|role| Pin {
                        role,
                        package: (*package).to_owned(),
                        version: (*version).to_owned(),
                        architecture: (*architecture).to_owned(),
                        sha256: (*sha256).to_owned(),
                    }),
                _ => None,
            };
            let pin = pin.with_context(|| {
                format!(
                    "line {}: expected \"date YYYY-MM-DD\" or \"ROLE PACKAGE VERSION ARCHITECTURE SHA256\"",
                    number + 1
                )
            })?;
            ensure!(
                pins.iter().all(
                    |known| known.role != pin.role || (pin.role == Role::DiskTools && known.package != pin.package)
                ),
                "line {}: {} is pinned twice",
                number + 1,
                pin.role.word()
            );
            pins.push(pin);
        }
        if let Some(role) = Role::ALL.into_iter().find(|role| pins.iter().all(|pin| pin.role != *role)) {
            bail!("no package is pinned for {}", role.word());
        }
        Ok(Lock { date_unix: date_unix.context("the date of pinning is missing")?, pins })
    }

    fn render(&self) -> String {
        let mut text = String::from(
            "# The packages the image is made of; `mesolith-image update-lock` rewrites this file.\n\
             # The date is the image's build time unless SOURCE_DATE_EPOCH says otherwise.\n",
        );
        text.push_str(&format!("date {}\n", render_date(self.date_unix)));
        for pin in &self.pins {
            let Pin { role, package, version, architecture, sha256 } = pin;
            text.push_str(&format!("{} {package} {version} {architecture} {sha256}\n", role.word()));
        }
        text
    }
}

/// Asks apt for the newest packages and rewrites the lock file if they differ from it.
pub(crate) fn update(path: &Path, cache: &Path, console: &Console) -> Result<Lock> {
    let mut apt = Apt::new(cache);
    apt.refresh(console)?;
    let mut pins = Vec::new();
    for (role, package) in
        Role::ALL.into_iter().flat_map(|role| role.packages().into_iter().map(move |one| (role, one)))
    {
        let mut stanza = apt.show(package)?;
        if role == Role::Kernel {
            let depends = stanza.field("Depends")?;
            let real = depends.split([' ', ',', '|']).find(|word| word.starts_with("linux-image-"));
            let real = real.with_context(|| format!("{package} depends on no kernel: {depends}"))?;
            stanza = apt.show(real)?;
        }
        pins.push(Pin {
            role,
            package: stanza.field("Package")?.to_owned(),
            version: stanza.field("Version")?.to_owned(),
            architecture: stanza.field("Architecture")?.to_owned(),
            sha256: stanza.field("SHA256")?.to_owned(),
        });
    }
    // Unchanged packages keep their date: an update that finds nothing new changes nothing in the image.
    if let Ok(text) = fs::read_to_string(path)
        && let Ok(known) = Lock::parse(&text)
        && known.pins == pins
    {
        console.note(&format!("{} is up to date", path.display()));
        return Ok(known);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let lock = Lock { date_unix: now - now % SECONDS_OF_DAY, pins };
    // What is written must be what will be read.
    ensure!(Lock::parse(&lock.render())? == lock, "apt's answer does not fit the lock file's format");
    write_file(path, lock.render().as_bytes())?;
    for pin in &lock.pins {
        console.note(&format!("pinned {} {}", pin.package, pin.version));
    }
    Ok(lock)
}

fn is_digest(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The characters Debian allows in names and versions; above all no `/` and no leading `-`.
fn is_plain(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphanumeric())
        && word.chars().all(|character| character.is_ascii_alphanumeric() || ".+-~:".contains(character))
}

/// Days of the Gregorian calendar, counted in years that begin in March, so that the leap day comes last.
fn parse_date(date: &str) -> Result<u64> {
    let parts: Vec<u64> = date.split('-').map(str::parse).collect::<Result<_, _>>().context("not YYYY-MM-DD")?;
    let [year, month, day] = parts[..] else { bail!("not YYYY-MM-DD") };
    ensure!((1970..=2105).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day), "not a day");
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * SECONDS_OF_DAY;
    ensure!(render_date(seconds) == date, "there is no such day");
    Ok(seconds)
}

fn render_date(seconds: u64) -> String {
    let days = seconds / SECONDS_OF_DAY + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) =
        if month < 10 { (era * 400 + year_of_era, month + 3) } else { (era * 400 + year_of_era + 1, month - 9) };
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> String {
        let digest = "0123456789abcdef".repeat(4);
        format!(
            "date 2026-11-21\nkernel k 6.1-2 amd64 {digest}\ntask-root b 1:1.35+b1 amd64 {digest}\n\
             certificates c 2025~deb12 all {digest} # why\ndisk-tools e 1 amd64 {digest}\ndisk-tools x 2 amd64 {digest}\n"
        )
    }

    #[test]
    fn a_lock_reads_back_as_written() {
        let lock = Lock::parse(&text()).unwrap();
        assert_eq!(lock.date_unix, 1_795_219_200);
        assert_eq!(lock.pins(Role::TaskRoot).next().unwrap().version, "1:1.35+b1");
        assert_eq!(lock.pins(Role::DiskTools).map(|pin| pin.package.as_str()).collect::<Vec<_>>(), ["e", "x"]);
        assert_eq!(Lock::parse(&lock.render()).unwrap(), lock);
    }

    #[test]
    fn the_committed_lock_is_valid() {
        let lock = Lock::parse(EMBEDDED).unwrap();
        assert_eq!(lock.render(), EMBEDDED);
    }

    #[test]
    fn mistakes_are_refused_with_their_line() {
        let cases = [
            (text().replace("2026-11-21", "2026-02-30"), "line 1"),
            (text().replace("kernel k", "kernel ../k"), "line 2"),
            (text().replace("kernel k", "kernel -o"), "line 2"),
            (text().replace("certificates c", "kernel c"), "kernel is pinned twice"),
            (text().replace("abcdef", "abcdeX"), "line 2"),
            (text().replace("date 2026-11-21\n", ""), "date of pinning"),
            (text().lines().take(3).collect::<Vec<_>>().join("\n"), "pinned for certificates"),
            (text().lines().take(4).collect::<Vec<_>>().join("\n"), "pinned for disk-tools"),
            (text().replace("disk-tools x", "disk-tools e"), "disk-tools is pinned twice"),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", Lock::parse(&text).unwrap_err());
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }

    proptest! {
        #[test]
        fn every_day_survives(day in 0u64..49_000) {
            let seconds = day * SECONDS_OF_DAY;
            prop_assert_eq!(parse_date(&render_date(seconds)).unwrap(), seconds);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9 #\n-]{0,80}", date in "[0-9-]{0,24}") {
            let _ = Lock::parse(&text);
            let _ = parse_date(&date);
        }
    }
}
