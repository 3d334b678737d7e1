//! GET as a check makes it: whose certificate it is does not matter, redirects within the task are followed.

use std::net::SocketAddr;
use std::sync::Arc;

use agent_core::checks::Seen;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::Look;
use crate::node::judged::Judged;

/// As many as browsers follow.
const MAX_REDIRECTS: usize = 20;

/// Something a task serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Page {
    pub(super) tls: bool,
    pub(super) at: SocketAddr,
    pub(super) path: String,
}

impl Look {
    /// The status of the last answer.
    pub(super) async fn ask(&self, mut page: Page) -> Seen {
        if !page.path.starts_with('/') {
            page.path.insert(0, '/');
        }
        let mut status = 0;
        for _ in 0..=MAX_REDIRECTS {
            let answer = match self.get(&page).await {
                Ok(answer) => answer,
                Err(reason) => return Seen::Failed(reason),
            };
            status = answer.status().as_u16();
            let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            match location.filter(|_| answer.status().is_redirection()).and_then(|to| redirected(&page, to)) {
                Some(next) => page = next,
                None => return Seen::Status(status),
            }
        }
        Seen::Failed(format!("it redirects more than {MAX_REDIRECTS} times, the last time with {status}"))
    }

    async fn get(&self, page: &Page) -> Result<Response<Incoming>, String> {
        let Page { tls, at, path } = page;
        let stream = self.connect(*at).await.map_err(|error| format!("cannot connect to {at}: {error}"))?;
        let request = Request::get(path)
            .header(HOST, at.to_string())
            .header(USER_AGENT, concat!("mesolith/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| format!("`{path}` is no path: {error}"))?;
        if !tls {
            return exchange(stream, request).await;
        }
        let name = ServerName::IpAddress(at.ip().into());
        let stream = TlsConnector::from(config()?).connect(name, stream).await;
        exchange(stream.map_err(|error| format!("no TLS with {at}: {error}"))?, request).await
    }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| format!("no answer: {}", crate::logging::chain(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Ends when the answer is dropped: nobody reads its body.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(failed)
}

/// Where a redirect leads, if that is the task again; of another host the redirect itself is the answer.
fn redirected(page: &Page, to: &str) -> Option<Page> {
    let uri: Uri = to.parse().ok()?;
    let mut path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Some(host) = uri.host() else {
        if !path.starts_with('/') {
            let here = page.path.split('?').next().and_then(|path| path.rsplit_once('/'));
            path = format!("{}/{path}", here.map_or("", |(directory, _)| directory));
        }
        return Some(Page { path, ..page.clone() });
    };
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        Some(_) | None => return None,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host != "localhost" && host.parse() != Ok(page.at.ip()) {
        return None;
    }
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Some(Page { tls, at: SocketAddr::new(page.at.ip(), port), path })
}

fn config() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Every certificate, as Mesos's checks do: the task is reached by its own loopback address, for which nobody has
    // one, and nothing secret is sent.
    let anybody = Judged::by(|_, _, _, _| Ok(()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anybody))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_followed_within_the_task_only() {
        let at: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let page = Page { tls: false, at, path: "/a/b?c".to_owned() };
        let next = |to: &str| redirected(&page, to).map(|page| format!("{} {}{}", page.tls, page.at, page.path));
        for (to, expected) in [
            ("/up?x=1", Some("false 127.0.0.1:8080/up?x=1")),
            ("http://localhost:9090/x", Some("false 127.0.0.1:9090/x")),
            ("https://127.0.0.1", Some("true 127.0.0.1:443/")),
            ("http://example.com/", None),
            ("ftp://127.0.0.1/", None),
            ("http://[::1]/", None),
        ] {
            assert_eq!(next(to).as_deref(), expected, "{to}");
        }
    }
}
