//! What the operator says about registries, and from whom an image is asked for in which order.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::image::Reference;
use serde::Deserialize;

use crate::docker_config::{DockerConfig, DockerConfigError, Login};

/// The operator's file: a Docker configuration (`auths`) with more keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Registries {
    logins: DockerConfig,
    /// In order of preference, by registry.
    mirrors: BTreeMap<String, Vec<Mirror>>,
    /// Spoken to without TLS.
    plain_http: BTreeSet<String>,
    /// Certificates in PEM that are trusted besides the public ones.
    authorities: Vec<String>,
}

/// A registry that has what another one has.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Mirror {
    host: String,
    plain_http: bool,
}

/// A place an image may be had from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Host, or host:port.
    pub host: String,
    /// Without TLS.
    pub plain_http: bool,
    /// How.
    pub login: Login,
}

/// Why the operator's words cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// Not JSON of this form.
    #[error("the registry settings are not JSON of the documented form (line {line}, column {column})")]
    Unreadable {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// See there.
    #[error(transparent)]
    Logins(#[from] DockerConfigError),
    /// Not a URL of a mirror.
    #[error("the mirror `{0}` is not http://host:port or https://host:port")]
    Mirror(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    auths: Option<serde_json::Value>,
    mirrors: BTreeMap<String, Vec<String>>,
    plain_http: BTreeSet<String>,
    authorities: Vec<String>,
}

impl Registries {
    /// Reads the operator's file.
    ///
    /// # Errors
    /// When it is not as documented.
    pub fn parse(bytes: &[u8]) -> Result<Self, RegistriesError> {
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| RegistriesError::Unreadable { line: error.line(), column: error.column() })?;
        let mut registries = Self { plain_http: file.plain_http, authorities: file.authorities, ..Self::default() };
        if let Some(auths) = file.auths {
            registries.logins = DockerConfig::parse(serde_json::json!({ "auths": auths }).to_string().as_bytes())?;
        }
        for (registry, urls) in &file.mirrors {
            for url in urls {
                registries.add_mirror(registry, url)?;
            }
        }
        Ok(registries)
    }

    /// Adds a mirror behind those there are.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn add_mirror(&mut self, registry: &str, url: &str) -> Result<(), RegistriesError> {
        let wrong = || RegistriesError::Mirror(url.to_owned());
        let (scheme, host) = url.trim_end_matches('/').split_once("://").ok_or_else(wrong)?;
        let plain_http = match scheme {
            "http" => true,
            "https" => false,
            _ => return Err(wrong()),
        };
        if host.is_empty() || host.contains(['/', '@', '?', '#', ' ']) {
            return Err(wrong());
        }
        let mirror = Mirror { host: host.to_owned(), plain_http };
        self.mirrors.entry(registry.to_owned()).or_default().push(mirror);
        Ok(())
    }

    /// Names a registry that is spoken to without TLS.
    pub fn add_plain_http(&mut self, registry: &str) {
        self.plain_http.insert(registry.to_owned());
    }

    /// Certificates to trust, in PEM.
    #[must_use]
    pub fn authorities(&self) -> &[String] {
        &self.authorities
    }

    /// Where to ask, in order: the mirrors, then the registry itself. What the task brings along goes before what the
    /// operator has; no login is given to anybody it was not made for.
    #[must_use]
    pub fn endpoints(&self, reference: &Reference, task: Option<&DockerConfig>) -> Vec<Endpoint> {
        let login = |host: &str| {
            let found = task.and_then(|config| config.login(host)).or_else(|| self.logins.login(host));
            found.cloned().unwrap_or(Login::Anonymous)
        };
        let mirrors = self.mirrors.get(&reference.registry).into_iter().flatten();
        let mut endpoints: Vec<Endpoint> = mirrors
            .map(|mirror| Endpoint {
                host: mirror.host.clone(),
                plain_http: mirror.plain_http,
                login: login(&mirror.host),
            })
            .collect();
        let host = &reference.registry;
        let plain_http = self.plain_http.contains(host) || is_loopback(host);
        endpoints.push(Endpoint { host: host.clone(), plain_http, login: login(host) });
        endpoints
    }
}

/// As with Docker, a registry on this very machine needs no TLS.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost"
        || host == "[::1]"
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_logins_go_only_where_they_belong() {
        let text = r#"{"auths":{"docker.io":{"username":"node","password":"n"},"m.io":{"username":"mirror","password":"m"}},
            "mirrors":{"docker.io":["http://10.0.0.1:5000/","https://m.io"]},"plain_http":["10.0.0.2:5000"],"authorities":["PEM"]}"#;
        let registries = Registries::parse(text.as_bytes()).unwrap();
        let task = DockerConfig::parse(br#"{"auths":{"docker.io":{"username":"task","password":"t"}}}"#).unwrap();
        let shown = |name: &str, task: Option<&DockerConfig>| -> Vec<String> {
            let endpoints = registries.endpoints(&name.parse().unwrap(), task);
            endpoints.iter().map(|e| format!("{} {} {:?}", e.host, e.plain_http, e.login)).collect()
        };
        let mirrors = ["10.0.0.1:5000 true Anonymous", "m.io false Password(mirror)"];
        assert_eq!(shown("redis", None), [&mirrors[..], &["docker.io false Password(node)"]].concat());
        assert_eq!(shown("redis", Some(&task)), [&mirrors[..], &["docker.io false Password(task)"]].concat());
        assert_eq!(shown("10.0.0.2:5000/a", Some(&task)), ["10.0.0.2:5000 true Anonymous"]);
        assert_eq!(shown("localhost:5000/a", None), ["localhost:5000 true Anonymous"]);
        assert_eq!(shown("127.0.0.2/a", None), ["127.0.0.2 true Anonymous"]);
        assert_eq!(shown("[::1]:5000/a", None), ["[::1]:5000 true Anonymous"]);
        assert_eq!(registries.authorities(), ["PEM"]);
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for text in [
            "",
            r#"{"mirrors":{"docker.io":["10.0.0.1:5000"]}}"#,
            r#"{"mirrors":{"docker.io":["ftp://x"]}}"#,
            r#"{"mirrors":{"docker.io":["https://user:pass@x"]}}"#,
            r#"{"plain_http":"x"}"#,
            r#"{"auths":{"x":{"auth":"?"}}}"#,
        ] {
            assert!(Registries::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
