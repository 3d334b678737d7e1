//! The cluster's certificate authority: made on first start, it vouches for nodes and masters.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use api::node_api::NodeRole;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use ring::hkdf;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{atomic_file, hex};

const DAY_SECS: i64 = 24 * 3600;
/// A node's certificate: long enough that a master down for a fortnight locks nobody out; renewed over the link.
pub const NODE_DAYS: i64 = 30;
/// The slack for a node whose clock is behind.
pub const SLACK_SECS: i64 = DAY_SECS;
/// Reissued at every start.
const SERVER_DAYS: i64 = 730;
const CA_DAYS: i64 = 3650;

/// What a certificate's holder may do: the organizational unit of its subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Runs tasks: may open a session.
    Node,
    /// Serves.
    Master,
    /// Uses the API, as the principal the certificate names.
    Client,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Master => "master",
            Self::Client => "client",
        }
    }
}

/// The attribute `title` of a name (X.520), where a client's certificate has its role on nodes.
const TITLE: &[u64] = &[2, 5, 4, 12];

/// What went wrong with the authority's files or a certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// One of the pair is gone.
    #[error("{} is there but {} is not: restore it, or remove both to start a new authority (every node then has to join again)", there.display(), missing.display())]
    Half {
        /// The one that exists.
        there: PathBuf,
        /// The other.
        missing: PathBuf,
    },
    /// A file's content.
    #[error("{} is not a usable certificate authority: {reason}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {subject}")]
    Sign {
        /// For whom.
        subject: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// A certificate request is not one.
    #[error("the certificate request is malformed or not signed by its key")]
    Request(#[source] rcgen::Error),
}

/// The authority. Holds the key, which goes to masters that join and to the file of its successor, nowhere else.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

/// A certificate and its key, for a TLS end of our own.
pub struct Identity {
    /// Leaf and authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's.
    pub key: PrivateKeyDer<'static>,
}

/// A certificate and its key as PEM, for somebody else.
pub struct Issued {
    /// Leaf and authority.
    pub certificate_pem: String,
    /// The leaf's, secret.
    pub key_pem: String,
}

/// Whom a certificate of ours was issued to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// As what.
    pub role: Role,
    /// A node's name, or a principal.
    pub name: String,
    /// A principal's role on nodes.
    pub on_nodes: Option<NodeRole>,
    /// Lower-case hexadecimal without leading zeros.
    pub serial: String,
    /// When: seconds since 1970.
    pub issued_secs: i64,
}

/// A checked certificate request.
pub struct Request {
    params: CertificateSigningRequestParams,
    /// SHA-256 of the public key.
    pub key: [u8; 32],
}

impl Request {
    /// Reads a PKCS#10 request and checks that whoever made it has the key.
    ///
    /// # Errors
    /// It is not a request, or its signature is wrong.
    pub fn parse(pem: &str) -> Result<Self, CaError> {
        let params = CertificateSigningRequestParams::from_pem(pem).map_err(CaError::Request)?;
        let key = Sha256::digest(params.public_key.der_bytes()).into();
        Ok(Self { params, key })
    }
}

