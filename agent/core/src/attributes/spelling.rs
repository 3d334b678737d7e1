//! Names in one spelling: a constraint cannot know whether the firmware says `Dell Inc.` or `DELL`.

/// What makers put behind their names.
const LEGAL_FORMS: [&str; 11] =
    ["inc", "incorporated", "corp", "corporation", "co", "company", "ltd", "limited", "llc", "gmbh", "ag"];

/// Lower-case letters and digits, anything else one hyphen: `PowerEdge R650` is `poweredge-r650`.
pub(super) fn slug(text: &str) -> Option<String> {
    let mut slug = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '.' && slug.ends_with(|last: char| last.is_ascii_digit()) {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches(['-', '.']);
    (!slug.is_empty()).then(|| slug.to_owned())
}

/// A maker's name without its legal form: `Dell Inc.` is `dell`.
pub(super) fn maker(text: &str) -> Option<String> {
    match text {
        "GenuineIntel" => return Some("intel".to_owned()),
        "AuthenticAMD" => return Some("amd".to_owned()),
        "HygonGenuine" => return Some("hygon".to_owned()),
        _ => {}
    }
    let slug = slug(text)?;
    let mut parts: Vec<&str> = slug.split('-').collect();
    while parts.len() > 1 && parts.last().is_some_and(|last| LEGAL_FORMS.contains(last)) {
        parts.pop();
    }
    Some(parts.join("-"))
}

/// The BIOS writes `03/14/2025`; sorted and compared are `2025-03-14`. Anything else stays as it is.
pub(super) fn date(text: &str) -> String {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [month, day, year]
            if year.len() == 4
                && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())) =>
        {
            format!("{year}-{month:0>2}-{day:0>2}")
        }
        _ => text.to_owned(),
    }
}

/// What words of a place may be called, and what that is here.
const PLACES: [(&str, &str); 12] = [
    ("rack", "rack"),
    ("row", "row"),
    ("room", "room"),
    ("dc", "dc"),
    ("datacenter", "dc"),
    ("datacentre", "dc"),
    ("site", "dc"),
    ("zone", "zone"),
    ("region", "region"),
    ("unit", "rack.unit"),
    ("u", "rack.unit"),
    ("position", "rack.unit"),
];

/// Finds `rack=R7` among other words: pairs of name and value with `=` or `:` between, blanks, commas or semicolons
/// around; what stands before a dot in the name (`lab.rack`) is whose it is.
pub(super) fn place_words(text: &str) -> Vec<(&'static str, String)> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
    words
        .filter_map(|word| {
            let (name, value) = word.split_once(['=', ':'])?;
            let name = name.rsplit('.').next()?.to_ascii_lowercase();
            let (_, place) = PLACES.iter().find(|(known, _)| *known == name)?;
            (!value.is_empty()).then(|| (*place, value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_and_models_have_one_spelling() {
        for (text, expected) in [
            ("Dell Inc.", "dell"),
            ("HPE", "hpe"),
            ("Super Micro Computer, Inc.", "super-micro-computer"),
            ("GenuineIntel", "intel"),
            ("QEMU", "qemu"),
            ("Co.", "co"),
        ] {
            assert_eq!(maker(text).as_deref(), Some(expected));
        }
        assert_eq!(slug("PowerEdge R650 (v2.1)").as_deref(), Some("poweredge-r650-v2.1"));
        assert_eq!((slug("  "), maker("---")), (None, None));
        assert_eq!((date("3/14/2025").as_str(), date("last week").as_str()), ("2025-03-14", "last week"));
    }

    #[test]
    fn words_of_a_place_are_found_among_others() {
        assert_eq!(place_words("lab.rack=R07"), [("rack", "R07".to_owned())]);
        assert_eq!(
            place_words("uplink; Rack:R7,row=3 site=berlin-1 u=12"),
            [("rack", "R7".into()), ("row", "3".into()), ("dc", "berlin-1".into()), ("rack.unit", "12".into())]
        );
        assert_eq!(place_words("bracket=R7 rack= racks=2 rack"), []);
    }
}
