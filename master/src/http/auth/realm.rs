//! Which of Mesos's realms a path is in, and whether a page of somebody else's site may ask for it.

use hyper::Method;
use hyper::header::{HOST, HeaderMap, ORIGIN};

/// What one authenticates for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Realm {
    /// Reading.
    ReadOnly,
    /// The operator API and everything that changes something.
    ReadWrite,
    /// The scheduler API.
    Frameworks,
}

impl Realm {
    /// `None`: nobody is asked who they are, as in Mesos. Clients send no credentials there.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        let path = unprefixed(path);
        match path {
            "/health" | "/version" | "/redirect" => return None,
            "/api/v1/scheduler" | "/api/v1/executor" => return Some(Self::Frameworks),
            _ => {}
        }
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let writes = matches!(
            first,
            "api"
                | "teardown"
                | "reserve"
                | "unreserve"
                | "create-volumes"
                | "destroy-volumes"
                | "machine"
                | "maintenance"
                | "quota"
                | "weights"
                | "logging"
        );
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        Some(if writes || !reads { Self::ReadWrite } else { Self::ReadOnly })
    }

    /// Mesos's name for it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "mesos-master-readonly",
            Self::ReadWrite => "mesos-master-readwrite",
            Self::Frameworks => "mesos-master-scheduler",
        }
    }
}

/// `/master/X` is `/X`.
pub(super) fn unprefixed(path: &str) -> &str {
    path.strip_prefix("/master").filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

/// Did a browser send this on behalf of another site's page? The browser would add the operator's
/// password or certificate by itself. Programs send neither header.
pub(super) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if matches!(header("sec-fetch-site"), Some(site) if site != "same-origin" && site != "none") {
        return true;
    }
    let Some(origin) = header(ORIGIN.as_str()) else { return false };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_none() || host != header(HOST.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_in_mesoss_realms() {
        let realm = |path: &str| Realm::of(&Method::GET, path).map(Realm::name);
        for path in ["/state", "/master/flags", "/tasks", "/roles", "/mesolith/v1/nodes", "/", "/masterful"] {
            assert_eq!(realm(path), Some("mesos-master-readonly"), "{path}");
        }
        for path in
            ["/api/v1", "/master/api/v1", "/api/v1/operator", "/teardown", "/quota/dev", "/maintenance/schedule"]
        {
            assert_eq!(realm(path), Some("mesos-master-readwrite"), "{path}");
        }
        assert_eq!(realm("/master/api/v1/scheduler"), Some("mesos-master-scheduler"));
        for path in ["/version", "/master/health", "/redirect"] {
            assert_eq!(realm(path), None, "{path}");
        }
        assert_eq!(Realm::of(&Method::POST, "/mesolith/v1/tokens"), Some(Realm::ReadWrite));
    }

    #[test]
    fn another_sites_page_is_told_apart_from_ours_and_from_programs() {
        let from = |headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            map.insert(HOST, "master:5050".parse().unwrap());
            for (name, value) in headers {
                map.insert(*name, value.parse().unwrap());
            }
            is_from_elsewhere(&map)
        };
        assert!(!from(&[]) && !from(&[("origin", "https://master:5050")]));
        assert!(!from(&[("sec-fetch-site", "same-origin")]) && !from(&[("sec-fetch-site", "none")]));
        for bad in ["https://evil.example", "null", "https://master:5051", "master:5050"] {
            assert!(from(&[("origin", bad)]), "{bad}");
        }
        assert!(from(&[("sec-fetch-site", "cross-site")]) && from(&[("sec-fetch-site", "same-site")]));
    }
}
