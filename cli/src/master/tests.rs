//! The master over HTTP, against a server of a few lines.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::advice::describe;

/// Reads a request's head and body (by Content-Length).
async fn read_request<S: AsyncReadExt + Unpin>(stream: &mut S) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        assert!(count > 0, "the request breaks off: {text}");
    }
}

/// Answers each connection with the next of `answers` and gives back what was asked.
async fn serve(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let handle = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.push(read_request(&mut stream).await);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    (port, handle)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn plain(port: u16) -> Master {
    Master::new(
        Address { host: "127.0.0.1".to_owned(), port, scheme: Scheme::Http },
        None,
        Some("Basic abc".to_owned()),
    )
}

#[test]
fn addresses_are_read_as_people_write_them() {
    for (text, usual, expected) in [
        ("10.0.0.1", Scheme::Http, "http://10.0.0.1:5050"),
        ("m:7", Scheme::Https, "https://m:7"),
        ("http://m:7/", Scheme::Https, "http://m:7"),
        ("https://m", Scheme::Http, "https://m:5050"),
        ("[::1]:7", Scheme::Http, "http://[::1]:7"),
        ("::1", Scheme::Http, "http://[::1]:5050"),
    ] {
        assert_eq!(Address::parse(text, usual).unwrap().url(), expected);
    }
    for bad in ["ftp://m", "m:port", "m:70000", "", ":5", "http://m/x", "u:p@m:1"] {
        assert!(Address::parse(bad, Scheme::Http).is_err(), "{bad}");
    }
}

#[test]
fn segments_cannot_leave_their_place() {
    assert_eq!(segment("a b/../ü:1"), "a%20b%2F..%2F%C3%BC%3A1");
}

#[tokio::test]
async fn a_redirect_leads_to_the_leader_and_is_remembered() {
    let (leader, asked) = serve(vec![answer("200 OK", "", "{\"a\":1}"), answer("200 OK", "", "{\"a\":2}")]).await;
    let location = format!("Location: //127.0.0.1:{leader}/state\r\n");
    let (follower, _) = serve(vec![answer("307 Temporary Redirect", &location, "")]).await;
    let master = plain(follower);
    assert_eq!(master.json::<serde_json::Value>("/state").await.unwrap()["a"], 1);
    assert_eq!(master.json::<serde_json::Value>("/state").await.unwrap()["a"], 2);
    let asked = asked.await.unwrap();
    assert!(
        asked[0].starts_with("GET /state HTTP/1.1\r\n") && asked[0].contains("authorization: Basic abc"),
        "{}",
        asked[0]
    );
}

#[tokio::test]
async fn every_failure_says_what_to_do_next() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (what, next) = describe(&plain(closed).json::<serde_json::Value>("/state").await.unwrap_err());
    assert!(what.contains("cannot reach the master at http://127.0.0.1:") && what.contains("refused"), "{what}");
    assert!(next.unwrap().contains("--master"));
    for (reply, says, next_says) in [
        (answer("401 Unauthorized", "", ""), "who you are", "--credentials"),
        (answer("200 OK", "", "<html>"), "not what a Mesolith master sends", "--master"),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "no HTTP answer", "https"),
    ] {
        let (port, _) = serve(vec![reply]).await;
        let (what, next) = describe(&plain(port).json::<serde_json::Value>("/state").await.unwrap_err());
        assert!(what.contains(says), "{what}");
        assert!(next.unwrap_or_default().contains(next_says), "{what}");
    }
    let (port, _) = serve(vec![answer("404 Not Found", "", "no such node")]).await;
    let error = plain(port).json::<serde_json::Value>("/x?y").await.unwrap_err();
    assert_eq!(describe(&error).0, "the master refuses /x (404): no such node");
}

#[tokio::test]
async fn only_the_clusters_own_ca_is_believed() {
    let mut authorities = Vec::new();
    for name in ["ours", "theirs"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = parameters.self_signed(&key).unwrap();
        authorities.push((certificate, rcgen::Issuer::new(parameters, key)));
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &authorities[0].1)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![server.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                read_request(&mut stream).await;
                stream.write_all(answer("200 OK", "", "{\"tls\":true}").as_bytes()).await.unwrap();
                stream.shutdown().await.ok();
            }
        }
    });
    for (index, believed) in [(0, true), (1, false)] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, authorities[index].0.pem()).unwrap();
        let tls = Arc::new(crate::target::tls_config(Some(&file)).unwrap());
        let address = Address { host: "127.0.0.1".to_owned(), port, scheme: Scheme::Https };
        let got = Master::new(address, Some(tls), None).json::<serde_json::Value>("/version").await;
        assert_eq!(got.is_ok(), believed, "{got:?}");
        if let Err(error) = got {
            assert!(describe(&error).1.unwrap().contains("--ca"));
        }
    }
}
