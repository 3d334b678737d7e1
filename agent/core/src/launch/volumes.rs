//! What a container has beside its root and its sandbox: volumes of every kind, as mounts and as what must be there
//! before they are mounted.

use std::collections::BTreeMap;
use std::path::Path;

use api::resources::DiskKind;
use api::v1::volume::Mode;
use api::v1::volume::source::{Type, sandbox_path};
use api::v1::{self, Secret, TaskInfo, Volume, resources_from_wire, secret};
use api::{ContainerId, Resource};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Files, HostPath, LaunchError, SANDBOX, Site, User, image};
use crate::image::Image;

/// Where programs that use graphics processors look for their driver's files, as with Mesos.
const GPU_FILES: &str = "/usr/local/nvidia";

/// Values of what a task names by reference.
pub type Secrets = BTreeMap<String, Vec<u8>>;

/// A directory or a file that is mounted into a container.
///
/// Tasks write below `base`, so `path` is resolved without leaving it: no link in it is followed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Staged {
    /// Its place below the bundle's `volumes`, which the specification names.
    pub name: String,
    /// A directory no task can replace.
    pub base: String,
    /// Relative to it; empty is the base itself.
    pub path: String,
    /// Made if it is missing.
    pub make: bool,
    /// Whose it becomes.
    pub owner: Option<User>,
    /// What the task may not fill further, in bytes: of a persistent volume.
    #[serde(default)]
    pub limit_bytes: Option<u64>,
    /// The persistent volume's id.
    #[serde(default)]
    pub persistence: Option<String>,
    /// Other containers may have it at the same time: what lies in it is not renamed for one of them.
    #[serde(default)]
    pub shared: bool,
}

/// An image that is mounted into a container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageVolume {
    /// Its place below the bundle's `volumes`.
    pub name: String,
    /// The lowest first.
    pub layers: Vec<String>,
}

/// A secret as a file.
#[derive(Clone, Eq, PartialEq)]
pub struct SecretFile {
    /// Below the bundle's `secrets`.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretFile({}, {} bytes)", self.name, self.content.len())
    }
}

/// Everything of a task's volumes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Volumes {
    /// For the specification, in the order they are mounted.
    pub(super) mounts: Vec<Value>,
    pub(super) staged: Vec<Staged>,
    pub(super) images: Vec<ImageVolume>,
    pub(super) secrets: Vec<SecretFile>,
    /// Something is mounted where a read-only root may have no directory.
    pub(super) outside_sandbox: bool,
}

/// What volumes depend on.
pub(super) struct Place<'a> {
    pub(super) site: &'a Site,
    pub(super) container: &'a ContainerId,
    /// On the node.
    pub(super) sandbox: &'a str,
    /// That of the pod it is in.
    pub(super) parent: Option<&'a str>,
    /// As the task sees it.
    pub(super) inside: &'a str,
    pub(super) files: Files,
    /// As the node calls it.
    pub(super) user: User,
    /// As it is called in the container.
    pub(super) named: User,
    pub(super) secrets: &'a Secrets,
    /// It has graphics processors.
    pub(super) gpus: bool,
    /// Images for volumes, by their names.
    pub(super) images: Option<&'a BTreeMap<String, Image>>,
}

/// `/a/b:/c:ro` and `/c:size=1m`, as `docker run` takes them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Parameter {
    Host { path: String, inside: String, mode: Mode },
    Tmpfs { inside: String, size: Option<String>, mode: Option<String> },
}

/// Plans every volume of a task.
pub(super) fn volumes(place: &Place<'_>, task: &TaskInfo, parameters: &[Parameter]) -> Result<Volumes, LaunchError> {
    let mut all = Volumes::default();
    let persistent = resources_from_wire(&task.resources).unwrap_or_default();
    for resource in persistent.iter().filter(|resource| persistence(resource).is_some()) {
        all.persistent(place, resource)?;
    }
    for volume in task.container.iter().flat_map(|container| &container.volumes) {
        all.volume(place, volume)?;
    }
    if let Some(base) = place.site.gpu_files.clone().filter(|_| place.gpus) {
        let staged = Staged { base, ..all.next() };
        all.mount(place, staged, GPU_FILES, Mode::Ro)?;
    }
    for parameter in parameters {
        match parameter {
            Parameter::Host { path, inside, mode } => all.host(place, path, inside, *mode)?,
            Parameter::Tmpfs { inside, size, mode } => {
                all.tmpfs(place, inside, size.as_deref(), mode.as_deref())?;
            }
        }
    }
    if place.site.unconfined && !(all.mounts.is_empty()) {
        return no("containers with volumes on a node that runs tasks without isolation".to_owned());
    }
    Ok(all)
}

