//! GET, gone on with where it broke off when the server says that it is the same file.

use std::sync::Once;

use futures_util::StreamExt;
use reqwest::header::{ACCEPT_RANGES, ETAG, HeaderMap, IF_RANGE, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode, Url};

use super::progress::Sink;
use super::{FetchSettings, Trouble};
use crate::remote::{causes, certificates};

/// What servers see of us.
const USER_AGENT: &str = concat!("mesolith-agent/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 20;

/// Brings what is missing.
pub(super) async fn get(settings: &FetchSettings, url: &Url, sink: &mut Sink) -> Result<(), Trouble> {
    let client = client(settings, url)?;
    let mut request = client.get(url.clone());
    match &sink.tag {
        Some(tag) if sink.written() > 0 => {
            request = request.header(RANGE, format!("bytes={}-", sink.written())).header(IF_RANGE, tag);
        }
        Some(_) | None => sink.again()?,
    }
    let answer = request.send().await.map_err(|error| trouble(&error))?;
    let status = answer.status();
    if status == StatusCode::OK {
        // The whole of it, from its beginning.
        sink.again()?;
        sink.tag = tag(answer.headers());
    } else if status != StatusCode::PARTIAL_CONTENT {
        let reason = format!("the server says {status}");
        let passes = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY);
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            sink.again()?;
            return Err(Trouble::Passing(reason));
        }
        return Err(if passes { Trouble::Passing(reason) } else { Trouble::Lasting(reason) });
    }
    sink.expect(answer.content_length())?;
    let mut bytes = answer.bytes_stream();
    while let Some(piece) = bytes.next().await {
        sink.take(&piece.map_err(|error| trouble(&error))?)?;
    }
    Ok(())
}

/// Names the content for certain; weak ones may not.
fn tag(headers: &HeaderMap) -> Option<String> {
    let resumes = headers.get(ACCEPT_RANGES).is_none_or(|value| value != "none");
    let tag = headers.get(ETAG)?.to_str().ok()?;
    (resumes && tag.starts_with('"')).then(|| tag.to_owned())
}

fn client(settings: &FetchSettings, url: &Url) -> Result<Client, Trouble> {
    install_provider();
    let list = settings.host_authorities.as_ref().and_then(|path| std::fs::read(path).ok());
    let known = certificates(&settings.authorities, list.as_deref()).map_err(Trouble::Lasting)?;
    if known.is_empty() && url.scheme() == "https" {
        let reason = "this node has no list of certificate authorities".to_owned();
        return Err(Trouble::Lasting(reason));
    }
    let has_authorities = !known.is_empty();
    let redirects = Policy::custom(move |attempt| {
        let secure = |url: &Url| url.scheme() == "https";
        let from = attempt.previous().last().map(secure);
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("too many redirects")
        } else if from == Some(true) && !secure(attempt.url()) {
            attempt.error("a redirect from https to http")
        } else if secure(attempt.url()) && !has_authorities {
            attempt.error("a redirect to https, and this node has no list of certificate authorities")
        } else {
            attempt.follow()
        }
    });
    let roots: Result<Vec<Certificate>, _> = known.iter().map(|der| Certificate::from_der(der)).collect();
    Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(settings.patience.connect)
        .read_timeout(settings.patience.stall)
        .redirect(redirects)
        .tls_certs_only(roots.map_err(Trouble::lasting)?)
        // Without authorities there is no TLS, and nothing to check; the client would insist on some.
        .danger_accept_invalid_certs(!has_authorities)
        .build()
        .map_err(|error| Trouble::Lasting(causes(&error)))
}

/// Two providers of cryptography may be compiled in; ours is named before anybody asks.
fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Already named is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn trouble(error: &reqwest::Error) -> Trouble {
    let said = causes(error);
    // A certificate does not become better by waiting.
    if error.is_builder() || error.is_redirect() || said.contains("certificate") {
        Trouble::Lasting(said)
    } else {
        Trouble::Passing(said)
    }
}
