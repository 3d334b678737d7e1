//! The trusted platform module.

use serde::{Deserialize, Serialize};

use crate::SysRoot;

/// A trusted platform module the kernel drives.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Tpm {
    /// `tpm0`, as in `/dev/tpm0`.
    pub name: String,
    /// 1 for TPM 1.2, 2 for TPM 2.0. `None` on kernels before 5.5, which do not say.
    pub version_major: Option<u32>,
    /// What the firmware calls it: `TPM 2.0 Device`.
    pub description: Option<String>,
}

impl Tpm {
    /// The first one; the kernel can drive several, but measured boot uses the first.
    pub(crate) fn detect(root: &SysRoot) -> Option<Self> {
        let name = root.list("sys/class/tpm").into_iter().find(|name| name.starts_with("tpm"))?;
        let directory = format!("sys/class/tpm/{name}");
        Some(Self {
            version_major: root.parse(&format!("{directory}/tpm_version_major")),
            description: root.text(&format!("{directory}/device/description")),
            name,
        })
    }
}
