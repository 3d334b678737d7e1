//! Rules over a machine of facts.

use api::attributes::AttributeValue;
use api::facts::Source;
use api::{Attribute, Fact};

use super::*;

fn fact(name: &str, value: &str, source: Source) -> Fact {
    Fact { attribute: Attribute::text(name, value), source, evidence: String::new() }
}

/// Plugged into two switches, the first of which it reaches the master by.
fn machine() -> Vec<Fact> {
    vec![
        fact("node.serial", "JX93KQ2", Source::Smbios),
        fact("net.mac.set", "52:54:00:77:00:01,52:54:00:77:00:02", Source::Kernel),
        fact("switch", "tor-r7-a", Source::Lldp),
        fact("switch.port", "Ethernet1/7", Source::Lldp),
        fact("switch.eth0.name", "tor-r7-a", Source::Lldp),
        fact("switch.eth0.port", "Ethernet1/7", Source::Lldp),
        fact("switch.eth1.name", "spine-2", Source::Lldp),
        fact("switch.eth1.port", "Ethernet9", Source::Lldp),
    ]
}

fn rule(json: &str) -> Rule {
    let rule: Rule = serde_json::from_str(json).unwrap();
    rule.validate().unwrap();
    rule
}

fn of(rules: &[Rule], name: &str) -> Option<String> {
    let resolved = resolve("node-1", "10.77.0.11", &machine(), rules);
    let found: Vec<_> = resolved.attributes.into_iter().filter(|attribute| attribute.name == name).collect();
    assert!(found.len() <= 1, "{found:?}");
    found.into_iter().next().map(|attribute| match attribute.value {
        AttributeValue::Text(text) => text,
        AttributeValue::Scalar(number) => number.to_string(),
        AttributeValue::Ranges(ranges) => ranges.to_string(),
    })
}

#[test]
fn a_pattern_of_the_switch_gives_the_rack_and_the_port_the_unit() {
    let rules = [rule(
        r#"{"name":"racks","match":{"switch":"tor-(?<rack>r[0-9]+)-.*","switch_port":"Ethernet1/(?<unit>[0-9]+)"},
            "set":{"rack":"{rack}","rack.unit":"{unit}","zone":"z1"}}"#,
    )];
    assert_eq!(of(&rules, "rack").as_deref(), Some("r7"));
    assert_eq!(of(&rules, "rack.unit").as_deref(), Some("7"));
    assert_eq!(of(&rules, "rack.source").as_deref(), Some("rule"));
    assert_eq!(of(&rules, "rack.conflict"), None);
}

#[test]
fn every_kind_of_machine_can_be_meant_and_all_that_is_given_must_fit() {
    for (machines, fits) in [
        (r#"{"mac":["52:54:00:77:00:02"]}"#, true),
        (r#"{"mac":["aa:*","52:54:*"]}"#, true),
        (r#"{"mac":["aa:*"]}"#, false),
        (r#"{"serial":"JX9.*"}"#, true),
        (r#"{"serial":"JX9"}"#, false),
        (r#"{"subnet":"10.77.0.0/16"}"#, true),
        (r#"{"subnet":"10.78.0.0/16"}"#, false),
        (r#"{"node":"node-[12]"}"#, true),
        (r#"{"switch":"spine-.*"}"#, true),
        (r#"{"switch_port":"Ethernet9"}"#, true),
        (r#"{"switch":"spine-.*","switch_port":"Ethernet9"}"#, true),
        (r#"{"switch":"spine-.*","switch_port":"Ethernet1/7"}"#, false), // of two different switches
        (r#"{"subnet":"10.77.0.0/16","serial":"other"}"#, false),
    ] {
        let rules = [rule(&format!(r#"{{"name":"r","match":{machines},"set":{{"tier":"gold"}}}}"#))];
        assert_eq!(of(&rules, "tier").is_some(), fits, "{machines}");
    }
}

#[test]
fn the_first_rule_that_sets_a_name_counts_and_what_was_typed_on_the_machine_counts_more() {
    let rules = [
        rule(r#"{"name":"one","match":{"node":"node-1"},"set":{"rack":"r1"}}"#),
        rule(r#"{"name":"two","match":{"node":".*"},"set":{"rack":"r2","zone":"z"}}"#),
    ];
    assert_eq!((of(&rules, "rack").as_deref(), of(&rules, "zone").as_deref()), (Some("r1"), Some("z")));
    let mut facts = machine();
    facts.push(fact("rack", "typed", Source::CommandLine));
    facts.push(fact("rack", "seen", Source::Lldp));
    let attributes = resolve("node-1", "", &facts, &rules).attributes;
    assert!(attributes.contains(&Attribute::text("rack", "typed")));
    assert!(attributes.contains(&Attribute::text("rack.conflict", "true")), "{attributes:?}");
}

#[test]
fn values_are_read_as_on_a_command_line() {
    let rules = [rule(r#"{"name":"r","match":{"node":".*"},"set":{"level":"3","ports":"[1-5]"}}"#)];
    let attributes = resolve("node-1", "", &[], &rules).attributes;
    assert_eq!(attributes, Attribute::parse_list("level:3;ports:[1-5]").unwrap());
}

#[test]
fn without_rules_what_was_typed_stays_as_it_was_typed() {
    let typed = Attribute::parse_list("rack:r1;tier:a;tier:b;level:3").unwrap();
    let facts: Vec<Fact> = typed.iter().cloned().map(Fact::typed).collect();
    assert_eq!(resolve("n", "", &facts, &[]).attributes, typed);
}

#[test]
fn what_is_no_rule_is_refused_with_the_reason() {
    for (json, reason) in [
        (r#"{"name":"a b","match":{"node":"x"},"set":{"a":"b"}}"#, "name"),
        (r#"{"name":"r","match":{"node":"x"},"set":{}}"#, "sets 1 to"),
        (r#"{"name":"r","match":{},"set":{"a":"b"}}"#, "which machines"),
        (r#"{"name":"r","set":{"a":"b"}}"#, "which machines"),
        (r#"{"name":"r","match":{"switch":"("},"set":{"a":"b"}}"#, "switch: `(`"),
        (r#"{"name":"r","match":{"subnet":"10.0.0.0"},"set":{"a":"b"}}"#, "not a network"),
        (r#"{"name":"r","match":{"mac":["eth0"]},"set":{"a":"b"}}"#, "not a MAC"),
        (r#"{"name":"r","match":{"node":"x"},"set":{"a b":"c"}}"#, "not an attribute's name"),
        (r#"{"name":"r","match":{"node":"x"},"set":{"cpu.cores":"99"}}"#, "cannot set"),
        (r#"{"name":"r","match":{"node":"x"},"set":{"rack":"{rack}"}}"#, "names no group"),
        (r#"{"name":"r","match":{"node":"x"},"reserve":"*"}"#, "everybody"),
        (r#"{"name":"r","match":{"node":"x"},"reserve":"a b"}"#, "whitespace"),
        (r#"{"name":"r","match":{"node":"x"},"set":{"rack":" "}}"#, "is empty"),
        (r#"{"name":"r","match":{"node":"x"},"set":{"rack":"a;b:c"}}"#, "semicolon"),
    ] {
        let rule: Rule = serde_json::from_str(json).unwrap();
        let error = rule.validate().unwrap_err().to_string();
        assert!(error.contains(reason), "{json}: {error}");
    }
    assert!(serde_json::from_str::<Rule>(r#"{"name":"r","match":{"colour":"red"},"set":{}}"#).is_err());
}
