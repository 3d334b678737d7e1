//! What every `Cargo.toml` must say: the workspace's lints, and the reason for each dependency.

use anyhow::Result;

use super::tree::Tree;

/// Shorter reasons give none.
const SHORTEST_REASON: usize = 8;

/// Crates that do not take the workspace's lints. `agent/sys` has its own, for it alone may be unsafe.
pub fn missing_lints(tree: &Tree) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for manifest in tree.manifests.iter().filter(|path| path.as_str() != "Cargo.toml" && !path.contains("/fuzz/")) {
        let text = tree.text(manifest)?;
        let own =
            manifest == "agent/sys/Cargo.toml" && (text.contains("[lints.rust]") || text.contains("[lints.clippy]"));
        if !own && !takes_lints(&text) {
            complaints.push(format!("{manifest}: no `[lints] workspace = true`"));
        }
    }
    Ok(complaints)
}

fn takes_lints(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true")
}

/// Lines of `[workspace.dependencies]` without a reason behind them.
pub fn missing_reasons(tree: &Tree) -> Result<Vec<String>> {
    Ok(without_reason(&tree.text("Cargo.toml")?))
}

fn without_reason(text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.trim() == "[workspace.dependencies]";
            continue;
        }
        let line = line.trim();
        if !inside || line.is_empty() || line.starts_with('#') {
            continue;
        }
        let reason = line.rsplit_once('#').map(|(_, reason)| reason.trim()).unwrap_or_default();
        if reason.len() < SHORTEST_REASON {
            complaints.push(format!("Cargo.toml:{}: `{line}` lacks its reason", number + 1));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let text = "[workspace.dependencies]\nserde = \"1\" # every stored value\nnix = \"0.31\"\n# ---- x\n\n[profile.dev]\na = 1\n";
        assert_eq!(without_reason(text), ["Cargo.toml:3: `nix = \"0.31\"` lacks its reason"]);
    }

    #[test]
    fn lints_are_the_workspaces() {
        assert!(takes_lints("[package]\n\n[lints]\nworkspace = true\n"));
        assert!(!takes_lints("[package]\nlints.workspace = false\n"));
    }
}
