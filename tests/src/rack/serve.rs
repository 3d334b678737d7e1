//! The process behind a rack: `mesolith-lab serve DIR`. One thread, which owns the private network and every child.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::accelerator::Accelerator;
use super::control::{self, Reply, Request, Status};
use super::dnsmasq;
use super::machine::{Machine, Supply};
use super::master_process::MasterProcess;
use super::network;
use super::options::{Kind, Life, Options};
use super::process::{Process, Program};
use super::programs::required;

/// The options in the rack's directory.
pub(super) const OPTIONS: &str = "options.json";

/// Held while a rack lives in the directory.
pub(super) const LOCK: &str = "lock";

/// How often children are looked after between requests.
const TICK: u16 = 200;

/// A client that connects and says nothing is dropped after this.
const REQUEST: Duration = Duration::from_secs(2);

/// Builds the rack described in `dir/options.json` and serves it until it is told to end.
pub fn serve(dir: &Path) -> Result<()> {
    let dir = dir.canonicalize().with_context(|| format!("{} is not a directory", dir.display()))?;
    let _lock = lock(&dir)?;
    let options = Options::read(&dir.join(OPTIONS))?;
    let mut server = Server::start(options, dir)?;
    server.run()
}

/// The lock of a directory, or an error that names who has it.
fn lock(dir: &Path) -> Result<Flock<File>> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => {
            lock.set_len(0)?;
            writeln!(&*lock, "{}", std::process::id())?;
            Ok(lock)
        }
        Err(_) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            bail!("a rack is running in {} (process {}); `./dev down` ends it", dir.display(), holder.trim())
        }
    }
}

/// What to do after a request.
enum Next {
    Serve,
    End,
}

struct Server {
    options: Options,
    dir: PathBuf,
    api: String,
    accelerator: Option<Accelerator>,
    masters: Vec<MasterProcess>,
    dnsmasq: Option<Process>,
    machines: Vec<Machine>,
    control: UnixListener,
}

impl Server {
    /// In this order: the listener in the host's network, the private network, its services, the nodes; the control
    /// socket last, so that who can connect finds everything there.
    fn start(options: Options, dir: PathBuf) -> Result<Self> {
        let mut listeners = vec![network::listen(options.api_port)?];
        for _ in 1..options.masters {
            listeners.push(network::listen(None)?);
        }
        let plans = options.node_plans();
        if options.kind == Kind::Virtual {
            let taps: Vec<String> = plans.iter().map(|node| node.tap.clone()).collect();
            network::enter()?;
            network::build(&taps, options.masters)?;
        }
        let masters = listeners.into_iter().zip(1..);
        let masters = masters.map(|(listener, number)| MasterProcess::new(&options, &dir, number, listener));
        let mut masters = masters.collect::<Result<Vec<_>>>()?;
        let api = masters[0].url()?;
        let (accelerator, dnsmasq) = match options.kind {
            Kind::Hosted => {
                required(&options.programs.agent)?;
                masters[0].start(&[])?;
                (None, None)
            }
            Kind::Virtual => {
                let kernel = options.image_dir.join("vmlinuz");
                for file in [&kernel, &options.image_dir.join("initramfs.img")] {
                    if !file.exists() {
                        bail!("{} does not exist; `./dev image` makes it", file.display());
                    }
                }
                let accelerator = match options.accelerator {
                    Some(chosen) => chosen,
                    None => Accelerator::choose(&dir, Some(&kernel))?,
                };
                let args = dnsmasq::configure(&dir, &plans, options.masters, options.boot_service, &options.dhcp)?;
                let log = dir.join("dnsmasq.log");
                fs::write(&log, "").with_context(|| format!("cannot empty {}", log.display()))?;
                let program = Program {
                    name: "dnsmasq",
                    file: Path::new("dnsmasq"),
                    args,
                    log: &log,
                    stdin: None,
                    orphan_signal: "KILL",
                    dir: &dir,
                };
                let dnsmasq = Process::start(program)?;
                masters[0].start(&[])?;
                (Some(accelerator), Some(dnsmasq))
            }
        };
        let mut machines = Vec::new();
        for plan in plans {
            let mut machine = Machine::new(plan, options.kind, &dir);
            machine.clear()?;
            machine.power_on(&Supply { options: &options, accelerator, api: &api, link: &masters[0].link })?;
            machines.push(machine);
        }
        let control = control::listen(&dir, control::SOCKET)?;
        let mut server = Self { options, dir, api, accelerator, masters, dnsmasq, machines, control };
        server.write_status()?;
        Ok(server)
    }

