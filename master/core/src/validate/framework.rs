//! May a framework be like this, and may it become like that?

use std::collections::BTreeSet;

use api::v1::offer_filters::MinAllocatableResources;
use api::v1::{Capability, FrameworkInfo};

use super::role;

/// May the framework subscribe like this? The text goes into its ERROR event.
pub(crate) fn framework(info: &FrameworkInfo, suppressed_roles: &[String]) -> Result<(), String> {
    let multi_role = info.has(Capability::MultiRole);
    if multi_role && info.role.is_some() {
        return Err("'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable".to_owned());
    }
    if !multi_role && !info.roles.is_empty() {
        return Err("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable".to_owned());
    }
    let roles = info.effective_roles();
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&str> = roles.iter().filter(|name| !seen.insert(*name)).map(String::as_str).collect();
    if !twice.is_empty() {
        let twice: Vec<&str> = twice.into_iter().collect();
        return Err(format!("'FrameworkInfo.roles' contains duplicate items: {{ {} }}", twice.join(", ")));
    }
    for name in &roles {
        role(name).map_err(|error| {
            if multi_role {
                format!("'FrameworkInfo.roles' contains invalid role: {error}")
            } else {
                format!("'FrameworkInfo.role' is not a valid role: {error}")
            }
        })?;
    }
    if let Some(id) = info.id.as_ref().filter(|id| !id.as_str().is_empty()) {
        api::id::validate(id.as_str()).map_err(|error| error.to_string())?;
    }
    // Those of other roles are checked, and then never used.
    for filters in info.offer_filters.values() {
        offer_filter(filters.min_allocatable_resources.as_ref())?;
    }
    if let Some(stranger) = suppressed_roles.iter().find(|role| !seen.contains(role)) {
        return Err(format!("Suppressed role '{stranger}' is not contained in the list of roles"));
    }
    Ok(())
}

/// How long may it stay away? Negative is as good as not at all.
pub(crate) fn failover_timeout(info: &FrameworkInfo) -> Result<(), String> {
    let Some(timeout) = info.failover_timeout else { return Ok(()) };
    // Nanoseconds that fit into 64 bits.
    if (-9_223_372_036.854_775..=9_223_372_036.854_775).contains(&timeout) {
        return Ok(());
    }
    Err(format!("The framework failover_timeout ({}) is invalid", printed(timeout)))
}

/// As C++ prints a double: six digits, with an exponent where they are far from the point.
fn printed(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value == 0.0 || value.is_infinite() {
        return value.to_string();
    }
    let text = format!("{value:.5e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let short = |text: &str| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if let Some(decimals) = usize::try_from(5 - exponent).ok().filter(|decimals| *decimals < 10) {
        let plain = format!("{value:.decimals$}");
        return if decimals == 0 { plain } else { short(&plain) };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", short(digits), exponent.unsigned_abs())
}

fn offer_filter(minimum: Option<&MinAllocatableResources>) -> Result<(), String> {
    for alternative in minimum.map(|minimum| minimum.quantities.as_slice()).unwrap_or_default() {
        if alternative.quantities.is_empty() {
            return Err("Resource quantities must contain at least one quantity".to_owned());
        }
        for (name, amount) in &alternative.quantities {
            let invalid = |why: &str| Err(format!("Invalid resource quantity for '{name}': {why}"));
            let value = amount.value;
            if value.is_infinite() || (value > 0.0 && api::Milli::from_units(value).is_none()) {
                return invalid("Infinite values not supported");
            }
            if value.is_nan() {
                return invalid("NaN not supported");
            }
            if value.is_subnormal() {
                return invalid("Subnormal values not supported");
            }
            if value < 0.0 {
                return invalid("Negative values not supported");
            }
        }
    }
    Ok(())
}

/// What UPDATE_FRAMEWORK cannot change.
pub(crate) fn update(old: &FrameworkInfo, new: &FrameworkInfo) -> Result<(), String> {
    if old.principal != new.principal {
        return Err("Changing framework's principal is not allowed.".to_owned());
    }
    let unsupported = |field: &str, from: &str, to: &str| {
        let what = format!("Updating 'FrameworkInfo.{field}' is unsupported");
        Err(format!("{what}; attempted to update from '{from}' to '{to}'"))
    };
    if new.user != old.user {
        return unsupported("user", &old.user, &new.user);
    }
    if new.checkpoint() != old.checkpoint() {
        return unsupported("checkpoint", &old.checkpoint().to_string(), &new.checkpoint().to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_mesos_prints_them() {
        for (value, text) in [
            (1e300, "1e+300"),
            (-1.0, "-1"),
            (2.5, "2.5"),
            (-1e10, "-1e+10"),
            (604_800.0, "604800"),
            (1_234_567.0, "1.23457e+06"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (0.0, "0"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(printed(value), text);
        }
    }

    #[test]
    fn a_failover_timeout_fits_into_nanoseconds() {
        let with = |timeout| FrameworkInfo { failover_timeout: Some(timeout), ..FrameworkInfo::default() };
        for good in [0.0, -1.0, 604_800.0, 9e9] {
            assert_eq!(failover_timeout(&with(good)), Ok(()), "{good}");
        }
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e10, -1e10] {
            assert!(failover_timeout(&with(bad)).is_err(), "{bad}");
        }
        assert_eq!(failover_timeout(&FrameworkInfo::default()), Ok(()));
    }
}
