//! Who vouches for nodes, masters and clients: the cluster's authority, and the one that follows it.
//!
//! ```text
//! one authority ─rotate▶ Overlap: both are trusted, the new one issues ─finish▶ Closing: the new one serves, and only it is
//! trusted but by masters for each other ─all masters know▶ one authority
//! ```
//!
//! All TLS ends of a master ask here at every handshake, so that nothing is restarted. The new authority's key is in the
//! replicated state while there are two, sealed with the old one's, which every master has as a file.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use master_core::state;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::ca::{self, Ca, CaError, Identity, Role};
use crate::clock::unix_ms;
use crate::kept::{KeepError, Keeper, Table};
use crate::secrets::SecretError;
use crate::secrets::sealing::{SealError, Sealed, Sealer};

/// The only key of the table.
const SUCCESSION: &str = "succession";
/// What the key is sealed as: no secret of a task can be called that.
const SEALED_AS: &str = "/authority/key";
/// After a succession could not be taken over.
const AGAIN: Duration = Duration::from_secs(5);

/// How far a succession is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Both are trusted; nodes get certificates of the new one, and learn of it.
    Overlap,
    /// Only the new one is trusted, but that masters still know each other by the old one.
    Closing,
}

/// One authority follows another.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct Succession {
    /// How far it is.
    pub stage: Stage,
    /// The certificate of the one that goes.
    pub old_pem: String,
    /// The certificate of the one that comes.
    pub pem: String,
    /// Its key, sealed with the old one's.
    pub sealed_key: Sealed,
    /// Milliseconds since 1970.
    pub begun_ms: u64,
    /// Who began it.
    pub by: String,
}

impl Succession {
    /// The new authority, by the old one.
    fn open(&self, old: &Ca) -> Result<Ca, SuccessionError> {
        let key = String::from_utf8(Sealer::new(old)?.open(SEALED_AS, &self.sealed_key)?)?;
        Ok(Ca::parse(&self.pem, &key)?)
    }
}