    /// Atomically, for a reader may come at any time.
    fn write_status(&mut self) -> Result<()> {
        let (new, file) = (self.dir.join("status.json.new"), self.dir.join(control::STATUS));
        let text = serde_json::to_vec_pretty(&self.status())?;
        fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &file).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Serves requests until told to end, or until the holder of the rack is gone.
    fn run(&mut self) -> Result<()> {
        let stdin = std::io::stdin();
        loop {
            let mut fds = vec![PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
            if self.options.life == Life::Attached {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::from(TICK)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot wait for requests"),
            }
            let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
            let (asked, holder_gone) = (ready(&fds[0]), fds.get(1).is_some_and(ready));
            self.look_after_children();
            if holder_gone {
                // Nothing is ever written to our standard input: readable means closed.
                return self.end();
            }
            if asked {
                let (stream, _) = self.control.accept().context("cannot accept a request")?;
                match self.answer(&stream) {
                    Ok(Next::Serve) => {}
                    Ok(Next::End) => {
                        self.end()?;
                        return Ok(());
                    }
                    Err(error) => eprintln!("rack: a request went wrong: {error:#}"),
                }
            }
        }
    }

    /// Reads one request, does it, answers.
    fn answer(&mut self, stream: &UnixStream) -> Result<Next> {
        stream.set_read_timeout(Some(REQUEST))?;
        stream.set_write_timeout(Some(REQUEST))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).context("no request came")?;
        let request: Request =
            serde_json::from_str(&line).with_context(|| format!("no such request: {}", line.trim()))?;
        let next = if matches!(request, Request::Shutdown) { Next::End } else { Next::Serve };
        let reply = match self.perform(request) {
            Ok(()) => Reply::Done(Box::new(self.status())),
            Err(error) => Reply::Failed(format!("{error:#}")),
        };
        let mut text = serde_json::to_string(&reply)?;
        text.push('\n');
        let mut stream = stream;
        stream.write_all(text.as_bytes()).context("cannot answer")?;
        Ok(next)
    }

    fn perform(&mut self, request: Request) -> Result<()> {
        match request {
            Request::Status | Request::Shutdown => Ok(()),
            Request::KillMaster { master } => self.master(master)?.kill(),
            Request::StopMaster { master } => self.master(master)?.stop(),
            Request::StartMaster { master, args } => self.master(master)?.start(&args),
            Request::CutPower { node } => {
                let machine = self.machines.iter_mut().find(|machine| machine.plan.name == node);
                machine.with_context(|| format!("no node `{node}`"))?.cut_power()
            }
            Request::PowerOn { node } => {
                let machine = self.machines.iter_mut().find(|machine| machine.plan.name == node);
                let machine = machine.with_context(|| format!("no node `{node}`"))?;
                let (options, api, link) = (&self.options, &self.api, &self.masters[0].link);
                machine.power_on(&Supply { options, accelerator: self.accelerator, api, link })
            }
        }
    }

    fn master(&mut self, number: usize) -> Result<&mut MasterProcess> {
        self.masters.get_mut(number.wrapping_sub(1)).with_context(|| format!("no master {number}"))
    }

    fn look_after_children(&mut self) {
        let machines = self.machines.iter_mut().filter_map(Machine::obituary);
        let dnsmasq = self.dnsmasq.as_mut().and_then(Process::obituary);
        if dnsmasq.is_some() {
            self.dnsmasq = None;
        }
        let masters = self.masters.iter_mut().filter_map(MasterProcess::obituary);
        for line in machines.chain(dnsmasq).chain(masters) {
            eprintln!("rack: {line}");
        }
    }

    fn status(&mut self) -> Status {
        let data = self.masters[0].data();
        let masters: Vec<_> = self.masters.iter_mut().map(MasterProcess::status).collect();
        Status {
            state: "running".to_owned(),
            pid: std::process::id(),
            api: self.api.clone(),
            dir: self.dir.clone(),
            ca: data.join("ca.pem"),
            credentials: data.join("api-credentials.json"),
            data,
            kind: self.options.kind,
            accelerator: self.accelerator,
            master: masters[0].clone(),
            masters,
            nodes: self.machines.iter_mut().map(Machine::status).collect(),
        }
    }

    /// Ends the nodes, then the masters in good order.
    fn end(&mut self) -> Result<()> {
        for machine in &mut self.machines {
            if machine.pid().is_some() {
                machine.cut_power()?;
            }
        }
        for master in &mut self.masters {
            master.stop()?;
        }
        if let Some(dnsmasq) = &mut self.dnsmasq {
            dnsmasq.kill()?;
        }
        // Their absence says that nobody serves; the lock is what counts.
        let _ = fs::remove_file(self.dir.join(control::SOCKET));
        let _ = fs::remove_file(self.dir.join(control::STATUS));
        Ok(())
    }
}
