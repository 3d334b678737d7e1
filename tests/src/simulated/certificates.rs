//! Certificates for simulated agents: by joining, as nodes do, or many at once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::link::{JoinRequest, join_client::JoinClient};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};

use super::connection;
use crate::bare_master::BareMaster;

/// Beyond so many, [`Admission::Signed`] is used: a token and a join cost the master two syncs of its disk.
pub(super) const JOIN_AT_MOST: usize = 64;
/// The master syncs its table of tokens first.
const JOIN_DEADLINE: Duration = Duration::from_secs(30);

/// How agents come by their certificates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// Each with a token of its own and the Join call.
    Join,
    /// Signed here, with the authority's key from the data directory of a master on this host. They share one key.
    Signed,
}

/// TLS settings for each name.
pub(super) async fn obtain(
    master: &BareMaster,
    names: &[&str],
    admission: Admission,
) -> Result<Vec<Arc<ClientConfig>>> {
    match admission {
        Admission::Join => {
            let mut all = Vec::with_capacity(names.len());
            for name in names {
                all.push(join(master, name).await.with_context(|| format!("agent {name} cannot join"))?);
            }
            Ok(all)
        }
        Admission::Signed => sign(&master.data(), names),
    }
}

async fn join(master: &BareMaster, name: &str) -> Result<Arc<ClientConfig>> {
    let (token, _) = tokio::task::block_in_place(|| master.token(name))?;
    redeem(master, name, token).await
}

/// A certificate for a token that was made before, by whichever master.
pub(super) async fn redeem(master: &BareMaster, name: &str, token: String) -> Result<Arc<ClientConfig>> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = JoinRequest {
        token,
        csr_pem: CertificateParams::default().serialize_request(&key)?.pem()?,
        ..JoinRequest::default()
    };
    let ca = authority(&master.data())?;
    let nobody = finish(builder(&ca)?.with_no_client_auth());
    let channel = connection::connect(&master.link.as_str().into(), &nobody).await?;
    let reply = tokio::time::timeout(JOIN_DEADLINE, JoinClient::new(channel).join(request))
        .await
        .context("the master does not answer")??
        .into_inner();
    ensure!(reply.node_name == name, "the master calls it {}", reply.node_name);
    let certificate = CertificateDer::from_pem_slice(reply.certificate_pem.as_bytes())?;
    let key = ring::sign::any_ecdsa_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
    settings(&ca, certificate, key)
}

/// With the key of the authority in a master's data directory.
pub(super) fn sign(data: &Path, names: &[&str]) -> Result<Vec<Arc<ClientConfig>>> {
    let ca = authority(data)?;
    let file = data.join("ca.key");
    let pem = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let issuer = Issuer::from_ca_cert_der(&ca, KeyPair::from_pem(&pem)?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let signer = ring::sign::any_ecdsa_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
    let one = |name: &&str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Mesolith");
        params.distinguished_name.push(DnType::OrganizationalUnitName, "node");
        params.distinguished_name.push(DnType::CommonName, *name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer)?;
        settings(&ca, certificate.der().clone(), signer.clone())
    };
    names.iter().map(one).collect()
}

fn authority(data: &Path) -> Result<CertificateDer<'static>> {
    let file = data.join("ca.pem");
    CertificateDer::from_pem_file(&file).with_context(|| format!("cannot read {}", file.display()))
}

fn builder(
    ca: &CertificateDer<'static>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots))
}

fn settings(
    ca: &CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: Arc<dyn rustls::sign::SigningKey>,
) -> Result<Arc<ClientConfig>> {
    let certified = CertifiedKey::new(vec![certificate], key);
    let resolver = rustls::sign::SingleCertAndKey::from(certified);
    Ok(finish(builder(ca)?.with_client_cert_resolver(Arc::new(resolver))))
}

/// What gRPC needs; and no memory for sessions that are never resumed.
fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
