//! Our table of nf_tables: always replaced as a whole, in one transaction, so that it is what it should be after every
//! change and after every restart.

use std::io;
use std::net::Ipv4Addr;

use agent_core::bridge::{Address, Mapping, Protocol, Subnet};
use nix::sys::socket::SockProtocol;

use super::links::BRIDGE;
use super::netlink::{Attribute, Message, Socket};

const TABLE: &str = "mesolith";
const SUBSYSTEM: u16 = 10;
const IPV4: u8 = 2;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// Whether packets between the node's other interfaces are any of our business.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Others {
    /// The machine is ours: it forwards for its containers and for nobody else.
    Drop,
    /// The host may forward for others.
    Leave,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Op {
    Equal,
    Not,
}

/// What a rule looks at, and what it does.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    InterfaceIn(Op),
    InterfaceOut(Op),
    /// Of the network: the source's.
    SourceIn(Subnet),
    DestinationIn(Subnet),
    NotLoopback,
    DestinationIsLocal,
    Port(Protocol, u16),
    /// Any of these bits.
    State(u32),
    Translated,
    ToContainer(Ipv4Addr, u16),
    Masquerade,
    Accept,
    Drop,
}

const ESTABLISHED: u32 = 2;
const RELATED: u32 = 4;

/// Replaces the table.
pub(super) fn apply(subnet: Subnet, others: Others, published: &[Address]) -> io::Result<()> {
    let socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
    let batch = |kind| Message::new(kind, 0, &[0, 0, 0, SUBSYSTEM.to_be_bytes()[1]]);
    let mut messages = vec![table(NEW_TABLE, CREATE), table(DELETE_TABLE, 0), table(NEW_TABLE, CREATE)];
    for chain in chains(subnet, others, published) {
        messages.push(chain.message());
        messages.extend(chain.rules.iter().map(|steps| rule(chain.name, steps)));
    }
    socket.transact(&batch(BATCH_BEGIN), &messages, &batch(BATCH_END))
}

struct Chain {
    name: &'static str,
    kind: &'static str,
    hook: u32,
    priority: i32,
    rules: Vec<Vec<Step>>,
}

fn chains(subnet: Subnet, others: Others, published: &[Address]) -> Vec<Chain> {
    let to_ports = |first: &[Step]| -> Vec<Vec<Step>> {
        let of = |address: &Address| {
            let ip = address.ip;
            let one = move |mapping: &Mapping| {
                let rest = [Step::Port(mapping.protocol, mapping.host), Step::ToContainer(ip, mapping.container)];
                [first, &rest].concat()
            };
            address.mappings.iter().map(one).collect::<Vec<_>>()
        };
        published.iter().flat_map(of).collect()
    };
    let mut forward = vec![
        vec![Step::InterfaceOut(Op::Equal), Step::State(ESTABLISHED | RELATED), Step::Accept],
        vec![Step::InterfaceOut(Op::Equal), Step::Translated, Step::Accept],
        vec![Step::InterfaceIn(Op::Equal), Step::InterfaceOut(Op::Equal), Step::Accept],
        // What is not published is nobody's outside.
        vec![Step::InterfaceOut(Op::Equal), Step::Drop],
        vec![Step::InterfaceIn(Op::Equal), Step::Accept],
    ];
    if others == Others::Drop {
        forward.push(vec![Step::Drop]);
    }
    vec![
        Chain {
            name: "prerouting",
            kind: "nat",
            hook: 0,
            priority: -100,
            rules: to_ports(&[Step::DestinationIsLocal]),
        },
        Chain {
            name: "output",
            kind: "nat",
            hook: 3,
            priority: -100,
            rules: to_ports(&[Step::NotLoopback, Step::DestinationIsLocal]),
        },
        Chain {
            name: "postrouting",
            kind: "nat",
            hook: 4,
            priority: 100,
            rules: vec![
                vec![Step::SourceIn(subnet), Step::InterfaceOut(Op::Not), Step::Masquerade],
                // A container that asks for a port of its own node: the answer has to come back the same way.
                vec![Step::SourceIn(subnet), Step::DestinationIn(subnet), Step::Translated, Step::Masquerade],
            ],
        },
        Chain { name: "forward", kind: "filter", hook: 2, priority: 0, rules: forward },
    ]
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new((SUBSYSTEM << 8) | kind, flags, &[IPV4, 0, 0, 0])
}

fn table(kind: u16, flags: u16) -> Message {
    message(kind, flags).with(&[Attribute::text(1, TABLE)])
}

impl Chain {
    fn message(&self) -> Message {
        let hook = [Attribute::big(1, self.hook), Attribute::big(2, self.priority.cast_unsigned())];
        message(NEW_CHAIN, CREATE).with(&[
            Attribute::text(1, TABLE),
            Attribute::text(3, self.name),
            Attribute::nested(4, &hook),
            Attribute::text(7, self.kind),
        ])
    }
}

fn rule(chain: &str, steps: &[Step]) -> Message {
    let expressions: Vec<Attribute> = steps.iter().flat_map(Step::expressions).collect();
    message(NEW_RULE, CREATE | APPEND).with(&[
        Attribute::text(1, TABLE),
        Attribute::text(2, chain),
        Attribute::nested(4, &expressions),
    ])
}

