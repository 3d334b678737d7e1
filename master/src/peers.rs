//! How masters speak to each other: numbered frames over mutual TLS, on the port of the agents' link.
//!
//! A connection is told apart from an agent's by its protocol name (ALPN). A frame is
//! `length u32 | number u64 | kind u8 | content`, little-endian; an answer has its question's number. What the
//! kinds mean is not known here.

mod client;
mod server;
mod trust;

pub use client::{CallError, Connection, Dial, Dialer, Question};
pub use server::{Caller, Service, serve};

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What masters call their protocol when TLS is set up.
pub const ALPN: &[u8] = b"mesolith-masters/1";
/// In the certificate of every master, whatever its address is.
pub const SERVER_NAME: &str = "mesolith-master";
/// A piece of a snapshot and a batch of entries are smaller.
const LONGEST_FRAME: usize = 64 << 20;
/// What somebody without a certificate may say: a token and a few names.
const LONGEST_OF_STRANGER: usize = 64 << 10;
const HEAD: usize = 9;
/// The kind of an answer that is an error's text.
const FAILED: u8 = 0xff;
/// The kind of any other answer.
const ANSWER: u8 = 0;

#[derive(Debug)]
struct Frame {
    number: u64,
    kind: u8,
    content: Bytes,
}

async fn read(stream: &mut (impl AsyncRead + Unpin), longest: usize) -> io::Result<Option<Frame>> {
    let length = match stream.read_u32_le().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if !(HEAD..=longest).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let mut bytes = BytesMut::zeroed(length);
    stream.read_exact(&mut bytes).await?;
    let (number, kind) = (bytes.get_u64_le(), bytes.get_u8());
    Ok(Some(Frame { number, kind, content: bytes.freeze() }))
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), number: u64, kind: u8, content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len() + HEAD).ok().filter(|length| *length as usize <= LONGEST_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a message between masters is too long"))?;
    let mut head = Vec::with_capacity(4 + HEAD + content.len());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&number.to_le_bytes());
    head.push(kind);
    head.extend_from_slice(content);
    stream.write_all(&head).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests;
