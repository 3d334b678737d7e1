//! Where this node's things are and what it was told, read once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use agent_core::cmdline::{ConfigMistakes, NodeConfig};
use agent_core::cores::{Processor, Processors};
use agent_core::launch::{Images, PIDS_MAX, Root, Site, User};
use agent_images::{Registries, RegistriesError};
use api::attributes::AttributeValue;

use super::disks::Board;
use super::private_file;
use crate::arguments::HostedArgs;
use crate::run_dir::{self, RunDir};

/// What tasks without an image see as `/` on a machine that booted our image.
const TASK_ROOT: &str = "/usr/share/mesolith/taskroot";
/// Where sandboxes live there.
const WORK_DIR: &str = "/var/lib/mesolith";

/// A file system of its own there, so that images take no memory from sandboxes.
const IMAGE_DIR: &str = "/var/lib/mesolith/images";
/// What the operator says of registries there, if anything.
const REGISTRIES: &str = "/etc/mesolith/images.json";
/// Lists of certificate authorities: our image's and Debian's, and those of other distributions.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Everything that is known before the network is up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: NodeConfig,
    pub(crate) run: RunDir,
    /// Checkpoints, keys, bundles.
    pub(crate) state: PathBuf,
    /// Sandboxes.
    pub(crate) work_dir: PathBuf,
    pub(crate) token: Option<PathBuf>,
    /// The token was delivered to us and is ours to remove.
    pub(crate) owns_token: bool,
    pub(crate) hosted: bool,
    pub(crate) boot_id: String,
    pub(crate) site: Site,
    pub(crate) registries: Registries,
    /// The list of certificate authorities, if there is one.
    pub(crate) authorities: Option<PathBuf>,
    /// What is known of the node's disks, shared by everybody.
    pub(crate) disks: Board,
}

