//! From facts and rules to attributes.

use api::attributes::AttributeValue;
use api::disks::NamedRule;
use api::facts::{Source, winners};
use api::{Attribute, Fact};

use super::Rule;
use super::matching::{Known, Matcher};

/// What counts of a node, and all that was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// What frameworks see.
    pub attributes: Vec<Attribute>,
    /// Everything, the rules' facts after the node's own.
    pub facts: Vec<Fact>,
    /// For whom its resources are reserved: the first rule that says so.
    pub reserve: Option<String>,
    /// What its network is to be: the first rule that says so, and its name.
    pub network: Option<(String, api::network::Settings)>,
    /// What is to become of its disks, in the order of the rules.
    pub disks: Vec<NamedRule>,
}

/// Applies rules to what is known of a node. Total: a rule that does not compile (a later version's, say) does nothing.
#[must_use]
pub fn resolve(node: &str, address: &str, facts: &[Fact], rules: &[Rule]) -> Resolved {
    let mut all = facts.to_vec();
    let (mut reserve, mut network) = (None, None);
    let mut disks = Vec::new();
    if !rules.is_empty() {
        let known = Known::new(node, address, facts);
        for rule in rules {
            let Ok(matcher) = Matcher::new(&rule.machines) else { continue };
            let Some(groups) = matcher.fit(&known) else { continue };
            if reserve.is_none() {
                reserve.clone_from(&rule.reserve);
            }
            if let Some(settings) = rule.network.as_ref().filter(|_| network.is_none()) {
                network = Some((rule.name.clone(), settings.clone()));
            }
            disks.extend(rule.disks.iter().map(|one| NamedRule { name: rule.name.clone(), disks: one.clone() }));
            for (name, template) in &rule.set {
                let mut value = template.clone();
                for group in self::groups(template) {
                    let found = groups.get(group).map_or("", String::as_str);
                    value = value.replace(&format!("{{{group}}}"), found);
                }
                if let Some(attribute) = read(name, &value) {
                    let evidence = format!("rule {}", rule.name);
                    all.push(Fact { attribute, source: Source::Rule, evidence });
                }
            }
        }
    }
    let mut attributes: Vec<Attribute> = winners(&all).into_iter().map(|fact| fact.attribute.clone()).collect();
    attributes.extend(about_the_rack(&all));
    Resolved { attributes, facts: all, reserve, network, disks }
}

/// As on a command line: a number is a scalar, `[1-5]` ranges, the rest text.
fn read(name: &str, value: &str) -> Option<Attribute> {
    Attribute::parse_list(&format!("{name}:{value}")).ok()?.pop()
}

/// The names between braces.
pub(super) fn groups(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0))
}

/// Who said where the machine stands, and whether somebody else says otherwise: a machine that was moved, or a list
/// nobody brought up to date. Only where somebody observed it: what was merely typed needs no second word.
fn about_the_rack(facts: &[Fact]) -> Vec<Attribute> {
    let mut of_rack: Vec<&Fact> = facts.iter().filter(|fact| fact.attribute.name == "rack").collect();
    of_rack.sort_by_key(|fact| fact.source);
    let Some(best) = of_rack.first() else { return Vec::new() };
    let named = |name: &str| facts.iter().any(|fact| fact.attribute.name == name);
    if best.source == Source::CommandLine && of_rack.len() == 1 || named("rack.source") {
        return Vec::new();
    }
    let mut about = vec![Attribute::text("rack.source", best.source.name())];
    let differs = |fact: &&&Fact| fact.source != best.source && shown(&fact.attribute) != shown(&best.attribute);
    if of_rack.iter().any(|fact| differs(&fact)) {
        about.push(Attribute::text("rack.conflict", "true"));
    }
    about
}

fn shown(attribute: &Attribute) -> String {
    match &attribute.value {
        AttributeValue::Text(text) => text.clone(),
        AttributeValue::Scalar(number) => number.to_string(),
        AttributeValue::Ranges(ranges) => ranges.to_string(),
    }
}