/// The value of a secret.
pub(super) fn value(secret: &Secret, secrets: &Secrets) -> Result<Vec<u8>, LaunchError> {
    match (secret.r#type(), &secret.value, &secret.reference) {
        (secret::Type::Reference, _, Some(reference)) => secrets
            .get(&reference.name)
            .cloned()
            .ok_or_else(|| LaunchError::Volume(format!("the master has no secret '{}' for this task", reference.name))),
        (secret::Type::Reference, _, None) => Err(LaunchError::Volume("a secret has no reference".to_owned())),
        (secret::Type::Value | secret::Type::Unknown, Some(value), _) => Ok(value.data.clone()),
        (secret::Type::Value | secret::Type::Unknown, None, _) => {
            Err(LaunchError::Volume("a secret has no value".to_owned()))
        }
    }
}

/// Every name a task gives instead of a value, in its volumes, its environment and for its image.
#[must_use]
pub fn references(task: &TaskInfo) -> Vec<String> {
    let volumes = task.container.iter().flat_map(|container| &container.volumes);
    let own = task.container.iter().filter_map(|container| container.mesos.as_ref()?.image.as_ref());
    let image = own.chain(volumes.clone().filter_map(|volume| volume.image.as_ref()));
    let images = image.filter_map(|image| image.docker.as_ref()?.config.as_ref());
    let files = volumes.filter_map(|volume| volume.source.as_ref()?.secret.as_ref()).chain(images);
    let environment = task.command.iter().filter_map(|command| command.environment.as_ref());
    let variables = environment.flat_map(|environment| &environment.variables);
    let all = files.chain(variables.filter_map(|variable| variable.secret.as_ref()));
    let mut names: Vec<String> = all.filter_map(|secret| Some(secret.reference.as_ref()?.name.clone())).collect();
    names.sort();
    names.dedup();
    names
}

fn persistence(resource: &Resource) -> Option<&str> {
    Some(resource.disk.as_ref()?.persistence.as_ref()?.id.as_str())
}

/// Where a persistent volume is: a base and a path below it. Mesos's layout, so that a work directory can be taken over.
#[must_use]
pub fn volume_directory(work_dir: &str, resource: &Resource) -> Option<(String, String)> {
    let disk = resource.disk.as_ref()?;
    let id = persistence(resource)?;
    // A role's slashes would make one volume a directory of another.
    let below = format!("roles/{}/{id}", resource.role().replace('/', " "));
    let source = disk.source.as_ref();
    match source.map(|source| (source.kind, source.root.as_deref())) {
        None => Some((format!("{work_dir}/volumes"), below)),
        Some((DiskKind::Path, Some(root))) => Some((absolute(work_dir, root), format!("volumes/{below}"))),
        Some((DiskKind::Mount, Some(root))) => Some((absolute(work_dir, root), String::new())),
        Some(_) => None,
    }
}

fn absolute(work_dir: &str, root: &str) -> String {
    if root.starts_with('/') { root.to_owned() } else { format!("{work_dir}/{root}") }
}