impl Ca {
    /// Opens the authority in `directory`, or makes one there.
    ///
    /// # Errors
    /// The files cannot be read or written, or only half of them is there.
    pub fn open(directory: &Path, now_secs: i64) -> Result<Self, CaError> {
        let (pem_path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
        Self::finish_replacing(directory)?;
        let read = |path: &Path| {
            atomic_file::read(path).map_err(|source| CaError::Io { action: "read", path: path.to_owned(), source })
        };
        match (read(&pem_path)?, read(&key_path)?) {
            (Some(pem), Some(key)) => {
                let text = |bytes, path: &Path| {
                    String::from_utf8(bytes)
                        .map_err(|error| CaError::Unusable { path: path.to_owned(), reason: error.to_string() })
                };
                let unusable = |path: &Path, error: &dyn std::fmt::Display| CaError::Unusable {
                    path: path.to_owned(),
                    reason: error.to_string(),
                };
                let (pem, key) = (text(pem, &pem_path)?, text(key, &key_path)?);
                Self::of(&pem, &key).map_err(|reason| unusable(&pem_path, &reason))
            }
            (Some(_), None) => Err(CaError::Half { there: pem_path, missing: key_path }),
            (None, Some(_)) => Err(CaError::Half { there: key_path, missing: pem_path }),
            (None, None) => Self::found(&pem_path, &key_path, now_secs),
        }
    }

    /// The authority with this certificate and key.
    ///
    /// # Errors
    /// They are not one, or do not belong together.
    pub fn parse(pem: &str, key_pem: &str) -> Result<Self, CaError> {
        Self::of(pem, key_pem).map_err(|reason| CaError::Unusable { path: "the next authority".into(), reason })
    }

    fn of(pem: &str, key_pem: &str) -> Result<Self, String> {
        let key = KeyPair::from_pem(key_pem).map_err(|error| error.to_string())?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("the key is not the certificate's".to_owned());
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| error.to_string())?;
        Ok(Self { issuer, pem: pem.to_owned(), der })
    }

