//! Init's line for faults: the second serial port of a node whose kernel command line says so. For tests and figures.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::control;
use super::{Options, Rack};

/// The socket of the only node's second serial port.
const SOCKET: &str = "faults.sock";

/// Init answers in milliseconds; an answer lost on the way is an error after this.
const ANSWER: Duration = Duration::from_secs(10);
const REPEAT: Duration = Duration::from_secs(2);

/// A connection to the line.
pub struct FaultLine {
    reader: BufReader<UnixStream>,
}

impl FaultLine {
    /// Adds the second serial port and the word on the command line to the options of a rack with one node.
    #[must_use]
    pub fn with_line(mut options: Options) -> Options {
        options.nodes = 1;
        options.qemu_args.extend(Self::qemu_args());
        Self::with_word(options)
    }

    /// The second serial port of one node's QEMU.
    #[must_use]
    pub fn qemu_args() -> Vec<String> {
        let port = format!("socket,id=faults,path={SOCKET},server=on,wait=off");
        ["-chardev", &port, "-serial", "chardev:faults"].map(str::to_owned).to_vec()
    }

    /// Only the word on the command line: the port is given to one of several nodes.
    #[must_use]
    pub fn with_word(mut options: Options) -> Options {
        options.cmdline = format!("{} mesolith.insecure_faults", options.cmdline).trim_start().to_owned();
        options
    }

    /// Connects to the line of a rack that was started with [`Self::with_line`].
    pub fn connect(rack: &Rack) -> Result<Self> {
        let stream = control::connect(rack.dir(), SOCKET)?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// The pids of init's services, read in the guest; one that is not running has none or 0.
    pub fn pids(&mut self) -> Result<BTreeMap<String, u32>> {
        self.ask("pids", "agent")
    }

    /// SIGKILL; the pid of what was killed.
    pub fn kill(&mut self, service: &str) -> Result<u32> {
        self.ask(&format!("kill {service}"), service)?.remove(service).context("the answer is the service's pid")
    }

    /// SIGSTOP, for it and every process that is started in its place.
    pub fn hang(&mut self, service: &str) -> Result<u32> {
        self.ask(&format!("hang {service}"), service)?.remove(service).context("the answer is the service's pid")
    }

    /// A panic of the kernel. Nothing answers.
    pub fn panic(&mut self) -> Result<()> {
        self.reader.get_mut().write_all(b"panic\n").context("cannot write to init's line")
    }

    /// The service's pid once it runs and is another one than `before`.
    pub fn wait_other(&mut self, service: &str, before: u32, within: Duration) -> Result<u32> {
        let deadline = Instant::now() + within;
        loop {
            let pid = self.pids()?.get(service).copied().unwrap_or(0);
            if pid != 0 && pid != before {
                return Ok(pid);
            }
            ensure!(Instant::now() < deadline, "{service} is not started again within {within:?}: still {pid}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asks, and takes answers `NAME NUMBER` until there is one called `until`.
    fn ask(&mut self, request: &str, until: &str) -> Result<BTreeMap<String, u32>> {
        let (mut answers, mut line) = (BTreeMap::new(), String::new());
        let deadline = Instant::now() + ANSWER;
        let mut ask_at = Instant::now();
        while !answers.contains_key(until) {
            ensure!(Instant::now() < deadline, "init does not answer `{request}` about {until}: {answers:?} {line}");
            if Instant::now() >= ask_at {
                // A serial line may lose a question: one that does no harm twice is asked again.
                ask_at = if request == "pids" { Instant::now() + REPEAT } else { deadline };
                self.reader
                    .get_mut()
                    .write_all(format!("{request}\n").as_bytes())
                    .context("cannot write to init's line")?;
            }
            match self.reader.read_line(&mut line) {
                Ok(0) => bail!("QEMU closed init's line"),
                Ok(_) => {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    if let [name, number] = words[..]
                        && let Ok(number) = number.parse()
                    {
                        answers.insert(name.to_owned(), number);
                    }
                    line.clear();
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("init's line broke"),
            }
        }
        Ok(answers)
    }
}
