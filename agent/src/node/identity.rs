//! The node's key and certificate, kept over restarts of the agent.

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use super::private_file;

/// What a Join gave, and the key it was asked with.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Identity {
    pub(crate) node_name: String,
    certificate_pem: String,
    key_pem: String,
    /// Of the CA that gave it: a node told to trust another one joins anew.
    ca_sha256: [u8; 32],
}

impl std::fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("cannot use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not an identity", path.display())]
    Unreadable { path: PathBuf, source: serde_json::Error },
    #[error("cannot make a key")]
    Key(#[source] rcgen::Error),
    #[error("the certificate or key cannot be read: {0}")]
    Pem(String),
}

impl Identity {
    pub(crate) fn new(node_name: String, certificate_pem: String, key: &Key, ca_sha256: [u8; 32]) -> Self {
        Self { node_name, certificate_pem, key_pem: key.0.serialize_pem(), ca_sha256 }
    }

    /// The one kept, if it is of this CA.
    pub(crate) fn load(state: &Path, ca_sha256: [u8; 32]) -> Result<Option<Self>, IdentityError> {
        let path = file(state);
        let content = private_file::read(&path).map_err(|source| IdentityError::Io { path: path.clone(), source })?;
        let Some(content) = content else { return Ok(None) };
        let identity: Self =
            serde_json::from_slice(&content).map_err(|source| IdentityError::Unreadable { path, source })?;
        Ok((identity.ca_sha256 == ca_sha256).then_some(identity))
    }

    pub(crate) fn store(&self, state: &Path) -> Result<(), IdentityError> {
        let path = file(state);
        let content =
            serde_json::to_vec(self).map_err(|source| IdentityError::Unreadable { path: path.clone(), source })?;
        private_file::write(&path, &content).map_err(|source| IdentityError::Io { path, source })
    }

    /// Whether less than a third of the certificate's life is left.
    pub(crate) fn is_to_be_renewed(&self, unix_ms: u64) -> bool {
        self.validity().is_some_and(|(from, until)| until.saturating_sub(seconds(unix_ms)) < (until - from) / 3)
    }

    /// Whether the certificate has ended.
    pub(crate) fn has_expired(&self, unix_ms: u64) -> bool {
        self.validity().is_some_and(|(_, until)| until < seconds(unix_ms))
    }

    /// Seconds since 1970. None for what TLS will refuse in its own words.
    fn validity(&self) -> Option<(i64, i64)> {
        let der = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        let validity = certificate.validity();
        Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
    }

    /// For a TLS handshake.
    pub(crate) fn for_tls(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), IdentityError> {
        let bad = |error: rustls::pki_types::pem::Error| IdentityError::Pem(error.to_string());
        let chain =
            CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect::<Result<_, _>>().map_err(bad)?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(bad)?;
        Ok((chain, key))
    }
}

/// A key that has no certificate yet. Kept, so that a Join whose answer was lost can be asked again by the same node.
#[derive(Debug)]
pub(crate) struct Key(KeyPair);

impl Key {
    /// The one kept, or a new one.
    pub(crate) fn load_or_make(state: &Path) -> Result<Self, IdentityError> {
        let path = state.join("pki").join("join.key");
        let io = |source| IdentityError::Io { path: path.clone(), source };
        if let Some(pem) = private_file::read(&path).map_err(io)?
            && let Ok(key) = KeyPair::from_pem(&String::from_utf8_lossy(&pem))
        {
            return Ok(Self(key));
        }
        let key = Self::make()?;
        private_file::write(&path, key.0.serialize_pem().as_bytes()).map_err(io)?;
        Ok(key)
    }

    /// A new one, kept nowhere yet.
    pub(crate) fn make() -> Result<Self, IdentityError> {
        KeyPair::generate().map(Self).map_err(IdentityError::Key)
    }

    /// A certificate request. The master names the node, so the subject is empty.
    pub(crate) fn request(&self) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serialize_request(&self.0).and_then(|request| request.pem()).map_err(IdentityError::Key)
    }

    /// The certificate is there: the identity holds the key now.
    pub(crate) fn forget(state: &Path) {
        // Left behind it does no harm; it is as private as the identity.
        let _ = private_file::remove(&state.join("pki").join("join.key"));
    }
}

fn seconds(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX)
}

fn file(state: &Path) -> PathBuf {
    state.join("pki").join("identity.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_kept_for_its_own_ca_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pki")).unwrap();
        assert!(Identity::load(dir.path(), [1; 32]).unwrap().is_none());
        let key = Key::load_or_make(dir.path()).unwrap();
        assert_eq!(key.request().is_ok(), Key::load_or_make(dir.path()).unwrap().request().is_ok());
        Identity::new("node-1".to_owned(), String::new(), &key, [1; 32]).store(dir.path()).unwrap();
        assert_eq!(Identity::load(dir.path(), [1; 32]).unwrap().unwrap().node_name, "node-1");
        assert!(Identity::load(dir.path(), [2; 32]).unwrap().is_none());
        assert!(!format!("{:?}", Identity::load(dir.path(), [1; 32]).unwrap()).contains("PRIVATE"));
    }
    #[test]
    fn a_certificate_is_renewed_in_the_last_third_of_its_life() {
        let key = Key::make().unwrap();
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 31);
        let certificate = params.self_signed(&key.0).unwrap().pem();
        let identity = Identity::new("node-1".to_owned(), certificate, &key, [1; 32]);
        let day = |day: u64| (1_767_225_600 + (day - 1) * 86_400) * 1000;
        for (now, renewed, expired) in
            [(day(1) - 5, false, false), (day(20), false, false), (day(22), true, false), (day(32), true, true)]
        {
            assert_eq!((identity.is_to_be_renewed(now), identity.has_expired(now)), (renewed, expired), "{now}");
        }
    }
}
