//! A small HTTP client for the master: a connection a request, a deadline on each, redirects to the leader followed.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, LOCATION};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::advice::{advise, advise_because};

/// Until an answer begins, connecting included.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Until a whole answer that is not a stream has come.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// Larger answers are refused.
const MAX_BODY: usize = 256 << 20;
/// Leaders may change while we look for one; they do not change this often.
const MAX_REDIRECTS: usize = 3;

/// What is spoken with a master.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Where a master answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) scheme: Scheme,
}

impl Address {
    /// Reads `host`, `host:port`, `[::1]:port` or a URL; `usual` is the scheme where there is none.
    pub(crate) fn parse(text: &str, usual: Scheme) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some((scheme, _)) => return Err(format!("`{scheme}` is neither http nor https")),
            None => (usual, text),
        };
        let rest = rest.trim_end_matches('/');
        if rest.contains('/') || rest.contains('@') {
            return Err("it must be a host and a port alone".to_owned());
        }
        let colons = rest.matches(':').count();
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if colons == 1 || host.ends_with(']') => (host, Some(port)),
            Some(_) | None => (rest, None),
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| format!("`{port}` is no port"))?,
            None => 5050,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("the host is missing".to_owned());
        }
        Ok(Self { host, port, scheme })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// For people.
    pub(crate) fn url(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}", self.authority())
    }
}

/// A request, kept so that it can be sent again to the leader.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Ask {
    /// GET.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// POST.
    pub(crate) fn post(path: impl Into<String>, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { method: Method::POST, path: path.into(), headers, body: body.into() }
    }

    /// DELETE.
    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// Any method with a body.
    pub(crate) fn with_body(
        method: Method,
        path: impl Into<String>,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Self {
        Self { method, ..Self::post(path, content_type, body) }
    }

    /// With another header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// The cluster's master, through whichever of its addresses leads.
#[derive(Clone)]
pub(crate) struct Master {
    shared: Arc<Shared>,
}

struct Shared {
    address: Mutex<Address>,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<String>,
}

impl Master {
    pub(crate) fn new(address: Address, tls: Option<Arc<ClientConfig>>, authorization: Option<String>) -> Self {
        Self { shared: Arc::new(Shared { address: Mutex::new(address), tls, authorization }) }
    }

    /// Where the last answer came from.
    pub(crate) fn address(&self) -> Address {
        self.shared.address.lock().expect("nothing panics while holding the address").clone()
    }

    /// Sends and waits for the head of the answer; redirects are followed and remembered. Any status is an answer.
    pub(crate) async fn send(&self, ask: Ask) -> Result<Response<Incoming>> {
        for _ in 0..=MAX_REDIRECTS {
            let address = self.address();
            let answer = match timeout(ANSWER_WITHIN, self.send_to(&address, &ask)).await {
                Ok(answer) => answer?,
                Err(_) => {
                    return Err(advise(
                        format!(
                            "the master at {} has not answered within {} s",
                            address.url(),
                            ANSWER_WITHIN.as_secs()
                        ),
                        "look at its log; `curl` its /health; or name another master with --master",
                    ));
                }
            };
            if answer.status() != StatusCode::TEMPORARY_REDIRECT {
                return Ok(answer);
            }
            let leader = answer
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok())
                .and_then(|to| leader(to, address.scheme));
            let Some(leader) = leader else { bail!("{} redirects, but not to a master", address.url()) };
            *self.shared.address.lock().expect("nothing panics while holding the address") = leader;
        }
        Err(advise("the masters redirect to each other", "wait until they have elected a leader, then try again"))
    }

    async fn send_to(&self, address: &Address, ask: &Ask) -> Result<Response<Incoming>> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|error| {
            let next = if error.kind() == io::ErrorKind::ConnectionRefused {
                "start it (`./dev up` starts a whole rack), or name another with --master HOST:PORT or MESOLITH_MASTER"
            } else {
                "check the address given with --master or MESOLITH_MASTER"
            };
            advise_because(error.into(), format!("cannot reach the master at {}", address.url()), next)
        })?;
        stream.set_nodelay(true).ok(); // only a matter of latency
        let mut request =
            Request::builder().method(ask.method.clone()).uri(&ask.path).header(HOST, address.authority());
        if let Some(authorization) = &self.shared.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if !ask.headers.iter().any(|(name, _)| *name == "accept") {
            request = request.header(ACCEPT, "application/json, */*");
        }
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(ask.body.clone())).context("the request cannot be written as HTTP")?;
        if address.scheme == Scheme::Http {
            return exchange(TokioIo::new(stream), request).await.map_err(|error| spoke_wrongly(error, address));
        }
        let tls = self.shared.tls.clone().context("a leader on https needs --ca FILE")?;
        let name =
            ServerName::try_from(address.host.clone()).with_context(|| format!("`{}` is no host", address.host))?;
        let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| {
            advise_because(
                error.into(),
                format!("no TLS with the master at {}", address.url()),
                "check that --ca is this cluster's ca.pem, and that the master serves https (not --insecure-api)",
            )
        })?;
        exchange(TokioIo::new(stream), request).await.map_err(|error| spoke_wrongly(error, address))
    }

    /// Sends, and gives the body's stream if the status is 2xx.
    pub(crate) async fn open(&self, ask: Ask) -> Result<Response<Incoming>> {
        let path = ask.path.clone();
        let answer = self.send(ask).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = read(answer).await.unwrap_or_default();
        Err(self.refused(status, &path, String::from_utf8_lossy(&text).trim()))
    }

    /// Leaves HTTP for another protocol.
    pub(crate) async fn upgrade(&self, path: &str, protocol: &str) -> Result<TokioIo<Upgraded>> {
        let ask = Ask { method: Method::POST, ..Ask::get(path) };
        let answer = self.send(ask.header("connection", "upgrade").header("upgrade", protocol)).await?;
        let status = answer.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let text = read(answer).await.unwrap_or_default();
            return Err(self.refused(status, path, String::from_utf8_lossy(&text).trim()));
        }
        let upgraded = timeout(ANSWER_WITHIN, hyper::upgrade::on(answer)).await.context("the deadline passed")?;
        Ok(TokioIo::new(upgraded.with_context(|| format!("{} does not go on", self.address().url()))?))
    }

    /// The whole body of a 2xx answer.
    pub(crate) async fn fetch(&self, ask: Ask) -> Result<Bytes> {
        let path = ask.path.clone();
        let answer = self.open(ask).await?;
        read(answer).await.with_context(|| format!("the answer to {path} from {} broke off", self.address().url()))
    }

    /// GET, as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = self.fetch(Ask::get(path)).await?;
        serde_json::from_slice(&body).map_err(|error| {
            advise_because(
                error.into(),
                format!("{}{path} is not what a Mesolith master sends", self.address().url()),
                "check that --master names a master, of a version this program knows (`mesolith version`)",
            )
        })
    }

    fn refused(&self, status: StatusCode, path: &str, text: &str) -> anyhow::Error {
        let url = self.address().url();
        if status == StatusCode::UNAUTHORIZED {
            return advise(
                format!("the master at {url} wants to know who you are"),
                "give its api-credentials.json with --credentials FILE or MESOLITH_CREDENTIALS",
            );
        }
        let reason = if text.is_empty() { status.canonical_reason().unwrap_or("no reason given") } else { text };
        anyhow::Error::new(Refused { status: status.as_u16(), reason: reason.to_owned(), path: path.to_owned() })
    }
}

