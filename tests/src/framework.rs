//! A small blocking Mesos framework over the public v1 scheduler API: for tests and figures that need exact timing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::http;

/// Calls are answered at once.
const ANSWER: Duration = Duration::from_secs(10);

/// Larger events are refused.
const MAX_RECORD: usize = 16 << 20;

/// Events that wait to be taken. When it is full the reader stops, and the master sees a slow subscriber.
const WAITING_EVENTS: usize = 4096;

/// A subscribed framework. Dropping it closes the stream; with no failover timeout the master then removes it.
pub struct Framework {
    url: String,
    /// Given by the master.
    pub id: String,
    stream_id: String,
    events: Receiver<(Instant, Value)>,
    /// Closes the reader's connection when dropped.
    stream: TcpStream,
}

impl Framework {
    /// Subscribes under `name`; `more` is merged into the FrameworkInfo.
    pub fn subscribe(api_url: &str, name: &str, more: &Value) -> Result<Self> {
        let mut info = json!({"user": "root", "name": name, "roles": ["*"], "capabilities": [{"type": "MULTI_ROLE"}]});
        for (key, value) in more.as_object().into_iter().flatten() {
            info[key] = value.clone();
        }
        let mut call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        if let Some(id) = more.get("id") {
            call["framework_id"] = id.clone();
        }
        let url = format!("{api_url}/api/v1/scheduler");
        let (stream, stream_id, mut reader) = open(api_url, &call)?;
        let (sender, events) = sync_channel(WAITING_EVENTS);
        std::thread::spawn(move || {
            while let Ok(Some(event)) = record(&mut reader) {
                if sender.send((Instant::now(), event)).is_err() {
                    return;
                }
            }
        });
        let mut framework = Self { url, id: String::new(), stream_id, events, stream };
        let subscribed = framework.wait("SUBSCRIBED", ANSWER)?;
        let id =
            subscribed["subscribed"]["framework_id"]["value"].as_str().context("SUBSCRIBED carries no framework id")?;
        framework.id = id.to_owned();
        Ok(framework)
    }

    /// The next event and when it came; `None` when none came in time. An error when the master closed the stream.
    pub fn next(&self, timeout: Duration) -> Result<Option<(Instant, Value)>> {
        match self.events.recv_timeout(timeout) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the master closed the event stream"),
        }
    }

    /// Passes over events until one of this type comes.
    pub fn wait(&self, kind: &str, timeout: Duration) -> Result<Value> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (_, event) = self.next(left)?.with_context(|| format!("no {kind} event within {timeout:?}"))?;
            if event["type"] == kind {
                return Ok(event);
            }
        }
    }

    /// Sends a call of this type; `body` is its part of the same name in lower case, null for none.
    pub fn call(&self, kind: &str, body: &Value) -> Result<()> {
        let mut call = json!({"type": kind, "framework_id": {"value": self.id}});
        if !body.is_null() {
            call[kind.to_lowercase()] = body.clone();
        }
        let headers = [("Content-Type", "application/json"), ("Mesos-Stream-Id", self.stream_id.as_str())];
        let answer = http::request("POST", &self.url, &headers, Some(call.to_string().as_bytes()), ANSWER)?;
        ensure!(answer.status == 202, "{kind} was answered {} {}", answer.status, answer.text());
        Ok(())
    }

    /// The `Mesos-Stream-Id` of its stream, for calls made by hand.
    #[must_use]
    pub fn stream_id(&self) -> &str {
        &self.stream_id
    }

    /// Acknowledges the update of an UPDATE event, if it asks for it.
    pub fn acknowledge(&self, event: &Value) -> Result<()> {
        let status = &event["update"]["status"];
        if status["uuid"].is_null() {
            return Ok(());
        }
        let body = json!({"agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"]});
        self.call("ACKNOWLEDGE", &body)
    }
}

impl Drop for Framework {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

type Reader = BufReader<Chunks<BufReader<TcpStream>>>;

/// Sends SUBSCRIBE and reads the answer's head; the reader behind it gives records.
fn open(api_url: &str, call: &Value) -> Result<(TcpStream, String, Reader)> {
    let address = api_url.strip_prefix("http://").context("the API's URL begins with http://")?;
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    let body = call.to_string();
    let head = format!(
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "the master closed the connection");
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let status = lines.first().cloned().unwrap_or_default();
    if !status.contains(" 200") {
        let mut rest = String::new();
        // An error's body is short, and only quoted.
        let _ = reader.take(500).read_to_string(&mut rest);
        bail!("SUBSCRIBE was answered `{status}` {rest}");
    }
    stream.set_read_timeout(None)?;
    let header = |name: &str| {
        lines
            .iter()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim())
    };
    let stream_id = header("mesos-stream-id").context("the answer carries no Mesos-Stream-Id")?.to_owned();
    ensure!(
        header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")),
        "the stream is not chunked"
    );
    Ok((stream, stream_id, BufReader::new(Chunks { inner: reader, left: 0 })))
}

/// One RecordIO record: its length in decimal, a newline, so many bytes. `None` at the end of the stream.
fn record(reader: &mut impl BufRead) -> Result<Option<Value>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let length: usize = line.trim().parse().with_context(|| format!("bad record length `{}`", line.trim()))?;
    ensure!(length <= MAX_RECORD, "a record of {length} bytes");
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Takes the chunked transfer coding off a stream, RFC 9112 section 7.1.
struct Chunks<R> {
    inner: R,
    /// What is left of the current chunk.
    left: usize,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 {
            let mut line = String::new();
            if self.inner.read_line(&mut line)? == 0 {
                return Ok(0);
            }
            let digits = line.trim();
            // The empty line that ends the chunk before.
            if digits.is_empty() {
                continue;
            }
            let digits = digits.split(';').next().unwrap_or_default();
            self.left = usize::from_str_radix(digits, 16)
                .map_err(|error| std::io::Error::other(format!("{error}: `{digits}`")))?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let limit = buffer.len().min(self.left);
        let count = self.inner.read(&mut buffer[..limit])?;
        self.left -= count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_cross_chunks_and_share_them() {
        let wire = b"4\r\n2\n{}\r\n5\r\n7\n{\"a\r\n4;x\r\n\":1}\r\n0\r\n\r\n";
        let mut reader = BufReader::new(Chunks { inner: &wire[..], left: 0 });
        assert_eq!(record(&mut reader).unwrap(), Some(json!({})));
        assert_eq!(record(&mut reader).unwrap(), Some(json!({"a": 1})));
        assert_eq!(record(&mut reader).unwrap(), None);
    }

    #[test]
    fn a_stream_cut_inside_a_record_is_an_error() {
        let wire = b"6\r\n9\n{\"a\"\r\n";
        let mut reader = BufReader::new(Chunks { inner: &wire[..], left: 0 });
        assert!(record(&mut reader).is_err());
    }
}
