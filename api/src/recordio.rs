//! RecordIO framing: `<length in decimal> LF <bytes>`, however the transport cuts it.

/// One framed record.
#[must_use]
pub fn encode(record: &[u8]) -> Vec<u8> {
    let mut framed = format!("{}\n", record.len()).into_bytes();
    framed.extend_from_slice(record);
    framed
}

/// Why a stream is not RecordIO. The stream cannot be used any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// Something else than decimal digits before the line feed.
    #[error("record length is not a decimal number")]
    BadLength,
    /// More than the decoder's limit.
    #[error("record of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// What the stream announced.
        length: usize,
        /// What the reader allows.
        limit: usize,
    },
}

/// Takes bytes as they come and gives records as they complete.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    limit: usize,
}

impl Decoder {
    /// Records longer than `limit` bytes are an error, so that a peer cannot make us hold its stream in memory.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit }
    }

    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete record, or `None` until more arrives.
    ///
    /// # Errors
    /// The stream is not RecordIO, or announces a record above the limit.
    pub fn pop(&mut self) -> Result<Option<Vec<u8>>, RecordError> {
        // A usize has at most 20 digits; anything longer without a line feed is no length.
        let Some(newline) = self.buffer.iter().take(21).position(|byte| *byte == b'\n') else {
            return if self.buffer.len() > 20 { Err(RecordError::BadLength) } else { Ok(None) };
        };
        let digits = &self.buffer[..newline];
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(RecordError::BadLength);
        }
        let length: usize =
            std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(RecordError::BadLength)?;
        if length > self.limit {
            return Err(RecordError::TooLong { length, limit: self.limit });
        }
        let end = newline + 1 + length;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let record = self.buffer[newline + 1..end].to_vec();
        self.buffer.drain(..end);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_records(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
                                              cut in 1usize..17) {
            let stream: Vec<u8> = records.iter().flat_map(|r| encode(r)).collect();
            let (mut decoder, mut seen) = (Decoder::new(1 << 20), Vec::new());
            for piece in stream.chunks(cut) {
                decoder.push(piece);
                while let Some(record) = decoder.pop().unwrap() { seen.push(record); }
            }
            prop_assert_eq!(seen, records);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::new(100);
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.pop() {}
        }
    }

    #[test]
    fn a_length_that_is_none_ends_the_stream() {
        for (bytes, error) in [
            (&b"abc\n"[..], RecordError::BadLength),
            (b"-1\nx", RecordError::BadLength),
            (b"123456789012345678901234", RecordError::BadLength),
            (b"999\n", RecordError::TooLong { length: 999, limit: 100 }),
        ] {
            let mut decoder = Decoder::new(100);
            decoder.push(bytes);
            assert_eq!(decoder.pop(), Err(error));
        }
    }
}
