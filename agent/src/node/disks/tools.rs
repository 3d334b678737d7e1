//! Runs the programs that are not ours: unpacked where only we write, started by the loader beside them, without a shell, with
//! an environment of their own and a deadline.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Where the image has them.
const PACKED: &str = "/usr/lib/mesolith/disk-tools";
/// The dynamic loader, among them.
const LOADER: &str = "ld-linux-x86-64.so.2";
/// What of a program's complaint is kept.
const COMPLAINT: usize = 600;

/// The programs, unpacked until this is dropped: they take memory nobody needs otherwise.
#[derive(Debug)]
pub(crate) struct Tools {
    directory: PathBuf,
}

/// Why a program did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    #[error("cannot unpack {}", path.display())]
    Unpack { path: PathBuf, source: io::Error },
    #[error("cannot start {program}")]
    Start { program: &'static str, source: io::Error },
    #[error("{program} did not end within {} s", deadline.as_secs())]
    Deadline { program: &'static str, deadline: Duration },
    #[error("{program} failed: {complaint}")]
    Failed { program: &'static str, complaint: String },
}

impl Tools {
    /// Unpacks them below a directory of the agent's.
    pub(crate) fn unpack(run: &Path) -> Result<Self, ToolError> {
        let tools = Self { directory: run.join("disk-tools") };
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ToolError::Unpack { path, source }
        };
        // What a process that was killed left.
        let _ = fs::remove_dir_all(&tools.directory);
        fs::create_dir_all(&tools.directory).map_err(failed(&tools.directory))?;
        fs::set_permissions(&tools.directory, fs::Permissions::from_mode(0o700)).map_err(failed(&tools.directory))?;
        for entry in fs::read_dir(PACKED).map_err(failed(Path::new(PACKED)))? {
            let path = entry.map_err(failed(Path::new(PACKED)))?.path();
            let Some(name) = path.file_stem() else { continue };
            let unpack = || {
                let bytes = zstd::decode_all(File::open(&path)?)?;
                let mut file =
                    File::options().write(true).create_new(true).mode(0o700).open(tools.directory.join(name))?;
                file.write_all(&bytes)
            };
            unpack().map_err(failed(&path))?;
        }
        Ok(tools)
    }

    /// Runs one to its end. `input` is a secret, and goes by a pipe.
    pub(crate) fn run(
        &self,
        program: &'static str,
        arguments: &[&str],
        input: &[u8],
        deadline: Duration,
    ) -> Result<(), ToolError> {
        let start = |source| ToolError::Start { program, source };
        let mut child = Command::new(self.directory.join(LOADER))
            .arg("--library-path")
            .arg(&self.directory)
            .arg(self.directory.join(program))
            .args(arguments)
            .env_clear()
            // There is no udev to wait for.
            .env("DM_DISABLE_UDEV", "1")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        if let Some(mut pipe) = child.stdin.take() {
            // One that does not want it has ended.
            let _ = pipe.write_all(input);
        }
        let complaints = child.stderr.take().map(|mut pipe| {
            thread::spawn(move || {
                let mut text = Vec::new();
                let _ = pipe.by_ref().take(COMPLAINT as u64).read_to_end(&mut text);
                // The rest is read, so that nobody waits for us.
                let _ = io::copy(&mut pipe, &mut io::sink());
                String::from_utf8_lossy(&text).replace(|c: char| c.is_control(), " ").trim().to_owned()
            })
        });
        let ended = wait(&mut child, deadline).map_err(start)?;
        let complaint = complaints.and_then(|reader| reader.join().ok()).unwrap_or_default();
        match ended {
            None => Err(ToolError::Deadline { program, deadline }),
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(ToolError::Failed { program, complaint: format!("{status}: {complaint}") }),
        }
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// How it ended, or none when it had to be ended.
fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let until = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}
