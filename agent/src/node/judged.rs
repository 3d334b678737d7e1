//! Certificates judged by a rule of our own; that their holders have the keys is checked as always.

use std::fmt;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// The rule: the certificate, those that came with it, and the time.
pub(crate) trait Judge:
    Fn(&CertificateDer<'_>, &[CertificateDer<'_>], UnixTime, WebPkiSupportedAlgorithms) -> Result<(), Error> + Send + Sync
{
}

impl<F> Judge for F where
    F: Fn(&CertificateDer<'_>, &[CertificateDer<'_>], UnixTime, WebPkiSupportedAlgorithms) -> Result<(), Error>
        + Send
        + Sync
{
}

/// See the module.
pub(crate) struct Judged<F> {
    judge: F,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<F: Judge> Judged<F> {
    pub(crate) fn by(judge: F) -> Self {
        Self { judge, algorithms: ring::default_provider().signature_verification_algorithms }
    }
}

impl<F> fmt::Debug for Judged<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judged")
    }
}

impl<F: Judge> ServerCertVerifier for Judged<F> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        (self.judge)(end_entity, intermediates, now, self.algorithms).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
