//! From documents to HTTP answers: the length where it is known, JSONP, gzip, and Mesos's texts for
//! what is not answered.

use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::Stream;
use hyper::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::sync::watch;

use super::pool::{Found, Rendering};
use crate::http::text;

/// Mesos compresses from here on.
const SHORTEST_GZIP: usize = 1024;
/// What is longer is sent while it is written, in chunks.
const LONGEST_WHOLE: usize = 256 << 10;

/// How somebody wants a document.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// The name of a function to call with it.
    jsonp: Option<String>,
    gzip: bool,
    /// HEAD: everything but the body.
    head: bool,
}

impl Wish {
    /// From a request's head and its query's `jsonp`.
    pub(crate) fn new(method: &Method, headers: &HeaderMap, jsonp: Option<&str>) -> Self {
        Self { jsonp: jsonp.map(str::to_owned), gzip: accepts_gzip(headers), head: method == Method::HEAD }
    }

    fn kind(&self, kind: &'static str) -> HeaderValue {
        HeaderValue::from_static(if self.jsonp.is_some() { "text/javascript" } else { kind })
    }

    /// A small document, written already.
    pub(crate) fn answer(&self, document: Vec<u8>) -> Response {
        self.answer_as("application/json", document)
    }

    /// The same in another type.
    pub(crate) fn answer_as(&self, kind: &'static str, document: Vec<u8>) -> Response {
        let document = match &self.jsonp {
            Some(function) => [function.as_bytes(), b"(", &document, b")"].concat(),
            None => document,
        };
        if self.gzip && document.len() >= SHORTEST_GZIP {
            let mut encoder = GzEncoder::new(Vec::with_capacity(document.len() / 4), Compression::fast());
            if encoder.write_all(&document).is_ok()
                && let Ok(compressed) = encoder.finish()
            {
                let mut response = self.whole(kind, compressed);
                response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                return response;
            }
        }
        self.whole(kind, document)
    }

    fn whole(&self, kind: &'static str, bytes: Vec<u8>) -> Response {
        let length = HeaderValue::from(bytes.len());
        let mut response = Response::new(if self.head { Body::empty() } else { Body::from(bytes) });
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(CONTENT_TYPE, self.kind(kind));
        response
    }

    /// A document that is being written.
    pub(crate) async fn answer_rendering(&self, kind: &'static str, rendering: Arc<Rendering>) -> Response {
        let mut progress = rendering.progress();
        while rendering.size().is_none() && rendering.written() < LONGEST_WHOLE && !rendering.has_failed() {
            if progress.changed().await.is_err() {
                break;
            }
        }
        if rendering.has_failed() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "writing the answer failed");
        }
        match rendering.size() {
            Some(size) if size <= LONGEST_WHOLE => {
                let mut document = Vec::with_capacity(size);
                let mut at = 0;
                while let Found::Piece(piece) = rendering.at(at) {
                    document.extend_from_slice(&piece);
                    at += 1;
                }
                self.answer_as(kind, document)
            }
            size => self.stream(kind, rendering, size),
        }
    }

    fn stream(&self, kind: &'static str, rendering: Arc<Rendering>, size: Option<usize>) -> Response {
        let progress = rendering.progress();
        let source = Pieces { rendering, at: 0, progress: Box::pin(next(progress)) };
        let mut response = if self.head {
            Response::new(Body::empty())
        } else {
            let encoder = self.gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
            let [before, after] = match &self.jsonp {
                Some(function) => [Some(Bytes::from(format!("{function}("))), Some(Bytes::from_static(b")"))],
                None => [None, None],
            };
            Response::new(Body::from_stream(Sending { source, before, after, encoder, ended: false }))
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.kind(kind));
        if self.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        } else if let (Some(size), None) = (size, &self.jsonp) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        }
        response
    }
}

/// Waits for progress and gives the receiver back.
async fn next(mut progress: watch::Receiver<usize>) -> watch::Receiver<usize> {
    // The document is held by whoever waits, so its progress does not end before it does.
    drop(progress.changed().await);
    progress
}

type Progress = Pin<Box<dyn Future<Output = watch::Receiver<usize>> + Send>>;

/// The pieces of a document, as they are written.
struct Pieces {
    rendering: Arc<Rendering>,
    at: usize,
    progress: Progress,
}

