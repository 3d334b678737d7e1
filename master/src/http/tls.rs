//! TLS of the API: our own certificate, or one that is given and followed when its files change.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::authority::{Authority, Ends};

/// How soon a renewed certificate is noticed.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("cannot read {}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The two do not belong together, or the key is of a kind that is not known.
    #[error("the certificate and key cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// The certificate that is served.
#[derive(Debug)]
pub struct Served {
    current: RwLock<Arc<CertifiedKey>>,
    files: Option<Files>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What a file is known by, without reading it.
type Stamp = [Option<(u64, u64, i64, i64)>; 2];

impl Served {
    /// Our own certificate.
    #[must_use]
    pub fn own(authority: &Authority) -> Self {
        Self { current: RwLock::new(authority.own()), files: None }
    }

    /// Follows our own authority until `stop`; `changed` hears of each new certificate.
    pub async fn follow_authority(
        self: Arc<Self>,
        authority: Arc<Authority>,
        mut stop: watch::Receiver<bool>,
        changed: impl Fn(&Self),
    ) {
        let mut changes = authority.changes();
        loop {
            tokio::select! {
                change = changes.changed() => if change.is_err() { return },
                _ = stop.wait_for(|stop| *stop) => return,
            }
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = authority.own();
            changed(&self);
        }
    }

    /// The one in two PEM files.
    ///
    /// # Errors
    /// They cannot be read or do not belong together.
    pub fn given(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        Ok(Self { current: RwLock::new(Arc::new(files.read()?)), files: Some(files) })
    }

    /// The leaf, as DER.
    #[must_use]
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        self.current().cert.first().cloned()
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows the files until `stop`; `changed` hears of each new certificate. One that cannot be used is
    /// logged, and the last good one stays.
    pub async fn follow(self: Arc<Self>, mut stop: watch::Receiver<bool>, changed: impl Fn(&Self)) {
        let Some(files) = &self.files else { return };
        let mut seen = files.stamp();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let stamp = files.stamp();
            if stamp == seen {
                continue;
            }
            match files.read() {
                Ok(key) => {
                    seen = stamp;
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                    tracing::info!(certificate = %files.certificate.display(), "the API's certificate was replaced");
                    changed(&self);
                }
                // One of the two may be about to follow: looked at again each time.
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the API's new certificate cannot be used; the old one stays"
                ),
            }
        }
    }
}

impl Files {
    fn read(&self) -> Result<CertifiedKey, TlsError> {
        let file = |path: &Path, error: &dyn std::fmt::Display| TlsError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let chain: Vec<_> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .map_err(|error| file(&self.certificate, &error))?;
        if chain.is_empty() {
            return Err(file(&self.certificate, &"it holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| file(&self.key, &error))?;
        certified(chain, &key)
    }

    fn stamp(&self) -> Stamp {
        let of = |path: &Path| -> io::Result<_> {
            let about = std::fs::metadata(path)?;
            Ok((about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
        };
        [of(&self.certificate).ok(), of(&self.key).ok()]
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<CertifiedKey, TlsError> {
    let certified = CertifiedKey::new(chain, any_supported_type(key)?);
    certified.keys_match()?;
    Ok(certified)
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// HTTP/1.1 over TLS. A client may show a certificate of the cluster's authority, and need not.
#[must_use]
pub fn config(authority: &Arc<Authority>, served: Arc<Served>) -> ServerConfig {
    let ends = Arc::new(Ends(authority.clone()));
    let mut config = ServerConfig::builder().with_client_cert_verifier(ends).with_cert_resolver(served);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_certificate_is_refused_and_a_missing_file_named() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let missing = Served::given(&certificate, &key).unwrap_err().to_string();
        assert!(missing.contains("cert.pem"), "{missing}");
        let one = rcgen::generate_simple_self_signed(vec!["one".to_owned()]).unwrap();
        let two = rcgen::generate_simple_self_signed(vec!["two".to_owned()]).unwrap();
        std::fs::write(&certificate, one.cert.pem()).unwrap();
        std::fs::write(&key, two.signing_key.serialize_pem()).unwrap();
        assert!(matches!(Served::given(&certificate, &key), Err(TlsError::Unusable(_))));
        std::fs::write(&key, one.signing_key.serialize_pem()).unwrap();
        let served = Served::given(&certificate, &key).unwrap();
        assert_eq!(served.leaf().as_ref(), Some(one.cert.der()));
    }
}
