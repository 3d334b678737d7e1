//! TLS 1.3 to the master, and a gRPC channel on it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

/// Thousands connect at once to one master.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn connect(master: &Arc<str>, tls: &Arc<ClientConfig>) -> Result<Channel> {
    let connector = Connector { master: master.clone(), tls: tls.clone() };
    Endpoint::from_static("http://master")
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(128 * 1024)
        .connect_with_connector(connector)
        .await
        .with_context(|| format!("cannot connect to the master at {master}"))
}

/// TCP and TLS, as tonic wants it.
#[derive(Clone)]
struct Connector {
    master: Arc<str>,
    tls: Arc<ClientConfig>,
}

impl tonic::codegen::Service<tonic::codegen::http::Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::codegen::http::Uri) -> Self::Future {
        let Self { master, tls } = self.clone();
        Box::pin(async move {
            let host = master.rsplit_once(':').map_or(&*master, |(host, _)| host).trim_matches(['[', ']']).to_owned();
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let stream = TcpStream::connect(&*master).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(TlsConnector::from(tls).connect(name, stream).await?))
        })
    }
}
