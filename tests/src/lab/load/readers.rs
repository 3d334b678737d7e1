//! Those who look: how long the state of everything takes, once and from several at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Question {
    /// `GET /state`.
    State,
    /// `GET_STATE` of the v1 operator API.
    GetState,
}

impl Question {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::State => "/state",
            Self::GetState => "GET_STATE (JSON)",
        }
    }

    fn request(self, address: &str) -> String {
        match self {
            Self::State => format!("GET /state HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
            Self::GetState => format!(
                "POST /api/v1 HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Accept: application/json\r\nContent-Length: 20\r\n\r\n{{\"type\":\"GET_STATE\"}}"
            ),
        }
    }
}

/// One whole answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) first_byte: Duration,
    pub(super) whole: Duration,
    pub(super) bytes: u64,
}

/// Asks once and reads to the end, keeping nothing.
pub(super) async fn ask(address: &str, question: Question) -> Result<Answer> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.write_all(question.request(address).as_bytes()).await?;
    let mut buffer = vec![0; 256 << 10];
    let (mut first_byte, mut bytes) = (None, 0);
    loop {
        let count = stream.read(&mut buffer).await?;
        if first_byte.is_none() {
            first_byte = Some(begin.elapsed());
            ensure!(buffer[..count].starts_with(b"HTTP/1.1 200"), "{} was answered {}", question.name(), {
                String::from_utf8_lossy(&buffer[..count.min(300)])
            });
        }
        if count == 0 {
            return Ok(Answer { first_byte: first_byte.unwrap_or_default(), whole: begin.elapsed(), bytes });
        }
        bytes += count as u64;
    }
}

/// Readers that ask again and again.
pub(super) struct Readers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<Result<Vec<Answer>>>>,
    begin: Instant,
}

impl Readers {
    pub(super) fn start(address: &str, questions: &[Question]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let reader = |question: &Question| {
            let (address, stop, question) = (address.to_owned(), stop.clone(), *question);
            tokio::spawn(async move {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    answers.push(ask(&address, question).await?);
                }
                Ok(answers)
            })
        };
        let tasks = questions.iter().map(reader).collect();
        Self { stop, tasks, begin: Instant::now() }
    }

    /// Ends them; answers a second.
    pub(super) async fn end(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let elapsed = self.begin.elapsed();
        let mut count = 0;
        for task in self.tasks {
            count += task.await??.len();
        }
        Ok(count as f64 / elapsed.as_secs_f64())
    }
}
