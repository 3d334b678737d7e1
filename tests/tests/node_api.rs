//! The node API from outside: every role and every method, over TLS with certificates, to a node that is there.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::node_api::{Method, NodeRole};
use base64::Engine;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tests::bare_master::BareMaster;
use tests::rack::Programs;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn every_role_may_ask_what_the_table_says_and_all_of_it_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let master = BareMaster::start_guarded(dir.path(), &[]).unwrap();
    let credentials: Value =
        serde_json::from_slice(&fs::read(master.data().join("api-credentials.json")).unwrap()).unwrap();
    let text = |field: &str| credentials[field].as_str().unwrap().to_owned();
    let secret = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", text("principal"), text("secret")));
    let administrator = Client::new(&master, None).with_header(format!("Authorization: Basic {secret}"));
    let _agent = Agent::start(dir.path(), &master, &administrator);

    let mut asked = 0;
    for role in [None, Some(NodeRole::Reader), Some(NodeRole::Operator), Some(NodeRole::Admin)] {
        let client = Client::new(&master, Some((dir.path(), role)));
        for method in Method::ALL {
            let verb = if method.changes() { "POST" } else { "GET" };
            let answer = client.ask(verb, &format!("/mesolith/v1/nodes/hosted-1/api/{method}"), "");
            let may = role.is_some_and(|role| role.may(method));
            // A hosted node's machine is not ours to end: that the question reached it shows in its answer.
            let expected = match (may, method.changes()) {
                (false, _) => 403,
                (true, true) => 502,
                (true, false) => 200,
            };
            let reads_nothing = method == Method::Dmesg && may && answer.0 == 502 && answer.1.contains("/dev/kmsg");
            assert!(answer.0 == expected || reads_nothing, "{role:?} {method}: {answer:?}");
            if answer.0 == 502 && method.changes() {
                assert!(answer.1.contains("hosted"), "{method}: {}", answer.1);
            }
            if answer.0 == 200 {
                assert!(serde_json::from_str::<Value>(&answer.1).unwrap().is_object(), "{method}");
            }
            asked += 1;
        }
    }
    assert_eq!(administrator.ask("GET", "/mesolith/v1/nodes/hosted-1/api/version", "").0, 200);
    assert_eq!(administrator.ask("GET", "/mesolith/v1/nodes/hosted-1/api/reboot", "").0, 405, "a page cannot reboot");
    assert_eq!(administrator.ask("GET", "/mesolith/v1/nodes/hosted-1/api/shell", "").0, 404);
    assert_eq!(administrator.ask("GET", "/mesolith/v1/nodes/hosted-9/api/version", "").0, 404);

    let log = master.log();
    let of_clients = |line: &&str| line.contains("audit: node API") && line.contains("p-");
    let audited = log.lines().filter(of_clients).count();
    assert_eq!(audited, asked, "each question is written down");
    for said in ["p-reader", "role=\"operator\"", "refused: the role does not allow it"] {
        assert!(log.contains(said), "the audit does not say {said}");
    }
    println!("{asked} questions by role and method answered as the table says, {audited} lines of audit");
}

/// A program with a certificate of the cluster, or one without.
struct Client {
    tls: Arc<ClientConfig>,
    address: String,
    header: String,
}