impl Volumes {
    fn volume(&mut self, place: &Place<'_>, volume: &Volume) -> Result<(), LaunchError> {
        let mode = volume.mode();
        let inside = volume.container_path.as_str();
        if let Some(image) = &volume.image {
            if volume.host_path.is_some() || volume.source.is_some() {
                return Err(LaunchError::Volume(format!("the volume at '{inside}' is an image and something else")));
            }
            return self.image(place, image, inside, mode);
        }
        if let Some(path) = &volume.host_path {
            // Mesos: a relative one is of the sandbox.
            return match path.starts_with('/') {
                true => self.host(place, path, inside, mode),
                false => self.sandbox(place, place.sandbox, path, inside, mode),
            };
        }
        let Some(source) = &volume.source else {
            return Err(LaunchError::Volume(format!("the volume at '{inside}' says nothing of what it is")));
        };
        match source.r#type() {
            Type::HostPath => {
                let host = source.host_path.clone().unwrap_or_default();
                if host
                    .mount_propagation
                    .is_some_and(|wish| wish.mode() == api::v1::mount_propagation::Mode::Bidirectional)
                {
                    return no(format!("volumes that propagate mounts to the node ('{inside}')"));
                }
                self.host(place, &host.path, inside, mode)
            }
            Type::SandboxPath => {
                let sandbox = source.sandbox_path.clone().unwrap_or_default();
                match sandbox.r#type() {
                    sandbox_path::Type::Parent => {
                        let parent = place.parent.ok_or_else(|| {
                            LaunchError::Volume(format!(
                                "the volume at '{inside}' is of the parent's sandbox, and this container has no parent"
                            ))
                        })?;
                        if is_the_agents_own(&sandbox.path) {
                            return Err(LaunchError::Volume(format!(
                                "the parent sandbox's path '{}' is the agent's own",
                                sandbox.path
                            )));
                        }
                        self.sandbox(place, parent, &sandbox.path, inside, mode)
                    }
                    sandbox_path::Type::Self_ | sandbox_path::Type::Unknown => {
                        self.sandbox(place, place.sandbox, &sandbox.path, inside, mode)
                    }
                }
            }
            Type::Secret => {
                let secret = source.secret.clone().unwrap_or_default();
                self.secret(place, value(&secret, place.secrets)?, inside)
            }
            Type::DockerVolume => {
                let docker = source.docker_volume.clone().unwrap_or_default();
                if docker.driver.as_deref() != Some("tmpfs") {
                    return no(format!(
                        "volumes of the Docker volume driver '{}' (only 'tmpfs' has a meaning here)",
                        docker.driver.unwrap_or_default()
                    ));
                }
                let options = docker.driver_options.unwrap_or_default().parameter;
                let option = |name: &str| options.iter().find(|one| one.key == name).map(|one| one.value.as_str());
                self.tmpfs(place, inside, option("size"), option("mode"))
            }
            Type::CsiVolume => no(format!("CSI volumes ('{inside}')")),
            Type::Unknown => no(format!("volumes of an unknown type ('{inside}')")),
        }
    }

    fn persistent(&mut self, place: &Place<'_>, resource: &Resource) -> Result<(), LaunchError> {
        let id = persistence(resource).unwrap_or_default().to_owned();
        let disk = resource.disk.as_ref();
        let Some(wanted) = disk.and_then(|disk| disk.volume.as_ref()) else {
            return Err(LaunchError::Volume(format!("the persistent volume '{id}' has no container path")));
        };
        let Some((base, path)) = volume_directory(&place.site.work_dir, resource) else {
            return no(format!("persistent volumes on a disk that is neither PATH nor MOUNT ('{id}')"));
        };
        // One that others use as well stays whose it is.
        let owner = (!resource.shared).then_some(place.named);
        let limit_bytes = match &resource.value {
            api::ResourceValue::Scalar(size) => Some(size.0.saturating_mul(1 << 20) / 1000),
            api::ResourceValue::Ranges(_) | api::ResourceValue::Set(_) => None,
        };
        let staged = Staged {
            base,
            path,
            make: true,
            owner,
            limit_bytes,
            persistence: Some(id),
            shared: resource.shared,
            ..self.next()
        };
        let mode = if wanted.read_only { Mode::Ro } else { Mode::Rw };
        self.mount(place, staged, &wanted.container_path, mode)
    }

    /// What is written to it goes with the container.
    fn image(&mut self, place: &Place<'_>, image: &v1::Image, inside: &str, mode: Mode) -> Result<(), LaunchError> {
        let reference = image::request(image)?.reference.to_string();
        let known = place.images.and_then(|images| images.get(&reference)).ok_or(LaunchError::NoImage)?;
        let name = format!("image-{}", self.images.len());
        self.bind(place, &name, inside, mode)?;
        self.images.push(ImageVolume { name, layers: known.layers.clone() });
        Ok(())
    }

    fn host(&mut self, place: &Place<'_>, path: &str, inside: &str, mode: Mode) -> Result<(), LaunchError> {
        let path = clean(path).map_err(|why| LaunchError::Volume(format!("the node's path '{path}' {why}")))?;
        let Some(allowed) = HostPath::of(&place.site.host_paths, &path) else {
            return Err(LaunchError::Volume(format!(
                "this node does not show its path '{path}' to tasks (mesolith.host_paths)"
            )));
        };
        if allowed.read_only && mode == Mode::Rw {
            return Err(LaunchError::Volume(format!("this node shows its path '{path}' to tasks read-only")));
        }
        let below = path.strip_prefix(allowed.path.trim_end_matches('/')).unwrap_or_default().trim_start_matches('/');
        let staged = Staged { base: allowed.path.clone(), path: below.to_owned(), ..self.next() };
        self.mount(place, staged, inside, mode)
    }

    fn sandbox(
        &mut self,
        place: &Place<'_>,
        base: &str,
        path: &str,
        inside: &str,
        mode: Mode,
    ) -> Result<(), LaunchError> {
        let wrong = |why: &str| LaunchError::Volume(format!("the sandbox's path '{path}' {why}"));
        if path.starts_with('/') {
            return Err(wrong("is not relative"));
        }
        let path = clean(&format!("/{path}")).map_err(wrong)?[1..].to_owned();
        let base = base.to_owned();
        let staged = Staged { base, path, make: true, owner: Some(place.user), ..self.next() };
        self.mount(place, staged, inside, mode)
    }

    fn secret(&mut self, place: &Place<'_>, content: Vec<u8>, inside: &str) -> Result<(), LaunchError> {
        let name = self.secrets.len().to_string();
        let base = format!("{}/{}/secrets", place.site.bundle_dir, place.container);
        let staged = Staged { base, path: name.clone(), owner: Some(place.user), ..self.next() };
        self.secrets.push(SecretFile { name, content });
        self.mount(place, staged, inside, Mode::Ro)
    }

    fn tmpfs(
        &mut self,
        place: &Place<'_>,
        inside: &str,
        size: Option<&str>,
        mode: Option<&str>,
    ) -> Result<(), LaunchError> {
        let wrong = |what: &str| LaunchError::Volume(format!("the tmpfs at '{inside}' has a {what}"));
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '%');
        if !size.is_none_or(plain) {
            return Err(wrong("size that is no number with k, m, g or %"));
        }
        if !mode.is_none_or(|mode| !mode.is_empty() && mode.chars().all(|c| ('0'..='7').contains(&c))) {
            return Err(wrong("mode that is no octal number"));
        }
        let destination = self.destination(place, inside)?;
        let mut options: Vec<String> = ["nosuid", "nodev"].map(str::to_owned).to_vec();
        options.push(format!("mode={}", mode.unwrap_or("1777")));
        options.extend(size.map(|size| format!("size={size}")));
        self.mounts.push(json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}));
        Ok(())
    }

    fn next(&self) -> Staged {
        Staged { name: self.staged.len().to_string(), ..Staged::default() }
    }

    fn mount(&mut self, place: &Place<'_>, staged: Staged, inside: &str, mode: Mode) -> Result<(), LaunchError> {
        self.bind(place, &staged.name, inside, mode)?;
        self.staged.push(staged);
        Ok(())
    }

    fn bind(&mut self, place: &Place<'_>, name: &str, inside: &str, mode: Mode) -> Result<(), LaunchError> {
        let destination = self.destination(place, inside)?;
        let source = format!("{}/{}/volumes/{name}", place.site.bundle_dir, place.container);
        let mode = match mode {
            Mode::Ro => "ro",
            Mode::Rw => "rw",
        };
        let options = ["bind", mode, "nosuid", "nodev"];
        self.mounts.push(json!({"destination": destination, "type": "bind", "source": source, "options": options}));
        Ok(())
    }

    /// Where in the container: relative is in the sandbox. Not where the kernel's own file systems are.
    fn destination(&mut self, place: &Place<'_>, inside: &str) -> Result<String, LaunchError> {
        let wrong = |why: &str| LaunchError::Volume(format!("the volume's container path '{inside}' {why}"));
        if inside.is_empty() {
            return Err(wrong("is empty"));
        }
        if !inside.starts_with('/') {
            let path = clean(&format!("/{inside}")).map_err(wrong)?;
            if path == "/" {
                return Err(wrong("is the sandbox itself"));
            }
            return Ok(format!("{}{path}", place.inside));
        }
        let path = clean(inside).map_err(wrong)?;
        let below = |root: &str| path == root || path.starts_with(&format!("{root}/"));
        if path == "/" || below("/proc") || below("/sys") || (below("/dev") && path != "/dev/shm") {
            return Err(wrong("is the container's own"));
        }
        if path == place.inside {
            return Err(wrong("is the sandbox itself"));
        }
        let in_sandbox = below(place.inside);
        if place.files == Files::Hosts && !in_sandbox {
            return Err(wrong("is outside the sandbox: that takes an image, or the host would get the directory"));
        }
        self.outside_sandbox |= !in_sandbox && !below(SANDBOX);
        Ok(path)
    }
}

