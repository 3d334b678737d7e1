//! The real binary, spoken to over real sockets: the API, the boot endpoints and the agents' link.
// Whatever is not expected fails the test.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod protobuf;
mod world;

use std::time::Duration;

use api::link::from_agent::Message as FromAgent;
use api::link::from_master::Message as FromMaster;
use api::link::link_client::LinkClient;
use api::link::{self, read_file};
use rcgen::KeyPair;
use serde_json::{Value, json};
use tonic::Code;
use world::{Agent, MAC, Master, Scheduler, UUID, channel, join, join_request, wait_until};

/// Version 4, or the master takes it for none.
const UUID_1: [u8; 16] = [1, 1, 1, 1, 1, 1, 0x41, 1, 1, 1, 1, 1, 1, 1, 1, 1];
const UUID_2: [u8; 16] = [2, 2, 2, 2, 2, 2, 0x42, 2, 2, 2, 2, 2, 2, 2, 2, 2];
const OPEN: &[&str] = &["--insecure-api"];

fn launch(agent: &str, task: &str) -> Value {
    json!([{"type": "LAUNCH", "launch": {"task_infos": [{
        "name": task, "task_id": {"value": task}, "agent_id": {"value": agent},
        "command": {"value": "true"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
                      {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}],
    }]}}])
}

