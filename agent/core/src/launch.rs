//! From a task to an OCI runtime specification: data in, data out, nothing touched.

mod asked;
mod confinement;
mod environment;
mod host_paths;
mod image;
mod later;
mod limits;
mod linux;
mod names;
mod parameters;
mod refusals;
mod seat;
mod seccomp;
mod user;
mod volumes;

pub use asked::{DiskLimit, Gpu, Named, NodeDevice, device_paths};
pub use host_paths::HostPath;
pub use image::{ImageRoot, identity, image_request, volume_images};
pub use later::Later;
pub use limits::{Limits, disk_limit_bytes, memory_limit_bytes};
pub use names::{Names, Resolver};
pub use seat::{Seat, as_task, resources as executor_resources, spell_ms};
pub use user::{User, lookup_user};
pub use volumes::{ImageVolume, SecretFile, Secrets, Staged, references, volume_directory};

use std::collections::{BTreeMap, BTreeSet};

use api::v1::{FrameworkInfo, TaskInfo};
use api::{AgentId, ContainerId, FrameworkId};
use serde_json::{Value, json};

use crate::bridge::{self, Address, Subnet};
use crate::cores::{self, Processors};
use crate::ids::{self, UserNamespaces};
use crate::image::{Image, Reference};

/// What the node is, as far as a task sees it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Site {
    /// Given by the master.
    pub agent: AgentId,
    /// The node's host name.
    pub hostname: String,
    /// The node's address, if it has one.
    pub address: Option<String>,
    /// What frameworks are told to reach the node by, once that is known.
    pub known_as: Option<String>,
    /// How long an executor's process may take to subscribe, if the operator has said so.
    pub executor_registration_ms: Option<u64>,
    /// Where executors find the agent: an address and port of the loopback.
    pub executor_endpoint: Option<String>,
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
    /// Hosted and told `--insecure-no-limits`: namespaces and a cgroup for each task, whose controllers set no limit.
    pub unlimited: bool,
    /// Not root: tasks run as this user, whatever they ask for.
    pub only_user: Option<User>,
    /// Container images.
    pub images: Images,
    /// What tasks may see of the node's own files.
    pub host_paths: Vec<HostPath>,
    /// Addresses of containers with a network of their own.
    pub subnet: Subnet,
    /// What tasks run on.
    pub processors: Processors,
    /// Those of them that single tasks have to themselves.
    pub taken: BTreeSet<u32>,
    /// Sizes of huge pages whose use is counted, in the kernel's spelling: `2MB`.
    pub huge_pages: Vec<String>,
    /// What every task may ask of the node's disks.
    pub disk_limits: Vec<DiskLimit>,
    /// Devices that tasks with the privilege may open.
    pub devices: Vec<String>,
    /// Graphics processors.
    pub gpus: Vec<Gpu>,
    /// A directory with what programs need to use them.
    pub gpu_files: Option<String>,
    /// Networks of the operator's.
    pub networks: BTreeSet<String>,
    /// The file system of sandboxes holds them to their limits.
    pub projects: bool,
    /// Whose tasks have user namespaces without asking.
    pub user_namespaces: UserNamespaces,
}

impl Site {
    /// Where executors find the agent.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.executor_endpoint.as_deref().unwrap_or("127.0.0.1:5051")
    }

    /// The port in it.
    #[must_use]
    pub fn agent_port(&self) -> i32 {
        self.endpoint().rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(5051)
    }
}

/// What a node has for images.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Images {
    /// The store; roots of containers are below it, in `containers`.
    pub directory: String,
    /// What tasks that name no image run in, instead of [`Site::root`].
    pub default: Option<Reference>,
    /// The same for tasks of single roles.
    pub by_role: BTreeMap<String, Reference>,
    /// Why no task with an image can run here.
    pub refused: Option<String>,
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
    /// Who the task runs as, as the node calls it.
    pub user: User,
    /// `config.json`.
    pub config: Value,
    /// With an image, the layers its root is put together from, the lowest first.
    pub layers: Option<Vec<String>>,
    /// What it may write to the sandbox.
    pub disk_bytes: Option<u64>,
    /// What is mounted into it.
    pub volumes: Vec<Staged>,
    /// Images that are.
    pub image_volumes: Vec<ImageVolume>,
    /// Files for it that nobody else reads.
    pub secrets: Vec<SecretFile>,
    /// A read-only root that gets directories for volumes: over this one, another.
    pub covered_root: Option<String>,
    /// Its own `/etc/hosts` and `/etc/resolv.conf`.
    pub names: Names,
    /// Disks and devices that the specification has to have by their numbers.
    pub named: Named,
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
    /// Something is wrong with what the task says about its image.
    #[error("{0}")]
    Image(String),
    /// Something is wrong with its volumes, its secrets or its confinement, or may not be.
    #[error("{0}")]
    Volume(String),
    /// A name somebody chose for this image.
    #[error("unknown user '{user}': name one of /etc/passwd in image '{image}' or a numeric id")]
    UnknownImageUser {
        /// The name.
        user: String,
        /// Where it was looked for.
        image: String,
    },
    /// The image was not brought here before.
    #[error("the image is missing")]
    NoImage,
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

