//! The node's door: port 5051, where executors find the agent on the loopback, and where Mesos's tools find Mesos's agent if
//! the operator has opened it (`mesolith.agent_api`). Who comes from elsewhere shows the master's credentials; executors
//! are heard on the loopback only.

pub(crate) mod access;
mod documents;
mod files;
mod legacy;
mod messages;
mod metrics;
mod nested;
mod operator;
pub(crate) mod past;
pub(crate) mod picture;
mod session;
pub(crate) mod wish;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::ContainerId;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use super::events::{Event, Events};
use super::executor_api;
use access::{Ask, Realm, Refusal, Rights, Visitor};
use nested::AllNested;
use picture::Picture;
use wish::Wish;

/// Connections of this node's own at once. More wait until one ends: executors keep one or two each.
const OWN_CONNECTIONS: usize = 512;
/// Connections from elsewhere. One more is closed: they must not keep executors out.
const CONNECTIONS: usize = 256;
/// Pictures that are made and rendered at once; others wait.
const PICTURES: usize = 4;
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// The driver is busy for longer only when something is wrong.
const ANSWER: Duration = Duration::from_secs(30);
/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// An answer, at once or piece by piece.
pub(crate) type Page = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// To whom the door is open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Opening {
    /// To executors of this node.
    Executors,
    /// To whoever the master knows.
    Everybody,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Somebody the master knows, or wants to be one.
    Visitor(Visitor),
    /// An executor of this node, by its secret.
    Executor(ContainerId),
}

/// What every request needs.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    events: Events,
    opening: Opening,
    nested: AllNested,
    pictures: Arc<Semaphore>,
}

/// Listens on `wanted`, or on any port that is free; everywhere only if the door is open to everybody.
pub(crate) async fn bind(wanted: Option<u16>, opening: Opening) -> std::io::Result<(TcpListener, SocketAddr)> {
    let address = match opening {
        Opening::Executors => Ipv4Addr::LOCALHOST,
        Opening::Everybody => Ipv4Addr::UNSPECIFIED,
    };
    let listener = TcpListener::bind((address, wanted.unwrap_or(0))).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, door: Door) {
    let (own, others) = (Arc::new(Semaphore::new(OWN_CONNECTIONS)), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let room = if from.ip().is_loopback() { &own } else { &others };
        // The one that is refused finds its connection closed, and comes again.
        let Ok(permit) = Arc::clone(room).try_acquire_owned() else { continue };
        let door = door.clone();
        tokio::spawn(async move {
            let _permit = permit;
            connection(stream, from, door).await;
        });
    }
}

