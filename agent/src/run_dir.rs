//! Where the processes of one node meet: `/run/mesolith` on a machine of ours, below the work directory when hosted.

use std::path::{Path, PathBuf};

use agent_core::handover::LAUNCHERS;

/// Tells the children of `init` where the run directory is.
pub(crate) const RUN_DIR_VARIABLE: &str = "MESOLITH_RUN_DIR";
/// Tells the children of `init` below which cgroup tasks live, as an absolute path in the hierarchy.
pub(crate) const TASK_CGROUP_VARIABLE: &str = "MESOLITH_TASK_CGROUP";
/// Tells the children of `init` where containers find the host's root, in hosted mode.
pub(crate) const HOST_ROOT_VARIABLE: &str = "MESOLITH_HOST_ROOT";
/// `none` when tasks are plain processes.
pub(crate) const ISOLATION_VARIABLE: &str = "MESOLITH_ISOLATION";

/// `none` when tasks have cgroups without controllers.
pub(crate) const LIMITS_VARIABLE: &str = "MESOLITH_LIMITS";

/// Tells the children of `init` how many launchers there are.
pub(crate) const LAUNCHERS_VARIABLE: &str = "MESOLITH_LAUNCHERS";

/// The run directory of a machine that booted our image.
pub(crate) const APPLIANCE: &str = "/run/mesolith";

/// The run directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    pub(crate) fn new(path: impl Into<PathBuf>) -> RunDir {
        RunDir(path.into())
    }

    /// As `init` has told this process.
    pub(crate) fn from_environment() -> RunDir {
        RunDir(std::env::var_os(RUN_DIR_VARIABLE).map_or_else(|| APPLIANCE.into(), PathBuf::from))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn init_socket(&self) -> PathBuf {
        self.0.join("init.sock")
    }

    /// Of the first launcher, 0, or another.
    pub(crate) fn launcher_socket(&self, number: usize) -> PathBuf {
        if number == 0 { self.0.join("launcher.sock") } else { self.0.join(format!("launcher-{}.sock", number + 1)) }
    }

    /// State of the containers; the launcher's own.
    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    /// Where the launcher binds the host's root; for everybody else an empty directory.
    pub(crate) fn host_root(&self) -> PathBuf {
        self.0.join("host-root")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("log")
    }
}

/// The cgroup below which each task has its own: `/tasks` unless `init` says otherwise.
pub(crate) fn task_cgroup() -> String {
    std::env::var(TASK_CGROUP_VARIABLE).unwrap_or_else(|_| "/tasks".to_owned())
}

/// What containers that name no image have for their root in hosted mode.
pub(crate) fn host_root() -> Option<PathBuf> {
    std::env::var_os(HOST_ROOT_VARIABLE).map(PathBuf::from)
}

/// Whether tasks run as plain processes on this host.
pub(crate) fn without_isolation() -> bool {
    std::env::var_os(ISOLATION_VARIABLE).is_some_and(|value| value == "none")
}

/// How many launchers there are: one, unless `init` says otherwise.
pub(crate) fn launchers() -> usize {
    let told = std::env::var(LAUNCHERS_VARIABLE).ok().and_then(|number| number.parse().ok());
    told.unwrap_or(1_usize).clamp(1, LAUNCHERS)
}

/// Whether nothing limits what tasks take.
pub(crate) fn without_limits() -> bool {
    std::env::var_os(LIMITS_VARIABLE).is_some_and(|value| value == "none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::handover::{INIT_SOCKET, LAUNCHER_SOCKET};

    #[test]
    fn the_sockets_are_where_the_handover_says() {
        let run = RunDir::new(APPLIANCE);
        assert_eq!(run.init_socket(), Path::new(INIT_SOCKET));
        assert_eq!(run.launcher_socket(0), Path::new(LAUNCHER_SOCKET));
    }
}
