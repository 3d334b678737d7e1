//! Memory that fails: what the memory controllers counted (EDAC).

use serde::{Deserialize, Serialize};

use crate::SysRoot;

/// Errors of all memory controllers since the machine started.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct MemoryErrors {
    /// Corrected: nothing was lost.
    pub corrected: u64,
    /// Not corrected: data was lost.
    pub uncorrected: u64,
    /// The modules that had any, by the label on the board: `CPU_SrcID#0_MC#0_Chan#0_DIMM#0`.
    pub modules: Vec<String>,
}

const DIRECTORY: &str = "sys/devices/system/edac/mc";

impl MemoryErrors {
    pub(crate) fn detect(root: &SysRoot) -> Option<Self> {
        let controllers: Vec<String> =
            root.list(DIRECTORY).into_iter().filter(|name| is_numbered(name, "mc")).collect();
        if controllers.is_empty() {
            return None;
        }
        let mut errors = Self::default();
        for controller in controllers {
            let directory = format!("{DIRECTORY}/{controller}");
            let count = |file: &str| root.parse::<u64>(&format!("{directory}/{file}")).unwrap_or(0);
            errors.corrected = errors.corrected.saturating_add(count("ce_count"));
            errors.uncorrected = errors.uncorrected.saturating_add(count("ue_count"));
            // `rank` where the controller knows no modules.
            let is_module = |name: &String| is_numbered(name, "dimm") || is_numbered(name, "rank");
            for module in root.list(&directory).into_iter().filter(is_module) {
                if count(&format!("{module}/dimm_ce_count")) + count(&format!("{module}/dimm_ue_count")) > 0 {
                    let label = root.text(&format!("{directory}/{module}/dimm_label"));
                    errors.modules.push(label.unwrap_or_else(|| format!("{controller}/{module}")));
                }
            }
        }
        Some(errors)
    }
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}
