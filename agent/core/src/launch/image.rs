//! Tasks with an image: what they ask for, and how that and the image's own defaults become a process.

use api::v1::container_info;
use api::v1::{CommandInfo, ContainerInfo, FrameworkInfo, TaskInfo, image};
use serde::{Deserialize, Serialize};

use super::volumes::{Parameter, Secrets, value};
use super::{LaunchError, Site, User, linux, parameters};
use crate::image::{Accounts, Cached, Credentials, Identity, Image, ImageConfig, ImageRequest, Reference};

/// An image that is here, and who the task is in it: decided once, kept in the task's record.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ImageRoot {
    /// The image.
    pub image: Image,
    /// User and groups of the first process.
    pub identity: Identity,
}

/// Whose rules hold: Mesos has two containerizers, and they differ.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Containerizer {
    Mesos,
    Docker,
}

/// Everything a task says about its container that has a meaning with an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wish {
    pub(super) request: ImageRequest,
    pub(super) containerizer: Containerizer,
    pub(super) options: Options,
}

/// `docker run` options that have a meaning here.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Options {
    pub(super) env: Vec<(String, String)>,
    pub(super) user: Option<String>,
    pub(super) workdir: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) entrypoint: Option<String>,
    pub(super) labels: Vec<(String, String)>,
    pub(super) read_only: bool,
    /// Named ones, and whether they are added.
    pub(super) capabilities: Vec<(String, bool)>,
    pub(super) ulimits: Vec<(String, u64, u64)>,
    pub(super) shm_mib: Option<u64>,
    pub(super) unfiltered: bool,
    pub(super) mounts: Vec<Parameter>,
    pub(super) dns: Vec<String>,
    pub(super) dns_search: Vec<String>,
    /// Name and address.
    pub(super) hosts: Vec<(String, String)>,
}

/// What must be brought to the node before this task can be planned; `None` for a task without an image.
///
/// # Errors
/// When the image is named wrongly, is of a kind we do not have, or cannot be used on this node.
pub fn image_request(site: &Site, task: &TaskInfo, secrets: &Secrets) -> Result<Option<ImageRequest>, LaunchError> {
    super::refusals::check(task)?;
    let Some(mut request) = wish(site, task)?.map(|wish| wish.request) else { return Ok(None) };
    let image = task.container.as_deref().and_then(|container| container.mesos.as_ref()?.image.as_ref());
    let config = image.and_then(|image| image.docker.as_ref()?.config.as_ref());
    request.credentials = config.map(|config| value(config, secrets).map(Credentials)).transpose()?;
    Ok(Some(request))
}

/// The images a task has for volumes, each once.
///
/// # Errors
/// When one is named wrongly, is of a kind we do not have, or cannot be used on this node.
pub fn volume_images(site: &Site, task: &TaskInfo, secrets: &Secrets) -> Result<Vec<ImageRequest>, LaunchError> {
    let mut all: Vec<ImageRequest> = Vec::new();
    let volumes = task.container.iter().flat_map(|container| &container.volumes);
    for image in volumes.filter_map(|volume| volume.image.as_ref()) {
        let mut request = request(image)?;
        if let Some(reason) = &site.images.refused {
            return Err(LaunchError::Image(format!("image '{}': {reason}", request.reference)));
        }
        let config = image.docker.as_ref().and_then(|docker| docker.config.as_ref());
        request.credentials = config.map(|config| value(config, secrets).map(Credentials)).transpose()?;
        if !all.iter().any(|known| known.reference == request.reference) {
            all.push(request);
        }
    }
    Ok(all)
}

/// Reads what a task asks for.
pub(super) fn wish(site: &Site, task: &TaskInfo) -> Result<Option<Wish>, LaunchError> {
    let wish = match task.container.as_deref() {
        Some(container) if container.docker.is_some() || container.r#type() == container_info::Type::Docker => {
            Some(docker(container)?)
        }
        Some(container) => match container.mesos.as_ref().and_then(|mesos| mesos.image.as_ref()) {
            Some(image) => Some(mesos(container, image)?),
            None => default(site, task, container.hostname.clone()),
        },
        None => default(site, task, None),
    };
    if let (Some(wish), Some(reason)) = (&wish, &site.images.refused) {
        return Err(LaunchError::Image(format!("image '{}': {reason}", wish.request.reference)));
    }
    Ok(wish)
}

