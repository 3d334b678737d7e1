//! The agents' port: TLS 1.3 with certificates of the cluster, gRPC on it.
//!
//! Whoever has no certificate may join, and nothing else: such connections are bounded in number, in
//! all and for each address, and in time. A certificate that was revoked opens nothing.

mod door;
mod guarded;

use std::io;
use std::sync::Arc;

use api::link::join_server::JoinServer;
use api::link::link_server::LinkServer;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::agents::LinkService;
use crate::authority::{Authority, Ends};
use crate::ca;
use crate::cluster::Masters;
use crate::join::JoinService;
use crate::peers;
use crate::revocations::Revocations;
use door::Door;

/// How much nicer than the rest of the master the agents' threads are.
const NICENESS: i32 = 5;
/// Connections that are open and not yet looked at.
const ACCEPTED: usize = 256;
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
/// The TLS library refuses its own settings.
pub fn tls(authority: &Arc<Authority>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Join is served without a certificate; the Link service insists.
    let ends = Arc::new(Ends(authority.clone()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(ends.clone())
        .with_cert_resolver(ends);
    // A session that is resumed is not looked at again.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
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
) -> Result<(), ServeError> {
    let holds = move |request: Request<()>| unrevoked(&revocations, request);
    let link = LinkServer::new(link).max_decoding_message_size(LONGEST_MESSAGE);
    let join = JoinServer::new(join).max_decoding_message_size(LONGEST_JOIN);
    let agents = AgentsRuntime::start().map_err(ServeError::Runtime)?;
    let (accepted, connections) = mpsc::channel(ACCEPTED);
    let door = Door::new(TlsAcceptor::from(Arc::new(tls)), masters, accepted, agents.handle(), stop.clone());
    let accepting = tokio::spawn(door.open(listener));
    let serving = tonic::transport::Server::builder()
        .http2_max_header_list_size(LONGEST_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS))
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .add_service(InterceptedService::new(join, holds.clone()))
        .add_service(InterceptedService::new(link, holds))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
            // An error means that whoever would stop us is gone: stop.
            drop(stop.wait_for(|stop| *stop).await);
        });
    let served = agents.handle().spawn(serving).await;
    accepting.abort();
    match served {
        Ok(served) => served.map_err(ServeError::Serve),
        Err(error) => Err(ServeError::Task(error)),
    }
}

/// Why the link ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No threads for it.
    #[error("cannot start threads for the agents")]
    Runtime(#[source] io::Error),
    /// gRPC.
    #[error("cannot serve agents")]
    Serve(#[source] tonic::transport::Error),
    /// A mistake of ours.
    #[error("the task that serves agents ended")]
    Task(#[source] tokio::task::JoinError),
}

/// Threads of their own for the agents, who may come by the thousand, and each wants a handshake first: masters must
/// hear each other meanwhile, or the leader is thought dead just when it has most to do.
struct AgentsRuntime(Option<tokio::runtime::Runtime>);

impl AgentsRuntime {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("agents")
            .on_thread_start(|| {
                // Linux counts it by thread. Refused only where it is allowed to be: then the threads are equals.
                let _nicer = rustix::process::nice(NICENESS);
            })
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().expect("the runtime is there until the drop").handle().clone()
    }
}

impl Drop for AgentsRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
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
