//! Trust in one authority that is known by its fingerprint only: how a master joins.

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use sha2::{Digest, Sha256};

use crate::ca::{self, Role};
use crate::judged::{Judge, Judged};

/// Trusts masters with certificates of the authority whose certificate has this SHA-256; they send it along.
pub(super) fn pinned_ca(ca_sha256: [u8; 32]) -> Judged<impl Judge> {
    Judged::by(move |end_entity, intermediates, now, algorithms| {
        let is_pinned = |certificate: &&CertificateDer<'_>| Sha256::digest(certificate).as_slice() == ca_sha256;
        let Some(ca) = intermediates.iter().find(is_pinned) else { return Err(CertificateError::UnknownIssuer.into()) };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms.all)?;
        // A node's certificate is of the same authority.
        match ca::subject(end_entity) {
            Some((Role::Master, _)) => Ok(()),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    })
}
