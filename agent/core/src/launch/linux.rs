//! What a task may within its container: capabilities, limits of its processes, namespaces it shares, system calls.
//!
//! The master has checked what takes a privilege; here it is only carried out.

use std::collections::BTreeSet;

use api::v1::r_limit_info::r_limit::Type;
use api::v1::{CapabilityInfo, ContainerInfo, LinuxInfo, RLimitInfo, TaskInfo, linux_info};
use serde_json::{Value, json};

use super::{LaunchError, User, confinement, image, seccomp};

/// How many files a process may have open when the task does not say.
const FILES: u64 = 65_536;
/// All capabilities of the kernels we have, in the order of their numbers.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The confinement of one container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Linux {
    privileged: bool,
    /// Named by the task: then whoever it runs as has them.
    effective: Option<BTreeSet<String>>,
    bounding: BTreeSet<String>,
    rlimits: Vec<(String, u64, u64)>,
    filtered: bool,
    own_ipc: bool,
    own_pids: bool,
    /// Of `/dev/shm`, in MiB.
    pub(super) shm_mib: Option<u64>,
}

impl Linux {
    /// Reads what a task asks for.
    pub(super) fn of(task: &TaskInfo, options: Option<&image::Options>) -> Result<Self, LaunchError> {
        let nothing = ContainerInfo::default();
        let container = task.container.as_deref().unwrap_or(&nothing);
        let info = container.linux_info.clone().unwrap_or_default();
        let privileged = container.docker.as_ref().is_some_and(|docker| docker.privileged());
        let (effective, bounding) =
            capability_sets(&info, options, if privileged { &ALL } else { &confinement::CAPABILITIES })?;
        let mut rlimits = rlimits(container.rlimit_info.as_ref())?;
        for (name, soft, hard) in options.map(|options| options.ulimits.as_slice()).unwrap_or_default() {
            rlimits.push((name.clone(), *soft, *hard));
        }
        check_rlimits(&rlimits)?;
        if !rlimits.iter().any(|(name, ..)| name == "RLIMIT_NOFILE") {
            rlimits.push(("RLIMIT_NOFILE".to_owned(), FILES, FILES));
        }
        let seccomp = info.seccomp.clone().unwrap_or_default();
        if let Some(profile) = seccomp.profile_name.filter(|name| !name.is_empty() && name != "default") {
            return Err(LaunchError::Unsupported(format!("the seccomp profile '{profile}' (there is only 'default')")));
        }
        let unfiltered = seccomp.unconfined.unwrap_or(false) || options.is_some_and(|options| options.unfiltered);
        Ok(Self {
            privileged,
            effective,
            bounding,
            rlimits,
            filtered: !privileged && !unfiltered,
            own_ipc: info.ipc_mode() != linux_info::IpcMode::ShareParent,
            own_pids: !info.share_pid_namespace(),
            shm_mib: info.shm_size.map(u64::from).or(options.and_then(|options| options.shm_mib)),
        })
    }

    /// `process.capabilities`.
    pub(super) fn capabilities(&self, user: User) -> Value {
        let bounding: Vec<&String> = self.bounding.iter().collect();
        match &self.effective {
            // Ambient, or an ordinary user would lose them at the first execution.
            Some(effective) => json!({ "bounding": bounding, "effective": effective, "permitted": effective,
                "inheritable": effective, "ambient": effective }),
            None => {
                let root: &[&String] = if user.uid == 0 { &bounding } else { &[] };
                json!({ "bounding": bounding, "effective": root, "permitted": root, "inheritable": [], "ambient": [] })
            }
        }
    }

    /// `process.rlimits`.
    pub(super) fn rlimits(&self) -> Value {
        let one = |(name, soft, hard): &(String, u64, u64)| json!({ "type": name, "soft": soft, "hard": hard });
        self.rlimits.iter().map(one).collect()
    }

    /// `linux.namespaces` without a network's.
    pub(super) fn namespaces(&self) -> Vec<Value> {
        let shared = [("ipc", self.own_ipc), ("pid", self.own_pids)];
        let is_own = |kind: &&str| shared.iter().all(|(name, own)| name != kind || *own);
        ["mount", "pid", "ipc", "uts", "cgroup"]
            .into_iter()
            .filter(is_own)
            .map(|kind| json!({ "type": kind }))
            .collect()
    }

