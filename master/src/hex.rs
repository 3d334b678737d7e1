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

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_two_and_lower_case() {
        assert_eq!(super::encode(&[0, 0x0f, 0xff]), "000fff");
    }
}
