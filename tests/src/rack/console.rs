//! What a server's serial console said: terminal escapes removed, waited for by text and deadline.

use std::fs;
use std::path::Path;

/// The console's text so far: without escape sequences, carriage returns and other control characters.
pub(super) fn read(file: &Path) -> String {
    plain(&String::from_utf8_lossy(&fs::read(file).unwrap_or_default()))
}

/// Removes `ESC [ … letter`, `ESC c` and control characters other than newline and tab.
fn plain(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(next) = chars.next() {
        match next {
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    // Parameters and intermediates up to the final byte, ECMA-48 section 5.4.
                    while chars.peek().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(c)) {
                        chars.next();
                    }
                    chars.next();
                }
            }
            '\n' | '\t' => text.push(next),
            _ if next.is_control() => {}
            _ => text.push(next),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_vanish_and_words_stay() {
        assert_eq!(plain("\u{1b}c\u{1b}[?7l\u{1b}[2J\u{1b}[0mSeaBIOS\r\n\u{8}ok\tyes"), "SeaBIOS\nok\tyes");
        assert_eq!(plain("cut \u{1b}[3"), "cut ");
    }
}
