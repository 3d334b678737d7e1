//! Which network card: names change with slots and kernels, so a card can be meant by more than its name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which cards. `*` stands for anything.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Selector {
    /// `eth0`, `enp3s*`.
    Name(String),
    /// `52:54:00:77:00:01`, `52:54:00:*`: its permanent address.
    Mac(String),
    /// `driver=mlx5_core`.
    Driver(String),
    /// `path=0000:03:00.*`: where it is on its bus.
    Path(String),
}

/// Not one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` names no card: write eth0, 52:54:00:*, driver=mlx5_core or path=0000:03:00.*")]
pub struct ParseSelectorError(pub String);

/// What a card is known by.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Card {
    /// The kernel's name.
    pub name: String,
    /// Its permanent address, in lower case with colons.
    pub mac: String,
    /// Its driver.
    pub driver: Option<String>,
    /// Its place on the bus.
    pub path: Option<String>,
}

impl Selector {
    /// Is it this card?
    #[must_use]
    pub fn fits(&self, card: &Card) -> bool {
        let text = |text: &Option<String>, pattern: &str| text.as_ref().is_some_and(|text| glob(pattern, text));
        match self {
            Self::Name(pattern) => glob(pattern, &card.name),
            Self::Mac(pattern) => glob(pattern, &card.mac),
            Self::Driver(pattern) => text(&card.driver, pattern),
            Self::Path(pattern) => text(&card.path, pattern),
        }
    }
}

/// `*` is anything, also nothing. Linear but for the stars, of which there are few.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseSelectorError(text.chars().take(80).collect());
        if text.len() > 80 || text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad());
        }
        if let Some(driver) = text.strip_prefix("driver=") {
            return if driver.is_empty() { Err(bad()) } else { Ok(Self::Driver(driver.to_owned())) };
        }
        if let Some(path) = text.strip_prefix("path=") {
            return if path.is_empty() { Err(bad()) } else { Ok(Self::Path(path.to_ascii_lowercase())) };
        }
        if text.contains(':') {
            let part = |part: &str| {
                let digits = part.trim_matches('*');
                digits.len() <= 2 && part.len() <= 3 && digits.chars().all(|c| c.is_ascii_hexdigit())
            };
            let (parts, star) = (text.split(':').count(), text.contains('*'));
            let fine = text.split(':').all(part) && parts <= 6 && (star || parts == 6 && text.len() == 17);
            return if fine { Ok(Self::Mac(text.to_ascii_lowercase())) } else { Err(bad()) };
        }
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '*');
        if text.chars().all(fine) && text.len() <= 15 { Ok(Self::Name(text.to_owned())) } else { Err(bad()) }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Mac(text) => f.pad(text),
            Self::Driver(text) => f.pad(&format!("driver={text}")),
            Self::Path(text) => f.pad(&format!("path={text}")),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = ParseSelectorError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_found_by_each_of_what_it_is_known_by() {
        let card = Card {
            name: "enp3s0f1".to_owned(),
            mac: "52:54:00:77:01:02".to_owned(),
            driver: Some("mlx5_core".to_owned()),
            path: Some("0000:03:00.1".to_owned()),
        };
        let fits = |text: &str| text.parse::<Selector>().unwrap().fits(&card);
        for yes in
            ["enp3s0f1", "enp*", "*", "52:54:00:77:01:02", "52:54:00:*", "*:02", "driver=mlx5*", "path=0000:03:00.*"]
        {
            assert!(fits(yes), "{yes}");
        }
        for no in ["enp3", "eth0", "52:54:00:77:01:03", "52:55:*", "driver=virtio_net", "path=0000:04:*"] {
            assert!(!fits(no), "{no}");
        }
        for nonsense in ["", "driver=", "52:54", "a b", "52:54:00:77:01:0g", "eth0/1", "a:b:c:d:e:f:0:*"] {
            assert!(nonsense.parse::<Selector>().is_err(), "{nonsense}");
        }
        let again: Selector = "DRIVER".parse().unwrap();
        assert_eq!(again.to_string().parse::<Selector>().unwrap(), again);
    }
}
