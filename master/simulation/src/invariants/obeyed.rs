//! Operators are obeyed: what was answered stays so, and nothing is offered of an agent that is out of use.

use std::collections::BTreeSet;

use master_core::View;
use master_core::state::Table;

/// Where the operator of the simulation writes.
pub(crate) const TABLE: Table = Table::ApiTokens;

#[derive(Debug, Default)]
pub(crate) struct Obeyed {
    /// Settings that were answered, each written once.
    settings: BTreeSet<String>,
    /// A role's weights and quotas, each different: the last that was answered, and those that may or may not be.
    weights: Values,
    quotas: Values,
}

#[derive(Debug, Default)]
pub(crate) struct Values {
    last: Option<u64>,
    unsure: BTreeSet<u64>,
}

impl Values {
    pub(crate) fn asked(&mut self, value: u64) {
        self.unsure.insert(value);
    }

    pub(crate) fn answered(&mut self, value: u64) {
        self.unsure.remove(&value);
        self.last = Some(value);
    }

    fn allow(&self, what: &str, value: Option<u64>) -> Result<(), String> {
        if value == self.last || value.is_some_and(|value| self.unsure.contains(&value)) {
            return Ok(());
        }
        Err(format!("the {what} is {value:?}, and the last that was answered {:?}", self.last))
    }
}

/// What was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Written {
    Setting(String),
    Weight(u64),
    Quota(u64),
    Other,
}

impl Obeyed {
    pub(crate) fn asked(&mut self, written: &Written) {
        match written {
            Written::Weight(value) => self.weights.asked(*value),
            Written::Quota(value) => self.quotas.asked(*value),
            Written::Setting(_) | Written::Other => {}
        }
    }

    pub(crate) fn answered(&mut self, written: &Written) {
        match written {
            Written::Setting(key) => drop(self.settings.insert(key.clone())),
            Written::Weight(value) => self.weights.answered(*value),
            Written::Quota(value) => self.quotas.answered(*value),
            Written::Other => {}
        }
    }

    /// In the end, when all agree.
    pub(crate) fn last(&self, view: &View, role: &str) -> Result<(), String> {
        let table = view.state.kept.table(TABLE);
        if let Some(lost) = self.settings.iter().find(|key| !table.contains_key(key.as_str())) {
            return Err(format!("setting {lost} was answered, and is not there"));
        }
        self.weights.allow("weight", view.state.weights.get(role).map(|weight| as_number(*weight)))?;
        self.quotas.allow("quota", view.state.quotas.get(role).and_then(|quota| Some(quota.limits.get("cpus")?.0)))
    }
}

/// A weight the operator gives, as a number.
fn as_number(weight: f64) -> u64 {
    (1..100_000).find(|number| weight_of(*number) >= weight).unwrap_or(0)
}

/// And back.
pub(crate) fn weight_of(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / 8.0
}

/// Of every picture of a leader.
pub(crate) fn out_of_use(view: &View) -> Result<(), String> {
    for offer in view.offers.values() {
        if view.state.agents.get(&offer.agent).is_some_and(|agent| agent.deactivated) {
            return Err(format!("{} of agent {} is offered, which is out of use", offer.resources, offer.agent));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answered_value_stays_unless_a_doubtful_one_came_through() {
        let mut values = Values::default();
        values.allow("weight", None).unwrap();
        values.asked(1);
        values.allow("weight", Some(1)).unwrap();
        values.answered(1);
        assert!(values.allow("weight", None).is_err());
        values.asked(2);
        values.asked(3);
        values.answered(3);
        assert!(values.allow("weight", Some(1)).is_err());
        values.allow("weight", Some(3)).unwrap();
        values.allow("weight", Some(2)).unwrap();
        assert_eq!(as_number(weight_of(77)), 77);
    }
}
