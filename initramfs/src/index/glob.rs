//! Shell patterns as fnmatch(3) reads them without flags, for module aliases.
//!
//! `*` matches any run of bytes (also `/` and a leading dot), `?` any one byte, `[a-f0]` one byte of a set, `[!…]` and
//! `[^…]` one byte outside it, `\x` the byte x. A `[` that is never closed stands for itself. Character classes such
//! as `[:alpha:]` are not special: the kernel writes none.

/// The byte under which `-` and `_` are the same, as in every module name and alias.
pub(crate) const fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// Spells a pattern the way the index stores it: `-` becomes `_` except inside brackets, where it makes a range.
pub(crate) fn fold_pattern(pattern: &str) -> String {
    let mut folded = String::with_capacity(pattern.len());
    let mut in_set = false;
    for character in pattern.chars() {
        match character {
            '[' => in_set = true,
            ']' => in_set = false,
            _ => {}
        }
        folded.push(if character == '-' && !in_set { '_' } else { character });
    }
    folded
}

/// How many leading bytes of a pattern stand for themselves.
pub(crate) fn literal_len(pattern: &[u8]) -> usize {
    pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\')).unwrap_or(pattern.len())
}

/// Whether `text` matches `pattern` as a whole. The text's `-` count as `_`; the pattern is folded already.
///
/// Never recurses and never allocates: after a mismatch only the last `*` is tried again one byte further, which is
/// enough because an earlier `*` could not do better.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        if pattern.get(at_pattern) == Some(&b'*') {
            last_star = Some((at_pattern + 1, at_text));
            at_pattern += 1;
            continue;
        }
        if let Some(width) = matches_one(&pattern[at_pattern..], fold(text[at_text])) {
            at_pattern += width;
            at_text += 1;
            continue;
        }
        let Some((after_star, swallowed)) = last_star else {
            return false;
        };
        last_star = Some((after_star, swallowed + 1));
        at_pattern = after_star;
        at_text = swallowed + 1;
    }
    pattern[at_pattern..].iter().all(|byte| *byte == b'*')
}

/// Matches one byte against the pattern's first element; the answer is the element's width.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'\\' => (*pattern.get(1)? == byte).then_some(2),
        b'[' => match set_contains(pattern, byte) {
            Some((width, contained)) => contained.then_some(width),
            None => (byte == b'[').then_some(1),
        },
        literal => (literal == byte).then_some(1),
    }
}

/// Reads the bracket expression at the start of `pattern`: its width and whether it holds the byte. `None` when it is
/// never closed.
fn set_contains(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    if negated {
        at += 1;
    }
    let first = at;
    let mut contained = false;
    loop {
        let mut low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((at + 1, contained != negated));
        }
        if low == b'\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        at += 1;
        let mut high = low;
        if pattern.get(at) == Some(&b'-') && pattern.get(at + 1).is_some_and(|end| *end != b']') {
            high = pattern[at + 1];
            at += 2;
            if high == b'\\' {
                high = *pattern.get(at)?;
                at += 1;
            }
        }
        contained |= (low..=high).contains(&byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_fnmatch_says() {
        let table: &[(&str, &str, bool)] = &[
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "", true),
            ("**", "anything", true),
            ("a*", "a", true),
            ("a?", "a", false),
            ("a?", "ab", true),
            ("*b", "aab", true),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "aab", false),
            ("a*/c", "a/b/c", true),
            ("*.x", ".x", true),
            ("[abc]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[!a-c]x", "dx", true),
            ("[^a-c]x", "ax", false),
            ("[]]", "]", true),
            ("[]-a]", "_", true),
            ("[a-]", "a", true),
            ("[\\]]", "]", true),
            ("[abc", "[abc", true),
            ("[abc", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", false),
            ("pci:v00008086d000010D3sv*sd*bc*sc*i*", "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00", true),
            ("pci:v*d*sv*sd*bc01sc08i02*", "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", true),
            ("acpi*:PNP0F13:*", "acpi:PNP0F13:", true),
            (
                "cpu:type:x86,ven*fam*mod*:feature:*0081*",
                "cpu:type:x86,ven0000fam0006mod003C:feature:,0000,0081,0099",
                true,
            ),
            ("usb:v0[0-4]*p*d*dc*", "usb:v03F0p0001d0100dc00", true),
            ("fs_xfs", "fs-xfs", true),
            ("crypto_sha256", "crypto_sha256", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), *expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn hyphens_fold_outside_brackets_only() {
        assert_eq!(fold_pattern("nls_iso8859-1"), "nls_iso8859_1");
        assert_eq!(fold_pattern("usb:v0[0-9]-x"), "usb:v0[0-9]_x");
    }

    #[test]
    fn a_pattern_of_many_stars_is_answered_at_once() {
        let pattern = "*a".repeat(200);
        let text = "a".repeat(5000) + "b";
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    }

    /// The definition of fnmatch, slow and recursive, without brackets and escapes.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| by_definition(rest, &text[skip..])),
            Some((b'?', rest)) => !text.is_empty() && by_definition(rest, &text[1..]),
            Some((byte, rest)) => text.first() == Some(byte) && by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern in "[-*?\\[\\]\\\\!^a-c:]{0,12}", text in "[-a-c:\\[\\]]{0,12}") {
            matches(pattern.as_bytes(), text.as_bytes());
            matches(&pattern.as_bytes()[literal_len(pattern.as_bytes())..], text.as_bytes());
        }

        #[test]
        fn no_bytes_make_it_panic(pattern in prop::collection::vec(any::<u8>(), 0..24), text in prop::collection::vec(any::<u8>(), 0..24)) {
            matches(&pattern, &text);
        }

        #[test]
        fn it_agrees_with_the_definition(pattern in "[*?ab]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), by_definition(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