/// What a run was given of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// The image it runs in.
    pub root: Option<&'a ImageRoot>,
    /// Values of what it names by reference.
    pub secrets: Option<&'a Secrets>,
    /// What it has on the bridge.
    pub address: Option<&'a Address>,
    /// Processors it has to itself.
    pub cores: Option<&'a BTreeSet<u32>>,
    /// Graphics processors it has to itself.
    pub gpus: Option<&'a BTreeSet<String>>,
    /// The first of its range of ids.
    pub ids: Option<u32>,
    /// Images that it has for volumes.
    pub volume_images: Option<&'a BTreeMap<String, Image>>,
}

/// Plans one run of a task. One with an image ([`image_request`]) needs it to be here.
///
/// # Errors
/// When this version cannot run it, or it makes no sense.
pub fn plan(
    site: &Site,
    framework: &FrameworkId,
    container: &ContainerId,
    task: &TaskInfo,
    framework_info: &FrameworkInfo,
    given: Given<'_>,
    seat: Seat,
) -> Result<Plan, LaunchError> {
    let Given { root, secrets, address, cores, gpus, ids, volume_images } = given;
    let none = Secrets::new();
    let secrets = secrets.unwrap_or(&none);
    refusals::check(task)?;
    let command = task.command.as_ref().ok_or(LaunchError::NoCommand)?;
    let Seat { sandbox, variables: of_executor, parent } = seat;
    let view = match image::wish(site, task)? {
        Some(wish) => View::of_image(site, container, &wish, root.ok_or(LaunchError::NoImage)?, command)?,
        None => View::of_site(site, framework_info, &sandbox, command)?,
    };
    if view.args.iter().any(|arg| arg.contains('\0')) {
        return Err(LaunchError::Nul("the command"));
    }
    let mut variables = environment::variables(
        site,
        framework,
        task,
        framework_info,
        &of_executor,
        (&sandbox, &view.sandbox),
        secrets,
    )?;
    if let Some((wish, root)) = &view.image {
        variables.push(("MESOS_CONTAINER_NAME".to_owned(), format!("mesos-{container}")));
        variables = image::environment(variables, wish, root, command, secrets)?;
    }
    let env: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let limits = Limits::of(task, site.pids_max);
    let mut asked = asked::Asked::of(site, task, &limits)?;
    if let Some(gone) = gpus.into_iter().flatten().find(|id| !site.gpus.iter().any(|gpu| gpu.id == **id)) {
        return Err(LaunchError::Volume(format!(
            "the graphics processor {gone} that it was given is not there any more"
        )));
    }
    asked.give(site.gpus.iter().filter(|gpu| gpus.is_some_and(|own| own.contains(&gpu.id))).cloned());
    let options = view.image.as_ref().map(|(wish, _)| &wish.options);
    let linux = linux::Linux::of(task, options)?;
    let network = bridge::wish(task).map_err(LaunchError::Volume)?;
    let hostname = hostname(site, task, options);
    let names = Names::of(address, hostname, options);
    let (inside, files) = (view.sandbox.as_str(), view.own_files);
    let user = outside(ids, view.user, files)?;
    let (parent, gpus) = (parent.as_deref(), gpus.is_some_and(|gpus| !gpus.is_empty()));
    let place = volumes::Place {
        site,
        container,
        sandbox: &sandbox,
        parent,
        inside,
        files,
        user,
        named: view.user,
        secrets,
        gpus,
        images: volume_images,
    };
    let volumes = volumes::volumes(&place, task, options.map(|options| options.mounts.as_slice()).unwrap_or_default())?;
    let bundle = format!("{}/{container}", site.bundle_dir);
    // The default task root is everybody's: nobody's volumes leave directories in it.
    let covered_root =
        (files == Files::TaskRoots && (volumes.outside_sandbox || ids.is_some())).then(|| view.root.clone());
    let root_path = if covered_root.is_some() { format!("{bundle}/rootfs") } else { view.root.clone() };
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": root_path, "readonly": view.read_only },
        "process": {
            "terminal": false,
            "user": view.oci_user,
            "args": view.args,
            "env": env,
            "cwd": view.cwd,
        },
        "annotations": {
            "mesolith.framework": framework.as_str(),
            "mesolith.task": task.task_id.as_str(),
        },
    });
    if !site.unconfined {
        let mut namespaces = linux.namespaces();
        if network != bridge::Wish::Host {
            namespaces.push(json!({ "type": "network" }));
        }
        if ids.is_some() {
            namespaces.push(json!({ "type": "user" }));
        }
        if let Some((wish, _)) = &view.image {
            for (name, value) in &wish.options.labels {
                config["annotations"][format!("mesolith.label.{name}")] = json!(value);
            }
        }
        config["hostname"] = json!(hostname);
        config["process"]["capabilities"] = linux.capabilities(view.user);
        config["process"]["rlimits"] = linux.rlimits();
        let mut mounts = confinement::mounts(&sandbox, files, linux.shm_mib, &names, &bundle);
        mounts.extend(volumes.mounts);
        config["mounts"] = Value::Array(mounts);
        config["linux"] = json!({
            "namespaces": namespaces,
            "cgroupsPath": format!("{}/{container}", site.cgroup_parent),
            "resources": limits.oci(),
        });
        if let Some(first) = ids {
            let all = json!([{ "containerID": 0, "hostID": first, "size": ids::SIZE }]);
            config["linux"]["uidMappings"] = all.clone();
            config["linux"]["gidMappings"] = all;
        }
        let cpuset = cpuset(site, cores);
        if !cpuset.is_null() {
            config["linux"]["resources"]["cpu"] = cpuset;
        }
        asked.apply(site, &mut config["linux"]["resources"]);
        if site.unlimited {
            // Root of a host without controllers may not even raise its own limits.
            for (part, name) in [("linux", "resources"), ("process", "rlimits")] {
                config[part].as_object_mut().map(|part| part.remove(name));
            }
        }
        linux.apply(&mut config);
        // What is privileged has none.
        if let Some(filter) = config["linux"].get_mut("seccomp").filter(|_| site.projects) {
            seccomp::keep_projects(filter);
        }
    }
    let layers = view.image.as_ref().map(|(_, root)| root.image.layers.clone());
    let (volumes, image_volumes, secrets) = (volumes.staged, volumes.images, volumes.secrets);
    let named = asked.named;
    let disk_bytes = disk_limit_bytes(task);
    Ok(Plan {
        sandbox,
        bundle,
        user,
        config,
        layers,
        disk_bytes,
        volumes,
        image_volumes,
        secrets,
        covered_root,
        names,
        named,
    })
}

