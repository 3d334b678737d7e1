//! A node of a running rack, as a test sees it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::control::{self, NodeStatus, Request};
use super::evidence::PxeEvidence;
use super::options::NodePlan;
use super::qmp::Qmp;
use super::{Rack, console};

/// One node. Cheap to make; see [`Rack::node`].
pub struct Node<'a> {
    pub(super) rack: &'a Rack,
    pub(super) plan: NodePlan,
}

impl Node<'_> {
    /// `node-1` and so on.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Its MAC, in lower case.
    #[must_use]
    pub fn mac(&self) -> &str {
        &self.plan.mac
    }

    /// Its system UUID.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.plan.uuid
    }

    /// Its address inside the rack.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.plan.address
    }

    /// The value of its `rack` attribute.
    #[must_use]
    pub fn rack_name(&self) -> &str {
        &self.plan.rack
    }

    /// How it stands now.
    pub fn status(&self) -> Result<NodeStatus> {
        let status = self.rack.status()?;
        let found = status.nodes.into_iter().find(|node| node.name == self.plan.name);
        found.ok_or_else(|| anyhow::anyhow!("the rack forgot {}", self.plan.name))
    }

    /// Everything the console said since the rack began, without terminal escapes.
    #[must_use]
    pub fn console(&self) -> String {
        console::read(&self.rack.dir().join(format!("{}.console", self.plan.name)))
    }

    /// Where the console stands: pass it to [`Self::wait_console_after`].
    #[must_use]
    pub fn console_mark(&self) -> usize {
        self.console().len()
    }

    /// Waits until the console has said `text`, at any time since the rack began; gives the line.
    pub fn wait_console(&self, text: &str, timeout: Duration) -> Result<String> {
        self.wait_console_after(0, text, timeout)
    }

    /// Waits until the console says `text` after the mark; gives the line.
    pub fn wait_console_after(&self, mark: usize, text: &str, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let said = self.console();
            let new = said.get(mark..).unwrap_or_default();
            if let Some(line) = new.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if Instant::now() >= deadline {
                let lines: Vec<&str> = new.lines().collect();
                let end = lines[lines.len().saturating_sub(15)..].join("\n");
                bail!("{} did not say `{text}` within {timeout:?}; it said last:\n{end}", self.plan.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// One command of QEMU's machine protocol (`query-status`, `set_link`, …).
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        Qmp::connect(self.rack.dir(), &format!("{}.qmp", self.plan.name))?.execute(command, arguments)
    }

    /// Plugs the network cable in or pulls it.
    pub fn set_link(&self, link: Link) -> Result<()> {
        let up = match link {
            Link::Up => true,
            Link::Down => false,
        };
        self.qmp("set_link", json!({"name": "nic0", "up": up})).map(drop)
    }

    /// The reset button: the firmware begins anew.
    pub fn reset(&self) -> Result<()> {
        self.qmp("system_reset", json!({})).map(drop)
    }

    /// Stops the processors: the node hangs, its clock with it.
    pub fn freeze(&self) -> Result<()> {
        self.qmp("stop", json!({})).map(drop)
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self) -> Result<()> {
        self.qmp("cont", json!({})).map(drop)
    }

    /// Presses the power button (ACPI), and cuts the power if the node is not off when the time is over. Gives whether
    /// it went off by itself.
    pub fn power_off(&self, timeout: Duration) -> Result<bool> {
        self.qmp("system_powerdown", json!({}))?;
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if self.status()?.pid.is_none() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.kill()?;
        Ok(false)
    }

    /// Cuts the power.
    pub fn kill(&self) -> Result<()> {
        control::ask(self.rack.dir(), &Request::CutPower { node: self.plan.name.clone() }).map(drop)
    }

    /// Turns the power on.
    pub fn power_on(&self) -> Result<()> {
        control::ask(self.rack.dir(), &Request::PowerOn { node: self.plan.name.clone() }).map(drop)
    }

    /// What the logs say of its network boots.
    #[must_use]
    pub fn pxe_evidence(&self) -> PxeEvidence {
        let dir = self.rack.dir();
        PxeEvidence::read(&dir.join("dnsmasq.log"), &dir.join("master/boot.log"), &self.plan.mac, &self.plan.address)
    }
}

/// The network cable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Link {
    /// Plugged in.
    Up,
    /// Pulled.
    Down,
}
