//! From a token to a certificate.

use std::time::Duration;

use api::link::{JoinRequest, Machine, join_client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tonic::Code;

use super::authorities::Digests;
use super::events::JoinFailure;
use super::identity::{Identity, Key};
use super::settings::Settings;
use super::{clock, private_file, supervision, tls};
use crate::logging::chain;

/// The master commits the join to its log before it answers.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A clock further off than this is set to the master's.
const CLOCK_SLACK_MS: u64 = 5_000;

/// Joins once.
pub(crate) async fn join(
    settings: Settings,
    trusted: Digests,
    master: String,
    machine: Machine,
) -> Result<Box<Identity>, JoinFailure> {
    let token = read_token(&settings)?;
    let key = Key::load_or_make(&settings.state).map_err(|error| later(chain(&error)))?;
    let identity = ask(&settings, &trusted, &master, Asker { token, machine, key, holds: None }).await?;
    identity.store(&settings.state).map_err(|error| later(chain(&error)))?;
    Key::forget(&settings.state);
    if let Some(token) = settings.token.as_ref().filter(|_| settings.owns_token)
        && let Err(error) = private_file::remove(token)
    {
        tracing::warn!(%error, "the used token could not be removed");
    }
    Ok(Box::new(identity))
}

/// Trades a certificate that still holds for a new one with a new key.
pub(crate) async fn renew(
    settings: Settings,
    trusted: Digests,
    master: String,
    old: Identity,
) -> Result<Box<Identity>, JoinFailure> {
    let key = Key::make().map_err(|error| later(chain(&error)))?;
    // The certificate says who we are; there is no token any more.
    let asker = Asker { token: String::new(), machine: Machine::default(), key, holds: Some(&old) };
    let identity = ask(&settings, &trusted, &master, asker).await?;
    identity.store(&settings.state).map_err(|error| later(chain(&error)))?;
    Ok(Box::new(identity))
}

/// Who asks for a certificate, and what it has to show.
struct Asker<'a> {
    token: String,
    machine: Machine,
    key: Key,
    holds: Option<&'a Identity>,
}

async fn ask(
    settings: &Settings,
    trusted: &[[u8; 32]],
    master: &str,
    asker: Asker<'_>,
) -> Result<Identity, JoinFailure> {
    let Asker { token, machine, key, holds } = asker;
    let ca_sha256 = settings.config.ca_sha256.expect("the settings are refused without a CA");
    let csr_pem = key.request().map_err(|error| later(chain(&error)))?;
    let channel = tls::connect(master, trusted, holds).await.map_err(|error| not_connected(&error))?;
    let mut request = tonic::Request::new(JoinRequest {
        token,
        csr_pem,
        machine: Some(machine),
        unix_ms: supervision::now().unix_ms,
    });
    request.set_timeout(TIMEOUT);
    let reply = tokio::time::timeout(TIMEOUT, join_client::JoinClient::new(channel).join(request))
        .await
        .map_err(|_| later(format!("the master at {master} does not answer")))?
        .map_err(|status| refused(&status))?
        .into_inner();
    let ca = CertificateDer::from_pem_slice(reply.ca_pem.as_bytes())
        .map_err(|error| later(format!("the master's answer holds no CA certificate: {error}")))?;
    if !trusted.contains(&tls::fingerprint(&ca)) {
        return Err(JoinFailure {
            reason: "the master answered with another CA than it was reached by".to_owned(),
            retry: false,
        });
    }
    let now_ms = supervision::now().unix_ms;
    if !settings.hosted && reply.unix_ms.abs_diff(now_ms) > CLOCK_SLACK_MS {
        clock::set(reply.unix_ms, "the master");
    }
    Ok(Identity::new(reply.node_name, reply.certificate_pem, &key, ca_sha256))
}

fn read_token(settings: &Settings) -> Result<String, JoinFailure> {
    let none = |reason: String| JoinFailure { reason, retry: false };
    let Some(path) = &settings.token else {
        return Err(none("this node has no certificate yet and needs --token-file".to_owned()));
    };
    match private_file::read(path) {
        Ok(Some(token)) => Ok(String::from_utf8_lossy(&token).trim().to_owned()),
        Ok(None) if settings.hosted => Err(none(format!("there is no token in {}", path.display()))),
        Ok(None) => Err(none("no join token was delivered: boot this machine over the network again".to_owned())),
        Err(error) => Err(later(format!("cannot read the join token: {error}"))),
    }
}

fn later(reason: String) -> JoinFailure {
    JoinFailure { reason, retry: true }
}

/// Words for an error of the connection. Another CA does not become the right one by waiting.
pub(crate) fn not_connected(error: &tls::TlsError) -> JoinFailure {
    let reason = chain(error);
    if let Some(reason) = tls::other_ca(&reason) {
        return JoinFailure { reason: reason.to_owned(), retry: false };
    }
    if tls::blames_clock(&reason) {
        return later(format!("this node's clock is wrong ({}): {reason}", clock::now_text()));
    }
    later(reason)
}

fn refused(status: &tonic::Status) -> JoinFailure {
    let retry = !matches!(
        status.code(),
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument | Code::FailedPrecondition
    );
    let reason = if status.message().is_empty() { status.to_string() } else { status.message().to_owned() };
    JoinFailure { reason, retry }
}
