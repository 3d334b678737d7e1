//! The operator API's event stream, from the real binary over real sockets: everything that happens, in both
//! encodings, to as many as may watch, and never at the cost of the others.
// Whatever is not expected fails the test.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

// The other suites use all of it.
#[allow(dead_code)]
#[path = "serving/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use api::link::from_master::Message as FromMaster;
use api::recordio::Decoder;
use api::v1::ContentType;
use api::v1::master::{Event, event};
use rcgen::KeyPair;
use serde_json::{Value, json};
use world::{Agent, MAC, Master, PATIENCE, Scheduler, join, join_request, wait_until};

/// One who watches.
struct Watcher {
    stream: TcpStream,
    bytes: Vec<u8>,
    decoder: Decoder,
    encoding: ContentType,
}

impl Watcher {
    fn open(master: &Master, encoding: ContentType) -> Self {
        let mut stream = TcpStream::connect(&master.ready.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = r#"{"type":"SUBSCRIBE"}"#;
        write!(
            stream,
            "POST /api/v1 HTTP/1.1\r\nHost: m\r\nAccept: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            encoding.header(),
            body.len()
        )
        .unwrap();
        let mut watcher = Self { stream, bytes: Vec::new(), decoder: Decoder::new(1 << 26), encoding };
        let end = loop {
            if let Some(at) = watcher.bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(watcher.fill());
        };
        let head: Vec<u8> = watcher.bytes.drain(..end).collect();
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
        watcher
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 65536];
        let count = self.stream.read(&mut buffer).unwrap_or(0);
        self.bytes.extend_from_slice(&buffer[..count]);
        count > 0
    }

