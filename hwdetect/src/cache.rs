//! CPU caches: who shares what, so that neighbours can be placed together or apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::id_list::IdList;

/// Caches of one level, kind and size. A core has its own level 1; a die or a part of one shares level 3.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Cache {
    /// 1 is next to the core.
    pub level: u32,
    /// What it holds.
    pub kind: CacheKind,
    /// The size of each.
    pub size_bytes: Option<u64>,
    /// The unit in which it is filled.
    pub line_bytes: Option<u32>,
    /// The CPUs that share each one; as many sets as there are caches.
    pub shared_by: Vec<IdList>,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheKind {
    /// Data only.
    Data,
    /// Instructions only.
    Instruction,
    /// Both.
    #[default]
    Unified,
}

/// What caches shown together have in common: level, kind, size, line.
type Likeness = (u32, CacheKind, Option<u64>, Option<u32>);

/// The most cache indices of one CPU looked at; no processor has more than five.
const INDICES_LIMIT: u32 = 16;

impl Cache {
    /// All caches of the `online` CPUs. A CPU named in a cache already seen is not asked about it again: a machine of
    /// 512 CPUs would otherwise cost ten thousand reads.
    pub(crate) fn detect(root: &SysRoot, online: &IdList) -> Vec<Self> {
        let mut seen: BTreeMap<u32, Vec<IdList>> = BTreeMap::new();
        let mut groups: BTreeMap<Likeness, Vec<IdList>> = BTreeMap::new();
        for cpu in online.iter().take(crate::cpu::CPUS_LIMIT) {
            for index in 0..INDICES_LIMIT {
                let seen = seen.entry(index).or_default();
                // From the back: neighbours were seen last.
                if seen.iter().rev().any(|set| set.contains(cpu)) {
                    continue;
                }
                let file = |name: &str| format!("sys/devices/system/cpu/cpu{cpu}/cache/index{index}/{name}");
                let Some(level) = root.parse(&file("level")) else { break };
                let kind = match root.text(&file("type")).as_deref() {
                    Some("Data") => CacheKind::Data,
                    Some("Instruction") => CacheKind::Instruction,
                    _ => CacheKind::Unified,
                };
                let shared_by = root
                    .parse::<IdList>(&file("shared_cpu_list"))
                    .filter(|set| set.contains(cpu))
                    .unwrap_or_else(|| [cpu].into_iter().collect());
                let size = root.text(&file("size")).and_then(|text| parse_size(&text));
                let line = root.parse(&file("coherency_line_size")).filter(|bytes| *bytes != 0);
                groups.entry((level, kind, size, line)).or_default().push(shared_by.clone());
                seen.push(shared_by);
            }
        }
        let cache = |((level, kind, size_bytes, line_bytes), shared_by)| Self {
            level,
            kind,
            size_bytes,
            line_bytes,
            shared_by,
        };
        groups.into_iter().map(cache).collect()
    }
}

/// `16384K`.
fn parse_size(text: &str) -> Option<u64> {
    let (number, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_their_unit() {
        for (text, bytes) in [
            ("32K", Some(32 << 10)),
            ("2M", Some(2 << 20)),
            ("64", Some(64)),
            ("0K", None),
            ("K", None),
            ("", None),
            ("x", None),
            ("99999999999999999999K", None),
            ("18446744073709551615K", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
