//! In a virtual server: once as its only program, where runtimes make containers by turns, and once as a node of ours.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use super::bundle::{self, Bundle, Limits};
use super::launcher::Launcher;
use super::runtimes::{Foreign, Runtime, Summary, by_turns};
use super::{Containers, initrd, sample, show, whole};
use crate::lab::load::report::Report;
use crate::rack::{Options, Rack};

const PLACE: &str = "node";
const BOOT: Duration = Duration::from_secs(300);
/// Rounds of all runtimes in emulation.
const ROUNDS: Duration = Duration::from_secs(1800);
/// A thousand containers fit.
const MEMORY_MIB: u32 = 3072;
/// What the line with the figures begins with.
const FIGURES: &str = "bench-figures: ";
/// What it begins with when there are none.
const FAILED: &str = "bench-failed: ";
/// Where our initramfs has the root of tasks without an image.
const TASK_ROOT: &str = "/usr/share/mesolith/taskroot";

/// Boots it, and measures.
pub(super) fn measure(wanted: &Containers, dir: &Path, foreign: &[Foreign], report: &mut Report) -> Result<()> {
    let image = wanted.dir.join("image");
    if wanted.rounds > 0 {
        let own = dir.join("image");
        initrd::make(&image, &own, foreign)?;
        let options = Options { nodes: 1, cpus: 2, memory_mib: MEMORY_MIB, image_dir: own, ..Options::new()? };
        let cmdline = format!("rdinit=/{} quiet mesolith_bench_rounds={}", initrd::DRIVER, wanted.rounds);
        let rack = Rack::start(Options { cmdline, ..options })?;
        let line = rack.node(1).wait_console("bench-f", ROUNDS + BOOT)?;
        let (_, figures) = line.split_once(FIGURES).with_context(|| line.clone())?;
        let summaries: Vec<Summary> = serde_json::from_str(figures.trim()).context("the figures were cut")?;
        show(&format!("{PLACE}, with limits"), &summaries, report);
        rack.end()?;
    }
    if !wanted.counts.is_empty() {
        let cmdline = "mesolith.resources=cpus:1000;mem:1000000;disk:100000".to_owned();
        let options = Options { nodes: 1, cpus: 2, memory_mib: MEMORY_MIB, image_dir: image, ..Options::new()? };
        let rack = Rack::start(Options { cmdline, ..options })?;
        rack.wait_registered(1, BOOT)?;
        rack.node(1).wait_console("devices: drivers loaded", BOOT)?;
        let api = rack.api_url().to_owned();
        let address = api.strip_prefix("http://").context("the API's URL begins with http://")?;
        whole::measure(PLACE, address, &wanted.counts, &|| sample::of_node(&api, "node-1"), report)?;
        rack.end()?;
    }
    Ok(())
}

/// The first process of a machine that booted for this alone. Its figures go to the console.
pub fn run_as_init() -> ExitCode {
    let said = match in_machine() {
        Ok(summaries) => {
            serde_json::to_string(&summaries).map_or_else(|e| format!("{FAILED}{e}"), |text| format!("{FIGURES}{text}"))
        }
        Err(error) => format!("{FAILED}{}", format!("{error:#}").replace('\n', " ")),
    };
    if let Ok(mut console) = fs::File::options().write(true).open("/dev/console") {
        // Alone on its line, whatever stands there.
        drop(console.write_all(format!("\r\n{said}\r\n").as_bytes()));
    }
    loop {
        std::thread::sleep(BOOT);
    }
}

fn in_machine() -> Result<Vec<Summary>> {
    give_root_a_parent()?;
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/var"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        if !target.starts_with("/sys/") {
            fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
        }
        mount(Some(kind), target, Some(kind), MsFlags::MS_NOSUID, None::<&str>)
            .with_context(|| format!("cannot mount {kind} on {target}"))?;
    }
    // Shown to containers; a node of ours has them.
    for file in ["/etc/hosts", "/etc/resolv.conf"] {
        fs::File::options().create(true).append(true).open(file).with_context(|| format!("cannot make {file}"))?;
    }
    let cmdline = fs::read_to_string("/proc/cmdline").context("cannot read the kernel's command line")?;
    let rounds = cmdline.split_whitespace().find_map(|word| word.strip_prefix("mesolith_bench_rounds="));
    let rounds: usize = rounds.context("the command line says how many rounds")?.parse()?;
    let dir = PathBuf::from("/var/bench");
    bundle::make_cgroup()?;
    let mut runtimes: Vec<Box<dyn Runtime>> = vec![Box::new(Launcher::start(Path::new("/init"), &dir.join("run"))?)];
    for name in Foreign::NAMES {
        let program = Path::new("/").join(initrd::TOOLS).join(name);
        if program.exists() {
            runtimes.push(Box::new(Foreign::at(name, program)));
        }
    }
    let mut bundle = Bundle::make(&dir, Path::new(TASK_ROOT), Limits::Set)?;
    by_turns(&mut runtimes, &mut bundle, rounds)
}

/// The kernel's own root has none, and `pivot_root` needs it.
fn give_root_a_parent() -> Result<()> {
    const HERE: &str = "/.root";
    let nothing = None::<&str>;
    fs::create_dir_all(HERE)?;
    mount(Some("/"), HERE, nothing, MsFlags::MS_BIND, nothing).context("cannot bind the root")?;
    nix::unistd::chdir(HERE)?;
    mount(Some("."), "/", nothing, MsFlags::MS_MOVE, nothing).context("cannot move the root")?;
    nix::unistd::chroot(".")?;
    Ok(nix::unistd::chdir("/")?)
}