impl Pieces {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, std::io::Error>>> {
        loop {
            match self.rendering.at(self.at) {
                Found::Piece(piece) => {
                    self.at += 1;
                    return Poll::Ready(Some(Ok(piece)));
                }
                Found::End => return Poll::Ready(None),
                Found::Failed => return Poll::Ready(Some(Err(std::io::Error::other("writing the answer failed")))),
                Found::NotYet => match self.progress.as_mut().poll(context) {
                    Poll::Ready(progress) => self.progress = Box::pin(next(progress)),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}

/// A document on its way: wrapped and compressed as it goes.
struct Sending {
    source: Pieces,
    before: Option<Bytes>,
    after: Option<Bytes>,
    encoder: Option<GzEncoder<Vec<u8>>>,
    ended: bool,
}

impl Sending {
    fn poll_plain(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, std::io::Error>>> {
        if let Some(before) = self.before.take() {
            return Poll::Ready(Some(Ok(before)));
        }
        match self.source.poll_piece(context) {
            Poll::Ready(None) => Poll::Ready(self.after.take().map(Ok)),
            piece @ (Poll::Ready(Some(_)) | Poll::Pending) => piece,
        }
    }
}

impl Stream for Sending {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            let next = std::task::ready!(this.poll_plain(context));
            let Some(encoder) = &mut this.encoder else { return Poll::Ready(next) };
            let piece = match next {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    this.ended = true;
                    return Poll::Ready(this.encoder.take().map(|encoder| encoder.finish().map(Bytes::from)));
                }
            };
            if let Err(error) = encoder.write_all(&piece) {
                return Poll::Ready(Some(Err(error)));
            }
            let compressed = std::mem::take(encoder.get_mut());
            if !compressed.is_empty() {
                return Poll::Ready(Some(Ok(Bytes::from(compressed))));
            }
        }
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|parameter| {
            let weight = parameter.strip_prefix("q=").and_then(|weight| weight.parse::<f64>().ok());
            weight.is_some_and(|weight| weight <= 0.0)
        });
        !refused && (name.eq_ignore_ascii_case("gzip") || name == "*")
    })
}

/// Mesos's answer to a method an endpoint does not have.
pub(crate) fn method_not_allowed(allowed: &[Method], method: &Method) -> Response {
    let quoted: Vec<String> = allowed.iter().map(|method| format!("'{method}'")).collect();
    let expecting = quoted.join(", ");
    let body = format!("405 Method Not Allowed. Expecting one of {{ {expecting} }}, but received '{method}'.");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, body);
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    if let Ok(value) = HeaderValue::from_str(&names.join(", ")) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// Mesos's answer to a path nobody has.
pub(crate) fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 Not Found.")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::AtomicUsize;

    use http_body_util::BodyExt;

    use super::*;
    use crate::http::render::pool::{Piece, Pool};

    fn wish(jsonp: Option<&str>, encoding: Option<&'static str>) -> Wish {
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        }
        Wish::new(&Method::GET, &headers, jsonp)
    }

    async fn body(response: Response) -> Vec<u8> {
        let gzip = response.headers().contains_key(CONTENT_ENCODING);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        if !gzip {
            return bytes.to_vec();
        }
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        plain
    }

    fn letter(number: usize) -> u8 {
        b'a' + u8::try_from(number % 26).unwrap()
    }

    fn document(pool: &Pool, pieces: usize) -> Arc<Rendering> {
        let plan =
            move || (0..pieces).map(|number| -> Piece { Box::new(move || vec![letter(number); 50_000]) }).collect();
        pool.render(Box::new(plan), Arc::new(AtomicUsize::new(0)))
    }

    #[tokio::test]
    async fn long_and_short_documents_arrive_whole_in_every_dress() {
        let pool = Pool::start();
        for pieces in [0, 1, 40] {
            let expected: Vec<u8> = (0..pieces).flat_map(|number| vec![letter(number); 50_000]).collect();
            for encoding in [None, Some("gzip, deflate"), Some("gzip;q=0")] {
                let plain = wish(None, encoding).answer_rendering("application/json", document(&pool, pieces)).await;
                assert_eq!(plain.headers()[CONTENT_TYPE], "application/json");
                let compressed = encoding == Some("gzip, deflate") && pieces > 0;
                assert_eq!(plain.headers().contains_key(CONTENT_ENCODING), compressed);
                assert_eq!(body(plain).await, expected);
                let called = wish(Some("cb"), encoding);
                let called = called.answer_rendering("application/json", document(&pool, pieces)).await;
                assert_eq!(called.headers()[CONTENT_TYPE], "text/javascript");
                assert_eq!(body(called).await, [b"cb(", &expected[..], b")"].concat());
            }
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let response = method_not_allowed(&[Method::GET, Method::PUT], &Method::POST);
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[ALLOW], "GET, PUT");
    }
}
