//! What happened, as one number: two runs of a seed that differ anywhere have different ones.

use std::fmt::{self, Write};

/// Microseconds since the beginning.
pub(crate) type Micros = u64;

pub(crate) const MS: Micros = 1000;
pub(crate) const SECOND: Micros = 1_000_000;

/// FNV-1a over the lines, which are printed only if somebody wants to read them.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    line: String,
    printed: bool,
    pub(crate) lines: u64,
}

impl Trace {
    pub(crate) const fn new(printed: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, line: String::new(), printed, lines: 0 }
    }

    pub(crate) fn note(&mut self, at: Micros, what: fmt::Arguments<'_>) {
        self.line.clear();
        write!(self.line, "{:>4}.{:06} {what}", at / SECOND, at % SECOND).expect("a string takes everything");
        for byte in self.line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.lines += 1;
        if self.printed {
            eprintln!("{}", self.line);
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }
}
