//! A registry with TLS of a private authority: trusted when the operator says so, and only then.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

#[path = "fake/registry.rs"]
#[allow(dead_code)] // it can do more than is needed here
mod registry;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_core::image::{Cached, ImageRequest};
use agent_images::unpack::Limits;
use agent_images::{Patience, Registries, Settings, Store};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use registry::{Layer, Registry};
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// TLS before a registry that has none. Gives where it listens and its authority's certificate.
async fn terminate(behind: SocketAddr) -> (SocketAddr, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::from_params(&params, &authority_key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us hangs up.
                let Ok(mut front) = acceptor.accept(stream).await else { return };
                let mut back = tokio::net::TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut front, &mut back).await;
            });
        }
    });
    (address, authority.pem())
}

fn store(directory: &std::path::Path, registries: Registries) -> Store {
    Store::open(Settings {
        directory: directory.to_owned(),
        limit_bytes: 1 << 30,
        layer: Limits { bytes: 1 << 20, entries: 100 },
        registries,
        host_authorities: None,
        patience: Patience { manifest: Duration::from_secs(1), pull: Duration::from_secs(10), ..Patience::default() },
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_authority_is_trusted_when_it_is_named() {
    let registry = Registry::start();
    registry.image("lab/app", "1", &[Layer::of(&[("a", b"a")])], json!({"Cmd": ["/a"]}));
    registry.require_basic("me", "secret");
    let (address, pem) = terminate(registry.address).await;
    // A mirror, because registries on loopback are taken to have no TLS.
    let settings = |authority: &str| {
        let text = json!({"mirrors": {"registry.example": [format!("https://{address}")]}, "authorities": [authority],
            "auths": {address.to_string(): {"username": "me", "password": "secret"}}});
        Registries::parse(text.to_string().as_bytes()).unwrap()
    };
    let request = ImageRequest {
        reference: "registry.example/lab/app:1".parse().unwrap(),
        cached: Cached::Accepted,
        credentials: None,
    };
    let dir = tempfile::tempdir().unwrap();
    let trusting = store(&dir.path().join("trusting"), settings(&pem));
    assert_eq!(trusting.pull(&request, "c").await.unwrap().image.config.cmd, ["/a"]);
    let asked = registry.requests().len();
    let (_, other) = terminate(registry.address).await;
    let doubting = store(&dir.path().join("doubting"), settings(&other));
    let error = doubting.pull(&request, "c").await.unwrap_err().to_string();
    assert!(error.contains(&format!("registry {address} cannot be used")) && error.contains("certificate"), "{error}");
    assert!(error.contains("registry registry.example"), "who was asked after it is named too: {error}");
    assert_eq!(registry.requests().len(), asked, "nothing was said to a registry that is not trusted");
}
