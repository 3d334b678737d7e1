//! The top of the cgroup tree: our own processes on one side, tasks on the other.
//!
//! Below it the launcher's library makes one cgroup a task.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the hierarchy is mounted.
pub(crate) const HIERARCHY: &str = "/sys/fs/cgroup";
/// The controllers without which tasks cannot be limited.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
/// Memory the kernel takes from tasks before it takes it from our own processes.
const PROTECTED_MEMORY: &str = "96M";
/// Memory it never takes from them: what the agent needs to answer at all.
const KEPT_MEMORY: &str = "32M";
/// Their share of the processors where the tasks' is 100: a node that is busy still answers its master.
const OWN_WEIGHT: &str = "500";
/// The service that works when the others have nothing to do, and its share where theirs is 100.
const BACKGROUND: &str = "devices";
const BACKGROUND_WEIGHT: &str = "5";

/// Why tasks cannot be limited here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error("cannot make cgroup {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cgroup {} has no controller {}", path.display(), missing.join(", "))]
    Missing { path: PathBuf, missing: Vec<&'static str> },
    #[error("cannot enable controller {controller} in {}", path.display())]
    Enable { controller: String, path: PathBuf, source: io::Error },
    #[error("cannot enter {}", path.display())]
    Enter { path: PathBuf, source: io::Error },
}

/// The cgroups of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tree {
    base: PathBuf,
    /// A delegated cgroup with processes of its own cannot pass controllers on, so `init` moves below it.
    delegated: bool,
    /// The controllers it must have.
    needed: &'static [&'static str],
}

/// Where our own processes live.
const OWN: &str = "mesolith";

impl Tree {
    /// The tree of a machine of ours, where PID 1 may stay in the root.
    pub(crate) fn of_machine() -> Tree {
        Tree { base: HIERARCHY.into(), delegated: false, needed: &NEEDED }
    }

    /// The tree below a cgroup that was delegated to us.
    pub(crate) fn below(base: PathBuf) -> Tree {
        Tree { base, delegated: true, needed: &NEEDED }
    }

    /// The same where nothing has to be limited.
    pub(crate) fn without_limits(self) -> Tree {
        Tree { needed: &[], ..self }
    }

    /// The cgroup of one of our processes.
    pub(crate) fn service(&self, name: &str) -> PathBuf {
        self.base.join(OWN).join(name)
    }

    /// The directory below which each task has its cgroup.
    pub(crate) fn tasks(&self) -> PathBuf {
        self.base.join("tasks")
    }

    /// The same as a path in the hierarchy, as a container's specification names it.
    pub(crate) fn tasks_in_hierarchy(&self) -> String {
        let tasks = self.tasks();
        let relative = tasks.strip_prefix(HIERARCHY).unwrap_or(&tasks);
        format!("/{}", relative.display())
    }

    /// Makes the cgroups of our own processes and the one tasks live below, with every controller there is.
    pub(crate) fn make(&self, services: &[&str]) -> Result<(), CgroupError> {
        let available = controllers(&self.base)?;
        let missing: Vec<&str> =
            self.needed.iter().copied().filter(|name| !available.iter().any(|has| has == name)).collect();
        if !missing.is_empty() {
            return Err(CgroupError::Missing { path: self.base.clone(), missing });
        }
        for name in services {
            make(&self.service(name))?;
        }
        if self.delegated {
            let own = self.service("init");
            make(&own)?;
            let pid = std::process::id().to_string();
            write(&own.join("cgroup.procs"), &pid).map_err(|source| CgroupError::Enter { path: own, source })?;
        }
        make(&self.tasks())?;
        for path in [self.base.clone(), self.base.join(OWN), self.tasks()] {
            enable(&path, &available, self.needed)?;
        }
        // Drivers that nobody waits for are loaded while the agent starts: it goes first.
        if services.contains(&BACKGROUND) {
            let _ = write(&self.service(BACKGROUND).join("cpu.weight"), BACKGROUND_WEIGHT);
        }
        // Good to have; a kernel without it works.
        let own = self.base.join(OWN);
        for (file, value) in [("memory.low", PROTECTED_MEMORY), ("memory.min", KEPT_MEMORY), ("cpu.weight", OWN_WEIGHT)]
        {
            let _ = write(&own.join(file), value);
        }
        // What is protected above is protected for whom below: without these the protection stays with the parent.
        for name in services {
            let share = if *name == BACKGROUND { "4M" } else { "12M" };
            let _ = write(&self.service(name).join("memory.min"), share);
        }
        Ok(())
    }
}

/// Kills everything below a cgroup at once, however fast it forks.
pub(crate) fn kill_all(cgroup: &Path) -> io::Result<()> {
    write(&cgroup.join("cgroup.kill"), "1")
}

/// Whether any process lives below a cgroup; a cgroup that is gone has none.
pub(crate) fn is_populated(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.events"))
        .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// The processes in a cgroup and everything below it.
pub(crate) fn processes_below(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(processes_below(&entry.path()));
        }
    }
    pids
}

fn controllers(cgroup: &Path) -> Result<Vec<String>, CgroupError> {
    let path = cgroup.join("cgroup.controllers");
    match fs::read_to_string(&path) {
        Ok(names) => Ok(names.split_whitespace().map(str::to_owned).collect()),
        Err(source) => Err(CgroupError::Read { path, source }),
    }
}

fn make(path: &Path) -> Result<(), CgroupError> {
    fs::create_dir_all(path).map_err(|source| CgroupError::Make { path: path.to_owned(), source })
}

/// Passes controllers on to the children of a cgroup. One at a time: a single one that the kernel refuses would take
/// the others with it.
fn enable(cgroup: &Path, available: &[String], needed: &[&str]) -> Result<(), CgroupError> {
    for controller in available {
        match write(&cgroup.join("cgroup.subtree_control"), &format!("+{controller}")) {
            Err(source) if needed.contains(&controller.as_str()) => {
                return Err(CgroupError::Enable { controller: controller.clone(), path: cgroup.to_owned(), source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Writes to a file that must exist: in cgroupfs, `create` would answer with a misleading permission error.
fn write(path: &Path, value: &str) -> io::Result<()> {
    io::Write::write_all(&mut fs::File::options().write(true).open(path)?, value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_named_as_seen_from_the_hierarchy() {
        assert_eq!(Tree::of_machine().tasks_in_hierarchy(), "/tasks");
        let scope = Tree::below("/sys/fs/cgroup/system.slice/m.scope".into());
        assert_eq!(scope.tasks_in_hierarchy(), "/system.slice/m.scope/tasks");
        assert_eq!(scope.service("agent"), Path::new("/sys/fs/cgroup/system.slice/m.scope/mesolith/agent"));
    }

    #[test]
    fn a_missing_controller_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.controllers"), "cpuset cpu io\n").unwrap();
        let error = Tree::below(dir.path().into()).make(&[]).unwrap_err().to_string();
        assert!(error.ends_with("has no controller memory, pids"), "{error}");
    }
}