/// In a parent's sandbox the agent makes those of its children, by path: a task that had the directory could put
/// something else in their place.
fn is_the_agents_own(path: &str) -> bool {
    clean(&format!("/{path}")).is_ok_and(|path| path.len() < 2 || Path::new(&path).starts_with("/containers"))
}

/// A path without doubled slashes, dots and a slash at its end.
fn clean(path: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("is not absolute");
    }
    if path.contains('\0') {
        return Err("contains a NUL byte");
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err("goes up"),
            part => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

fn no<T>(what: String) -> Result<T, LaunchError> {
    Err(LaunchError::Unsupported(what))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{site, task};
    use super::*;

    fn planned(container: &str, resources: &str) -> Result<Volumes, LaunchError> {
        let mut site = site();
        site.host_paths = HostPath::parse("/data,/data/logs:ro,/opt:ro").unwrap();
        let task = task(&format!(r#"{{"container":{container},"resources":{resources}}}"#));
        let secrets = Secrets::from([("db".to_owned(), b"pw".to_vec())]);
        let place = Place {
            named: User::default(),
            images: None,
            site: &site,
            container: &"c1".into(),
            sandbox: "/work/sandbox",
            parent: None,
            inside: SANDBOX,
            files: Files::TaskRoots,
            user: User { uid: 7, gid: 8 },
            secrets: &secrets,
            gpus: false,
        };
        volumes(&place, &task, &[])
    }

    fn one(volume: &str) -> Result<(Value, Option<Staged>), LaunchError> {
        let all = planned(&format!(r#"{{"type":"MESOS","volumes":[{volume}]}}"#), "[]")?;
        Ok((all.mounts[0].clone(), all.staged.first().cloned()))
    }

    #[test]
    fn each_kind_of_volume_has_its_source_and_its_place() {
        let (mount, staged) = one(r#"{"mode":"RO","container_path":"a//b/","host_path":"/data/x"}"#).unwrap();
        assert_eq!(mount["destination"], format!("{SANDBOX}/a/b"));
        assert_eq!(mount["source"], "/run/mesolith/agent/bundles/c1/volumes/0");
        assert_eq!(mount["options"], json!(["bind", "ro", "nosuid", "nodev"]));
        let staged = staged.unwrap();
        assert_eq!((staged.base.as_str(), staged.path.as_str(), staged.make), ("/data", "x", false));
        let (_, staged) = one(r#"{"mode":"RO","container_path":"a","host_path":"/data/logs"}"#).unwrap();
        assert_eq!(
            (staged.as_ref().unwrap().base.as_str(), staged.as_ref().unwrap().path.as_str()),
            ("/data/logs", "")
        );
        for volume in [
            r#"{"mode":"RW","container_path":"/cache","host_path":"x/y"}"#,
            r#"{"mode":"RW","container_path":"/cache","source":{"type":"SANDBOX_PATH","sandbox_path":{"type":"SELF","path":"x/y"}}}"#,
        ] {
            let (mount, staged) = one(volume).unwrap();
            let staged = staged.unwrap();
            assert_eq!((staged.base.as_str(), staged.path.as_str(), staged.make), ("/work/sandbox", "x/y", true));
            assert_eq!((staged.owner, &mount["destination"]), (Some(User { uid: 7, gid: 8 }), &json!("/cache")));
        }
        let tmpfs = r#"{"mode":"RW","container_path":"/scratch","source":{"type":"DOCKER_VOLUME","docker_volume":
            {"driver":"tmpfs","name":"x","driver_options":{"parameter":[{"key":"size","value":"16m"}]}}}}"#;
        let (mount, staged) = one(tmpfs).unwrap();
        assert_eq!((mount["options"][3].as_str(), staged), (Some("size=16m"), None));
    }

    #[test]
    fn secrets_are_files_of_the_bundle_and_never_shown() {
        let secret = |source: &str| {
            planned(
                &format!(
                    r#"{{"type":"MESOS","volumes":[{{"mode":"RO","container_path":"pw","source":{{"type":"SECRET","secret":{source}}}}}]}}"#
                ),
                "[]",
            )
        };
        for source in
            [r#"{"type":"VALUE","value":{"data":"cHc="}}"#, r#"{"type":"REFERENCE","reference":{"name":"db"}}"#]
        {
            let all = secret(source).unwrap();
            assert_eq!((all.secrets[0].name.as_str(), all.secrets[0].content.as_slice()), ("0", b"pw".as_slice()));
            assert!(all.mounts[0]["options"][1] == "ro" && !format!("{all:?}").contains("112"), "{all:?}");
        }
        let error = secret(r#"{"type":"REFERENCE","reference":{"name":"other"}}"#).unwrap_err().to_string();
        assert!(error.contains("no secret 'other'"), "{error}");
    }

    #[test]
    fn a_persistent_volume_lies_by_role_and_id_and_belongs_to_its_task() {
        let resources = r#"[{"name":"disk","type":"SCALAR","scalar":{"value":64},
            "reservations":[{"type":"DYNAMIC","role":"a/b"}],
            "disk":{"persistence":{"id":"v1"},"volume":{"container_path":"data","mode":"RW"}}}]"#;
        let all = planned(r#"{"type":"MESOS"}"#, resources).unwrap();
        let staged = &all.staged[0];
        assert_eq!((staged.base.as_str(), staged.path.as_str()), ("/var/lib/mesolith/volumes", "roles/a b/v1"));
        assert_eq!((staged.limit_bytes, staged.owner.is_some()), (Some(64 << 20), true));
        assert_eq!(all.mounts[0]["destination"], format!("{SANDBOX}/data"));
    }

    #[test]
    fn what_cannot_be_or_may_not_be_mounted_says_why() {
        let host = |path: &str| format!(r#"{{"mode":"RW","container_path":"a","host_path":"{path}"}}"#);
        let at = |path: &str| format!(r#"{{"mode":"RW","container_path":"{path}","host_path":"x"}}"#);
        for (volume, words) in [
            (host("/etc"), "does not show its path '/etc'"),
            (host("/database"), "does not show"),
            (host("/data/../etc"), "goes up"),
            (host("/opt/x"), "read-only"),
            (host("/data/logs/x"), "read-only"),
            (host("../up"), "goes up"),
            (at("/proc/sys"), "the container's own"),
            (at("/"), "the container's own"),
            (at("/dev/sda"), "the container's own"),
            (at("../x"), "goes up"),
            (at("."), "the sandbox itself"),
            (at(SANDBOX), "the sandbox itself"),
            (r#"{"mode":"RW","container_path":"a","source":{"type":"SANDBOX_PATH","sandbox_path":{"type":"PARENT","path":"x"}}}"#.to_owned(), "no parent"),
            (r#"{"mode":"RW","container_path":"a","source":{"type":"DOCKER_VOLUME","docker_volume":{"driver":"rexray","name":"x"}}}"#.to_owned(), "'rexray'"),
        ] {
            let error = one(&volume).unwrap_err().to_string();
            assert!(error.contains(words), "{volume}: {error}");
        }
    }
}