    /// Puts the rest into a specification.
    pub(super) fn apply(&self, config: &mut Value) {
        config["process"]["noNewPrivileges"] = json!(!self.privileged);
        if self.filtered {
            config["linux"]["seccomp"] = seccomp::profile();
        }
        if self.privileged {
            config["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
        } else {
            config["linux"]["maskedPaths"] = json!(confinement::MASKED);
            config["linux"]["readonlyPaths"] = json!(confinement::READ_ONLY);
        }
    }
}

type Sets = (Option<BTreeSet<String>>, BTreeSet<String>);

/// Mesos's rules: a task's own effective set bounds it, too, unless it names a bounding set.
fn capability_sets(info: &LinuxInfo, options: Option<&image::Options>, usual: &[&str]) -> Result<Sets, LaunchError> {
    #[allow(deprecated)]
    let effective = info.effective_capabilities.as_ref().or(info.capability_info.as_ref()).map(names).transpose()?;
    let mut bounding = match (&info.bounding_capabilities, &effective) {
        (Some(bounding), _) => names(bounding)?,
        (None, Some(effective)) => effective.clone(),
        (None, None) => usual.iter().map(|name| known(name)).collect::<Result<_, _>>()?,
    };
    for (name, added) in options.map(|options| options.capabilities.as_slice()).unwrap_or_default() {
        let all = name.eq_ignore_ascii_case("all");
        match (added, all) {
            (true, true) => bounding = ALL.iter().map(|name| format!("CAP_{name}")).collect(),
            (false, true) => bounding.clear(),
            (true, false) => {
                bounding.insert(known(name)?);
            }
            (false, false) => {
                bounding.remove(&known(name)?);
            }
        }
    }
    if let Some(beyond) = effective.iter().flatten().find(|name| !bounding.contains(*name)) {
        return Err(LaunchError::Volume(format!("the effective capability {beyond} is not among the bounding ones")));
    }
    Ok((effective, bounding))
}

fn names(info: &CapabilityInfo) -> Result<BTreeSet<String>, LaunchError> {
    info.capabilities().map(|capability| known(capability.as_str_name())).collect()
}

fn known(name: &str) -> Result<String, LaunchError> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if !ALL.contains(&short) {
        return Err(LaunchError::Volume(format!("there is no capability '{name}'")));
    }
    Ok(format!("CAP_{short}"))
}

/// Mesos's rules: both ends or none, and none is no limit.
fn rlimits(info: Option<&RLimitInfo>) -> Result<Vec<(String, u64, u64)>, LaunchError> {
    let one = |limit: &api::v1::r_limit_info::RLimit| {
        let kind = limit.r#type();
        if kind == Type::Unknown {
            return Err(LaunchError::Volume("a limit in rlimit_info has no known type".to_owned()));
        }
        let name = kind.as_str_name().replacen("RLMT_", "RLIMIT_", 1);
        match (limit.soft, limit.hard) {
            (Some(soft), Some(hard)) => Ok((name, soft, hard)),
            (None, None) => Ok((name, u64::MAX, u64::MAX)),
            (Some(_), None) | (None, Some(_)) => {
                Err(LaunchError::Volume(format!("{name} has only one of its soft and its hard limit")))
            }
        }
    };
    info.map(|info| info.rlimits.as_slice()).unwrap_or_default().iter().map(one).collect()
}

fn check_rlimits(rlimits: &[(String, u64, u64)]) -> Result<(), LaunchError> {
    let mut seen = BTreeSet::new();
    for (name, soft, hard) in rlimits {
        if soft > hard {
            return Err(LaunchError::Volume(format!("{name}: the soft limit {soft} is above the hard limit {hard}")));
        }
        if !seen.insert(name) {
            return Err(LaunchError::Volume(format!("{name} is limited twice")));
        }
        // A real-time process takes the processors from everybody, whatever its cgroup may.
        if matches!(name.as_str(), "RLIMIT_RTPRIO" | "RLIMIT_NICE") && *hard > 0 {
            return Err(LaunchError::Unsupported(format!("containers with {name}")));
        }
    }
    Ok(())
}

/// `nofile=1024:2048` of `docker run --ulimit`.
pub(super) fn ulimit(text: &str) -> Result<(String, u64, u64), LaunchError> {
    let wrong = || LaunchError::Image(format!("docker parameter ulimit: `{text}` is not NAME=SOFT[:HARD]"));
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let number = |text: &str| if text == "-1" { Ok(u64::MAX) } else { text.parse().map_err(|_| wrong()) };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let name = format!("RLMT_{}", name.to_ascii_uppercase());
    let kind = Type::from_str_name(&name).filter(|kind| *kind != Type::Unknown).ok_or_else(wrong)?;
    Ok((kind.as_str_name().replacen("RLMT_", "RLIMIT_", 1), number(soft)?, number(hard)?))
}

#[cfg(test)]
mod tests {
    use super::super::tests::task;
    use super::*;

