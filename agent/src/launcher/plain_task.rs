//! A task without isolation, from its parent's fork to its exec.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid, execve, geteuid, setgid, setgroups, setsid, setuid};
use oci_spec::runtime::{Spec, User};

use super::plain::START_FIFO;
use crate::arguments::PlainTask;

/// Where the search goes without a PATH.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a shell answers when it cannot execute something.
const CANNOT_EXECUTE: u8 = 127;

/// Starts the task's process, prints its number, and ends, so that whoever reaps orphans inherits it.
pub(crate) fn run_parent(task: &PlainTask) -> ExitCode {
    match spawn(task) {
        Ok(pid) => {
            println!("{pid}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn spawn(task: &PlainTask) -> anyhow::Result<u32> {
    let append =
        |path: &Path| crate::output_file::open(path).with_context(|| format!("cannot open {}", path.display()));
    // Left to the reaper of orphans on purpose.
    #[allow(clippy::zombie_processes)]
    let child = Command::new("/proc/self/exe")
        .arg("plain-task")
        .args([Path::new("--bundle"), &task.bundle, Path::new("--state"), &task.state])
        .args([Path::new("--stdout"), &task.stdout, Path::new("--stderr"), &task.stderr])
        .stdin(Stdio::null())
        .stdout(append(&task.stdout)?)
        .stderr(append(&task.stderr)?)
        .spawn()
        .context("cannot start the task's process")?;
    Ok(child.id())
}

/// Waits for the word to start, then becomes the task. What goes wrong is told where the task's errors go.
pub(crate) fn run(task: &PlainTask) -> ExitCode {
    let Err(error) = become_task(task);
    eprintln!("{error:#}");
    ExitCode::from(CANNOT_EXECUTE)
}

fn become_task(task: &PlainTask) -> anyhow::Result<std::convert::Infallible> {
    setsid().context("cannot begin a session")?;
    let spec = Spec::load(task.bundle.join("config.json")).context("cannot read the specification")?;
    let spec = as_on_host(spec, &task.bundle);
    let process = spec.process().as_ref().context("the specification has no process")?;
    let arguments = process.args().clone().unwrap_or_default();
    let environment = process.env().clone().unwrap_or_default();
    let name = arguments.first().context("the specification names nothing to execute")?;
    wait_for_start(&task.state.join(START_FIFO))?;
    if geteuid().is_root() {
        become_user(process.user())?;
    }
    std::env::set_current_dir(process.cwd()).with_context(|| format!("cannot enter {}", process.cwd().display()))?;
    let to_c = |texts: &[String]| -> anyhow::Result<Vec<CString>> {
        texts.iter().map(|text| CString::new(text.as_str()).context("a NUL in an argument or variable")).collect()
    };
    let (arguments_c, environment_c) = (to_c(&arguments)?, to_c(&environment)?);
    let path = environment.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut failed = nix::errno::Errno::ENOENT;
    for candidate in candidates(name, path) {
        let candidate = CString::new(candidate.into_os_string().into_encoded_bytes()).context("a NUL in a path")?;
        let Err(errno) = execve(&candidate, &arguments_c, &environment_c);
        if errno != nix::errno::Errno::ENOENT {
            failed = errno;
        }
    }
    bail!("cannot execute `{name}`: {}", failed.desc())
}

/// Drops what is root's.
pub(crate) fn become_user(user: &User) -> anyhow::Result<()> {
    setgroups(&[]).context("cannot drop groups")?;
    setgid(Gid::from_raw(user.gid())).context("cannot change the group")?;
    setuid(Uid::from_raw(user.uid())).context("cannot change the user")
}

fn wait_for_start(fifo: &Path) -> anyhow::Result<()> {
    let mut byte = [0];
    let mut fifo = File::open(fifo).context("cannot wait for the start")?;
    // The end without a byte: the launcher has removed us.
    fifo.read_exact(&mut byte).context("never started")
}

pub(crate) fn candidates(name: &str, path: &str) -> Vec<PathBuf> {
    if name.contains('/') {
        return vec![name.into()];
    }
    path.split(':').map(|directory| Path::new(directory).join(name)).collect()
}

/// A specification as it is without namespaces: the host's root, nothing mounted, and a working directory inside a
/// bound directory replaced by that directory's own path.
pub(crate) fn as_on_host(mut spec: Spec, bundle: &Path) -> Spec {
    let mounts = spec.mounts().clone().unwrap_or_default();
    let cwd = spec.process().as_ref().map(|process| process.cwd().clone()).unwrap_or_default();
    let bound = mounts.iter().filter(|mount| cwd.starts_with(mount.destination())).filter_map(|mount| {
        let source = mount.source().as_ref().filter(|source| source.is_absolute() || bundle.join(source).is_dir())?;
        let below = cwd.strip_prefix(mount.destination()).ok()?;
        let moved = bundle.join(source).join(below);
        moved.is_dir().then_some((mount.destination().components().count(), moved))
    });
    if let Some((_, moved)) = bound.max_by_key(|(depth, _)| *depth)
        && let Some(process) = spec.process_mut()
    {
        process.set_cwd(moved);
    }
    spec.set_mounts(None);
    if let Some(root) = spec.root_mut() {
        root.set_path("/".into());
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_is_found_where_it_is_on_the_host() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sandbox/below")).unwrap();
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"cwd": "/mnt/sandbox/below", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
            "mounts": [{"destination": "/mnt/sandbox", "source": dir.path().join("sandbox"), "options": ["bind"]}],
        }))
        .unwrap();
        let spec = as_on_host(spec, dir.path());
        assert_eq!(spec.process().as_ref().unwrap().cwd(), &dir.path().join("sandbox/below"));
        assert_eq!(spec.root().as_ref().unwrap().path(), Path::new("/"));
    }

    #[test]
    fn a_name_is_looked_for_in_the_path_and_a_path_is_not() {
        assert_eq!(candidates("a", "/x:/y"), [Path::new("/x/a"), Path::new("/y/a")]);
        assert_eq!(candidates("./a", "/x"), [Path::new("./a")]);
    }
}
