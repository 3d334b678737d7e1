//! A master process, a raw scheduler and a fake agent.
// What fails here fails the test that uses it.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::link::from_agent::Message as FromAgent;
use api::link::from_master::Message as FromMaster;
use api::link::join_client::JoinClient;
use api::link::link_client::LinkClient;
use api::link::{self, JoinReply, JoinRequest, Machine};
use api::recordio::Decoder;
use api::v1::{Format, Source, TaskStatus, attributes_to_wire, resources_to_wire};
use master::ready::Ready;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use tokio::sync::mpsc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};

/// Nothing here takes so long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The machine that boots.
pub(crate) const MAC: &str = "52:54:00:77:00:01";
/// Its firmware's.
pub(crate) const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// A running `mesolith-master`.
pub(crate) struct Master {
    pub(crate) data: PathBuf,
    pub(crate) ready: Ready,
    child: Child,
}

impl Master {
    /// Starts one on random ports; its log is `log-<run>`. Other ports each time: between two runs
    /// another test may take one that was freed.
    pub(crate) fn start(data: &Path, extra: &[&str], run: u32) -> Self {
        let boot_dir = data.join("boot-files");
        std::fs::create_dir_all(&boot_dir).unwrap();
        std::fs::write(boot_dir.join("vmlinuz"), vec![7; 300_000]).unwrap();
        std::fs::write(boot_dir.join("initramfs.img"), vec![8; 500_000]).unwrap();
        let log = std::fs::File::create(data.join(format!("log-{run}"))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_mesolith-master"))
            .args(["--data", data.join("data").to_str().unwrap(), "--http", "127.0.0.1:0", "--link", "127.0.0.1:0"])
            .args(["--boot", "127.0.0.1:0", "--boot-dir", boot_dir.to_str().unwrap(), "--advertise", "localhost"])
            .args(["--allocation-interval", "0.1"])
            .args(extra)
            .env("MESOLITH_LOG", "debug,openraft=warn,h2=info,hyper=info,tower=info,rustls=info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let data = data.join("data");
        let pid = child.id();
        let ready = wait_until("ready.json", || Ready::read(&data).ok().flatten().filter(|ready| ready.pid == pid));
        Self { data, ready, child }
    }

    /// As a power cut would.
    pub(crate) fn kill_9(mut self) -> Ready {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.ready.clone()
    }

    /// As an operator would; returns the exit status.
    pub(crate) fn terminate(mut self) -> i32 {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
        self.child.wait().unwrap().code().unwrap()
    }

    /// One HTTP exchange on the API: status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        request(&self.ready.http, &format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"))
    }

    /// The body as JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// On the boot port.
    pub(crate) fn boot(&self, path: &str) -> (u16, String) {
        let address = self.ready.boot.as_ref().unwrap();
        request(address, &format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"))
    }

    /// POST with JSON.
    pub(crate) fn post(&self, path: &str, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        request(
            &self.ready.http,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
            ),
        )
    }

    /// The token of a machine that boots: script first.
    pub(crate) fn boot_token(&self) -> String {
        let (status, script) = self.boot(&format!("/boot/ipxe?mac={MAC}&uuid={UUID}"));
        assert_eq!(status, 200);
        let line = script.lines().find(|line| line.contains("/boot/token")).unwrap();
        let url = line.split_whitespace().find(|word| word.starts_with("http")).unwrap();
        let path = &url[url.find("/boot/").unwrap()..];
        let (status, token) = self.boot(path);
        assert_eq!(status, 200, "{token}");
        assert!(!script.contains(&token));
        token
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Polls until there is something.
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends raw bytes, reads to the end: status and body (without chunk framing).
pub(crate) fn request(address: &str, raw: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(raw.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    let body =
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { dechunk(body) } else { body.to_owned() };
    (status, body)
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        whole.push_str(&rest[..length]);
        body = rest.get(length + 2..).unwrap_or_default();
    }
    whole
}

/// A scheduler that reads its stream by hand, as strictly as the strictest client.
pub(crate) struct Scheduler {
    stream: TcpStream,
    bytes: Vec<u8>,
    pub(crate) id: String,
    pub(crate) stream_id: String,
    http: String,
    pub(crate) seen: VecDeque<Value>,
}

impl Scheduler {
    /// Subscribes on a raw socket, as pymesos does: `Connection: close`, and a chunked answer expected.
    pub(crate) fn subscribe(master: &Master, framework_id: Option<&str>) -> Self {
        let id = framework_id.map(|id| format!(r#","id":{{"value":"{id}"}}"#)).unwrap_or_default();
        let top = framework_id.map(|id| format!(r#","framework_id":{{"value":"{id}"}}"#)).unwrap_or_default();
        let body = format!(
            r#"{{"type":"SUBSCRIBE"{top},"subscribe":{{"framework_info":{{"user":"root","name":"test","failover_timeout":100{id}}}}}}}"#
        );
        let mut stream = TcpStream::connect(&master.ready.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "POST /master/api/v1/scheduler HTTP/1.1\r\nHost: m\r\nConnection: close\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut scheduler = Self {
            stream,
            bytes: Vec::new(),
            id: String::new(),
            stream_id: String::new(),
            http: master.ready.http.clone(),
            seen: VecDeque::new(),
        };
        let head = scheduler.line_block();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.contains("Transfer-Encoding: chunked") && head.contains("Content-Type: application/json"),
            "{head}"
        );
        let line = head.lines().find(|line| line.starts_with("Mesos-Stream-Id: ")).unwrap();
        scheduler.stream_id = line["Mesos-Stream-Id: ".len()..].trim().to_owned();
        let subscribed = scheduler.next();
        assert_eq!(subscribed["type"], "SUBSCRIBED", "{subscribed}");
        scheduler.id = subscribed["subscribed"]["framework_id"]["value"].as_str().unwrap().to_owned();
        assert_eq!(scheduler.next()["type"], "HEARTBEAT");
        scheduler
    }

    fn fill(&mut self) {
        let mut buffer = [0; 65536];
        let count = self.stream.read(&mut buffer).expect("an event within the test's patience");
        assert!(count > 0, "the stream ended");
        self.bytes.extend_from_slice(&buffer[..count]);
    }

    fn line_block(&mut self) -> String {
        loop {
            if let Some(at) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.bytes.drain(..at + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            self.fill();
        }
    }

    /// The next event: one chunk must be one record.
    pub(crate) fn next(&mut self) -> Value {
        let end = loop {
            if let Some(at) = self.bytes.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            self.fill();
        };
        let length = usize::from_str_radix(std::str::from_utf8(&self.bytes[..end]).unwrap(), 16).unwrap();
        assert!(length > 0, "the stream ended");
        while self.bytes.len() < end + 2 + length + 2 {
            self.fill();
        }
        let chunk: Vec<u8> = self.bytes.drain(..end + 2 + length + 2).skip(end + 2).take(length).collect();
        let mut decoder = Decoder::new(1 << 24);
        decoder.push(&chunk);
        let record = decoder.pop().unwrap().expect("a chunk holds a whole record");
        assert_eq!(api::recordio::encode(&record), chunk, "a chunk holds one record only");
        serde_json::from_slice(&record).unwrap()
    }

    /// The next event of a kind; others are passed over, heartbeats too.
    pub(crate) fn expect(&mut self, kind: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let event = self.next();
            if event["type"] == kind {
                return event;
            }
            self.seen.push_back(event);
            assert!(Instant::now() < deadline, "no {kind}");
        }
    }

    /// Calls; the stream and framework ids are added.
    pub(crate) fn call(&self, kind: &str, member: &str, body: &Value) -> (u16, String) {
        let call = serde_json::json!({"type": kind, "framework_id": {"value": self.id}, member: body}).to_string();
        request(
            &self.http,
            &format!(
                "POST /api/v1/scheduler HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Mesos-Stream-Id: {}\r\nContent-Length: {}\r\n\r\n{call}",
                self.stream_id,
                call.len()
            ),
        )
    }
}

/// A connection to the link, with or without a certificate.
pub(crate) async fn channel(
    master: &Master,
    identity: Option<(&str, &KeyPair)>,
) -> Result<Channel, tonic::transport::Error> {
    let ca = std::fs::read_to_string(master.data.join("ca.pem")).unwrap();
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key.serialize_pem()));
    }
    let address: SocketAddr = master.ready.link.parse().unwrap();
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap().connect().await
}

/// What a node asks to join.
pub(crate) fn join_request(token: &str, key: &KeyPair, mac: &str) -> JoinRequest {
    let unix_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    JoinRequest {
        token: token.to_owned(),
        csr_pem: CertificateParams::default().serialize_request(key).unwrap().pem().unwrap(),
        machine: Some(Machine { uuid: UUID.to_owned(), macs: vec![mac.to_owned()], ..Machine::default() }),
        unix_ms: u64::try_from(unix_ms).unwrap(),
    }
}

/// Joins without a certificate.
pub(crate) async fn join(master: &Master, request: JoinRequest) -> Result<JoinReply, Status> {
    let mut client = JoinClient::new(channel(master, None).await.unwrap());
    client.join(request).await.map(tonic::Response::into_inner)
}

/// An agent's session.
pub(crate) struct Agent {
    pub(crate) outbound: mpsc::Sender<link::FromAgent>,
    pub(crate) inbound: Streaming<link::FromMaster>,
    pub(crate) id: String,
}

impl Agent {
    /// Connects, registers, and waits for its id.
    pub(crate) async fn register(
        master: &Master,
        identity: (&str, &KeyPair),
        agent_id: &str,
        tasks: Vec<link::TaskReport>,
    ) -> Self {
        let channel = channel(master, Some(identity)).await.unwrap();
        let (outbound, queue) = mpsc::channel(16);
        let register = link::Register {
            protocol: link::PROTOCOL,
            boot_id: "boot-1".to_owned(),
            agent_id: agent_id.to_owned(),
            hostname: "10.0.0.11".to_owned(),
            address: "10.0.0.11".to_owned(),
            version: "0.1.0".to_owned(),
            capacity: Some(link::Capacity {
                resources: resources_to_wire(
                    &api::Resources::parse("cpus:4;mem:1024;ports:[31000-31009]").unwrap(),
                    &Format::default(),
                ),
                attributes: attributes_to_wire(&api::Attribute::parse_list("rack:r1").unwrap()),
                ..link::Capacity::default()
            }),
            inventory_json: r#"{"cpu":{"model":"test"}}"#.to_owned(),
            tasks,
            ..link::Register::default()
        };
        outbound.send(from_agent(FromAgent::Register(register))).await.unwrap();
        let stream = tokio_stream::wrappers::ReceiverStream::new(queue);
        let inbound = LinkClient::new(channel).session(stream).await.unwrap().into_inner();
        let mut agent = Self { outbound, inbound, id: String::new() };
        match agent.next().await {
            FromMaster::Registered(registered) => agent.id = registered.agent_id,
            other => panic!("expected Registered, got {other:?}"),
        }
        agent
    }

    /// The next word that is neither a ping nor about the masters and who vouches for them; pings are answered.
    pub(crate) async fn next(&mut self) -> FromMaster {
        loop {
            let word = tokio::time::timeout(PATIENCE, self.inbound.message()).await.expect("a word in time").unwrap();
            match word.expect("the session goes on").message.unwrap() {
                FromMaster::Ping(ping) => self.say(FromAgent::Pong(link::Pong { nonce: ping.nonce })).await,
                FromMaster::Masters(_) | FromMaster::Volumes(_) | FromMaster::Authorities(_) => {}
                FromMaster::Network(_) | FromMaster::DiskRules(_) => {}
                other => return other,
            }
        }
    }

    /// Says something.
    pub(crate) async fn say(&self, message: FromAgent) {
        self.outbound.send(from_agent(message)).await.unwrap();
    }

    /// Sends a status update.
    pub(crate) async fn update(&self, framework: &str, task: &str, state: &str, uuid: [u8; 16]) {
        let latest = api::TaskState::from_name(state).unwrap();
        let status = TaskStatus {
            uuid: Some(uuid.to_vec()),
            agent_id: Some(self.id.as_str().into()),
            source: Some(Source::Executor.into()),
            timestamp: Some(1.5),
            ..TaskStatus::new(task.into(), latest)
        };
        self.say(FromAgent::Update(link::StatusUpdate {
            framework_id: framework.to_owned(),
            status: Some(status),
            latest_state: state.to_owned(),
        }))
        .await;
    }
}

fn from_agent(message: FromAgent) -> link::FromAgent {
    link::FromAgent { message: Some(message) }
}