    fn of(container: &str) -> Result<Linux, LaunchError> {
        Linux::of(&task(&format!(r#"{{"container":{container}}}"#)), None)
    }

    const ROOT: User = User { uid: 0, gid: 0 };
    const OTHER: User = User { uid: 9, gid: 9 };

    #[test]
    fn a_task_that_asks_for_nothing_has_the_default() {
        let linux = Linux::of(&task("{}"), None).unwrap();
        assert_eq!(linux.capabilities(ROOT)["effective"].as_array().unwrap().len(), confinement::CAPABILITIES.len());
        assert_eq!(linux.capabilities(OTHER)["effective"], json!([]));
        assert_eq!(linux.rlimits(), json!([{"type": "RLIMIT_NOFILE", "soft": FILES, "hard": FILES}]));
        assert_eq!(linux.namespaces().len(), 5);
        let mut config = json!({"process": {}, "linux": {}});
        linux.apply(&mut config);
        assert_eq!(config["process"]["noNewPrivileges"], true);
        assert!(config["linux"]["seccomp"].is_object() && config["linux"]["maskedPaths"].is_array());
    }

    #[test]
    fn named_capabilities_are_whoever_runs_it() {
        let linux = of(r#"{"type":"MESOS","linux_info":{"effective_capabilities":{"capabilities":["CHOWN","KILL"]}}}"#);
        let capabilities = linux.unwrap().capabilities(OTHER);
        for set in ["effective", "permitted", "inheritable", "ambient", "bounding"] {
            assert_eq!(capabilities[set], json!(["CAP_CHOWN", "CAP_KILL"]), "{set}");
        }
        let bounded = of(r#"{"type":"MESOS","linux_info":{"bounding_capabilities":{"capabilities":["CHOWN"]}}}"#);
        assert_eq!(bounded.unwrap().capabilities(ROOT)["effective"], json!(["CAP_CHOWN"]));
        let none = of(r#"{"type":"MESOS","linux_info":{"bounding_capabilities":{"capabilities":[]}}}"#);
        assert_eq!(none.unwrap().capabilities(ROOT)["effective"], json!([]));
        let beyond = r#"{"type":"MESOS","linux_info":{"bounding_capabilities":{"capabilities":["CHOWN"]},
            "effective_capabilities":{"capabilities":["KILL"]}}}"#;
        assert!(of(beyond).unwrap_err().to_string().contains("CAP_KILL"));
    }

    #[test]
    fn limits_of_processes_are_mesoss() {
        let limits = |list: &str| of(&format!(r#"{{"type":"MESOS","rlimit_info":{{"rlimits":{list}}}}}"#));
        let good = limits(r#"[{"type":"RLMT_NOFILE","soft":64,"hard":128},{"type":"RLMT_CORE"}]"#).unwrap();
        let expected = json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128},
            {"type": "RLIMIT_CORE", "soft": u64::MAX, "hard": u64::MAX}]);
        assert_eq!(good.rlimits(), expected);
        for (list, words) in [
            (r#"[{"type":"RLMT_CPU","soft":1}]"#, "only one"),
            (r#"[{"type":"RLMT_CPU","soft":2,"hard":1}]"#, "above the hard"),
            (r#"[{"type":"RLMT_CPU"},{"type":"RLMT_CPU"}]"#, "twice"),
            (r#"[{"type":"RLMT_RTPRIO"}]"#, "RLIMIT_RTPRIO"),
            ("[{}]", "no known type"),
        ] {
            let error = limits(list).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(ulimit("nofile=64:128"), Ok(("RLIMIT_NOFILE".to_owned(), 64, 128)));
        assert_eq!(ulimit("core=-1"), Ok(("RLIMIT_CORE".to_owned(), u64::MAX, u64::MAX)));
        assert!(ulimit("files=1").is_err() && ulimit("nofile").is_err() && ulimit("nofile=x").is_err());
    }

    #[test]
    fn what_is_shared_has_no_namespace_and_what_is_privileged_no_filter() {
        let shared =
            of(r#"{"type":"MESOS","linux_info":{"ipc_mode":"SHARE_PARENT","share_pid_namespace":true,"shm_size":8}}"#);
        let shared = shared.unwrap();
        assert_eq!((shared.namespaces().len(), shared.shm_mib), (3, Some(8)));
        let privileged = of(r#"{"type":"DOCKER","docker":{"image":"a","privileged":true}}"#).unwrap();
        let mut config = json!({"process": {}, "linux": {"resources": {}}});
        privileged.apply(&mut config);
        assert!(config["linux"].get("seccomp").is_none() && config["process"]["noNewPrivileges"] == false);
        assert_eq!(privileged.capabilities(ROOT)["effective"].as_array().unwrap().len(), ALL.len());
        let profile = of(r#"{"type":"MESOS","linux_info":{"seccomp":{"profile_name":"mine.json"}}}"#);
        assert!(profile.unwrap_err().to_string().contains("'mine.json'"));
    }
}
