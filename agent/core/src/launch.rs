//! From a task to an OCI runtime specification: data in, data out, nothing touched.

mod confinement;
mod environment;
mod limits;
mod refusals;
mod seccomp;
mod user;

pub use limits::{Limits, memory_limit_bytes};
pub use user::{User, lookup_user};

use api::v1::{FrameworkInfo, TaskInfo};
use api::{AgentId, ContainerId, FrameworkId};
use serde_json::{Value, json};

/// What the node is, as far as a task sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Site {
    /// Given by the master.
    pub agent: AgentId,
    /// The node's host name.
    pub hostname: String,
    /// The node's address, if it has one.
    pub address: Option<String>,
    /// Sandboxes live below it: `/var/lib/mesolith`.
    pub work_dir: String,
    /// Bundles (`config.json`) live below it.
    pub bundle_dir: String,
    /// What tasks without an image see as `/`.
    pub root: Root,
    /// cgroup above the tasks' own, absolute from the cgroup root.
    pub cgroup_parent: String,
    /// How many processes and threads a task may have.
    pub pids_max: u64,
    /// Hosted and told `--insecure-no-isolation`: no namespaces, no cgroups.
    pub unconfined: bool,
    /// Not root: tasks run as this user, whatever they ask for.
    pub only_user: Option<User>,
}

/// The file tree of tasks that name no image.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Root {
    /// `/usr/share/mesolith/taskroot`; in hosted mode `/`, or where the launcher has bound it.
    pub path: String,
    /// Its `/etc/passwd`.
    pub passwd: String,
    /// The host's own root, as on Mesos: sandbox paths are the same inside and outside.
    pub is_host: bool,
}

/// How many processes and threads a task may have when the operator says nothing: enough for a Java
/// service, few enough that a hundred fork bombs leave pids for the node (pid_max is 32768 at least).
pub const PIDS_MAX: u64 = 1024;
/// Where a task with its own root finds its sandbox (Mesos's default).
pub const SANDBOX: &str = "/mnt/mesos/sandbox";

/// Everything the shell needs to make a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The sandbox, to be made and given to `user`.
    pub sandbox: String,
    /// The bundle directory, to hold `config.json`.
    pub bundle: String,
    /// Who the task runs as.
    pub user: User,
    /// `config.json`.
    pub config: Value,
}

/// Why a task cannot be launched here. The text goes into the status message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LaunchError {
    /// Something Mesos has and this version has not.
    #[error("this version cannot run {0}")]
    Unsupported(String),
    /// Neither `value` nor arguments.
    #[error("the task has no command")]
    NoCommand,
    /// `CommandInfo.user` is not in the root's `/etc/passwd`.
    #[error("unknown user '{0}': name one of the task root's /etc/passwd or a numeric id")]
    UnknownUser(String),
    /// A NUL byte would cut the text short.
    #[error("{0} contains a NUL byte")]
    Nul(&'static str),
}

/// The sandbox of one run, in Mesos's layout.
#[must_use]
pub fn sandbox(
    work_dir: &str,
    agent: &AgentId,
    framework: &FrameworkId,
    task: &str,
    container: &ContainerId,
) -> String {
    format!("{work_dir}/slaves/{agent}/frameworks/{framework}/executors/{task}/runs/{container}")
}

/// Plans one run of a task.
///
/// # Errors
/// When this version cannot run it, or it makes no sense.
pub fn plan(
    site: &Site,
    framework: &FrameworkId,
    container: &ContainerId,
    task: &TaskInfo,
    framework_info: &FrameworkInfo,
) -> Result<Plan, LaunchError> {
    refusals::check(task)?;
    let command = task.command.as_ref().ok_or(LaunchError::NoCommand)?;
    let args = arguments(command)?;
    let user = match &site.only_user {
        Some(user) => *user,
        None => lookup_user(&site.root.passwd, command.user.as_deref(), &framework_info.user)?,
    };
    let sandbox = sandbox(&site.work_dir, &site.agent, framework, task.task_id.as_str(), container);
    let inside = if site.root.is_host { sandbox.clone() } else { SANDBOX.to_owned() };
    let variables = environment::variables(site, framework, task, framework_info, &sandbox, &inside)?;
    let env: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let limits = Limits::of(task, site.pids_max);
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": site.root.path, "readonly": !site.root.is_host },
        "process": {
            "terminal": false,
            "user": { "uid": user.uid, "gid": user.gid },
            "args": args,
            "env": env,
            "cwd": inside,
            "noNewPrivileges": true,
        },
        "annotations": {
            "mesolith.framework": framework.as_str(),
            "mesolith.task": task.task_id.as_str(),
        },
    });
    if !site.unconfined {
        config["hostname"] = json!(site.hostname);
        config["process"]["capabilities"] = confinement::capabilities(user);
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 65_536, "hard": 65_536 }]);
        config["mounts"] = confinement::mounts(&sandbox, &site.root);
        config["linux"] = json!({
            "namespaces": [{ "type": "mount" }, { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "cgroup" }],
            "cgroupsPath": format!("{}/{container}", site.cgroup_parent),
            "resources": limits.oci(),
            "seccomp": seccomp::profile(),
            "maskedPaths": confinement::MASKED,
            "readonlyPaths": confinement::READ_ONLY,
        });
    }
    let bundle = format!("{}/{container}", site.bundle_dir);
    Ok(Plan { sandbox, bundle, user, config })
}

