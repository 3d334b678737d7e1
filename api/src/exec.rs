//! Programs beside a task, as a client and the master speak of them once HTTP has been left (`Upgrade: mesolith-exec`).
//!
//! A word is its kind in one byte, its length in four (the highest first) and its content. The client says [`Word::Open`]
//! first; the last word of all is [`Word::Ended`] or [`Word::Failed`], from the other side.

use serde::{Deserialize, Serialize};

/// The protocol's name in `Upgrade`.
pub const UPGRADE: &str = "mesolith-exec";
/// No longer word is taken.
pub const LONGEST: usize = 96 << 10;
/// As much data goes into one word at most.
pub const PIECE: usize = 32 << 10;
/// What each side of a node's session takes at the beginning, in [`cost`].
pub const WINDOW: u64 = 256 << 10;

/// What a word of data costs of the other side's credit: many short ones are not free, either.
#[must_use]
pub const fn cost(length: usize) -> u64 {
    length as u64 + 64
}

/// What to run.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The program and its arguments. None: what the task itself writes from now on.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Added to the task's environment.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    /// Rows and columns of the terminal it gets; without one it gets pipes.
    #[serde(default)]
    pub terminal: Option<(u16, u16)>,
}

/// One word of either side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Word {
    /// The client: begin.
    Open(Open),
    /// The client: for the program's input.
    Data(Vec<u8>),
    /// The client: its input has ended.
    End,
    /// The client: rows and columns of the terminal.
    Size(u16, u16),
    /// The client: send it this signal.
    Signal(u8),
    /// The master: it runs.
    Started,
    /// The master: from its output, or from its terminal.
    Stdout(Vec<u8>),
    /// The master: from its second output.
    Stderr(Vec<u8>),
    /// The master: how it ended.
    Ended(Ended),
    /// The master: why there is nothing, or nothing more.
    Failed(String),
}

/// How a program ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Ended {
    /// As shells pass it on.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
            Self::Signal(signal) => u8::try_from(128i32.saturating_add(signal)).unwrap_or(u8::MAX),
        }
    }
}

/// Why bytes are no words. The stream cannot be used any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WordError {
    /// Of a newer version, or of no version.
    #[error("there is no word of kind {0}")]
    Kind(u8),
    /// More than [`LONGEST`].
    #[error("a word of {0} bytes is too long")]
    TooLong(usize),
    /// Not what its kind has.
    #[error("the content of a word of kind {0} cannot be read")]
    Content(u8),
}

impl Word {
    /// The word as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, content): (u8, Vec<u8>) = match self {
            Self::Open(open) => (1, serde_json::to_vec(open).unwrap_or_default()),
            Self::Data(data) => (2, data.clone()),
            Self::End => (3, Vec::new()),
            Self::Size(rows, columns) => (4, [rows.to_be_bytes(), columns.to_be_bytes()].concat()),
            Self::Signal(signal) => (5, vec![*signal]),
            Self::Started => (16, Vec::new()),
            Self::Stdout(data) => (17, data.clone()),
            Self::Stderr(data) => (18, data.clone()),
            Self::Ended(Ended::Code(code)) => (19, code.to_be_bytes().to_vec()),
            Self::Ended(Ended::Signal(signal)) => (20, signal.to_be_bytes().to_vec()),
            Self::Failed(reason) => (21, reason.clone().into_bytes()),
        };
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let mut bytes = vec![kind];
        bytes.extend(length.to_be_bytes());
        bytes.extend(content);
        bytes
    }

    fn read(kind: u8, content: &[u8]) -> Result<Self, WordError> {
        let wrong = WordError::Content(kind);
        let number = || <[u8; 4]>::try_from(content).map_err(|_| wrong);
        Ok(match kind {
            1 => Self::Open(serde_json::from_slice(content).map_err(|_| wrong)?),
            2 => Self::Data(content.to_vec()),
            3 => Self::End,
            4 => {
                let [a, b, c, d] = number()?;
                Self::Size(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            }
            5 => Self::Signal(*content.first().filter(|_| content.len() == 1).ok_or(wrong)?),
            16 => Self::Started,
            17 => Self::Stdout(content.to_vec()),
            18 => Self::Stderr(content.to_vec()),
            19 => Self::Ended(Ended::Code(i32::from_be_bytes(number()?))),
            20 => Self::Ended(Ended::Signal(i32::from_be_bytes(number()?))),
            21 => Self::Failed(String::from_utf8_lossy(content).into_owned()),
            _ => return Err(WordError::Kind(kind)),
        })
    }
}

/// Takes bytes as they come and gives words as they complete.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete word, or `None` until more arrives.
    ///
    /// # Errors
    /// The bytes are no words.
    pub fn pop(&mut self) -> Result<Option<Word>, WordError> {
        let Some(([kind, a, b, c, d], rest)) = self.buffer.split_first_chunk::<5>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(WordError::TooLong(length));
        }
        let Some(content) = rest.get(..length) else { return Ok(None) };
        let word = Word::read(*kind, content)?;
        self.buffer.drain(..5 + length);
        Ok(Some(word))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_word_comes_back_however_it_is_cut() {
        let open = Open {
            arguments: vec!["sh".to_owned(), "-c".to_owned()],
            environment: vec![("A".to_owned(), "b=c".to_owned())],
            terminal: Some((24, 80)),
        };
        let words = [
            Word::Open(open),
            Word::Data(b"in".to_vec()),
            Word::End,
            Word::Size(50, 132),
            Word::Signal(2),
            Word::Started,
            Word::Stdout(vec![0; 4000]),
            Word::Stderr(Vec::new()),
            Word::Ended(Ended::Code(-3)),
            Word::Ended(Ended::Signal(9)),
            Word::Failed("why".to_owned()),
        ];
        let bytes: Vec<u8> = words.iter().flat_map(Word::encode).collect();
        for cut in [1, 3, 7, 100_000] {
            let (mut decoder, mut seen) = (Decoder::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                decoder.push(piece);
                while let Some(word) = decoder.pop().unwrap() {
                    seen.push(word);
                }
            }
            assert_eq!(seen, words);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.pop() {}
        }
    }

    #[test]
    fn endings_are_passed_on_as_shells_do() {
        assert_eq!([Ended::Code(3).code(), Ended::Signal(9).code(), Ended::Code(-1).code()], [3, 137, 255]);
    }
}
