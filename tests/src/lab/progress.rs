//! One line a node while the rack boots: which stage it has reached, and after how many seconds.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use serde_json::Value;

use crate::rack::{Kind, Node, Rack};

/// How often logs and consoles are looked at; times shown are this exact.
const LOOK: Duration = Duration::from_millis(200);

/// The stages of a boot, in order.
const STAGES: [&str; 7] = ["DHCP", "script", "kernel", "image", "linux", "init", "registered"];

/// What one node has reached.
struct Line {
    name: String,
    rack: String,
    /// Seconds since the start, a stage each; `None` while not reached.
    reached: [Option<f32>; STAGES.len()],
}

impl Line {
    fn new(node: &Node<'_>) -> Self {
        Self { name: node.name().to_owned(), rack: node.rack_name().to_owned(), reached: [None; STAGES.len()] }
    }

    /// Notes the stages that are new; gives their indices.
    fn look(&mut self, node: &Node<'_>, kind: Kind, active: &[Value], seconds: f32) -> Vec<usize> {
        let registered = active.iter().any(|slave| is(slave, node));
        let seen = match kind {
            Kind::Hosted => [false, false, false, false, false, false, registered],
            Kind::Virtual => {
                let evidence = node.pxe_evidence();
                let console = node.console();
                [
                    evidence.dhcp_ack > 0,
                    evidence.script > 0,
                    evidence.kernel > 0,
                    evidence.initramfs > 0,
                    console.contains("Linux version"),
                    console.contains("as init process"),
                    registered,
                ]
            }
        };
        let mut new = Vec::new();
        for (index, seen) in seen.into_iter().enumerate() {
            if seen && self.reached[index].is_none() {
                self.reached[index] = Some(seconds);
                new.push(index);
            }
        }
        new
    }

    fn text(&self) -> String {
        let stages: Vec<String> = STAGES
            .iter()
            .zip(self.reached)
            .filter_map(|(stage, at)| at.map(|at| format!("{stage} {at:.1}s")))
            .collect();
        let stages = if stages.is_empty() { "power on".to_owned() } else { stages.join(" · ") };
        format!("  {:<8} {:<5} {stages}", self.name, self.rack)
    }

    fn is_registered(&self) -> bool {
        self.reached[STAGES.len() - 1].is_some()
    }
}

/// Shows the boot of all nodes until each is registered; an error with the end of its console for one that is not
/// within `timeout`.
pub(super) fn watch(rack: &Rack, timeout: Duration) -> Result<()> {
    let begin = Instant::now();
    let nodes = rack.nodes();
    let mut lines: Vec<Line> = nodes.iter().map(Line::new).collect();
    let terminal = std::io::stdout().is_terminal();
    let mut drawn = 0;
    loop {
        let status = rack.status().context("the rack has ended by itself; see lab.log in its directory")?;
        if let Some(off) = status.nodes.iter().find(|node| node.pid.is_none()) {
            bail!("{} went off by itself; see lab.log in {}", off.name, status.dir.display());
        }
        let active = rack.registered();
        let seconds = begin.elapsed().as_secs_f32();
        for (line, node) in lines.iter_mut().zip(&nodes) {
            for stage in line.look(node, rack.options().kind, &active, seconds) {
                if !terminal {
                    println!("  {:<8} {:<5} {} after {seconds:.1} s", line.name, line.rack, STAGES[stage]);
                }
            }
        }
        if terminal {
            draw(&lines, drawn)?;
            drawn = lines.len();
        }
        if lines.iter().all(Line::is_registered) {
            return Ok(());
        }
        if begin.elapsed() > timeout {
            let late = lines.iter().position(|line| !line.is_registered()).unwrap_or_default();
            let console = nodes[late].console();
            let console: Vec<&str> = console.lines().collect();
            bail!(
                "{} did not register within {} s; its console ends:\n{}",
                lines[late].name,
                timeout.as_secs(),
                console[console.len().saturating_sub(20)..].join("\n")
            );
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether an entry of `/state` is this node: by its rack attribute, which is given by MAC.
fn is(slave: &Value, node: &Node<'_>) -> bool {
    slave["attributes"]["rack"].as_str() == Some(node.rack_name())
}

/// Draws the lines over the `drawn` ones above the cursor.
fn draw(lines: &[Line], drawn: usize) -> Result<()> {
    let mut text = String::new();
    if drawn > 0 {
        text.push_str(&format!("\u{1b}[{drawn}A"));
    }
    for line in lines {
        text.push_str(&format!("\u{1b}[2K{}\n", line.text()));
    }
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
