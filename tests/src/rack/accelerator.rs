//! Whether this host can run virtual servers by hardware: decided by a trial, because the device's presence proves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// How QEMU executes guest code.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// By the processor, through `/dev/kvm`.
    Kvm,
    /// By translation: works everywhere, several times slower.
    Tcg,
}

/// What the trial may take. Where KVM is real it ends in about two seconds; nested virtualisation may hang instead of
/// failing.
const TRIAL: Duration = Duration::from_secs(5);

/// How long a verdict is believed.
const VERDICT_HOLDS: Duration = Duration::from_secs(3600);

/// One guest of the trial: what it is given beside the common arguments, and what its console says when it got there.
struct Guest<'a> {
    name: &'static str,
    args: Vec<&'a str>,
    mark: &'static str,
}

impl Accelerator {
    /// KVM if both trial guests got there within five seconds, else emulation. `dir` holds their consoles meanwhile.
    ///
    /// Two guests, because hosts are known on which a boot sector runs but the NIC's boot ROM makes KVM give up
    /// ("emulation failure"), or on which a kernel spins for ever: each does exactly what a server of the rack does.
    ///
    /// The verdict is kept for an hour of the same boot of this host, for a suite starts many racks.
    pub fn choose(dir: &Path, kernel: Option<&Path>) -> Result<Self> {
        if !Path::new("/dev/kvm").exists() {
            return Ok(Self::Tcg);
        }
        let file = verdict_file()?;
        if let Some(verdict) = fresh_verdict(&file) {
            return Ok(verdict);
        }
        let verdict = if Self::Kvm.runs_servers(dir, kernel)? { Self::Kvm } else { Self::Tcg };
        // Only a saving: the next rack tries again.
        let _ = fs::write(file, serde_json::to_string(&verdict)?);
        Ok(verdict)
    }

    /// The QEMU arguments.
    #[must_use]
    pub fn args(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// Runs the trial guests side by side until each has shown its mark or the deadline passes.
    fn runs_servers(self, dir: &Path, kernel: Option<&Path>) -> Result<bool> {
        let nic = "virtio-net-pci,netdev=n,bootindex=0";
        let mut guests = vec![Guest {
            name: "trial-rom",
            args: vec!["-m", "64", "-netdev", "user,id=n,restrict=on", "-device", nic],
            mark: "Configuring (net0",
        }];
        if let Some(kernel) = kernel.and_then(Path::to_str) {
            let args = vec!["-m", "256", "-kernel", kernel, "-append", "console=ttyS0 panic=-1"];
            guests.push(Guest { name: "trial-kernel", args, mark: "Linux version" });
        }
        let mut children = Vec::new();
        for guest in &guests {
            children.push(self.start(dir, guest)?);
        }
        let deadline = Instant::now() + TRIAL;
        let console = |guest: &Guest<'_>| dir.join(format!("{}.console", guest.name));
        let there = |guest: &Guest<'_>| {
            fs::read(console(guest)).is_ok_and(|text| String::from_utf8_lossy(&text).contains(guest.mark))
        };
        let mut all = false;
        while !all && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            all = guests.iter().all(there);
        }
        for child in &mut children {
            child.kill()?;
            child.wait()?;
        }
        for guest in &guests {
            // A guest that never wrote leaves no file.
            let _ = fs::remove_file(console(guest));
        }
        Ok(all)
    }

    fn start(self, dir: &Path, guest: &Guest<'_>) -> Result<Child> {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64", "-M", "q35,graphics=off", "-nodefaults"])
            .args(["-no-user-config", "-display", "none", "-no-reboot"])
            .args(self.args())
            .args(["-serial", &format!("file:{}.console", guest.name)])
            .args(&guest.args)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start qemu-system-x86_64 for the trial boot")
    }
}

/// One for each boot of this host and user: a KVM that was repaired by a reboot is tried again.
fn verdict_file() -> Result<PathBuf> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("the kernel names its boot")?;
    let name = format!("mesolith-accelerator-{}-{}", nix::unistd::geteuid(), boot.trim());
    Ok(std::env::temp_dir().join(name))
}

fn fresh_verdict(file: &Path) -> Option<Accelerator> {
    let age = fs::metadata(file).ok()?.modified().ok()?.elapsed().ok()?;
    if age > VERDICT_HOLDS {
        return None;
    }
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_answers_yes_where_guests_run() {
        // Emulation always works, so a trial that says "no" here is one that could not say "yes" of KVM either.
        let dir = std::env::temp_dir().join(format!("mesolith-trial-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        // A loaded machine may need more than one try: the deadline is made for hardware.
        let ran = (0..4).any(|_| Accelerator::Tcg.runs_servers(&dir, None).unwrap());
        fs::remove_dir_all(&dir).unwrap();
        assert!(ran);
    }
}
