//! The bridge of the node and the interfaces of containers on it.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;

use agent_core::bridge::{Address, Subnet};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::SockProtocol;

use super::netlink::{Attribute, Message, Socket};

/// What containers are connected by.
pub(super) const BRIDGE: &str = "mesolith0";
/// What a container's own interface is called.
const INSIDE: &str = "eth0";

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;

const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_PID: u16 = 19;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_GATEWAY: u16 = 5;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;

/// Makes the bridge with its address, if it is not there.
pub(super) fn make_bridge(subnet: Subnet) -> io::Result<()> {
    let socket = Socket::open(SockProtocol::NetlinkRoute)?;
    let kind = Attribute::nested(IFLA_LINKINFO, &[Attribute::bytes(INFO_KIND, b"bridge")]);
    let made =
        Message::new(NEW_LINK, CREATE | EXCLUSIVE, &link(0, 0)).with(&[Attribute::text(IFLA_IFNAME, BRIDGE), kind]);
    socket.ask_unless(&made, libc::EEXIST)?;
    let index = index_of(BRIDGE)?;
    add_address(&socket, index, subnet.gateway(), subnet.prefix())?;
    socket.ask(&Message::new(NEW_LINK, 0, &link(index, IFF_UP)))
}

/// Gives a container, known by a process of it, its interface. Doing it again changes nothing.
pub(super) fn attach(pid: i32, address: Address, subnet: Subnet) -> io::Result<()> {
    let outside = outside(address.ip);
    let socket = Socket::open(SockProtocol::NetlinkRoute)?;
    // What an agent that died left half made, or a container that had the address before.
    remove(&socket, &outside)?;
    let peer = Attribute::nested_after(
        VETH_PEER,
        &link(0, 0),
        &[Attribute::text(IFLA_IFNAME, INSIDE), Attribute::native(IFLA_NET_NS_PID, pid.cast_unsigned())],
    );
    let info = [Attribute::bytes(INFO_KIND, b"veth"), Attribute::nested(INFO_DATA, &[peer])];
    let made = Message::new(NEW_LINK, CREATE | EXCLUSIVE, &link(0, IFF_UP)).with(&[
        Attribute::text(IFLA_IFNAME, &outside),
        Attribute::native(IFLA_MASTER, index_of(BRIDGE)?),
        Attribute::nested(IFLA_LINKINFO, &info),
    ]);
    socket.ask(&made)?;
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    // A thread of its own enters the container's network: if it could not come back, nobody would miss it.
    let configured = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            let socket = Socket::open(SockProtocol::NetlinkRoute)?;
            let index = index_of(INSIDE)?;
            add_address(&socket, index, address.ip, subnet.prefix())?;
            socket.ask(&Message::new(NEW_LINK, 0, &link(index, IFF_UP)))?;
            socket.ask(&default_route(subnet.gateway()))
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the container's network died")))
    });
    configured.inspect_err(|_| {
        let _ = remove(&socket, &outside);
    })
}

/// Takes a container's interface away; the kernel does when its last process ends.
pub(super) fn detach(ip: Ipv4Addr) -> io::Result<()> {
    remove(&Socket::open(SockProtocol::NetlinkRoute)?, &outside(ip))
}

fn remove(socket: &Socket, name: &str) -> io::Result<()> {
    match index_of(name) {
        Ok(index) => socket.ask_unless(&Message::new(DELETE_LINK, 0, &link(index, 0)), libc::ENODEV),
        Err(_) => Ok(()),
    }
}

/// The interface outside is called by the address inside: both are one container's.
fn outside(ip: Ipv4Addr) -> String {
    format!("mv{:08x}", ip.to_bits())
}

fn index_of(name: &str) -> io::Result<u32> {
    Ok(if_nametoindex(name)?)
}

/// `struct ifinfomsg`.
fn link(index: u32, up: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&index.to_ne_bytes());
    bytes.extend_from_slice(&up.to_ne_bytes());
    bytes.extend_from_slice(&up.to_ne_bytes());
    bytes
}

fn add_address(socket: &Socket, index: u32, ip: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut fixed = vec![AF_INET, prefix, 0, 0];
    fixed.extend_from_slice(&index.to_ne_bytes());
    let octets = ip.octets();
    let address = [Attribute::bytes(IFA_LOCAL, &octets), Attribute::bytes(IFA_ADDRESS, &octets)];
    socket.ask(&Message::new(NEW_ADDRESS, CREATE | REPLACE, &fixed).with(&address))
}

fn default_route(gateway: Ipv4Addr) -> Message {
    const MAIN: u8 = 254;
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    let fixed = [AF_INET, 0, 0, 0, MAIN, BOOT, 0, UNICAST, 0, 0, 0, 0];
    Message::new(NEW_ROUTE, CREATE | REPLACE, &fixed).with(&[Attribute::bytes(RTA_GATEWAY, &gateway.octets())])
}
