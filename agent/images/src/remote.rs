//! One registry, asked for one image: a thin coat over the registry client, which turns its answers into what matters
//! here: try again, try elsewhere, or tell the user.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use agent_core::image::{Digest, Reference};
use oci_client::client::{
    BlobResponse, Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol, SizedStream,
};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference as WireReference, RegistryOperation};

use crate::docker_config::Login;
use crate::manifest;
use crate::registries::Endpoint;

/// What registries see of us.
const USER_AGENT: &str = concat!("mesolith-agent/", env!("CARGO_PKG_VERSION"));
/// How much of what a registry says goes into a message.
const MAX_WORDS: usize = 300;

/// How long one registry may stay silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    pub(crate) connect: Duration,
    pub(crate) read: Duration,
}

/// The clients in use: pulls from the same registry with the same login share one, its connections and its tokens. One
/// that nobody uses is closed.
pub(crate) struct Clients {
    authorities: Vec<String>,
    /// Read when a client is made: it is long, and pulls are rare.
    host_list: Option<PathBuf>,
    silence: Silence,
    open: Mutex<Vec<(Endpoint, Weak<Client>)>>,
}

impl Clients {
    /// Says what is wrong with the authorities, if anything.
    pub(crate) fn new(authorities: &[String], host_list: Option<PathBuf>, silence: Silence) -> Result<Self, String> {
        roots(authorities, None)?;
        Ok(Self { authorities: authorities.to_vec(), host_list, silence, open: Mutex::new(Vec::new()) })
    }

    fn get(&self, endpoint: &Endpoint) -> Result<Arc<Client>, RemoteError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, client)| client.strong_count() > 0);
        if let Some(client) = open.iter().find(|(known, _)| known == endpoint).and_then(|(_, client)| client.upgrade())
        {
            return Ok(client);
        }
        let list = self.host_list.as_ref().and_then(|path| std::fs::read(path).ok());
        let unusable = |said| RemoteError::Unusable { host: endpoint.host.clone(), said };
        let roots = roots(&self.authorities, list.as_deref()).map_err(unusable)?;
        let client = Arc::new(client(endpoint, &roots, self.silence)?);
        open.push((endpoint.clone(), Arc::downgrade(&client)));
        Ok(client)
    }
}

fn client(endpoint: &Endpoint, roots: &[Certificate], silence: Silence) -> Result<Client, RemoteError> {
    install_provider();
    if roots.is_empty() && !endpoint.plain_http {
        let said = "this node has no list of certificate authorities; give some in its registry settings".to_owned();
        return Err(RemoteError::Unusable { host: endpoint.host.clone(), said });
    }
    let protocol = if endpoint.plain_http { ClientProtocol::Http } else { ClientProtocol::Https };
    let config = ClientConfig {
        protocol,
        // Never the system's: what it may be is decided in one place.
        tls_certs_only: roots.to_vec(),
        // Without a list and without TLS there is nothing to check; the client would insist on a list.
        accept_invalid_certificates: roots.is_empty(),
        connect_timeout: Some(silence.connect),
        read_timeout: Some(silence.read),
        user_agent: USER_AGENT,
        platform_resolver: None,
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| failure(&endpoint.host, &error))
}

/// A registry that is ready to be asked.
pub(crate) struct Remote {
    client: Arc<Client>,
    reference: WireReference,
    auth: RegistryAuth,
    endpoint: Endpoint,
}

/// Why a registry has not given what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// It wants other credentials, or some.
    #[error(
        "registry {host} refuses access ({said}); give credentials in the image's `docker.config` or in the node's registry settings"
    )]
    Refused {
        /// Which registry.
        host: String,
        /// Its words.
        said: String,
    },
    /// It does not have it.
    #[error("registry {host} does not have it ({said})")]
    Missing {
        /// Which registry.
        host: String,
        /// Its words.
        said: String,
    },
    /// What it says is not what it should say, or comes from somebody else.
    #[error("registry {host} cannot be used: {said}")]
    Unusable {
        /// Which registry.
        host: String,
        /// What is wrong.
        said: String,
    },
    /// It may answer later.
    #[error("registry {host} does not answer: {said}")]
    Unreachable {
        /// Which registry.
        host: String,
        /// What happened.
        said: String,
    },
}

