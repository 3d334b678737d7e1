//! The agents' port: TLS 1.3 with certificates of the cluster, gRPC on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::link::join_server::JoinServer;
use api::link::link_server::LinkServer;
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, CertificateError, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::agents::LinkService;
use crate::ca::{Ca, Identity};
use crate::join::JoinService;
use crate::tcp;

/// A peer that does not finish its handshake is not worth waiting for.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes at once. Full: further connections wait in the kernel's queue.
const HANDSHAKES: usize = 256;
/// Dead peers are noticed within interval and timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// An inventory with every DIMM and PCI function of a large server, and hundreds of tasks, fits ten times.
const LONGEST_MESSAGE: usize = 16 << 20;
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
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Serves until `stop` becomes true, then until the connections end.
///
/// # Errors
/// Serving failed altogether.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    join: JoinService,
    link: LinkService,
    mut stop: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let (accepted, connections) = mpsc::channel(HANDSHAKES);
    let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), accepted, stop.clone()));
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .add_service(JoinServer::new(join).max_decoding_message_size(LONGEST_JOIN))
        .add_service(LinkServer::new(link).max_decoding_message_size(LONGEST_MESSAGE))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async {
            // An error means that whoever would stop us is gone: stop.
            drop(stop.wait_for(|stop| *stop).await);
        })
        .await;
    accepting.abort();
    served
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    accepted: mpsc::Sender<io::Result<TlsStream<TcpStream>>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        // Waiting for room first bounds the handshakes that run at once.
        let Ok(room) = accepted.clone().reserve_owned().await else { return };
        let (stream, remote) = tokio::select! {
            connection = tcp::accept(&listener) => connection,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(room.send(Ok(stream))),
                // The certificate of another cluster, an expired one, or no TLS at all: rustls says which.
                Ok(Err(error)) => tracing::warn!(%remote, %error, why = cause(&error), "TLS handshake refused"),
                Err(_) => tracing::warn!(%remote, "TLS handshake took too long"),
            }
        });
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
