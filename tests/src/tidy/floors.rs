//! An arrow between crates may only point down, and the cores may depend on pure codecs alone.

use serde_json::Value;

/// The floor of every package. Programs (3) never import one another; the tests (4) import anything.
const FLOORS: [(&str, u8); 13] = [
    ("api", 0),
    ("hwdetect", 0),
    ("agent-sys", 0),
    ("master-core", 1),
    ("agent-core", 1),
    ("initramfs", 2),
    ("agent-images", 2),
    ("agent", 3),
    ("master", 3),
    ("cli", 3),
    ("image", 3),
    ("master-simulation", 4),
    ("tests", 4),
];

/// What the pure cores may depend on, dev-dependencies apart.
const CORE_MAY_USE: [&str; 12] = [
    "api",
    // For its types and decoders; reading a machine is the shell's.
    "hwdetect",
    "thiserror",
    "serde",
    "tracing",
    "serde_json",
    "rmp-serde",
    "dhcproto",
    "base64",
    "bytes",
    "regex-lite",
    "prost",
];

/// Complaints about `cargo metadata --no-deps`.
#[must_use]
pub fn floors(metadata: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let floor = |name: &str| FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor);
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(own) = floor(name) else {
            complaints.push(format!("`{name}` has no floor in tests/src/tidy/floors.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let on = dependency["name"].as_str().unwrap_or_default();
            let ours = dependency["path"].is_string();
            if ours && floor(on).is_none_or(|below| below >= own) {
                complaints.push(format!("`{name}` (floor {own}) may not depend on `{on}`: arrows point down"));
            }
            if own == 1 && !CORE_MAY_USE.contains(&on) {
                complaints
                    .push(format!("the core `{name}` may not depend on `{on}`: only on {}", CORE_MAY_USE.join(" ")));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(name: &str, dependency: &str, path: Option<&str>, kind: Option<&str>) -> Value {
        json!({"packages": [{"name": name, "dependencies": [{"name": dependency, "path": path, "kind": kind}]}]})
    }

    #[test]
    fn arrows_up_and_sideways_are_found() {
        for (from, to, fine) in [
            ("master", "master-core", true),
            ("agent", "initramfs", true),
            ("tests", "master", true),
            ("master", "agent", false),
            ("cli", "master", false),
            ("api", "hwdetect", false),
            ("agent-core", "agent-sys", false),
            ("initramfs", "image", false),
            ("newcomer", "api", false),
        ] {
            assert_eq!(floors(&metadata(from, to, Some("x"), None)).is_empty(), fine, "{from} → {to}");
        }
    }

    #[test]
    fn cores_use_pure_codecs_only_but_their_tests_anything() {
        assert!(floors(&metadata("master-core", "serde_json", None, None)).is_empty());
        assert!(!floors(&metadata("master-core", "tokio", None, None)).is_empty());
        assert!(floors(&metadata("master-core", "proptest", None, Some("dev"))).is_empty());
        assert!(floors(&metadata("master", "tokio", None, None)).is_empty());
    }
}
