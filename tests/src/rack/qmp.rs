//! QEMU's machine protocol, one command at a time: JSON lines over the node's socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::control;

/// QEMU answers in milliseconds unless its main loop hangs.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection. QEMU serves one at a time, so it is dropped when the command is done.
pub(super) struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to `name` in `dir` and leaves the negotiation mode.
    pub(super) fn connect(dir: &Path, name: &str) -> Result<Self> {
        let deadline = Instant::now() + ANSWER;
        let stream = loop {
            match control::connect(dir, name) {
                Ok(stream) => break stream,
                Err(error) => ensure!(Instant::now() < deadline, "QEMU has no protocol socket: {error:#}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.set_read_timeout(Some(ANSWER))?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.line().context("QEMU did not greet")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes one command; events that come between are passed over.
    pub(super) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({"execute": command, "arguments": arguments}).to_string() + "\n";
        self.reader.get_mut().write_all(line.as_bytes()).with_context(|| format!("cannot send `{command}` to QEMU"))?;
        loop {
            let answer = self.line().with_context(|| format!("QEMU did not answer `{command}`"))?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused `{command}`: {}", error["desc"].as_str().unwrap_or("no reason given"));
            }
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line)?;
        ensure!(count > 0, "the connection closed");
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))
    }
}
