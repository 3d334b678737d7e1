//! Listening sockets and what is set on accepted ones.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{Backlog, setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};

use crate::config::Listen;

/// A peer that neither acknowledges nor takes data for so long is gone.
const USER_TIMEOUT_MS: u32 = 60_000;

/// Opens a listener, wherever it comes from.
///
/// # Errors
/// Says what cannot be opened and why.
pub(crate) fn listen(flag: &str, listen: Listen) -> Result<TcpListener, String> {
    let listener = match listen {
        Listen::Address(address) => std::net::TcpListener::bind(address)
            .map_err(|error| format!("--{flag}: cannot listen on {address}: {error}"))?,
        Listen::StandardInput => {
            let socket = io::stdin().as_fd().try_clone_to_owned();
            let socket = socket.map_err(|error| format!("--{flag} fd:0: standard input is closed: {error}"))?;
            std::net::TcpListener::from(socket)
        }
        Listen::Systemd => listenfd::ListenFd::from_env()
            .take_tcp_listener(0)
            .map_err(|error| format!("LISTEN_FDS: {error}"))?
            .ok_or("LISTEN_FDS is set, but descriptor 3 is not a TCP listener")?,
    };
    let ready = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    let ready = ready.map_err(|error| format!("--{flag}: cannot use the listening socket: {error}"))?;
    ready.local_addr().map_err(|error| format!("--{flag}: not a listening TCP socket: {error}"))?;
    // After a failover everybody comes at once. A full queue drops connections, and the kernel of each peer waits for
    // seconds before it tries again.
    if let Err(error) = nix::sys::socket::listen(&ready, Backlog::MAXCONN) {
        tracing::warn!(flag, %error, "the queue of waiting connections stays short");
    }
    Ok(ready)
}

/// The next connection, set up. Errors of accepting (descriptors run out) are logged and waited out.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                if let Err(error) = set_options(&stream) {
                    tracing::debug!(%remote, %error, "socket options not set");
                }
                return (stream, remote);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A peer that went without a word is noticed: asked after `idle`, given up after `gone`.
pub(crate) fn notice_death(stream: &TcpStream, idle: Duration, gone: Duration) {
    let between = u32::try_from(gone.saturating_sub(idle).as_secs() / 3).unwrap_or(1).max(1);
    let set = setsockopt(stream, sockopt::TcpKeepIdle, &u32::try_from(idle.as_secs()).unwrap_or(u32::MAX))
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepInterval, &between))
        .and_then(|()| {
            let gone = u32::try_from(gone.as_millis()).unwrap_or(u32::MAX);
            setsockopt(stream, sockopt::TcpUserTimeout, &gone)
        });
    if let Err(error) = set {
        tracing::debug!(%error, "socket options not set");
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &30)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &10)?;
    setsockopt(stream, sockopt::TcpKeepCount, &3)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?;
    Ok(())
}
