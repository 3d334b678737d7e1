//! Clients of Mesos as their authors published them, installed by version and hash, never edited: `tests/clients`.
//!
//! What is installed is compared, file by file, with what the package index gave, after the client has run.

mod failover;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use failover::PymesosFailover;

use crate::rack::repository;

/// A package index is asked for a few megabytes.
const INSTALL: Duration = Duration::from_secs(300);

/// Some thousand small files are read.
const VERIFY: Duration = Duration::from_secs(120);

/// Lines a client may have said that nobody has taken; when there are more it waits in its write.
const WAITING_LINES: usize = 256;

/// The directory with the programs and the pinned versions.
#[must_use]
pub fn programs() -> PathBuf {
    repository().join("tests/clients")
}

/// A Python virtual environment with packages from the index.
pub struct PythonPackages {
    dir: PathBuf,
    requirements: Vec<PathBuf>,
}

impl PythonPackages {
    /// Makes the environment in `dir`, with the packages of these files of `tests/clients`, each by its hash.
    pub fn install(dir: &Path, requirements: &[&str]) -> Result<Self> {
        Self::install_with(Path::new("python3"), "build-requirements.txt", dir, requirements)
    }

    /// The same with another interpreter, and with what the packages are built with.
    pub fn install_with(python: &Path, build: &str, dir: &Path, requirements: &[&str]) -> Result<Self> {
        let began = Instant::now();
        let requirements: Vec<_> = requirements.iter().map(|file| programs().join(file)).collect();
        let log = dir.with_extension("log");
        run_to_end(Command::new(python).args(["-m", "venv"]).arg(dir), &log, INSTALL)
            .context("cannot make a virtual environment; `./dev test` installs python3-venv")?;
        let packages = Self { dir: dir.to_owned(), requirements };
        packages.pip(&[programs().join(build)], &log)?;
        packages.pip(&packages.requirements, &log)?;
        println!("{} installed in {:.1} s", dir.display(), began.elapsed().as_secs_f32());
        Ok(packages)
    }

    fn pip(&self, requirements: &[PathBuf], log: &Path) -> Result<()> {
        let mut command = self.python();
        command.args(["-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--require-hashes"]);
        command.args(["--no-deps", "--no-cache-dir", "--no-build-isolation"]);
        for file in requirements {
            command.arg("-r").arg(file);
        }
        // See sitecustomize.py there, beside which no byte code shall lie afterwards.
        command.env("PYTHONPATH", programs().join("build")).env("PYTHONDONTWRITEBYTECODE", "1");
        run_to_end(&mut command, log, INSTALL).map(drop)
    }

    /// Its interpreter.
    #[must_use]
    pub fn python(&self) -> Command {
        let mut command = Command::new(self.dir.join("bin/python"));
        command.env_remove("PYTHONDONTWRITEBYTECODE");
        command
    }

    /// A command a package brought, with the environment's own commands first in its `PATH`.
    pub fn command(&self, name: &str) -> Result<Command> {
        let bin = self.dir.join("bin");
        let others = std::env::var_os("PATH").unwrap_or_default();
        let mut command = Command::new(bin.join(name));
        command.env("PATH", std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&others)))?);
        command.env_remove("PYTHONDONTWRITEBYTECODE");
        Ok(command)
    }

    /// Compares every installed file with its package's record, and gives what was found.
    pub fn verify(&self) -> Result<String> {
        let mut command = self.python();
        command.arg(programs().join("verify_installed.py")).args(&self.requirements);
        run_to_end(&mut command, &self.dir.with_extension("log"), VERIFY)
    }
}

/// The npm package mesos-framework and what it needs, in a directory of its own beside our program.
pub struct NodePackages {
    dir: PathBuf,
    cache: PathBuf,
}

impl NodePackages {
    /// Installs what package-lock.json of `tests/clients/mesos-framework` names, each package by its hash.
    pub fn install(dir: &Path) -> Result<Self> {
        let began = Instant::now();
        let packages = Self { dir: dir.to_owned(), cache: dir.join("cache") };
        fs::create_dir_all(dir)?;
        for file in ["package.json", "package-lock.json", "framework.js"] {
            fs::copy(programs().join("mesos-framework").join(file), dir.join(file))
                .with_context(|| format!("cannot copy {file}"))?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--cache"]);
        npm.arg(&packages.cache).current_dir(dir);
        run_to_end(&mut npm, &dir.join("npm.log"), INSTALL)
            .context("cannot install with npm; `./dev test` installs nodejs and npm")?;
        println!("{} installed in {:.1} s", dir.display(), began.elapsed().as_secs_f32());
        Ok(packages)
    }

    /// Our program on it.
    #[must_use]
    pub fn framework(&self) -> Command {
        let mut command = Command::new("node");
        command.arg("framework.js").current_dir(&self.dir);
        command
    }

    /// Compares every installed file with the packages as they came, those with package-lock.json, and says how many.
    pub fn verify(&self) -> Result<String> {
        let mut command = Command::new("python3");
        command.arg(programs().join("mesos-framework/verify_installed.py")).arg(&self.dir).arg(&self.cache);
        run_to_end(&mut command, &self.dir.join("verify.log"), VERIFY)
    }
}

/// Runs to the end within the deadline and gives what was said; anything else is an error that tells it.
pub fn run_to_end(command: &mut Command, log: &Path, deadline: Duration) -> Result<String> {
    let described = format!("{command:?}");
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn().with_context(|| format!("cannot start {described}"))?;
    let end = Instant::now() + deadline;
    let said = || fs::read_to_string(log).unwrap_or_default();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(said()),
            Some(status) => bail!("{described}: {status}\n{}", said()),
            None if Instant::now() > end => {
                child.kill()?;
                child.wait()?;
                bail!("{described} was not done within {deadline:?}\n{}", said());
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A client that runs beside the test and does what it is told on its standard input. Dropping it kills it.
pub struct Conversation {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Conversation {
    /// Starts the command; its standard error goes to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let input = child.stdin.take().context("its input is a pipe")?;
        let output = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        let (sender, lines) = sync_channel(WAITING_LINES);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, lines, log: log.to_owned() })
    }

    /// Waits until it says exactly this line; other lines are passed over.
    pub fn wait_for(&self, wanted: &str, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let said = || fs::read_to_string(&self.log).unwrap_or_default();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line == wanted => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("no `{wanted}` within {timeout:?}\n{}", said()),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended before `{wanted}`\n{}", said()),
            }
        }
    }

    /// Tells it one line and waits for its answer `done`.
    pub fn order(&mut self, order: &str, timeout: Duration) -> Result<()> {
        self.tell(order)?;
        self.wait_for("done", timeout).with_context(|| format!("ordered to `{order}`"))
    }

    /// Tells it one line.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").with_context(|| {
            format!("it does not listen to `{line}`\n{}", fs::read_to_string(&self.log).unwrap_or_default())
        })
    }

    /// Waits until it has ended well.
    pub fn end(mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            // Its output is taken until the end, or it could not write it.
            while self.lines.try_recv().is_ok() {}
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                ensure!(status.success(), "{status}\n{said}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it did not end within {timeout:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