fn default(site: &Site, task: &TaskInfo, hostname: Option<String>) -> Option<Wish> {
    let role = task.resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.as_deref());
    let of_role = role.and_then(|role| site.images.by_role.get(role));
    let reference = of_role.or(site.images.default.as_ref())?.clone();
    let request = ImageRequest { reference, cached: Cached::Accepted, credentials: None };
    let options = Options { hostname, ..Options::default() };
    Some(Wish { request, containerizer: Containerizer::Mesos, options })
}

fn mesos(container: &ContainerInfo, image: &api::v1::Image) -> Result<Wish, LaunchError> {
    let request = request(image)?;
    let options = Options { hostname: container.hostname.clone(), ..Options::default() };
    Ok(Wish { request, containerizer: Containerizer::Mesos, options })
}

/// What an `Image` asks for.
pub(super) fn request(image: &api::v1::Image) -> Result<ImageRequest, LaunchError> {
    if image.r#type() == image::Type::Appc {
        let name = image.appc.as_ref().map_or("unnamed", |appc| appc.name.as_str());
        return Err(LaunchError::Unsupported(format!(
            "APPC images ('{name}'): name a Docker or OCI image, with type DOCKER"
        )));
    }
    let Some(docker) = &image.docker else {
        return Err(LaunchError::Image("the image has type DOCKER and no `docker`".to_owned()));
    };
    if docker.credential.is_some() {
        return Err(LaunchError::Unsupported(
            "images with the deprecated `credential`: give `docker.config` (a Docker configuration file as a secret)"
                .to_owned(),
        ));
    }
    let cached = if image.cached() { Cached::Accepted } else { Cached::Refused };
    Ok(ImageRequest { reference: reference(&docker.name)?, cached, credentials: None })
}

fn docker(container: &ContainerInfo) -> Result<Wish, LaunchError> {
    let Some(docker) = container.docker.as_ref().filter(|docker| !docker.image.is_empty()) else {
        return Err(LaunchError::Image("a container of type DOCKER names its image in `docker.image`".to_owned()));
    };
    if container.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) {
        return Err(LaunchError::Image("the container has two images, in `docker` and in `mesos`".to_owned()));
    }
    if docker.volume_driver.as_ref().is_some_and(|driver| !driver.is_empty()) {
        return Err(LaunchError::Unsupported("containers with a Docker volume driver".to_owned()));
    }
    let mut options = Options { hostname: container.hostname.clone(), ..Options::default() };
    for parameter in &docker.parameters {
        options.set(&parameter.key, &parameter.value)?;
    }
    let cached = if docker.force_pull_image() { Cached::Refused } else { Cached::Accepted };
    let request = ImageRequest { reference: reference(&docker.image)?, cached, credentials: None };
    Ok(Wish { request, containerizer: Containerizer::Docker, options })
}

fn reference(name: &str) -> Result<Reference, LaunchError> {
    name.parse().map_err(|error: crate::image::ReferenceError| LaunchError::Image(error.to_string()))
}

/// The parameters [`Options::set`] knows.
const PARAMETERS: &str = "env, user, workdir, hostname, entrypoint, label, read-only, volume, tmpfs, shm-size, ulimit, \
    cap-add, cap-drop, dns, dns-search, add-host and security-opt seccomp=unconfined";

