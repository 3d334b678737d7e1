//! The agents' port: TLS 1.3 with certificates of the cluster, gRPC on it.
//!
//! Whoever has no certificate may join, and nothing else: such connections are bounded in number, in
//! all and for each address, and in time. A certificate that was revoked opens nothing.

mod guarded;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::link::join_server::JoinServer;
use api::link::link_server::LinkServer;
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, CertificateError, RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::address_shares::{AddressShares, Share};
use crate::agents::LinkService;
use crate::ca::{self, Ca, Identity};
use crate::cluster::Masters;
use crate::join::JoinService;
use crate::peers;
use crate::revocations::Revocations;
use crate::tcp;
use guarded::{Guarded, Stranger};

/// A peer that does not finish its handshake is not worth waiting for.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes at once. Full: further connections wait in the kernel's queue.
const HANDSHAKES: usize = 256;
/// A machine that says nothing is asked after so long, by the kernel: twenty thousand sessions that are silent cost
/// nothing else.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// One that does not answer is gone after so long.
const GONE: Duration = Duration::from_secs(15);
/// Handshakes of one address at once. More: the connection is dropped, and whoever means well tries again.
const HANDSHAKES_PER_ADDRESS: usize = 64;
/// Connections without a certificate at once, in all and of one address. More: dropped.
const STRANGERS: usize = 2048;
const STRANGERS_PER_ADDRESS: usize = 128;
/// Joining takes a second; what is left of a connection without a certificate then is of no use.
const STRANGER_LIFE: Duration = Duration::from_secs(60);
/// An inventory of the largest size and reports of ten thousand tasks.
const LONGEST_MESSAGE: usize = 8 << 20;
/// Headers of a request on the link are a path and a few names.
const LONGEST_HEADERS: u32 = 16 << 10;
/// Streams that were opened and reset again and are not yet cleaned up.
const RESET_STREAMS: usize = 32;
/// A request to join is small.
const LONGEST_JOIN: usize = 64 << 10;
/// Streams on one connection: a session, a join, and room.
const STREAMS_PER_CONNECTION: u32 = 16;

/// TLS as the link wants it: 1.3 only, a client certificate of our authority or none.
///
/// # Errors
/// The identity's key does not fit.
pub fn tls(ca: &Ca, identity: Identity) -> Result<ServerConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        // Join is served without; the Link service insists.
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), peers::ALPN.to_vec()];
    Ok(config)
}

/// Serves until `stop` becomes true, then until the connections end.
///
/// # Errors
/// Serving failed altogether.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    masters: Masters,
    join: JoinService,
    link: LinkService,
    revocations: Arc<Revocations>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let holds = move |request: Request<()>| unrevoked(&revocations, request);
    let link = LinkServer::new(link).max_decoding_message_size(LONGEST_MESSAGE);
    let join = JoinServer::new(join).max_decoding_message_size(LONGEST_JOIN);
    let (accepted, connections) = mpsc::channel(HANDSHAKES);
    let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), masters, accepted, stop.clone()));
    let served = tonic::transport::Server::builder()
        .http2_max_header_list_size(LONGEST_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .add_service(InterceptedService::new(join, holds.clone()))
        .add_service(InterceptedService::new(link, holds))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async {
            // An error means that whoever would stop us is gone: stop.
            drop(stop.wait_for(|stop| *stop).await);
        })
        .await;
    accepting.abort();
    served
}

/// Lets a request pass unless its connection's certificate was revoked. Asked for each request: a
/// connection may be older than the revocation.
// tonic's own type; it is built once per refused request.
#[allow(clippy::result_large_err)]
fn unrevoked(revocations: &Revocations, request: Request<()>) -> Result<Request<()>, Status> {
    let certificates = request.peer_certs();
    let holder = certificates.as_ref().and_then(|certificates| certificates.first()).and_then(|leaf| ca::holder(leaf));
    if let Some(holder) = holder
        && let Err(revoked) = revocations.check(&holder)
    {
        tracing::warn!(node = %holder.name, serial = %holder.serial, reason = %revoked, "a revoked certificate was shown");
        return Err(Status::permission_denied(revoked.to_string()));
    }
    Ok(request)
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    masters: Masters,
    accepted: mpsc::Sender<io::Result<Guarded>>,
    mut stop: watch::Receiver<bool>,
) {
    let handshakes = AddressShares::new(HANDSHAKES_PER_ADDRESS);
    let mut number = 0;
    let strangers =
        Strangers { room: Arc::new(Semaphore::new(STRANGERS)), shares: AddressShares::new(STRANGERS_PER_ADDRESS) };
    loop {
        // Waiting for room first bounds the handshakes that run at once.
        let Ok(room) = accepted.clone().reserve_owned().await else { return };
        let (stream, remote) = tokio::select! {
            connection = tcp::accept(&listener) => connection,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Some(handshake) = share(&handshakes, remote) else {
            tracing::warn!(%remote, "too many handshakes of one address; a connection is dropped");
            continue;
        };
        tcp::notice_death(&stream, KEEPALIVE, GONE);
        let (acceptor, strangers) = (acceptor.clone(), strangers.clone());
        number += 1;
        let (masters, number, mut stop) = (masters.clone(), number, stop.clone());
        tokio::spawn(async move {
            let done = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await;
            drop(handshake);
            match done {
                Ok(Ok(stream)) => {
                    let known = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
                    let stranger = if known { None } else { strangers.admit(remote) };
                    if !(known || stranger.is_some()) {
                        return;
                    }
                    if stream.get_ref().1.alpn_protocol() == Some(peers::ALPN) {
                        drop(room);
                        let _stranger = stranger;
                        tokio::select! {
                            () = peers::serve(stream, remote, number, masters) => {}
                            _ = stop.wait_for(|stop| *stop) => {}
                        }
                    } else {
                        drop(room.send(Ok(Guarded::new(stream, stranger))));
                    }
                }
                // The certificate of another cluster, an expired one, or no TLS at all: rustls says which.
                Ok(Err(error)) => tracing::warn!(%remote, %error, why = cause(&error), "TLS handshake refused"),
                Err(_) => tracing::warn!(%remote, "TLS handshake took too long"),
            }
        });
    }
}

/// A share for an address; this host's own programs are not bounded by theirs.
#[allow(clippy::option_option)]
fn share(shares: &AddressShares, remote: SocketAddr) -> Option<Option<Share>> {
    if remote.ip().to_canonical().is_loopback() { Some(None) } else { shares.take(remote.ip()).map(Some) }
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
