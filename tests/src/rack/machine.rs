//! One node of a rack, as the serving process sees it: a QEMU that boots over the network, or a hosted agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::accelerator::Accelerator;
use super::control::NodeStatus;
use super::hosted;
use super::options::{Kind, NodePlan, Options};
use super::process::{Process, Program};

/// What a hosted agent may take to end its tasks.
const GRACE: Duration = Duration::from_secs(10);

/// A node that is on or off.
pub(super) struct Machine {
    /// What is fixed about it.
    pub(super) plan: NodePlan,
    kind: Kind,
    dir: PathBuf,
    process: Option<Process>,
}

/// What a node is switched on with.
pub(super) struct Supply<'a> {
    /// The rack's.
    pub(super) options: &'a Options,
    /// For virtual servers.
    pub(super) accelerator: Option<Accelerator>,
    /// The master's API, for hosted agents.
    pub(super) api: &'a str,
    /// The master's address for agents, for hosted ones.
    pub(super) link: &'a str,
}

impl Machine {
    /// A node that is off.
    pub(super) fn new(plan: NodePlan, kind: Kind, dir: &Path) -> Self {
        Self { plan, kind, dir: dir.to_owned(), process: None }
    }

    /// Turns it on.
    pub(super) fn power_on(&mut self, with: &Supply<'_>) -> Result<()> {
        ensure!(self.pid().is_none(), "{} is on already", self.plan.name);
        let console = self.console();
        let (file, args, orphan_signal) = match self.kind {
            Kind::Virtual => {
                let accelerator = with.accelerator.context("virtual servers have an accelerator")?;
                (Path::new("qemu-system-x86_64"), self.qemu(with.options, accelerator), "KILL")
            }
            Kind::Hosted => {
                let args = hosted::arguments(&self.plan, &self.dir, with.api, with.link)?;
                (with.options.programs.agent.as_path(), args, "TERM")
            }
        };
        let log = match self.kind {
            Kind::Virtual => self.dir.join(format!("{}.qemu.log", self.plan.name)),
            Kind::Hosted => console,
        };
        let name = &self.plan.name;
        let program = Program { name, file, args, log: &log, stdin: None, orphan_signal, dir: &self.dir };
        self.process = Some(Process::start(program)?);
        Ok(())
    }

    /// Ends it at once: a virtual server by SIGKILL. A hosted agent gets the chance to end its tasks, for they are
    /// processes of this host.
    pub(super) fn cut_power(&mut self) -> Result<()> {
        let mut process = self.process.take().with_context(|| format!("{} is off already", self.plan.name))?;
        match self.kind {
            Kind::Virtual => process.kill(),
            Kind::Hosted => process.stop(GRACE),
        }
    }

    /// Its process id while it is on.
    pub(super) fn pid(&mut self) -> Option<u32> {
        let process = self.process.as_mut()?;
        match process.ended() {
            None => Some(process.pid()),
            Some(_) => None,
        }
    }

    /// Why it went off by itself, told once.
    pub(super) fn obituary(&mut self) -> Option<String> {
        let why = self.process.as_mut()?.obituary()?;
        self.process = None;
        Some(why)
    }

    /// For [`super::control::Status`].
    pub(super) fn status(&mut self) -> NodeStatus {
        let pid = self.pid();
        let (serial, qmp) = match self.kind {
            Kind::Virtual => (Some(self.file("serial")), Some(self.file("qmp"))),
            Kind::Hosted => (None, None),
        };
        let ip = match self.kind {
            Kind::Virtual => self.plan.address.clone(),
            Kind::Hosted => super::network::LOOPBACK.to_owned(),
        };
        NodeStatus {
            name: self.plan.name.clone(),
            mac: self.plan.mac.clone(),
            uuid: self.plan.uuid.clone(),
            ip,
            rack: self.plan.rack.clone(),
            state: if pid.is_some() { "on" } else { "off" }.to_owned(),
            pid,
            console: self.console(),
            serial,
            qmp,
        }
    }

    /// Forgets what an earlier rack in this directory left.
    pub(super) fn clear(&self) -> Result<()> {
        for file in [self.console(), self.file("qemu.log")] {
            fs::write(&file, "").with_context(|| format!("cannot empty {}", file.display()))?;
        }
        Ok(())
    }

    fn console(&self) -> PathBuf {
        self.file("console")
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{}.{ending}", self.plan.name))
    }

    /// Sockets are named relative to the working directory: their names may have 107 bytes.
    ///
    /// `graphics=off` sends what the firmware and the boot ROM say to the serial line too. A server whose NIC finds
    /// nothing starts over after three seconds, as real ones do.
    fn qemu(&self, options: &Options, accelerator: Accelerator) -> Vec<String> {
        let NodePlan { name, mac, uuid, tap, .. } = &self.plan;
        let (memory, cpus) = (options.memory_mib.to_string(), options.cpus.to_string());
        let mut args: Vec<String> =
            ["-name", name, "-uuid", uuid, "-M", "q35,graphics=off", "-m", &memory, "-smp", &cpus]
                .into_iter()
                .chain(accelerator.args())
                .chain(["-nodefaults", "-no-user-config", "-display", "none", "-boot", "strict=on,reboot-timeout=3000"])
                .map(str::to_owned)
                .collect();
        for (flag, value) in [
            (
                "-chardev",
                format!("socket,id=serial,path={name}.serial,server=on,wait=off,logfile={name}.console,logappend=on"),
            ),
            ("-serial", "chardev:serial".to_owned()),
            ("-qmp", format!("unix:{name}.qmp,server=on,wait=off")),
            ("-netdev", format!("tap,id=net0,ifname={tap},script=no,downscript=no")),
            ("-device", format!("virtio-net-pci,id=nic0,netdev=net0,mac={mac},bootindex=0")),
        ] {
            args.extend([flag.to_owned(), value]);
        }
        let own = options.node_qemu_args.get(name).into_iter().flatten();
        args.extend(options.qemu_args.iter().chain(own).cloned());
        args
    }
}