impl Options {
    fn set(&mut self, key: &str, value: &str) -> Result<(), LaunchError> {
        let pair = || {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            (name.to_owned(), value.to_owned())
        };
        match key {
            // Without a value Docker would take it from its own environment; the agent has none to give.
            "env" | "e" if !value.contains('=') => {
                return Err(LaunchError::Image(format!("docker parameter env: `{value}` is not NAME=value")));
            }
            "env" | "e" => self.env.push(pair()),
            "label" | "l" => self.labels.push(pair()),
            "user" | "u" => self.user = Some(value.to_owned()),
            "workdir" | "w" => {
                if !value.starts_with('/') {
                    return Err(LaunchError::Image(format!(
                        "docker parameter workdir: `{value}` does not begin with /"
                    )));
                }
                self.workdir = Some(value.to_owned());
            }
            "hostname" | "h" => self.hostname = Some(value.to_owned()),
            "entrypoint" => self.entrypoint = Some(value.to_owned()),
            "read-only" => match value {
                "" | "true" => self.read_only = true,
                "false" => self.read_only = false,
                _ => {
                    return Err(LaunchError::Image(format!(
                        "docker parameter read-only: `{value}` is not true or false"
                    )));
                }
            },
            "volume" | "v" => self.mounts.push(parameters::volume(value)?),
            "tmpfs" => self.mounts.push(parameters::tmpfs(value)),
            "shm-size" => self.shm_mib = Some(parameters::mebibytes(key, value)?),
            "ulimit" => self.ulimits.push(linux::ulimit(value)?),
            "dns" => self.dns.push(parameters::address(key, value)?),
            "dns-search" => self.dns_search.push(parameters::word(key, value)?),
            "add-host" => self.hosts.push(parameters::host(value)?),
            "cap-add" => self.capabilities.push((value.to_owned(), true)),
            "cap-drop" => self.capabilities.push((value.to_owned(), false)),
            "security-opt" if matches!(value, "seccomp=unconfined" | "seccomp:unconfined") => self.unfiltered = true,
            // Every container is one.
            "security-opt" if value.starts_with("no-new-privileges") => {}
            _ => {
                return Err(LaunchError::Unsupported(format!(
                    "containers with the docker parameter '{key}': only {PARAMETERS} have a meaning here"
                )));
            }
        }
        Ok(())
    }
}

/// Who the task is inside its image. The command's user, else the `user` parameter, else the image's, else the
/// framework's if the image knows it. A name somebody chose for this image and that is not in it is an error.
///
/// # Errors
/// When that name is unknown, or the task is not one this version can run.
pub fn identity(
    site: &Site,
    task: &TaskInfo,
    framework_info: &FrameworkInfo,
    image: &Image,
    accounts: &Accounts,
) -> Result<Identity, LaunchError> {
    let wish = wish(site, task)?;
    let command = task.command.as_ref().and_then(|command| command.user.clone());
    let parameter = wish.and_then(|wish| wish.options.user);
    let chosen = [command, parameter, Some(image.config.user.clone())];
    if let Some(name) = chosen.into_iter().flatten().find(|name| !name.is_empty()) {
        let unknown = || LaunchError::UnknownImageUser { user: name.clone(), image: image.reference.clone() };
        return accounts.find(&name).ok_or_else(unknown);
    }
    let framework = framework_info.user.as_str();
    // As without an image: it is often only whoever started the framework.
    let nobody = || Identity { user: super::user::NOBODY, ..Identity::default() };
    Ok(if framework.is_empty() { accounts.find("root") } else { accounts.find(framework) }.unwrap_or_else(nobody))
}

/// The words of the first process.
///
/// `MESOS`: the docker/runtime isolator's table. A shell command is a shell command; a `value` replaces entrypoint and
/// cmd; without one, arguments replace cmd. `DOCKER`: what `docker run` is given; a shell command replaces the
/// entrypoint, and everything else replaces cmd.
pub(super) fn arguments(
    containerizer: Containerizer,
    options: &Options,
    command: &CommandInfo,
    config: &ImageConfig,
) -> Result<Vec<String>, LaunchError> {
    if command.shell() {
        let value = command.value.clone().ok_or(LaunchError::NoCommand)?;
        return Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), value]);
    }
    let own = match containerizer {
        Containerizer::Mesos if command.value.is_some() => return super::arguments(command),
        Containerizer::Mesos => command.arguments.clone(),
        Containerizer::Docker => command.value.iter().chain(&command.arguments).cloned().collect(),
    };
    // As with Docker, an entrypoint of the caller's takes the image's arguments away with the image's entrypoint.
    let (entrypoint, cmd) = match &options.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => (Vec::new(), Vec::new()),
        Some(entrypoint) => (vec![entrypoint.clone()], Vec::new()),
        None => (config.entrypoint.clone(), config.cmd.clone()),
    };
    let rest = match containerizer {
        _ if own.is_empty() => cmd,
        // Without an entrypoint Mesos keeps the program that cmd begins with.
        Containerizer::Mesos if entrypoint.is_empty() => cmd.into_iter().take(1).chain(own).collect(),
        Containerizer::Mesos | Containerizer::Docker => own,
    };
    let words: Vec<String> = entrypoint.into_iter().chain(rest).collect();
    if words.is_empty() || (containerizer == Containerizer::Mesos && !own_program(config, options)) {
        return Err(LaunchError::Image(
            "neither the task nor the image says what to run: the task has no `value`, the image no entrypoint and no cmd"
                .to_owned(),
        ));
    }
    Ok(words)
}

