//! `./dev bench`: the figures of a real rack, printed as a table.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::framework::Framework;
use crate::rack::{Node, Options, Rack, repository};

/// How many tasks the latency is taken over.
const TASKS: usize = 20;

/// What a boot may take.
const BOOT: Duration = Duration::from_secs(180);

/// What the kernel says when it is done and hands over.
const INIT: &str = "as init process";

/// What a `true` may take from offer to end.
const TASK: Duration = Duration::from_secs(60);

/// Boots one node, measures, prints.
pub fn bench(dir: &Path) -> Result<()> {
    let image = dir.join("image");
    sizes(&image)?;
    let bare = bare_boot(dir, &image)?;
    let rack = Rack::start(Options { nodes: 1, image_dir: image, ..Options::new()? })?;
    let accelerator = rack.status()?.accelerator.map_or_else(String::new, |a| format!("{a:?}").to_lowercase());
    row("servers run by", &accelerator);
    boot(&rack, &rack.node(1), bare)?;
    // The drivers that nobody waits for take the node's processor for some seconds after it has registered.
    rack.node(1).wait_console("devices: drivers loaded", BOOT)?;
    latency(&rack)?;
    memory(&rack.node(1))?;
    rack.end()?;
    allocation()
}

fn row(what: &str, figure: &str) {
    println!("{what:<44} {figure}");
}

fn sizes(image: &Path) -> Result<()> {
    for name in ["vmlinuz", "initramfs.img"] {
        let file = image.join(name);
        let bytes =
            fs::metadata(&file).with_context(|| format!("no {}; `./dev image` makes it", file.display()))?.len();
        row(&format!("size of {name}"), &format!("{:.1} MB", bytes as f64 / 1e6));
    }
    Ok(())
}

/// What the kernel alone takes: its own clock when it starts the init of an initramfs that holds nothing else.
fn bare_boot(dir: &Path, image: &Path) -> Result<f64> {
    let bare = dir.join("bare");
    fs::create_dir_all(&bare).with_context(|| format!("cannot make {}", bare.display()))?;
    fs::copy(image.join("vmlinuz"), bare.join("vmlinuz")).context("cannot copy the kernel")?;
    fs::write(bare.join("initramfs.img"), bare_initramfs()).context("cannot write the bare initramfs")?;
    let rack = Rack::start(Options { nodes: 1, image_dir: bare, ..Options::new()? })?;
    let seconds = stamp(&rack.node(1).wait_console(INIT, BOOT)?)?;
    row("kernel start to init, bare initramfs", &format!("{seconds:.1} s (kernel's clock)"));
    rack.end()?;
    Ok(seconds)
}

/// An archive in the "newc" format with an empty, executable `/init`: enough for the kernel to try it.
fn bare_initramfs() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (inode, mode, name) in [(1, 0o100_755, "init"), (0, 0, "TRAILER!!!")] {
        let fields = [inode, mode, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() + 1, 0];
        bytes.extend_from_slice(b"070701");
        bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// From the kernel's start to init and to registered, by the node's clock, which its console shows.
fn boot(rack: &Rack, node: &Node<'_>, bare: f64) -> Result<()> {
    let init = stamp(&node.wait_console(INIT, BOOT)?)?;
    row("kernel start to init", &format!("{init:.1} s (kernel's clock)"));
    rack.wait_registered(1, BOOT)?;
    let registered = stamp(&node.wait_console("is registered as", BOOT)?)?;
    let times = registered / bare;
    row("kernel start to registered", &format!("{registered:.1} s (kernel's clock), {times:.2} times the bare boot"));
    Ok(())
}

/// The time a console line begins with: `[   12.275] …`.
fn stamp(line: &str) -> Result<f64> {
    let text = line.trim_start_matches(['[', ' ']).split(']').next().unwrap_or_default();
    text.trim().parse().with_context(|| format!("no time in `{line}`"))
}

/// What the node's processes hold, as init reads it in the guest.
fn memory(node: &Node<'_>) -> Result<()> {
    let line = node.wait_console("resident: ", Duration::from_secs(30))?;
    let (_, figures) = line.split_once("resident: ").context("just waited for it")?;
    for figure in figures.trim().split(", ") {
        let (name, size) = figure.split_once(' ').with_context(|| format!("`{figure}` is not a name and a size"))?;
        row(&format!("resident memory of {name}"), size);
    }
    Ok(())
}

/// ACCEPT to RUNNING and to FINISHED of `true`, one task after the other.
fn latency(rack: &Rack) -> Result<()> {
    let framework = Framework::subscribe(rack.api_url(), "bench", &json!({}))?;
    let (mut running, mut finished) = (Vec::new(), Vec::new());
    for number in 0..TASKS {
        let offers = framework.wait("OFFERS", TASK)?;
        let offer = &offers["offers"]["offers"][0];
        let task_id = format!("true-{number}");
        let accepted = Instant::now();
        framework.call("ACCEPT", &accept(offer, &task_id))?;
        loop {
            let (at, event) = framework.next(TASK)?.context("a task did not end in time")?;
            if event["type"] != "UPDATE" || event["update"]["status"]["task_id"]["value"] != task_id.as_str() {
                continue;
            }
            framework.acknowledge(&event)?;
            match event["update"]["status"]["state"].as_str().unwrap_or_default() {
                "TASK_STAGING" | "TASK_STARTING" => {}
                "TASK_RUNNING" => running.push(at - accepted),
                "TASK_FINISHED" => {
                    finished.push(at - accepted);
                    break;
                }
                _ => bail!("`true` ended otherwise: {event}"),
            }
        }
    }
    framework.call("TEARDOWN", &Value::Null)?;
    row("ACCEPT to TASK_RUNNING of `true`", &spread(&mut running)?);
    row("ACCEPT to TASK_FINISHED of `true`", &spread(&mut finished)?);
    Ok(())
}

fn accept(offer: &Value, task_id: &str) -> Value {
    let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
    let task = json!({
        "name": task_id,
        "task_id": {"value": task_id},
        "agent_id": offer["agent_id"],
        "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
        "command": {"value": "true"},
    });
    json!({
        "offer_ids": [offer["id"]],
        "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}],
        "filters": {"refuse_seconds": 0.0},
    })
}

/// Median and worst.
fn spread(times: &mut [Duration]) -> Result<String> {
    times.sort_unstable();
    let median = times.get(times.len() / 2).context("nothing was measured")?;
    let worst = times.last().context("nothing was measured")?;
    Ok(format!(
        "{:.0} ms median, {:.0} ms worst of {}",
        median.as_secs_f64() * 1e3,
        worst.as_secs_f64() * 1e3,
        times.len()
    ))
}

/// The allocator's own benchmark, built with optimisation.
fn allocation() -> Result<()> {
    let status = Command::new("cargo")
        .args(["bench", "--quiet", "-p", "master-core", "--bench", "allocator"])
        .current_dir(repository())
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "the allocator's benchmark failed: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_lines_begin_with_a_time() {
        assert!((stamp("[    3.257041] Run /init as init process").unwrap() - 3.257_041).abs() < 1e-9);
        assert!(stamp("Run /init").is_err());
    }

    #[test]
    fn the_bare_archive_is_aligned_and_ends_with_its_trailer() {
        let archive = bare_initramfs();
        assert_eq!(archive.len() % 4, 0);
        assert!(archive.starts_with(b"070701") && archive.windows(10).any(|part| part == b"TRAILER!!!"));
    }
}
