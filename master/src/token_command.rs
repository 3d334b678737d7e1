//! `mesolith-master token`: asks the running master for a join token, as any operator's tool would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::TokenArgs;
use crate::http::auth::Credentials;
use crate::ready::Ready;

/// For the whole conversation.
const DEADLINE: Duration = Duration::from_secs(10);

/// Prints a token, or what the agent needs to join as JSON.
///
/// # Errors
/// Says what to do about it.
pub async fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let data = &args.data;
    let ready = Ready::read(data).with_context(|| format!("cannot read ready.json in {}", data.display()))?;
    let Some(ready) = ready else {
        bail!("no master runs on {}: start it with: mesolith-master --data {}", data.display(), data.display());
    };
    let asked = tokio::time::timeout(DEADLINE, ask(args, &ready)).await;
    let answer = asked
        .with_context(|| format!("the master at {} did not answer within {} s", ready.http, DEADLINE.as_secs()))??;
    let token = answer["token"].as_str().context("the master's answer has no token")?;
    if args.json {
        let link: SocketAddr = ready.link.parse().context("ready.json has no usable link address")?;
        let output = serde_json::json!({
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

async fn ask(args: &TokenArgs, ready: &Ready) -> anyhow::Result<serde_json::Value> {
    let address: SocketAddr = ready.http.parse().context("ready.json has no usable API address")?;
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to the master at {address}: is process {} still there?", ready.pid))?;
    if ready.scheme == "http" {
        return post(stream, address, None, &args.name).await;
    }
    let credentials =
        Credentials::open(&args.data.join("api-credentials.json")).context("cannot read the API's credentials")?;
    let pem = std::fs::read(args.data.join("ca.pem")).context("cannot read the cluster's CA certificate")?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem)?)?;
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    // Its certificate names localhost, whatever address it listens on.
    let name = ServerName::try_from("localhost").context("localhost is a host name")?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    post(stream, address, Some(credentials.header()), &args.name).await
}

async fn post<S>(stream: S, address: SocketAddr, auth: Option<String>, name: &str) -> anyhow::Result<serde_json::Value>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request =
        Request::post("/mesolith/v1/tokens").header(HOST, address.to_string()).header(CONTENT_TYPE, "application/json");
    if let Some(auth) = auth {
        request = request.header(AUTHORIZATION, auth);
    }
    let body = serde_json::json!({ "name": name }).to_string();
    let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("the master refused ({status}): {}", String::from_utf8_lossy(&bytes).trim());
    }
    Ok(serde_json::from_slice(&bytes)?)
}
