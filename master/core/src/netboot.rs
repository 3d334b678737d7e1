//! What a machine without an operating system needs beside an address: the name of a program to load. Pure: packets in,
//! packets out.
//!
//! A proxy DHCP server (PXE 2.1): it never gives an address, and answers only firmware and boot loaders that ask for a
//! program. The addresses come from whatever DHCP server there is.

pub mod router;
pub mod tftp;

use std::net::Ipv4Addr;

/// Whom answers are made for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where we are.
    pub address: Ipv4Addr,
    /// What iPXE gets: the URL of its script.
    pub script: String,
    /// What PXE firmware with a BIOS gets by TFTP.
    pub bios: String,
    /// What UEFI firmware on x86-64 gets by TFTP.
    pub uefi: String,
}

/// Which of our two ports a packet came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// 67, where everybody asks.
    Dhcp,
    /// 4011, where firmware asks again whom it heard.
    Pxe,
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The packet.
    pub bytes: Vec<u8>,
    /// Where the machine has its address from already; none: it has none, and hears broadcasts only.
    pub to: Option<Ipv4Addr>,
    /// What it was told to load, for the log.
    pub file: String,
    /// Whom, for the log.
    pub mac: [u8; 6],
}

const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const SHORTEST: usize = 300;

const MESSAGE_TYPE: u8 = 53;
const SERVER: u8 = 54;
const CLASS: u8 = 60;
const USER_CLASS: u8 = 77;
const ARCHITECTURE: u8 = 93;
const MACHINE: u8 = 97;
const IPXE: u8 = 175;
const VENDOR: u8 = 43;
const END: u8 = 255;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

/// The value of an option; options may be in parts.
fn option(options: &[u8], wanted: u8) -> Option<Vec<u8>> {
    let (mut rest, mut found) = (options, None::<Vec<u8>>);
    while let [code, tail @ ..] = rest {
        match *code {
            0 => rest = tail,
            END => break,
            code => {
                let [length, tail @ ..] = tail else { break };
                let value = tail.get(..usize::from(*length))?;
                if code == wanted {
                    found.get_or_insert_default().extend_from_slice(value);
                }
                rest = &tail[usize::from(*length)..];
            }
        }
    }
    found
}