/// Why the node cannot even begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("the kernel command line is wrong")]
    Mistakes(#[source] ConfigMistakes),
    #[error("the options are wrong")]
    Options(#[source] ConfigMistakes),
    #[error("cannot use {}", path.display())]
    Registries { path: PathBuf, source: RegistriesError },
    #[error("the mirrors of image registries are wrong")]
    Mirrors(#[source] RegistriesError),
    #[error("cannot use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Settings {
    pub(crate) fn of_appliance() -> Result<Self, SettingsError> {
        let config = NodeConfig::parse(&read("/proc/cmdline")?).map_err(SettingsError::Mistakes)?;
        let run = RunDir::from_environment();
        let root = Root {
            path: TASK_ROOT.to_owned(),
            passwd: std::fs::read_to_string(Path::new(TASK_ROOT).join("etc/passwd")).unwrap_or_default(),
            is_host: false,
        };
        let token = Some(run.path().join("token"));
        let images = ImageFiles { directory: IMAGE_DIR.into(), registries: registries(Path::new(REGISTRIES))? };
        Self::new(config, run, WORK_DIR.into(), root, token, images)
    }

    pub(crate) fn of_hosted(args: &HostedArgs) -> Result<Self, SettingsError> {
        let mut config = NodeConfig::default();
        let mut mistakes = Vec::new();
        config.set("master", &args.master, &mut mistakes);
        config.set("ca", &args.ca, &mut mistakes);
        for (key, value) in [
            ("name", &args.name),
            ("attributes", &args.attributes),
            ("resources", &args.resources),
            ("image", &args.image),
            ("image_roles", &args.image_roles),
            ("image_limit_mib", &args.image_limit_mib),
            ("host_paths", &args.host_paths),
            ("agent_api", &args.agent_api),
            ("gc_delay", &args.gc_delay),
            ("log_limit_mib", &args.log_limit_mib),
            ("gc_disk_headroom", &args.gc_disk_headroom),
            ("executor_registration_timeout", &args.executor_registration_timeout),
            ("io_max", &args.io_max),
            ("devices", &args.devices),
            ("gpus", &args.gpus),
            ("gpu_files", &args.gpu_files),
            ("user_namespaces", &args.user_namespaces),
            ("cni_config", &args.cni_config),
            ("cni_plugins", &args.cni_plugins),
        ] {
            if let Some(value) = value {
                config.set(key, value, &mut mistakes);
            }
        }
        let config = config.finish(mistakes).map_err(|ConfigMistakes(mistakes)| {
            // The keys and the options have the same names.
            let told = mistakes.into_iter().map(|mistake| told(&mistake)).collect();
            SettingsError::Options(ConfigMistakes(told))
        })?;
        let root = Root {
            path: run_dir::host_root().map_or_else(|| "/".to_owned(), |path| path.display().to_string()),
            passwd: std::fs::read_to_string("/etc/passwd").unwrap_or_default(),
            is_host: true,
        };
        let told = match &args.image_registries {
            Some(path) if !path.exists() => {
                let source = io::ErrorKind::NotFound.into();
                return Err(SettingsError::Io { path: path.clone(), source });
            }
            Some(path) => registries(path)?,
            None => Registries::default(),
        };
        let directory = args.image_dir.clone().unwrap_or_else(|| args.work_dir.join("images"));
        let images = ImageFiles { directory, registries: told };
        let token = args.token_file.clone();
        Self::new(config, RunDir::from_environment(), args.work_dir.clone(), root, token, images)
    }

    /// Hosted nodes see their host's root; that tells the two apart.
    fn new(
        config: NodeConfig,
        run: RunDir,
        work_dir: PathBuf,
        root: Root,
        token: Option<PathBuf>,
        images: ImageFiles,
    ) -> Result<Self, SettingsError> {
        let hosted = root.is_host;
        let state = run.path().join("agent");
        let bundles = state.join("bundles");
        for path in [&state, &bundles, &state.join("tasks"), &state.join("executors"), &state.join("pki")] {
            private_file::make_directory(path).map_err(|source| SettingsError::Io { path: path.clone(), source })?;
        }
        let boot_id = read("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let own = nix::unistd::geteuid();
        let only_user = (!own.is_root()).then(|| User { uid: own.as_raw(), gid: nix::unistd::getegid().as_raw() });
        let ImageFiles { directory, mut registries } = images;
        for (registry, url) in &config.image_mirrors {
            registries.add_mirror(registry, url).map_err(SettingsError::Mirrors)?;
        }
        for registry in &config.image_plain_http {
            registries.add_plain_http(registry);
        }
        let unconfined = run_dir::without_isolation();
        let refused = if unconfined {
            Some("this node runs tasks without isolation, and an image needs it".to_owned())
        } else if only_user.is_some() {
            Some("the agent of this node is not root, and mounting an image needs it".to_owned())
        } else {
            None
        };
        let site = Site {
            work_dir: work_dir.display().to_string(),
            bundle_dir: bundles.display().to_string(),
            root,
            cgroup_parent: run_dir::task_cgroup(),
            pids_max: pids_max(&config),
            unconfined,
            unlimited: run_dir::without_limits(),
            only_user,
            images: Images {
                directory: directory.display().to_string(),
                default: config.image.clone(),
                by_role: config.image_roles.clone(),
                refused,
            },
            host_paths: config.host_paths.clone(),
            executor_registration_ms: config.executor_registration_ms,
            subnet: config.bridge,
            processors: processors(),
            huge_pages: huge_pages(&run_dir::task_cgroup()),
            disk_limits: config.disk_limits.clone(),
            devices: config.devices.clone(),
            gpus: config.gpus.clone(),
            gpu_files: config.gpu_files.clone(),
            user_namespaces: config.user_namespaces.clone(),
            ..Site::default()
        };
        let authorities = AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists());
        Ok(Self {
            config,
            run,
            state,
            work_dir,
            token,
            owns_token: !hosted,
            hosted,
            boot_id,
            site,
            registries,
            authorities,
            disks: Board::default(),
        })
    }
}

impl Settings {
    /// What an operator may want to know, by the names Mesos has for its like.
    pub(crate) fn flags(&self) -> BTreeMap<String, String> {
        let list = |words: Vec<String>| words.join(",");
        let mut flags = BTreeMap::from([
            ("work_dir".to_owned(), self.work_dir.display().to_string()),
            ("sandbox_directory".to_owned(), agent_core::launch::SANDBOX.to_owned()),
            ("containerizers".to_owned(), "mesos".to_owned()),
            ("image_providers".to_owned(), "DOCKER".to_owned()),
            ("gc_delay".to_owned(), agent_core::launch::spell_ms(self.config.garbage.delay_ms)),
            ("gc_disk_headroom".to_owned(), api::Milli(self.config.garbage.headroom).to_string()),
            (
                "executor_registration_timeout".to_owned(),
                agent_core::launch::spell_ms(self.config.executor_registration_ms.unwrap_or(60_000)),
            ),
            ("executor_reregistration_timeout".to_owned(), "15secs".to_owned()),
            ("executor_shutdown_grace_period".to_owned(), "5secs".to_owned()),
            ("recovery_timeout".to_owned(), "15mins".to_owned()),
            ("authenticate_http_readonly".to_owned(), "true".to_owned()),
            ("authenticate_http_readwrite".to_owned(), "true".to_owned()),
            ("switch_user".to_owned(), "true".to_owned()),
            ("master".to_owned(), list(self.config.masters.clone())),
            ("resources".to_owned(), self.config.resources.to_string()),
        ]);
        if let Some(port) = self.config.agent_api {
            flags.insert("port".to_owned(), port.to_string());
        }
        flags
    }
}

/// As they are now: those that come later are shared by everybody.
fn processors() -> Processors {
    let online = hwdetect::detect(&hwdetect::SysRoot::host()).cpu.logical.into_iter().filter(|cpu| cpu.online);
    let one = |cpu: hwdetect::LogicalCpu| Processor {
        id: cpu.id,
        numa_node: cpu.numa_node.unwrap_or(0),
        // The first of its siblings stands for a core.
        core: (cpu.socket.unwrap_or(0), cpu.thread_siblings.iter().next().unwrap_or(cpu.id)),
    };
    Processors(online.map(one).collect())
}

/// Sizes of huge pages whose use the kernel counts for tasks: those it has a limit for.
fn huge_pages(cgroup: &str) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new("/sys/fs/cgroup").join(cgroup.trim_start_matches('/')));
    let names = entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let size = |name: String| name.strip_prefix("hugetlb.")?.strip_suffix(".max").map(str::to_owned);
    let mut sizes: Vec<String> = names.filter_map(size).filter(|size| !size.ends_with(".rsvd")).collect();
    sizes.sort();
    sizes
}

