//! A virtual server that runs Debian with systemd, and a root shell in it: for what needs an ordinary distribution.
//!
//! ```text
//!  test ── shell.sock ── second serial line ── harness.service: a root shell
//!  NVMe namespace 1: the root file system (image.rs), written to a snapshot that vanishes
//!  NVMe namespace 2: a tar archive with what the test brings, unpacked over /
//!  network: 10.0.2.15; the only thing that answers is 10.0.2.100:5052, which is the master's port for agents
//! ```

mod image;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::rack::Accelerator;

/// Where the guest finds the master.
pub const MASTER: &str = "10.0.2.100:5052";

/// systemd up to its shell, in emulation on a loaded host.
const BOOT: Duration = Duration::from_secs(300);

/// What a command may take unless it is told otherwise.
const COMMAND: Duration = Duration::from_secs(180);

/// What the shell says when it waits for a command.
const READY: &str = "@@ ready";

/// A booted guest. Dropping it kills it.
pub struct DebianGuest {
    qemu: Child,
    dir: PathBuf,
    shell: BufReader<UnixStream>,
}

/// What a command in the guest said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit status.
    pub status: i32,
    /// Standard output and error.
    pub text: String,
}

impl DebianGuest {
    /// Boots a guest that keeps its files in `dir` and reaches the master at `link` as [`MASTER`]. The tree `payload`
    /// is laid over its root. `cmdline` is added to the kernel's command line.
    pub fn boot(dir: &Path, link: &str, payload: &Path, cmdline: &str) -> Result<Self> {
        let image = image::cached()?;
        let archive = dir.join("payload.tar");
        // Files alone: for a directory of the archive tar would shut that of the guest while it unpacks, / to begin with.
        let packed = Command::new("sh")
            .args(["-c", "find . ! -type d -print0 | tar --null --files-from=- --owner=0 --group=0 -cf \"$0\""])
            .arg(&archive)
            .current_dir(payload)
            .status()
            .context("cannot start tar")?;
        ensure!(packed.success(), "tar cannot pack {}", payload.display());
        let accelerator = Accelerator::choose(dir, Some(&image.kernel))?;
        let (host, port) = link.rsplit_once(':').context("a link is HOST:PORT")?;
        let text = |path: &Path| path.display().to_string();
        let log = fs::File::create(dir.join("qemu.log"))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64", "-name", "debian", "-M", "q35", "-m", "1024"])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(accelerator.args())
            .args(["-kernel", &text(&image.kernel)])
            .args(["-append", format!("root=/dev/nvme0n1 rw console=ttyS0 quiet panic=-1 {cmdline}").trim_end()])
            .args(["-drive", &format!("if=none,id=root,format=raw,snapshot=on,file={}", text(&image.root))])
            .args(["-drive", "if=none,id=payload,format=raw,readonly=on,file=payload.tar"])
            .args(["-device", "nvme,id=nvme0,serial=DEBIAN-1", "-device", "nvme-ns,drive=root,bus=nvme0,nsid=1"])
            .args(["-device", "nvme-ns,drive=payload,bus=nvme0,nsid=2"])
            .args(["-serial", "file:console"])
            .args(["-chardev", "socket,id=shell,path=shell.sock,server=on,wait=off", "-serial", "chardev:shell"])
            .args(["-netdev"])
            .arg(format!("user,id=net0,restrict=on,guestfwd=tcp:{MASTER}-cmd:nc {host} {port}"))
            .args(["-device", "virtio-net-pci,netdev=net0,romfile="])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut qemu = command.spawn().context("cannot start qemu-system-x86_64")?;
        match connect(&mut qemu, dir) {
            Ok(shell) => {
                let mut guest = Self { qemu, dir: dir.to_owned(), shell: BufReader::new(shell) };
                guest.read_until(READY, Instant::now() + BOOT).context("Debian has not come up")?;
                // Also when some unit of Debian's own has failed.
                guest.run("systemctl is-system-running --wait || true")?;
                guest.run("tar -xf /dev/nvme0n2 -C / && systemctl daemon-reload")?;
                Ok(guest)
            }
            Err(error) => {
                // It may have ended by itself.
                let _ = qemu.kill();
                qemu.wait()?;
                let said = fs::read_to_string(dir.join("qemu.log")).unwrap_or_default();
                Err(error.context(said))
            }
        }
    }

    /// Runs one line of bash as root. Any status is an answer.
    pub fn try_run(&mut self, line: &str) -> Result<Said> {
        ensure!(!line.contains('\n'), "a command for the guest is one line");
        self.shell.get_mut().write_all(format!("{line}\n").as_bytes()).context("cannot write to the guest")?;
        let (text, end) = self.read_until("@@ status ", Instant::now() + COMMAND)?;
        let status = end.trim_start_matches("@@ status ").parse().with_context(|| format!("the shell said `{end}`"))?;
        // The shell puts a newline of its own before the status.
        Ok(Said { status, text: text.strip_suffix('\n').unwrap_or(&text).to_owned() })
    }

    /// Runs one line of bash as root, which must succeed; gives what it said.
    pub fn run(&mut self, line: &str) -> Result<String> {
        let said = self.try_run(line)?;
        ensure!(said.status == 0, "`{line}` ended with {} in the guest:\n{}", said.status, said.text);
        Ok(said.text.trim_end().to_owned())
    }

    /// Runs a line again and again until it succeeds.
    pub fn wait(&mut self, line: &str, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let said = self.try_run(line)?;
            if said.status == 0 {
                return Ok(said.text.trim_end().to_owned());
            }
            ensure!(Instant::now() < deadline, "`{line}` fails in the guest for {timeout:?}:\n{}", said.text);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What the kernel and systemd said.
    #[must_use]
    pub fn console(&self) -> String {
        fs::read(self.dir.join("console")).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// Reads lines until one begins so; gives those before it, and it.
    fn read_until(&mut self, mark: &str, deadline: Instant) -> Result<(String, String)> {
        let (mut before, mut line) = (String::new(), Vec::new());
        loop {
            match self.shell.read_until(b'\n', &mut line) {
                Ok(0) => bail!("the guest ended:\n{}", self.last_words()),
                Ok(_) => {
                    let text = String::from_utf8_lossy(&line).replace('\r', "");
                    if text.starts_with(mark) {
                        return Ok((before, text.trim_end().to_owned()));
                    }
                    before.push_str(&text);
                    line.clear();
                }
                // What has come of the line so far stays in it.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("cannot read from the guest"),
            }
            ensure!(Instant::now() < deadline, "no `{mark}` from the guest:\n{before}\n{}", self.last_words());
        }
    }

    fn last_words(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for DebianGuest {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Waits for QEMU's socket. Its name is relative to `dir` for QEMU; for us it must fit in 107 bytes.
fn connect(qemu: &mut Child, dir: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(dir.join("shell.sock")) {
            Ok(stream) => {
                stream.set_read_timeout(Some(Duration::from_millis(200)))?;
                return Ok(stream);
            }
            Err(error) => {
                if let Some(status) = qemu.try_wait()? {
                    bail!("QEMU ended with {status}");
                }
                ensure!(Instant::now() < deadline, "cannot connect to the guest's shell: {error}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}
