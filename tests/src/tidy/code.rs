//! Rust text with comments and the insides of literals blanked, so that rules look at code alone.

/// The code of `text`: comments and the contents of string and character literals become spaces. Newlines stay, so that
/// line numbers hold.
pub(super) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match literal_or_comment(&chars, at) {
            Some(end) => end,
            None => {
                out.push(chars[at]);
                at += 1;
                continue;
            }
        };
        for &c in &chars[at..end] {
            out.push(if c == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    out
}

/// The part of a file before its unit tests.
pub(super) fn without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]").next().unwrap_or(code)
}

/// Whether `word` occurs in `code` with no letter, digit or underscore beside it. `word` may contain `::` and end in `!`.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && (word.ends_with('!') || !after.is_some_and(is_part))
    })
}

/// The end of the comment or literal that begins at `at`, if one does.
fn literal_or_comment(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => Some(position(chars, at, |c| c == '\n')),
        '/' if next == Some('*') => Some(block_comment(chars, at)),
        '"' => Some(string(chars, at + 1)),
        'r' | 'b' | 'c' if !at.checked_sub(1).is_some_and(|before| is_name(chars[before])) => prefixed(chars, at),
        '\'' => character(chars, at),
        _ => None,
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn position(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&at| wanted(chars[at])).unwrap_or(chars.len())
}

/// Block comments nest.
fn block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// The end of a string whose opening quote is before `at`.
fn string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `c"…"`, `b'x'`.
fn prefixed(chars: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    let mut raw = false;
    while let Some(c @ ('r' | 'b' | 'c')) = chars.get(at) {
        raw |= *c == 'r';
        at += 1;
        if at - start > 2 {
            return None;
        }
    }
    let hashes = position(chars, at, |c| c != '#') - at;
    if hashes > 0 && !raw {
        return None;
    }
    match chars.get(at + hashes) {
        Some('"') if raw => {
            let mut end = at + hashes + 1;
            while end < chars.len() {
                if chars[end] == '"' && chars[end + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes {
                    return Some(end + 1 + hashes);
                }
                end += 1;
            }
            Some(end)
        }
        Some('"') => Some(string(chars, at + 1)),
        Some('\'') if !raw => character(chars, at),
        _ => None,
    }
}

/// A character literal, not a lifetime.
fn character(chars: &[char], at: usize) -> Option<usize> {
    match (chars.get(at + 1)?, chars.get(at + 2)) {
        ('\\', _) => Some((position(chars, at + 3, |c| c == '\'') + 1).min(chars.len())),
        (_, Some('\'')) => Some(at + 3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_literals_are_no_code() {
        for text in [
            "let a = 1; // unsafe\n",
            "/* unsafe /* unsafe */ unsafe */ fn f<'a>(x: &'a str) {}",
            r##"let s = "unsafe \" unsafe"; let r = r#"unsafe " unsafe"#; let b = b"unsafe";"##,
            "let c = '\"'; let d = '\\''; let e = b'\\\\'; /// unsafe\n",
        ] {
            assert!(!has_word(&code_only(text), "unsafe"), "{text}");
        }
        assert!(has_word(&code_only("let c = '\"'; unsafe { f(\"x\") }"), "unsafe"));
        assert!(has_word(&code_only("fn f<'a>(x: &'a u8) { unsafe { g(x) } }"), "unsafe"));
    }

    #[test]
    fn words_have_ends() {
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(!has_word("operand", "rand"));
        assert!(has_word("rand::rng()", "rand"));
        assert!(has_word("std::fs::read", "std::fs"));
    }
}
