//! Amounts by name, as /roles and quotas have them: scalars only, as in Mesos.

use std::collections::BTreeMap;

use api::{Milli, ResourceValue, Resources};

use crate::http::render::json::Json;

/// See the module. Zeros are not kept.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Quantities(BTreeMap<String, Milli>);

impl Quantities {
    /// Adds an amount.
    pub(crate) fn add(&mut self, name: &str, amount: Milli) {
        if amount == Milli::ZERO {
            return;
        }
        match self.0.get_mut(name) {
            Some(sum) => *sum = sum.saturating_add(amount),
            None => drop(self.0.insert(name.to_owned(), amount)),
        }
    }

    /// Adds what those resources amount to.
    pub(crate) fn add_all<'a>(&mut self, resources: impl IntoIterator<Item = &'a api::Resource>) {
        for resource in resources {
            if let ResourceValue::Scalar(amount) = resource.value {
                self.add(&resource.name, amount);
            }
        }
    }

    /// Adds another one.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, amount)| self.add(name, *amount));
    }

    /// What those resources amount to.
    pub(crate) fn of(resources: &Resources) -> Self {
        let mut quantities = Self::default();
        quantities.add_all(resources.iter());
        quantities
    }

    /// The amount of that name.
    pub(crate) fn get(&self, name: &str) -> Milli {
        self.0.get(name).copied().unwrap_or(Milli::ZERO)
    }

    /// `{"cpus":1.0}`.
    pub(crate) fn write(&self, json: &mut Json) {
        json.object(|json| {
            for (name, amount) in &self.0 {
                json.key_of(name).milli(*amount);
            }
        });
    }
}

/// `cpus:16; disk:20000; mem:16384`, as Mesos prints them.
impl std::fmt::Display for Quantities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("{}");
        }
        for (at, (name, amount)) in self.0.iter().enumerate() {
            write!(f, "{}{name}:{amount}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scalars_count() {
        let quantities = Quantities::of(&Resources::parse("cpus:7.8;ports:[31000-32000];disk:0;bugs:{a,b}").unwrap());
        assert_eq!(quantities.to_string(), "cpus:7.8");
        let mut json = Json::default();
        quantities.write(&mut json);
        assert_eq!(String::from_utf8(json.into_bytes()).unwrap(), r#"{"cpus":7.8}"#);
        assert_eq!(Quantities::default().to_string(), "{}");
    }
}