/// Accepts the next offer with one task; returns what the agent is told.
async fn run_task(scheduler: &mut Scheduler, agent: &mut Agent, task: &str) -> link::RunTask {
    let offers = tokio::task::block_in_place(|| scheduler.expect("OFFERS"));
    let offer = &offers["offers"]["offers"][0];
    assert_eq!(offer["agent_id"]["value"], agent.id.as_str());
    assert_eq!(offer["hostname"], "10.0.0.11");
    assert_eq!(offer["attributes"][0]["text"]["value"], "r1");
    let accept =
        json!({"offer_ids": [offer["id"]], "operations": launch(&agent.id, task), "filters": {"refuse_seconds": 0}});
    let (status, text) = tokio::task::block_in_place(|| scheduler.call("ACCEPT", "accept", &accept));
    assert_eq!(status, 202, "{text}");
    match agent.next().await {
        FromMaster::RunTask(run) => run,
        other => panic!("expected RunTask, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kill_9_of_the_master_loses_no_framework_agent_or_task() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), OPEN, 1);
    let key = KeyPair::generate().unwrap();
    let joined = join(&master, join_request(&master.boot_token(), &key, MAC)).await.unwrap();
    assert_eq!(joined.node_name, "node-770001");
    let identity = (joined.certificate_pem.as_str(), &key);
    let mut agent = Agent::register(&master, identity, "", vec![]).await;
    let mut scheduler = Scheduler::subscribe(&master, None);
    let run = run_task(&mut scheduler, &mut agent, "t1").await;
    assert_eq!((run.framework_id.as_str(), run.container_id.is_empty()), (scheduler.id.as_str(), false));
    assert_eq!(run.task.unwrap().task_id.as_str(), "t1");

    agent.update(&scheduler.id, "t1", "TASK_RUNNING", UUID_1).await;
    let update = scheduler.expect("UPDATE");
    assert_eq!(update["update"]["status"]["state"], "TASK_RUNNING");
    let uuid = &update["update"]["status"]["uuid"];
    let acknowledge = json!({"agent_id": {"value": agent.id}, "task_id": {"value": "t1"}, "uuid": uuid});
    assert_eq!(scheduler.call("ACKNOWLEDGE", "acknowledge", &acknowledge).0, 202);
    match agent.next().await {
        FromMaster::Acknowledge(acknowledge) => assert_eq!(acknowledge.uuid, UUID_1),
        other => panic!("expected Acknowledge, got {other:?}"),
    }

    let (agent_id, framework) = (agent.id.clone(), scheduler.id.clone());
    let before = master.kill_9();
    let master = Master::start(dir.path(), OPEN, 2);
    assert_eq!(master.ready.ca_sha256, before.ca_sha256);
    let state = master.json("/master/state");
    assert_eq!(state["frameworks"][0]["id"], framework.as_str());
    assert_eq!(state["frameworks"][0]["tasks"][0]["state"], "TASK_RUNNING");
    assert_eq!(state["slaves"][0]["id"], agent_id.as_str());

    let report = link::TaskReport {
        framework_id: framework.clone(),
        task_id: "t1".to_owned(),
        container_id: run.container_id.clone(),
        state: "TASK_RUNNING".to_owned(),
    };
    let agent = Agent::register(&master, identity, &agent_id, vec![report]).await;
    assert_eq!(agent.id, agent_id);
    let mut scheduler = Scheduler::subscribe(&master, Some(&framework));
    assert_eq!(scheduler.id, framework);
    agent.update(&framework, "t1", "TASK_FINISHED", UUID_2).await;
    assert_eq!(scheduler.expect("UPDATE")["update"]["status"]["state"], "TASK_FINISHED");
    assert_eq!(master.json("/mesolith/v1/nodes")["nodes"][0]["state"], "connected");
    assert_eq!(master.json("/mesolith/v1/nodes/node-770001/inventory")["cpu"]["model"], "test");
    assert_eq!(master.terminate(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn refusals_to_join_say_why_and_nothing_without_a_certificate_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), OPEN, 1);
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let token = master.boot_token();
    let refused = async |request| join(&master, request).await.unwrap_err();

    let status = refused(join_request("0123", &key, MAC)).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("token is wrong"), "{status}");
    let status = refused(join_request(&token, &key, "52:54:00:00:00:99")).await;
    assert!(status.message().contains("another machine"), "{status}");
    let mut early = join_request(&token, &key, MAC);
    early.unix_ms = 1_000_000_000_000;
    let status = refused(early).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("s behind the master's"), "{status}");

    let first = join(&master, join_request(&token, &key, MAC)).await.unwrap();
    let again = join(&master, join_request(&token, &key, MAC)).await.unwrap();
    assert_eq!(first.certificate_pem, again.certificate_pem);
    let status = refused(join_request(&token, &other, MAC)).await;
    assert!(status.message().contains("used already"), "{status}");

    // The next process knows the token, too.
    master.kill_9();
    let master = Master::start(dir.path(), OPEN, 2);
    let again = join(&master, join_request(&token, &key, MAC)).await.unwrap();
    assert_eq!(first.certificate_pem, again.certificate_pem);
    let status = join(&master, join_request(&token, &other, MAC)).await.unwrap_err();
    assert!(status.message().contains("used already"), "{status}");

    let (_outbound, queue) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(queue);
    let status = LinkClient::new(channel(&master, None).await.unwrap()).session(stream).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("certificate"), "{status}");

    // A certificate of somebody else's authority does not pass the handshake.
    let stranger = rcgen::generate_simple_self_signed(vec!["node-770001".to_owned()]).unwrap();
    let (_outbound, queue) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(queue);
    match channel(&master, Some((&stranger.cert.pem(), &stranger.signing_key))).await {
        Err(_) => {}
        Ok(channel) => assert!(LinkClient::new(channel).session(stream).await.is_err()),
    }
    let log = || std::fs::read_to_string(dir.path().join("log-2")).unwrap();
    for reason in ["used already", "TLS handshake refused", "session refused"] {
        wait_until(reason, || log().contains(reason).then_some(()));
    }
    let log = log();
    assert!(!log.contains(&token), "the log shows the token");

    // A good certificate is renewed without a token.
    let (key, certificate) = (&key, first.certificate_pem.as_str());
    let channel = channel(&master, Some((certificate, key))).await.unwrap();
    let renewed = link::join_client::JoinClient::new(channel).join(join_request("", &other, MAC)).await.unwrap();
    assert_eq!(renewed.into_inner().node_name, "node-770001");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn files_of_a_task_are_streamed_from_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), OPEN, 1);
    let key = KeyPair::generate().unwrap();
    let joined = join(&master, join_request(&master.boot_token(), &key, MAC)).await.unwrap();
    let mut agent = Agent::register(&master, (&joined.certificate_pem, &key), "", vec![]).await;
    let mut scheduler = Scheduler::subscribe(&master, None);
    run_task(&mut scheduler, &mut agent, "t1").await;
    let path = format!("/mesolith/v1/tasks/{}/t1/files/dir/stdout?offset=3", scheduler.id);
    let http = master.ready.http.clone();
    let get = |path: String| {
        let http = http.clone();
        let raw = format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
        tokio::task::spawn_blocking(move || world::request(&http, &raw))
    };

    let reading = get(path);
    let FromMaster::ReadFile(read) = agent.next().await else { panic!("expected ReadFile") };
    assert_eq!((read.offset, read.follow), (3, false));
    let Some(read_file::Source::Sandbox(file)) = read.source else { panic!("expected a sandbox file") };
    assert_eq!((file.task_id.as_str(), file.path.as_str()), ("t1", "dir/stdout"));
    for (data, end) in [("hello ", false), ("world", true)] {
        let chunk =
            link::FileChunk { request: read.request, data: data.into(), end, error: String::new(), offset: None };
        agent.say(FromAgent::FileChunk(chunk)).await;
    }
    assert_eq!(reading.await.unwrap(), (200, "hello world".to_owned()));

    let reading = get("/mesolith/v1/nodes/node-770001/log".to_owned());
    let FromMaster::ReadFile(read) = agent.next().await else { panic!("expected ReadFile") };
    let error = "there is no such log".to_owned();
    agent
        .say(FromAgent::FileChunk(link::FileChunk {
            request: read.request,
            data: vec![],
            end: true,
            error,
            offset: None,
        }))
        .await;
    let (status, text) = reading.await.unwrap();
    assert_eq!(status, 404);
    assert!(text.contains("no such log"), "{text}");

    assert_eq!(get("/mesolith/v1/nodes/nobody/log".to_owned()).await.unwrap().0, 404);
    // A reader that goes away is cancelled at the agent.
    let mut stream = std::net::TcpStream::connect(&master.ready.http).unwrap();
    let raw = "GET /mesolith/v1/nodes/node-770001/log?follow=1 HTTP/1.1\r\nHost: m\r\n\r\n";
    std::io::Write::write_all(&mut stream, raw.as_bytes()).unwrap();
    let FromMaster::ReadFile(read) = agent.next().await else { panic!("expected ReadFile") };
    assert!(read.follow);
    // An empty piece says that the file is open: the answer begins before there is anything to read.
    agent.say(FromAgent::FileChunk(link::FileChunk { request: read.request, ..link::FileChunk::default() })).await;
    let mut head = [0; 15];
    stream.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    std::io::Read::read_exact(&mut stream, &mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    drop(stream);
    match agent.next().await {
        FromMaster::CancelRead(cancel) => assert_eq!(cancel.request, read.request),
        other => panic!("expected CancelRead, got {other:?}"),
    }
    drop(agent);
    wait_until("disconnection", || (master.get("/mesolith/v1/nodes/node-770001/log").0 == 503).then_some(()));
}

