//! SNTP (RFC 4330): the one packet out and the one back that set a clock at boot.

/// A request: 48 bytes whose transmit timestamp is a number the reply must repeat.
#[must_use]
pub fn request(cookie: u64) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[0] = 0b00_100_011; // no warning, version 4, client
    bytes[40..48].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

/// Why a reply does not count.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SntpError {
    /// Fewer than 48 bytes.
    #[error("an SNTP reply has 48 bytes, this has {0}")]
    Short(usize),
    /// Not mode 4, or the originate timestamp is not ours.
    #[error("not the reply to this request")]
    NotOurs,
    /// Stratum 0 or 16, or the leap indicator says so.
    #[error("the time server is not synchronised")]
    Unsynchronised,
}

/// The server's time when it answered, milliseconds since 1970. The network's delay is left in: at
/// boot half a second does not matter, certificates count minutes.
///
/// # Errors
/// When the packet is not a synchronised server's answer to the request with this cookie.
pub fn reply_unix_ms(bytes: &[u8], cookie: u64) -> Result<u64, SntpError> {
    if bytes.len() < 48 {
        return Err(SntpError::Short(bytes.len()));
    }
    if bytes[0] & 0b111 != 4 || bytes[24..32] != cookie.to_be_bytes() {
        return Err(SntpError::NotOurs);
    }
    let seconds = u32::from_be_bytes([bytes[40], bytes[41], bytes[42], bytes[43]]);
    let fraction = u32::from_be_bytes([bytes[44], bytes[45], bytes[46], bytes[47]]);
    if !(1..16).contains(&bytes[1]) || bytes[0] >> 6 == 3 || seconds == 0 {
        return Err(SntpError::Unsynchronised);
    }
    // Era 0 ends in 2036: a small number of seconds is era 1 (RFC 4330 section 3).
    let since_1900 = if seconds & 0x8000_0000 == 0 { u64::from(seconds) + (1 << 32) } else { u64::from(seconds) };
    Ok((since_1900 - SECONDS_1900_TO_1970) * 1000 + ((u64::from(fraction) * 1000) >> 32))
}

/// What one question and its answer say of a clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Exchange {
    /// The server's time less ours, in microseconds.
    pub offset_us: i64,
    /// What the network took, both ways: half of it is what the offset may be wrong by.
    pub delay_us: i64,
}

/// Compares clocks by the four timestamps of an exchange (RFC 5905 section 8): `sent_us` and `received_us` are ours.
///
/// # Errors
/// As [`reply_unix_ms`].
pub fn exchange(bytes: &[u8], cookie: u64, sent_us: i64, received_us: i64) -> Result<Exchange, SntpError> {
    reply_unix_ms(bytes, cookie)?;
    let came_us = timestamp_us(&bytes[32..40]).ok_or(SntpError::Unsynchronised)?;
    let left_us = timestamp_us(&bytes[40..48]).ok_or(SntpError::Unsynchronised)?;
    Ok(Exchange {
        offset_us: ((came_us - sent_us) + (left_us - received_us)) / 2,
        delay_us: ((received_us - sent_us) - (left_us - came_us)).max(0),
    })
}

/// Microseconds since 1970.
fn timestamp_us(bytes: &[u8]) -> Option<i64> {
    let number = |bytes: &[u8]| Some(u64::from(u32::from_be_bytes(bytes.try_into().ok()?)));
    let (seconds, fraction) = (number(bytes.get(..4)?)?, number(bytes.get(4..8)?)?);
    if seconds == 0 {
        return None;
    }
    let since_1900 = if seconds & 0x8000_0000 == 0 { seconds + (1 << 32) } else { seconds };
    let micros = (since_1900 - SECONDS_1900_TO_1970) * 1_000_000 + ((fraction * 1_000_000) >> 32);
    i64::try_from(micros).ok()
}

const SECONDS_1900_TO_1970: u64 = 2_208_988_800;

/// What the clock becomes: a source's time, but never before the image was built, because a
/// battery-less machine wakes in 1970 and certificates then seem to come from the future.
#[must_use]
pub fn clock_ms(now_ms: u64, source_ms: Option<u64>, floor_ms: u64) -> u64 {
    source_ms.unwrap_or(now_ms).max(floor_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(cookie: u64, seconds: u32) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[0] = 0b00_100_100;
        bytes[1] = 2;
        bytes[24..32].copy_from_slice(&cookie.to_be_bytes());
        bytes[40..44].copy_from_slice(&seconds.to_be_bytes());
        bytes[44..48].copy_from_slice(&0x8000_0000u32.to_be_bytes());
        bytes
    }

    #[test]
    fn a_reply_is_a_time() {
        // 2020-01-01T00:00:00.5Z, and the first second of era 1 (2036-02-07T06:28:16.5Z).
        assert_eq!(reply_unix_ms(&reply(9, 3_786_825_600), 9), Ok(1_577_836_800_500));
        assert_eq!(reply_unix_ms(&reply(9, 1), 9), Ok(2_085_978_497_500));
    }

    #[test]
    fn an_exchange_tells_offset_and_delay() {
        // The server got it 7 ms after we sent it by our clock, and answered 2 ms later; we had the answer 12 ms after sending.
        let base = 1_577_836_800_000_000_i64;
        let mut bytes = reply(9, 3_786_825_600);
        let fraction = |micros: u64| u32::try_from((micros << 32) / 1_000_000).unwrap().to_be_bytes();
        bytes[32..36].copy_from_slice(&3_786_825_600_u32.to_be_bytes());
        bytes[36..40].copy_from_slice(&fraction(7_001));
        bytes[44..48].copy_from_slice(&fraction(9_001));
        let said = exchange(&bytes, 9, base, base + 12_000).unwrap();
        assert!((said.offset_us - 2_000).abs() <= 1 && (said.delay_us - 10_000).abs() <= 1, "{said:?}");
        bytes[32..40].fill(0);
        assert_eq!(exchange(&bytes, 9, base, base), Err(SntpError::Unsynchronised));
    }

    #[test]
    fn only_a_synchronised_servers_answer_to_us_counts() {
        assert_eq!(reply_unix_ms(&reply(9, 3_786_825_600), 8), Err(SntpError::NotOurs));
        assert_eq!(reply_unix_ms(&request(9), 9), Err(SntpError::NotOurs));
        assert_eq!(reply_unix_ms(&[0; 47], 9), Err(SntpError::Short(47)));
        let mut kiss = reply(9, 3_786_825_600);
        kiss[1] = 0;
        assert_eq!(reply_unix_ms(&kiss, 9), Err(SntpError::Unsynchronised));
    }

    #[test]
    fn the_clock_never_runs_before_the_image_was_built() {
        for (now, source, floor, expected) in [
            (5, None, 100, 100),
            (500, None, 100, 500),
            (5, Some(300), 100, 300),
            (500, Some(50), 100, 100),
            (500, Some(300), 100, 300),
        ] {
            assert_eq!(clock_ms(now, source, floor), expected);
        }
    }
}
