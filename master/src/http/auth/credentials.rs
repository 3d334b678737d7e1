//! Principals and their secrets: the one made at the first start, and those of `--credentials`.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{atomic_file, hex, random};

/// A principal and its secret: what `api-credentials.json` holds.
#[derive(Clone, Deserialize, Serialize)]
pub struct Credentials {
    /// The user's name.
    pub principal: String,
    /// The password.
    pub secret: String,
}

impl Credentials {
    /// Reads the file, or makes one with a new secret.
    ///
    /// # Errors
    /// The file cannot be read, written or understood.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(bytes) = atomic_file::read(path)? {
            return serde_json::from_slice(&bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("not credentials: {error}")));
        }
        let credentials = Self { principal: "operator".to_owned(), secret: hex::encode(&random::bytes::<24>()?) };
        let mut bytes = serde_json::to_vec_pretty(&credentials).map_err(io::Error::other)?;
        bytes.push(b'\n');
        atomic_file::write(path, &bytes, 0o600)?;
        Ok(credentials)
    }

    /// The value of the `Authorization` header.
    #[must_use]
    pub fn header(&self) -> String {
        let pair = format!("{}:{}", self.principal, self.secret);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }

    /// Reads a file of Mesos's `--credentials`: JSON, or a principal and a secret on each line.
    ///
    /// # Errors
    /// Every mistake, none of which shows a secret.
    pub fn read_file(path: &Path) -> Result<Vec<Self>, Vec<String>> {
        let text = std::fs::read_to_string(path).map_err(|error| vec![format!("cannot read it: {error}")])?;
        if std::fs::metadata(path).is_ok_and(|about| about.mode() & 0o077 != 0) {
            tracing::warn!(file = %path.display(), "others than its owner can read the credentials: chmod 600 it");
        }
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Vec<Self>, Vec<String>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            credentials: Vec<Credentials>,
        }
        let (mut list, mut mistakes) = (Vec::new(), Vec::new());
        if text.trim_start().starts_with('{') {
            match serde_json::from_str::<File>(text) {
                Ok(file) => list = file.credentials,
                // serde's own words may quote what it found, and that may be a secret.
                Err(error) => mistakes.push(format!(
                    r#"line {}, column {}: not of the form {{"credentials":[{{"principal":"..","secret":".."}}]}}"#,
                    error.line(),
                    error.column()
                )),
            }
        } else {
            for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                match line.split_whitespace().collect::<Vec<_>>()[..] {
                    [principal, secret] => {
                        list.push(Self { principal: principal.to_owned(), secret: secret.to_owned() });
                    }
                    _ => mistakes.push(format!("line {}: must be a principal and a secret", at + 1)),
                }
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        for one in &list {
            let principal = &one.principal;
            if principal.is_empty() || principal.contains(':') || principal.chars().any(char::is_control) {
                mistakes.push(format!("'{}' is no principal: it must be text without ':'", principal.escape_debug()));
            }
            if one.secret.is_empty() {
                mistakes.push(format!("'{principal}' has an empty secret"));
            }
            if !seen.insert(principal) {
                mistakes.push(format!("'{principal}' appears twice"));
            }
        }
        if list.is_empty() && mistakes.is_empty() {
            mistakes.push("it holds no credentials".to_owned());
        }
        if mistakes.is_empty() { Ok(list) } else { Err(mistakes) }
    }
}

/// Digests of what is known, for comparing: whoever reads our memory finds no secret in it.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<[u8; 32], ([u8; 32], String)>);

impl Known {
    pub(super) fn new(list: impl IntoIterator<Item = Credentials>) -> Self {
        let entry = |one: Credentials| (digest(&one.principal), (digest(&one.secret), one.principal));
        Self(list.into_iter().map(entry).collect())
    }

    /// The principal of a Basic pair, base64 as it came. An unknown principal takes as long as a wrong
    /// secret: digests are compared, and all of them.
    pub(super) fn principal(&self, encoded: &[u8]) -> Option<String> {
        let given = base64::engine::general_purpose::STANDARD.decode(encoded.trim_ascii()).ok()?;
        let given = String::from_utf8(given).ok()?;
        let (principal, secret) = given.split_once(':')?;
        let known = self.0.get(&digest(principal));
        let expected = known.map_or([0; 32], |(secret, _)| *secret);
        let right = same(&expected, &digest(secret));
        known.filter(|_| right).map(|(_, principal)| principal.clone())
    }
}

/// SHA-256.
pub(super) fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Compares without telling by the time it takes where they differ.
pub(super) fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    std::hint::black_box(one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn encoded(pair: &str) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD.encode(pair).into_bytes()
    }

    #[test]
    fn the_default_credential_is_made_once_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-credentials.json");
        let credentials = Credentials::open(&path).unwrap();
        assert_eq!(Credentials::open(&path).unwrap().secret, credentials.secret);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(credentials.secret.len(), 48);
    }

    #[test]
    fn only_the_exact_pair_is_known() {
        let known = Known::new(Credentials::parse("a one\nb two\n").unwrap());
        assert_eq!(known.principal(&encoded("a:one")).as_deref(), Some("a"));
        assert_eq!(known.principal(&encoded("b:two")).as_deref(), Some("b"));
        for bad in ["a:two", "a:", "a", "c:one", ":one", "a:one ", "A:one"] {
            assert_eq!(known.principal(&encoded(bad)), None, "{bad}");
        }
        assert_eq!(known.principal(b"!!!"), None);
        assert_eq!(Known::default().principal(&encoded("a:")), None);
    }

    #[test]
    fn both_of_mesoss_formats_are_read() {
        let json = r#"{"credentials":[{"principal":"a","secret":"x:y"},{"principal":"b","secret":"z"}]}"#;
        let known = Known::new(Credentials::parse(json).unwrap());
        assert_eq!(known.principal(&encoded("a:x:y")).as_deref(), Some("a"));
        assert_eq!(Credentials::parse("a x\n\n  b\ty\n").unwrap().len(), 2);
    }

    #[test]
    fn mistakes_are_told_without_the_secret() {
        let wrong = |text: &str| Credentials::parse(text).err().unwrap().join("\n");
        let text = wrong("a hunter2 more\nb hunter2\nb hunter2\n:x hunter2");
        assert!(text.contains("line 1") && text.contains("'b' appears twice") && text.contains("':x'"), "{text}");
        let json = wrong(r#"{"credentials":[{"principal":"a","secret":{"hunter2":1}}]}"#);
        assert!(json.contains("line 1"), "{json}");
        assert!(wrong("").contains("no credentials"));
        assert!(!text.contains("hunter2") && !json.contains("hunter2"));
    }
}
