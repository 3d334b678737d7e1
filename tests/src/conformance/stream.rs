//! A stream of events: its connection, and a thread that takes records off it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Larger records are refused.
const MAX_RECORD: usize = 64 << 20;

/// Records that wait to be taken; when it is full the reader stops, and the master sees a slow subscriber.
const WAITING: usize = 4096;

/// The head of an answer, and its body if it is no stream.
#[derive(Debug, Default)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Empty for a stream.
    pub body: Vec<u8>,
}

/// What a stream gives next.
#[derive(Debug)]
pub enum Next {
    /// One record.
    Record(Vec<u8>),
    /// The master ended it in good order, or closed the connection.
    End,
    /// Nothing came in time.
    Nothing,
}

/// An open stream. Dropping it closes the connection.
#[derive(Debug)]
pub struct EventStream {
    connection: TcpStream,
    records: Receiver<Result<Vec<u8>>>,
    /// A record looked at and put back.
    held: Option<Vec<u8>>,
}

impl EventStream {
    /// Sends a request; a 200 in chunks becomes a stream, anything else a body.
    pub fn open(address: &str, request: &[u8], timeout: Duration) -> Result<(Head, Option<Self>)> {
        let mut connection = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        connection.set_read_timeout(Some(timeout))?;
        connection.write_all(request).context("cannot send the request")?;
        let mut reader = BufReader::new(connection.try_clone()?);
        let mut head = read_head(&mut reader)?;
        let chunked = head.headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        if head.status == 200 && chunked {
            connection.set_read_timeout(None)?;
            let (sender, records) = sync_channel(WAITING);
            std::thread::spawn(move || {
                loop {
                    match chunk(&mut reader).and_then(|chunk| chunk.map(|bytes| one_record(&bytes)).transpose()) {
                        Ok(None) => return,
                        Ok(Some(record)) => {
                            if sender.send(Ok(record)).is_err() {
                                return;
                            }
                        }
                        Err(error) => {
                            // The receiver may be gone: it closed the connection.
                            let _ = sender.send(Err(error));
                            return;
                        }
                    }
                }
            });
            return Ok((head, Some(Self { connection, records, held: None })));
        }
        let length = head.headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.map_or(Ok(0), |(_, value)| value.parse()).context("bad Content-Length")?;
        ensure!(length <= MAX_RECORD, "a body of {length} bytes");
        head.body = vec![0; length];
        reader.read_exact(&mut head.body).context("the connection closed inside the body")?;
        Ok((head, None))
    }

    /// The next record before `deadline`.
    pub fn next(&mut self, deadline: Instant) -> Result<Next> {
        if let Some(record) = self.held.take() {
            return Ok(Next::Record(record));
        }
        match self.records.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(record) => record.map(Next::Record),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Nothing),
            Err(RecvTimeoutError::Disconnected) => Ok(Next::End),
        }
    }

    /// Puts back the record that came last.
    pub fn hold(&mut self, record: Vec<u8>) {
        self.held = Some(record);
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = self.connection.shutdown(Shutdown::Both);
    }
}

fn read_head(reader: &mut impl BufRead) -> Result<Head> {
    let mut head = Head::default();
    let mut line = String::new();
    ensure!(reader.read_line(&mut line)? > 0, "the master closed the connection");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    head.status = status.with_context(|| format!("bad status line `{}`", line.trim()))?;
    loop {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "the connection closed inside the headers");
        if line.trim().is_empty() {
            return Ok(head);
        }
        if let Some((name, value)) = line.split_once(':') {
            head.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

/// One chunk, RFC 9112 section 7.1; `None` at the end.
fn chunk(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let digits = line.trim();
    let size = usize::from_str_radix(digits, 16).with_context(|| format!("bad chunk size `{digits}`"))?;
    ensure!(size <= MAX_RECORD, "a chunk of {size} bytes");
    let mut bytes = vec![0; size + 2];
    reader.read_exact(&mut bytes)?;
    bytes.truncate(size);
    Ok((size > 0).then_some(bytes))
}

/// Clients exist that take one chunk for one record, so a chunk must be one: its length in decimal, a newline, so many bytes.
fn one_record(chunk: &[u8]) -> Result<Vec<u8>> {
    let Some(end) = chunk.iter().position(|byte| *byte == b'\n') else {
        bail!("a chunk without the length of a record")
    };
    let digits = String::from_utf8_lossy(&chunk[..end]).into_owned();
    let length: usize = digits.parse().with_context(|| format!("bad record length `{digits}`"))?;
    let record = &chunk[end + 1..];
    ensure!(record.len() == length, "a chunk holds {} bytes behind the length {length} of its record", record.len());
    Ok(record.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_one_record() {
        assert_eq!(one_record(b"2\n{}").unwrap(), b"{}");
        for wrong in [&b"2\n{}2\n{}"[..], b"2\n", b"{}", b"x\n{}"] {
            assert!(one_record(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
