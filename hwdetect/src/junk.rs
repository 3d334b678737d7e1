//! Firmware strings that say nothing: what a board maker left in when nobody filled in the field.

/// Values, in lower case and without punctuation, that mean "nobody filled this in". Collected from machines; each is
/// compared with the whole string, so a real name that merely contains one is kept.
const PLACEHOLDERS: &[&str] = &[
    "to be filled by oem",
    "to be filled by o e m",
    "to be filled by oem more string",
    "to be filled",
    "default string",
    "default",
    "not specified",
    "not provided",
    "not available",
    "not applicable",
    "not present",
    "not defined",
    "not set",
    "no asset tag",
    "no asset information",
    "no dimm",
    "no module installed",
    "no enclosure",
    "none",
    "null",
    "n a",
    "na",
    "unknown",
    "undefined",
    "undefined string",
    "unspecified",
    "invalid",
    "empty",
    "oem",
    "o e m",
    "oem string",
    "oem default string000",
    "sample",
    "asset tag",
    "asset 1234567890",
    "asset1234567890",
    "chassis asset tag",
    "base board asset tag",
    "type2 board asset tag",
    "type2 board serial number",
    "type2 board vendor name1",
    "system manufacturer",
    "system product name",
    "system version",
    "system serial number",
    "system sku",
    "system sku number",
    "sku",
    "serial number",
    "serial",
    "ssn number",
    "part number",
    "partnum",
    "part num",
    "module part number",
    "manufacturer",
    "product name",
    "chassis manufacture",
    "chassis manufacturer",
    "chassis version",
    "chassis serial number",
    "bsn12345678901234567",
    "123456789",
    "1234567890",
    "0123456789",
    "01234567890123456789",
    "0123456789ab",
    "0123456789abcdef",
    "12345678",
    "1234567",
    "empty dimm",
    "dimm empty",
    "xx",
    "xxx",
];

/// The string with its padding gone, or `None` if it is a maker's placeholder rather than a fact.
///
/// Dropped: blanks, the known placeholders in any case and punctuation, strings of a single repeated character
/// (`00000000`, `........`, `FFFFFFFF`), and UUIDs whose hexadecimal digits are all `0` or all `F`.
#[must_use]
pub fn meaningful(text: &str) -> Option<String> {
    let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    let words = normal(trimmed);
    if words.is_empty() || PLACEHOLDERS.contains(&words.as_str()) || is_filler(&words) || is_numbered_slot(&words) {
        return None;
    }
    // Control characters would move a terminal's cursor when the string is shown.
    Some(trimmed.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// Lower case, with every run of what is no letter or digit made one space.
fn normal(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() {
            words.extend(c.to_lowercase());
        } else if !words.is_empty() && !words.ends_with(' ') {
            words.push(' ');
        }
    }
    words.truncate(words.trim_end().len());
    words
}

/// All zeros, all `f` or all `x`, however grouped. A single digit is a version, not a filler, unless it is zero.
fn is_filler(words: &str) -> bool {
    let mut characters = words.chars().filter(|c| *c != ' ');
    let Some(first) = characters.next() else { return true };
    let mut length = 1;
    for c in characters {
        if c != first {
            return false;
        }
        length += 1;
    }
    first == '0' || (length >= 4 && (first == 'f' || first == 'x'))
}

/// What some firmware writes for every slot alike: `AssetTagNum0`, `A1_AssetTagNum0`, `SerNum1`, `Array1_PartNumber0`.
fn is_numbered_slot(words: &str) -> bool {
    let last = words.rsplit(' ').next().unwrap_or(words).trim_end_matches(|c: char| c.is_ascii_digit());
    let numbered = words.ends_with(|c: char| c.is_ascii_digit());
    numbered && ["assettagnum", "sernum", "partnum", "partnumber", "manufacturer", "modulepartnumber"].contains(&last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_say_nothing() {
        for text in [
            "",
            "   ",
            "To Be Filled By O.E.M.",
            "To be filled by O.E.M",
            "TO BE FILLED BY OEM",
            "Default string",
            "Default string\n",
            "Not Specified",
            "None",
            "N/A",
            "0",
            "00000000",
            "0000-00-00",
            "0123456789",
            "System Serial Number",
            "System manufacturer",
            "Unknown",
            "........",
            "____",
            "FFFFFFFF",
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "A1_AssetTagNum0",
            "SerNum0",
            "Array1_PartNumber0",
            "NO DIMM",
        ] {
            assert_eq!(meaningful(text), None, "{text:?}");
        }
    }

    #[test]
    fn real_names_are_kept() {
        for text in [
            "Acme",
            "RackStar 2200",
            "1",
            "1.0",
            "2.1.7",
            "SN-A-0001",
            "11111111-2222-3333-4444-0000000000a1",
            "0000000001",
            "Default Systems Inc.",
            "Samsung",
            "X",
            "FF",
            "None Such Computers",
        ] {
            assert_eq!(meaningful(text).as_deref(), Some(text), "{text:?}");
        }
        assert_eq!(meaningful("  padded  \0").as_deref(), Some("padded"));
        assert_eq!(meaningful("a\u{1b}[2Jb").as_deref(), Some("a [2Jb"));
    }
}
