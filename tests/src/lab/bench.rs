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

/// What a `true` may take from offer to end.
const TASK: Duration = Duration::from_secs(60);

/// How long after registering init may take to say what it holds.
const MEMORY: Duration = Duration::from_secs(30);

/// Boots one node, measures, prints.
pub fn bench(dir: &Path) -> Result<()> {
    let image = dir.join("image");
    sizes(&image)?;
    let rack = Rack::start(Options { nodes: 1, image_dir: image, ..Options::new()? })?;
    let accelerator = rack.status()?.accelerator.map_or_else(String::new, |a| format!("{a:?}").to_lowercase());
    println!("{:<44} {accelerator}", "servers run by");
    boot(&rack, &rack.node(1))?;
    memory(&rack.node(1))?;
    latency(&rack)?;
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

/// From the kernel's own clock to init, from ours to registered.
fn boot(rack: &Rack, node: &Node<'_>) -> Result<()> {
    node.wait_console("Linux version", BOOT)?;
    let kernel = Instant::now();
    let init = node.wait_console("as init process", BOOT)?;
    rack.wait_registered(1, BOOT)?;
    row("kernel start to registered", &format!("{:.1} s", kernel.elapsed().as_secs_f64()));
    let stamp = init.trim_start_matches(['[', ' ']).split(']').next().unwrap_or_default().trim().to_owned();
    row("kernel start to init (kernel's clock)", &format!("{stamp} s"));
    Ok(())
}

/// What init and the agent hold, as init says on the console once the node is registered.
fn memory(node: &Node<'_>) -> Result<()> {
    let line = node.wait_console("resident", MEMORY)?;
    row("resident memory", line.trim());
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