    /// The next event, unless the stream has ended.
    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(record) = self.decoder.pop().unwrap() {
                return Some(self.encoding.decode(&record).unwrap());
            }
            let length = loop {
                if let Some(at) = self.bytes.windows(2).position(|window| window == b"\r\n") {
                    let length = usize::from_str_radix(std::str::from_utf8(&self.bytes[..at]).unwrap(), 16).unwrap();
                    if self.bytes.len() >= at + 2 + length + 2 {
                        self.bytes.drain(..at + 2);
                        break length;
                    }
                }
                if !self.fill() {
                    return None;
                }
            };
            let chunk: Vec<u8> = self.bytes.drain(..length + 2).take(length).collect();
            self.decoder.push(&chunk);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_event_comes_in_json_and_in_protobuf() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), &["--insecure-api"], 1);
    let mut watchers = [Watcher::open(&master, ContentType::Json), Watcher::open(&master, ContentType::Protobuf)];
    for watcher in &mut watchers {
        let first = watcher.next().unwrap();
        assert_eq!(first.r#type(), event::Type::Subscribed);
        assert_eq!(first.subscribed.unwrap().heartbeat_interval_seconds, Some(15.0));
        assert_eq!(watcher.next().unwrap().r#type(), event::Type::Heartbeat);
    }
    let key = KeyPair::generate().unwrap();
    let joined = join(&master, join_request(&master.boot_token(), &key, MAC)).await.unwrap();
    let mut agent = Agent::register(&master, (&joined.certificate_pem, &key), "", vec![]).await;
    // What comes and goes between two looks at the state is told in short, or not at all.
    let looked = || tokio::time::sleep(Duration::from_millis(500));
    looked().await;
    let mut scheduler = Scheduler::subscribe(&master, None);
    let offers = tokio::task::block_in_place(|| scheduler.expect("OFFERS"));
    let task = json!({"name": "t", "task_id": {"value": "t"}, "agent_id": {"value": agent.id}, "command": {"value": "true"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}]});
    let accept = json!({"offer_ids": [offers["offers"]["offers"][0]["id"]],
        "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]});
    assert_eq!(scheduler.call("ACCEPT", "accept", &accept).0, 202);
    assert!(matches!(agent.next().await, FromMaster::RunTask(_)));
    agent.update(&scheduler.id, "t", "TASK_RUNNING", [1; 16]).await;
    let update = tokio::task::block_in_place(|| scheduler.expect("UPDATE"));
    assert_eq!(update["update"]["status"]["state"], "TASK_RUNNING");
    looked().await;
    let json = "Content-Type: application/json\r\n";
    let operate = |body: Value| assert_eq!(master.post("/api/v1", json, &body.to_string()).0, 200, "{body}");
    let renamed = json!({"framework_info": {"id": {"value": scheduler.id}, "user": "root", "name": "new",
        "failover_timeout": 100}});
    assert_eq!(scheduler.call("UPDATE_FRAMEWORK", "update_framework", &renamed).0, 200);
    looked().await;
    operate(json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": scheduler.id}}}));
    operate(json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": {"value": agent.id}}}));
    for watcher in &mut watchers {
        // By kind, the last of each: what comes close together is told in one order or another.
        let mut seen: BTreeMap<&str, Event> = BTreeMap::new();
        let deadline = Instant::now() + PATIENCE;
        while !seen.contains_key("AGENT_REMOVED") || !seen.contains_key("FRAMEWORK_REMOVED") {
            let event = tokio::task::block_in_place(|| watcher.next()).expect("the stream goes on");
            seen.insert(event.r#type().as_str_name(), event);
            assert!(Instant::now() < deadline, "only {:?} came", seen.keys());
        }
        let mut take = |kind: &str| seen.remove(kind).unwrap_or_else(|| panic!("no {kind} came"));
        let added = take("AGENT_ADDED").agent_added.unwrap().agent;
        assert_eq!(added.agent_info.id.unwrap().as_str(), agent.id);
        let added = take("FRAMEWORK_ADDED").framework_added.unwrap().framework;
        assert_eq!(added.framework_info.id.unwrap().as_str(), scheduler.id);
        assert_eq!(take("TASK_ADDED").task_added.unwrap().task.task_id.as_str(), "t");
        assert_eq!(take("TASK_UPDATED").task_updated.unwrap().framework_id.as_str(), scheduler.id);
        assert_eq!(take("FRAMEWORK_UPDATED").framework_updated.unwrap().framework.framework_info.name, "new");
        assert_eq!(take("FRAMEWORK_REMOVED").framework_removed.unwrap().framework_info.name, "new");
        assert_eq!(take("AGENT_REMOVED").agent_removed.unwrap().agent_id.as_str(), agent.id);
    }
}

#[test]
fn one_too_many_closes_the_oldest_stream() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--insecure-api", "--max-operator-event-stream-subscribers", "2"];
    let master = Master::start(dir.path(), &flags, 1);
    assert_eq!(master.json("/flags")["flags"]["max_operator_event_stream_subscribers"], "2");
    let mut watchers: Vec<Watcher> = (0..3)
        .map(|_| {
            let mut watcher = Watcher::open(&master, ContentType::Json);
            assert_eq!(watcher.next().unwrap().r#type(), event::Type::Subscribed);
            watcher
        })
        .collect();
    let began = Instant::now();
    while watchers[0].next().is_some() {}
    assert!(began.elapsed() < Duration::from_secs(10), "the oldest stream was not closed");
    let count = || master.json("/metrics/snapshot")["master/operator_event_stream_subscribers"].clone();
    wait_until("two subscribers", || (count() == json!(2.0)).then_some(()));
    assert_eq!(watchers[2].next().unwrap().r#type(), event::Type::Heartbeat);
}

#[test]
fn who_does_not_read_is_cut_off_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), &["--insecure-api"], 1);
    let idle = Watcher::open(&master, ContentType::Json);
    let mut reading = Watcher::open(&master, ContentType::Json);
    // Frameworks come and go, each with a description that fills what waits for a reader.
    let name = "x".repeat(60_000);
    let count = || master.json("/metrics/snapshot")["master/operator_event_stream_subscribers"].clone();
    let deadline = Instant::now() + Duration::from_secs(120);
    let (sender, seen) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        while let Some(event) = reading.next() {
            if event.r#type() == event::Type::FrameworkAdded && sender.send(()).is_err() {
                break;
            }
        }
    });
    while count() == json!(2.0) {
        assert!(Instant::now() < deadline, "the idle stream was not cut off");
        for _ in 0..20 {
            let body = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": name}}});
            let body = body.to_string();
            let mut stream = TcpStream::connect(&master.ready.http).unwrap();
            write!(
                stream,
                "POST /api/v1/scheduler HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            let mut some = [0; 64];
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(stream.read(&mut some).unwrap() > 0);
        }
        // The other one is told all along.
        for _ in 0..20 {
            seen.recv_timeout(PATIENCE).expect("the one who reads hears of every framework");
        }
    }
    drop((seen, idle));
    drop(master);
    reader.join().unwrap();
}
