//! `mesolith node NODE network`: what a node's network is to be. Kept as a rule for this node alone; the node tries it, and
//! goes back to what was before if it does not find its master again.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use api::network::{Settings, TRY_SECONDS};
use hyper::Method as Verb;
use serde_json::{Value, json};

use crate::advice::advise;
use crate::master::{Ask, Master, segment};
use crate::node;
use crate::options::NetworkChange;
use crate::render::{Format, Output};

/// How often the node is asked how it stands.
const AGAIN: Duration = Duration::from_secs(1);
/// What finding the master may take beside the trial itself.
const GRACE: Duration = Duration::from_secs(60);

/// Does what was asked.
pub(crate) async fn perform(master: &Master, output: &Output, node: &str, change: &NetworkChange) -> Result<()> {
    let name = node::name_of(master, node).await?;
    match (change.change.as_deref(), &change.file) {
        (None | Some("show"), None) => show(master, output, &name).await,
        (Some("set"), Some(file)) => {
            let mut settings = read(file)?;
            let seconds = if change.now { Some(0) } else { change.try_seconds };
            settings.try_seconds = seconds.or(settings.try_seconds);
            settings.validate()?;
            set(master, output, &name, settings).await
        }
        (Some("revert"), None) => revert(master, output, &name).await,
        _ => Err(advise("this is no change of a network".to_owned(), "show, set FILE, or revert")),
    }
}

/// A file of settings.
pub(crate) fn read(file: &Path) -> Result<Settings> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    let settings: Settings =
        serde_json::from_str(&text).with_context(|| format!("{} is not what a network is to be", file.display()))?;
    settings.validate()?;
    Ok(settings)
}

async fn report(master: &Master, name: &str) -> Result<Value> {
    let path = format!("/mesolith/v1/nodes/{}/api/network", segment(name));
    let body = master.fetch(Ask::with_body(Verb::GET, path, "application/json", Vec::new())).await?;
    Ok(serde_json::from_slice(&body)?)
}

fn rule_of(name: &str) -> String {
    let own = format!("network.{name}");
    own.chars().take(64).collect()
}

/// The rule of that name, if there is one.
async fn kept(master: &Master, rule: &str) -> Result<Option<Value>> {
    let all: Value = master.json("/mesolith/v1/rules").await?;
    Ok(all["rules"].as_array().into_iter().flatten().find(|one| one["name"] == rule).cloned())
}

async fn keep(master: &Master, rule: &Value) -> Result<()> {
    let name = rule["name"].as_str().unwrap_or_default();
    let path = format!("/mesolith/v1/rules/{}?first", segment(name));
    master.fetch(Ask::with_body(Verb::PUT, path, "application/json", serde_json::to_vec(rule)?)).await.map(drop)
}

async fn forget(master: &Master, rule: &str) -> Result<()> {
    let path = format!("/mesolith/v1/rules/{}", segment(rule));
    master.fetch(Ask::with_body(Verb::DELETE, path, "application/json", Vec::new())).await.map(drop)
}

async fn set(master: &Master, output: &Output, name: &str, settings: Settings) -> Result<()> {
    let rule = rule_of(name);
    let before = kept(master, &rule).await?;
    // A name is letters, digits, hyphens and dots: these alone mean something else in a pattern.
    let pattern = name.replace('.', "\\.");
    let wanted = serde_json::to_value(&settings)?;
    keep(master, &json!({ "name": rule, "match": { "node": pattern }, "network": wanted })).await?;
    let patience = Duration::from_secs(settings.try_seconds.unwrap_or(TRY_SECONDS).into()) + GRACE;
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        tokio::time::sleep(AGAIN).await;
        // While it looks for its master it cannot be asked.
        let Ok(report) = report(master, name).await else { continue };
        let now = &report["settings"];
        let is_tried = now["in_force"] == wanted && now["rule"] == rule;
        if now["state"] == "confirmed" && is_tried {
            let problems = lines(&report["problems"]) + &lines(&report["failures"]);
            return said(output, &format!("the network of {name} is as it was set, and stays\n{problems}"));
        }
        if now["state"] == "reverted" && now["reverted"]["settings"] == wanted {
            match before {
                Some(before) => keep(master, &before).await?,
                None => forget(master, &rule).await?,
            }
            return Err(advise(
                format!("{name} did not find its master with this network, and went back to the one before"),
                "`mesolith node NODE network` shows how it stands",
            ));
        }
    }
    Err(advise(
        format!("{name} has not said within {} s whether it stays", patience.as_secs()),
        "the rule is kept, and tried when the node comes back; `network revert` forgets it",
    ))
}

