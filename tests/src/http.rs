//! A blocking HTTP/1.1 client, as much as the rack and its tests need: one request a connection, a deadline for all of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Larger answers are refused: nothing the rack asks for comes near it.
const MAX_BODY: usize = 64 << 20;

/// One answer, read to its end.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code, 200 when all is well.
    pub status: u16,
    /// Header names in lower case, in order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body, with chunks joined.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, whatever the status.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// This answer if its status is 2xx, an error that quotes the body if not.
    pub fn success(self) -> Result<Self> {
        ensure!((200..300).contains(&self.status), "HTTP {}: {}", self.status, self.text().trim());
        Ok(self)
    }
}

/// GET `http://host:port/path`. Any status is an answer; see [`Response::success`].
pub fn get(url: &str, timeout: Duration) -> Result<Response> {
    request("GET", url, &[], None, timeout)
}

/// POST a JSON text and read the answer to its end (not for streams that never end).
pub fn post_json(url: &str, body: &str, timeout: Duration) -> Result<Response> {
    request(
        "POST",
        url,
        &[("Content-Type", "application/json"), ("Accept", "application/json")],
        Some(body.as_bytes()),
        timeout,
    )
}

/// Any request; `headers` are sent beside Host, Connection and Content-Length.
pub fn request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
    timeout: Duration,
) -> Result<Response> {
    let deadline = Instant::now() + timeout;
    let (mut stream, host, path) = connect(url, timeout)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    stream.write_all(&bytes).with_context(|| format!("cannot send {method} {url}"))?;
    let raw = read_to_end(&mut stream, deadline).with_context(|| format!("no complete answer to {method} {url}"))?;
    parse(&raw).with_context(|| format!("bad answer to {method} {url}"))
}

/// Connects to the host of `url` and gives the stream, the Host header and the path.
fn connect(url: &str, timeout: Duration) -> Result<(TcpStream, String, String)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("`{url}` does not begin with http://"))?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let address = host
        .to_socket_addrs()
        .with_context(|| format!("`{host}` is not host:port"))?
        .next()
        .with_context(|| format!("`{host}` has no address"))?;
    let stream = TcpStream::connect_timeout(&address, timeout).with_context(|| format!("cannot connect to {host}"))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok((stream, host.to_owned(), path.to_owned()))
}

/// Reads until the answer is complete or the peer closes.
fn read_to_end(stream: &mut TcpStream, deadline: Instant) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "the deadline passed after {} bytes", raw.len());
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(raw),
            Ok(count) => raw.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("the deadline passed after {} bytes", raw.len())
            }
            Err(error) => return Err(error.into()),
        }
        ensure!(raw.len() <= MAX_BODY, "the answer is larger than {MAX_BODY} bytes");
    }
}

/// Parses a whole answer: status line, headers, body by chunks, length or end of stream.
fn parse(raw: &[u8]) -> Result<Response> {
    let end =
        raw.windows(4).position(|w| w == b"\r\n\r\n").context("the connection closed before the headers ended")?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("bad status line `{status_line}`"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &raw[end + 4..];
    let find = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let body = if find("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        join_chunks(body)?
    } else if let Some(length) = find("content-length") {
        let length: usize = length.parse().with_context(|| format!("bad Content-Length `{length}`"))?;
        body.get(..length).context("the connection closed before the body ended")?.to_vec()
    } else {
        body.to_vec()
    };
    Ok(Response { status, headers, body })
}

/// RFC 9112 section 7.1; trailers are ignored.
fn join_chunks(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").context("the connection closed inside a chunk header")?;
        let header = String::from_utf8_lossy(&rest[..end]).into_owned();
        let digits = header.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).with_context(|| format!("bad chunk size `{header}`"))?;
        if size == 0 {
            return Ok(body);
        }
        rest = &rest[end + 2..];
        body.extend_from_slice(rest.get(..size).context("the connection closed inside a chunk")?);
        rest = rest.get(size + 2..).context("the connection closed after a chunk")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_extensions_ignored() {
        let raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let answer = parse(raw).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "abcde"));
    }

    #[test]
    fn a_cut_answer_is_an_error_not_a_short_body() {
        for raw in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            b"HTTP/1.1 200 OK\r\nConte",
            b"SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            assert!(parse(raw).is_err(), "{}", String::from_utf8_lossy(raw));
        }
    }
}
