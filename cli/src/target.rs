//! Which master, over what, as whom.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use crate::advice::{advise, advise_because};
use crate::master::{Address, Master, Scheme};
use crate::options::Options;

/// Where `./dev up` leaves the addresses of its rack.
const LAB_STATUS: &str = ".lab/status.json";

/// The part of a lab's status we need.
#[derive(Debug, Default, Deserialize)]
struct LabStatus {
    #[serde(default)]
    master: Option<LabMaster>,
}

#[derive(Debug, Default, Deserialize)]
struct LabMaster {
    /// `http://127.0.0.1:5050`.
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    ca: Option<PathBuf>,
    #[serde(default)]
    credentials: Option<PathBuf>,
}

/// `api-credentials.json`.
#[derive(Deserialize)]
struct Credentials {
    principal: String,
    secret: String,
}

/// The master the options, the environment or the lab in this directory name.
pub(crate) fn find(options: &Options) -> Result<Master> {
    let lab = if options.master.is_none() { read_lab(Path::new(LAB_STATUS))? } else { None }.unwrap_or_default();
    let text = options.master.clone().or(lab.url).unwrap_or_else(|| "127.0.0.1:5050".to_owned());
    let ca = options.ca.clone().or(lab.ca);
    let address = Address::parse(&text, if ca.is_some() { Scheme::Https } else { Scheme::Http }).map_err(|reason| {
        advise(
            format!("`{text}` is no address of a master: {reason}"),
            "write --master HOST:PORT or --master https://HOST:PORT",
        )
    })?;
    let tls = match address.scheme {
        Scheme::Https => Some(Arc::new(tls_config(ca.as_deref())?)),
        Scheme::Http => None,
    };
    let authorization = match options.credentials.clone().or(lab.credentials) {
        Some(file) => Some(basic(&file)?),
        None => None,
    };
    Ok(Master::new(address, tls, authorization))
}

fn read_lab(file: &Path) -> Result<Option<LabMaster>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let status: LabStatus = serde_json::from_str(&text).map_err(|error| {
        advise_because(
            error.into(),
            format!("cannot understand {}", file.display()),
            "say which master you mean with --master",
        )
    })?;
    Ok(status.master)
}

pub(crate) fn tls_config(ca: Option<&Path>) -> Result<ClientConfig> {
    let Some(ca) = ca else {
        return Err(advise(
            "an https master needs the cluster's CA certificate",
            "copy ca.pem from the master's data directory and give it with --ca FILE",
        ));
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca).with_context(|| format!("cannot read {}", ca.display()))?;
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("{} is not a PEM file", ca.display()))?;
        roots.add(certificate).with_context(|| format!("{} holds a certificate that cannot be used", ca.display()))?;
    }
    if roots.is_empty() {
        return Err(advise(format!("{} holds no certificate", ca.display()), "give the master's ca.pem"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The Authorization header for the principal in `file`.
fn basic(file: &Path) -> Result<String> {
    use base64::Engine;
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    // The error of the parser could quote the secret: it is left out.
    let Ok(credentials) = serde_json::from_str::<Credentials>(&text) else {
        return Err(advise(
            format!("{} does not hold a principal and a secret", file.display()),
            r#"give the master's api-credentials.json: {"principal": "…", "secret": "…"}"#,
        ));
    };
    let pair = format!("{}:{}", credentials.principal, credentials.secret);
    Ok(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_become_a_basic_header_and_never_an_error_text() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.json");
        std::fs::write(&file, r#"{"principal":"Aladdin","secret":"open sesame"}"#).unwrap();
        assert_eq!(basic(&file).unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        std::fs::write(&file, r#"{"secret":"hunter2","principal":hunter2}"#).unwrap();
        assert!(!format!("{:?}", basic(&file).unwrap_err()).contains("hunter2"));
    }

    #[test]
    fn a_lab_in_this_directory_is_read_and_a_broken_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("status.json");
        assert!(read_lab(&file).unwrap().is_none());
        std::fs::write(&file, r#"{"master":{"url":"http://127.0.0.1:7"},"nodes":[]}"#).unwrap();
        assert_eq!(read_lab(&file).unwrap().unwrap().url.as_deref(), Some("http://127.0.0.1:7"));
        std::fs::write(&file, "{").unwrap();
        assert!(read_lab(&file).is_err());
    }

    #[test]
    fn https_without_a_ca_is_refused() {
        assert!(tls_config(None).is_err());
    }
}
