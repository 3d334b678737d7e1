//! The names of what a dialogue has seen: `${framework.1}` is the first framework id that came along.

use std::collections::BTreeMap;

use regex_lite::{Captures, Regex};

/// Values by name and names by value, for one playing of one dialogue.
#[derive(Clone, Debug)]
pub struct Binding {
    by_name: BTreeMap<String, String>,
    by_value: BTreeMap<String, String>,
    counts: BTreeMap<String, usize>,
    id: Regex,
    address: Regex,
    ip: Regex,
    libprocess: Regex,
    reference: Regex,
}

impl Default for Binding {
    fn default() -> Self {
        let regex = |pattern: &str| Regex::new(pattern).expect("the pattern is a constant");
        Self {
            by_name: BTreeMap::new(),
            by_value: BTreeMap::new(),
            counts: BTreeMap::new(),
            id: regex(r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(-(O[0-9]+|S[0-9]+|[0-9]{4,}))?"),
            address: regex(r"\b[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}:[0-9]+"),
            ip: regex(r"\b127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\b"),
            libprocess: regex(r"slave\([0-9]+\)"),
            reference: regex(r"\$\{([a-z0-9_.]+)\}"),
        }
    }
}

impl Binding {
    /// The name of `value`; a value not seen before becomes the next of its class.
    pub fn name(&mut self, class: &str, value: &str) -> String {
        if let Some(name) = self.by_value.get(value) {
            return format!("${{{name}}}");
        }
        let count = self.counts.entry(class.to_owned()).or_default();
        *count += 1;
        let name = format!("{class}.{count}");
        self.by_value.insert(value.to_owned(), name.clone());
        self.by_name.insert(name.clone(), value.to_owned());
        format!("${{{name}}}")
    }

    /// A name that is one for all values of its kind; requests get the first that was seen.
    pub fn kind(&mut self, name: &str, value: &str) -> String {
        self.by_name.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        format!("${{{name}}}")
    }

    /// Whether this very value has a name.
    #[must_use]
    pub fn knows(&self, value: &str) -> bool {
        self.by_value.contains_key(value)
    }

    /// The values named so far of one class.
    pub fn class(&self, class: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{class}.");
        self.by_name.iter().filter(move |(name, _)| name.starts_with(&prefix)).map(|(_, value)| value.as_str())
    }

    /// Replaces what is different in every run by names. `class` is that of a UUID that stands alone.
    pub fn abstracted(&mut self, text: &str, class: &str) -> String {
        let id = self.id.clone();
        let text = replace_all(&id, text, |found| {
            let whole = &found[0];
            if made_up(whole) {
                return whole.to_owned();
            }
            let class = match found.get(3).map(|suffix| suffix.as_str()) {
                Some(suffix) if suffix.starts_with('O') => "offer",
                Some(suffix) if suffix.starts_with('S') => "agent",
                Some(_) => "framework",
                None => class,
            };
            self.name(class, whole)
        });
        let (address, ip, libprocess) = (self.address.clone(), self.ip.clone(), self.libprocess.clone());
        let text = replace_all(&address, &text, |_| "${address}".to_owned());
        let text = replace_all(&ip, &text, |found| self.kind("ip", &found[0]));
        let text = replace_all(&libprocess, &text, |_| "slave(${number})".to_owned());
        // An operation's error names the agent's host behind its address.
        let named = text.split_once(" at slave(${number})@${address} (");
        match named.and_then(|(before, rest)| Some((before, rest.split_once(')')?.1))) {
            Some((before, after)) => format!("{before} at slave(${{number}})@${{address}} (${{host}}){after}"),
            None => text,
        }
    }

    /// Puts values in the place of names; a name nobody has seen is left, and the request fails visibly.
    #[must_use]
    pub fn filled(&self, text: &str) -> String {
        replace_all(&self.reference, text, |found| {
            self.by_name.get(&found[1]).cloned().unwrap_or_else(|| found[0].to_owned())
        })
    }

    /// Framework ids in `text`, made-up ones excepted.
    #[must_use]
    pub fn frameworks_in(&self, text: &str) -> Vec<String> {
        self.id
            .captures_iter(text)
            .filter(|found| {
                found.get(3).is_some_and(|suffix| suffix.as_str().starts_with(|c: char| c.is_ascii_digit()))
            })
            .map(|found| found[0].to_owned())
            .filter(|id| !made_up(id))
            .collect()
    }
}

/// Ids that scenarios invent begin with zeros.
fn made_up(id: &str) -> bool {
    id.starts_with("00000000-")
}

fn replace_all(pattern: &Regex, text: &str, mut with: impl FnMut(&Captures<'_>) -> String) -> String {
    pattern.replace_all(text, |found: &Captures<'_>| with(found)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_named_in_order_and_found_again() {
        let mut binding = Binding::default();
        let master = "0bd43a4e-26b4-4a0a-9b75-1f3b0b4e3a10";
        let said = binding.abstracted(&format!("Offer {master}-O12 of {master}-0003, {master}-O9"), "uuid");
        assert_eq!(said, "Offer ${offer.1} of ${framework.1}, ${offer.2}");
        assert_eq!(binding.filled("${offer.2} ${nobody}"), format!("{master}-O9 ${{nobody}}"));
        assert_eq!(binding.abstracted("slave(2)@127.0.0.1:5050", "uuid"), "slave(${number})@${address}");
        assert_eq!(binding.abstracted("00000000-0000-0000-0000-000000000000-0001", "uuid").len(), 41);
    }
}
