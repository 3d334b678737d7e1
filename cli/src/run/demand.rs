//! What a task needs of a node, and whether an offer gives it.

use api::Milli;
use api::v1::value::Scalar;
use api::v1::{Offer, Resource, attributes_from_wire};

use super::constraint::{Constraint, Place};

/// Amounts by name, and where.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// `cpus`, `mem`, `disk`, `gpus`; none is zero.
    amounts: Vec<(&'static str, Milli)>,
    constraints: Vec<Constraint>,
}

/// What an offer is to a demand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// These resources of it are to be used.
    Fits(Vec<Resource>),
    /// Not there: the constraint that fails, and the value it found.
    Elsewhere { constraint: String, field: String, value: Option<String> },
    /// Too small, by at most this factor (0 when one resource lacks altogether).
    TooSmall { ratio: f64 },
}

impl Demand {
    /// Zero amounts are not asked for.
    pub(crate) fn new(amounts: [(&'static str, f64); 4], constraints: Vec<Constraint>) -> Result<Self, String> {
        let mut asked = Vec::new();
        for (name, units) in amounts {
            let amount = Milli::from_units(units).ok_or_else(|| format!("{units} is no amount of {name}"))?;
            if amount != Milli::ZERO {
                asked.push((name, amount));
            }
        }
        if asked.is_empty() {
            return Err("the task asks for nothing at all".to_owned());
        }
        Ok(Self { amounts: asked, constraints })
    }

    /// `cpus:0.5; mem:64`.
    pub(crate) fn text(&self) -> String {
        self.amounts.iter().map(|(name, amount)| format!("{name}:{amount}")).collect::<Vec<_>>().join("; ")
    }

    /// The same of an offer, in the resources asked for.
    pub(crate) fn of_offer(&self, offer: &Offer) -> String {
        let amounts = self.amounts.iter().map(|(name, _)| format!("{name}:{}", total(&offer.resources, name)));
        amounts.collect::<Vec<_>>().join("; ")
    }

    /// How much of what is asked `have` holds at its scarcest, at most 1.
    pub(crate) fn ratio(&self, have: impl Fn(&str) -> Milli) -> f64 {
        self.amounts.iter().map(|(name, amount)| (have(name).units() / amount.units()).min(1.0)).fold(1.0, f64::min)
    }

    /// Judges one offer.
    pub(crate) fn judge(&self, offer: &Offer, node: Option<&str>) -> Verdict {
        let attributes = attributes_from_wire(&offer.attributes);
        let place = Place { hostname: &offer.hostname, node, attributes: &attributes };
        if let Some(failed) = self.constraints.iter().find(|constraint| !constraint.holds(&place)) {
            let field = failed.field().to_owned();
            let value = place.field(&field);
            return Verdict::Elsewhere { constraint: failed.text().to_owned(), field, value };
        }
        let mut taken = Vec::new();
        for (name, amount) in &self.amounts {
            match take(&offer.resources, name, *amount) {
                Some(part) => taken.extend(part),
                None => return Verdict::TooSmall { ratio: self.ratio(|name| total(&offer.resources, name)) },
            }
        }
        Verdict::Fits(taken)
    }
}

/// May a task without special wishes use it? Not revocable, no volume or whole disk.
fn is_plain(resource: &Resource) -> bool {
    resource.revocable.is_none() && resource.disk.is_none()
}

fn amount_of(resource: &Resource) -> Milli {
    resource.scalar.as_ref().and_then(|scalar| Milli::from_units(scalar.value)).unwrap_or(Milli::ZERO)
}

fn total(resources: &[Resource], name: &str) -> Milli {
    resources
        .iter()
        .filter(|resource| resource.name == name && is_plain(resource))
        .fold(Milli::ZERO, |sum, resource| sum.saturating_add(amount_of(resource)))
}

/// `amount` of `name`, from as many entries as it needs (reserved and not), each in its own kind.
fn take(resources: &[Resource], name: &str, amount: Milli) -> Option<Vec<Resource>> {
    let (mut left, mut taken) = (amount, Vec::new());
    for resource in resources.iter().filter(|resource| resource.name == name && is_plain(resource)) {
        let part = amount_of(resource).min(left);
        if part != Milli::ZERO {
            taken.push(Resource { scalar: Some(Scalar { value: part.units() }), ..resource.clone() });
            left = left.saturating_sub(part);
        }
    }
    (left == Milli::ZERO).then_some(taken)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use api::v1::{Format, attributes_to_wire, resources_to_wire};
    use api::{Attribute, Resources};

    /// An offer of agent `agent-ID` from node `host-ID`.
    pub(crate) fn offer(id: &str, resources: &str, attributes: &str) -> Offer {
        Offer {
            id: id.into(),
            agent_id: format!("agent-{id}").into(),
            hostname: format!("host-{id}"),
            resources: resources_to_wire(
                &Resources::parse(resources).unwrap(),
                &Format { refined: true, allocation_role: None },
            ),
            attributes: attributes_to_wire(&Attribute::parse_list(attributes).unwrap()),
            ..Offer::default()
        }
    }

    fn demand(cpus: f64, mem: f64, constraints: &[&str]) -> Demand {
        let constraints = constraints.iter().map(|text| Constraint::parse(text).unwrap()).collect();
        Demand::new([("cpus", cpus), ("mem", mem), ("disk", 0.0), ("gpus", 0.0)], constraints).unwrap()
    }

    #[test]
    fn reserved_and_free_resources_add_up_and_stay_what_they_are() {
        let offer = offer("1", "cpus(dev):1;cpus:4;mem:512;ports:[1-2]", "");
        let Verdict::Fits(taken) = demand(1.5, 64.0, &[]).judge(&offer, None) else { panic!("it fits") };
        let amounts: Vec<_> =
            taken.iter().map(|part| (part.name.as_str(), part.reservations.len(), amount_of(part).0)).collect();
        assert_eq!(amounts, [("cpus", 1, 1000), ("cpus", 0, 500), ("mem", 0, 64_000)]);
    }

    #[test]
    fn the_scarcest_resource_says_how_far_off_an_offer_is() {
        let offer = offer("1", "cpus:2;mem:512", "rack:r1");
        assert_eq!(demand(4.0, 64.0, &[]).judge(&offer, None), Verdict::TooSmall { ratio: 0.5 });
        assert_eq!(demand(4.0, 2048.0, &[]).judge(&offer, None), Verdict::TooSmall { ratio: 0.25 });
        let elsewhere = demand(1.0, 1.0, &["rack:LIKE:r2"]).judge(&offer, None);
        let expected =
            Verdict::Elsewhere { constraint: "rack:LIKE:r2".into(), field: "rack".into(), value: Some("r1".into()) };
        assert_eq!(elsewhere, expected);
        assert_eq!(demand(4.0, 2048.0, &[]).of_offer(&offer), "cpus:2; mem:512");
    }

    #[test]
    fn nothing_and_nonsense_cannot_be_asked_for() {
        for cpus in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Demand::new([("cpus", cpus), ("mem", 0.0), ("disk", 0.0), ("gpus", 0.0)], vec![]).is_err());
        }
    }
}
