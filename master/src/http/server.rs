//! Connections: accepted up to a bound and each address's share, maybe TLS, read with deadlines and within
//! what memory there is for bodies, drained at the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::body_budget::BodyBudget;
use super::patience::{AnsweringBody, Patience, Watched};
use crate::address_shares::AddressShares;
use crate::ca::{self, Holder, Role};
use crate::subscribers::Kill;
use crate::tcp;

/// A client that does not finish its handshake is not worth waiting for.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// From the first byte of a request (or from connecting) to the end of its headers.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// All of a request's headers together.
const LONGEST_HEAD: usize = 64 << 10;
const MOST_HEADERS: usize = 100;
/// Connections that get a refusal rather than nothing, beyond the bound; above that they are just closed.
const REFUSALS: usize = 64;
/// All bodies that are being read together. Full: further ones are refused with 503.
const BODY_BYTES: usize = 512 << 20;

/// What a handler may want to know of its connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Who asks.
    pub remote: SocketAddr,
    /// Ends the connection.
    pub kill: Kill,
    /// Whom the client's certificate was issued to, if it showed one that names a principal.
    pub certificate: Option<Arc<Holder>>,
}

/// How much of the machine the clients of one port may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. More are told that there are too many.
    pub connections: usize,
    /// Connections of one address at once.
    pub per_address: usize,
    /// For a request's headers. Connections that wait for their next request are kept: TCP's own
    /// keep-alive finds the dead ones.
    pub head: Duration,
}

impl Limits {
    /// So many connections, and the usual patience.
    #[must_use]
    pub const fn connections(connections: usize) -> Self {
        Self { connections, per_address: connections, head: HEAD_DEADLINE }
    }

    /// No more than so many of one address.
    #[must_use]
    pub const fn per_address(self, per_address: usize) -> Self {
        Self { per_address, ..self }
    }
}

/// Serves `app` until `stop` becomes true; then lets running requests end: whoever stops us bounds how long.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let room = Arc::new(Semaphore::new(limits.connections));
    let shares = AddressShares::new(limits.per_address);
    let budget = BodyBudget::new(BODY_BYTES);
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let (stream, remote) = tokio::select! {
            connection = tcp::accept(&listener) => connection,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let share = shares.take(remote.ip());
        let permit = share.and_then(|share| room.clone().try_acquire_owned().ok().map(|permit| (permit, share)));
        let Some(permit) = permit else {
            let (limit, per_address) = (limits.connections, limits.per_address);
            tracing::warn!(%remote, limit, per_address, "too many connections; one is refused");
            // Over TLS there is nothing to say before a handshake, and that is what we have no room for.
            if let (None, Ok(permit)) = (&acceptor, refusals.clone().try_acquire_owned()) {
                tasks.spawn(async move {
                    let _permit = permit;
                    refuse(stream).await;
                });
            }
            continue;
        };
        let (app, acceptor, stop) =
            (Shared { app: app.clone(), budget: budget.clone() }, acceptor.clone(), stop.clone());
        tasks.spawn(async move {
            let _permit = permit;
            match acceptor {
                None => connection(stream, remote, None, app, limits, stop).await,
                Some(acceptor) => match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let certificate = holder(&stream);
                        connection(stream, remote, certificate, app, limits, stop).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%remote, %error, "TLS handshake refused"),
                    Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
                },
            }
        });
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// What every connection has.
#[derive(Clone)]
struct Shared {
    app: Router,
    budget: BodyBudget,
}

/// A node's certificate is good for the link only: it is nobody here.
fn holder(stream: &tokio_rustls::server::TlsStream<TcpStream>) -> Option<Arc<Holder>> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    ca::holder(leaf).filter(|holder| holder.role == Role::Client).map(Arc::new)
}

async fn refuse(mut stream: TcpStream) {
    const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 52\r\nConnection: close\r\nRetry-After: 1\r\n\r\nthis master has too many connections: try again soon";
    let write = async {
        stream.write_all(REFUSAL).await?;
        stream.shutdown().await
    };
    // It is a courtesy: whether it arrives does not matter.
    drop(tokio::time::timeout(Duration::from_secs(1), write).await);
}

