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

/// A connection to the line.
pub struct FaultLine {
    reader: BufReader<UnixStream>,
}

impl FaultLine {
    /// Adds the second serial port and the word on the command line to the options of a rack with one node.
    #[must_use]
    pub fn with_line(mut options: Options) -> Options {
        options.nodes = 1;
        options.cmdline = format!("{} mesolith.insecure_faults", options.cmdline).trim_start().to_owned();
        let port = format!("socket,id=faults,path={SOCKET},server=on,wait=off");
        options.qemu_args.extend(["-chardev", &port, "-serial", "chardev:faults"].map(str::to_owned));
        options
    }

    /// Connects to the line of a rack that was started with [`Self::with_line`].
    pub fn connect(rack: &Rack) -> Result<Self> {
        let stream = control::connect(rack.dir(), SOCKET)?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Asks (`pids`, `memory`, `kill NAME`), and takes answers `NAME NUMBER` until there is one for `until`.
    pub fn ask(&mut self, request: &str, until: &str) -> Result<BTreeMap<String, u64>> {
        self.reader.get_mut().write_all(format!("{request}\n").as_bytes()).context("cannot write to init's line")?;
        let (mut answers, mut line) = (BTreeMap::new(), String::new());
        let deadline = Instant::now() + ANSWER;
        while !answers.contains_key(until) {
            ensure!(Instant::now() < deadline, "init does not answer `{request}` about {until}: {answers:?} {line}");
            match self.reader.read_line(&mut line) {
                Ok(0) => bail!("QEMU closed init's line"),
                Ok(_) => {
                    if let Some((name, number)) = line.trim().split_once(' ')
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