/// Why a succession does not go on.
#[derive(Debug, thiserror::Error)]
pub enum SuccessionError {
    /// One is under way.
    #[error("an authority is following another already: finish that first")]
    UnderWay,
    /// None is.
    #[error("no authority follows another: begin with rotate")]
    None,
    /// The authority could not be made or read.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// TLS.
    #[error("the certificates cannot be used")]
    Tls(#[source] rustls::Error),
    /// The table.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A secret.
    #[error("the secrets of tasks cannot be sealed with the new authority's key")]
    Secrets(#[from] SecretError),
    /// The new authority's key.
    #[error("the new authority's key cannot be sealed or opened")]
    Seal(#[from] SealError),
    /// It opens, and is none.
    #[error("the new authority's key is not one")]
    Key(#[from] std::string::FromUtf8Error),
}

/// What holds at this moment.
pub struct Trust {
    /// Who vouches for this master.
    pub serving: Arc<Ca>,
    /// Who vouches for whoever gets a certificate now.
    pub issuer: Arc<Ca>,
    /// Whose certificates are taken.
    pub trusted: Vec<CertificateDer<'static>>,
    own: Arc<CertifiedKey>,
    everybody: Arc<dyn ClientCertVerifier>,
    /// Takes also those of the authority that goes: for masters only.
    masters: Arc<dyn ClientCertVerifier>,
    servers: Arc<dyn ServerCertVerifier>,
}

impl Trust {
    /// The fingerprints nodes are told: `sha256:..,sha256:..`.
    #[must_use]
    pub fn pins(&self) -> String {
        let pins = self.trusted.iter().map(|one| format!("sha256:{}", ca::fingerprint(one)));
        pins.collect::<Vec<_>>().join(",")
    }
}

/// Makes this master's own certificate.
type Issue = Box<dyn Fn(&Ca) -> Result<Identity, CaError> + Send + Sync>;

/// The authority of this cluster. Shared by all TLS ends.
pub struct Authority {
    data: PathBuf,
    issue: Issue,
    now: RwLock<Arc<Trust>>,
    /// Which nodes have a certificate of the issuer.
    renewed: Mutex<BTreeSet<String>>,
    changed: watch::Sender<u64>,
}

impl fmt::Debug for Authority {
    /// Without keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("serving", &self.now().serving.fingerprint()).finish_non_exhaustive()
    }
}

impl Authority {
    /// The authority in the master's files.
    ///
    /// # Errors
    /// Its certificates cannot be used.
    pub fn new(
        data: &Path,
        ca: Ca,
        issue: impl Fn(&Ca) -> Result<Identity, CaError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, SuccessionError> {
        let issue: Issue = Box::new(issue);
        let ca = Arc::new(ca);
        let trust = trust(&issue, ca.clone(), ca, &[], &[])?;
        Ok(Arc::new(Self {
            data: data.to_owned(),
            issue,
            now: RwLock::new(Arc::new(trust)),
            renewed: Mutex::default(),
            changed: watch::Sender::new(0),
        }))
    }

    /// What holds now.
    #[must_use]
    pub fn now(&self) -> Arc<Trust> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wakes when it is other than before.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Certificates for our own TLS ends.
    #[must_use]
    pub fn own(&self) -> Arc<CertifiedKey> {
        self.now().own.clone()
    }

    /// A node has shown or been given a certificate: is it of the one that issues now?
    pub fn noted(&self, node: &str, certificate: &[u8]) {
        let of_issuer = ca::issuer(certificate).is_some_and(|issuer| Some(issuer) == ca::name(self.now().issuer.der()));
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if of_issuer {
            renewed.insert(node.to_owned());
        } else {
            renewed.remove(node);
        }
    }

    /// Has this node a certificate of the one that issues now, as far as this master knows?
    #[must_use]
    pub fn has_renewed(&self, node: &str) -> bool {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).contains(node)
    }

    /// Follows the table for ever.
    pub async fn follow(self: Arc<Self>, keeper: Keeper) {
        let mut changes = keeper.changes();
        let successions = Successions::new(keeper);
        let mut last = None;
        loop {
            changes.mark_unchanged();
            let succession = successions.current();
            if last.as_ref() != Some(&succession) {
                match self.apply(succession.as_ref()) {
                    Ok(()) => last = Some(succession),
                    Err(error) => {
                        let error: &dyn std::error::Error = &error;
                        tracing::error!(error, "the cluster's next authority cannot be taken over");
                    }
                }
            }
            let again = last.as_ref() != Some(&successions.current());
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN), if again => {}
            }
        }
    }

    fn apply(&self, succession: Option<&Succession>) -> Result<(), SuccessionError> {
        let here = self.now().serving.clone();
        let before = self.now().issuer.fingerprint();
        let next = match succession {
            None if self.now().trusted.len() == 1 && Arc::ptr_eq(&here, &self.now().issuer) => {
                // After Closing the old one is forgotten here too.
                trust(&self.issue, here.clone(), here, &[], &[])?
            }
            None => {
                let issuer = self.now().issuer.clone();
                // Closing was not seen here.
                if issuer.der() != here.der() {
                    Ca::replace(&self.data, issuer.pem(), &issuer.key_pem())?;
                }
                trust(&self.issue, issuer.clone(), issuer, &[], &[])?
            }
            Some(succession) => {
                let (old, new) = (ca::der_of(&succession.old_pem)?, ca::der_of(&succession.pem)?);
                let is_new = *here.der() == new;
                if !is_new && *here.der() != old {
                    // The log is read again from before another succession, which our files have behind them.
                    return Ok(());
                }
                let next = if is_new { here.clone() } else { Arc::new(succession.open(&here)?) };
                match succession.stage {
                    Stage::Overlap => trust(&self.issue, here, next, &[if is_new { old } else { new }], &[])?,
                    Stage::Closing => {
                        if !is_new {
                            Ca::replace(&self.data, next.pem(), &next.key_pem())?;
                        }
                        trust(&self.issue, next.clone(), next, &[], &[old])?
                    }
                }
            }
        };
        if next.issuer.fingerprint() != before {
            self.renewed.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let stage = succession.map(|succession| succession.stage);
        tracing::info!(?stage, trusts = next.pins(), "the cluster's authority");
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.changed.send_modify(|version| *version += 1);
        Ok(())
    }
}

/// The table of successions. Whatever changes it blocks until that is committed.
pub struct Successions(Table<Succession>);

impl Successions {
    /// The table that `keeper` keeps.
    #[must_use]
    pub fn new(keeper: Keeper) -> Self {
        Self(Table::new(state::Table::Authorities, keeper))
    }

    /// The one under way.
    #[must_use]
    pub fn current(&self) -> Option<Succession> {
        self.0.all().get(SUCCESSION).cloned()
    }

    /// A new authority begins to follow the one in use.
    ///
    /// # Errors
    /// One does already, or it was not kept.
    pub fn begin(&self, old: &Ca, by: &str) -> Result<(), SuccessionError> {
        let now_ms = unix_ms();
        let (pem, key_pem) = Ca::generate(i64::try_from(now_ms / 1000).unwrap_or(i64::MAX))?;
        let (old_pem, sealed_key) = (old.pem().to_owned(), Sealer::new(old)?.seal(SEALED_AS, key_pem.as_bytes())?);
        let succession =
            Succession { stage: Stage::Overlap, old_pem, pem, sealed_key, begun_ms: now_ms, by: by.to_owned() };
        self.0.change(|all| {
            if all.contains_key(SUCCESSION) {
                return Err(SuccessionError::UnderWay);
            }
            all.insert(SUCCESSION.to_owned(), succession.clone());
            Ok(())
        })
    }

    /// The new one is the only one from now on.
    ///
    /// # Errors
    /// There is none, or it was not kept.
    pub fn close(&self) -> Result<(), SuccessionError> {
        self.0.change(|all| {
            all.get_mut(SUCCESSION).ok_or(SuccessionError::None)?.stage = Stage::Closing;
            Ok(())
        })
    }

    /// Every master has taken it over: the old one is forgotten.
    ///
    /// # Errors
    /// There is none, or it was not kept.
    pub fn end(&self) -> Result<(), SuccessionError> {
        self.0.change(|all| all.remove(SUCCESSION).map(drop).ok_or(SuccessionError::None))
    }
}

fn trust(
    issue: &Issue,
    serving: Arc<Ca>,
    issuer: Arc<Ca>,
    also: &[CertificateDer<'static>],
    masters_only: &[CertificateDer<'static>],
) -> Result<Trust, SuccessionError> {
    let roots = |certificates: &[CertificateDer<'static>]| {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate.clone()).map_err(SuccessionError::Tls)?;
        }
        Ok::<_, SuccessionError>(Arc::new(roots))
    };
    let general = |error: &dyn fmt::Display| SuccessionError::Tls(rustls::Error::General(error.to_string()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trusted: Vec<_> = std::iter::once(serving.der().clone()).chain(also.iter().cloned()).collect();
    let of_masters: Vec<_> = trusted.iter().chain(masters_only).cloned().collect();
    let clients = |certificates: &[CertificateDer<'static>]| {
        WebPkiClientVerifier::builder_with_provider(roots(certificates)?, provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| general(&error))
    };
    let servers = WebPkiServerVerifier::builder_with_provider(roots(&of_masters)?, provider.clone())
        .build()
        .map_err(|error| general(&error))?;
    let Identity { chain, key } = issue(&serving)?;
    let own = CertifiedKey::from_der(chain, key, &provider).map_err(SuccessionError::Tls)?;
    Ok(Trust {
        everybody: clients(&trusted)?,
        masters: clients(&of_masters)?,
        servers,
        own: Arc::new(own),
        serving,
        issuer,
        trusted,
    })
}

/// A TLS end that asks the authority at every handshake.
#[derive(Debug)]
pub struct Ends(pub Arc<Authority>);

impl ResolvesServerCert for Ends {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.own())
    }
}

impl ResolvesClientCert for Ends {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.own())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Ends {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Which ones changes: whoever comes shows what it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let trust = self.0.now();
        let is_master = matches!(ca::subject(end_entity), Some((Role::Master, _)));
        let verifier = if is_master { &trust.masters } else { &trust.everybody };
        verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.now().everybody.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.now().everybody.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.now().everybody.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Ends {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.now().servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.now().servers.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.now().servers.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.now().servers.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certified(ca: &Ca, node: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let now = i64::try_from(unix_ms() / 1000).unwrap();
        let pem = ca.certify(ca::Request::parse(&csr).unwrap(), node, now).unwrap();
        ca::der_of(&pem).unwrap()
    }

    fn takes(authority: &Arc<Authority>, certificate: &CertificateDer<'_>) -> bool {
        Ends(authority.clone()).verify_client_cert(certificate, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn an_authority_follows_another_without_a_moment_in_which_nobody_is_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let now = i64::try_from(unix_ms() / 1000).unwrap();
        let ca = Ca::open(dir.path(), now).unwrap();
        let first = ca.fingerprint();
        let old_node = certified(&ca, "node-1");
        let issue = move |ca: &Ca| ca.issue("master", &["localhost".to_owned()], now);
        let authority = Authority::new(dir.path(), ca, issue).unwrap();
        let old_master = authority.own().cert[0].clone();
        let successions = Successions::new(Keeper::in_memory());
        authority.noted("node-1", &old_node);
        assert!(takes(&authority, &old_node) && authority.has_renewed("node-1"));
        assert!(matches!(successions.close(), Err(SuccessionError::None)));

        successions.begin(&authority.now().serving, "ops").unwrap();
        assert!(matches!(successions.begin(&authority.now().serving, "ops"), Err(SuccessionError::UnderWay)));
        authority.apply(successions.current().as_ref()).unwrap();
        let new_node = certified(&authority.now().issuer, "node-2");
        assert!(takes(&authority, &old_node) && takes(&authority, &new_node));
        assert_eq!(authority.now().pins().split(',').count(), 2);
        assert_eq!(authority.now().serving.fingerprint(), first, "who knows only the old one still finds us");
        authority.noted("node-2", &new_node);
        assert!(!authority.has_renewed("node-1") && authority.has_renewed("node-2"));

        successions.close().unwrap();
        authority.apply(successions.current().as_ref()).unwrap();
        assert!(!takes(&authority, &old_node) && takes(&authority, &new_node));
        assert!(takes(&authority, &old_master), "a master that has not heard of it yet is still one");
        assert_ne!(authority.now().serving.fingerprint(), first);
        // What a restart finds.
        let found = Ca::open(dir.path(), now).unwrap();
        assert_eq!(found.fingerprint(), authority.now().serving.fingerprint());

        successions.end().unwrap();
        authority.apply(None).unwrap();
        assert!(!takes(&authority, &old_master) && takes(&authority, &new_node));
        assert!(takes(&authority, &authority.own().cert[0].clone()));
    }
}
