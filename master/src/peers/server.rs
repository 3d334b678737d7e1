//! The answering end of a connection between masters.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{ANSWER, FAILED, LONGEST_FRAME, LONGEST_OF_STRANGER, read, write};
use crate::ca::{self, Role};

/// Joining takes a second.
const STRANGER_LIFE: Duration = Duration::from_secs(60);

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Caller {
    /// From where.
    pub remote: SocketAddr,
    /// The name in a master's certificate; none for somebody who has no certificate.
    pub master: Option<String>,
    /// Tells two connections of one master apart.
    pub connection: u64,
}

/// Answers questions.
pub trait Service: Clone + Send + Sync + 'static {
    /// The answer, or why there is none, for a person.
    fn answer(&self, caller: &Caller, kind: u8, content: Bytes)
    -> impl Future<Output = Result<Vec<u8>, String>> + Send;

    /// A connection has ended.
    fn ended(&self, caller: &Caller);
}

/// Answers one question after the other until the connection ends.
pub async fn serve(mut stream: TlsStream<TcpStream>, remote: SocketAddr, connection: u64, service: impl Service) {
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let master = match certificate.map(|leaf| ca::subject(leaf)) {
        None => None,
        Some(Some((Role::Master, name))) => Some(name),
        Some(other) => {
            tracing::warn!(%remote, holder = ?other, "somebody who is no master speaks to masters; the connection is closed");
            return;
        }
    };
    let caller = Caller { remote, master, connection };
    let talk = talk(&mut stream, &caller, &service);
    if caller.master.is_some() {
        talk.await;
    } else {
        // Whatever is left of it then is of no use.
        drop(tokio::time::timeout(STRANGER_LIFE, talk).await);
    }
    service.ended(&caller);
}

async fn talk(stream: &mut TlsStream<TcpStream>, caller: &Caller, service: &impl Service) {
    let longest = if caller.master.is_some() { LONGEST_FRAME } else { LONGEST_OF_STRANGER };
    loop {
        let frame = match read(stream, longest).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(remote = %caller.remote, %error, "a connection between masters broke");
                return;
            }
        };
        let written = match service.answer(caller, frame.kind, frame.content).await {
            Ok(answer) => write(stream, frame.number, ANSWER, &answer).await,
            Err(reason) => write(stream, frame.number, FAILED, reason.as_bytes()).await,
        };
        if let Err(error) = written {
            tracing::debug!(remote = %caller.remote, %error, "a connection between masters broke");
            return;
        }
    }
}
