//! Slow heads are cut, idle connections are not.
//!
//! The server library's own deadline for headers also ends connections that wait for their next
//! request; clients such as pymesos keep one connection for hours and lose a call when it is closed
//! under them. So the time is taken here: from the first byte of a head (or from connecting) until
//! the request is complete.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of one connection's reading.
#[derive(Clone, Debug)]
pub(super) struct Patience(Arc<Reading>);

#[derive(Debug)]
struct Reading {
    connected: Instant,
    /// Milliseconds after connecting, and one: 0 while no head is being read.
    head_since: AtomicU64,
    answering: AtomicBool,
}

impl Patience {
    /// The first head is due from now on.
    pub(super) fn new() -> Self {
        let reading =
            Reading { connected: Instant::now(), head_since: AtomicU64::new(1), answering: AtomicBool::new(false) };
        Self(Arc::new(reading))
    }

    /// Has a head been on its way for longer than `limit`?
    pub(super) fn is_over(&self, limit: Duration) -> bool {
        let since = self.0.head_since.load(Ordering::Relaxed);
        since > 0 && self.0.connected.elapsed() + Duration::from_millis(1) > limit + Duration::from_millis(since)
    }

    /// The head is complete; until the returned value is dropped the request is being answered.
    pub(super) fn answer(&self) -> Answering {
        self.0.answering.store(true, Ordering::Relaxed);
        self.0.head_since.store(0, Ordering::Relaxed);
        Answering(self.clone())
    }

    fn bytes_came(&self) {
        if !self.0.answering.load(Ordering::Relaxed) {
            let now = u64::try_from(self.0.connected.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
            // Only the first byte of a head starts its time.
            let _started_before = self.0.head_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// See [`Patience::answer`].
#[derive(Debug)]
pub(super) struct Answering(Patience);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.answering.store(false, Ordering::Relaxed);
    }
}

/// A body that is being answered with until it is dropped.
pub(super) struct AnsweringBody {
    body: Body,
    _answering: Answering,
}

impl AnsweringBody {
    /// Keeps `answering` as long as the body.
    pub(super) fn new(body: Body, answering: Answering) -> Self {
        Self { body, _answering: answering }
    }
}

impl HttpBody for AnsweringBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that tells when bytes come.
pub(super) struct Watched<S> {
    stream: S,
    patience: Patience,
}

impl<S> Watched<S> {
    /// Watches `stream`.
    pub(super) fn new(stream: S, patience: Patience) -> Self {
        Self { stream, patience }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.patience.bytes_came();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
