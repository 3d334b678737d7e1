//! A scheduler that speaks protobuf: what it sends, and the stream it is sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use api::recordio::Decoder;
use api::v1::scheduler::{Call, Event, call, event};
use api::v1::{ContentType, FrameworkInfo};

use crate::OPEN;
use crate::world::{Master, Scheduler};

/// The answer's head, and its body as far as it comes.
struct Answer {
    head: String,
    body: BufReader<TcpStream>,
}

fn post(master: &Master, headers: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(&master.ready.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    let head = format!(
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: m\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut body = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(body.read_line(&mut head).unwrap() > 0, "the head is cut: {head}");
    }
    Answer { head, body }
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }

    fn text(mut self) -> String {
        let mut text = String::new();
        self.body.read_to_string(&mut text).unwrap();
        text
    }

    /// The next event: one chunk is one record.
    fn event(&mut self) -> Event {
        let mut size = String::new();
        self.body.read_line(&mut size).unwrap();
        let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).unwrap() + 2];
        self.body.read_exact(&mut chunk).unwrap();
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(&chunk[..chunk.len() - 2]);
        ContentType::Protobuf.decode(&decoder.pop().unwrap().unwrap()).unwrap()
    }

    fn expect(&mut self, kind: event::Type) -> Event {
        for _ in 0..20 {
            let event = self.event();
            if event.r#type() == kind {
                return event;
            }
        }
        panic!("no {}", kind.as_str_name());
    }
}

const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";

fn subscribe() -> Call {
    let framework_info = FrameworkInfo { user: "root".into(), name: "p".into(), ..FrameworkInfo::default() };
    let subscribe = call::Subscribe { framework_info, ..call::Subscribe::default() };
    Call { r#type: Some(call::Type::Subscribe.into()), subscribe: Some(Box::new(subscribe)), ..Call::default() }
}

#[test]
fn a_scheduler_may_speak_protobuf_both_ways_or_one() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), OPEN, 1);
    let body = ContentType::Protobuf.encode(&subscribe());
    let mut stream = post(&master, &format!("{PROTOBUF}Accept: application/x-protobuf\r\n"), &body);
    assert_eq!(stream.status(), 200, "{}", stream.head);
    assert_eq!(stream.header("content-type").unwrap(), "application/x-protobuf");
    let id = stream.header("mesos-stream-id").unwrap();
    let subscribed = stream.expect(event::Type::Subscribed).subscribed.unwrap();
    assert_eq!(subscribed.heartbeat_interval_seconds, Some(15.0));
    assert!(subscribed.master_info.unwrap().capabilities.len() >= 3);
    stream.expect(event::Type::Heartbeat);

    let revive = |framework_id| {
        let call =
            Call { framework_id: Some(framework_id), r#type: Some(call::Type::Revive.into()), ..Call::default() };
        let headers = format!("{PROTOBUF}Mesos-Stream-Id: {id}\r\n");
        let answer = post(&master, &headers, &ContentType::Protobuf.encode(&call));
        (answer.status(), answer.text())
    };
    assert_eq!(revive(subscribed.framework_id.clone()), (202, String::new()));
    assert_eq!(revive("nobody".into()), (400, "Framework cannot be found".to_owned()));

    // A call in protobuf, its events in JSON.
    let json = post(&master, &format!("{PROTOBUF}Accept: application/json\r\n"), &body);
    assert_eq!(json.header("content-type").unwrap(), "application/json");
    // And a neighbour whose stream is JSON does not mind.
    assert!(!Scheduler::subscribe(&master, None).id.is_empty());
}

#[test]
fn what_is_no_protobuf_call_is_refused_before_accept_and_stream_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let master = Master::start(dir.path(), OPEN, 1);
    let refused = |headers: &str, body: &[u8]| {
        let answer = post(&master, &format!("{PROTOBUF}{headers}"), body);
        (answer.status(), answer.text())
    };
    let no_call = (400, "Failed to parse body into Call protobuf".to_owned());
    assert_eq!(refused("", b"{}"), no_call);
    let mut nameless = ContentType::Protobuf.encode(&subscribe());
    // `name` (field 2) becomes field 3 of the same type: the id of nobody, and no name.
    let at = nameless.windows(3).position(|window| window == [0x12, 1, b'p']).unwrap();
    nameless[at] = 0x3a;
    assert_eq!(refused("Accept: text/html\r\n", &nameless), no_call);
    let typed = Call { r#type: Some(call::Type::Subscribe.into()), ..Call::default() };
    assert_eq!(
        refused("Accept: text/html\r\nMesos-Stream-Id: 1\r\n", &ContentType::Protobuf.encode(&typed)),
        (400, "Failed to validate scheduler::Call: Expecting 'subscribe' to be present".to_owned())
    );
    assert_eq!(refused("Accept: text/html\r\n", &ContentType::Protobuf.encode(&subscribe())).0, 406);
}
