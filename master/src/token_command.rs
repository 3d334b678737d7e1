//! What `mesolith-master` does on the running master's host: it asks over the API, as any operator's tool
//! would, with the credentials in the data directory.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::ca::Ca;
use crate::clock::unix_ms;
use crate::config::{
    ApiTokenCommand, ClientCertificateArgs, NodeArgs, RevokeCertificateArgs, RevokeNodeArgs, TokenArgs,
};
use crate::http::auth::Credentials;
use crate::judged::Judged;
use crate::ready::Ready;
use crate::{API_CERTIFICATE, atomic_file};

/// For the whole conversation.
const DEADLINE: Duration = Duration::from_secs(10);

/// Prints a token, or what the agent needs to join as JSON.
///
/// # Errors
/// Says what to do about it.
pub async fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let (ready, answer) =
        ask(&args.data, Method::POST, "/mesolith/v1/tokens", Some(json!({ "name": args.name }))).await?;
    let token = answer["token"].as_str().context("the master's answer has no token")?;
    if args.json {
        let link: SocketAddr = ready.link.parse().context("ready.json has no usable link address")?;
        let output = json!({
            "token": token,
            "ca_sha256": ready.ca_sha256,
            "master": format!("{}:{}", ready.advertise, link.port()),
            "name": args.name,
        });
        println!("{output}");
    } else {
        println!("{token}");
    }
    Ok(())
}

/// `mesolith-master api-token`.
///
/// # Errors
/// Says what to do about it.
pub async fn api_token(command: &ApiTokenCommand) -> anyhow::Result<()> {
    const PATH: &str = "/mesolith/v1/api-tokens";
    match command {
        ApiTokenCommand::Create { data, principal, days, note } => {
            let wanted = json!({ "principal": principal, "note": note, "expires_in_seconds": days * 86_400 });
            let (_, answer) = ask(data, Method::POST, PATH, Some(wanted)).await?;
            println!("{}", answer["token"].as_str().context("the master's answer has no token")?);
        }
        ApiTokenCommand::List { data } => {
            let (_, answer) = ask(data, Method::GET, PATH, None).await?;
            for token in answer["tokens"].as_array().into_iter().flatten() {
                let text = |field: &str| token[field].as_str().unwrap_or_default().to_owned();
                let left = token["expires_ms"].as_u64().unwrap_or_default().saturating_sub(unix_ms()) / 86_400_000;
                println!("{}  {}  expires in {left} d  {}", text("id"), text("principal"), text("note"));
            }
        }
        ApiTokenCommand::Revoke { data, id } => {
            ask(data, Method::DELETE, &format!("{PATH}/{id}"), None).await?;
        }
    }
    Ok(())
}

/// `mesolith-master revoke-node`.
///
/// # Errors
/// Says what to do about it.
pub async fn revoke_node(args: &RevokeNodeArgs) -> anyhow::Result<()> {
    let path = format!("/mesolith/v1/revocations/nodes/{}", args.of.node);
    ask(&args.of.data, Method::POST, &path, Some(json!({ "reason": args.reason }))).await.map(drop)
}

/// `mesolith-master readmit-node`.
///
/// # Errors
/// Says what to do about it.
pub async fn readmit_node(args: &NodeArgs) -> anyhow::Result<()> {
    let path = format!("/mesolith/v1/revocations/nodes/{}", args.node);
    ask(&args.data, Method::DELETE, &path, None).await.map(drop)
}

/// `mesolith-master revoke-certificate`.
///
/// # Errors
/// Says what to do about it.
pub async fn revoke_certificate(args: &RevokeCertificateArgs) -> anyhow::Result<()> {
    let path = format!("/mesolith/v1/revocations/certificates/{}", args.serial);
    ask(&args.data, Method::POST, &path, Some(json!({ "reason": args.reason }))).await.map(drop)
}

/// `mesolith-master client-certificate`: needs no running master, but the authority's key.
///
/// # Errors
/// The authority cannot be used, or the files not be written.
pub fn client_certificate(args: &ClientCertificateArgs) -> anyhow::Result<()> {
    if args.principal.is_empty() || args.principal.contains(':') || args.principal.chars().any(char::is_control) {
        bail!("'{}' is no principal: it must be text without ':'", args.principal.escape_debug());
    }
    if !args.data.join("ca.key").exists() {
        bail!("{} holds no certificate authority: start a master on it first", args.data.display());
    }
    let now_secs = i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX);
    let issued =
        Ca::open(&args.data, now_secs)?.issue_client(&args.principal, args.node_role, args.days.into(), now_secs)?;
    for (extension, text, mode) in [("key", &issued.key_pem, 0o600), ("pem", &issued.certificate_pem, 0o644)] {
        let mut path = args.out.clone().into_os_string();
        path.push(format!(".{extension}"));
        let path = Path::new(&path);
        atomic_file::write(path, text.as_bytes(), mode).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

pub(crate) async fn ask(
    data: &Path,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<(Ready, Value)> {
    let ready = Ready::read(data).with_context(|| format!("cannot read ready.json in {}", data.display()))?;
    let Some(ready) = ready else {
        bail!("no master runs on {}: start it with: mesolith-master --data {}", data.display(), data.display());
    };
    let asked = tokio::time::timeout(DEADLINE, connect_and_ask(data, &ready, method, path, body)).await;
    let answer = asked
        .with_context(|| format!("the master at {} did not answer within {} s", ready.http, DEADLINE.as_secs()))??;
    Ok((ready, answer))
}

async fn connect_and_ask(
    data: &Path,
    ready: &Ready,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let address: SocketAddr = ready.http.parse().context("ready.json has no usable API address")?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json");
    let credentials = data.join("api-credentials.json");
    if credentials.exists() {
        let credentials = Credentials::open(&credentials).context("cannot read the API's credentials")?;
        request = request.header(AUTHORIZATION, credentials.header());
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(body)))?;
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to the master at {address}: is process {} still there?", ready.pid))?;
    if ready.scheme == "http" {
        return send(stream, request).await;
    }
    // Its certificate names localhost, whatever address it listens on.
    let name = ServerName::try_from("localhost").context("localhost is a host name")?;
    let config = Arc::new(client_config(data)?);
    send(tokio_rustls::TlsConnector::from(config).connect(name, stream).await?, request).await
}

/// Trusts the cluster's CA, or exactly the certificate that was given to this master.
fn client_config(data: &Path) -> anyhow::Result<rustls::ClientConfig> {
    let builder = rustls::ClientConfig::builder();
    if let Some(pem) = atomic_file::read(&data.join(API_CERTIFICATE)).context("cannot read the API's certificate")? {
        // The master itself wrote it into its data directory: whatever names it has.
        let ours = CertificateDer::from_pem_slice(&pem)?;
        let pinned = Judged::by(move |theirs, _, _, _| {
            if *theirs == ours { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
        });
        return Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned)).with_no_client_auth());
    }
    let pem = std::fs::read(data.join("ca.pem")).context("cannot read the cluster's CA certificate")?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem)?)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<Value>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("the master refused ({status}): {}", String::from_utf8_lossy(&bytes).trim());
    }
    Ok(serde_json::from_slice(&bytes)?)
}
