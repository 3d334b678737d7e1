//! What one client can take from the others, asked of the real binary: a scheduler that does not read, bodies and
//! heads without end, ten thousand connections.
// Whatever is not expected fails the test.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

// The other suites use the rest.
#[allow(dead_code)]
#[path = "serving/world.rs"]
mod world;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::{Value, json};
use world::{Master, PATIENCE, Scheduler, request, wait_until};

const OPEN: &[&str] = &["--insecure-api"];

/// The head of an answer, however long its body goes on.
fn head_of(master: &Master, raw: &[u8]) -> String {
    let mut stream = TcpStream::connect(&master.ready.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The answer may come before all is sent.
    drop(stream.write_all(raw));
    let mut head = String::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        head.push_str(&line);
        head.push('\n');
    }
    head
}

fn post(length: usize, headers: &str, body: &str) -> Vec<u8> {
    let head = format!("POST /api/v1/scheduler HTTP/1.1\r\nHost: m\r\nContent-Length: {length}\r\n");
    format!("{head}Content-Type: application/json\r\n{headers}\r\n{body}").into_bytes()
}

#[test]
fn a_scheduler_that_stops_reading_is_disconnected_and_told_why_when_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), OPEN, 1);
    let silent = Scheduler::subscribe(&master, None);
    let mut other = Scheduler::subscribe(&master, None);
    // Each task is answered by an UPDATE that nobody reads.
    let tasks: Vec<Value> = (0..2000).map(|n| json!({"task_id": {"value": format!("{n:0>200}")}})).collect();
    let mut calls = 0;
    wait_until("disconnection", || {
        calls += 1;
        match silent.call("RECONCILE", "reconcile", &json!({ "tasks": tasks })) {
            (202, _) => None,
            (status, text) => {
                assert_eq!((status, text.as_str()), (403, "Framework is not subscribed"));
                Some(())
            }
        }
    });
    println!("cut off after {calls} calls of 2000 events each");
    // Nobody else noticed.
    assert_eq!(other.call("RECONCILE", "reconcile", &json!({"tasks": [{"task_id": {"value": "t"}}]})).0, 202);
    assert_eq!(other.expect("UPDATE")["update"]["status"]["state"], "TASK_LOST");
    let body = json!({"type": "SUBSCRIBE", "framework_id": {"value": silent.id}, "subscribe": {"framework_info":
        {"user": "root", "name": "test", "failover_timeout": 100, "id": {"value": silent.id}}}})
    .to_string();
    let head = head_of(&master, &post(body.len(), "", &body));
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let why = head.lines().find_map(|line| line.strip_prefix("Mesolith-Last-Stream: ")).unwrap_or_default();
    assert!(why.contains("events were not read"), "{head}");
}

#[test]
fn bodies_heads_and_json_have_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), OPEN, 1);
    let status = |raw: &[u8]| head_of(&master, raw).lines().next().unwrap_or_default().to_owned();
    for depth in [1000, 1_000_000] {
        let deep = "[".repeat(depth);
        assert!(status(&post(deep.len(), "", &deep)).starts_with("HTTP/1.1 400"), "{depth}");
    }
    let nested = format!("{}{}", r#"{"a":"#.repeat(5000), "}".repeat(5000));
    let (code, text) = master.post("/api/v1/scheduler", "Content-Type: application/json\r\n", &nested);
    assert!(code == 400 && text.contains("recursion limit"), "{code} {text}");
    let long = vec![b' '; (32 << 20) + 1];
    let mut raw = post(long.len(), "", "");
    raw.extend(&long);
    assert!(status(&raw).starts_with("HTTP/1.1 413"), "a body longer than its bound");
    // The bound is looked at between reads: a head may pass it by one.
    let header = format!("X-Long: {}\r\n", "x".repeat(300 << 10));
    assert!(status(&post(2, &header, "{}")).starts_with("HTTP/1.1 431"), "a long head");
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert!(status(&post(2, &many, "{}")).starts_with("HTTP/1.1 431"), "many headers");
    assert_eq!(master.get("/version").0, 200);
}

fn ask(stream: &mut BufReader<TcpStream>) -> bool {
    stream.get_mut().write_all(b"GET /version HTTP/1.1\r\nHost: m\r\n\r\n").unwrap();
    let (mut line, mut length, mut good) = (String::new(), 0, false);
    while stream.read_line(&mut line).unwrap() > 2 {
        good |= line.starts_with("HTTP/1.1 200");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    good
}

#[test]
fn ten_thousand_connections_are_served() {
    const MANY: usize = 10_000;
    // Both ends of all of them are in this test's and the master's descriptors.
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(hard > 10_100, "ten thousand connections need as many descriptors; the limit is {hard}");
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--insecure-api", "--http-connections", "10100", "--http-connections-per-address", "10100"];
    let master = Master::start(dir.path(), &flags, 1);
    let to: SocketAddr = master.ready.http.parse().unwrap();
    let began = Instant::now();
    let mut held: Vec<BufReader<TcpStream>> = (0..MANY)
        .map(|_| {
            let stream = TcpStream::connect(to).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut stream = BufReader::with_capacity(1024, stream);
            assert!(ask(&mut stream));
            stream
        })
        .collect();
    let opened = began.elapsed();
    // All are open, and each is still answered, as is a scheduler that comes now.
    let mut scheduler = Scheduler::subscribe(&master, None);
    assert_eq!(scheduler.call("RECONCILE", "reconcile", &json!({"tasks": [{"task_id": {"value": "t"}}]})).0, 202);
    assert_eq!(scheduler.expect("UPDATE")["update"]["status"]["state"], "TASK_LOST");
    let began = Instant::now();
    assert!(held.iter_mut().all(ask));
    println!("{MANY} connections opened and asked in {opened:?}, asked again in {:?}", began.elapsed());
    let (status, _) = request(&master.ready.http, "GET /version HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
    assert_eq!(status, 200);
}
