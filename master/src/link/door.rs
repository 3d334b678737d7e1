//! Who comes in: masters that are known at once, agents when it is their turn, strangers a few at a time.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::guarded::{Guarded, Stranger};
use crate::address_shares::{AddressShares, Share};
use crate::address_turns::AddressTurns;
use crate::ca::{self, Role};
use crate::cluster::Masters;
use crate::{peers, tcp};

/// A peer that does not finish its handshake is not worth waiting for.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes of agents at once. Full: they wait for their turn.
const HANDSHAKES: usize = 256;
/// For it to come.
const TURN_DEADLINE: Duration = Duration::from_secs(30);
/// A machine that says nothing is asked after so long, by the kernel: twenty thousand sessions that are silent cost
/// nothing else.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// One that does not answer is gone after so long.
const GONE: Duration = Duration::from_secs(15);
/// Handshakes of one address at once. More: they wait for one another, thousands of agents may be behind it.
const HANDSHAKES_PER_ADDRESS: usize = 64;
/// Handshakes at once of those who say that they are masters, and come from where no master has come from yet; in all,
/// and of one address. More: they wait, and after a while are dropped.
const CLAIMANTS: usize = 8;
const CLAIMANTS_PER_ADDRESS: usize = 2;
/// A master answers within milliseconds.
const CLAIMANT_DEADLINE: Duration = Duration::from_secs(2);
/// Addresses of masters that are remembered. More: those before are forgotten.
const MASTERS_REMEMBERED: usize = 64;
/// Connections without a certificate at once, in all and of one address. More: dropped.
const STRANGERS: usize = 2048;
const STRANGERS_PER_ADDRESS: usize = 128;
/// Joining takes a second; what is left of a connection without a certificate then is of no use.
const STRANGER_LIFE: Duration = Duration::from_secs(60);
/// Connections that wait for their handshake. Full: further ones wait in the kernel's queue.
const WAITING: usize = 8192;
/// Of one address. More: dropped, and whoever means well tries again.
const WAITING_PER_ADDRESS: usize = 1024;
/// The first message of TLS, in which the protocol's name is; a master's has a third of it.
const HELLO: usize = 1500;

/// See the module.
#[derive(Clone)]
pub(super) struct Door {
    acceptor: TlsAcceptor,
    masters: Masters,
    accepted: mpsc::Sender<io::Result<Guarded>>,
    /// Where agents are served.
    agents: Handle,
    stop: watch::Receiver<bool>,
    rooms: Arc<Semaphore>,
    turns: AddressTurns,
    claims: Claims,
    strangers: Strangers,
}

impl Door {
    pub(super) fn new(
        acceptor: TlsAcceptor,
        masters: Masters,
        accepted: mpsc::Sender<io::Result<Guarded>>,
        agents: Handle,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let strangers =
            Strangers { room: Arc::new(Semaphore::new(STRANGERS)), shares: AddressShares::new(STRANGERS_PER_ADDRESS) };
        let (rooms, turns) = (Arc::new(Semaphore::new(HANDSHAKES)), AddressTurns::new(HANDSHAKES_PER_ADDRESS));
        Self { acceptor, masters, accepted, agents, stop, rooms, turns, claims: Claims::new(), strangers }
    }

