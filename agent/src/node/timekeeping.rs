//! Keeps the clock right: asks all time servers at once, steps or slews by what most of them say.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use agent_core::sntp::{Exchange, exchange, request};
use agent_core::timekeeping::{Correction, Timekeeper};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::{clock, supervision};
use crate::uptime;

/// How long servers are waited for.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Servers asked. More are not.
const MOST_SERVERS: usize = 8;
/// Without servers: until there are some.
const IDLE: Duration = Duration::from_secs(3600);
const NTP: u16 = 123;

/// What the node API says of the clock.
static NOW: Mutex<Option<Value>> = Mutex::new(None);

/// What is known of the clock now.
pub(crate) fn now() -> Value {
    let known = NOW.lock().map(|now| now.clone()).unwrap_or_default();
    let kernel = agent_sys::clock::state().ok().map(|state| {
        json!({ "synchronised": state.synchronised, "frequency_ppm": state.frequency_ppm, "to_slew_us": state.offset_us })
    });
    json!({ "time": clock::now_text(), "unix_ms": supervision::now().unix_ms, "kernel": kernel, "servers": known })
}

/// Runs for ever. Each change of the servers is a reason to ask them at once.
pub(crate) async fn run(mut servers: watch::Receiver<Vec<String>>) {
    let mut keeper = Timekeeper::default();
    loop {
        let asked: Vec<String> = servers.borrow_and_update().iter().take(MOST_SERVERS).cloned().collect();
        let wait = if asked.is_empty() {
            IDLE
        } else {
            Duration::from_millis(keeper.poll_timeout().saturating_sub(uptime::millis()))
        };
        tokio::select! {
            changed = servers.changed() => {
                if changed.is_err() {
                    return;
                }
                keeper.hurry(uptime::millis());
                continue;
            }
            () = tokio::time::sleep(wait) => {}
        }
        if asked.is_empty() {
            continue;
        }
        let answers = join_all(asked.iter().map(|server| ask(server))).await;
        let good: Vec<Exchange> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
        let correction = keeper.handle(&good, uptime::millis());
        correct(correction);
        let said = asked.iter().zip(&answers).map(|(server, answer)| match answer {
            Ok(answer) => json!({ "server": server, "offset_us": answer.offset_us, "delay_us": answer.delay_us }),
            Err(reason) => json!({ "server": server, "error": reason }),
        });
        let known = json!({
            "synchronised": keeper.is_synchronised(),
            "offset_us": keeper.last().map(|(_, answer)| answer.offset_us),
            "steps": keeper.steps(),
            "interval_ms": keeper.interval_ms(),
            "answers": said.collect::<Vec<_>>(),
        });
        if let Ok(mut now) = NOW.lock() {
            *now = Some(known);
        }
    }
}

fn correct(correction: Correction) {
    match correction {
        Correction::None => {}
        Correction::Step { offset_us } => {
            let now = i128::from(supervision::now().unix_ms) + i128::from(offset_us / 1000);
            let wanted = u64::try_from(now).unwrap_or(0).max(clock::build_time_ms());
            clock::set(wanted, "time servers");
        }
        Correction::Slew { offset_us, constant } => {
            if let Err(error) = agent_sys::clock::slew(offset_us, constant) {
                tracing::warn!(%error, "the clock cannot be slewed");
            }
        }
    }
}

async fn ask(server: &str) -> Result<Exchange, String> {
    let asked = async {
        let address = resolve(server).await?;
        let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).await.map_err(|error| error.to_string())?;
        socket.connect(address).await.map_err(|error| error.to_string())?;
        let id = uuid::Uuid::new_v4();
        let cookie = id.as_u64_pair().0;
        let sent_us = unix_us();
        socket.send(&request(cookie)).await.map_err(|error| error.to_string())?;
        let mut bytes = [0; 128];
        loop {
            let length = socket.recv(&mut bytes).await.map_err(|error| error.to_string())?;
            match exchange(&bytes[..length], cookie, sent_us, unix_us()) {
                Ok(answer) => return Ok(answer),
                // A late answer to an earlier question, or somebody's guess.
                Err(agent_core::sntp::SntpError::NotOurs) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    tokio::time::timeout(TIMEOUT, asked).await.unwrap_or_else(|_| Err("no answer".to_owned()))
}

/// `HOST`, `HOST:PORT`, an address of either family, `[ADDRESS]:PORT`.
pub(crate) async fn resolve(server: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = server.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(address) = server.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        return Ok((address, NTP).into());
    }
    let named = if server.contains(':') { server.to_owned() } else { format!("{server}:{NTP}") };
    let mut found = tokio::net::lookup_host(&named).await.map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "no address".to_owned())
}

fn unix_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn servers_are_addresses_or_names_with_or_without_a_port() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:123"),
            ("10.0.0.1:1123", "10.0.0.1:1123"),
            ("fd00::1", "[fd00::1]:123"),
            ("[fd00::1]:5", "[fd00::1]:5"),
        ] {
            assert_eq!(resolve(text).await.unwrap().to_string(), expected);
        }
    }

    #[tokio::test]
    async fn a_server_is_asked_and_its_answer_compared() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let answering = tokio::spawn(async move {
            let mut bytes = [0; 48];
            let (_, from) = server.recv_from(&mut bytes).await.unwrap();
            let cookie: [u8; 8] = bytes[40..48].try_into().unwrap();
            let seconds = u32::try_from(unix_us() / 1_000_000 + 2_208_988_800 + 100).unwrap().to_be_bytes();
            let mut reply = [0; 48];
            (reply[0], reply[1]) = (0b00_100_100, 1);
            reply[24..32].copy_from_slice(&cookie);
            reply[32..36].copy_from_slice(&seconds);
            reply[40..44].copy_from_slice(&seconds);
            server.send_to(&reply, from).await.unwrap();
        });
        let said = ask(&address).await.unwrap();
        answering.await.unwrap();
        assert!((98_500_000..=100_500_000).contains(&said.offset_us), "{said:?}");
    }
}
