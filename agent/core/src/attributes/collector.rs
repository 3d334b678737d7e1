//! Gathers facts in the three kinds of value Mesos's attributes have.

use api::attributes::{AttributeValue, parse_ranges};
use api::facts::Source;
use api::{Attribute, Fact, Milli};

use super::Own;

/// Facts in the making. How our kinds become Mesos's is decided here and nowhere else: a flag is the text `true` or
/// `false`, a number a scalar, a set the text of its members in order with commas between, a list of numbers ranges.
#[derive(Debug, Default)]
pub(super) struct Collector(Vec<Fact>);

/// Longer texts are somebody's prose.
const LONGEST_TEXT: usize = 256;

impl Collector {
    pub(super) fn into_facts(self) -> Vec<Fact> {
        self.0
    }

    pub(super) fn typed(&mut self, attribute: Attribute) {
        self.0.push(Fact::typed(attribute));
    }

    pub(super) fn agent(&mut self, own: &Own) {
        for (name, value) in [
            ("node.name", Some(own.node_name.as_str())),
            ("agent.version", Some(own.agent_version.as_str())),
            ("os.version", own.image_version.as_deref()),
        ] {
            self.from(Source::Agent, "").text(name, value);
        }
    }

    /// What follows is from there.
    pub(super) fn from<'a>(&'a mut self, source: Source, evidence: &'a str) -> From<'a> {
        From { facts: &mut self.0, source, evidence }
    }
}

/// Takes facts of one source.
#[derive(Debug)]
pub(super) struct From<'a> {
    facts: &'a mut Vec<Fact>,
    source: Source,
    evidence: &'a str,
}

impl From<'_> {
    fn push(&mut self, name: &str, value: AttributeValue) {
        let attribute = Attribute { name: name.to_owned(), value };
        self.facts.push(Fact { attribute, source: self.source, evidence: self.evidence.to_owned() });
    }

    /// Nothing where there is no value.
    pub(super) fn text(&mut self, name: &str, value: Option<impl AsRef<str>>) {
        let Some(value) = value else { return };
        let value = value.as_ref().trim();
        if !value.is_empty() {
            let value: String = value.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect();
            self.push(name, AttributeValue::Text(value));
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: &str, value: Option<impl Into<u64>>) {
        if let Some(milli) = value.map(Into::into).and_then(|value| value.checked_mul(1000)) {
            self.push(name, AttributeValue::Scalar(Milli(milli)));
        }
    }

    /// How many there are of something.
    pub(super) fn count(&mut self, name: &str, count: usize) {
        self.number(name, u64::try_from(count).ok());
    }

    pub(super) fn flag(&mut self, name: &str, value: Option<bool>) {
        self.text(name, value.map(|value| if value { "true" } else { "false" }));
    }

    /// Members in order, each once. An empty set is no fact.
    pub(super) fn set<T: AsRef<str>>(&mut self, name: &str, members: impl IntoIterator<Item = T>) {
        // A comma within a member would make two of it.
        let mut members: Vec<String> = members.into_iter().map(|member| member.as_ref().replace(',', " ")).collect();
        members.sort();
        members.dedup();
        let mut text = String::new();
        for member in members.iter().filter(|member| !member.is_empty()) {
            if text.len() + member.len() >= LONGEST_SET {
                break;
            }
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(member);
        }
        if !text.is_empty() {
            self.push(name, AttributeValue::Text(text));
        }
    }

    /// A list of CPUs as the kernel writes it. An empty one is no fact.
    pub(super) fn ranges(&mut self, name: &str, list: &hwdetect::IdList) {
        if let Some(ranges) = parse_ranges(&format!("[{list}]")).filter(|ranges| !ranges.is_empty()) {
            self.push(name, AttributeValue::Ranges(ranges));
        }
    }
}

/// Addresses of a machine with hundreds of ports do not all fit.
const LONGEST_SET: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_value_has_one_spelling() {
        let mut collector = Collector::default();
        let mut from = collector.from(Source::Kernel, "");
        from.text("t", Some(" a\u{7}b "));
        from.text("t0", Some("  "));
        from.number("n", Some(7u32));
        from.flag("f", Some(false));
        from.set("s", ["b", "a", "b", "c,d"]);
        from.set("s0", [""; 1]);
        from.ranges("r", &"0-3,8".parse().unwrap());
        from.ranges("r0", &hwdetect::IdList::default());
        let shown: Vec<String> =
            collector.into_facts().iter().map(|fact| format!("{:?}", fact.attribute.value)).collect();
        assert_eq!(
            shown,
            [
                "Text(\"ab\")",
                "Scalar(Milli(7000))",
                "Text(\"false\")",
                "Text(\"a,b,c d\")",
                "Ranges(Ranges([(0, 3), (8, 8)]))"
            ]
        );
    }
}