/// `/bin/sh -c value`, or the arguments as they are (Mesos: `execvp(value, arguments)`).
fn arguments(command: &api::v1::CommandInfo) -> Result<Vec<String>, LaunchError> {
    let args = if command.shell() {
        let value = command.value.clone().ok_or(LaunchError::NoCommand)?;
        vec!["/bin/sh".to_owned(), "-c".to_owned(), value]
    } else {
        // `value` is what is executed and `arguments[0]` only what it is called; the runtime
        // specification has one list, so the program is put first.
        let mut args = command.arguments.clone();
        match (&command.value, args.first_mut()) {
            (Some(value), Some(first)) => *first = value.clone(),
            (Some(value), None) => args.push(value.clone()),
            (None, Some(_)) => {}
            (None, None) => return Err(LaunchError::NoCommand),
        }
        args
    };
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(LaunchError::Nul("the command"));
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn site() -> Site {
        Site {
            agent: "m-S0".into(),
            hostname: "node-1".to_owned(),
            address: Some("10.0.0.11".to_owned()),
            work_dir: "/var/lib/mesolith".to_owned(),
            bundle_dir: "/run/mesolith/agent/bundles".to_owned(),
            root: Root {
                path: "/usr/share/mesolith/taskroot".to_owned(),
                passwd: "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n".to_owned(),
                is_host: false,
            },
            cgroup_parent: "/mesolith".to_owned(),
            pids_max: PIDS_MAX,
            unconfined: false,
            only_user: None,
        }
    }

    pub(super) fn task(text: &str) -> TaskInfo {
        serde_json::from_str(text).unwrap()
    }

    fn planned(text: &str) -> Result<Plan, LaunchError> {
        let info = FrameworkInfo { user: "root".to_owned(), ..FrameworkInfo::default() };
        plan(&site(), &"m-0000".into(), &"c1".into(), &task(text), &info)
    }

    #[test]
    fn a_command_task_becomes_a_confined_container() {
        let plan = planned(
            r#"{"name":"t","task_id":{"value":"t1"},"agent_id":{"value":"m-S0"},"command":{"value":"echo hi"},
                "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}},{"name":"mem","type":"SCALAR","scalar":{"value":64}}]}"#,
        )
        .unwrap();
        assert_eq!(plan.sandbox, "/var/lib/mesolith/slaves/m-S0/frameworks/m-0000/executors/t1/runs/c1");
        let config = &plan.config;
        assert_eq!(config["process"]["args"], json!(["/bin/sh", "-c", "echo hi"]));
        assert_eq!(config["process"]["cwd"], SANDBOX);
        assert_eq!(config["root"]["readonly"], true);
        assert_eq!(config["linux"]["cgroupsPath"], "/mesolith/c1");
        assert_eq!(config["linux"]["resources"]["unified"]["cpu.weight"], "50");
        assert_eq!(config["linux"]["resources"]["memory"]["limit"], 64 << 20);
        assert!(config["linux"]["maskedPaths"].as_array().unwrap().contains(&json!("/proc/cmdline")));
        assert!(!config["linux"]["namespaces"].to_string().contains("network"), "tasks share the node's network");
    }

    #[test]
    fn without_a_shell_the_value_is_what_runs() {
        for (command, expected) in [
            (r#"{"shell":false,"value":"/bin/ls","arguments":["ls","-l"]}"#, json!(["/bin/ls", "-l"])),
            (r#"{"shell":false,"value":"true"}"#, json!(["true"])),
            (r#"{"shell":false,"arguments":["id","-u"]}"#, json!(["id", "-u"])),
        ] {
            let plan = planned(&format!(r#"{{"task_id":{{"value":"t"}},"command":{command}}}"#)).unwrap();
            assert_eq!(plan.config["process"]["args"], expected);
        }
        assert_eq!(planned(r#"{"task_id":{"value":"t"},"command":{"shell":false}}"#), Err(LaunchError::NoCommand));
        assert_eq!(
            planned(r#"{"task_id":{"value":"t"},"command":{"value":"a\u0000b"}}"#),
            Err(LaunchError::Nul("the command"))
        );
    }

    #[test]
    fn on_a_host_the_sandbox_has_one_path_and_unconfined_means_nothing_is_confined() {
        let mut site = site();
        site.root = Root { path: "/".to_owned(), passwd: String::new(), is_host: true };
        site.unconfined = true;
        let info = FrameworkInfo { user: "root".to_owned(), ..FrameworkInfo::default() };
        let task = task(r#"{"task_id":{"value":"t"},"command":{"value":"true"}}"#);
        let plan = plan(&site, &"f".into(), &"c".into(), &task, &info).unwrap();
        assert_eq!(plan.config["process"]["cwd"], plan.sandbox.as_str());
        assert!(plan.config.get("linux").is_none());
    }
}
