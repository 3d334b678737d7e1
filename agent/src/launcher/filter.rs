//! System call filters, translated once: nearly every container has the same one, and translating it takes longer than
//! everything else its first process does.
//!
//! libcontainer translates anew in every container, and as a list the kernel goes through from its beginning for each
//! call. Here it is a tree, and loaded just before the container's program is executed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_sys::seccomp::Program;
use libcontainer::workload::default::DefaultExecutor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator, LinuxSyscall, Spec};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::node::bundle::UNFILTERED;

/// So many different ones are kept; there are hardly ever two.
const KEPT: usize = 8;
/// libseccomp's word for a tree sorted by the numbers of calls.
const TREE: u32 = 2;

/// Why a filter is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilterError {
    #[error("cannot translate the system call filter")]
    Translate(#[from] libseccomp::error::SeccompError),
    #[error("cannot take the translated system call filter over")]
    Take(#[source] std::io::Error),
    #[error("the translated system call filter is none")]
    Unusable,
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

/// Those that were translated, the last used one first.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(LinuxSeccomp, Arc<Program>)>);

impl Filters {
    /// The filter of a specification that we load ourselves. `None` leaves it to libcontainer: there is none, its
    /// process may gain privileges and has to load it while it still has some, or it has something only libcontainer
    /// knows.
    pub(super) fn of(&mut self, spec: &Spec) -> Result<Option<Arc<Program>>, FilterError> {
        let sealed = spec.process().as_ref().and_then(|process| process.no_new_privileges()) == Some(true);
        let wanted = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let Some(wanted) = wanted.filter(|wanted| sealed && is_plain(wanted)) else { return Ok(None) };
        if let Some(at) = self.0.iter().position(|(known, _)| known == wanted) {
            let kept = self.0.remove(at);
            self.0.insert(0, kept);
        } else {
            self.0.truncate(KEPT - 1);
            self.0.insert(0, (wanted.clone(), Arc::new(translate(wanted)?)));
        }
        Ok(self.0.first().map(|(_, program)| Arc::clone(program)))
    }
}

/// Takes the filter out of a specification, and writes what is left below the bundle; the directory it is in.
pub(super) fn write_unfiltered(bundle: &Path, spec: &mut Spec) -> Result<PathBuf, FilterError> {
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(None);
    }
    let directory = bundle.join(UNFILTERED);
    let path = directory.join("config.json");
    let failed = |source| FilterError::Write { path: path.clone(), source };
    std::fs::create_dir_all(&directory).map_err(failed)?;
    let text = serde_json::to_vec(spec).map_err(|error| failed(error.into()))?;
    std::fs::write(&path, text).map_err(failed)?;
    Ok(directory)
}

/// Nothing but calls that are allowed or fail.
fn is_plain(filter: &LinuxSeccomp) -> bool {
    let plain = |action: LinuxSeccompAction| {
        matches!(action, LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActErrno)
    };
    let calls = filter.syscalls().iter().flatten();
    let native = |architecture: &Arch| *architecture == Arch::ScmpArchX86_64;
    filter.flags().as_ref().is_none_or(Vec::is_empty)
        && filter.listener_path().is_none()
        && filter.architectures().iter().flatten().all(native)
        && plain(filter.default_action())
        && calls.map(LinuxSyscall::action).all(plain)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    match action {
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        // What is not plain comes from nowhere; a call that fails is the careful answer.
        LinuxSeccompAction::ScmpActErrno
        | LinuxSeccompAction::ScmpActKill
        | LinuxSeccompAction::ScmpActKillProcess
        | LinuxSeccompAction::ScmpActKillThread
        | LinuxSeccompAction::ScmpActTrap
        | LinuxSeccompAction::ScmpActTrace
        | LinuxSeccompAction::ScmpActNotify
        | LinuxSeccompAction::ScmpActLog => {
            ScmpAction::Errno(errno.and_then(|errno| i32::try_from(errno).ok()).unwrap_or(libc::EPERM))
        }
    }
}

fn translate(filter: &LinuxSeccomp) -> Result<Program, FilterError> {
    let default = action(filter.default_action(), filter.default_errno_ret());
    let mut context = ScmpFilterContext::new(default)?;
    for _ in filter.architectures().iter().flatten() {
        context.add_arch(ScmpArch::X8664)?;
    }
    context.set_ctl_nnp(false)?;
    context.set_ctl_optimize(TREE)?;
    for call in filter.syscalls().iter().flatten() {
        let action = action(call.action(), call.errno_ret());
        if action == default {
            continue;
        }
        let arguments: Vec<ScmpArgCompare> = call.args().iter().flatten().map(compare).collect();
        for name in call.names() {
            // One this version of the library does not know is one no program calls by its name.
            let Ok(number) = ScmpSyscall::from_name(name) else { continue };
            if arguments.is_empty() {
                context.add_rule(action, number)?;
            } else {
                context.add_rule_conditional(action, number, &arguments)?;
            }
        }
    }
    let failed = |source: std::io::Error| FilterError::Take(source);
    let mut file = File::from(memfd_create("filter", MemfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?);
    context.export_bpf(&file)?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    file.read_to_end(&mut bytes).map_err(failed)?;
    Program::from_bytes(&bytes).ok_or(FilterError::Unusable)
}

fn compare(argument: &oci_spec::runtime::LinuxSeccompArg) -> ScmpArgCompare {
    let op = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        LinuxSeccompOperator::ScmpCmpMaskedEq => ScmpCompareOp::MaskedEqual(argument.value_two().unwrap_or(0)),
    };
    // The specification's order: the value compared with, or the mask and then the value.
    ScmpArgCompare::new(u32::try_from(argument.index()).unwrap_or(u32::MAX), op, argument.value())
}

/// Loads a filter, then executes.
#[derive(Clone)]
pub(super) struct Filtered(pub(super) Arc<Program>);

impl Executor for Filtered {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        self.0.load().map_err(|error| ExecutorError::Other(format!("cannot load the system call filter: {error}")))?;
        DefaultExecutor {}.exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        DefaultExecutor {}.validate(spec)
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        DefaultExecutor {}.setup_envs(envs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(sealed: &str, filter: serde_json::Value) -> Spec {
        serde_json::from_value(serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": sealed == "sealed"},
            "linux": {"seccomp": filter},
        }))
        .unwrap()
    }

    fn filter(action: &str) -> serde_json::Value {
        serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["read", "write", "no_such_call"], "action": action},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}]})
    }

    #[test]
    fn the_same_filter_is_translated_once() {
        let mut filters = Filters::default();
        let one = filters.of(&spec("sealed", filter("SCMP_ACT_ALLOW"))).unwrap().unwrap();
        let again = filters.of(&spec("sealed", filter("SCMP_ACT_ALLOW"))).unwrap().unwrap();
        assert!(Arc::ptr_eq(&one, &again) && one.len() > 8, "{one:?}");
        for number in 0..20 {
            let mut other = filter("SCMP_ACT_ALLOW");
            other["defaultErrnoRet"] = serde_json::json!(number);
            filters.of(&spec("sealed", other)).unwrap().unwrap();
        }
        assert_eq!(filters.0.len(), KEPT);
    }

    #[test]
    fn what_only_libcontainer_can_do_is_left_to_it() {
        let mut filters = Filters::default();
        assert!(filters.of(&spec("open", filter("SCMP_ACT_ALLOW"))).unwrap().is_none());
        assert!(filters.of(&spec("sealed", filter("SCMP_ACT_NOTIFY"))).unwrap().is_none());
        let mut other = filter("SCMP_ACT_ALLOW");
        other["architectures"] = serde_json::json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
        assert!(filters.of(&spec("sealed", other)).unwrap().is_none());
        assert!(filters.of(&spec("sealed", serde_json::Value::Null)).unwrap().is_none());
    }

    #[test]
    fn the_specification_without_its_filter_is_otherwise_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let with = spec("sealed", filter("SCMP_ACT_ALLOW"));
        let mut without = with.clone();
        let directory = write_unfiltered(dir.path(), &mut without).unwrap();
        assert_eq!(Spec::load(directory.join("config.json")).unwrap(), without);
        assert!(without.linux().as_ref().unwrap().seccomp().is_none());
        let filter = with.linux().as_ref().unwrap().seccomp().clone();
        without.linux_mut().as_mut().unwrap().set_seccomp(filter);
        assert_eq!(without, with);
    }
}