fn own_program(config: &ImageConfig, options: &Options) -> bool {
    options.entrypoint.as_ref().is_some_and(|program| !program.is_empty())
        || !config.entrypoint.is_empty()
        || !config.cmd.is_empty()
}

/// The environment: the agent's words, over them the image's, then the `env` parameters, then the command's.
pub(super) fn environment(
    ours: Vec<(String, String)>,
    wish: &Wish,
    root: &ImageRoot,
    command: &CommandInfo,
    secrets: &Secrets,
) -> Result<Vec<(String, String)>, LaunchError> {
    let image = root.image.config.env.iter().filter_map(|variable| variable.split_once('='));
    let image = image.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let own = command.environment.iter().flat_map(|environment| &environment.variables);
    let own = own.map(|variable| Ok((variable.name.clone(), super::environment::value_of(variable, secrets)?)));
    let own: Vec<(String, String)> = own.collect::<Result<_, LaunchError>>()?;
    let mut variables = ours;
    // `ours` holds the command's already; what stands before them is put in anew below.
    for (name, value) in image.chain(wish.options.env.iter().cloned()).chain(own) {
        if name.is_empty() || name.contains(['\0', '=']) || value.contains('\0') {
            return Err(LaunchError::Nul("an environment variable"));
        }
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some(existing) => existing.1 = value,
            None => variables.push((name, value)),
        }
    }
    if let Some(home) = root.identity.home.as_ref().filter(|home| !home.is_empty())
        && !variables.iter().any(|(name, _)| name == "HOME")
    {
        variables.push(("HOME".to_owned(), home.clone()));
    }
    Ok(variables)
}

/// Where the first process starts.
pub(super) fn working_directory(wish: &Wish, config: &ImageConfig) -> String {
    let image = Some(config.working_dir.as_str()).filter(|path| path.starts_with('/'));
    let otherwise = match wish.containerizer {
        Containerizer::Mesos => super::SANDBOX,
        Containerizer::Docker => "/",
    };
    wish.options.workdir.clone().unwrap_or_else(|| image.unwrap_or(otherwise).to_owned())
}

