//! What the node API says of the network: what was asked for, by whom, and what of it could not be.

use std::sync::Mutex;

use agent_core::network::{Kernel, Kind, Trial, Wanted};
use api::network::Settings;
use serde_json::{Value, json};

use super::resolver::Names;
use crate::uptime;

/// Written by the one task that knows, read by whoever is asked.
static NOW: Mutex<Option<Value>> = Mutex::new(None);

/// The last report. A host's network is not ours.
pub(crate) fn now() -> Value {
    let report = NOW.lock().ok().and_then(|now| now.clone());
    let mut report = report.unwrap_or_else(|| json!({ "settings": { "state": "none" }, "links": {} }));
    if let Some(until) = report["settings"]["until_ms"].as_u64() {
        report["settings"]["seconds_left"] = (until.saturating_sub(uptime::millis()) / 1000).into();
    }
    report
}

/// All that is told.
pub(super) struct Told<'a> {
    pub(super) command_line: Option<&'a Settings>,
    pub(super) trial: &'a Trial,
    pub(super) kernel: &'a Kernel,
    pub(super) wanted: &'a Wanted,
    pub(super) primary: Option<&'a str>,
    pub(super) names: &'a Names,
    pub(super) failures: &'a [String],
}

pub(super) fn tell(told: &Told<'_>) {
    let Told { command_line, trial, kernel, wanted, primary, names, failures } = told;
    let links: serde_json::Map<String, Value> = wanted
        .links
        .iter()
        .map(|(name, link)| {
            let seen = kernel.links.get(name);
            let kind = match seen.map(|seen| &seen.kind) {
                Some(Kind::Card(card)) => {
                    json!({ "kind": "card", "permanent_mac": card.mac, "driver": card.driver, "path": card.path })
                }
                Some(Kind::Bond(options)) => {
                    json!({ "kind": "bond", "mode": options.mode.name(), "ports": kernel.ports_of(name) })
                }
                Some(Kind::Vlan { of, id }) => json!({ "kind": "vlan", "of": of, "id": id }),
                None => json!({ "kind": "missing" }),
            };
            let mut all = kind;
            all["source"] = link.source.name().into();
            all["bond"] = json!(link.bond);
            all["ipv4"] = json!(link.methods.ipv4);
            all["ipv6"] = json!(link.methods.ipv6);
            all["addresses"] = json!(link.addresses);
            all["primary"] = (*primary == Some(name.as_str())).into();
            (name.clone(), all)
        })
        .collect();
    let state = match (trial.trying_until(), &trial.kept().failed) {
        (Some(_), _) => "trying",
        (None, Some(_)) => "reverted",
        (None, None) => "confirmed",
    };
    let in_force = trial.in_force();
    let report = json!({
        "settings": {
            "state": state,
            "until_ms": trial.trying_until(),
            "rule": in_force.rule,
            "in_force": in_force.settings,
            "reverted": trial.kept().failed,
            "command_line": command_line,
        },
        "links": links,
        "primary": primary,
        "dns": { "servers": names.servers, "search": names.search, "source": names.source, "cached": names.cached },
        "problems": wanted.problems,
        "failures": failures,
    });
    if let Ok(mut now) = NOW.lock() {
        *now = Some(report);
    }
}
