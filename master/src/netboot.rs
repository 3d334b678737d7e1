//! The service that makes a rack boot without any other but a DHCP server for addresses: proxy DHCP, TFTP, and answers to
//! questions for IPv6 routers, on one interface. Off unless `--netboot INTERFACE` is given.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket as StdSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use master_core::netboot::{Port, Settings, answer, router, tftp};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, watch};

/// Transfers at once: a hall that comes back after a power cut asks again.
const TRANSFERS: usize = 256;
/// No first program is larger.
const LARGEST_FILE: u64 = 8 << 20;
/// A transfer that takes longer is of nobody who boots.
const TRANSFER: Duration = Duration::from_secs(120);

/// The service does not start.
#[derive(Debug, thiserror::Error)]
pub enum NetbootError {
    /// A socket.
    #[error("cannot listen for {what} on {interface}")]
    Socket {
        /// Which service.
        what: &'static str,
        /// Where.
        interface: String,
        /// Why not.
        source: io::Error,
    },
    /// The interface.
    #[error("{0} has no IPv4 address")]
    NoAddress(String),
}

/// The open sockets of the service.
pub struct Netboot {
    settings: Settings,
    directory: PathBuf,
    dhcp: UdpSocket,
    pxe: UdpSocket,
    tftp: UdpSocket,
    router: Option<(UdpSocket, u32)>,
}

impl Netboot {
    /// Opens the sockets. `script` is the URL iPXE is sent to.
    ///
    /// # Errors
    /// See [`NetbootError`].
    pub fn open(interface: &str, directory: &Path, boot_port: u16) -> Result<Self, NetbootError> {
        let failed =
            |what| move |source: io::Error| NetbootError::Socket { what, interface: interface.to_owned(), source };
        let address = address_of(interface).ok_or_else(|| NetbootError::NoAddress(interface.to_owned()))?;
        let settings = Settings {
            address,
            script: format!("http://{address}:{boot_port}/boot/start.ipxe"),
            bios: "undionly.kpxe".to_owned(),
            uefi: "ipxe.efi".to_owned(),
        };
        let open = |what, port| udp(interface, port).map_err(failed(what));
        let router = match router_socket(interface) {
            Ok(router) => Some(router),
            // A network without IPv6 needs none.
            Err(error) => {
                tracing::warn!(%error, interface, "nobody answers machines that look for an IPv6 router: iPXE waits 16 s");
                None
            }
        };
        Ok(Self {
            settings,
            directory: directory.to_owned(),
            dhcp: open("proxy DHCP", 67)?,
            pxe: open("PXE", 4011)?,
            tftp: open("TFTP", 69)?,
            router,
        })
    }

    /// Serves until `stop`.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let Self { settings, directory, dhcp, pxe, tftp, router } = self;
        tracing::info!(address = %settings.address, script = settings.script, "machines are told where to boot from");
        let settings = Arc::new(settings);
        let services = async {
            tokio::join!(
                proxy(&dhcp, Port::Dhcp, &settings),
                proxy(&pxe, Port::Pxe, &settings),
                files(&tftp, settings.address, Arc::from(directory)),
                async {
                    match &router {
                        Some((socket, index)) => routers(socket, *index).await,
                        None => std::future::pending().await,
                    }
                }
            );
        };
        tokio::select! {
            () = services => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// A moment after a socket's error: it may be the network's, and come again at once.
async fn breathe(what: &'static str, error: &io::Error) {
    tracing::debug!(what, %error, "a socket of the boot service has an error");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn proxy(socket: &UdpSocket, port: Port, settings: &Settings) {
    let mut packet = [0; 2048];
    loop {
        let (length, from) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            Err(error) => {
                breathe("proxy DHCP", &error).await;
                continue;
            }
        };
        let Some(reply) = answer(&packet[..length], port, settings) else { continue };
        let to: SocketAddr = match (port, reply.to) {
            (Port::Pxe, _) => from,
            (Port::Dhcp, Some(address)) => (address, 68).into(),
            (Port::Dhcp, None) => (Ipv4Addr::BROADCAST, 68).into(),
        };
        let mac = reply.mac.map(|byte| format!("{byte:02x}")).join(":");
        match socket.send_to(&reply.bytes, to).await {
            Ok(_) => tracing::info!(%mac, file = reply.file, "a machine is told what to boot"),
            Err(error) => tracing::warn!(%mac, %error, "a machine could not be told what to boot"),
        }
    }
}

async fn files(socket: &UdpSocket, address: Ipv4Addr, directory: Arc<Path>) {
    let room = Arc::new(Semaphore::new(TRANSFERS));
    let mut packet = [0; 2048];
    loop {
        let (length, from) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            Err(error) => {
                breathe("TFTP", &error).await;
                continue;
            }
        };
        let request = match tftp::request(&packet[..length]) {
            Ok(request) => request,
            Err(refusal) => {
                if let Some(refusal) = refusal {
                    drop(socket.send_to(&refusal, from).await);
                }
                continue;
            }
        };
        // Full: it asks again in a second.
        let Ok(place) = room.clone().try_acquire_owned() else { continue };
        let directory = directory.clone();
        tokio::spawn(async move {
            let sent = tokio::time::timeout(TRANSFER, transfer(address, from, &request, &directory)).await;
            if let Err(error) = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                tracing::warn!(%from, file = request.file, %error, "a file was not sent by TFTP");
            }
            drop(place);
        });
    }
}