/// The master answered, but not with what was asked.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) reason: String,
    path: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "the master refuses {path} ({}): {}", self.status, self.reason)
    }
}

impl std::error::Error for Refused {}

/// `//host:port/path` or a whole URL.
fn leader(location: &str, ours: Scheme) -> Option<Address> {
    let (scheme, rest) = match location.split_once("//") {
        Some(("", rest)) => (ours, rest),
        Some(("http:", rest)) => (Scheme::Http, rest),
        Some(("https:", rest)) => (Scheme::Https, rest),
        Some(_) | None => return None,
    };
    Address::parse(rest.split(['/', '?']).next()?, scheme).ok()
}

fn spoke_wrongly(error: hyper::Error, address: &Address) -> anyhow::Error {
    let next = if address.scheme == Scheme::Https {
        "check that --master names a Mesolith master"
    } else {
        "if the master serves https, give --ca FILE or write --master https://HOST:PORT"
    };
    advise_because(error.into(), format!("no HTTP answer from {}", address.url()), next)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    // Ends by itself when the answer has been read or dropped.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await
}

async fn read(answer: Response<Incoming>) -> Result<Bytes> {
    let body = Limited::new(answer.into_body(), MAX_BODY).collect();
    let collected = timeout(BODY_WITHIN, body).await.context("the deadline passed")?;
    Ok(collected.map_err(|error| anyhow::anyhow!(error))?.to_bytes())
}

/// One segment of a path: everything but unreserved characters is escaped.
pub(crate) fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