/// Ids for the specification.
pub(super) fn oci_user(identity: &Identity) -> serde_json::Value {
    let User { uid, gid } = identity.user;
    serde_json::json!({ "uid": uid, "gid": gid, "additionalGids": identity.groups })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{site, task};
    use super::*;

    fn config(entrypoint: &[&str], cmd: &[&str]) -> ImageConfig {
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        ImageConfig { entrypoint: list(entrypoint), cmd: list(cmd), ..ImageConfig::default() }
    }

    #[test]
    fn mesoss_table_of_commands_and_images_holds() {
        let (none, entry, cmd) = (config(&[], &[]), config(&["/e", "1"], &[]), config(&[], &["/c", "2"]));
        let both = config(&["/e", "1"], &["/c", "2"]);
        for (command, expected) in [
            (r#"{"shell":false}"#, ["", "/e 1", "/c 2", "/e 1 /c 2"]),
            (r#"{"shell":false,"arguments":["a","b"]}"#, ["", "/e 1 a b", "/c a b", "/e 1 a b"]),
            (r#"{"shell":false,"value":"/v"}"#, ["/v"; 4]),
            (r#"{"shell":false,"value":"/v","arguments":["v","b"]}"#, ["/v b"; 4]),
            (r#"{"value":"x y"}"#, ["/bin/sh -c x y"; 4]),
            (r#"{"shell":true}"#, [""; 4]),
        ] {
            let command: CommandInfo = serde_json::from_str(command).unwrap();
            for (image, expected) in [&none, &entry, &cmd, &both].into_iter().zip(expected) {
                let words = arguments(Containerizer::Mesos, &Options::default(), &command, image);
                assert_eq!(words.map(|words| words.join(" ")).unwrap_or_default(), expected, "{command:?} {image:?}");
            }
        }
    }

    #[test]
    fn docker_containers_are_run_as_docker_run_would() {
        let image = config(&["/e", "1"], &["/c", "2"]);
        let options = Options { entrypoint: Some("/o".to_owned()), ..Options::default() };
        for (command, plain, overridden) in [
            (r#"{"shell":false}"#, "/e 1 /c 2", "/o"),
            (r#"{"shell":false,"value":"a","arguments":["b"]}"#, "/e 1 a b", "/o a b"),
            (r#"{"shell":false,"arguments":["b"]}"#, "/e 1 b", "/o b"),
            (r#"{"value":"x y"}"#, "/bin/sh -c x y", "/bin/sh -c x y"),
        ] {
            let command: CommandInfo = serde_json::from_str(command).unwrap();
            let words = |options| arguments(Containerizer::Docker, options, &command, &image).unwrap().join(" ");
            assert_eq!((words(&Options::default()).as_str(), words(&options).as_str()), (plain, overridden));
        }
        let command: CommandInfo = serde_json::from_str(r#"{"shell":false,"value":"/bin/true"}"#).unwrap();
        let words = arguments(Containerizer::Docker, &Options::default(), &command, &config(&[], &["/c"])).unwrap();
        assert_eq!(words, ["/bin/true"], "the command replaces cmd");
    }

    fn wished(container: &str) -> Result<Option<Wish>, LaunchError> {
        wish(&site(), &task(&format!(r#"{{"command":{{"value":"x"}},"container":{container}}}"#)))
    }

    #[test]
    fn both_types_of_container_name_images() {
        let mesos = wished(
            r#"{"type":"MESOS","hostname":"web","mesos":{"image":{"type":"DOCKER","cached":false,"docker":{"name":"r.io/app:1",
                "config":{"type":"VALUE","value":{"data":"e30="}}}}}}"#,
        )
        .unwrap()
        .unwrap();
        assert_eq!(mesos.request.reference.to_string(), "r.io/app:1");
        assert_eq!((mesos.request.cached, mesos.options.hostname.as_deref()), (Cached::Refused, Some("web")));
        let of = |config: &str| {
            let text = format!(
                r#"{{"command":{{"value":"x"}},"container":{{"type":"MESOS","mesos":{{"image":{{"type":"DOCKER",
                    "docker":{{"name":"r.io/app:1","config":{config}}}}}}}}}}}"#
            );
            image_request(&site(), &task(&text), &Secrets::from([("hub".to_owned(), b"{}".to_vec())]))
        };
        for config in
            [r#"{"type":"VALUE","value":{"data":"e30="}}"#, r#"{"type":"REFERENCE","reference":{"name":"hub"}}"#]
        {
            let request = of(config).unwrap().unwrap();
            assert_eq!(request.credentials, Some(Credentials(b"{}".to_vec())));
            assert!(!format!("{request:?}").contains("123"), "credentials are not shown");
        }
        let missing = of(r#"{"type":"REFERENCE","reference":{"name":"other"}}"#).unwrap_err().to_string();
        assert!(missing.contains("no secret 'other'"), "{missing}");
        let docker = wished(
            r#"{"type":"DOCKER","docker":{"image":"nginx","network":"NONE","force_pull_image":true,"parameters":[
                {"key":"env","value":"A=b=c"},{"key":"user","value":"1:2"},{"key":"workdir","value":"/w"},{"key":"label","value":"k"},
                {"key":"read-only","value":"true"}]}}"#,
        )
        .unwrap()
        .unwrap();
        assert_eq!(docker.request.cached, Cached::Refused);
        assert_eq!(docker.options.env, [("A".to_owned(), "b=c".to_owned())]);
        assert!(docker.options.read_only && docker.options.workdir.as_deref() == Some("/w"));
        assert_eq!(wished(r#"{"type":"MESOS"}"#), Ok(None));
        let mut site = site();
        site.images.default = Some("base:1".parse().unwrap());
        let without = task(r#"{"command":{"value":"x"}}"#);
        assert_eq!(wish(&site, &without).unwrap().unwrap().request.reference.to_string(), "docker.io/library/base:1");
        let of_role = task(
            r#"{"command":{"value":"x"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"web"}}]}"#,
        );
        site.images.by_role.insert("web".to_owned(), "web:2".parse().unwrap());
        assert_eq!(wish(&site, &of_role).unwrap().unwrap().request.reference.to_string(), "docker.io/library/web:2");
        assert_eq!(wish(&site, &without).unwrap().unwrap().request.reference.to_string(), "docker.io/library/base:1");
        site.images.refused = Some("not here".to_owned());
        assert!(wish(&site, &without).unwrap_err().to_string().contains("base:1': not here"));
    }

    #[test]
    fn what_has_no_meaning_here_is_refused_by_name() {
        for (container, words) in [
            (
                r#"{"type":"MESOS","mesos":{"image":{"type":"APPC","appc":{"name":"coreos.com/etcd"}}}}"#,
                "APPC images ('coreos.com/etcd')",
            ),
            (r#"{"type":"MESOS","mesos":{"image":{"type":"DOCKER"}}}"#, "no `docker`"),
            (
                r#"{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"A"}}}}"#,
                "image name 'A': repositories are in lower case",
            ),
            (r#"{"type":"DOCKER"}"#, "`docker.image`"),
            (
                r#"{"type":"DOCKER","docker":{"image":"a","parameters":[{"key":"device","value":"/dev/fuse"}]}}"#,
                "'device': only env, user",
            ),
            (r#"{"type":"DOCKER","docker":{"image":"a","parameters":[{"key":"env","value":"A"}]}}"#, "not NAME=value"),
            (
                r#"{"type":"DOCKER","docker":{"image":"a","parameters":[{"key":"workdir","value":"w"}]}}"#,
                "begin with /",
            ),
        ] {
            let error = wished(container).unwrap_err().to_string();
            assert!(error.contains(words), "{container}: {error}");
        }
    }

    #[test]
    fn the_closest_word_decides_who_the_task_is() {
        let accounts = Accounts { passwd: "root:x:0:0::/root:\napp:x:7:8::/a:\n".to_owned(), group: String::new() };
        let image = |user: &str| Image {
            reference: "r/i:1".to_owned(),
            config: ImageConfig { user: user.to_owned(), ..ImageConfig::default() },
            ..Image::default()
        };
        let plain = |user: &str| format!(r#"{{"command":{{"value":"x"{user}}}}}"#);
        let parameter = r#"{"command":{"value":"x"},"container":{"type":"DOCKER","docker":{"image":"a","parameters":[{"key":"user","value":"app"}]}}}"#;
        for (task_text, user, framework, uid) in [
            (plain(r#","user":"app""#), "", "root", Some(7)),
            (plain(r#","user":"5000""#), "app", "root", Some(5000)),
            (plain(r#","user":"alice""#), "", "root", None),
            (parameter.to_owned(), "root", "root", Some(7)),
            (plain(""), "app", "root", Some(7)),
            (plain(""), "ghost", "root", None),
            (plain(""), "", "root", Some(0)),
            (plain(""), "", "alice", Some(65_534)),
            (plain(""), "", "", Some(0)),
        ] {
            let info = FrameworkInfo { user: framework.to_owned(), ..FrameworkInfo::default() };
            let found = identity(&site(), &task(&task_text), &info, &image(user), &accounts);
            assert_eq!(found.as_ref().ok().map(|identity| identity.user.uid), uid, "{task_text} {user} {framework}");
            if let Err(error) = found {
                assert!(error.to_string().contains("r/i:1"), "{error}");
            }
        }
    }

    #[test]
    fn the_environment_is_layered() {
        let text = r#"{"command":{"value":"x","environment":{"variables":[{"name":"C","value":"task"}]}},"container":{"type":"DOCKER",
            "docker":{"image":"a","parameters":[{"key":"env","value":"B=parameter"},{"key":"env","value":"C=parameter"}]}}}"#;
        let task = task(text);
        let wish = wish(&site(), &task).unwrap().unwrap();
        let env = ["PATH=/image", "A=image", "B=image", "nonsense"].map(str::to_owned).to_vec();
        let image = Image { config: ImageConfig { env, ..ImageConfig::default() }, ..Image::default() };
        let root = ImageRoot { image, identity: Identity { home: Some("/h".to_owned()), ..Identity::default() } };
        let ours = vec![("PATH".to_owned(), "/ours".to_owned()), ("MESOS_X".to_owned(), "1".to_owned())];
        let variables = environment(ours, &wish, &root, task.command.as_ref().unwrap(), &Secrets::new()).unwrap();
        let texts: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(texts, ["PATH=/image", "MESOS_X=1", "A=image", "B=parameter", "C=task", "HOME=/h"]);
    }
}
