//! Where this node's things are and what it was told, read once.

use std::io;
use std::path::{Path, PathBuf};

use agent_core::cmdline::{ConfigMistakes, NodeConfig};
use agent_core::launch::{PIDS_MAX, Root, Site, User};
use api::attributes::AttributeValue;

use super::private_file;
use crate::arguments::HostedArgs;
use crate::run_dir::{self, RunDir};

/// What tasks without an image see as `/` on a machine that booted our image.
const TASK_ROOT: &str = "/usr/share/mesolith/taskroot";
/// Where sandboxes live there.
const WORK_DIR: &str = "/var/lib/mesolith";

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
}

/// Why the node cannot even begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("the kernel command line is wrong")]
    Mistakes(#[source] ConfigMistakes),
    #[error("the options are wrong")]
    Options(#[source] ConfigMistakes),
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
        Self::new(config, run, WORK_DIR.into(), root, token)
    }

    pub(crate) fn of_hosted(args: &HostedArgs) -> Result<Self, SettingsError> {
        let mut config = NodeConfig::default();
        let mut mistakes = Vec::new();
        config.set("master", &args.master, &mut mistakes);
        config.set("ca", &args.ca, &mut mistakes);
        for (key, value) in [("name", &args.name), ("attributes", &args.attributes), ("resources", &args.resources)] {
            if let Some(value) = value {
                config.set(key, value, &mut mistakes);
            }
        }
        let config = config.finish(mistakes).map_err(|ConfigMistakes(mistakes)| {
            // The keys and the options have the same names.
            let told = mistakes.into_iter().map(|mistake| mistake.replacen("mesolith.", "--", 1)).collect();
            SettingsError::Options(ConfigMistakes(told))
        })?;
        let root = Root {
            path: run_dir::host_root().map_or_else(|| "/".to_owned(), |path| path.display().to_string()),
            passwd: std::fs::read_to_string("/etc/passwd").unwrap_or_default(),
            is_host: true,
        };
        Self::new(config, RunDir::from_environment(), args.work_dir.clone(), root, args.token_file.clone())
    }

    /// Hosted nodes see their host's root; that tells the two apart.
    fn new(
        config: NodeConfig,
        run: RunDir,
        work_dir: PathBuf,
        root: Root,
        token: Option<PathBuf>,
    ) -> Result<Self, SettingsError> {
        let hosted = root.is_host;
        let state = run.path().join("agent");
        let bundles = state.join("bundles");
        for path in [&state, &bundles, &state.join("tasks"), &state.join("pki")] {
            private_file::make_directory(path).map_err(|source| SettingsError::Io { path: path.clone(), source })?;
        }
        let boot_id = read("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let own = nix::unistd::geteuid();
        let only_user = (!own.is_root()).then(|| User { uid: own.as_raw(), gid: nix::unistd::getegid().as_raw() });
        let site = Site {
            work_dir: work_dir.display().to_string(),
            bundle_dir: bundles.display().to_string(),
            root,
            cgroup_parent: run_dir::task_cgroup(),
            pids_max: pids_max(&config),
            unconfined: run_dir::without_isolation(),
            only_user,
            ..Site::default()
        };
        Ok(Self { config, run, state, work_dir, token, owns_token: !hosted, hosted, boot_id, site })
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
