//! ZooKeeper's serialization: big-endian numbers, and texts with their length before them.

use std::io;

use bytes::{Buf, BufMut, Bytes};

/// Requests of a client that only reads are a path long.
const LONGEST: usize = 64 << 10;

fn short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a request ends too early")
}

/// A request's bytes, taken one value after the other.
#[derive(Debug)]
pub(super) struct Input(pub(super) Bytes);

impl Input {
    pub(super) fn int(&mut self) -> io::Result<i32> {
        self.0.try_get_i32().map_err(|_| short())
    }

    pub(super) fn long(&mut self) -> io::Result<i64> {
        self.0.try_get_i64().map_err(|_| short())
    }

    pub(super) fn flag(&mut self) -> io::Result<bool> {
        self.0.try_get_u8().map(|byte| byte != 0).map_err(|_| short())
    }

    pub(super) fn buffer(&mut self) -> io::Result<Bytes> {
        // -1 stands for none.
        let length = usize::try_from(self.int()?).unwrap_or(0);
        if length > self.0.len() {
            return Err(short());
        }
        Ok(self.0.split_to(length))
    }

    pub(super) fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.buffer()?.to_vec()).map_err(io::Error::other)
    }

    pub(super) fn texts(&mut self) -> io::Result<Vec<String>> {
        let count = self.int()?;
        // Each takes four bytes at least: a larger count ends in an error, not in memory.
        (0..count.max(0)).map(|_| self.text()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An answer, with room for its length.
#[derive(Debug)]
pub(super) struct Reply(Vec<u8>);

impl Reply {
    pub(super) fn new() -> Self {
        Self(vec![0; 4])
    }

    /// The head of an answer to a request.
    pub(super) fn to(xid: i32, zxid: i64, error: i32) -> Self {
        Self::new().int(xid).long(zxid).int(error)
    }

    pub(super) fn int(mut self, value: i32) -> Self {
        self.0.put_i32(value);
        self
    }

    pub(super) fn long(mut self, value: i64) -> Self {
        self.0.put_i64(value);
        self
    }

    /// A flag that is not set.
    pub(super) fn no(mut self) -> Self {
        self.0.put_u8(0);
        self
    }

    pub(super) fn buffer(self, bytes: &[u8]) -> Self {
        let mut reply = self.int(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        reply.0.extend_from_slice(bytes);
        reply
    }

    /// With the length in front.
    pub(super) fn bytes(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// Requests out of the bytes that have come.
#[derive(Debug, Default)]
pub(super) struct Framing(bytes::BytesMut);

impl Framing {
    pub(super) fn buffer(&mut self) -> &mut bytes::BytesMut {
        &mut self.0
    }

    /// The next whole request, if it has come.
    pub(super) fn next(&mut self) -> io::Result<Option<Input>> {
        let Some(head) = self.0.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a request of {length} bytes")));
        }
        if self.0.len() < 4 + length {
            return Ok(None);
        }
        self.0.advance(4);
        Ok(Some(Input(self.0.split_to(length).freeze())))
    }
}
