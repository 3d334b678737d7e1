//! Offer constraints: which agents a framework wants to hear of in a role, by their attributes.

use std::sync::atomic::{AtomicU64, Ordering};

use api::Attribute;
use api::attributes::AttributeValue;

use super::AgentFacts;

/// The longest pattern, in bytes.
const LONGEST_PATTERN: usize = 4096;
/// What a compiled pattern may take: Mesos's `--offer_constraints_re2_*` limits, in our terms.
const LARGEST_PROGRAM: usize = 64 * 1024;

/// One of these groups holds. Mesos: `RoleConstraints`.
#[derive(Clone, Debug, Default)]
pub struct RoleConstraints {
    /// In each, all hold.
    pub groups: Vec<Vec<AttributeConstraint>>,
}

/// One condition.
#[derive(Clone, Debug)]
pub struct AttributeConstraint {
    /// What is looked at.
    pub selector: Selector,
    /// What it must be.
    pub predicate: Predicate,
}

/// What of an agent is looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Selector {
    /// The first attribute of that name.
    Attribute(String),
    /// The pseudo attribute HOSTNAME.
    Hostname,
    /// The pseudo attribute REGION.
    Region,
    /// The pseudo attribute ZONE.
    Zone,
}

/// What must be so. What is there and not text satisfies every predicate about text.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// It is there.
    Exists,
    /// It is not there.
    NotExists,
    /// It is there and is this text.
    TextEquals(String),
    /// It is not there or is another text.
    TextNotEquals(String),
    /// It is there and matches whole.
    TextMatches(Pattern),
    /// It is not there or does not match whole.
    TextNotMatches(Pattern),
}

/// A regular expression that matches whole texts, in time linear in their length.
#[derive(Clone, Debug)]
pub struct Pattern(regex_lite::Regex);

/// Why a pattern is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PatternError {
    /// More than 4,096 bytes.
    #[error("Failed to construct regex from pattern: it is {0} bytes long, and at most 4096 are allowed")]
    TooLong(usize),
    /// Not a regular expression, or one that takes too much memory.
    #[error("Failed to construct regex from pattern '{pattern}': {why}")]
    Malformed {
        /// As given.
        pattern: String,
        /// In the parser's words.
        why: String,
    },
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is malformed or too large.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        if pattern.len() > LONGEST_PATTERN {
            return Err(PatternError::TooLong(pattern.len()));
        }
        let build = |text: &str| {
            regex_lite::RegexBuilder::new(text)
                .size_limit(LARGEST_PROGRAM)
                .build()
                .map_err(|error| PatternError::Malformed { pattern: pattern.to_owned(), why: why(pattern, &error) })
        };
        build(pattern)?; // `a)|(b` is one only between our parentheses
        build(&format!("^(?:{pattern})$")).map(Self)
    }

    fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// The commonest mistakes in RE2's words, the others in our parser's.
fn why(pattern: &str, error: &regex_lite::Error) -> String {
    let ours = error.to_string();
    let known = [
        ("open group without closing", "missing )"),
        ("closing ')' without", "unexpected )"),
        ("unclosed character class", "missing ]"),
        ("missing repetition", "no argument for repetition operator"),
    ];
    known
        .iter()
        .find(|(part, _)| ours.contains(part))
        .map_or(ours.clone(), |(_, theirs)| format!("{theirs}: {pattern}"))
}

enum Seen<'a> {
    Nothing,
    Text(&'a str),
    Other,
}

impl RoleConstraints {
    /// Does an agent satisfy them?
    #[must_use]
    pub fn allow(&self, facts: &AgentFacts) -> bool {
        self.groups.iter().any(|group| group.iter().all(|constraint| constraint.holds(facts)))
    }
}

impl AttributeConstraint {
    fn holds(&self, facts: &AgentFacts) -> bool {
        let domain = facts.domain.as_ref();
        let seen = match &self.selector {
            Selector::Hostname => Seen::Text(&facts.hostname),
            Selector::Region => domain.map_or(Seen::Nothing, |domain| Seen::Text(&domain.region)),
            Selector::Zone => domain.map_or(Seen::Nothing, |domain| Seen::Text(&domain.zone)),
            Selector::Attribute(name) => match facts.attributes.iter().find(|attribute| attribute.name == *name) {
                None => Seen::Nothing,
                Some(Attribute { value: AttributeValue::Text(text), .. }) => Seen::Text(text),
                Some(_) => Seen::Other,
            },
        };
        match (&self.predicate, seen) {
            (Predicate::Exists, Seen::Nothing) | (Predicate::NotExists, Seen::Text(_) | Seen::Other) => false,
            (Predicate::Exists, _) | (Predicate::NotExists, _) => true,
            (Predicate::TextEquals(_) | Predicate::TextMatches(_), Seen::Nothing) => false,
            (Predicate::TextNotEquals(_) | Predicate::TextNotMatches(_), Seen::Nothing) => true,
            (_, Seen::Other) => true,
            (Predicate::TextEquals(wanted), Seen::Text(text)) => text == wanted,
            (Predicate::TextNotEquals(wanted), Seen::Text(text)) => text != wanted,
            (Predicate::TextMatches(pattern), Seen::Text(text)) => pattern.matches(text),
            (Predicate::TextNotMatches(pattern), Seen::Text(text)) => !pattern.matches(text),
        }
    }
}