/// The answer to a packet, if it is a question for us. Total: anything may come.
#[must_use]
pub fn answer(packet: &[u8], port: Port, settings: &Settings) -> Option<Reply> {
    let (head, rest) = packet.split_at_checked(FIXED)?;
    let options = rest.strip_prefix(&COOKIE)?;
    // A request (1) by Ethernet (1) with addresses of six bytes.
    if head[..3] != [1, 1, 6] {
        return None;
    }
    let class = option(options, CLASS)?;
    if !class.starts_with(b"PXEClient") {
        return None;
    }
    let kind = match (port, option(options, MESSAGE_TYPE)?.first()?) {
        (Port::Dhcp, &DISCOVER) => OFFER,
        // Who asks again at port 67 asks for an address, which is not ours to give.
        (Port::Pxe, &REQUEST) => ACK,
        _ => return None,
    };
    let is_ipxe = option(options, IPXE).is_some()
        || option(options, USER_CLASS).is_some_and(|class| class.windows(4).any(|part| part == b"iPXE"));
    let architecture = option(options, ARCHITECTURE).and_then(|bytes| Some(u16::from_be_bytes(bytes.try_into().ok()?)));
    let file = match (is_ipxe, architecture) {
        (true, _) => &settings.script,
        (false, None | Some(0)) => &settings.bios,
        // EFI byte code is what some x86-64 firmware says it is.
        (false, Some(7 | 9)) => &settings.uefi,
        (false, Some(_)) => return None,
    };
    if file.is_empty() || file.len() > 127 {
        return None;
    }
    let mac: [u8; 6] = head[28..34].try_into().ok()?;
    let client = Ipv4Addr::new(head[12], head[13], head[14], head[15]);
    let mut bytes = vec![0; FIXED];
    bytes[..3].copy_from_slice(&[2, 1, 6]);
    bytes[4..8].copy_from_slice(&head[4..8]); // transaction
    bytes[10..16].copy_from_slice(&head[10..16]); // flags, the address it has
    bytes[20..24].copy_from_slice(&settings.address.octets()); // where the file is
    bytes[24..28].copy_from_slice(&head[24..28]); // relay
    bytes[28..44].copy_from_slice(&head[28..44]);
    bytes[108..108 + file.len()].copy_from_slice(file.as_bytes());
    bytes.extend(COOKIE);
    let mut put = |code: u8, value: &[u8]| {
        bytes.push(code);
        bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        bytes.extend(&value[..value.len().min(255)]);
    };
    put(MESSAGE_TYPE, &[kind]);
    put(SERVER, &settings.address.octets());
    put(CLASS, b"PXEClient");
    if let Some(machine) = option(options, MACHINE).filter(|machine| machine.len() == 17) {
        put(MACHINE, &machine);
    }
    // Discovery control: no menu, no search for other servers, the file is the one named here.
    put(VENDOR, &[6, 1, 8, END]);
    bytes.push(END);
    bytes.resize(bytes.len().max(SHORTEST), 0);
    let to = (!client.is_unspecified()).then_some(client);
    Some(Reply { bytes, to, file: file.clone(), mac })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            address: Ipv4Addr::new(10, 0, 0, 1),
            script: "http://10.0.0.1:5053/boot/start.ipxe".to_owned(),
            bios: "undionly.kpxe".to_owned(),
            uefi: "ipxe.efi".to_owned(),
        }
    }

    fn asks(kind: u8, more: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0; FIXED];
        packet[..3].copy_from_slice(&[1, 1, 6]);
        packet[4..8].copy_from_slice(&[1, 2, 3, 4]);
        packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x77, 0, 1]);
        packet.extend(COOKIE);
        packet.extend([MESSAGE_TYPE, 1, kind]);
        for (code, value) in more {
            packet.extend([*code, u8::try_from(value.len()).unwrap()]);
            packet.extend(*value);
        }
        packet.push(END);
        packet
    }

    #[test]
    fn each_kind_of_machine_is_told_its_file_and_none_gets_an_address() {
        let pxe: (u8, &[u8]) = (CLASS, b"PXEClient:Arch:00000:UNDI:002001");
        for (more, file) in [
            (vec![pxe, (ARCHITECTURE, &[0, 0][..])], "undionly.kpxe"),
            (vec![pxe, (ARCHITECTURE, &[0, 7][..])], "ipxe.efi"),
            (vec![pxe, (ARCHITECTURE, &[0, 9][..])], "ipxe.efi"),
            (vec![pxe, (IPXE, &[1, 2, 3][..])], "http://10.0.0.1:5053/boot/start.ipxe"),
            (vec![pxe, (USER_CLASS, b"iPXE")], "http://10.0.0.1:5053/boot/start.ipxe"),
        ] {
            let reply = answer(&asks(DISCOVER, &more), Port::Dhcp, &settings()).unwrap();
            assert_eq!((reply.file.as_str(), reply.to), (file, None));
            let bytes = &reply.bytes;
            assert_eq!(bytes[..8], [2, 1, 6, 0, 1, 2, 3, 4]);
            assert_eq!(bytes[16..20], [0; 4], "an address is given");
            assert_eq!(bytes[20..24], [10, 0, 0, 1]);
            assert!(bytes[108..].starts_with(file.as_bytes()) && bytes.len() >= SHORTEST);
            let options = bytes[FIXED..].strip_prefix(&COOKIE).unwrap();
            assert_eq!(option(options, MESSAGE_TYPE).unwrap(), [OFFER]);
            assert_eq!(option(options, CLASS).unwrap(), b"PXEClient");
        }
    }

    #[test]
    fn only_a_question_for_a_program_is_answered() {
        let pxe: (u8, &[u8]) = (CLASS, b"PXEClient");
        let good = asks(DISCOVER, &[pxe]);
        assert!(answer(&good, Port::Dhcp, &settings()).is_some());
        assert!(answer(&good, Port::Pxe, &settings()).is_none());
        assert!(answer(&asks(REQUEST, &[pxe]), Port::Dhcp, &settings()).is_none(), "addresses are not ours to give");
        assert!(answer(&asks(DISCOVER, &[]), Port::Dhcp, &settings()).is_none());
        assert!(answer(&asks(DISCOVER, &[(CLASS, b"MSFT 5.0")]), Port::Dhcp, &settings()).is_none());
        let arm: (u8, &[u8]) = (ARCHITECTURE, &[0, 11]);
        assert!(answer(&asks(DISCOVER, &[pxe, arm]), Port::Dhcp, &settings()).is_none());
        let mut has_one = asks(REQUEST, &[pxe]);
        has_one[12..16].copy_from_slice(&[10, 0, 0, 9]);
        let reply = answer(&has_one, Port::Pxe, &settings()).unwrap();
        assert_eq!(reply.to, Some(Ipv4Addr::new(10, 0, 0, 9)));
        // Every cut and every flipped byte of a good question: an answer or none.
        for end in 0..good.len() {
            assert!(end > FIXED + 4 || answer(&good[..end], Port::Dhcp, &settings()).is_none());
            let mut other = good.clone();
            other[end] ^= 0xff;
            let _ = answer(&other, Port::Dhcp, &settings());
        }
    }
}