impl RemoteError {
    /// Whether the same question may be answered a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A blob on its way.
pub(crate) struct Incoming {
    /// It begins where we asked; otherwise at the blob's first byte.
    pub(crate) resumed: bool,
    pub(crate) stream: SizedStream,
}

impl Remote {
    pub(crate) fn new(reference: &Reference, endpoint: Endpoint, clients: &Clients) -> Result<Self, RemoteError> {
        let client = clients.get(&endpoint)?;
        let host = endpoint.host.clone();
        let (repository, selector) = (reference.repository.clone(), reference.selector());
        let wire = match reference.digest {
            Some(_) => WireReference::with_digest(host, repository, selector),
            None => WireReference::with_tag(host, repository, selector),
        };
        let auth = match &endpoint.login {
            Login::Anonymous => RegistryAuth::Anonymous,
            Login::Password { user, password } => RegistryAuth::Basic(user.clone(), password.clone()),
            Login::Token(token) => RegistryAuth::Bearer(token.clone()),
        };
        Ok(Self { client, reference: wire, auth, endpoint })
    }

    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Gets a token if the registry wants one. The client would do so by itself, and keep to itself why it fails.
    pub(crate) async fn log_in(&self) -> Result<(), RemoteError> {
        let result = self.client.auth(&self.reference, &self.auth, RegistryOperation::Pull).await;
        result.map(drop).map_err(|error| failure(&self.endpoint.host, &error))
    }

    /// The manifest the reference leads to, or the one with this digest.
    pub(crate) async fn manifest(&self, digest: Option<&Digest>) -> Result<(Vec<u8>, Digest), RemoteError> {
        let host = &self.endpoint.host;
        let reference = match digest {
            Some(digest) => self.reference.clone_with_digest(digest.to_string()),
            None => self.reference.clone(),
        };
        let pulled = self.client.pull_manifest_raw(&reference, &self.auth, &manifest::ACCEPTED).await;
        let (bytes, digest) = pulled.map_err(|error| failure(host, &error))?;
        let unusable = |said: String| RemoteError::Unusable { host: host.clone(), said };
        if bytes.len() as u64 > manifest::MAX_BYTES {
            return Err(unusable(format!("the manifest has {} bytes", bytes.len())));
        }
        let digest = digest.parse().map_err(|error: agent_core::image::DigestError| unusable(error.to_string()))?;
        Ok((bytes.to_vec(), digest))
    }

    /// A blob from this byte on.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Incoming, RemoteError> {
        let host = &self.endpoint.host;
        self.client.store_auth_if_needed(self.reference.resolve_registry(), &self.auth).await;
        let digest = digest.to_string();
        let response = self.client.pull_blob_stream_partial(&self.reference, digest.as_str(), offset, None).await;
        match response.map_err(|error| failure(host, &error))? {
            BlobResponse::Partial(stream) => Ok(Incoming { resumed: true, stream }),
            BlobResponse::Full(stream) => Ok(Incoming { resumed: false, stream }),
        }
    }
}