/// What the node calls who the task runs as.
fn outside(first: Option<u32>, user: User, files: Files) -> Result<User, LaunchError> {
    let Some(first) = first else { return Ok(user) };
    if files == Files::Hosts {
        let what = "containers with a user namespace that see this host's own files: that takes an image";
        return Err(LaunchError::Unsupported(what.to_owned()));
    }
    ids::outside(first, user).ok_or_else(|| {
        let User { uid, gid } = user;
        LaunchError::Volume(format!("user {uid}, group {gid} are not among the {} of a user namespace", ids::SIZE))
    })
}

/// Its own processors and their memories, or those nobody has to themselves; null while nobody has.
fn cpuset(site: &Site, own: Option<&BTreeSet<u32>>) -> Value {
    match own.filter(|own| !own.is_empty()) {
        Some(own) => json!({ "cpus": cores::list(own), "mems": cores::list(&site.processors.memories(own)) }),
        None if site.taken.is_empty() => Value::Null,
        None => json!({ "cpus": cores::list(&site.processors.rest(&site.taken)) }),
    }
}

fn hostname<'a>(site: &'a Site, task: &'a TaskInfo, options: Option<&'a image::Options>) -> &'a str {
    let own = options.and_then(|options| options.hostname.as_ref());
    own.or(task.container.as_ref().and_then(|container| container.hostname.as_ref())).unwrap_or(&site.hostname)
}

/// Has it a network of its own?
#[must_use]
pub fn has_own_network(task: &TaskInfo) -> bool {
    bridge::wish(task).is_ok_and(|wish| wish != bridge::Wish::Host)
}

/// Whose files a container sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Files {
    /// The host's: sandbox paths are the same inside and outside.
    Hosts,
    /// The default task root's, read-only.
    TaskRoots,
    /// An image's.
    Images,
}

/// What a task sees and is: the part of a plan that depends on where its files come from.
struct View<'a> {
    args: Vec<String>,
    user: User,
    oci_user: Value,
    cwd: String,
    /// The sandbox as the task sees it.
    sandbox: String,
    root: String,
    read_only: bool,
    own_files: Files,
    image: Option<(image::Wish, &'a ImageRoot)>,
}

