//! One version of each crate and free licences only, but for the exceptions that `tests/dependencies.toml` names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One table of `tests/dependencies.toml`: its heading and its keys.
type Table = (String, BTreeMap<String, String>);

/// Crates that `Cargo.lock` has in several versions without an exception that holds, and exceptions that hold no more.
///
/// An exception names the crate and who forces an old version of it.
pub fn duplicates(lock: &str, exceptions: &str) -> Result<Vec<String>> {
    let packages = packages(lock);
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in &packages {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let tables = parse(exceptions)?;
    let mut complaints = Vec::new();
    let mut excused = BTreeSet::new();
    for (_, table) in tables.iter().filter(|(heading, _)| heading == "duplicate") {
        let (name, forced_by) = (key(table, "name")?, key(table, "forced_by")?);
        key(table, "why")?;
        excused.insert(name);
        let all = versions.get(name).map(Vec::as_slice).unwrap_or_default();
        let forces = |version: &str| {
            let needed = [format!("{name} {version}")];
            packages
                .iter()
                .any(|package| package.name == forced_by && package.needs.iter().any(|need| needed.contains(need)))
        };
        let newest = all.iter().max_by_key(|version| order(version));
        if all.len() < 2 {
            complaints.push(format!("dependencies.toml: there is one `{name}` now; remove its exception"));
        } else if !all.iter().any(|version| Some(version) != newest && forces(version)) {
            complaints.push(format!("dependencies.toml: `{forced_by}` forces no old `{name}` (any more)"));
        }
    }
    for (name, all) in versions.iter().filter(|(name, all)| all.len() > 1 && !excused.contains(*name)) {
        let who = |version: &&str| {
            let need = format!("{name} {version}");
            let users: Vec<&str> = packages
                .iter()
                .filter(|package| package.needs.contains(&need))
                .map(|package| package.name.as_str())
                .collect();
            format!("{version} by {}", users.join(" "))
        };
        let users: Vec<String> = all.iter().map(who).collect();
        complaints.push(format!("`{name}` in several versions: {}", users.join("; ")));
    }
    Ok(complaints)
}

/// Crates under a licence that is not allowed, and exceptions that are none. `metadata` is of `cargo metadata`.
pub fn licences(metadata: &Value, exceptions: &str) -> Result<Vec<String>> {
    let tables = parse(exceptions)?;
    let allowed: BTreeSet<&str> = tables
        .iter()
        .filter(|(heading, _)| heading == "allowed_licence")
        .map(|(_, table)| key(table, "name"))
        .collect::<Result<_>>()?;
    let mut complaints = Vec::new();
    let mut excused = BTreeMap::new();
    for (_, table) in tables.iter().filter(|(heading, _)| heading == "licence") {
        key(table, "why")?;
        excused.insert(key(table, "name")?, (key(table, "licence")?, key(table, "forced_by")?));
    }
    let mut used = BTreeSet::new();
    let mut words = BTreeSet::new();
    let resolved: BTreeSet<&str> =
        metadata["resolve"]["nodes"].as_array().into_iter().flatten().filter_map(|node| node["id"].as_str()).collect();
    let all = metadata["packages"].as_array().into_iter().flatten();
    for package in all.filter(|package| resolved.contains(package["id"].as_str().unwrap_or_default())) {
        let name = package["name"].as_str().context("every package has a name")?;
        let licence = package["license"].as_str().unwrap_or("none");
        words.extend(licence.split([' ', '/', '(', ')']));
        if satisfied(licence, &allowed) {
            continue;
        }
        match excused.get(name) {
            Some((named, _)) if *named == licence => {
                used.insert(name);
            }
            Some((named, _)) => complaints.push(format!("`{name}` is under {licence}, its exception says {named}")),
            None => complaints.push(format!("`{name}` is under {licence}, which is not allowed")),
        }
    }
    for (name, (_, forced_by)) in &excused {
        if !used.contains(name) {
            complaints.push(format!("dependencies.toml: `{name}` needs no exception for its licence (any more)"));
        } else if !depends(metadata, forced_by, name) {
            complaints.push(format!("dependencies.toml: `{forced_by}` does not depend on `{name}` (any more)"));
        }
    }
    for name in allowed.iter().filter(|name| !words.contains(*name)) {
        complaints.push(format!("dependencies.toml: no crate is under {name} (any more)"));
    }
    Ok(complaints)
}

/// Whether a package called `from` depends on one called `to`.
fn depends(metadata: &Value, from: &str, to: &str) -> bool {
    metadata["packages"].as_array().into_iter().flatten().any(|package| {
        package["name"] == from
            && package["dependencies"].as_array().into_iter().flatten().any(|dependency| dependency["name"] == to)
    })
}

/// Whether an SPDX expression can be met by allowed licences. `AND` binds closer than `OR`; `/` is an old `OR`.
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    let ors: Vec<String> = split_outside(&expression, " OR ");
    if ors.len() > 1 {
        return ors.iter().any(|part| satisfied(part, allowed));
    }
    let ands = split_outside(&expression, " AND ");
    if ands.len() > 1 {
        return ands.iter().all(|part| satisfied(part, allowed));
    }
    let part = expression.trim();
    match part.strip_prefix('(').and_then(|part| part.strip_suffix(')')) {
        Some(inside) => satisfied(inside, allowed),
        None => allowed.contains(part),
    }
}