#[test]
fn malformed_calls_get_mesoss_own_answers() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), OPEN, 1);
    let json = "Content-Type: application/json\r\n";
    let post = |headers: &str, body: &str| master.post("/api/v1/scheduler", headers, body);
    let (status, text) = master.get("/api/v1/scheduler");
    assert_eq!(
        (status, text.as_str()),
        (405, "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.")
    );
    assert_eq!(post("", "{}"), (400, "Expecting 'Content-Type' to be present".to_owned()));
    let (status, text) = post("Content-Type: text/plain\r\n", "{}");
    assert_eq!(
        (status, text.as_str()),
        (415, "Expecting 'Content-Type' of application/json or application/x-protobuf")
    );
    let (status, text) = post(json, "nonsense");
    assert!(status == 400 && text.starts_with("Failed to parse body into JSON: "), "{text}");
    let (status, text) = post(json, "{}");
    assert_eq!((status, text.as_str()), (400, "Failed to validate scheduler::Call: Expecting 'type' to be present"));
    let subscribe = r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"t"}}}"#;
    let (status, _) = post(&format!("{json}Accept: text/html\r\n"), subscribe);
    assert_eq!(status, 406);
    let (status, text) = post(&format!("{json}Mesos-Stream-Id: 1\r\n"), subscribe);
    assert_eq!((status, text.as_str()), (400, "Subscribe calls should not include the 'Mesos-Stream-Id' header"));
    let (status, text) = post(json, r#"{"type":"REVIVE","framework_id":{"value":"f"}}"#);
    assert_eq!((status, text.as_str()), (400, "Framework cannot be found"));
    let mut scheduler = Scheduler::subscribe(&master, None);
    let (status, text) = post(json, &format!(r#"{{"type":"REVIVE","framework_id":{{"value":"{}"}}}}"#, scheduler.id));
    assert_eq!((status, text.as_str()), (400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"));
    let current = std::mem::replace(&mut scheduler.stream_id, "other".to_owned());
    let (status, text) = scheduler.call("REVIVE", "revive", &json!({}));
    assert_eq!(status, 400);
    assert!(text.starts_with("The stream ID 'other' included in this request didn't match"), "{text}");
    scheduler.stream_id = current;
    assert_eq!(scheduler.call("REVIVE", "revive", &json!({})), (202, String::new()));
    assert_eq!(master.post("/master/teardown", "", "frameworkId=nobody").0, 400);
    assert_eq!(master.post("/master/teardown", "", &format!("frameworkId={}", scheduler.id)).0, 200);
    let gone = || (master.json("/state")["frameworks"] == json!([])).then_some(());
    wait_until("removal", gone);
}

#[test]
fn a_closed_stream_disconnects_its_framework_promptly() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), OPEN, 1);
    let scheduler = Scheduler::subscribe(&master, None);
    let active = || master.json("/frameworks")["frameworks"][0]["active"] == json!(true);
    assert!(active());
    let closed = std::time::Instant::now();
    drop(scheduler);
    wait_until("disconnection", || (!active()).then_some(()));
    assert!(closed.elapsed() < Duration::from_secs(5));
    let metrics = master.json("/metrics/snapshot");
    assert_eq!(metrics["master/frameworks_disconnected"], json!(1.0));
    assert_eq!(metrics["master/elected"], json!(1.0));
}

#[test]
fn by_default_the_api_is_tls_and_asks_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), &[], 1);
    assert_eq!(master.ready.scheme, "https");
    let ca = master.data.join("ca.pem");
    let url = |path: &str| format!("https://{}{path}", master.ready.http);
    let curl = |user: &str, path: &str| {
        let output = std::process::Command::new("curl")
            .args([
                "-s",
                "-o",
                "/dev/null",
                "-D",
                "-",
                "--max-time",
                "10",
                "--cacert",
                ca.to_str().unwrap(),
                "-u",
                user,
                &url(path),
            ])
            .output()
            .expect("curl is installed");
        String::from_utf8(output.stdout).unwrap()
    };
    let credentials: Value =
        serde_json::from_slice(&std::fs::read(master.data.join("api-credentials.json")).unwrap()).unwrap();
    let user = format!("{}:{}", credentials["principal"].as_str().unwrap(), credentials["secret"].as_str().unwrap());
    let refused = curl("operator:wrong", "/api/v1/scheduler");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    assert!(refused.contains(r#"Basic realm="mesos-master-scheduler""#), "{refused}");
    assert!(curl("operator:wrong", "/state").starts_with("HTTP/1.1 401"));
    assert!(curl("operator:wrong", "/version").starts_with("HTTP/1.1 200"));
    assert!(curl(&user, "/state").starts_with("HTTP/1.1 200"));
    let token = std::process::Command::new(env!("CARGO_BIN_EXE_mesolith-master"))
        .args(["token", "--data", master.data.to_str().unwrap(), "--name", "hosted-1", "--json"])
        .output()
        .unwrap();
    assert!(token.status.success(), "{}", String::from_utf8_lossy(&token.stderr));
    let token: Value = serde_json::from_slice(&token.stdout).unwrap();
    assert_eq!(token["token"].as_str().unwrap().len(), 64);
    assert_eq!(token["ca_sha256"], master.ready.ca_sha256.as_str());
}

#[test]
fn a_machine_that_boots_gets_its_files_and_one_token() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), OPEN, 1);
    let (status, kernel) = master.boot(&format!("/boot/vmlinuz?mac={MAC}"));
    assert_eq!((status, kernel.len()), (200, 300_000));
    assert_eq!(master.boot("/boot/initramfs.img").1.len(), 500_000);
    assert_eq!(master.boot(&format!("/boot/token?mac={MAC}&uuid={UUID}")).0, 403);
    let token = master.boot_token();
    assert_eq!(master.boot(&format!("/boot/token?mac={MAC}&uuid={UUID}")).0, 403);
    assert_eq!(master.boot("/boot/ipxe?mac=nonsense&uuid=").0, 400);
    let seconds: f64 = master.boot("/boot/time").1.trim().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - seconds).abs() < 10.0);
    for secret in ["/boot/../data/ca.key", "/state", "/boot/boot-files"] {
        assert_eq!(master.boot(secret).0, 404, "{secret}");
    }
    let log = wait_until("boot.log", || {
        let log = std::fs::read_to_string(master.data.join("boot.log")).unwrap();
        (log.lines().count() >= 11).then_some(log)
    });
    let line = log.lines().find(|line| line.contains("/boot/vmlinuz")).unwrap();
    let fields: Vec<&str> = line.split(' ').collect();
    assert_eq!(fields[2..], ["GET", "/boot/vmlinuz", MAC, "200", "300000"]);
    assert!(!log.contains(&token));
    // A second master on the same data is told so.
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_mesolith-master"))
        .args(["--data", master.data.to_str().unwrap(), "--http", "127.0.0.1:0", "--link", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another master runs on"));
}

/// Waits for `ready.json` of a master that was given a listener, and asks it over that listener.
fn serves_on(listener: &std::net::TcpListener, data: &std::path::Path, mut child: std::process::Child) {
    let address = listener.local_addr().unwrap().to_string();
    let ready = wait_until("ready.json", || master::ready::Ready::read(data).ok().flatten());
    assert_eq!(ready.http, address);
    let (status, body) = world::request(&address, "GET /version HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["version"], "1.11.0");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_api_listens_on_the_socket_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_mesolith-master");
    let data = dir.path().join("stdin");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let child = std::process::Command::new(binary)
        .args(["--data", data.to_str().unwrap(), "--http", "fd:0", "--link", "127.0.0.1:0", "--insecure-api"])
        .stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    serves_on(&listener, &data, child);

    let data = dir.path().join("systemd");
    let script = format!(
        "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec {binary} --data {} --link 127.0.0.1:0 --insecure-api",
        data.display()
    );
    let child = std::process::Command::new("sh")
        .args(["-c", &script])
        .stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    serves_on(&listener, &data, child);
}
