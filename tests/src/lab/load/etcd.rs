//! Three members of etcd, to compare with.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::http;

const MEMBERS: usize = 3;
/// Until they have elected a leader.
const START: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);

/// A key and its value.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Put {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Done {}

/// The cluster. Dropping it kills its members.
pub(super) struct Etcd {
    members: Vec<(Child, String)>,
}

impl Etcd {
    pub(super) fn start(dir: &Path) -> Result<Self> {
        let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
        let mut ports = Vec::new();
        for _ in 0..MEMBERS {
            ports.push((free()?, free()?));
        }
        let all: Vec<String> =
            ports.iter().enumerate().map(|(number, (_, peer))| format!("e{number}=http://127.0.0.1:{peer}")).collect();
        let mut etcd = Self { members: Vec::new() };
        for (number, (client, peer)) in ports.iter().enumerate() {
            let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
            let child = Command::new("etcd")
                .args(["--name", &format!("e{number}"), "--initial-cluster", &all.join(",")])
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--logger", "zap", "--log-level", "error", "--data-dir"])
                .arg(dir.join(format!("e{number}")))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("cannot start etcd: is the package etcd-server installed?")?;
            etcd.members.push((child, client));
        }
        let deadline = Instant::now() + START;
        while etcd.leader().is_err() {
            ensure!(Instant::now() < deadline, "etcd has no leader after {} s", START.as_secs());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(etcd)
    }

    /// Where the leader is.
    pub(super) fn leader(&self) -> Result<String> {
        let leads = |url: &&String| metric(url, "etcd_server_is_leader").is_ok_and(|value| value == 1.0);
        self.members.iter().map(|(_, url)| url).find(leads).cloned().context("no member of etcd leads")
    }

    /// How often the leader has synced its log.
    pub(super) fn syncs(&self) -> Result<f64> {
        metric(&self.leader()?, "etcd_disk_wal_fsync_duration_seconds_count")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for (member, _) in &mut self.members {
            drop(member.kill());
            drop(member.wait());
        }
    }
}

fn metric(url: &str, name: &str) -> Result<f64> {
    let text = http::get(&format!("{url}/metrics"), ANSWER)?.success()?.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.with_context(|| format!("etcd shows no {name}"))?.trim().parse().context("etcd shows no number")
}

/// A connection of its own.
pub(super) async fn connect(url: &str) -> Result<Grpc<Channel>> {
    Ok(Grpc::new(Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?))
}

/// Returns when it is committed.
pub(super) async fn put(connection: &mut Grpc<Channel>, put: Put) -> Result<()> {
    connection.ready().await?;
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let codec: ProstCodec<Put, Done> = ProstCodec::default();
    connection.unary(tonic::Request::new(put), path, codec).await?;
    Ok(())
}