    /// Puts another authority in the place of the one in `directory`. A power cut leaves one or the other: the new pair is
    /// whole beside the old one before that is touched.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn replace(directory: &Path, pem: &str, key_pem: &str) -> Result<(), CaError> {
        let write = |name: &str, text: &str, mode| {
            let path = directory.join(name);
            atomic_file::write(&path, text.as_bytes(), mode).map_err(|source| CaError::Io {
                action: "write",
                path,
                source,
            })
        };
        write("ca-next.pem", pem, 0o644)?;
        // With this one they are whole.
        write("ca-next.key", key_pem, 0o600)?;
        Self::finish_replacing(directory)
    }

    fn finish_replacing(directory: &Path) -> Result<(), CaError> {
        let (next_pem, next_key) = (directory.join("ca-next.pem"), directory.join("ca-next.key"));
        let read = |path: &Path| {
            atomic_file::read(path).map_err(|source| CaError::Io { action: "read", path: path.to_owned(), source })
        };
        let (Some(pem), Some(key)) = (read(&next_pem)?, read(&next_key)?) else { return Ok(()) };
        let write = |name: &str, bytes: &[u8], mode| {
            let path = directory.join(name);
            atomic_file::write(&path, bytes, mode).map_err(|source| CaError::Io { action: "write", path, source })
        };
        write("ca.key", &key, 0o600)?;
        write("ca.pem", &pem, 0o644)?;
        for path in [next_key, next_pem] {
            std::fs::remove_file(&path).map_err(|source| CaError::Io { action: "remove", path, source })?;
        }
        Ok(())
    }

    fn found(pem_path: &Path, key_path: &Path, now_secs: i64) -> Result<Self, CaError> {
        let (pem, key_pem) = Self::generate(now_secs)?;
        let write = |path: &Path, text: &str, mode| {
            atomic_file::write(path, text.as_bytes(), mode).map_err(|source| CaError::Io {
                action: "write",
                path: path.to_owned(),
                source,
            })
        };
        write(key_path, &key_pem, 0o600)?;
        write(pem_path, &pem, 0o644)?;
        tracing::info!(certificate = %pem_path.display(), "made the cluster's certificate authority");
        Self::parse(&pem, &key_pem)
    }

    /// The certificate and key of a new authority.
    ///
    /// # Errors
    /// The machine gives no keys.
    pub fn generate(now_secs: i64) -> Result<(String, String), CaError> {
        let signed = |source| CaError::Sign { subject: "the authority itself".to_owned(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Mesolith");
        // Two clusters' authorities must not be taken for one another.
        let unique = hex::encode(&Sha256::digest(key.public_key_raw())[..4]);
        params.distinguished_name.push(DnType::CommonName, format!("Mesolith cluster CA {unique}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now_secs, CA_DAYS).map_err(signed)?;
        let certificate = params.self_signed(&key).map_err(signed)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// The authority's certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A key for something else, which only whoever has the authority's key can have.
    pub(crate) fn derive<K: hkdf::KeyType>(&self, purpose: &[u8], kind: K) -> Option<[u8; 32]> {
        let mut key = [0; 32];
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"mesolith").extract(&self.issuer.key().serialize_der());
        root.expand(&[purpose], kind).and_then(|derived| derived.fill(&mut key)).ok()?;
        Some(key)
    }

    /// The authority's key as PEM, secret.
    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The authority's certificate as DER.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 of the certificate's DER, in hexadecimal: what nodes pin.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.der)
    }

    /// A new key and certificate for a master that is reached by any of `hosts`.
    ///
    /// # Errors
    /// A name is not one a certificate can hold.
    pub fn issue(&self, name: &str, hosts: &[String], now_secs: i64) -> Result<Identity, CaError> {
        let signed = |source| CaError::Sign { subject: name.to_owned(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signed)?;
        let mut params = leaf(Role::Master, name, now_secs, SERVER_DAYS).map_err(signed)?;
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(host.as_str().try_into().map_err(signed)?),
            });
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(signed)?;
        Ok(Identity {
            chain: vec![certificate.der().clone(), self.der.clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }

    /// A key and certificate with which a program uses the API as `principal`, and asks nodes in a role.
    ///
    /// # Errors
    /// The name is not one a certificate can hold.
    pub fn issue_client(
        &self,
        principal: &str,
        on_nodes: Option<NodeRole>,
        days: i64,
        now_secs: i64,
    ) -> Result<Issued, CaError> {
        let signed = |source| CaError::Sign { subject: principal.to_owned(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signed)?;
        let mut params = leaf(Role::Client, principal, now_secs, days).map_err(signed)?;
        if let Some(role) = on_nodes {
            params.distinguished_name.push(DnType::CustomDnType(TITLE.to_vec()), role.name());
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(signed)?;
        Ok(Issued { certificate_pem: format!("{}{}", certificate.pem(), self.pem), key_pem: key.serialize_pem() })
    }

    /// A node's certificate. Nothing but the key is taken from the request: the master names the node.
    ///
    /// # Errors
    /// The name is not one a certificate can hold.
    pub fn certify(&self, mut request: Request, node: &str, now_secs: i64) -> Result<String, CaError> {
        let signed = |source| CaError::Sign { subject: node.to_owned(), source };
        request.params.params = leaf(Role::Node, node, now_secs, NODE_DAYS).map_err(signed)?;
        Ok(request.params.signed_by(&self.issuer).map_err(signed)?.pem())
    }
}

fn leaf(role: Role, name: &str, now_secs: i64, days: i64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Mesolith");
    params.distinguished_name.push(DnType::OrganizationalUnitName, role.name());
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let mut serial = uuid::Uuid::new_v4().into_bytes();
    serial[0] &= 0x7f; // positive
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    set_validity(&mut params, now_secs, days)?;
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, now_secs: i64, days: i64) -> Result<(), rcgen::Error> {
    let time = |secs| {
        x509_parser::time::ASN1Time::from_timestamp(secs).map(|time| time.to_datetime()).map_err(|_| rcgen::Error::Time)
    };
    params.not_before = time(now_secs - SLACK_SECS)?;
    params.not_after = time(now_secs + days * DAY_SECS)?;
    Ok(())
}

/// SHA-256 of a certificate, in hexadecimal.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex::encode(&Sha256::digest(certificate))
}

/// The certificate in a PEM text.
///
/// # Errors
/// There is none.
pub fn der_of(pem: &str) -> Result<CertificateDer<'static>, CaError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| CaError::Unusable { path: "a certificate".into(), reason: error.to_string() })
}

/// The name of whoever signed a certificate: authorities of ours have names of their own.
#[must_use]
pub fn issuer(certificate: &[u8]) -> Option<String> {
    Some(X509Certificate::from_der(certificate).ok()?.1.issuer().to_string())
}

/// The name of an authority, as [`issuer`] gives it.
#[must_use]
pub fn name(authority: &[u8]) -> Option<String> {
    Some(X509Certificate::from_der(authority).ok()?.1.subject().to_string())
}

/// Who a certificate of ours says its holder is. The chain was verified by TLS already.
#[must_use]
pub fn subject(certificate: &[u8]) -> Option<(Role, String)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let unit = parsed.subject().iter_organizational_unit().next()?.as_str().ok()?;
    let roles = [Role::Node, Role::Master, Role::Client];
    let role = roles.into_iter().find(|role| role.name() == unit)?;
    Some((role, parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned()))
}

/// Whom a certificate of ours was issued to, when, and under which number.
#[must_use]
pub fn holder(certificate: &[u8]) -> Option<Holder> {
    let (role, name) = subject(certificate)?;
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let serial = hex::encode(parsed.raw_serial());
    let issued_secs = parsed.validity().not_before.timestamp().saturating_add(SLACK_SECS);
    let title = parsed.subject().iter_by_oid(&x509_parser::oid_registry::Oid::from(TITLE).ok()?).next();
    let on_nodes = title.and_then(|title| NodeRole::from_name(title.as_str().ok()?)).filter(|_| role == Role::Client);
    Some(Holder { role, name, on_nodes, serial: serial.trim_start_matches('0').to_owned(), issued_secs })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path(), NOW).unwrap();
        let again = Ca::open(dir.path(), NOW + 5).unwrap();
        assert_eq!(ca.fingerprint(), again.fingerprint());
        assert_eq!(ca.fingerprint().len(), 64);
        let mode = std::fs::metadata(dir.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert!(matches!(Ca::open(dir.path(), NOW), Err(CaError::Half { .. })));
    }

    #[test]
    fn a_node_is_named_by_the_master_not_by_its_request() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path(), NOW).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["admin".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "admin");
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let pem = ca.certify(Request::parse(&csr).unwrap(), "node-1", NOW).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(subject(&der), Some((Role::Node, "node-1".to_owned())));
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert!(parsed.subject_alternative_name().unwrap().is_none() && !parsed.is_ca());
        assert_eq!(parsed.validity().not_before.timestamp(), NOW - SLACK_SECS);
        assert_eq!(parsed.validity().not_after.timestamp(), NOW + NODE_DAYS * DAY_SECS);
    }

    #[test]
    fn a_clients_certificate_names_its_principal() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path(), NOW).unwrap();
        let issued = ca.issue_client("ci", Some(NodeRole::Operator), 7, NOW).unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        let holder = holder(&der).unwrap();
        assert_eq!((holder.role, holder.name.as_str(), holder.issued_secs), (Role::Client, "ci", NOW));
        assert_eq!(holder.on_nodes, Some(NodeRole::Operator));
        let plain = ca.issue_client("ci", None, 7, NOW).unwrap();
        let der_of_plain = CertificateDer::from_pem_slice(plain.certificate_pem.as_bytes()).unwrap();
        assert_eq!(super::holder(&der_of_plain).unwrap().on_nodes, None);
        assert!(!holder.serial.is_empty() && !holder.serial.starts_with('0'));
        assert!(issued.key_pem.contains("PRIVATE KEY") && !issued.certificate_pem.contains("PRIVATE"));
    }

    #[test]
    fn a_request_with_a_broken_signature_is_refused() {
        let key = KeyPair::generate().unwrap();
        let der = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let mut broken = der.clone();
        let last = broken.len() - 3;
        broken[last] ^= 1;
        use base64::Engine;
        let pem = |der: &[u8]| {
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
        };
        assert!(Request::parse(&pem(&der)).is_ok());
        assert!(Request::parse(&pem(&broken)).is_err());
        assert!(Request::parse("hello").is_err());
    }
}
