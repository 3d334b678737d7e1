//! TFTP (RFC 1350 with the options of 2347 to 2349), reading only: how firmware loads its first program.

/// A block as firmware without options wants it.
const BLOCK: usize = 512;
/// The largest that fits an Ethernet frame.
const LARGEST: usize = 1428;
/// After so many repetitions of a block nobody is there.
const REPEATS: u32 = 5;
/// Between two.
pub const REPEAT_MS: u64 = 1000;

/// What somebody wants to read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// A name, never a path that leads elsewhere.
    pub file: String,
    block: Option<usize>,
    size: bool,
}

/// Reads a request.
///
/// # Errors
/// The packet to answer with, or none where none is due.
pub fn request(packet: &[u8]) -> Result<Request, Option<Vec<u8>>> {
    let (code, rest) = packet.split_at_checked(2).ok_or(None)?;
    match code {
        [0, 1] => {}
        [0, 2] => return Err(Some(error(2, "nothing is written here"))),
        _ => return Err(None),
    }
    let mut words = rest.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let (file, mode) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_ascii_lowercase());
    if mode != "octet" && mode != "netascii" {
        return Err(Some(error(0, "the mode is octet")));
    }
    let file = file.trim_start_matches('/').to_owned();
    if file.is_empty() || file.split('/').any(|part| part == "..") || file.chars().any(char::is_control) {
        return Err(Some(error(2, "there is no such file")));
    }
    let mut wanted = Request { file, block: None, size: false };
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        match name.to_ascii_lowercase().as_str() {
            "blksize" => {
                wanted.block = value.parse::<usize>().ok().filter(|size| *size >= 8).map(|size| size.min(LARGEST))
            }
            "tsize" => wanted.size = true,
            _ => {}
        }
    }
    Ok(wanted)
}

/// An error packet.
#[must_use]
pub fn error(code: u8, text: &str) -> Vec<u8> {
    let mut packet = vec![0, 5, 0, code];
    packet.extend(text.bytes());
    packet.push(0);
    packet
}

/// A file on its way to one machine.
#[derive(Clone, Debug)]
pub struct Transfer {
    content: Vec<u8>,
    block: usize,
    /// The block that was sent last; 0 is the acknowledgement of options.
    number: u64,
    options: Option<Vec<u8>>,
    repeats: u32,
    over: bool,
}

impl Transfer {
    /// Begins one; `first` is sent.
    #[must_use]
    pub fn begin(request: &Request, content: Vec<u8>) -> (Self, Vec<u8>) {
        let mut options = vec![0, 6];
        let mut put = |name: &str, value: usize| {
            options.extend(name.bytes().chain([0]).chain(value.to_string().into_bytes()).chain([0]));
        };
        if let Some(block) = request.block {
            put("blksize", block);
        }
        if request.size {
            put("tsize", content.len());
        }
        let options = (options.len() > 2).then_some(options);
        let block = request.block.unwrap_or(BLOCK);
        let number = u64::from(options.is_none());
        let transfer = Self { content, block, number, options, repeats: 0, over: false };
        let first = transfer.current();
        (transfer, first)
    }

    /// Is there nothing more to do?
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over
    }

    fn current(&self) -> Vec<u8> {
        if let (0, Some(options)) = (self.number, &self.options) {
            return options.clone();
        }
        let from = usize::try_from(self.number - 1).unwrap_or(usize::MAX).saturating_mul(self.block);
        let part = self.content.get(from..).unwrap_or_default();
        let part = &part[..part.len().min(self.block)];
        // The number begins again after 65535: every loader of today expects it.
        let number = u16::try_from(self.number & 0xffff).unwrap_or_default();
        let mut packet = vec![0, 3];
        packet.extend(number.to_be_bytes());
        packet.extend(part);
        packet
    }

    /// Takes what the machine says; gives what is sent next.
    pub fn handle(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        match packet {
            [0, 4, high, low, ..] if !self.over => {
                let said = u16::from_be_bytes([*high, *low]);
                // An acknowledgement of an earlier block is a repetition: answering it would double every packet from then on.
                if u64::from(said) != self.number & 0xffff {
                    return None;
                }
                let sent = usize::try_from(self.number).unwrap_or(usize::MAX).saturating_mul(self.block);
                if self.number > 0 && sent > self.content.len() {
                    self.over = true;
                    return None;
                }
                self.number += 1;
                self.repeats = 0;
                Some(self.current())
            }
            // It does not want the rest.
            [0, 5, ..] => {
                self.over = true;
                None
            }
            _ => None,
        }
    }

    /// Nothing came for [`REPEAT_MS`].
    pub fn handle_timeout(&mut self) -> Option<Vec<u8>> {
        self.repeats += 1;
        if self.repeats > REPEATS {
            self.over = true;
        }
        (!self.over).then(|| self.current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(words: &[&str]) -> Vec<u8> {
        let mut packet = vec![0, 1];
        for word in words {
            packet.extend(word.bytes().chain([0]));
        }
        packet
    }

    fn read(words: &[&str], content: &[u8]) -> Vec<u8> {
        let wanted = request(&asks(words)).unwrap();
        let (mut transfer, mut packet) = Transfer::begin(&wanted, content.to_vec());
        let mut got = Vec::new();
        loop {
            let number = if packet[1] == 6 { [0, 0] } else { [packet[2], packet[3]] };
            if packet[1] == 3 {
                got.extend(&packet[4..]);
            }
            // A lost packet is sent again, a second acknowledgement changes nothing.
            assert_eq!(transfer.handle_timeout(), Some(packet.clone()));
            let next = transfer.handle(&[0, 4, number[0], number[1]]);
            assert_eq!(transfer.handle(&[0, 4, number[0], number[1]]), None);
            match next {
                Some(next) => packet = next,
                None => break,
            }
        }
        assert!(transfer.is_over());
        got
    }

    #[test]
    fn files_of_every_length_arrive_whole() {
        for length in [0, 1, 511, 512, 513, 1024, 70_000 * 8] {
            let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            assert_eq!(read(&["f", "octet"], &content), content, "{length}");
            assert_eq!(read(&["/f", "OCTET", "blksize", "1400", "tsize", "0"], &content), content, "{length}");
        }
        // More blocks than the number counts.
        let content = vec![7; 8 * 70_000];
        assert_eq!(read(&["f", "octet", "blksize", "8"], &content), content);
    }

    #[test]
    fn only_files_below_are_read_and_nobody_waits_for_ever() {
        for bad in [&["../etc/passwd", "octet"][..], &["a/../../b", "octet"], &["", "octet"], &["f", "mail"]] {
            assert!(matches!(request(&asks(bad)), Err(Some(_))), "{bad:?}");
        }
        assert!(matches!(request(&[0, 2, b'f', 0]), Err(Some(_))));
        for nonsense in [&[][..], &[0], &[0, 4, 0, 1], &[9, 9]] {
            assert_eq!(request(nonsense), Err(None));
        }
        let (mut transfer, _) = Transfer::begin(&request(&asks(&["f", "octet"])).unwrap(), vec![1; 2000]);
        for _ in 0..REPEATS {
            assert!(transfer.handle_timeout().is_some());
        }
        assert!(transfer.handle_timeout().is_none() && transfer.is_over());
    }
}
