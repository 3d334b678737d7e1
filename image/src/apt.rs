//! Packages by apt: downloaded into a cache, checked against the lock, never installed.
//!
//! apt knows where packages come from, so this program need not. When the system's package lists do not know a pinned
//! version, lists of our own are fetched into the cache; that needs no privilege and changes nothing on the system.

use crate::console::{Console, human};
use crate::digest::{sha256, write_file};
use crate::lock::Pin;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where packages are kept between builds, from the source tree's root.
pub(crate) const DEFAULT_CACHE: &str = ".cache";

/// apt with its own cache directory.
pub(crate) struct Apt {
    cache: PathBuf,
    lists: Lists,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    System,
    Own,
}

/// The description of one version of a package.
pub(crate) struct Stanza {
    text: String,
}

impl Apt {
    pub(crate) fn new(cache: &Path) -> Apt {
        Apt { cache: cache.to_owned(), lists: Lists::System }
    }

    /// The bytes of a pinned package: from the cache, else downloaded.
    pub(crate) fn package(&mut self, pin: &Pin, console: &Console) -> Result<Vec<u8>> {
        let name = format!("{}_{}_{}.deb", pin.package, pin.version.replace(':', "%3a"), pin.architecture);
        let directory = self.cache.join("packages");
        let cached = directory.join(&name);
        if let Ok(bytes) = fs::read(&cached) {
            if sha256(&bytes) == pin.sha256 {
                return Ok(bytes);
            }
            console.note(&format!("{} is not the pinned file and is fetched again", cached.display()));
        }
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let stage = console.stage("fetch package", 0);
        let bytes = match self.download(pin, &directory) {
            Err(_) if self.lists == Lists::System => {
                self.refresh(console)?;
                self.download(pin, &directory)
            }
            answer => answer,
        };
        let bytes = bytes.with_context(|| {
            let option = pin.role.option();
            format!(
                "apt does not offer {} {}, which the lock file pins; pin what it offers now with --update-lock, \
                 or give the package's file with {option} FILE.deb",
                pin.package, pin.version
            )
        })?;
        let found = sha256(&bytes);
        ensure!(
            found == pin.sha256,
            "{} {} has sha256 {found}, but the lock file says {}",
            pin.package,
            pin.version,
            pin.sha256
        );
        write_file(&cached, &bytes)?;
        stage.done(&format!("{name}, {}", human(bytes.len() as u64)));
        Ok(bytes)
    }

    /// Fetches package lists into the cache and uses them from now on.
    pub(crate) fn refresh(&mut self, console: &Console) -> Result<()> {
        for directory in ["apt/state/lists/partial", "apt/cache/archives/partial"] {
            let directory = self.cache.join(directory);
            fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        }
        self.lists = Lists::Own;
        let stage = console.stage("fetch package lists", 0);
        let output = self.run(self.command("apt-get")?.arg("update"))?;
        succeeded("apt-get update", &output)?;
        stage.done("into the cache");
        Ok(())
    }

    /// The newest version of a package.
    pub(crate) fn show(&self, package: &str) -> Result<Stanza> {
        let output = self.run(self.command("apt-cache")?.args(["--no-all-versions", "show", "--", package]))?;
        succeeded("apt-cache show", &output).with_context(|| format!("apt knows no package {package}"))?;
        let text = String::from_utf8(output.stdout).context("apt-cache show does not print UTF-8")?;
        ensure!(!text.trim().is_empty(), "apt knows no package {package}");
        Ok(Stanza { text })
    }

    /// apt-get writes into its working directory under a name of its own: give it an empty one.
    fn download(&self, pin: &Pin, directory: &Path) -> Result<Vec<u8>> {
        let incoming = directory.join(format!("incoming-{}", std::process::id()));
        fs::create_dir_all(&incoming).with_context(|| format!("cannot create {}", incoming.display()))?;
        let what = format!("{}={}", pin.package, pin.version);
        let answer = self
            .command("apt-get")
            .and_then(|mut command| self.run(command.args(["download", "--", &what]).current_dir(&incoming)))
            .and_then(|output| succeeded("apt-get download", &output))
            .and_then(|()| only_file(&incoming));
        fs::remove_dir_all(&incoming).with_context(|| format!("cannot remove {}", incoming.display()))?;
        answer
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(program);
        // Downloads are written by this process's user, and a silent mirror must not hang the build.
        let mut options = vec![
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Retries=2".to_owned(),
            "Acquire::http::Timeout=60".to_owned(),
            "Acquire::https::Timeout=60".to_owned(),
        ];
        if self.lists == Lists::Own {
            let own = fs::canonicalize(self.cache.join("apt")).context("the cache has no package lists")?;
            options.push(format!("Dir::State={}", own.join("state").display()));
            options.push("Dir::State::status=/var/lib/dpkg/status".to_owned());
            options.push(format!("Dir::Cache={}", own.join("cache").display()));
        }
        for option in options {
            command.arg("-o").arg(option);
        }
        command.env("LC_ALL", "C").stdin(Stdio::null());
        Ok(command)
    }

    fn run(&self, command: &mut Command) -> Result<Output> {
        let program = command.get_program().to_owned();
        command.output().with_context(|| {
            format!(
                "cannot run {}: packages come by apt; elsewhere give the files with --kernel, --busybox, \
                 --ca-certificates and --disk-tools",
                program.display()
            )
        })
    }
}

impl Stanza {
    pub(crate) fn field(&self, name: &str) -> Result<&str> {
        let value = self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map(str::trim).with_context(|| format!("apt-cache show gives no {name}"))
    }
}

fn only_file(directory: &Path) -> Result<Vec<u8>> {
    let mut entries = fs::read_dir(directory).context("cannot list the download")?;
    let entry = entries.next().context("apt-get download wrote no file")?.context("cannot list the download")?;
    fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))
}

fn succeeded(what: &str, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let reason = errors.lines().find(|line| line.starts_with("E:")).or_else(|| errors.lines().next_back());
    bail!("{what} failed ({}): {}", output.status, reason.unwrap_or("no reason given"))
}
