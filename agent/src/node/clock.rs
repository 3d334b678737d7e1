//! Sets the machine's clock: from a time server of the network, else from the master, never before the image was built.

use std::net::SocketAddr;
use std::time::Duration;

use agent_core::sntp::{clock_ms, reply_unix_ms, request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use tokio::net::{TcpStream, UdpSocket};

use super::{supervision, timekeeping};

/// How long one source is waited for.
const TIMEOUT: Duration = Duration::from_secs(2);
/// A smaller difference is the network's, not the clock's.
const SLACK_MS: u64 = 500;

/// When the image was made, from the release file it carries.
pub(crate) fn build_time_ms() -> u64 {
    let text = std::fs::read_to_string("/etc/mesolith/release").unwrap_or_default();
    let release: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    release.get("build_time_unix").and_then(serde_json::Value::as_u64).unwrap_or(0).saturating_mul(1000)
}

/// Asks every source until one answers; says where the time is from.
pub(crate) async fn synchronise(ntp: &[String], boot_url: Option<&str>) -> Option<String> {
    let (source, told) = ask(ntp, boot_url).await;
    let now_ms = supervision::now().unix_ms;
    let wanted_ms = clock_ms(now_ms, told, build_time_ms());
    let source = if told.is_some() { source } else { Some("the image's build time, at least".to_owned()) };
    if wanted_ms.abs_diff(now_ms) > SLACK_MS {
        set(wanted_ms, source.as_deref().unwrap_or("the image"));
    }
    source
}

async fn ask(ntp: &[String], boot_url: Option<&str>) -> (Option<String>, Option<u64>) {
    for server in ntp {
        match tokio::time::timeout(TIMEOUT, ask_ntp(server)).await {
            Ok(Ok(unix_ms)) => return (Some(format!("time server {server}")), Some(unix_ms)),
            Ok(Err(error)) => tracing::warn!(%server, %error, "a time server is of no use"),
            Err(_) => tracing::warn!(%server, "a time server does not answer"),
        }
    }
    if let Some(url) = boot_url {
        match tokio::time::timeout(TIMEOUT, ask_master(url)).await {
            Ok(Ok(unix_ms)) => return (Some("the master".to_owned()), Some(unix_ms)),
            Ok(Err(error)) => tracing::warn!(url, %error, "the master does not tell the time"),
            Err(_) => tracing::warn!(url, "the master does not tell the time in time"),
        }
    }
    (None, None)
}

async fn ask_ntp(server: &str) -> anyhow::Result<u64> {
    let server = timekeeping::resolve(server).await.map_err(|reason| anyhow::anyhow!(reason))?;
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let cookie = u64::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..8].try_into()?);
    socket.send(&request(cookie)).await?;
    let mut bytes = [0; 128];
    let length = socket.recv(&mut bytes).await?;
    Ok(reply_unix_ms(&bytes[..length], cookie)?)
}

/// `GET /boot/time`: seconds since 1970 with milliseconds.
async fn ask_master(url: &str) -> anyhow::Result<u64> {
    let authority = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get("/boot/time").header("host", authority).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status().is_success(), "it answered {}", response.status());
    let body = http_body_util::Limited::new(response.into_body(), 64)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!(error))?;
    driver.abort();
    parse_time(std::str::from_utf8(&body.to_bytes())?.trim())
}

fn parse_time(text: &str) -> anyhow::Result<u64> {
    let (seconds, part) = text.split_once('.').unwrap_or((text, ""));
    let millis: String = part.chars().chain("000".chars()).take(3).collect();
    Ok(seconds.parse::<u64>()?.saturating_mul(1000).saturating_add(millis.parse()?))
}

/// Steps the clock.
pub(crate) fn set(unix_ms: u64, source: &str) {
    let time = TimeSpec::from_duration(Duration::from_millis(unix_ms));
    match clock_settime(ClockId::CLOCK_REALTIME, time) {
        Ok(()) => tracing::info!(source, time = %now_text(), "clock set"),
        Err(error) => tracing::error!(%error, "the clock cannot be set"),
    }
}

/// The clock in words, UTC.
pub(crate) fn now_text() -> String {
    let seconds = i64::try_from(supervision::now().unix_ms / 1000).unwrap_or(0);
    x509_parser::time::ASN1Time::from_timestamp(seconds)
        .map_or_else(|_| format!("{seconds} s"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_time_has_milliseconds() {
        for (text, expected) in
            [("1700000000.250", 1_700_000_000_250), ("1700000000", 1_700_000_000_000), ("5.5", 5500)]
        {
            assert_eq!(parse_time(text).unwrap(), expected);
        }
        assert!(parse_time("soon").is_err() && parse_time("1.x").is_err() && parse_time("-1").is_err());
    }
}
