//! The running kernel and what kind of processor it was built for.

use serde::{Deserialize, Serialize};

use crate::SysRoot;

/// The running kernel. Its command line is left out on purpose: it may hold a join token.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Kernel {
    /// `uname -r`: `6.1.0-56-amd64`.
    pub release: Option<String>,
    /// The build string, `#1 SMP PREEMPT_DYNAMIC Debian …`.
    pub version: Option<String>,
}

impl Kernel {
    pub(crate) fn detect(root: &SysRoot) -> Self {
        let banner = root.text("proc/version");
        let banner = banner.as_deref().unwrap_or_default();
        Self {
            release: root.text("proc/sys/kernel/osrelease").or_else(|| release_of(banner)),
            version: root.text("proc/sys/kernel/version").or_else(|| version_of(banner)),
        }
    }
}

/// The third word of `Linux version 6.1.0 (…) (…) #1 SMP …`.
fn release_of(banner: &str) -> Option<String> {
    banner.strip_prefix("Linux version ")?.split_whitespace().next().map(str::to_owned)
}

/// From the build number to the end.
fn version_of(banner: &str) -> Option<String> {
    banner.find(" #").map(|at| banner[at + 1..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_gives_release_and_version() {
        let banner = "Linux version 6.1.0-56-amd64 (a@b) (gcc) #1 SMP Debian 6.1.192-2 (2026-11-16)";
        assert_eq!(release_of(banner).as_deref(), Some("6.1.0-56-amd64"));
        assert_eq!(version_of(banner).as_deref(), Some("#1 SMP Debian 6.1.192-2 (2026-11-16)"));
        assert_eq!((release_of("Linux version "), version_of("")), (None, None));
    }
}
