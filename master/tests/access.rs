//! Who gets in and what they may do, asked of the real binary: the API, the boot endpoints, the link.
// Whatever is not expected fails the test.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

// The other suite uses all of it.
#[allow(dead_code)]
#[path = "serving/world.rs"]
mod world;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use api::link;
use api::link::from_agent::Message as FromAgent;
use api::link::from_master::Message as FromMaster;
use api::link::join_client::JoinClient;
use api::link::link_client::LinkClient;
use base64::Engine;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tonic::Code;
use world::{Agent, MAC, Master, PATIENCE, UUID, channel, join, join_request, request, wait_until};

const ASKING: &[&str] = &[
    "--insecure-api",
    "--authenticate-http-readonly",
    "--authenticate-http-readwrite",
    "--authenticate-http-frameworks",
];

fn basic(user: &str) -> String {
    format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(user))
}

fn operator(master: &Master) -> String {
    let bytes = std::fs::read(master.data.join("api-credentials.json")).unwrap();
    let credentials: Value = serde_json::from_slice(&bytes).unwrap();
    basic(&format!("{}:{}", credentials["principal"].as_str().unwrap(), credentials["secret"].as_str().unwrap()))
}

/// Status and body, or the whole answer.
fn get(master: &Master, headers: &str, path: &str) -> (u16, String) {
    request(&master.ready.http, &format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n{headers}\r\n"))
}

fn head_of(master: &Master, path: &str) -> String {
    let mut stream = TcpStream::connect(&master.ready.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn command(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_mesolith-master")).args(args).output().unwrap()
}

fn succeeds(args: &[&str]) -> String {
    let output = command(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// SUBSCRIBEs and returns the open stream with the first events read until `until` is seen.
fn subscribe(master: &Master, user: &str, info: &Value, until: &str) -> (TcpStream, String) {
    let body = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}).to_string();
    let mut stream = TcpStream::connect(&master.ready.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n{body}",
        basic(user),
        body.len()
    )
    .unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, until);
    (stream, seen)
}

fn read_until(stream: &mut TcpStream, seen: &mut String, until: &str) {
    let mut buffer = [0; 65536];
    while !seen.contains(until) {
        let count = stream.read(&mut buffer).expect("more within the test's patience");
        assert!(count > 0, "the stream ended without {until}: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let from = text.find(before).unwrap_or_else(|| panic!("{before} in {text}")) + before.len();
    &text[from..from + text[from..].find(after).unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn principals_are_asked_for_and_held_to_the_lists() {
    let dir = tempfile::tempdir().unwrap();
    let credentials = dir.path().join("credentials");
    std::fs::write(&credentials, "alice alicepw\nbob bobpw\n").unwrap();
    let acls = r#"{"register_frameworks":[{"principals":{"values":["alice","operator"]},"roles":{"type":"ANY"}},
                                           {"principals":{"type":"NONE"},"roles":{"type":"ANY"}}],
                   "run_tasks":[{"principals":{"values":["alice"]},"users":{"values":["web"]}},
                                {"principals":{"values":["alice"]},"users":{"type":"NONE"}}],
                   "view_flags":[{"principals":{"values":["bob"]},"flags":{"type":"NONE"}}]}"#;
    let flags = [ASKING, &["--credentials", credentials.to_str().unwrap(), "--acls", acls]].concat();
    let master = Master::start(dir.path(), &flags, 1);

    for (path, realm) in [("/state", "readonly"), ("/teardown", "readwrite"), ("/master/api/v1/scheduler", "scheduler")]
    {
        let answer = head_of(&master, path);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.contains(&format!("Basic realm=\"mesos-master-{realm}\"")), "{answer}");
        assert!(answer.ends_with("401 Unauthorized."), "{answer}");
    }
    assert_eq!(get(&master, &operator(&master), "/state").0, 200);
    assert_eq!(get(&master, &basic("alice:bobpw"), "/state").0, 401);
    assert_eq!(get(&master, &basic("alice:alicepw"), "/flags").0, 200);
    assert_eq!(get(&master, &basic("bob:bobpw"), "/flags"), (403, "403 Forbidden.".to_owned()));

    let info = |principal: &str| json!({"user": "root", "name": "t", "failover_timeout": 100, "principal": principal});
    let (_, seen) = subscribe(&master, "bob:bobpw", &info("alice"), "FrameworkInfo`");
    assert!(seen.starts_with("HTTP/1.1 400 "), "{seen}");
    assert!(seen.contains("Authenticated principal 'bob' does not match principal 'alice' set in"), "{seen}");
    let (_, seen) = subscribe(&master, "bob:bobpw", &info("bob"), "ERROR");
    assert!(seen.contains("Not authorized to register framework  with roles { * }"), "{seen}");

    // A framework that names nobody is of whom authenticated, and only they may speak for it.
    let plain = json!({"user": "root", "name": "t", "failover_timeout": 100});
    let (mut stream, mut seen) = subscribe(&master, "alice:alicepw", &plain, "HEARTBEAT");
    let framework = between(&seen, "\"framework_id\":{\"value\":\"", "\"").to_owned();
    let stream_id = between(&seen, "Mesos-Stream-Id: ", "\r").to_owned();
    let call = |user: &str, body: Value| {
        let mut body = body;
        body["framework_id"] = json!({"value": framework});
        let headers = format!("{}Content-Type: application/json\r\nMesos-Stream-Id: {stream_id}\r\n", basic(user));
        master.post("/api/v1/scheduler", &headers, &body.to_string())
    };
    let (status, text) = call("bob:bobpw", json!({"type": "REVIVE"}));
    assert_eq!(status, 400);
    assert_eq!(text, "Authenticated principal 'bob' does not match principal 'alice' set in `FrameworkInfo`");
    let mut taken = json!({"user": "root", "name": "t", "id": {"value": framework}});
    let body =
        json!({"type": "SUBSCRIBE", "framework_id": {"value": framework}, "subscribe": {"framework_info": taken}});
    let headers = format!("{}Content-Type: application/json\r\n", operator(&master));
    let (_, text) = master.post("/api/v1/scheduler", &headers, &body.to_string());
    assert!(text.contains("Changing framework's principal is not allowed."), "{text}");
    taken["principal"] = json!("alice");

    let key = KeyPair::generate().unwrap();
    let joined = join(&master, join_request(&master.boot_token(), &key, MAC)).await.unwrap();
    let mut agent = Agent::register(&master, (&joined.certificate_pem, &key), "", vec![]).await;
    read_until(&mut stream, &mut seen, "\"OFFERS\"");
    read_until(&mut stream, &mut seen, "\"attributes\"");
    let offers = &seen[seen.find("\"OFFERS\"").unwrap()..];
    let offer =
        format!("{framework}-O").split_once('-').map(|_| between(offers, "\"id\":{\"value\":\"", "\"").to_owned());
    let task = |id: &str, user: &str| {
        json!({"name": id, "task_id": {"value": id}, "agent_id": {"value": agent.id},
               "command": {"value": "true", "user": user},
               "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}]})
    };
    let accept = json!({"type": "ACCEPT", "accept": {"offer_ids": [{"value": offer.unwrap()}], "operations": [
        {"type": "LAUNCH", "launch": {"task_infos": [task("t1", "root"), task("t2", "web")]}}]}});
    assert_eq!(call("alice:alicepw", accept).0, 202);
    read_until(&mut stream, &mut seen, "REASON_TASK_UNAUTHORIZED");
    let text = format!("Principal 'alice' no authorized to launch task t1 of framework {framework} under user 'root'");
    assert!(seen.contains(&text) && seen.contains("TASK_ERROR"), "{seen}");
    match agent.next().await {
        FromMaster::RunTask(run) => assert_eq!(run.task.unwrap().task_id.as_str(), "t2"),
        other => panic!("expected RunTask, got {other:?}"),
    }
    let log = std::fs::read_to_string(dir.path().join("log-1")).unwrap();
    assert!(!log.contains("alicepw") && !log.contains("bobpw"), "the log shows a secret");
}

#[test]
fn tokens_for_programs_are_issued_used_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let (key, credentials) = (dir.path().join("jwt.key"), dir.path().join("credentials"));
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::write(&credentials, "alice alicepw\n").unwrap();
    let files = ["--jwt-secret-key", key.to_str().unwrap(), "--credentials", credentials.to_str().unwrap()];
    let master = Master::start(dir.path(), &[ASKING, &files].concat(), 1);
    let data = master.data.to_str().unwrap();
    let token =
        succeeds(&["api-token", "create", "--data", data, "--principal", "ci", "--days", "1", "--note", "build"]);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(get(&master, &bearer, "/state").0, 200);
    assert_eq!(get(&master, &bearer.replace(&token[20..24], "0000"), "/state").0, 401);
    let listed = succeeds(&["api-token", "list", "--data", data]);
    assert!(listed.contains("  ci  ") && listed.ends_with("build") && !listed.contains(&token[30..]), "{listed}");

    // Nobody but an administrator issues for others or lets nodes in.
    let json = "Content-Type: application/json\r\n";
    let post = |who: &str, path: &str, body: &str| master.post(path, &format!("{who}{json}"), body);
    let alice = basic("alice:alicepw");
    assert_eq!(post(&alice, "/mesolith/v1/tokens", r#"{"name":"n"}"#).0, 403);
    assert_eq!(post(&alice, "/mesolith/v1/api-tokens", r#"{"principal":"operator"}"#).0, 403);
    assert_eq!(post(&alice, "/mesolith/v1/revocations/nodes/n", "{}").0, 403);
    assert_eq!(post(&alice, "/mesolith/v1/api-tokens", "{}").0, 200);
    assert_eq!(post(&operator(&master), "/mesolith/v1/tokens", r#"{"name":"n"}"#).0, 200);

    let id = listed.split_whitespace().next().unwrap();
    succeeds(&["api-token", "revoke", "--data", data, id]);
    assert_eq!(get(&master, &bearer, "/state").0, 401);
    assert!(!command(&["api-token", "revoke", "--data", data, id]).status.success());

    // A page of another site makes a browser send what it has.
    let form = |more: &str| {
        let headers = format!("{}Content-Type: application/x-www-form-urlencoded\r\n{more}", operator(&master));
        master.post("/teardown", &headers, "frameworkId=nobody").0
    };
    assert_eq!(form(""), 400);
    assert_eq!(form("Origin: http://m\r\nSec-Fetch-Site: same-origin\r\n"), 400);
    assert_eq!((form("Origin: https://evil.example\r\n"), form("Sec-Fetch-Site: cross-site\r\n")), (403, 403));

    // Guessing ends, for whoever does not know the answer.
    let good = operator(&master);
    let mut refused = 0;
    for _ in 0..30 {
        match get(&master, &basic("operator:guess"), "/state").0 {
            401 => {}
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(refused >= 5, "{refused}");
    assert_eq!(get(&master, &good, "/state").0, 200);
    let log = std::fs::read_to_string(dir.path().join("log-1")).unwrap();
    assert!(log.contains("too many wrong credentials") && !log.contains("guess") && !log.contains(&token));

    // What was issued and what was revoked is so after a restart.
    let kept = succeeds(&["api-token", "create", "--data", data, "--principal", "ci"]);
    master.kill_9();
    let master = Master::start(dir.path(), &[ASKING, &files].concat(), 2);
    assert_eq!(get(&master, &format!("Authorization: Bearer {kept}\r\n"), "/state").0, 200);
    assert_eq!(get(&master, &bearer, "/state").0, 401);
}

#[test]
fn calls_beyond_a_principals_rate_wait_or_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let limits = r#"{"limits":[{"principal":"operator","qps":2,"capacity":1}]}"#;
    let master = Master::start(dir.path(), &[ASKING, &["--rate-limits", limits]].concat(), 1);
    let call = || {
        let headers = format!("{}Content-Type: application/json\r\n", operator(&master));
        master.post("/api/v1/scheduler", &headers, r#"{"type":"REVIVE","framework_id":{"value":"f"}}"#)
    };
    let began = Instant::now();
    assert_eq!((call().0, call().0, call().0), (400, 400, 400));
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(call)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let dropped = (429, "Message dropped: capacity(1) exceeded".to_owned());
    assert!(answers.contains(&dropped) && answers.iter().any(|(status, _)| *status == 400), "{answers:?}");
    // Readers are no frameworks.
    for _ in 0..5 {
        assert_eq!(get(&master, &operator(&master), "/state").0, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_boot_token_is_for_a_listed_machine_that_is_not_up() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("machines.json");
    std::fs::write(&list, format!(r#"[{{"mac":"{MAC}","name":"node-1"}}]"#)).unwrap();
    let master = Master::start(dir.path(), &["--insecure-api", "--machines", list.to_str().unwrap()], 1);
    let stranger = "/boot/ipxe?mac=52:54:00:99:00:01&uuid=";
    let (status, text) = master.boot(stranger);
    assert!(status == 403 && text.contains("not in the master's --machines file"), "{status} {text}");
    let script = format!("/boot/ipxe?mac={MAC}&uuid={UUID}");
    let fetch = format!("/boot/token?mac={MAC}&uuid={UUID}");
    let first = master.boot_token();
    let second = master.boot_token();
    let key = KeyPair::generate().unwrap();
    let refused = join(&master, join_request(&first, &key, MAC)).await.unwrap_err();
    assert!(refused.message().contains("token is wrong"), "the older token is gone: {refused}");

    // Somebody else on the network, in the machine's name.
    let elsewhere = |path: &str| {
        let address: SocketAddr = master.ready.boot.as_ref().unwrap().parse().unwrap();
        let socket = socket_from("127.0.0.2", address);
        exchange(socket, path)
    };
    assert!(elsewhere(&script).starts_with("HTTP/1.1 200 "));
    let refused = elsewhere(&fetch);
    assert!(refused.starts_with("HTTP/1.1 409 ") && refused.contains("was given to 127.0.0.1"), "{refused}");
    // Nor with the script of another address.
    assert_eq!(master.boot(&script).0, 200);
    assert!(elsewhere(&fetch).starts_with("HTTP/1.1 403 "));

    let joined = join(&master, join_request(&second, &key, MAC)).await.unwrap();
    let mut agent = Agent::register(&master, (&joined.certificate_pem, &key), "", vec![]).await;
    let asking = tokio::task::spawn_blocking({
        let address = master.ready.boot.clone().unwrap();
        let (script, fetch) = (script.clone(), fetch.clone());
        move || {
            let get =
                |path: &str| request(&address, &format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"));
            assert_eq!(get(&script).0, 200);
            get(&fetch)
        }
    });
    let FromMaster::ReadFile(read) = agent.next().await else { panic!("expected ReadFile") };
    let chunk = link::FileChunk {
        request: read.request,
        data: b"log".to_vec(),
        end: false,
        error: String::new(),
        offset: None,
    };
    agent.say(FromAgent::FileChunk(chunk)).await;
    let (status, text) = asking.await.unwrap();
    assert!(status == 409 && text.contains("node-1 is up and connected"), "{status} {text}");
    // One that does not answer was reset: it gets its token.
    assert_eq!(master.boot(&script).0, 200);
    let began = Instant::now();
    assert_eq!(master.boot(&fetch).0, 200);
    assert!(began.elapsed() < Duration::from_secs(5));
    let log = std::fs::read_to_string(dir.path().join("log-1")).unwrap();
    for line in ["a machine is refused to boot", "in the name of a node that is up", "a boot token is refused"] {
        assert!(log.contains(line), "{line}");
    }
}

fn socket_from(source: &str, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Handle::try_current();
    let connect = async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    };
    let stream = match runtime {
        Ok(runtime) => tokio::task::block_in_place(|| runtime.block_on(connect)),
        Err(_) => tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(connect),
    };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn exchange(mut stream: TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_revoked_node_is_thrown_out_and_kept_out_until_it_is_readmitted() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), &["--insecure-api"], 1);
    let data = master.data.clone();
    let data = data.to_str().unwrap();
    let key = KeyPair::generate().unwrap();
    let joined = join(&master, join_request(&master.boot_token(), &key, MAC)).await.unwrap();
    let (node, certificate) = (joined.node_name.as_str(), joined.certificate_pem.as_str());
    let mut agent = Agent::register(&master, (certificate, &key), "", vec![]).await;
    let connection = channel(&master, Some((certificate, &key))).await.unwrap();
    succeeds(&["revoke-node", "--data", data, node, "--reason", "stolen"]);
    // Its session ends, and neither an open connection nor a new one gets it another.
    let ended = async { while let Ok(Some(_)) = agent.inbound.message().await {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the session ends");
    let old = [connection, channel(&master, Some((certificate, &key))).await.unwrap()];
    for connection in old {
        let (_outbound, queue) = tokio::sync::mpsc::channel(1);
        let stream = tokio_stream::wrappers::ReceiverStream::new(queue);
        let refused = LinkClient::new(connection.clone()).session(stream).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(refused.message(), format!("the node '{node}' was revoked by an operator: stolen"));
        let renewal = JoinClient::new(connection).join(join_request("", &key, MAC)).await.unwrap_err();
        assert_eq!(renewal.code(), Code::PermissionDenied);
    }
    assert_eq!(master.boot(&format!("/boot/ipxe?mac={MAC}&uuid={UUID}")).0, 403);
    let token = succeeds(&["token", "--data", data, "--name", node]);
    assert!(join(&master, join_request(&token, &key, MAC)).await.unwrap_err().message().contains("stolen"));
    // It outlives a restart.
    master.kill_9();
    let master = Master::start(dir.path(), &["--insecure-api"], 2);
    assert_eq!(master.json("/mesolith/v1/revocations")["nodes"][node]["reason"], "stolen");

    succeeds(&["readmit-node", "--data", data, node]);
    let again = join(&master, join_request(&master.boot_token(), &key, MAC)).await.unwrap();
    let agent = Agent::register(&master, (&again.certificate_pem, &key), "", vec![]).await;
    assert!(!agent.id.is_empty());
    let (_outbound, queue) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(queue);
    let old = channel(&master, Some((certificate, &key))).await.unwrap();
    assert!(LinkClient::new(old).session(stream).await.is_err(), "the certificate of before stays revoked");
}

fn curl(args: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10"]).args(args);
    String::from_utf8(command.output().expect("curl is installed").stdout).unwrap()
}

fn write_pair(certificate: &Path, key: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(certificate, made.cert.pem()).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn the_api_serves_the_certificate_it_is_given_and_knows_clients_by_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("tls.pem"), dir.path().join("tls.key"));
    write_pair(&certificate, &key);
    let first = dir.path().join("first.pem");
    std::fs::copy(&certificate, &first).unwrap();
    let (given, secret) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let master = Master::start(dir.path(), &["--tls-cert", given, "--tls-key", secret], 1);
    let port = master.ready.http.rsplit_once(':').unwrap().1;
    let url = format!("https://localhost:{port}/state");
    let first = first.to_str().unwrap();
    assert_eq!(curl(&["--cacert", first, &url]), "401");

    let data = master.data.to_str().unwrap();
    let out = dir.path().join("ci");
    succeeds(&["client-certificate", "--data", data, "--principal", "ci", "--out", out.to_str().unwrap()]);
    let (pem, own_key) = (format!("{}.pem", out.display()), format!("{}.key", out.display()));
    let as_ci = |ca: &str| curl(&["--cacert", ca, "--cert", &pem, "--key", &own_key, &url]);
    assert_eq!(as_ci(first), "200");

    // Half replaced it stays the old one; whole, it is the new one.
    write_pair(&certificate, &key);
    wait_until("the new certificate", || (curl(&["--cacert", given, &url]) == "401").then_some(()));
    assert_eq!(curl(&["--cacert", first, &url]), "000");
    // The commands on this host follow.
    assert!(succeeds(&["token", "--data", data, "--name", "n"]).len() == 64);

    let serial = Command::new("openssl").args(["x509", "-noout", "-serial", "-in", &pem]).output().unwrap();
    let serial = String::from_utf8(serial.stdout).unwrap().trim().replace("serial=", "");
    assert_eq!(as_ci(given), "200");
    succeeds(&["revoke-certificate", "--data", data, &serial]);
    assert_eq!(as_ci(given), "401");
}

/// VmRSS.
fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn thousands_of_silent_connections_keep_nobody_out() {
    // Both ends of all of them are in this test's and the master's descriptors.
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    const MANY: usize = 5000;
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--insecure-api", "--http-connections", "10000", "--http-connections-per-address", "2500"];
    let master = Master::start(dir.path(), &flags, 1);
    let before = memory_kib(master.ready.pid);
    let to: SocketAddr = master.ready.http.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let began = Instant::now();
    let held: Vec<tokio::net::TcpStream> = runtime.block_on(async {
        let mut held = Vec::new();
        for number in 0..MANY {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(format!("127.0.1.{}:0", 1 + number / 2500).parse().unwrap()).unwrap();
            let mut stream = socket.connect(to).await.unwrap();
            // Half of a head, as a slow loris sends it.
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /state HTTP/1.1\r\nHost: ").await.unwrap();
            held.push(stream);
        }
        held
    });
    let opened = began.elapsed();
    // The addresses have their share; one more of theirs is refused, another's is served.
    let more = wait_until("refusal", || {
        let answer = exchange(socket_from("127.0.1.1", to), "/version");
        answer.starts_with("HTTP/1.1 503 ").then_some(answer)
    });
    assert!(more.contains("too many connections"), "{more}");
    let asked = Instant::now();
    assert_eq!(master.get("/version").0, 200);
    let answered = asked.elapsed();
    let each = (memory_kib(master.ready.pid) - before) / MANY as u64;
    println!("{MANY} connections in {opened:?}, {each} KiB each; /version beside them in {answered:?}");
    assert!(answered < Duration::from_secs(2) && each < 40, "{answered:?} {each}");
    // They are cut when their heads take too long.
    let mut first = held.into_iter().next().unwrap();
    let cut = runtime.block_on(async {
        let mut byte = [0; 1];
        tokio::time::timeout(Duration::from_secs(60), tokio::io::AsyncReadExt::read(&mut first, &mut byte)).await
    });
    assert!(matches!(cut.expect("the slow connection is cut"), Ok(0) | Err(_)));
    wait_until("room", || exchange(socket_from("127.0.1.2", to), "/version").starts_with("HTTP/1.1 200").then_some(()));
}
