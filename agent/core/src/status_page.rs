//! What a person at the machine's screen or serial line sees first: who it is, whether it works, and why not.

/// All the page tells.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// What the node is called.
    pub node: String,
    /// Of the agent.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Maker, model and serial number.
    pub machine: String,
    /// Processors, memory, disks.
    pub size: String,
    /// Interfaces with their addresses.
    pub network: Vec<String>,
    /// The master of the session.
    pub master: String,
    /// How far it is: registered, unclaimed, searching, refused.
    pub stage: Stage,
    /// The last reason for not being further.
    pub reason: String,
    /// Tasks that run.
    pub tasks: usize,
    /// Who tells the time.
    pub clock: String,
    /// What boots before this one left behind.
    pub crashes: usize,
}

/// How far the node is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Stage {
    /// No address yet.
    #[default]
    Offline,
    /// It has an address and looks for a master.
    Searching,
    /// A master knows it, and nobody has claimed it.
    Unclaimed,
    /// It works.
    Registered,
    /// A person has to lift a refusal.
    Refused,
}

impl Stage {
    const fn words(&self) -> &'static str {
        match self {
            Self::Offline => "NO NETWORK",
            Self::Searching => "LOOKING FOR A MASTER",
            Self::Unclaimed => "UNCLAIMED: nobody has said that this machine belongs to the cluster",
            Self::Registered => "READY",
            Self::Refused => "REFUSED",
        }
    }
}

/// The page's lines, none longer than `width`. Nothing on it changes by itself with time: a page that is the same need
/// not be shown again.
#[must_use]
pub fn render(status: &Status, width: usize) -> Vec<String> {
    let mut lines = vec![
        format!("Mesolith {} · {} · Linux {}", status.version, or_dash(&status.node), status.kernel),
        format!("  {}", status.stage.words()),
    ];
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("  {name:<9}{value}"));
        }
    };
    if status.stage != Stage::Registered {
        field("because", &status.reason);
    }
    field("master", &status.master);
    for link in status.network.iter().take(4) {
        field("network", link);
    }
    if status.network.len() > 4 {
        field("", &format!("and {} more", status.network.len() - 4));
    }
    field("machine", &status.machine);
    field("has", &status.size);
    field("tasks", &status.tasks.to_string());
    field("clock", &status.clock);
    if status.crashes > 0 {
        field("CRASHED", &format!("{} reports of boots that ended badly: mesolith crashes", status.crashes));
    }
    lines.iter().map(|line| fit(line, width)).collect()
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// A line that fits, without what would move a cursor.
fn fit(line: &str, width: usize) -> String {
    let plain: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if plain.chars().count() <= width {
        return plain;
    }
    plain.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_who_where_and_why_not_and_fits() {
        let status = Status {
            node: "node-1".to_owned(),
            version: "0.1.0".to_owned(),
            kernel: "6.1".to_owned(),
            network: (0..6).map(|number| format!("eth{number} 10.0.0.{number}/24")).collect(),
            stage: Stage::Refused,
            reason: format!("the\x1b[2Jmaster says {}", "no ".repeat(60)),
            crashes: 1,
            ..Status::default()
        };
        let lines = render(&status, 80);
        assert!(lines[0].starts_with("Mesolith 0.1.0 · node-1"));
        assert!(lines.len() <= crate::handover::PAGE_LINES, "{lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80 && !line.contains('\x1b')), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("and 2 more")) && lines[2].contains("because"), "{lines:#?}");
        let ready = render(&Status { stage: Stage::Registered, ..status }, 80);
        assert!(ready[1].contains("READY") && !ready.iter().any(|line| line.contains("because")));
    }
}
