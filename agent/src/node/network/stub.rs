//! The node's name server: 127.0.0.53, for its own programs and those tasks that share its network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent_core::dns::{Client, Output, Stub};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::uptime;

/// Where programs ask.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
const PORT: u16 = 53;
/// Larger than what EDNS lets anybody send.
const PACKET: usize = 4096;
/// Answers of servers that wait; the sockets of those that come then are closed unread, and asked again.
const ANSWERS: usize = 256;
/// Servers that are asked at the same time.
const ASKED: usize = 256;
/// Longer than the machine waits for a server.
const LISTEN: Duration = Duration::from_secs(2);
/// Connections at the same time, and how long one may take.
const CONNECTIONS: usize = 64;
const CONNECTION: Duration = Duration::from_secs(10);
/// A port that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(30);

type Answer = (IpAddr, Vec<u8>);

/// Serves for ever; `serving` says whether programs can ask.
pub(super) async fn run(servers: watch::Receiver<Vec<IpAddr>>, serving: watch::Sender<bool>) {
    loop {
        match serve(servers.clone(), &serving).await {
            Ok(()) => return,
            // A task has the port, for one: then programs ask the network's servers themselves.
            Err(error) => tracing::warn!(%error, "the node's name server does not serve"),
        }
        serving.send_replace(false);
        tokio::time::sleep(AGAIN).await;
    }
}

async fn serve(mut servers: watch::Receiver<Vec<IpAddr>>, serving: &watch::Sender<bool>) -> io::Result<()> {
    let socket = UdpSocket::bind((ADDRESS, PORT)).await?;
    let listener = TcpListener::bind((ADDRESS, PORT)).await?;
    serving.send_replace(true);
    let (connections, asking) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Semaphore::new(ASKED)));
    let (answers, mut answered) = mpsc::channel::<Answer>(ANSWERS);
    let mut stub = Stub::new(*uuid::Uuid::new_v4().as_bytes());
    stub.serve(servers.borrow_and_update().clone());
    let mut buffer = vec![0; PACKET];
    loop {
        let wait = Duration::from_millis(stub.poll_timeout().saturating_sub(uptime::millis()).min(60_000));
        let outputs = tokio::select! {
            asked = socket.recv_from(&mut buffer) => match asked {
                Ok((length, from)) => {
                    let query = buffer.get(..length).unwrap_or_default();
                    stub.handle_query(Client(from), query, uptime::millis()).into_iter().collect()
                }
                // Of one who has gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Vec::new(),
                Err(error) => return Err(error),
            },
            Some((server, bytes)) = answered.recv() => stub.handle_response(server, &bytes, uptime::millis()),
            changed = servers.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                stub.serve(servers.borrow_and_update().clone());
                Vec::new()
            }
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                // Who comes when all are taken is hung up on.
                if let Ok(permit) = connections.clone().try_acquire_owned() {
                    let servers = servers.borrow().clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        // Either end may hang up.
                        let _ = tokio::time::timeout(CONNECTION, forward(stream, servers)).await;
                    });
                }
                Vec::new()
            }
            () = tokio::time::sleep(wait) => stub.handle_timeout(uptime::millis()),
        };
        for output in outputs {
            match output {
                Output::Answer(Client(to), bytes) => {
                    // Who asked may have gone.
                    let _ = socket.send_to(&bytes, to).await;
                }
                Output::Ask(server, query) => {
                    // Without room the machine's patience ends, and it asks again.
                    if let Ok(permit) = asking.clone().try_acquire_owned() {
                        let answers = answers.clone();
                        tokio::spawn(async move {
                            let _permit = permit;
                            if let Err(error) = ask(server, query, &answers).await {
                                tracing::debug!(%server, %error, "a name server cannot be asked");
                            }
                        });
                    }
                }
            }
        }
    }
}

/// From a port nobody can foresee.
async fn ask(server: IpAddr, query: Vec<u8>, answers: &mpsc::Sender<Answer>) -> io::Result<()> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect((server, PORT)).await?;
    socket.send(&query).await?;
    let mut buffer = vec![0; PACKET];
    if let Ok(length) = tokio::time::timeout(LISTEN, socket.recv(&mut buffer)).await {
        buffer.truncate(length?);
        // Full: it is asked again.
        let _ = answers.try_send((server, buffer));
    }
    Ok(())
}

/// What is too long for a packet is asked over a connection, which goes through as it is.
async fn forward(mut stream: TcpStream, servers: Vec<IpAddr>) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::NotConnected);
    for server in servers {
        match tokio::time::timeout(LISTEN, TcpStream::connect(SocketAddr::new(server, PORT))).await {
            Ok(Ok(mut upstream)) => return copy_bidirectional(&mut stream, &mut upstream).await.map(drop),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
