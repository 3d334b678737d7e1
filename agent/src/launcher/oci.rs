//! Containers by libcontainer, with what it needs around it: checks before, repairs after, state that is never stuck.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use agent_core::handover::{ContainerState, launcher_of};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use oci_spec::runtime::Spec;
use tracing::{info, warn};

use super::causes::Causes;
use super::container_cgroup::{ContainerCgroup, ContainerCgroupError};
use super::executable::{self, ExecutableError};
use super::filter::{self, FilterError, Filtered, Filters};
use super::first_process;
use super::image_root::{self, ImageRootError};
use super::loopback;
use super::stage::{self, Stage, StageError};
use super::user_namespace::{self, UserNamespaceError};
use super::volumes::{self, VolumeError};
use super::{Failure, Runtime, check_id};
use crate::logging::chain;
use crate::run_dir;

const OWN_OOM_SCORE: &str = "/proc/self/oom_score_adj";

#[derive(Debug, thiserror::Error)]
enum OciError {
    #[error("cannot make directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot list {}", path.display())]
    List { path: PathBuf, source: io::Error },
    #[error("container `{0}` exists already")]
    Exists(String),
    #[error("there is no container `{0}`")]
    Unknown(String),
    #[error("cannot read {}", path.display())]
    Specification { path: PathBuf, source: io::Error },
    #[error("the specification's cgroupsPath is {found:?}, it must be `{expected}`")]
    CgroupPath { found: Option<PathBuf>, expected: String },
    #[error(transparent)]
    Executable(ExecutableError),
    #[error("cannot open {}", path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error("cannot set our own OOM score before the container inherits it")]
    OomScore(#[source] io::Error),
    #[error("cannot make the container{}", told(causes))]
    Create { causes: Vec<String>, source: Box<LibcontainerError> },
    #[error(transparent)]
    Root(ImageRootError),
    #[error(transparent)]
    Filter(FilterError),
    #[error(transparent)]
    Volume(VolumeError),
    #[error(transparent)]
    UserNamespace(UserNamespaceError),
    #[error(transparent)]
    Stage(StageError),
    #[error("cannot remove what was shown to container {container}")]
    Leftover { container: String, source: io::Error },
    #[error("cannot give the container its loopback interface")]
    Loopback(#[source] io::Error),
    #[error("libcontainer made no process")]
    NoProcess,
    #[error("cannot start the container{}", told(causes))]
    Start { causes: Vec<String>, source: Box<LibcontainerError> },
    #[error("the container's first process has ended")]
    Ended,
    #[error("cannot send signal {signal} to process {pid}")]
    Signal { signal: i32, pid: i32, source: io::Error },
    #[error("cannot make or empty the container's cgroup")]
    Cgroup(#[source] ContainerCgroupError),
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

fn told(causes: &[String]) -> String {
    if causes.is_empty() { String::new() } else { format!(" ({})", causes.join("; ")) }
}

/// Containers by libcontainer.
#[derive(Debug)]
pub(super) struct OciRuntime {
    root: PathBuf,
    task_cgroup: String,
    causes: Causes,
    filters: Filters,
    /// Which launcher this is.
    number: usize,
}

impl OciRuntime {
    pub(super) fn open(root: &Path, task_cgroup: &str, causes: Causes, number: usize) -> Result<OciRuntime, Failure> {
        fs::create_dir_all(root).map_err(|source| OciError::Directory { path: root.to_owned(), source })?;
        let (root, task_cgroup) = (root.to_owned(), task_cgroup.to_owned());
        Ok(OciRuntime { root, task_cgroup, causes, filters: Filters::default(), number })
    }

    fn state_dir(&self, container: &str) -> PathBuf {
        self.root.join(container)
    }

    fn cgroup(&self, container: &str) -> ContainerCgroup {
        ContainerCgroup::new(&self.task_cgroup, container)
    }

    fn load(&self, container: &str) -> Result<Container, OciError> {
        Container::load(self.state_dir(container)).map_err(|_| OciError::Unknown(container.to_owned()))
    }

    /// The first process, if it still is the container's own.
    fn first_process(&self, container: &Container) -> Option<i32> {
        let pid = container.pid()?.as_raw();
        self.cgroup(container.id()).contains(pid).then_some(pid)
    }

    fn build(&mut self, container: &str, bundle: &Path, stdout: &str, stderr: &str) -> Result<i32, OciError> {
        let path = bundle.join("config.json");
        // At once: libcontainer's own way of reading takes it byte by byte.
        let bytes = fs::read(&path);
        let spec = bytes.and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
        let mut spec: Spec = spec.map_err(|source| OciError::Specification { path, source })?;
        let expected = self.cgroup(container).path().to_owned();
        let found = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
        if found.as_deref() != Some(Path::new(&expected)) {
            return Err(OciError::CgroupPath { found, expected });
        }
        // Until the container has it in its own mount namespace; whatever happens, nobody else needs it longer.
        let names = user_namespace::make(&spec).map_err(OciError::UserNamespace)?;
        let mut stage = names.as_ref().map(|_| Stage::make(container)).transpose().map_err(OciError::Stage)?;
        let mut given = names.as_ref().zip(stage.as_mut());
        let _root = image_root::mount(bundle, &spec, given.as_mut().map(|(names, stage)| (*names, &mut **stage)))
            .map_err(OciError::Root)?;
        let _volumes = volumes::show(bundle, given.as_mut().map(|(names, stage)| (*names, &mut **stage)))
            .map_err(OciError::Volume)?;
        executable::check(&spec, bundle).map_err(OciError::Executable)?;
        let staged = given.map(|(names, stage)| stage.specify(bundle, names)).transpose().map_err(OciError::Stage)?;
        // What is staged is written already, with its filter: libcontainer translates that.
        let filter = if staged.is_some() { None } else { self.filters.of(&spec).map_err(OciError::Filter)? };
        let filter = match filter {
            Some(filter) => Some((filter, filter::write_unfiltered(bundle, &mut spec).map_err(OciError::Filter)?)),
            None => None,
        };
        let (stdout, stderr) = (append_to(stdout)?, append_to(stderr)?);
        let oom_score = spec.process().as_ref().and_then(|process| process.oom_score_adj()).unwrap_or_default();
        // The container inherits ours: a task must not be spared because its launcher is.
        let own_oom_score = fs::read_to_string(OWN_OOM_SCORE).map_err(OciError::OomScore)?;
        fs::write(OWN_OOM_SCORE, oom_score.to_string()).map_err(OciError::OomScore)?;
        self.causes.settle();
        // libcontainer would make it, too, but for each one asks for all controllers again, at every floor above it.
        self.cgroup(container).make().map_err(OciError::Cgroup)?;
        let built = ContainerBuilder::new(container.to_owned(), SyscallType::default())
            .with_root_path(&self.root)
            .and_then(ContainerBuilder::validate_id)
            .and_then(|builder| {
                let (builder, shown) = match filter {
                    Some((filter, directory)) => (builder.with_executor(Filtered(filter)), directory),
                    None => (builder, staged.unwrap_or_else(|| bundle.to_owned())),
                };
                builder
                    .with_stdout(stdout)
                    .with_stderr(stderr)
                    .as_init(&shown)
                    .with_systemd(false)
                    .with_detach(true)
                    .as_sibling(true)
                    .build()
            });
        restore_self();
        if let Err(error) = fs::write(OWN_OOM_SCORE, own_oom_score.trim()) {
            warn!(%error, "own OOM score not restored");
        }
        let built =
            built.map_err(|source| OciError::Create { causes: self.causes.take(), source: Box::new(source) })?;
        let pid = built.pid().map(|pid| pid.as_raw()).ok_or(OciError::NoProcess)?;
        loopback::bring_up(&spec, pid).map_err(OciError::Loopback)?;
        Ok(pid)
    }

    /// Removes everything of a container, whatever state it is in.
    fn remove(&mut self, container: &str) -> Result<(), OciError> {
        let cgroup = self.cgroup(container);
        cgroup.empty().map_err(OciError::Cgroup)?;
        cgroup.remove().map_err(OciError::Cgroup)?;
        stage::forget(container).map_err(|source| OciError::Leftover { container: container.to_owned(), source })?;
        // libcontainer also knows of resources we do not use, and would look at everything again.
        let dir = self.state_dir(container);
        match fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(OciError::Remove { path: dir, source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn names(&self) -> Result<Vec<String>, OciError> {
        let failed = |source| OciError::List { path: self.root.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().into_string();
            names.extend(name.ok().filter(|name| check_id(name).is_ok()));
        }
        names.sort();
        Ok(names)
    }
}

impl Runtime for OciRuntime {
    fn recover(&mut self) {
        let names = self.names().unwrap_or_else(|error| {
            warn!(error = %chain(&error), "earlier containers not found");
            Vec::new()
        });
        let (number, launchers) = (self.number, run_dir::launchers());
        for name in names.into_iter().filter(|name| launcher_of(name, launchers) == number) {
            let status = Container::load(self.state_dir(&name)).map(|container| container.state.status);
            let whole = match status {
                Ok(ContainerStatus::Created | ContainerStatus::Running | ContainerStatus::Paused) => true,
                // The one with a process has been started and ended; the one without never was.
                Ok(ContainerStatus::Stopped) => self.load(&name).is_ok_and(|container| container.pid().is_some()),
                Ok(ContainerStatus::Creating) | Err(_) => false,
            };
            if !whole {
                match self.remove(&name) {
                    Ok(()) => info!(container = name, "half-made container removed"),
                    Err(error) => warn!(container = name, error = %chain(&error), "half-made container not removed"),
                }
            }
        }
    }

    fn create(&mut self, container: &str, bundle: &str, stdout: &str, stderr: &str) -> Result<i32, Failure> {
        if self.state_dir(container).exists() {
            return Err(OciError::Exists(container.to_owned()).into());
        }
        if self.cgroup(container).exists() {
            self.remove(container)?;
        }
        self.build(container, Path::new(bundle), stdout, stderr).map_err(|error| {
            if let Err(left) = self.remove(container) {
                warn!(container, error = %chain(&left), "half-made container not removed");
            }
            error.into()
        })
    }

    fn start(&mut self, container: &str) -> Result<(), Failure> {
        let mut loaded = self.load(container)?;
        if self.first_process(&loaded).is_none() {
            return Err(OciError::Ended.into());
        }
        self.causes.settle();
        let started = loaded.start();
        restore_self();
        started.map_err(|source| OciError::Start { causes: self.causes.take(), source: Box::new(source) }.into())
    }

    fn kill(&mut self, container: &str, signal: i32) -> Result<(), Failure> {
        // Not by libcontainer: it calls a container stopped as soon as any signal was sent.
        let loaded = self.load(container)?;
        let pid = self.first_process(&loaded).ok_or(OciError::Ended)?;
        let signal = if first_process::would_miss(pid, signal) { libc::SIGKILL } else { signal };
        Ok(agent_sys::signal::send(pid, signal).map_err(|source| OciError::Signal { signal, pid, source })?)
    }

    fn kill_all(&mut self, container: &str) -> Result<(), Failure> {
        if !self.state_dir(container).exists() {
            return Err(OciError::Unknown(container.to_owned()).into());
        }
        Ok(self.cgroup(container).kill().map_err(OciError::Cgroup)?)
    }

    fn delete(&mut self, container: &str) -> Result<(), Failure> {
        Ok(self.remove(container)?)
    }

    fn list(&mut self) -> Result<Vec<ContainerState>, Failure> {
        let state = |name: String| match self.load(&name) {
            Ok(loaded) => {
                let alive = self.first_process(&loaded).is_some();
                let status = match loaded.state.status {
                    ContainerStatus::Creating => "creating",
                    ContainerStatus::Created if alive => "created",
                    ContainerStatus::Running | ContainerStatus::Paused if alive => "running",
                    ContainerStatus::Created
                    | ContainerStatus::Running
                    | ContainerStatus::Paused
                    | ContainerStatus::Stopped => "stopped",
                };
                let pid = loaded.pid().map(|pid| pid.as_raw());
                ContainerState { container: name, pid, status: status.to_owned() }
            }
            Err(_) => ContainerState { container: name, pid: None, status: "stopped".to_owned() },
        };
        Ok(self.names()?.into_iter().map(state).collect())
    }
}

/// libcontainer alters the process it is called in.
fn restore_self() {
    if let Err(error) = nix::sys::prctl::set_dumpable(true) {
        warn!(%error, "not dumpable");
    }
    if let Err(error) = std::env::set_current_dir("/") {
        warn!(%error, "working directory not restored");
    }
}

/// A file a container writes to.
fn append_to(path: &str) -> Result<File, OciError> {
    crate::output_file::open(Path::new(path)).map_err(|source| OciError::Output { path: path.into(), source })
}