impl Client {
    fn new(master: &BareMaster, certificate: Option<(&Path, Option<NodeRole>)>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(master.data().join("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let tls = match certificate {
            None => builder.with_no_client_auth(),
            Some((dir, role)) => {
                let name = role.map_or("nobody", NodeRole::name);
                let prefix = dir.join(name);
                let mut command = Command::new(Programs::find().unwrap().master);
                command.args(["client-certificate", "--principal", &format!("p-{name}")]);
                command.arg("--data").arg(master.data()).arg("--out").arg(&prefix);
                if let Some(role) = role {
                    command.args(["--node-role", role.name()]);
                }
                assert!(command.stdout(Stdio::null()).status().unwrap().success());
                let chain = CertificateDer::pem_file_iter(prefix.with_extension("pem")).unwrap();
                let key = PrivateKeyDer::from_pem_file(prefix.with_extension("key")).unwrap();
                builder.with_client_auth_cert(chain.collect::<Result<_, _>>().unwrap(), key).unwrap()
            }
        };
        let address = master.url.trim_start_matches("http://").to_owned();
        Self { tls: Arc::new(tls), address, header: String::new() }
    }

    fn with_header(self, header: String) -> Self {
        Self { header: format!("{header}\r\n"), ..self }
    }

    /// Status and body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let tcp = TcpStream::connect(&self.address).unwrap();
        tcp.set_read_timeout(Some(SOON)).unwrap();
        let tls = ClientConnection::new(Arc::clone(&self.tls), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut stream = StreamOwned::new(tls, tcp);
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{body}",
            self.address,
            self.header,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // The end may come without a goodbye of TLS; what counts is that all is there.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {path}: {answer}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}

/// A hosted node, ended with the value.
struct Agent(Child);

impl Agent {
    fn start(dir: &Path, master: &BareMaster, administrator: &Client) -> Self {
        let (status, answer) =
            administrator.ask("POST", "/mesolith/v1/tokens", &json!({"name": "hosted-1"}).to_string());
        assert_eq!(status, 200, "{answer}");
        let answer: BTreeMap<String, Value> = serde_json::from_str(&answer).unwrap();
        let token_file = dir.join("token");
        fs::write(&token_file, answer["token"].as_str().unwrap()).unwrap();
        fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
        let ca = format!("sha256:{}", answer["ca_sha256"].as_str().unwrap().trim_start_matches("sha256:"));
        let log = File::create(dir.join("agent.log")).unwrap();
        let process = Command::new(Programs::find().unwrap().agent)
            .args(["--hosted", "--insecure-no-isolation", "--name", "hosted-1", "--master", &master.link, "--ca", &ca])
            .arg("--token-file")
            .arg(&token_file)
            .arg("--work-dir")
            .arg(dir.join("work"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("mesolith-agent has been built beside this test");
        let agent = Self(process);
        let began = Instant::now();
        while administrator.ask("GET", "/mesolith/v1/nodes/hosted-1/api/version", "").0 != 200 {
            let said = || fs::read_to_string(dir.join("agent.log")).unwrap_or_default();
            assert!(began.elapsed() < SOON, "it did not register:\n{}\n{}", said(), master.log());
            std::thread::sleep(Duration::from_millis(200));
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// A server that booted over the network, through the program operators use: it answers, restarts and goes off.
#[cfg(feature = "nightly")]
#[test]
fn a_booted_node_answers_restarts_and_goes_off() {
    use tests::rack::{Options, Rack};

    const BOOT: Duration = Duration::from_secs(300);
    let rack = Rack::start(Options { nodes: 1, ..Options::new().unwrap() }).unwrap();
    rack.wait_registered(1, BOOT).unwrap();
    let cli = |arguments: &[&str]| {
        let mut command = Command::new(&rack.options().programs.cli);
        command.args(["--master", rack.api_address(), "node", "node-1"]).args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    for (method, said) in [
        ("version", "\"image\": \"Mesolith"),
        ("inventory", "QEMU"),
        ("stats", "MemAvailable"),
        ("mounts", "/sys/fs/cgroup"),
        ("links", "10.77.0.11/24"),
        ("routes", "10.77.0.0/24"),
        ("processes", "mesolith-agent"),
        ("dmesg", "Linux version"),
    ] {
        let text = cli(&[method]);
        assert!(text.contains(said), "{method} does not show {said}:\n{text}");
        let lines: Vec<&str> = text.lines().take(4).collect();
        println!("{method}:\n  {}", lines.join("\n  "));
        assert!(serde_json::from_str::<Value>(&cli(&[method, "--json"])).is_ok(), "{method}");
    }
    let node = rack.node(1);
    let boot = |rack: &Rack| rack.get("/mesolith/v1/nodes").unwrap()["nodes"][0]["boot_id"].clone();
    let before = boot(&rack);
    let began = Instant::now();
    println!("{}", cli(&["reboot"]).trim());
    while boot(&rack) == before || rack.registered().is_empty() {
        assert!(began.elapsed() < BOOT, "it does not come back");
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("another boot is registered {:.1} s after the command", began.elapsed().as_secs_f32());
    let began = Instant::now();
    cli(&["power-off"]);
    while node.status().unwrap().pid.is_some() {
        assert!(began.elapsed() < SOON, "it stays on");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("it is off {:.1} s after the command", began.elapsed().as_secs_f32());
    rack.end().unwrap();
}
