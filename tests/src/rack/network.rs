//! The private network: a network namespace of the serving process, so it vanishes with the process.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Everything of a hosted rack.
pub(super) const LOOPBACK: &str = "127.0.0.1";

/// The framework port of `./dev up` unless told otherwise.
const USUAL_PORT: u16 = 5050;

/// Binds the framework API on the host's loopback. Must come before [`enter`]: a socket stays in the network in which it
/// was made, so the master, which lives in the private one, can serve the host through it.
pub(super) fn listen(port: Option<u16>) -> Result<TcpListener> {
    let address = (Ipv4Addr::LOCALHOST, port.unwrap_or(0));
    TcpListener::bind(address).with_context(|| format!("cannot listen on 127.0.0.1:{}", address.1))
}

/// Port 5050 if nobody has it, else any free one.
#[must_use]
pub fn usual_or_free_port() -> Option<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL_PORT)).ok().map(|_| USUAL_PORT)
}

/// Moves this process to a network of its own; the caller has one thread. Without root it first becomes root of a user
/// namespace, which is enough for a bridge and taps inside.
pub(super) fn enter() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        return unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace");
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).context(
        "cannot make a user namespace with a network of its own; run as root, or allow unprivileged user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)",
    )?;
    fs::write("/proc/self/setgroups", "deny").context("cannot deny setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("cannot map the user id")?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("cannot map the group id")
}

/// The address of a master, counted from 1: the first one's is the rack's own.
pub(super) fn master_address(number: usize) -> String {
    format!("10.77.0.{number}")
}

/// Makes loopback, the bridge with the addresses of so many masters, and one tap for each name.
pub(super) fn build(taps: &[String], masters: usize) -> Result<()> {
    let mut batch = String::from(
        "link set lo up\n\
         link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         addr add 10.77.0.1/24 dev br0\n\
         addr add fd77::1/64 dev br0 nodad\n\
         link set br0 up\n",
    );
    for number in 2..=masters {
        batch.push_str(&format!("addr add {}/24 dev br0\n", master_address(number)));
    }
    for tap in taps {
        batch.push_str(&format!("tuntap add {tap} mode tap\nlink set {tap} master br0\nlink set {tap} up\n"));
    }
    for line in batch.lines() {
        ip(line)?;
    }
    Ok(())
}

fn ip(line: &str) -> Result<()> {
    let output = Command::new("ip").args(line.split(' ')).output().context("cannot start `ip` (package iproute2)")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if line.starts_with("tuntap") {
        bail!("`ip {line}` failed: {said}; taps need read and write access to /dev/net/tun, or root");
    }
    bail!("`ip {line}` failed: {said}")
}
