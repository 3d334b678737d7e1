//! One call of a plugin: its configuration goes in, its result comes out, within a deadline.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;

/// What one may take. Plugins ask daemons and routers.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// What one that was killed may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How often one that has said all it has to say is looked at.
const PAUSE: Duration = Duration::from_millis(2);
/// More than any result.
const LONGEST: usize = 1 << 20;
/// Where programs are that plugins call.
const PROGRAMS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a plugin did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    #[error("cannot run the plugin {}", path.display())]
    Run { path: PathBuf, source: io::Error },
    #[error("the plugin {} did not answer within {} s", path.display(), PATIENCE.as_secs())]
    Late { path: PathBuf },
    #[error("the plugin {} answers with more than {LONGEST} bytes", path.display())]
    Long { path: PathBuf },
    #[error("the plugin {}: {message}", path.display())]
    Failed { path: PathBuf, message: String },
    #[error("the plugin {} answers with no JSON", path.display())]
    Unreadable { path: PathBuf, source: serde_json::Error },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) command: &'static str,
    pub(super) container: &'a str,
    /// A path; empty when there is none any more.
    pub(super) namespace: &'a str,
    pub(super) interface: &'a str,
    pub(super) plugins: &'a Path,
    pub(super) configuration: &'a Value,
}

impl Call<'_> {
    /// The result; null when the plugin has nothing to say.
    pub(super) fn run(&self) -> Result<Value, PluginError> {
        let path = self.plugins.join(self.configuration["type"].as_str().unwrap_or_default());
        let failed = |source| PluginError::Run { path: path.clone(), source };
        let mut command = Command::new(&path);
        command.env_clear().env("PATH", PROGRAMS).env("CNI_PATH", self.plugins);
        command.env("CNI_COMMAND", self.command).env("CNI_CONTAINERID", self.container);
        command.env("CNI_NETNS", self.namespace).env("CNI_IFNAME", self.interface);
        // Not a pipe: one that does not read it could hold us up for ever.
        command.stdin(memory(&self.configuration.to_string()).map_err(failed)?);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
        // A group of its own, so that what it has started can be ended with it.
        let mut child = command.process_group(0).spawn().map_err(failed)?;
        match talk(&mut child, &path) {
            Ok((said, status)) => outcome(&said, status, &path),
            Err(error) => {
                end(&mut child, &path);
                Err(error)
            }
        }
    }
}

/// A file in memory with this text, at its beginning.
fn memory(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("cni", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Until it has ended: all it says, and how it ended.
fn talk(child: &mut Child, path: &Path) -> Result<(Vec<u8>, ExitStatus), PluginError> {
    let failed = |source| PluginError::Run { path: path.to_owned(), source };
    let late = || PluginError::Late { path: path.to_owned() };
    let mut output = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    let deadline = Instant::now() + PATIENCE;
    let mut said = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let ready = poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], wait);
        if ready.map_err(|errno| failed(errno.into()))? == 0 {
            return Err(late());
        }
        match output.read(&mut buffer).map_err(failed)? {
            0 => break,
            length => said.extend_from_slice(&buffer[..length]),
        }
        if said.len() > LONGEST {
            return Err(PluginError::Long { path: path.to_owned() });
        }
    }
    // It has closed its output and may still run.
    ended(child, deadline).map_err(failed)?.map(|status| (said, status)).ok_or_else(late)
}

fn ended(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() >= deadline => return Ok(None),
            None => std::thread::sleep(PAUSE),
        }
    }
}

/// Ends a plugin that has not been waited for, and what it has started. Its number is nobody else's until then.
fn end(child: &mut Child, path: &Path) {
    let killed = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    match ended(child, Instant::now() + END_PATIENCE) {
        Ok(Some(_)) => {}
        Ok(None) => tracing::warn!(path = %path.display(), ?killed, "a plugin does not end"),
        Err(error) => tracing::warn!(path = %path.display(), %error, "a plugin cannot be waited for"),
    }
}

fn outcome(said: &[u8], status: ExitStatus, path: &Path) -> Result<Value, PluginError> {
    let path = path.to_owned();
    let parsed = if said.trim_ascii().is_empty() { Ok(Value::Null) } else { serde_json::from_slice::<Value>(said) };
    if status.success() {
        return parsed.map_err(|source| PluginError::Unreadable { path, source });
    }
    let answer = parsed.unwrap_or_default();
    let word = |field: &str| answer[field].as_str().map(str::to_owned).filter(|word| !word.is_empty());
    let words: Vec<String> = [word("msg"), word("details")].into_iter().flatten().collect();
    let message = if words.is_empty() { format!("it ended with {status}") } else { words.join(": ") };
    Err(PluginError::Failed { path, message })
}
