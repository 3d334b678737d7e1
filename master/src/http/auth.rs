//! Who may use the API: HTTP Basic against the credentials in the data directory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::text;
use crate::{atomic_file, hex, random};

/// What `api-credentials.json` holds.
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

    /// Whether a header's value names us. Takes the same time whatever differs: digests are compared,
    /// and all of them.
    fn accept(&self, header: &[u8]) -> bool {
        let Some((scheme, encoded)) = header.split_at_checked(6) else { return false };
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return false;
        }
        let Ok(given) = base64::engine::general_purpose::STANDARD.decode(encoded.trim_ascii()) else { return false };
        let expected = Sha256::digest(format!("{}:{}", self.principal, self.secret));
        let given = Sha256::digest(given);
        expected.iter().zip(given.iter()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// Who is asking, for the handlers behind [`require`]. `None` when the API is open.
#[derive(Clone, Debug, Default)]
pub struct Principal(pub Option<String>);

/// Lets requests with the right credentials through, and everything when there are none to check.
pub async fn require(
    State(credentials): State<Option<Arc<Credentials>>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(credentials) = credentials {
        let header = request.headers().get(AUTHORIZATION);
        if !header.is_some_and(|header| credentials.accept(header.as_bytes())) {
            return unauthorized(request.uri().path());
        }
        request.extensions_mut().insert(Principal(Some(credentials.principal.clone())));
    } else {
        request.extensions_mut().insert(Principal(None));
    }
    next.run(request).await
}

fn unauthorized(path: &str) -> Response {
    let realm = if path.ends_with("/api/v1/scheduler") { "mesos-master-scheduler" } else { "mesos-master-readonly" };
    let mut response = text(
        StatusCode::UNAUTHORIZED,
        "Valid credentials are required: see api-credentials.json in the master's data directory\n",
    );
    if let Ok(value) = HeaderValue::from_str(&format!("Basic realm=\"{realm}\"")) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_exact_credentials_are_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api-credentials.json");
        let credentials = Credentials::open(&path).unwrap();
        assert_eq!(Credentials::open(&path).unwrap().secret, credentials.secret);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(credentials.accept(credentials.header().as_bytes()));
        assert!(credentials.accept(credentials.header().replace("Basic", "basic").as_bytes()));
        let other = Credentials { secret: "x".to_owned(), ..credentials.clone() };
        for bad in ["", "Basic", "Basic !!!", "Bearer abc", &other.header()] {
            assert!(!credentials.accept(bad.as_bytes()), "{bad}");
        }
    }
}