impl<'a> View<'a> {
    fn of_site(
        site: &Site,
        framework_info: &FrameworkInfo,
        sandbox: &str,
        command: &api::v1::CommandInfo,
    ) -> Result<Self, LaunchError> {
        let user = match &site.only_user {
            Some(user) => *user,
            None => lookup_user(&site.root.passwd, command.user.as_deref(), &framework_info.user)?,
        };
        let sandbox = if site.root.is_host { sandbox.to_owned() } else { SANDBOX.to_owned() };
        Ok(Self {
            args: arguments(command)?,
            user,
            oci_user: json!({ "uid": user.uid, "gid": user.gid }),
            cwd: sandbox.clone(),
            sandbox,
            root: site.root.path.clone(),
            read_only: !site.root.is_host,
            own_files: if site.root.is_host { Files::Hosts } else { Files::TaskRoots },
            image: None,
        })
    }

    fn of_image(
        site: &Site,
        container: &ContainerId,
        wish: &image::Wish,
        root: &'a ImageRoot,
        command: &api::v1::CommandInfo,
    ) -> Result<Self, LaunchError> {
        Ok(Self {
            args: image::arguments(wish.containerizer, &wish.options, command, &root.image.config)?,
            user: root.identity.user,
            oci_user: image::oci_user(&root.identity),
            cwd: image::working_directory(wish, &root.image.config),
            sandbox: SANDBOX.to_owned(),
            root: format!("{}/containers/{container}/rootfs", site.images.directory),
            read_only: wish.options.read_only,
            own_files: Files::Images,
            image: Some((wish.clone(), root)),
        })
    }
}

/// `/bin/sh -c value`, or the arguments as they are (Mesos: `execvp(value, arguments)`).
pub(crate) fn arguments(command: &api::v1::CommandInfo) -> Result<Vec<String>, LaunchError> {
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
            known_as: None,
            executor_registration_ms: None,
            executor_endpoint: None,
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
            images: Images { directory: "/images".to_owned(), ..Images::default() },
            host_paths: Vec::new(),
            ..Site::default()
        }
    }

    pub(super) fn task(text: &str) -> TaskInfo {
        serde_json::from_str(text).unwrap()
    }

    fn seat(site: &Site, framework: &str, container: &str, text: &str) -> Seat {
        Seat::alone(site, &framework.into(), &task(text).task_id, &container.into())
    }

    fn planned(text: &str) -> Result<Plan, LaunchError> {
        let info = FrameworkInfo { user: "root".to_owned(), ..FrameworkInfo::default() };
        plan(
            &site(),
            &"m-0000".into(),
            &"c1".into(),
            &task(text),
            &info,
            Given::default(),
            seat(&site(), "m-0000", "c1", text),
        )
    }

    #[test]
    fn an_images_task_has_its_own_writable_root_and_a_network_if_it_wants() {
        let text = r#"{"task_id":{"value":"t"},"command":{"shell":false},"container":{"type":"DOCKER","docker":{"image":"app",
            "network":"NONE","parameters":[{"key":"label","value":"k=v"},{"key":"hostname","value":"h"}]}}}"#;
        assert_eq!(planned(text), Err(LaunchError::NoImage));
        let config = crate::image::ImageConfig {
            entrypoint: vec!["/run".to_owned()],
            working_dir: "/srv".to_owned(),
            ..crate::image::ImageConfig::default()
        };
        let image = crate::image::Image { layers: vec!["l1".to_owned()], config, ..crate::image::Image::default() };
        let identity = crate::image::Identity { user: User { uid: 7, gid: 8 }, groups: vec![9], home: None };
        let root = ImageRoot { image, identity };
        let plan = plan(
            &site(),
            &"f".into(),
            &"c1".into(),
            &task(text),
            &FrameworkInfo::default(),
            Given { root: Some(&root), ..Given::default() },
            seat(&site(), "f", "c1", text),
        )
        .unwrap();
        let config = &plan.config;
        assert_eq!(config["root"], json!({"path": "/images/containers/c1/rootfs", "readonly": false}));
        assert_eq!(config["process"]["args"], json!(["/run"]));
        assert_eq!(config["process"]["user"], json!({"uid": 7, "gid": 8, "additionalGids": [9]}));
        assert_eq!((&config["process"]["cwd"], &config["hostname"]), (&json!("/srv"), &json!("h")));
        assert!(config["linux"]["namespaces"].to_string().contains("network"));
        assert_eq!(config["annotations"]["mesolith.label.k"], "v");
        assert!(!config["mounts"].to_string().contains("\"/tmp\""), "an image has its own");
        assert!(config["mounts"].to_string().contains("/etc/resolv.conf"));
        assert!(config["process"]["env"].to_string().contains("MESOS_CONTAINER_NAME=mesos-c1"));
        assert_eq!(plan.layers, Some(vec!["l1".to_owned()]));
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
        let seat = Seat::alone(&site, &"f".into(), &"t".into(), &"c".into());
        let plan = plan(&site, &"f".into(), &"c".into(), &task, &info, Given::default(), seat).unwrap();
        assert_eq!(plan.config["process"]["cwd"], plan.sandbox.as_str());
        assert!(plan.config.get("linux").is_none());
    }
}
