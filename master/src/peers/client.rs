//! The asking end of a connection between masters.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::trust::pinned_ca;
use super::{ALPN, FAILED, LONGEST_FRAME, SERVER_NAME, read, write};
use crate::authority::{Authority, Ends};

/// TCP and TLS. A master that is there answers within milliseconds.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// A master that leaves a question unanswered for so long is gone, or the way to it is; a new connection finds it sooner
/// than TCP's own patience.
const SILENCE: Duration = Duration::from_secs(10);
/// Questions on one connection without an answer. Full: the caller waits.
const OUTSTANDING: usize = 64;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It may have been heard or not.
    #[error("the connection to the master at {0} broke")]
    Broken(String),
    /// It was heard, and refused.
    #[error("{0}")]
    Refused(String),
}

/// Opens connections as somebody.
#[derive(Clone)]
pub struct Dialer(Way);

#[derive(Clone)]
enum Way {
    Tls(TlsConnector),
    Other(Arc<dyn Dial>),
}

/// Another way to the other masters than TCP and TLS.
pub trait Dial: Send + Sync {
    /// Opens a connection: what is asked on it comes out of `asked`. It is broken when that is dropped, and closed by
    /// the one who asks when that ends.
    fn dial(
        &self,
        address: &str,
        asked: mpsc::Receiver<Question>,
    ) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
}

impl Dialer {
    /// As a master of this authority's cluster.
    ///
    /// # Errors
    /// The TLS library refuses its own settings.
    pub fn master(authority: &Arc<Authority>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let ends = Arc::new(Ends(authority.clone()));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(ends.clone())
            .with_client_cert_resolver(ends);
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self::with(config))
    }

    /// As nobody yet, to a cluster whose authority has this fingerprint.
    ///
    /// # Errors
    /// The TLS library refuses its own settings.
    pub fn stranger(ca_sha256: [u8; 32]) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(pinned_ca(ca_sha256));
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self::with(config))
    }

    fn with(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![ALPN.to_vec()];
        Self(Way::Tls(TlsConnector::from(Arc::new(config))))
    }

    /// On another way.
    #[must_use]
    pub fn other(way: Arc<dyn Dial>) -> Self {
        Self(Way::Other(way))
    }

    /// Opens a connection to `host:port`.
    ///
    /// # Errors
    /// Nobody is there, or not a master of the cluster.
    pub async fn connect(&self, address: &str) -> io::Result<Connection> {
        let (questions, asked) = mpsc::channel(OUTSTANDING);
        let connect = async {
            match &self.0 {
                Way::Tls(tls) => drop(tokio::spawn(converse(secured(tls, address).await?, asked))),
                Way::Other(other) => other.dial(address, asked).await?,
            }
            Ok::<_, io::Error>(())
        };
        tokio::time::timeout(CONNECT_DEADLINE, connect).await.map_err(io::Error::other)??;
        Ok(Connection { address: address.to_owned(), questions })
    }
}

async fn secured(tls: &TlsConnector, address: &str) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    let stream = tls.connect(name, stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::other("the other end is no master that speaks to masters"));
    }
    Ok(stream)
}

/// Asked on a connection.
#[derive(Debug)]
pub struct Question {
    /// What kind of question.
    pub kind: u8,
    /// What.
    pub content: Vec<u8>,
    /// For the answer, or the reason why there is none.
    pub reply: oneshot::Sender<Result<Bytes, String>>,
}

/// An open connection; clones share it. It is closed when the last one is dropped.
#[derive(Clone)]
pub struct Connection {
    address: String,
    questions: mpsc::Sender<Question>,
}

impl Connection {
    /// Asks, and waits for the answer as long as the connection lives: deadlines are the caller's.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, kind: u8, content: Vec<u8>) -> Result<Bytes, CallError> {
        let broken = || CallError::Broken(self.address.clone());
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question { kind, content, reply }).await.map_err(|_| broken())?;
        answer.await.map_err(|_| broken())?.map_err(CallError::Refused)
    }

    /// Can nothing be asked any more?
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.questions.is_closed()
    }
}

/// Ends when the connection breaks or nobody holds it any more; whoever waits then learns that it broke.
async fn converse(stream: TlsStream<TcpStream>, mut asked: mpsc::Receiver<Question>) {
    let (mut input, mut output) = tokio::io::split(stream);
    let (answered, mut answers) = mpsc::channel(OUTSTANDING);
    let reading = tokio::spawn(async move {
        while let Ok(Some(frame)) = read(&mut input, LONGEST_FRAME).await {
            if answered.send(frame).await.is_err() {
                return;
            }
        }
    });
    let (mut waiting, mut next) = (BTreeMap::<u64, oneshot::Sender<_>>::new(), 0);
    let mut unanswered_since = None;
    loop {
        let silence = async {
            match unanswered_since {
                Some(since) => tokio::time::sleep_until(since + SILENCE).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = silence => break,
            question = asked.recv() => {
                let Some(Question { kind, content, reply }) = question else { break };
                next += 1;
                // Those who gave up need no answer.
                waiting.retain(|_, reply| !reply.is_closed());
                waiting.insert(next, reply);
                unanswered_since.get_or_insert_with(Instant::now);
                if write(&mut output, next, kind, &content).await.is_err() {
                    break;
                }
            }
            frame = answers.recv() => {
                let Some(frame) = frame else { break };
                unanswered_since = (frame.number < next).then(Instant::now);
                let Some(reply) = waiting.remove(&frame.number) else { continue };
                let answer = if frame.kind == FAILED {
                    Err(String::from_utf8_lossy(&frame.content).into_owned())
                } else {
                    Ok(frame.content)
                };
                // Whoever asked may have given up.
                drop(reply.send(answer));
            }
        }
    }
    reading.abort();
}
