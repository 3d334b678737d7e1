//! Bytes as lower-case hexadecimal digits.

use std::fmt::Write;

/// Two digits a byte.
#[must_use]
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

/// The 32 bytes of a digest; `None` when the text is none.
#[must_use]
pub(crate) fn decode(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_two_and_lower_case() {
        assert_eq!(super::encode(&[0, 0x0f, 0xff]), "000fff");
    }

    #[test]
    fn a_digest_is_read_back_and_nothing_else() {
        let bytes = std::array::from_fn(|at| u8::try_from(at * 8).unwrap());
        assert_eq!(super::decode(&super::encode(&bytes)), Some(bytes));
        for bad in ["", "00", &"0g".repeat(32), &"é".repeat(32), &"+1".repeat(32)] {
            assert_eq!(super::decode(bad), None, "{bad}");
        }
    }
}
