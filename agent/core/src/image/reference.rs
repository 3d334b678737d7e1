//! Names of images, read as Docker reads them: `redis`, `quay.io/org/app:1.2`, `app@sha256:…`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where names without a registry point.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Where single words point there.
const DEFAULT_NAMESPACE: &str = "library/";
/// What is meant by no tag.
const DEFAULT_TAG: &str = "latest";
/// Registries accept no longer repository names.
const MAX_NAME: usize = 255;
/// Nor longer tags.
const MAX_TAG: usize = 128;

/// The SHA-256 of some bytes.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Not a digest we can check.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not sha256: and 64 hexadecimal digits in lower case")]
pub struct DigestError(String);

impl Digest {
    /// From the bytes of the hash.
    #[must_use]
    pub fn of_sha256(hash: &[u8]) -> Self {
        Self(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The 64 digits, which are safe as a file name.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self(hex.to_owned()));
        }
        Err(DigestError(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// The name of an image, with everything that is usually left out.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Reference {
    /// `docker.io`, `10.0.0.1:5000`.
    pub registry: String,
    /// `library/redis`.
    pub repository: String,
    /// `latest`; none when only a digest is named.
    pub tag: Option<String>,
    /// The manifest's.
    pub digest: Option<Digest>,
}

/// Why a name is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("image name '{name}': {mistake}")]
pub struct ReferenceError {
    name: String,
    mistake: String,
}

impl Reference {
    /// What the registry is asked for: the digest if there is one, else the tag.
    #[must_use]
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(name: &str) -> Result<Self, ReferenceError> {
        read(name).map_err(|mistake| ReferenceError { name: name.chars().take(MAX_NAME).collect(), mistake })
    }
}

fn read(name: &str) -> Result<Reference, String> {
    if name.contains("://") {
        return Err("it has no scheme; write registry/repository:tag".to_owned());
    }
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|error| error.to_string())?)),
        None => (name, None),
    };
    // A colon before the last slash is a port's.
    let colon = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (path, tag) = match colon {
        Some(at) => (&rest[..at], Some(rest[at + 1..].to_owned())),
        None => (rest, None),
    };
    if let Some(tag) = &tag {
        check_tag(tag)?;
    }
    let (registry, repository) = match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
        Some(_) => (DEFAULT_REGISTRY, path.to_owned()),
        None => (DEFAULT_REGISTRY, format!("{DEFAULT_NAMESPACE}{path}")),
    };
    // Both names are Docker's own for its registry.
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        format!("{DEFAULT_NAMESPACE}{repository}")
    } else {
        repository
    };
    check_registry(registry)?;
    check_repository(&repository, path)?;
    let tag = if tag.is_none() && digest.is_none() { Some(DEFAULT_TAG.to_owned()) } else { tag };
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

fn check_tag(tag: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if tag.is_empty() || tag.len() > MAX_TAG || !tag.bytes().all(good) || tag.starts_with(['.', '-']) {
        return Err(format!("the tag `{tag}` is not 1 to {MAX_TAG} letters, digits, `_`, `.` or `-`"));
    }
    Ok(())
}

fn check_registry(registry: &str) -> Result<(), String> {
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            let fine = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
            (if fine { "ipv6" } else { "" }, rest.strip_prefix(':'))
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let fine = !host.is_empty() && host.bytes().all(good) && !host.starts_with(['.', '-']);
    if !fine || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!("`{registry}` is not a registry's host or host:port"));
    }
    Ok(())
}

fn check_repository(repository: &str, said: &str) -> Result<(), String> {
    if said.is_empty() {
        return Err("it is empty".to_owned());
    }
    if repository.len() > MAX_NAME {
        return Err(format!("the repository has more than {MAX_NAME} characters"));
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("repositories are in lower case".to_owned());
    }
    let fine = |part: &str| {
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        ends(part.as_bytes().first())
            && ends(part.as_bytes().last())
            && part.bytes().all(good)
            && !part.contains("..")
            && !part.contains("___")
    };
    match repository.split('/').find(|part| !fine(part)) {
        Some(part) => Err(format!("`{part}` is not a part of a repository's name")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn what_is_left_out_is_put_in() {
        let pinned = format!("app@sha256:{HEX}");
        let both = format!("r.io:443/a/b/c:1@sha256:{HEX}");
        for (name, whole) in [
            ("redis", "docker.io/library/redis:latest"),
            ("redis:7", "docker.io/library/redis:7"),
            ("org/app", "docker.io/org/app:latest"),
            ("docker.io/redis", "docker.io/library/redis:latest"),
            ("index.docker.io/org/app", "docker.io/org/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("10.77.0.1:5000/lab/busybox:1.0", "10.77.0.1:5000/lab/busybox:1.0"),
            ("[fd77::1]:5000/lab/app", "[fd77::1]:5000/lab/app:latest"),
            ("quay.io/a_b/c--d__e.f", "quay.io/a_b/c--d__e.f:latest"),
            (pinned.as_str(), &format!("docker.io/library/app@sha256:{HEX}")),
            (both.as_str(), &both),
        ] {
            let reference: Reference = name.parse().unwrap();
            assert_eq!(reference.to_string(), whole);
            assert_eq!(whole.parse::<Reference>().unwrap(), reference, "spelled out it means the same");
        }
        assert_eq!(both.parse::<Reference>().unwrap().selector(), format!("sha256:{HEX}"));
        assert_eq!("redis".parse::<Reference>().unwrap().selector(), "latest");
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_mistake() {
        for (name, words) in [
            ("", "it is empty"),
            ("docker://redis", "it has no scheme"),
            ("Redis", "lower case"),
            ("redis:", "the tag ``"),
            ("redis:-x", "the tag `-x`"),
            ("a//b", "`` is not a part"),
            ("../../etc", "`..` is not a registry"),
            ("x.io/../secret", "`..` is not a part"),
            ("host:port/app", "is not a registry's"),
            ("app@sha256:12", "64 hexadecimal digits"),
            ("app@sha512:00", "64 hexadecimal digits"),
            ("app b", "is not a part"),
            ("a.b?x=1/c", "is not a registry's"),
            ("app/é", "is not a part"),
        ] {
            let error = name.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
        assert!("x".repeat(300).parse::<Reference>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_name_makes_the_parser_panic_and_none_leaves_its_place(name in ".{0,80}") {
            if let Ok(reference) = name.parse::<Reference>() {
                proptest::prop_assert!(!reference.repository.split('/').any(|part| part.is_empty() || part == ".."));
                proptest::prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