/// Splits where the separator stands outside parentheses.
fn split_outside(text: &str, separator: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_i32;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if depth == 0 && rest.starts_with(separator) {
            parts.push(String::new());
            rest = &rest[separator.len()..];
            continue;
        }
        depth += i32::from(next == '(') - i32::from(next == ')');
        if let Some(part) = parts.last_mut() {
            part.push(next);
        }
        rest = &rest[next.len_utf8()..];
    }
    parts
}

struct Package {
    name: String,
    version: String,
    /// `name version`, resolved.
    needs: Vec<String>,
}

/// The packages of a `Cargo.lock`. A need without a version means the only one there is.
fn packages(lock: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    for block in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = block.lines().find(|line| line.starts_with(&format!("{key} = ")));
            line.and_then(|line| line.split('"').nth(1)).unwrap_or_default().to_owned()
        };
        let needs = block.split_once("dependencies = [").map(|(_, list)| list).unwrap_or_default();
        let needs = needs.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        packages.push(Package { name: value("name"), version: value("version"), needs });
    }
    let only: BTreeMap<String, String> = packages.iter().map(|p| (p.name.clone(), p.version.clone())).collect();
    for package in &mut packages {
        for need in &mut package.needs {
            if let (false, Some(version)) = (need.contains(' '), only.get(need)) {
                *need = format!("{need} {version}");
            }
        }
    }
    packages
}

/// Versions in their order, near enough to tell old from new.
fn order(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0)).collect()
}

/// The little of TOML the exceptions need: `[[heading]]` and `key = "value"`.
fn parse(text: &str) -> Result<Vec<Table>> {
    let mut tables: Vec<Table> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(heading) = line.strip_prefix("[[").and_then(|line| line.strip_suffix("]]")) {
            tables.push((heading.to_owned(), BTreeMap::new()));
            continue;
        }
        let pair =
            line.split_once(" = ").and_then(|(key, value)| Some((key, value.strip_prefix('"')?.strip_suffix('"')?)));
        match (pair, tables.last_mut()) {
            (Some((key, value)), Some((_, table))) => {
                table.insert(key.to_owned(), value.to_owned());
            }
            _ => bail!("dependencies.toml:{}: neither [[heading]] nor key = \"value\"", number + 1),
        }
    }
    Ok(tables)
}

fn key<'a>(table: &'a BTreeMap<String, String>, name: &str) -> Result<&'a str> {
    table.get(name).map(String::as_str).with_context(|| format!("dependencies.toml: a table lacks `{name}`: {table:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LOCK: &str = r#"
[[package]]
name = "a"
version = "1.9.0"

[[package]]
name = "a"
version = "1.10.0"

[[package]]
name = "old"
version = "1.0.0"
dependencies = [
 "a 1.9.0",
]

[[package]]
name = "new"
version = "1.0.0"
dependencies = [
 "a 1.10.0",
 "old",
]
"#;

    fn exception(name: &str, forced_by: &str) -> String {
        format!("[[duplicate]]\nname = \"{name}\"\nforced_by = \"{forced_by}\"\nwhy = \"no newer\"\n")
    }

    #[test]
    fn a_duplicate_needs_an_exception_that_names_who_forces_it() {
        assert_eq!(duplicates(LOCK, "").unwrap(), ["`a` in several versions: 1.9.0 by old; 1.10.0 by new"]);
        assert!(duplicates(LOCK, &exception("a", "old")).unwrap().is_empty());
        assert_eq!(duplicates(LOCK, &exception("a", "new")).unwrap().len(), 1, "it uses the newest");
        let stale = duplicates(LOCK, &(exception("a", "old") + &exception("old", "new"))).unwrap();
        assert_eq!(stale, ["dependencies.toml: there is one `old` now; remove its exception"]);
        assert!(duplicates(LOCK, "[[duplicate]]\nname = \"a\"\n").is_err());
        assert!(duplicates(LOCK, "nonsense").is_err());
    }

    #[test]
    fn licence_expressions_are_understood() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
        for (expression, fine) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT/GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
            ("(MIT AND GPL-3.0) OR MPL-2.0", false),
            ("none", false),
        ] {
            assert_eq!(satisfied(expression, &allowed), fine, "{expression}");
        }
    }

    #[test]
    fn a_licence_exception_must_be_needed_and_true() {
        let metadata = json!({
            "packages": [
                {"id": "x", "name": "x", "license": "MPL-2.0", "dependencies": []},
                {"id": "y", "name": "y", "license": "MIT", "dependencies": [{"name": "x"}]},
            ],
            "resolve": {"nodes": [{"id": "x"}, {"id": "y"}]},
        });
        let mit = "[[allowed_licence]]\nname = \"MIT\"\n";
        let exception = |name: &str, licence: &str, by: &str| {
            format!("{mit}[[licence]]\nname = \"{name}\"\nlicence = \"{licence}\"\nforced_by = \"{by}\"\nwhy = \"w\"\n")
        };
        assert_eq!(licences(&metadata, mit).unwrap(), ["`x` is under MPL-2.0, which is not allowed"]);
        assert!(licences(&metadata, &exception("x", "MPL-2.0", "y")).unwrap().is_empty());
        assert_eq!(licences(&metadata, &exception("x", "GPL-2.0", "y")).unwrap().len(), 2);
        assert_eq!(licences(&metadata, &exception("x", "MPL-2.0", "z")).unwrap().len(), 1);
        assert_eq!(licences(&metadata, &exception("y", "MIT", "x")).unwrap().len(), 2);
    }
}
