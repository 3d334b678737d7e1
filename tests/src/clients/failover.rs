//! The unmodified pymesos with a `zk://` URL, through leaders that die: `tests/clients/pymesos_failover.py`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{PythonPackages, programs};

/// One that runs, and is killed with the test.
pub struct PymesosFailover {
    process: Child,
    lines: Receiver<String>,
    result: PathBuf,
    tasks: usize,
    patience: Duration,
}

impl Drop for PymesosFailover {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl PymesosFailover {
    /// Starts it with so many tasks, for which it has this time; what became of them is written below `dir`.
    pub fn start(packages: &PythonPackages, zk: &str, dir: &Path, tasks: usize, patience: Duration) -> Result<Self> {
        let result = dir.join("pymesos.json");
        let mut command = packages.python();
        command.arg(programs().join("pymesos_failover.py")).arg(zk).arg(&result);
        command.args([tasks.to_string(), patience.as_secs().to_string()]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(process.stdout.take().context("its output is piped")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(std::result::Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, lines, result, tasks, patience })
    }

    /// Until so many of these lines have come: `registered`, `end`, `never`.
    pub fn wait(&self, word: &str, count: usize) -> Result<()> {
        let (deadline, mut seen) = (Instant::now() + self.patience, 0);
        while seen < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).with_context(|| format!("{seen} of {count} times `{word}`"))?;
            seen += usize::from(line == word);
        }
        Ok(())
    }

    /// Until it is done; every task has ended once, or was never launched.
    pub fn finish(mut self) -> Result<()> {
        let deadline = Instant::now() + self.patience;
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "pymesos is not done");
            std::thread::sleep(Duration::from_millis(50));
        };
        ensure!(status.success(), "pymesos ended with {status}");
        let result: Value = serde_json::from_slice(&std::fs::read(&self.result)?)?;
        let never = result["never"].as_array().context("it lists what never was launched")?;
        let ends = result["ends"].as_object().context("it lists the ends")?;
        ensure!(ends.len() == self.tasks, "{} of {} tasks", ends.len(), self.tasks);
        for (task, ends) in ends {
            let counted = ends.as_array().map_or(0, Vec::len) + usize::from(never.iter().any(|name| name == task));
            ensure!(counted == 1, "{task} is accounted for {counted} times: {ends}");
        }
        let (tasks, never, registrations) = (self.tasks, never.len(), &result["registrations"]);
        println!("pymesos: {tasks} tasks, {never} never launched, {registrations} registrations");
        Ok(())
    }
}