async fn transfer(address: Ipv4Addr, to: SocketAddr, request: &tftp::Request, directory: &Path) -> io::Result<()> {
    // A port of its own for each transfer, as the protocol wants it.
    let socket = UdpSocket::bind((address, 0)).await?;
    socket.connect(to).await?;
    let path = directory.join(&request.file);
    let read = async {
        let about = tokio::fs::metadata(&path).await?;
        if !about.is_file() || about.len() > LARGEST_FILE {
            return Err(io::ErrorKind::NotFound.into());
        }
        tokio::fs::read(&path).await
    };
    let content = match read.await {
        Ok(content) => content,
        Err(error) => {
            socket.send(&tftp::error(1, "there is no such file")).await?;
            return Err(error);
        }
    };
    tracing::info!(%to, file = request.file, bytes = content.len(), "sending a file by TFTP");
    let (mut transfer, mut packet) = tftp::Transfer::begin(request, content);
    let mut said = [0; 1024];
    while !transfer.is_over() {
        socket.send(&packet).await?;
        let wait = Duration::from_millis(tftp::REPEAT_MS);
        let next = loop {
            match tokio::time::timeout(wait, socket.recv(&mut said)).await {
                Ok(length) => match transfer.handle(&said[..length?]) {
                    None if !transfer.is_over() => {}
                    next => break next,
                },
                Err(_) => break transfer.handle_timeout(),
            }
        };
        match next {
            Some(next) => packet = next,
            None => break,
        }
    }
    Ok(())
}

async fn routers(socket: &UdpSocket, index: u32) {
    let mut packet = [0; 1024];
    loop {
        match socket.recv_from(&mut packet).await {
            Ok((length, _)) if router::is_solicitation(&packet[..length]) => {
                let all = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, index);
                if let Err(error) = socket.send_to(&router::advertisement(), SocketAddr::V6(all)).await {
                    tracing::debug!(%error, "a machine that looks for a router gets no answer");
                }
            }
            Ok(_) => {}
            Err(error) => breathe("router", &error).await,
        }
    }
}

/// A socket for one interface, beside whoever has the port on others or answers other questions.
fn udp(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket =
        socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Broadcast, &true)?;
    setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::new(0, 0, 0, 0, port))?;
    UdpSocket::from_std(StdSocket::from(socket))
}

fn router_socket(interface: &str) -> io::Result<(UdpSocket, u32)> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let raw: OwnedFd = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
    setsockopt(&raw, sockopt::BindToDevice, &interface.into())?;
    // Whoever gets it checks that it came from its own network: no router lowers it on the way.
    setsockopt(&raw, sockopt::Ipv6MulticastHops, &255)?;
    let socket = StdSocket::from(raw);
    socket.join_multicast_v6(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2), index)?;
    Ok((UdpSocket::from_std(socket)?, index))
}

/// The interface's first IPv4 address.
fn address_of(interface: &str) -> Option<Ipv4Addr> {
    let all = nix::ifaddrs::getifaddrs().ok()?.filter(|one| one.interface_name == interface);
    all.filter_map(|one| one.address.and_then(|address| address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip)))
        .next()
}
