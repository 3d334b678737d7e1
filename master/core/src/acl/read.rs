//! Reads the lists as Mesos spells them. Stricter than Mesos, which ignores what it does not know: in a
//! list of who may do what a misspelt word must not pass for a rule that is not there.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::action::is_path;
use super::entity::Names;
use super::{Acls, Action, Entity, Rule};

/// What is wrong with the lists.
#[derive(Debug, thiserror::Error)]
pub enum AclError {
    /// It is no JSON object.
    #[error("not a JSON object of access control lists")]
    Json(#[source] serde_json::Error),
    /// A list Mesos does not have.
    #[error("'{0}' is no list of Mesos's access control: is it misspelt?")]
    UnknownList(String),
    /// A rule.
    #[error("{place}: {mistake}")]
    Rule {
        /// Which.
        place: String,
        /// Why not.
        mistake: String,
    },
}

/// As written: `{"type": "ANY"}` or `{"values": ["a"]}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    values: Option<Vec<String>>,
}

pub(super) fn read(text: &str) -> Result<Acls, AclError> {
    let lists: Map<String, Value> = serde_json::from_str(text).map_err(AclError::Json)?;
    let (mut permissive, mut rules) = (true, BTreeMap::new());
    for (name, value) in lists {
        if name == "permissive" {
            permissive = value.as_bool().ok_or_else(|| wrong("permissive", "must be true or false"))?;
            continue;
        }
        let action = Action::of_list(&name).ok_or_else(|| AclError::UnknownList(name.clone()))?;
        let Value::Array(list) = value else { return Err(wrong(&name, "must be a list of rules")) };
        let list: Vec<Rule> = list
            .into_iter()
            .enumerate()
            .map(|(at, written)| rule(action, written).map_err(|mistake| wrong(&format!("{name}[{at}]"), mistake)))
            .collect::<Result<_, _>>()?;
        rules.insert(action, list);
    }
    Ok(Acls { permissive, rules })
}

fn wrong(place: &str, mistake: impl Into<String>) -> AclError {
    AclError::Rule { place: place.to_owned(), mistake: mistake.into() }
}

fn rule(action: Action, written: Value) -> Result<Rule, String> {
    let Value::Object(mut sides) = written else { return Err("must be an object".to_owned()) };
    let objects = action.objects();
    let mut side = |name: &str| {
        let written = sides.remove(name).ok_or_else(|| format!("'{name}' is missing"))?;
        entity(written, if is_path(name) { Names::Roles } else { Names::Plain })
            .map_err(|mistake| format!("'{name}' {mistake}"))
    };
    let (subjects, objects) = (side("principals")?, side(objects)?);
    match sides.keys().next() {
        Some(unknown) => Err(format!("'{unknown}' has no meaning here")),
        None => Ok(Rule { subjects, objects }),
    }
}

fn entity(written: Value, names: Names) -> Result<Entity, String> {
    let written: Written = serde_json::from_value(written).map_err(|error| format!("is malformed: {error}"))?;
    match (written.kind.as_deref(), written.values) {
        (Some("ANY"), None) => Ok(Entity::Any),
        (Some("NONE"), None) => Ok(Entity::None),
        (Some("ANY" | "NONE"), Some(_)) => Err("has values beside a type that needs none".to_owned()),
        (None | Some("SOME"), Some(values)) if !values.is_empty() => {
            let strange = |value: &&String| names == Names::Roles && value.contains('%') && !is_pattern(value);
            match values.iter().find(strange) {
                Some(value) => Err(format!("has '{value}': '%' is only known at the end, as in 'a/%'")),
                None => Ok(Entity::Some(values.into_iter().collect::<BTreeSet<_>>())),
            }
        }
        (None | Some("SOME"), _) => Err("has no values: give some, or the type ANY or NONE".to_owned()),
        (Some(kind), _) => Err(format!("is of the type '{kind}': it must be SOME, ANY or NONE")),
    }
}

fn is_pattern(value: &str) -> bool {
    value.strip_suffix("/%").is_some_and(|parent| !parent.is_empty() && !parent.contains('%'))
}
