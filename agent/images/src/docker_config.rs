//! Credentials in the form of `~/.docker/config.json`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// How a registry is logged in to. Shows no secret.
#[derive(Clone, Eq, PartialEq)]
pub enum Login {
    /// Not at all.
    Anonymous,
    /// By name and password, to the registry or to its token service.
    Password {
        /// Whose.
        user: String,
        /// Never shown.
        password: String,
    },
    /// By a token the registry itself accepts.
    Token(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Password { user, .. } => write!(f, "Password({user})"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

/// Logins by registry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DockerConfig(BTreeMap<String, Login>);

/// Why a configuration cannot be used. Quotes nothing of it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DockerConfigError {
    /// Not JSON of this form.
    #[error("the Docker configuration is not JSON as `docker login` writes it (line {line}, column {column})")]
    Unreadable {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// An entry makes no sense.
    #[error("the Docker configuration's entry for `{registry}` {mistake}")]
    Entry {
        /// Which.
        registry: String,
        /// What is wrong.
        mistake: &'static str,
    },
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl DockerConfig {
    /// Reads `config.json` or the older `.dockercfg`.
    ///
    /// # Errors
    /// When it is neither, or an entry cannot be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, DockerConfigError> {
        // serde quotes what it does not understand, which may be a password.
        let place =
            |error: &serde_json::Error| DockerConfigError::Unreadable { line: error.line(), column: error.column() };
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| place(&error))?;
        let entries = match value.get("auths") {
            Some(auths) => auths.clone(),
            // Of somebody who keeps passwords elsewhere.
            None if value.get("credsStore").is_some() || value.get("credHelpers").is_some() => serde_json::json!({}),
            // `.dockercfg` has nothing around its entries.
            None => value,
        };
        let entries: BTreeMap<String, Entry> = serde_json::from_value(entries).map_err(|error| place(&error))?;
        let mut logins = BTreeMap::new();
        for (key, entry) in entries {
            let registry = registry_of(&key);
            let login =
                entry.login().map_err(|mistake| DockerConfigError::Entry { registry: registry.clone(), mistake })?;
            logins.insert(registry, login);
        }
        Ok(Self(logins))
    }

    /// How to log in there, if it says.
    #[must_use]
    pub fn login(&self, registry: &str) -> Option<&Login> {
        self.0.get(registry)
    }
}

impl Entry {
    fn login(self) -> Result<Login, &'static str> {
        if !self.registrytoken.is_empty() {
            return Ok(Login::Token(self.registrytoken));
        }
        if !self.identitytoken.is_empty() {
            return Err(
                "has an identity token, which is not supported: give a name and a password, or a registry token",
            );
        }
        if !self.username.is_empty() {
            return Ok(Login::Password { user: self.username, password: self.password });
        }
        if self.auth.is_empty() {
            return Ok(Login::Anonymous);
        }
        let bytes =
            STANDARD.decode(self.auth.trim_end_matches('\0')).map_err(|_| "has an `auth` that is not base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "has an `auth` that is not text")?;
        let (user, password) = text.split_once(':').ok_or("has an `auth` that is not name:password")?;
        Ok(Login::Password { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
    }
}

/// The registry a key means: Docker writes its own as a URL with a path.
fn registry_of(key: &str) -> String {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Login {
        Login::Password { user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn every_form_of_login_is_read() {
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6c2VjcmV0OjE="},
            "10.0.0.1:5000":{"username":"u","password":"p"},"quay.io":{"registrytoken":"t"},"open.io":{}}}"#;
        let config = DockerConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.login("docker.io"), Some(&password("me", "secret:1")));
        assert_eq!(config.login("10.0.0.1:5000"), Some(&password("u", "p")));
        assert_eq!(config.login("quay.io"), Some(&Login::Token("t".to_owned())));
        assert_eq!(config.login("open.io"), Some(&Login::Anonymous));
        assert_eq!(config.login("other.io"), None);
        let old = DockerConfig::parse(br#"{"http://r.io/v1/":{"auth":"bWU6c2VjcmV0","email":"x"}}"#).unwrap();
        assert_eq!(old.login("r.io"), Some(&password("me", "secret")));
        assert_eq!(DockerConfig::parse(b"{}"), Ok(DockerConfig::default()));
        assert_eq!(DockerConfig::parse(br#"{"credsStore":"x"}"#), Ok(DockerConfig::default()));
    }

    #[test]
    fn mistakes_are_named_without_a_word_of_the_content() {
        for text in [
            r#"{"auths":{"r.io":{"auth":"!!secret!!"}}}"#,
            r#"{"auths":{"r.io":{"auth":"c2VjcmV0"}}}"#,
            r#"{"auths":{"r.io":{"identitytoken":"secret"}}}"#,
            r#"{"auths":"secret"}"#,
            r#"{"auths":{"r.io":{"auth":["secret"]}}}"#,
            "secret",
        ] {
            let error = DockerConfig::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("Docker configuration"), "{error}");
        }
        let shown = format!("{:?}", DockerConfig::parse(br#"{"auths":{"r.io":{"auth":"bWU6c2VjcmV0"}}}"#).unwrap());
        assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
    }
}