const VERDICT: u32 = 0;
const FIRST: u32 = 1;
const SECOND: u32 = 2;

fn expression(name: &str, data: &[Attribute]) -> Attribute {
    Attribute::nested(1, &[Attribute::text(1, name), Attribute::nested(2, data)])
}

fn meta(key: u32) -> Attribute {
    expression("meta", &[Attribute::big(2, key), Attribute::big(1, FIRST)])
}

fn compare(op: Op, value: &[u8]) -> Attribute {
    let op = if op == Op::Equal { 0 } else { 1 };
    let value = Attribute::nested(3, &[Attribute::bytes(1, value)]);
    expression("cmp", &[Attribute::big(1, FIRST), Attribute::big(2, op), value])
}

fn payload(base: u32, offset: u32, length: u32) -> Attribute {
    let [register, base] = [Attribute::big(1, FIRST), Attribute::big(2, base)];
    expression("payload", &[register, base, Attribute::big(3, offset), Attribute::big(4, length)])
}

fn mask(bits: &[u8]) -> Attribute {
    let value = |kind, bytes: &[u8]| Attribute::nested(kind, &[Attribute::bytes(1, bytes)]);
    let length = u32::try_from(bits.len()).unwrap_or(0);
    let registers = [Attribute::big(1, FIRST), Attribute::big(2, FIRST), Attribute::big(3, length)];
    expression("bitwise", &[registers.as_slice(), &[value(4, bits), value(5, &vec![0; bits.len()])]].concat())
}

fn load(register: u32, value: &[u8]) -> Attribute {
    let value = Attribute::nested(2, &[Attribute::bytes(1, value)]);
    expression("immediate", &[Attribute::big(1, register), value])
}

fn verdict(code: u32) -> Attribute {
    let verdict = Attribute::nested(2, &[Attribute::nested(2, &[Attribute::big(1, code)])]);
    expression("immediate", &[Attribute::big(1, VERDICT), verdict])
}

fn tracked(key: u32, bits: u32) -> Vec<Attribute> {
    let known = expression("ct", &[Attribute::big(2, key), Attribute::big(1, FIRST)]);
    vec![known, mask(&bits.to_ne_bytes()), compare(Op::Not, &0u32.to_ne_bytes())]
}

/// Interface names are compared with all sixteen bytes.
fn interface(key: u32, op: Op) -> Vec<Attribute> {
    let mut name = [0; 16];
    name[..BRIDGE.len()].copy_from_slice(BRIDGE.as_bytes());
    vec![meta(key), compare(op, &name)]
}

fn in_subnet(offset: u32, subnet: Subnet) -> Vec<Attribute> {
    vec![payload(1, offset, 4), mask(&subnet.mask().octets()), compare(Op::Equal, &subnet.network().octets())]
}

impl Step {
    fn expressions(&self) -> Vec<Attribute> {
        const IN_NAME: u32 = 6;
        const OUT_NAME: u32 = 7;
        const L4_PROTOCOL: u32 = 16;
        const CT_STATE: u32 = 0;
        const CT_STATUS: u32 = 2;
        const STATUS_DST_NAT: u32 = 0x20;
        const RTN_LOCAL: u32 = 2;
        match self {
            Self::InterfaceIn(op) => interface(IN_NAME, *op),
            Self::InterfaceOut(op) => interface(OUT_NAME, *op),
            Self::SourceIn(subnet) => in_subnet(12, *subnet),
            Self::DestinationIn(subnet) => in_subnet(16, *subnet),
            Self::NotLoopback => vec![payload(1, 16, 1), compare(Op::Not, &[127])],
            Self::DestinationIsLocal => {
                let kind = [Attribute::big(1, FIRST), Attribute::big(2, 3), Attribute::big(3, 2)];
                vec![expression("fib", &kind), compare(Op::Equal, &RTN_LOCAL.to_ne_bytes())]
            }
            Self::Port(protocol, port) => {
                let number = match protocol {
                    Protocol::Tcp => 6,
                    Protocol::Udp => 17,
                };
                let kind = [meta(L4_PROTOCOL), compare(Op::Equal, &[number])];
                [kind.as_slice(), &[payload(2, 2, 2), compare(Op::Equal, &port.to_be_bytes())]].concat()
            }
            Self::State(bits) => tracked(CT_STATE, *bits),
            Self::Translated => tracked(CT_STATUS, STATUS_DST_NAT),
            Self::ToContainer(ip, port) => {
                let to = [
                    Attribute::big(1, 1),
                    Attribute::big(2, u32::from(IPV4)),
                    Attribute::big(3, FIRST),
                    Attribute::big(5, SECOND),
                ];
                vec![load(FIRST, &ip.octets()), load(SECOND, &port.to_be_bytes()), expression("nat", &to)]
            }
            Self::Masquerade => vec![expression("masq", &[])],
            Self::Accept => vec![verdict(1)],
            Self::Drop => vec![verdict(0)],
        }
    }
}