/// Two providers of cryptography may be compiled in; ours is named before anybody asks.
fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Already named is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn failure(host: &str, error: &OciDistributionError) -> RemoteError {
    let host = host.to_owned();
    let refused = |said: String| RemoteError::Refused { host: host.clone(), said };
    let missing = |said: String| RemoteError::Missing { host: host.clone(), said };
    let unusable = |said: String| RemoteError::Unusable { host: host.clone(), said };
    let unreachable = |said: String| RemoteError::Unreachable { host: host.clone(), said };
    #[allow(clippy::wildcard_enum_match_arm)] // the client's errors are many, and more with each version
    match error {
        OciDistributionError::AuthenticationFailure(said) => refused(words(said)),
        OciDistributionError::UnauthorizedError { .. } => refused("401 Unauthorized".to_owned()),
        OciDistributionError::RegistryError { envelope, .. } => {
            let Some(first) = envelope.errors.first() else { return unusable("an empty error".to_owned()) };
            let said = words(&format!("{:?}: {}", first.code, first.message));
            match first.code {
                OciErrorCode::BlobUnknown
                | OciErrorCode::ManifestUnknown
                | OciErrorCode::ManifestBlobUnknown
                | OciErrorCode::NameUnknown
                | OciErrorCode::NotFound => missing(said),
                OciErrorCode::Unauthorized | OciErrorCode::Denied => refused(said),
                OciErrorCode::Toomanyrequests => unreachable(said),
                _ => unusable(said),
            }
        }
        OciDistributionError::ServerError { code, message, .. } => {
            let said = words(&format!("{code}: {message}"));
            match code {
                401 | 403 => refused(said),
                404 => missing(said),
                408 | 429 | 500..=599 => unreachable(said),
                _ => unusable(said),
            }
        }
        OciDistributionError::RequestError(source) => {
            let said = words(&causes(source));
            // A certificate does not become better by waiting.
            if source.is_builder() || source.is_redirect() || said.contains("certificate") {
                unusable(said)
            } else {
                unreachable(said)
            }
        }
        OciDistributionError::IoError(source) => unreachable(words(&causes(source))),
        other => unusable(words(&causes(other))),
    }
}

/// The chain of causes without the addresses the client puts into it: they may carry signatures.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let text = text.split_once(" for url (").map_or(text.as_str(), |(before, _)| before).to_owned();
        // Some put their cause into their own text.
        if !texts.last().is_some_and(|last| last.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}

/// What a registry says, short and without line ends.
fn words(said: &str) -> String {
    let line: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_WORDS {
        line
    } else {
        line.chars().take(MAX_WORDS - 3).chain("...".chars()).collect()
    }
}

/// Certificates to trust: the operator's and the host's.
fn roots(authorities: &[String], host_list: Option<&[u8]>) -> Result<Vec<Certificate>, String> {
    let known = certificates(authorities, host_list)?;
    Ok(known.into_iter().map(|data| Certificate { encoding: CertificateEncoding::Der, data }).collect())
}

/// The same as they are, in DER.
pub(crate) fn certificates(authorities: &[String], host_list: Option<&[u8]>) -> Result<Vec<Vec<u8>>, String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut known = Vec::new();
    for text in authorities {
        let before = known.len();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate =
                certificate.map_err(|error| format!("an authority is not a certificate in PEM: {error}"))?;
            known.push(certificate.as_ref().to_vec());
        }
        if known.len() == before {
            return Err("an authority holds no certificate in PEM".to_owned());
        }
    }
    // Of a long list one entry that cannot be read shall not spoil the others.
    let listed = CertificateDer::pem_slice_iter(host_list.unwrap_or_default()).flatten();
    known.extend(listed.map(|certificate| certificate.as_ref().to_vec()));
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_are_short_and_one_line() {
        assert_eq!(words("a\n  b\tc"), "a b c");
        assert_eq!(words(&"x".repeat(1000)).len(), MAX_WORDS);
    }

    #[test]
    fn authorities_are_the_operators_and_the_hosts() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        assert!(roots(&["no certificate".to_owned()], None).is_err());
        assert_eq!(roots(&[pem.to_owned()], Some([pem, pem].concat().as_bytes())).unwrap().len(), 3);
        assert!(roots(&[], None).unwrap().is_empty());
    }

    #[test]
    fn without_authorities_only_plain_registries_can_be_asked() {
        let endpoint = |plain_http| Endpoint { host: "r.io".to_owned(), plain_http, login: Login::Anonymous };
        let silence = Silence { connect: Duration::from_secs(1), read: Duration::from_secs(1) };
        assert!(client(&endpoint(true), &[], silence).is_ok());
        let error = client(&endpoint(false), &[], silence).err().unwrap().to_string();
        assert!(error.contains("no list of certificate authorities"), "{error}");
    }
}
