//! A connection without a certificate: it may ask to join, and must do so soon.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::address_shares::Share;

/// An accepted connection.
pub(super) struct Guarded {
    stream: TlsStream<TcpStream>,
    stranger: Option<Stranger>,
}

/// What a connection without a certificate holds.
pub(super) struct Stranger {
    ends: Pin<Box<Sleep>>,
    _room: OwnedSemaphorePermit,
    _share: Option<Share>,
}

impl Stranger {
    /// It ends after `life`, and gives `room` and `share` back.
    pub(super) fn new(life: Duration, room: OwnedSemaphorePermit, share: Option<Share>) -> Self {
        Self { ends: Box::pin(tokio::time::sleep(life)), _room: room, _share: share }
    }
}

impl Guarded {
    /// Wraps a connection.
    pub(super) fn new(stream: TlsStream<TcpStream>, stranger: Option<Stranger>) -> Self {
        Self { stream, stranger }
    }
}

impl Connected for Guarded {
    type ConnectInfo = <TlsStream<TcpStream> as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(stranger) = &mut self.stranger
            && stranger.ends.as_mut().poll(cx).is_ready()
        {
            let why = "a connection without a certificate lasted too long";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