    /// Lets in whoever comes.
    pub(super) async fn open(self, listener: TcpListener) {
        let waits = AddressShares::new(WAITING_PER_ADDRESS);
        let waiting = Arc::new(Semaphore::new(WAITING));
        let (mut number, mut stop) = (0, self.stop.clone());
        loop {
            let Ok(place) = waiting.clone().acquire_owned().await else { return };
            let (stream, remote) = tokio::select! {
                connection = tcp::accept(&listener) => connection,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let Some(waits) = share(&waits, remote) else {
                tracing::warn!(%remote, "too many connections of one address wait; one is dropped");
                continue;
            };
            tcp::notice_death(&stream, KEEPALIVE, GONE);
            number += 1;
            let guest = Guest { remote, number, _place: place, _waits: waits };
            tokio::spawn(self.clone().greet(stream, guest));
        }
    }

    /// Masters are served here; everybody else with the agents.
    async fn greet(self, stream: TcpStream, guest: Guest) {
        let mut hello = [0; HELLO];
        let said = tokio::time::timeout(HANDSHAKE_DEADLINE, stream.peek(&mut hello)).await;
        let Ok(Ok(length)) = said else {
            tracing::debug!(remote = %guest.remote, "a connection on which nothing is said is dropped");
            return;
        };
        let is_master = hello[..length].windows(peers::ALPN.len()).any(|part| part == peers::ALPN);
        if is_master {
            if self.claims.is_known(guest.remote) {
                return self.admit(stream, guest, HANDSHAKE_DEADLINE).await;
            }
            // Anybody can say so: it is no way past the line for a crowd of strangers.
            let turn = tokio::time::timeout(HANDSHAKE_DEADLINE, self.claims.turn(guest.remote)).await;
            let Ok(_turn) = turn else {
                return tracing::warn!(remote = %guest.remote, "too many that call themselves masters; one is dropped");
            };
            return self.admit(stream, guest, CLAIMANT_DEADLINE).await;
        }
        let Ok(stream) = stream.into_std() else { return };
        let agents = self.agents.clone();
        agents.spawn(async move {
            let turn = async {
                let turn = self.turns.take(guest.remote.ip()).await;
                Some((turn, self.rooms.clone().acquire_owned().await.ok()?))
            };
            let Ok(Some(_turn)) = tokio::time::timeout(TURN_DEADLINE, turn).await else {
                return tracing::debug!(remote = %guest.remote, "a connection waited too long for its turn");
            };
            if let Ok(stream) = TcpStream::from_std(stream) {
                self.admit(stream, guest, HANDSHAKE_DEADLINE).await;
            }
        });
    }

    /// Returns when the handshake is done; what is said on the connection then is for a task of its own.
    async fn admit(mut self, stream: TcpStream, guest: Guest, deadline: Duration) {
        let done = tokio::time::timeout(deadline, self.acceptor.accept(stream)).await;
        let (remote, number) = (guest.remote, guest.number);
        drop(guest);
        let stream = match done {
            Ok(Ok(stream)) => stream,
            // The certificate of another cluster, an expired one, or no TLS at all: rustls says which.
            Ok(Err(error)) => {
                return tracing::warn!(%remote, %error, why = cause(&error), "TLS handshake refused");
            }
            Err(_) => return tracing::warn!(%remote, "TLS handshake took too long"),
        };
        let known = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
        let stranger = if known { None } else { self.strangers.admit(remote) };
        if !(known || stranger.is_some()) {
            return;
        }
        if stream.get_ref().1.alpn_protocol() == Some(peers::ALPN) {
            let subject = stream.get_ref().1.peer_certificates().and_then(|chain| ca::subject(chain.first()?));
            if subject.is_some_and(|(role, _)| role == Role::Master) {
                self.claims.remember(remote);
            }
            // The turn is over.
            tokio::spawn(async move {
                let _stranger = stranger;
                tokio::select! {
                    () = peers::serve(stream, remote, number, self.masters) => {}
                    _ = self.stop.wait_for(|stop| *stop) => {}
                }
            });
        } else {
            // The other end is gone when the master stops.
            drop(self.accepted.send(Ok(Guarded::new(stream, stranger))).await);
        }
    }
}

/// A connection, and what it holds until its handshake is done.
struct Guest {
    remote: SocketAddr,
    number: u64,
    _place: OwnedSemaphorePermit,
    _waits: Option<Share>,
}

/// A share for an address; this host's own programs are not bounded by theirs.
#[allow(clippy::option_option)]
fn share(shares: &AddressShares, remote: SocketAddr) -> Option<Option<Share>> {
    if remote.ip().to_canonical().is_loopback() { Some(None) } else { shares.take(remote.ip()).map(Some) }
}

/// Those who say that they are masters.
#[derive(Clone)]
struct Claims {
    room: Arc<Semaphore>,
    turns: AddressTurns,
    /// Where masters have come from, with a certificate.
    known: Arc<Mutex<BTreeSet<IpAddr>>>,
}

impl Claims {
    fn new() -> Self {
        let room = Arc::new(Semaphore::new(CLAIMANTS));
        Self { room, turns: AddressTurns::new(CLAIMANTS_PER_ADDRESS), known: Arc::default() }
    }

    /// Has a master come from there, or is it this host?
    fn is_known(&self, remote: SocketAddr) -> bool {
        let address = remote.ip().to_canonical();
        address.is_loopback() || self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    fn remember(&self, remote: SocketAddr) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MASTERS_REMEMBERED {
            known.clear();
        }
        known.insert(remote.ip().to_canonical());
    }

    async fn turn(&self, remote: SocketAddr) -> impl Sized + use<> {
        let turn = self.turns.take(remote.ip()).await;
        (turn, self.room.clone().acquire_owned().await)
    }
}

/// Connections without a certificate.
#[derive(Clone)]
struct Strangers {
    room: Arc<Semaphore>,
    shares: AddressShares,
}

impl Strangers {
    fn admit(&self, remote: SocketAddr) -> Option<Stranger> {
        let admitted = share(&self.shares, remote)
            .and_then(|share| Some(Stranger::new(STRANGER_LIFE, self.room.clone().try_acquire_owned().ok()?, share)));
        if admitted.is_none() {
            tracing::warn!(%remote, "too many connections without a certificate; one is dropped");
        }
        admitted
    }
}

/// In an operator's words: TLS has only a number for why the other end does not want us.
fn cause(error: &io::Error) -> &'static str {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return "the connection broke";
    };
    let outdated = |error: &CertificateError| {
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        matches!(error, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
    };
    if matches!(error, AlertReceived(AlertDescription::CertificateExpired)) {
        "the peer finds our certificate outside its validity: its clock is wrong, or ours"
    } else if matches!(error, AlertReceived(AlertDescription::CertificateUnknown | AlertDescription::UnknownCA)) {
        "the peer trusts another CA: compare its mesolith.ca= or --ca with ca_sha256 in ready.json"
    } else if matches!(error, InvalidCertificate(error) if outdated(error)) {
        "the peer's certificate is outside its validity: it has to join again"
    } else if matches!(error, InvalidCertificate(_)) {
        "the peer's certificate is not of this cluster: it has to join first"
    } else {
        "the peer does not speak this protocol"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_says_that_he_is_a_master_waits_until_one_has_come_from_there() {
        let (claims, moment) = (Claims::new(), Duration::from_millis(50));
        let remote: SocketAddr = "10.0.0.9:1000".parse().unwrap();
        assert!(!claims.is_known(remote) && claims.is_known("127.0.0.1:9".parse().unwrap()));
        let held = [claims.turn(remote).await, claims.turn(remote).await];
        assert!(tokio::time::timeout(moment, claims.turn(remote)).await.is_err(), "two of an address at once");
        // Others are not kept waiting by them.
        let other = tokio::time::timeout(moment, claims.turn("10.0.0.8:1".parse().unwrap())).await;
        assert!(other.is_ok());
        drop(held);
        assert!(tokio::time::timeout(moment, claims.turn(remote)).await.is_ok());
        claims.remember(remote);
        assert!(claims.is_known(remote) && !claims.is_known("10.0.0.8:1".parse().unwrap()));
    }
}
