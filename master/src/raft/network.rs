//! How the consensus library reaches other replicas: its questions as frames of [`peers`](crate::peers).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::in_flight::InFlight;
use super::room::Room;
use super::types::{Member, Types};
use crate::peers::{CallError, Connection, Dialer};

/// A member that has not answered for so long is not counted on.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// The kinds of frames replicas exchange. Never reused for something else.
pub(super) mod kind {
    pub(in crate::raft) const APPEND: u8 = 1;
    pub(in crate::raft) const SNAPSHOT: u8 = 2;
    pub(in crate::raft) const VOTE: u8 = 3;
    pub(in crate::raft) const WOULD_VOTE: u8 = 4;
}

/// Why a peer does not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("cannot reach replica {target} at {address}")]
    Connect { target: u64, address: String, source: std::io::Error },
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("replica {0}'s answer makes no sense to this version")]
    Answer(u64, #[source] rmp_serde::decode::Error),
    #[error("our disk is full: we do not lead")]
    NoRoom,
    #[error("cannot write the question")]
    Question(#[from] rmp_serde::encode::Error),
}

impl PeerError {
    /// In the library's words: where nobody is, it asks less often.
    fn rpc<E: std::error::Error>(self) -> RPCError<u64, Member, E> {
        match &self {
            Self::Connect { .. } | Self::NoRoom => RPCError::Unreachable(Unreachable::new(&self)),
            Self::Call(_) | Self::Answer(..) | Self::Question(_) => RPCError::Network(NetworkError::new(&self)),
        }
    }
}

/// The ways to the other replicas.
#[derive(Clone)]
pub(super) struct Peers {
    dialer: Dialer,
    /// For votes: kept open, so that an election need not wait for a handshake.
    control: Arc<Mutex<BTreeMap<u64, (String, Connection)>>>,
    /// When each took entries from us last.
    heard: Arc<Mutex<BTreeMap<u64, Instant>>>,
    in_flight: InFlight,
    room: Room,
}

impl Peers {
    pub(super) fn new(dialer: Dialer, in_flight: InFlight, room: Room) -> Self {
        Self { dialer, control: Arc::default(), heard: Arc::default(), in_flight, room }
    }

    /// Did it answer us as a leader a moment ago?
    pub(super) fn answers(&self, target: u64) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&target).is_some_and(|at| at.elapsed() < ANSWERS_WITHIN)
    }

    /// A leader that finds no room on its disk does not hold the others up.
    fn leads_no_more(&self) -> bool {
        #[cfg(feature = "planted-bugs")]
        if master_core::planted::is(master_core::planted::Bug::FullDiskLeads) {
            return false;
        }
        self.room.is_wanting()
    }

    async fn connect(&self, target: u64, address: &str) -> Result<Connection, PeerError> {
        let opened = self.dialer.connect(address).await;
        opened.map_err(|source| PeerError::Connect { target, address: address.to_owned(), source })
    }

    /// The kept connection, or a new one.
    async fn control(&self, target: u64, address: &str) -> Result<Connection, PeerError> {
        let kept = {
            let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
            control
                .get(&target)
                .filter(|(known, open)| known == address && !open.is_broken())
                .map(|(_, open)| open.clone())
        };
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let opened = self.connect(target, address).await?;
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.insert(target, (address.to_owned(), opened.clone()));
        Ok(opened)
    }

    /// Asks on the kept connection.
    pub(super) async fn ask<A: DeserializeOwned>(
        &self,
        target: u64,
        address: &str,
        kind: u8,
        question: &impl Serialize,
    ) -> Result<A, PeerError> {
        let question = addressed(rmp_serde::to_vec_named(question)?, target);
        let answer = self.control(target, address).await?.call(kind, question).await?;
        rmp_serde::from_slice(&answer).map_err(|error| PeerError::Answer(target, error))
    }
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, member: &Member) -> Peer {
        Peer { peers: self.clone(), target, address: member.addr.clone(), connection: None }
    }
}

/// The way to one replica, for one of the library's tasks.
pub(super) struct Peer {
    peers: Peers,
    target: u64,
    address: String,
    /// For entries and snapshots: they must not wait for one another.
    connection: Option<Connection>,
}

impl Peer {
    async fn ask<A: DeserializeOwned>(&mut self, kind: u8, question: Vec<u8>) -> Result<A, PeerError> {
        let connection = match self.connection.take().filter(|open| !open.is_broken()) {
            Some(open) => open,
            None => self.peers.connect(self.target, &self.address).await?,
        };
        self.connection = Some(connection.clone());
        let answer = connection.call(kind, question).await?;
        rmp_serde::from_slice(&answer).map_err(|error| PeerError::Answer(self.target, error))
    }
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        if self.peers.leads_no_more() {
            // Its end is how the others hear of it.
            self.connection = None;
            return Err(PeerError::NoRoom.rpc());
        }
        rpc.leader_commit = self.peers.in_flight.told(rpc.leader_commit);
        let question = rmp_serde::to_vec_named(&rpc).map_err(|error| PeerError::from(error).rpc())?;
        let answer = self.ask(kind::APPEND, addressed(question, self.target)).await.map_err(PeerError::rpc)?;
        self.peers.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(self.target, Instant::now());
        Ok(answer)
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RPCError<u64, Member, RaftError<u64, InstallSnapshotError>>> {
        if self.peers.leads_no_more() {
            self.connection = None;
            return Err(PeerError::NoRoom.rpc());
        }
        let question = encode_piece(rpc, self.target).map_err(|error| PeerError::from(error).rpc())?;
        let answer: Result<InstallSnapshotResponse<u64>, InstallSnapshotError> =
            self.ask(kind::SNAPSHOT, question).await.map_err(PeerError::rpc)?;
        answer.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, RaftError::APIError(error))))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        self.peers.ask(self.target, &self.address, kind::VOTE, &rpc).await.map_err(PeerError::rpc)
    }
}

/// A question for one replica. Another one may be where it was, with another disk: what that one has, or promises, must
/// not count for it.
fn addressed(mut question: Vec<u8>, target: u64) -> Vec<u8> {
    question.extend_from_slice(&target.to_le_bytes());
    question
}

/// The reverse, and whom it is for: earlier versions do not say.
pub(super) fn read_addressed<T: DeserializeOwned>(content: &[u8]) -> Result<(T, Option<u64>), String> {
    let mut rest = content;
    let question = rmp_serde::from_read(&mut rest).map_err(|error| error.to_string())?;
    Ok((question, rest.first_chunk().map(|target| u64::from_le_bytes(*target))))
}

/// A piece of a snapshot: its bytes behind everything else, for as numbers in a list they would be twice as many.
fn encode_piece(mut rpc: InstallSnapshotRequest<Types>, target: u64) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let data = std::mem::take(&mut rpc.data);
    let head = addressed(rmp_serde::to_vec_named(&rpc)?, target);
    let mut whole = (head.len() as u64).to_le_bytes().to_vec();
    whole.extend_from_slice(&head);
    whole.extend_from_slice(&data);
    Ok(whole)
}

/// The reverse, and whom it is for; none if it is not one.
pub(super) fn decode_piece(mut content: Bytes) -> Option<(InstallSnapshotRequest<Types>, Option<u64>)> {
    let length = usize::try_from(content.try_get_u64_le().ok()?).ok()?;
    if length > content.len() {
        return None;
    }
    let head = content.split_to(length);
    let (mut piece, target): (InstallSnapshotRequest<Types>, _) = read_addressed(&head).ok()?;
    piece.data = content.to_vec();
    Some((piece, target))
}
