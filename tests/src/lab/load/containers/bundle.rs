//! The bundle every runtime gets: what our agent writes for a task that runs `true`.

use std::fs;
use std::path::{Path, PathBuf};

use agent_core::launch::{Given, Root, Seat, Site, plan};
use anyhow::{Context, Result};
use api::v1::{FrameworkInfo, TaskInfo};
use serde_json::{Value, json};

/// Below which cgroup the containers are.
pub(super) const CGROUP: &str = "bench";

/// Whether containers are limited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Limits {
    /// As on a node.
    Set,
    /// The hierarchy has no controllers.
    None,
}

/// A directory with `config.json`.
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    pub(super) sandbox: PathBuf,
    config: Value,
}

impl Bundle {
    /// Plans it in `dir`, for containers with this root.
    pub(super) fn make(dir: &Path, root: &Path, limits: Limits) -> Result<Self> {
        let site = Site {
            agent: "bench-S0".into(),
            hostname: "bench".to_owned(),
            work_dir: dir.join("work").display().to_string(),
            bundle_dir: dir.join("bundles").display().to_string(),
            root: Root { path: root.display().to_string(), ..Root::default() },
            cgroup_parent: format!("/{CGROUP}"),
            pids_max: 1024,
            ..Site::default()
        };
        let amount = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
        let task: TaskInfo = serde_json::from_value(json!({
            "name": "true", "task_id": {"value": "true"}, "agent_id": {"value": "bench-S0"},
            "command": {"shell": false, "value": "true", "arguments": ["true"]},
            "resources": [amount("cpus", 1.0), amount("mem", 64.0)],
        }))?;
        let framework_info: FrameworkInfo = serde_json::from_value(json!({"name": "bench", "user": "root"}))?;
        let (framework, container) = ("bench-0000".into(), "true".into());
        let seat = Seat::alone(&site, &framework, &task.task_id, &container);
        let plan = plan(&site, &framework, &container, &task, &framework_info, Given::default(), seat)?;
        let (path, sandbox) = (PathBuf::from(&plan.bundle), PathBuf::from(&plan.sandbox));
        for made in [&path, &sandbox] {
            fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        let mut config = plan.config;
        if limits == Limits::None {
            // A host without controllers may be one whose root may not raise its own limits.
            for (part, name) in [("linux", "resources"), ("process", "rlimits")] {
                config[part].as_object_mut().context("a specification has parts")?.remove(name);
            }
        }
        Ok(Self { path, sandbox, config })
    }

    /// Writes it for a container of this name.
    pub(super) fn write(&mut self, container: &str) -> Result<()> {
        self.config["linux"]["cgroupsPath"] = json!(format!("/{CGROUP}/{container}"));
        let file = self.path.join("config.json");
        fs::write(&file, self.config.to_string()).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Makes the cgroup the containers are below, with every controller there is.
pub(super) fn make_cgroup() -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(CGROUP);
    fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
    let all = fs::read_to_string(root.join("cgroup.controllers")).context("cannot read cgroup.controllers")?;
    for controller in all.split_whitespace() {
        for cgroup in [root, &own] {
            // One the kernel does not give away limits nothing here.
            drop(fs::write(cgroup.join("cgroup.subtree_control"), format!("+{controller}")));
        }
    }
    Ok(())
}

/// A root with a busybox in it, where there is no image of ours.
pub(super) fn make_root(root: &Path) -> Result<()> {
    for directory in ["bin", "dev", "proc", "sys", "tmp", "run", "etc", "root", "var/tmp", "mnt/mesos/sandbox"] {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("cannot make {}", root.display()))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("cannot copy busybox: is busybox-static installed?")?;
    for name in ["sh", "true", "sleep"] {
        let link = root.join("bin").join(name);
        std::os::unix::fs::symlink("busybox", &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    for name in ["hosts", "resolv.conf", "hostname"] {
        fs::write(root.join("etc").join(name), "").context("cannot write to the root")?;
    }
    Ok(())
}