async fn revert(master: &Master, output: &Output, name: &str) -> Result<()> {
    let rule = rule_of(name);
    if kept(master, &rule).await?.is_none() {
        return Err(advise(
            format!("nothing was set for {name} alone"),
            "`mesolith rules list` shows rules for several",
        ));
    }
    forget(master, &rule).await?;
    let deadline = Instant::now() + Duration::from_secs(TRY_SECONDS.into()) + GRACE;
    while Instant::now() < deadline {
        tokio::time::sleep(AGAIN).await;
        let Ok(report) = report(master, name).await else { continue };
        if report["settings"]["state"] == "confirmed" && report["settings"]["rule"] != rule {
            return said(output, &format!("the network of {name} is as it is without the setting\n"));
        }
    }
    Err(advise(format!("{name} has not said that it is back"), "the setting is forgotten all the same"))
}

fn said(output: &Output, text: &str) -> Result<()> {
    match output.format() {
        Format::Json => output.value(&json!({ "done": text.trim_end() })),
        Format::Table => output.print(text),
    }
}

fn lines(list: &Value) -> String {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(|line| format!("  {line}\n")).collect()
}

async fn show(master: &Master, output: &Output, name: &str) -> Result<()> {
    let report = report(master, name).await?;
    if output.format() == Format::Json {
        return output.value(&report);
    }
    output.print(&text(&report))
}

fn text(report: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let settings = &report["settings"];
    let mut text = String::new();
    let rule = word(&settings["rule"]);
    let by = if rule.is_empty() { "no rule says anything".to_owned() } else { format!("rule {rule}") };
    let state = match settings["state"].as_str() {
        Some("trying") => format!("being tried for {} s more", settings["seconds_left"]),
        Some("reverted") => format!("in force again after rule {} failed", word(&settings["reverted"]["rule"])),
        Some("none") => "not this node's to change: it is hosted".to_owned(),
        _ => "confirmed".to_owned(),
    };
    text.push_str(&format!("from the master: {by}, {state}\n"));
    let typed = if settings["command_line"].is_null() { "nothing" } else { "some of it, which counts first" };
    text.push_str(&format!("from the command line: {typed}\n"));
    for (name, link) in report["links"].as_object().into_iter().flatten() {
        let primary = if link["primary"] == true { ", the way out" } else { "" };
        let addresses: Vec<&str> =
            link["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let asks = |family: &str| format!("{family} {}", word(&link[family]));
        text.push_str(&format!(
            "{name}: {} by {}, {}, {}{primary} {}\n",
            word(&link["kind"]),
            word(&link["source"]),
            asks("ipv4"),
            asks("ipv6"),
            addresses.join(" ")
        ));
    }
    let servers = lines(&report["dns"]["servers"]).replace("  ", "").replace('\n', " ");
    text.push_str(&format!("names: {}({})\n", servers, word(&report["dns"]["source"])));
    for (what, list) in [("cannot be", &report["problems"]), ("the kernel refused", &report["failures"])] {
        let lines = lines(list);
        if !lines.is_empty() {
            text.push_str(&format!("{what}:\n{lines}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_in_a_few_lines() {
        let report = json!({
            "settings": {"state": "trying", "seconds_left": 12, "rule": "network.n1", "command_line": null},
            "links": {"bond0": {"kind": "bond", "source": "master", "ipv4": "dhcp", "ipv6": "off", "primary": true,
                "addresses": ["10.0.0.5/24"]}},
            "dns": {"servers": ["10.0.0.53"], "source": "master"}, "problems": ["master: no card is eth9"], "failures": []
        });
        let text = text(&report);
        for said in [
            "rule network.n1, being tried for 12 s",
            "bond0: bond by master, ipv4 dhcp, ipv6 off, the way out 10.0.0.5/24",
            "names: 10.0.0.53 (master)",
            "cannot be:\n  master: no card is eth9",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert_eq!(rule_of(&"n".repeat(80)).len(), 64);
    }
}
