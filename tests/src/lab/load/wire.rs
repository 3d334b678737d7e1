//! HTTP/1.1 as a scheduler library speaks it: one connection for the event stream, one for calls, which are pipelined.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Larger events are refused: offers of 50,000 agents come near it.
const MAX_RECORD: usize = 256 << 20;

/// The master closes connections that idle: one that did for so long is replaced before it is used.
const IDLE: Duration = Duration::from_secs(3);

/// A connection that calls are sent on.
pub(super) struct Calls {
    address: String,
    stream: TcpStream,
    used: Instant,
    head: String,
    out: Vec<u8>,
    received: Vec<u8>,
}

impl Calls {
    /// `more` is sent with every call: header lines, each with its line end.
    pub(super) async fn connect(address: &str, more: &str) -> Result<Self> {
        let stream = open(address).await?;
        let head = format!("POST /api/v1/scheduler HTTP/1.1\r\nHost: {address}\r\n{more}Content-Length: ");
        let address = address.to_owned();
        Ok(Self { address, stream, used: Instant::now(), head, out: Vec::new(), received: Vec::new() })
    }

    /// Adds a call to what [`flush`](Self::flush) sends.
    pub(super) fn push(&mut self, body: &[u8]) {
        self.out.extend_from_slice(self.head.as_bytes());
        self.out.extend_from_slice(body.len().to_string().as_bytes());
        self.out.extend_from_slice(b"\r\n\r\n");
        self.out.extend_from_slice(body);
    }

    /// Sends what was pushed and waits for so many answers, which must be 200 or 202.
    pub(super) async fn flush(&mut self, calls: usize) -> Result<()> {
        if self.used.elapsed() > IDLE {
            self.stream = open(&self.address).await?;
        }
        self.stream.write_all(&self.out).await.context("cannot send calls")?;
        self.out.clear();
        for _ in 0..calls {
            self.answer().await?;
        }
        self.used = Instant::now();
        Ok(())
    }

    async fn answer(&mut self) -> Result<()> {
        let end = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                break end;
            }
            let count = self.stream.read_buf(&mut self.received).await?;
            ensure!(count > 0, "the master closed the connection");
        };
        let head = std::str::from_utf8(&self.received[..end])?;
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let length = head.lines().filter_map(|line| line.split_once(':'));
        let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.next_back().map_or(Ok(0), |(_, value)| value.trim().parse())?;
        while self.received.len() < end + 4 + length {
            let count = self.stream.read_buf(&mut self.received).await?;
            ensure!(count > 0, "the master closed the connection");
        }
        let body = String::from_utf8_lossy(&self.received[end + 4..end + 4 + length]).into_owned();
        self.received.drain(..end + 4 + length);
        ensure!(matches!(status.as_str(), "200" | "202"), "a call was answered {status} {body}");
        Ok(())
    }
}

/// The event stream of a subscription.
pub(super) struct Events {
    stream: TcpStream,
    received: Vec<u8>,
    /// Chunk contents, in which records lie.
    plain: Vec<u8>,
    /// How much of `plain` was given out.
    taken: usize,
    /// Of the current chunk: bytes still to come.
    left: usize,
    /// From the answer.
    pub(super) stream_id: String,
}

impl Events {
    /// Sends SUBSCRIBE and reads the answer's head.
    pub(super) async fn subscribe(address: &str, media_type: &str, body: &[u8]) -> Result<Self> {
        let mut stream = open(address).await?;
        let head = format!(
            "POST /api/v1/scheduler HTTP/1.1\r\nHost: {address}\r\nContent-Type: {media_type}\r\nAccept: {media_type}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await?;
        let mut received = Vec::with_capacity(64 << 10);
        let end = loop {
            if let Some(end) = find(&received, b"\r\n\r\n") {
                break end;
            }
            ensure!(stream.read_buf(&mut received).await? > 0, "the master closed the connection");
        };
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        if !head.lines().next().unwrap_or_default().contains(" 200") {
            let rest = String::from_utf8_lossy(&received[end + 4..]).into_owned();
            bail!("SUBSCRIBE was answered {} {rest}", head.lines().next().unwrap_or_default());
        }
        let mut stream_id = head.lines().filter_map(|line| line.split_once(':'));
        let stream_id = stream_id.rfind(|(name, _)| name.eq_ignore_ascii_case("mesos-stream-id"));
        let stream_id = stream_id.context("the answer carries no Mesos-Stream-Id")?.1.trim().to_owned();
        received.drain(..end + 4);
        let mut events = Self { stream, received, plain: Vec::new(), taken: 0, left: 0, stream_id };
        events.dechunk()?;
        Ok(events)
    }

    /// The next record, whole.
    pub(super) async fn next(&mut self) -> Result<&[u8]> {
        let range = loop {
            if let Some(range) = self.record()? {
                break range;
            }
            self.plain.drain(..self.taken);
            self.taken = 0;
            self.received.reserve(64 << 10);
            ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the master closed the event stream");
            self.dechunk()?;
        };
        self.taken = range.end;
        Ok(&self.plain[range])
    }

    fn record(&self) -> Result<Option<std::ops::Range<usize>>> {
        let rest = &self.plain[self.taken..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let length: usize =
            std::str::from_utf8(&rest[..end])?.trim().parse().context("a record begins with its length")?;
        ensure!(length <= MAX_RECORD, "a record of {length} bytes");
        let begin = self.taken + end + 1;
        Ok((begin + length <= self.plain.len()).then(|| begin..begin + length))
    }

    /// Moves chunk contents from `received` to `plain`: RFC 9112 section 7.1.
    fn dechunk(&mut self) -> Result<()> {
        let mut at = 0;
        loop {
            if self.left > 0 {
                let count = self.left.min(self.received.len() - at);
                self.plain.extend_from_slice(&self.received[at..at + count]);
                at += count;
                self.left -= count;
            }
            // The line end behind a chunk counts as an empty line.
            let Some(end) = find(&self.received[at..], b"\r\n").filter(|_| self.left == 0) else { break };
            let line = std::str::from_utf8(&self.received[at..at + end])?.trim().to_owned();
            at += end + 2;
            if !line.is_empty() {
                self.left = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
                    .with_context(|| format!("`{line}` is no chunk size"))?;
                ensure!(self.left > 0, "the master ended the event stream");
            }
        }
        self.received.drain(..at);
        Ok(())
    }
}

async fn open(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
