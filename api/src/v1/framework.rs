//! What follows from a framework's description and its filters.

use super::{Capability, Filters, FrameworkInfo, framework_info};

impl From<Capability> for framework_info::Capability {
    fn from(kind: Capability) -> Self {
        Self { r#type: Some(kind.into()) }
    }
}

impl FrameworkInfo {
    /// Does it say it understands `capability`?
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.iter().any(|given| given.r#type == Some(capability.into()))
    }

    /// The roles it is subscribed to, whichever way it says so.
    #[must_use]
    pub fn effective_roles(&self) -> Vec<String> {
        if self.has(Capability::MultiRole) {
            return self.roles.clone();
        }
        vec![self.role.clone().filter(|role| !role.is_empty()).unwrap_or_else(|| "*".to_owned())]
    }
}

impl Filters {
    /// Seconds to refuse for: 5 unless said, never negative or NaN, at most 365 days.
    #[must_use]
    pub fn effective_refuse_seconds(&self) -> f64 {
        match self.refuse_seconds {
            Some(seconds) if seconds >= 0.0 => seconds.min(365.0 * 86_400.0),
            Some(_) | None => 5.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_last_five_seconds_unless_said() {
        for (given, effective) in
            [(None, 5.0), (Some(0.0), 0.0), (Some(-1.0), 5.0), (Some(f64::NAN), 5.0), (Some(1e12), 31_536_000.0)]
        {
            let filters = Filters { refuse_seconds: given };
            assert!((filters.effective_refuse_seconds() - effective).abs() < 1e-9, "{given:?}");
        }
    }
}
