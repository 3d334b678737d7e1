//! TLS 1.3 to the master, whose CA is pinned by fingerprint.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, OtherError, RootCertStore};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::identity::{Identity, IdentityError};
use super::judged::{Judge, Judged};

/// Opening a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A dead link is noticed even while nothing is said.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot use the node's certificate")]
    Identity(#[from] IdentityError),
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
    #[error("cannot connect to the master at {master}")]
    Connect { master: String, source: tonic::transport::Error },
    #[error("`{0}` is not an address")]
    Address(String),
}

/// Opens an HTTP/2 channel; with an identity the master learns who we are.
pub(crate) async fn connect(
    master: &str,
    trusted: &[[u8; 32]],
    identity: Option<&Identity>,
) -> Result<Channel, TlsError> {
    let config = Arc::new(config(trusted, identity)?);
    let (host, _) = master.rsplit_once(':').ok_or_else(|| TlsError::Address(master.to_owned()))?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|_| TlsError::Address(master.to_owned()))?;
    let connector = Connector { master: master.to_owned(), name, tls: TlsConnector::from(config) };
    // Windows as small as the messages: thousands of these connections end at one master.
    Endpoint::from_static("http://master")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .connect_with_connector(connector)
        .await
        .map_err(|source| TlsError::Connect { master: master.to_owned(), source })
}

fn config(trusted: &[[u8; 32]], identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(pinned(trusted.to_vec()));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => {
            let (chain, key) = identity.for_tls()?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Setup)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The master is not of the cluster this node was told of.
#[derive(thiserror::Error)]
#[error("the master's CA is {theirs}, this node was told to trust sha256:{}", hex(.ours))]
struct OtherCa {
    theirs: String,
    ours: [u8; 32],
}

impl std::fmt::Debug for OtherCa {
    /// In words, because rustls shows a verifier's own errors by `Debug` only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// The words of [`OtherCa`] within the text of a failed connection.
pub(crate) fn other_ca(text: &str) -> Option<&str> {
    text.find("the master's CA is ").map(|at| text[at..].trim_end_matches(')'))
}

/// Trusts authorities known by the SHA-256 of their certificates, which the master sends along.
///
/// The name in the master's certificate is not compared: a node may reach a master under any address. What keeps a node
/// from posing as the master is that only masters get certificates for server authentication, which is checked.
fn pinned(trusted: Vec<[u8; 32]>) -> Judged<impl Judge> {
    Judged::by(move |end_entity, intermediates, now, algorithms| {
        let Some(ca) = intermediates.iter().find(|certificate| trusted.contains(&fingerprint(certificate))) else {
            let theirs = intermediates.last().map_or_else(
                || "not sent".to_owned(),
                |certificate| format!("sha256:{}", hex(&fingerprint(certificate))),
            );
            let error = OtherCa { theirs, ours: trusted.first().copied().unwrap_or_default() };
            return Err(CertificateError::Other(OtherError(Arc::new(error))).into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms.all)
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a certificate's DER.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate.as_ref()).into()
}

/// TCP and TLS, as tonic wants it.
#[derive(Clone)]
struct Connector {
    master: String,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl tonic::codegen::Service<tonic::codegen::http::Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::codegen::http::Uri) -> Self::Future {
        let Self { master, name, tls } = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(&master).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(tls.connect(name, stream).await?))
        })
    }
}

/// Is it the clock? Certificates are the first to notice a wrong one.
pub(crate) fn blames_clock(text: &str) -> bool {
    ["not valid yet", "NotValidYet", "certificate expired", "Expired"].iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_ca_is_told_in_words() {
        let error = OtherCa { theirs: "sha256:ab".to_owned(), ours: [1; 32] };
        let error = rustls::Error::from(CertificateError::Other(OtherError(Arc::new(error))));
        let text = format!("transport error: {error}");
        let words = other_ca(&text).unwrap();
        assert!(words.starts_with("the master's CA is sha256:ab, this node was told to trust sha256:0101"), "{text}");
        assert!(words.ends_with("01"), "{words}");
        assert_eq!(other_ca("connection refused"), None);
    }
}