async fn connection(stream: TcpStream, from: SocketAddr, door: Door) {
    let service = hyper::service::service_fn(move |request| {
        let door = door.clone();
        async move { Ok::<_, Infallible>(door.answer(request, from.ip()).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        tracing::debug!(%error, "a connection ended");
    }
}

impl Door {
    pub(crate) fn new(events: Events, opening: Opening) -> Self {
        Self { events, opening, nested: AllNested::default(), pictures: Arc::new(Semaphore::new(PICTURES)) }
    }

    async fn answer(&self, request: Request<Incoming>, from: IpAddr) -> Page {
        // The agent's process has a name of its own in Mesos: `slave(1)`.
        let whole = request.uri().path().to_owned();
        let path = ["/slave(1)", "/slave%281%29"].iter().find_map(|prefix| whole.strip_prefix(prefix));
        let path = path.unwrap_or(&whole).to_owned();
        let local = from.is_loopback();
        match path.as_str() {
            "/api/v1/executor" if local => return executor_api::answer(&self.events, request).await,
            "/health" => return text(StatusCode::OK, ""),
            _ => {}
        }
        let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if local && path == "/state" && shown.is_empty() {
            return self.own_state().await;
        }
        let visitor = Visitor { authorization: shown.to_owned(), address: from };
        let token = shown.strip_prefix("Bearer ").map(str::trim).map(str::to_owned).filter(|_| local);
        let caller = match token {
            Some(token) => match self.wish(|reply| Wish::Token { token, reply }).await.flatten() {
                Some(container) => Caller::Executor(container),
                None => Caller::Visitor(visitor),
            },
            None => Caller::Visitor(visitor),
        };
        if self.opening == Opening::Executors && matches!(caller, Caller::Visitor(_)) {
            return not_found();
        }
        if path == "/api/v1" || path.starts_with("/api/v1/") {
            return operator::answer(self, &caller, request).await.unwrap_or_else(|page| page);
        }
        if is_from_elsewhere(request.headers()) {
            return text(StatusCode::FORBIDDEN, "A page of another site may not ask for this\n");
        }
        legacy::answer(self, &caller, &path, &request).await.unwrap_or_else(|page| page)
    }

    /// For executors that want to know where they are (Toil's ends without it): the node, and nothing of any framework.
    async fn own_state(&self) -> Page {
        // Anybody here may ask, so it is not the whole picture that is made, nor does it take the place of one.
        self.wish(Wish::Node).await.map_or_else(recovering, |node| json(&documents::node(&node), None))
    }

    /// Asks the driver.
    async fn wish<T>(&self, wish: impl FnOnce(oneshot::Sender<T>) -> Wish) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.events.send(Event::Door(wish(reply))).await.ok()?;
        tokio::time::timeout(ANSWER, answer).await.ok()?.ok()
    }

    // The error is the answer itself, here and below; it is built once per refused request.
    #[allow(clippy::result_large_err)]
    async fn picture(&self) -> Result<Box<Picture>, Page> {
        let _turn = self.pictures.acquire().await;
        let picture = self.wish(Wish::Picture).await;
        picture.ok_or_else(recovering)
    }

    /// What the caller may of these. An executor may nothing by itself.
    #[allow(clippy::result_large_err)]
    async fn rights(&self, caller: &Caller, realm: Realm, asks: impl IntoIterator<Item = Ask>) -> Result<Rights, Page> {
        match caller {
            Caller::Executor(_) => Err(forbidden()),
            Caller::Visitor(visitor) => {
                access::ask(&self.events, visitor, realm, asks).await.map_err(|refusal| refused(refusal, realm))
            }
        }
    }
}

fn refused(refusal: Refusal, realm: Realm) -> Page {
    match refusal {
        Refusal::Status(401, _) => {
            let mut page = text(StatusCode::UNAUTHORIZED, "401 Unauthorized.");
            if let Ok(challenge) = HeaderValue::from_str(&format!("Basic realm=\"{}\"", realm.name())) {
                page.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            page
        }
        Refusal::Status(429, wait) => {
            let mut page = text(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many wrong credentials came from this address: try again later\n",
            );
            page.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait + 1));
            page
        }
        Refusal::Status(..) => forbidden(),
        Refusal::NoMaster => {
            text(StatusCode::SERVICE_UNAVAILABLE, "The node cannot ask its master who you are: try again\n")
        }
    }
}

/// Did a browser send this on behalf of another site's page? It would add the operator's password by itself.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if matches!(header("sec-fetch-site"), Some(site) if site != "same-origin" && site != "none") {
        return true;
    }
    let Some(origin) = header(ORIGIN.as_str()) else { return false };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_none() || host != header(HOST.as_str())
}

fn whole(body: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, Infallible> {
    Full::new(body.into()).boxed_unsync()
}

fn text(status: StatusCode, body: impl Into<String>) -> Page {
    let mut response = Response::new(whole(body.into()));
    *response.status_mut() = status;
    if status != StatusCode::OK && status != StatusCode::ACCEPTED {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    response
}

fn recovering() -> Page {
    text(StatusCode::SERVICE_UNAVAILABLE, "Agent has not finished recovery")
}

fn not_found() -> Page {
    text(StatusCode::NOT_FOUND, "404 Not Found.")
}

fn forbidden() -> Page {
    text(StatusCode::FORBIDDEN, "403 Forbidden.")
}

fn json(value: &serde_json::Value, jsonp: Option<&str>) -> Page {
    let (body, kind) = match jsonp {
        Some(callback) => (format!("{callback}({value});"), "text/javascript"),
        None => (value.to_string(), "application/json"),
    };
    let mut response = Response::new(whole(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
