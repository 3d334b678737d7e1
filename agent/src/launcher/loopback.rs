//! A container with a network of its own has a loopback interface that is down: programs expect it up.

use std::fs::File;
use std::io;

use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

/// Brings it up in the container of this process, if the container was given a new network. This process has one thread.
pub(super) fn bring_up(spec: &Spec, pid: i32) -> io::Result<()> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let is_new = namespaces
        .into_iter()
        .flatten()
        .any(|namespace| namespace.typ() == LinuxNamespaceType::Network && namespace.path().is_none());
    if !is_new {
        return Ok(());
    }
    let own = File::open("/proc/self/ns/net")?;
    let theirs = File::open(format!("/proc/{pid}/ns/net"))?;
    setns(&theirs, CloneFlags::CLONE_NEWNET)?;
    let result = agent_sys::loopback::bring_up();
    setns(&own, CloneFlags::CLONE_NEWNET)?;
    result
}
