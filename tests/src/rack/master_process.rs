//! The master of a rack, as the serving process sees it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::control::MasterStatus;
use super::dnsmasq::BOOT_PORT;
use super::network::{LOOPBACK, master_address};
use super::options::{Kind, Options, Places};
use super::process::{Process, Program, tail};
use super::programs::required;
use super::zookeeper::ZK_PORT;

/// The master's port for agents inside the rack.
const LINK_PORT: u16 = 5052;

/// What the first start may take: it makes a CA and opens its log.
const READY: Duration = Duration::from_secs(60);

/// What a master that was asked to end may take.
const GRACE: Duration = Duration::from_secs(10);

/// Starts, ends and starts again; keeps the framework listener in between, so that clients wait instead of failing.
pub(super) struct MasterProcess {
    program: PathBuf,
    /// Counted from 1.
    number: usize,
    dir: PathBuf,
    args: Vec<String>,
    /// Where agents connect.
    pub(super) link: String,
    /// Where machines boot from, if any do.
    pub(super) boot: Option<String>,
    api: TcpListener,
    process: Option<Process>,
}

impl MasterProcess {
    /// Writes the machines file; starts nothing.
    pub(super) fn new(options: &Options, dir: &Path, number: usize, api: TcpListener) -> Result<Self> {
        required(&options.programs.master)?;
        let machines: Vec<Value> = options
            .node_plans()
            .iter()
            .map(|node| {
                let mut machine = json!({"mac": node.mac, "name": node.name, "cmdline": options.cmdline});
                if options.places == Places::Told {
                    machine["attributes"] = format!("rack:{}", node.rack).into();
                }
                machine
            })
            .collect();
        let file = dir.join("machines.json");
        fs::write(&file, serde_json::to_vec_pretty(&machines)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let data = dir.join(name(number));
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        // Logs are appended to, so that a restart shows; a new rack begins with none.
        let log = dir.join(format!("{}.log", name(number)));
        fs::write(&log, "").with_context(|| format!("cannot empty {}", log.display()))?;
        let text = |path: &Path| path.display().to_string();
        let (host, link_port) = match options.kind {
            Kind::Virtual => (master_address(number), LINK_PORT),
            // Hosted agents are on the host's own network: everything on loopback, beside whatever else runs there.
            Kind::Hosted => (LOOPBACK.to_owned(), free_port()?),
        };
        let link = format!("{host}:{link_port}");
        let mut flags = vec![
            ("--data", text(&data)),
            ("--http", "fd:0".to_owned()),
            ("--link", link.clone()),
            ("--advertise", host.clone()),
        ];
        let boot = match options.kind {
            Kind::Hosted => None,
            Kind::Virtual => {
                let address = format!("{host}:{BOOT_PORT}");
                flags.extend([("--boot", address.clone()), ("--boot-dir", text(&options.image_dir))]);
                if options.places == Places::Unlisted {
                    flags.extend([("--boot-machines", "any".to_owned()), ("--boot-cmdline", options.cmdline.clone())]);
                } else {
                    flags.push(("--machines", text(&file)));
                }
                Some(format!("http://{address}"))
            }
        };
        let mut args: Vec<String> = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        args.push("--insecure-api".to_owned());
        if options.masters > 1 {
            // Clients are on the host, and are sent from one master to another.
            args.extend(["--advertise-http".to_owned(), api.local_addr()?.to_string()]);
            if options.kind == Kind::Virtual {
                args.extend(["--zk".to_owned(), format!("{host}:{ZK_PORT}")]);
            }
        }
        args.extend(options.master_args.iter().cloned());
        Ok(Self {
            program: options.programs.master.clone(),
            number,
            dir: dir.to_owned(),
            args,
            link,
            boot,
            api,
            process: None,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub(super) fn url(&self) -> Result<String> {
        Ok(format!("http://{}", self.api.local_addr()?))
    }

    /// How it stands.
    pub(super) fn status(&mut self) -> MasterStatus {
        MasterStatus {
            url: self.url().unwrap_or_default(),
            pid: self.pid(),
            link: self.link.clone(),
            boot: self.boot.clone(),
            log: self.log(),
        }
    }

    /// The data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join(name(self.number))
    }

    /// The log file.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.log", name(self.number)))
    }

    /// Starts it and waits until it says in `ready.json` that it serves.
    pub(super) fn start(&mut self, more: &[String]) -> Result<()> {
        ensure!(self.pid().is_none(), "the master is running already");
        let ready = self.data().join("ready.json");
        if ready.exists() {
            fs::remove_file(&ready).with_context(|| format!("cannot remove {}", ready.display()))?;
        }
        let mut args = self.args.clone();
        args.extend_from_slice(more);
        let log = self.log();
        let called = format!("mesolith-{}", name(self.number));
        let mut process = Process::start(Program {
            name: &called,
            file: &self.program,
            args,
            log: &log,
            stdin: Some(self.api.try_clone()?.into()),
            orphan_signal: "KILL",
            dir: &self.dir,
        })?;
        let deadline = Instant::now() + READY;
        while !ready.exists() {
            if let Some(why) = process.obituary() {
                bail!("{why}");
            }
            ensure!(Instant::now() < deadline, "the master is not ready after {READY:?}:\n{}", tail(&log, 12));
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.take().context("the master is not running")?.kill()
    }

    /// SIGTERM first. No error if it is not running.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.stop(GRACE))
    }

    /// Its process id while it runs.
    pub(super) fn pid(&mut self) -> Option<u32> {
        let process = self.process.as_mut()?;
        match process.ended() {
            None => Some(process.pid()),
            Some(_) => None,
        }
    }

    /// Why it ended by itself, told once.
    pub(super) fn obituary(&mut self) -> Option<String> {
        let why = self.process.as_mut()?.obituary()?;
        self.process = None;
        Some(why)
    }
}

/// What a master's data directory is called.
pub(super) fn name(number: usize) -> String {
    if number == 1 { "master".to_owned() } else { format!("master-{number}") }
}

/// A port nobody has at this moment; it must stay the same when the master restarts.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((LOOPBACK, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}