async fn connection<S>(
    stream: S,
    remote: SocketAddr,
    certificate: Option<Arc<Holder>>,
    app: Shared,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let kill = Kill::default();
    let about = Connection { remote, kill: kill.clone(), certificate };
    let patience = Patience::new();
    let stream = Watched::new(stream, patience.clone());
    let reading = patience.clone();
    let service =
        hyper::service::service_fn(move |request| answer(app.clone(), about.clone(), reading.clone(), request));
    let serving = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(LONGEST_HEAD)
        .max_headers(MOST_HEADERS)
        // Mesos writes `Mesos-Stream-Id`; a few old clients compare case.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let mut stopping = false;
    let mut look = tokio::time::interval(limits.head / 4);
    loop {
        tokio::select! {
            result = serving.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%remote, %error, "connection ended");
                }
                return;
            }
            () = kill.killed() => return,
            _ = look.tick() => if patience.is_over(limits.head) {
                tracing::debug!(%remote, "the request's headers took too long");
                return;
            },
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(
    app: Shared,
    about: Connection,
    patience: Patience,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    use hyper::service::Service;
    let answering = patience.answer();
    let mut request = request;
    if let Some(uri) = without_trailing_slash(request.uri()) {
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(about);
    let reading = app.budget.start();
    let request = request.map(|body| Body::new(reading.watch(body)));
    let response = TowerToHyperService::new(app.app).call(request).await?;
    let response = if reading.was_refused() { too_much() } else { response };
    Ok(response.map(|body| Body::new(AnsweringBody::new(body, answering))))
}

fn too_much() -> Response<Body> {
    let mut response =
        super::text(hyper::StatusCode::SERVICE_UNAVAILABLE, "this master is reading too much at once: try again soon");
    response.headers_mut().insert(hyper::header::RETRY_AFTER, hyper::header::HeaderValue::from_static("1"));
    response
}

/// Old tools ask for `/master/frameworks/`; Mesos answers as if there were no slash.
fn without_trailing_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/').filter(|path| !path.is_empty() && !path.ends_with('/'))?;
    let mut parts = uri.clone().into_parts();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    parts.path_and_query = format!("{path}{query}").parse().ok();
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn serving(limits: Limits) -> (SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let app = Router::new().route("/", get(|| async { "hello" }));
        tokio::spawn(serve(listener, None, app, limits, stopped));
        (address, stop)
    }

    async fn read(stream: &mut TcpStream) -> String {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut buffer));
        let count = read.await.unwrap().unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[tokio::test]
    async fn a_slow_head_is_cut_and_an_idle_connection_is_kept() {
        let (address, _stop) = serving(Limits { head: Duration::from_millis(200), ..Limits::connections(9) }).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n").await.unwrap();
        assert!(read(&mut idle).await.ends_with("hello"));
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        assert_eq!(read(&mut slow).await, "");
        assert_eq!(read(&mut silent).await, "");
        idle.write_all(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n").await.unwrap();
        assert!(read(&mut idle).await.ends_with("hello"));
        idle.write_all(b"G").await.unwrap();
        assert_eq!(read(&mut idle).await, "");
    }

    #[tokio::test]
    async fn one_connection_too_many_is_told_so() {
        let (address, _stop) = serving(Limits::connections(1)).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n").await.unwrap();
        assert!(read(&mut first).await.ends_with("hello"));
        let mut second = TcpStream::connect(address).await.unwrap();
        let refusal = read(&mut second).await;
        assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
        let (head, body) = refusal.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{refusal}");
    }

    #[tokio::test]
    async fn one_address_leaves_room_for_others() {
        let (address, _stop) = serving(Limits::connections(9).per_address(2)).await;
        let connect = async |from: &str| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n").await.unwrap();
            let answer = read(&mut stream).await;
            (stream, answer)
        };
        let first = connect("127.0.0.1").await;
        let second = connect("127.0.0.1").await;
        assert!(first.1.ends_with("hello") && second.1.ends_with("hello"));
        assert!(connect("127.0.0.1").await.1.starts_with("HTTP/1.1 503 "));
        assert!(connect("127.0.0.2").await.1.ends_with("hello"));
        drop(first);
        for _ in 0..100 {
            if connect("127.0.0.1").await.1.ends_with("hello") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("a share was not given back");
    }

    #[test]
    fn one_trailing_slash_does_not_matter() {
        let stripped = |text: &str| without_trailing_slash(&text.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(stripped("/master/frameworks/?a=b").as_deref(), Some("/master/frameworks?a=b"));
        assert_eq!(stripped("/"), None);
        assert_eq!(stripped("/state"), None);
    }
}