/// Constraints with what is known of each agent already: two bits an agent.
#[derive(Debug)]
pub(super) struct Verdicts {
    constraints: RoleConstraints,
    /// Atomic only so that remembering needs no exclusive access.
    known: Vec<AtomicU64>,
}

const AGENTS_A_WORD: usize = 32;

impl Verdicts {
    pub(super) const fn new(constraints: RoleConstraints) -> Self {
        Self { constraints, known: Vec::new() }
    }

    /// Room to remember agents below `count`.
    pub(super) fn grow(&mut self, count: usize) {
        self.known.resize_with(count.div_ceil(AGENTS_A_WORD), AtomicU64::default);
    }

    pub(super) fn allow(&self, agent: u32, facts: &AgentFacts) -> bool {
        let shift = agent as usize % AGENTS_A_WORD * 2;
        let Some(word) = self.known.get(agent as usize / AGENTS_A_WORD) else { return self.constraints.allow(facts) };
        let verdict = word.load(Ordering::Relaxed) >> shift & 3;
        if verdict != 0 {
            return verdict == 1;
        }
        let allowed = self.constraints.allow(facts);
        word.fetch_or((if allowed { 1 } else { 2 }) << shift, Ordering::Relaxed);
        allowed
    }

    /// The agent is another one, or has changed.
    pub(super) fn forget(&self, agent: u32) {
        if let Some(word) = self.known.get(agent as usize / AGENTS_A_WORD) {
            word.fetch_and(!(3 << (agent as usize % AGENTS_A_WORD * 2)), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Domain;
    use super::*;

    fn one(selector: Selector, predicate: Predicate) -> RoleConstraints {
        RoleConstraints { groups: vec![vec![AttributeConstraint { selector, predicate }]] }
    }

    #[test]
    fn predicates_mean_what_mesos_says() {
        let facts = AgentFacts {
            hostname: "n1".to_owned(),
            attributes: Arc::new(Attribute::parse_list("rack:r1;rack:r2;level:3").unwrap()),
            domain: Some(Domain { region: "eu".to_owned(), zone: "a".to_owned() }),
            ..AgentFacts::default()
        };
        let named = |name: &str| Selector::Attribute(name.to_owned());
        let pattern = |text: &str| Pattern::new(text).unwrap();
        let text = |text: &str| text.to_owned();
        for (selector, predicate, holds) in [
            (named("rack"), Predicate::Exists, true),
            (named("none"), Predicate::Exists, false),
            (named("rack"), Predicate::NotExists, false),
            (named("none"), Predicate::NotExists, true),
            (named("rack"), Predicate::TextEquals(text("r1")), true),
            (named("rack"), Predicate::TextEquals(text("r2")), false),
            (named("none"), Predicate::TextEquals(text("r1")), false),
            (named("level"), Predicate::TextEquals(text("x")), true),
            (named("level"), Predicate::TextNotEquals(text("x")), true),
            (named("none"), Predicate::TextNotEquals(text("x")), true),
            (named("rack"), Predicate::TextNotEquals(text("r1")), false),
            (named("rack"), Predicate::TextMatches(pattern("r[0-9]")), true),
            (named("rack"), Predicate::TextMatches(pattern("r")), false),
            (named("rack"), Predicate::TextMatches(pattern("x|r1|y")), true),
            (named("rack"), Predicate::TextNotMatches(pattern("r.")), false),
            (named("none"), Predicate::TextNotMatches(pattern("r.")), true),
            (Selector::Hostname, Predicate::TextEquals(text("n1")), true),
            (Selector::Region, Predicate::TextEquals(text("eu")), true),
            (Selector::Zone, Predicate::TextNotEquals(text("a")), false),
        ] {
            let said = format!("{selector:?} {predicate:?}");
            let verdicts = {
                let mut verdicts = Verdicts::new(one(selector, predicate));
                verdicts.grow(40);
                verdicts
            };
            for _ in 0..2 {
                assert_eq!(verdicts.allow(39, &facts), holds, "{said}");
            }
            verdicts.forget(39);
            assert_eq!(verdicts.allow(39, &facts), holds, "{said}");
        }
        let both = RoleConstraints {
            groups: vec![
                vec![AttributeConstraint { selector: named("none"), predicate: Predicate::Exists }],
                vec![AttributeConstraint { selector: named("rack"), predicate: Predicate::Exists }],
            ],
        };
        assert!(both.allow(&facts), "one group is enough");
    }

    #[test]
    fn patterns_are_bounded() {
        for bad in ["(", "a)|(b", "[z-a]", "(?:x{1000}){1000}"] {
            assert!(matches!(Pattern::new(bad), Err(PatternError::Malformed { .. })), "{bad}");
        }
        assert_eq!(Pattern::new(&"a".repeat(5000)).unwrap_err(), PatternError::TooLong(5000));
    }
}