/// Where images lie and come from.
struct ImageFiles {
    directory: PathBuf,
    registries: Registries,
}

/// The keys of the command line and the options have the same names, but for their spelling.
fn told(mistake: &str) -> String {
    let (key, rest) = mistake.split_once(':').unwrap_or((mistake, ""));
    format!("{}:{rest}", key.replacen("mesolith.", "--", 1).replace('_', "-"))
}

fn registries(path: &Path) -> Result<Registries, SettingsError> {
    match std::fs::read(path) {
        Ok(bytes) => {
            Registries::parse(&bytes).map_err(|source| SettingsError::Registries { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Registries::default()),
        Err(source) => Err(SettingsError::Io { path: path.to_owned(), source }),
    }
}

/// The operator's attribute `pids_max` is also the limit tasks get.
fn pids_max(config: &NodeConfig) -> u64 {
    let told = config.attributes.iter().find(|attribute| attribute.name == "pids_max");
    match told.map(|attribute| &attribute.value) {
        Some(AttributeValue::Scalar(number)) if number.0 >= 1000 => number.0 / 1000,
        Some(AttributeValue::Scalar(_) | AttributeValue::Ranges(_) | AttributeValue::Text(_)) | None => PIDS_MAX,
    }
}

fn read(path: &str) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|source| SettingsError::Io { path: path.into(), source })
}
