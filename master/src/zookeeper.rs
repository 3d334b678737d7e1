//! The read side of ZooKeeper's client protocol, so that frameworks with a `zk://` URL find the leader.
//!
//! There is one directory, `/mesos`, with a node `json.info_<number>` for each master; the leader's has the lowest
//! number, as with Mesos. What is in it comes from the replicated log's members; nothing can be written.

mod session;
mod tree;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::address_shares::AddressShares;
use crate::raft::Replica;
use crate::tcp;
use tree::Tree;

/// Clients at once, in all and of one address. More: dropped.
const CLIENTS: usize = 4096;
const CLIENTS_PER_ADDRESS: usize = 1024;
/// How soon clients learn of another leader.
const LOOK: Duration = Duration::from_millis(50);

/// Serves until `stop` becomes true.
pub(crate) async fn serve(
    listener: TcpListener,
    replica: Replica,
    version: &'static str,
    mut stop: watch::Receiver<bool>,
) {
    let (changed, tree) = watch::channel(Arc::new(Tree::default()));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(follow(replica, version, changed));
    let (room, shares) = (Arc::new(Semaphore::new(CLIENTS)), AddressShares::new(CLIENTS_PER_ADDRESS));
    loop {
        while tasks.try_join_next().is_some() {}
        let (stream, remote) = tokio::select! {
            connection = tcp::accept(&listener) => connection,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let (Some(share), Ok(permit)) = (shares.take(remote.ip()), room.clone().try_acquire_owned()) else {
            tracing::warn!(%remote, "too many ZooKeeper clients; one is dropped");
            continue;
        };
        let tree = tree.clone();
        tasks.spawn(async move {
            let _permit = (share, permit);
            if let Err(error) = session::run(stream, tree).await {
                tracing::debug!(%remote, %error, "a ZooKeeper client's connection ended");
            }
        });
    }
}

/// Keeps the tree as the members are.
async fn follow(replica: Replica, version: &'static str, changed: watch::Sender<Arc<Tree>>) {
    let mut looks = tokio::time::interval(LOOK);
    let mut shown = None;
    loop {
        looks.tick().await;
        let standing = replica.standing();
        let places: Vec<_> = standing.members.iter().map(|seat| (seat.id, seat.member.http.clone())).collect();
        let now = (standing.leader, standing.leader.map(|_| standing.term), places);
        if shown.as_ref() != Some(&now) {
            let before = changed.borrow().zxid;
            changed.send_replace(Arc::new(Tree::of(&standing, version, before).await));
            shown = Some(now);
        }
    }
}
