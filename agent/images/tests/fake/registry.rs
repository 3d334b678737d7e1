//! A registry in this process that answers as told, and counts what it is asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

/// What goes wrong with a path, once for each entry, in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// Sends so many bytes of the body, then closes.
    Cut(usize),
    /// Sends nothing for ever.
    Silent,
    /// Answers with this status and no body.
    Status(u16),
    /// The whole blob, whatever range was asked for.
    NoRange,
}

#[derive(Default)]
struct State {
    /// Content and media type by path.
    content: BTreeMap<String, (Vec<u8>, String)>,
    faults: BTreeMap<String, Vec<Fault>>,
    /// `METHOD path range` of each request that was answered with a body or a fault.
    requests: Vec<String>,
    /// Wanted as `Authorization`, if anything.
    authorization: Option<String>,
    /// The header `WWW-Authenticate` of refusals.
    challenge: String,
    /// The authorization the token service wants, and the token it gives.
    token_service: Option<(Option<String>, String)>,
    /// A pause before each answer.
    pause: Duration,
}

/// The registry; ends with the process.
pub(crate) struct Registry {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || {
                    // A client that goes away is no concern of ours.
                    let _ = serve(stream, &state);
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    fn put(&self, path: String, bytes: Vec<u8>, kind: &str) {
        self.state.lock().unwrap().content.insert(path, (bytes, kind.to_owned()));
    }

    /// Adds a blob; gives its digest.
    pub(crate) fn blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        self.put(format!("/v2/{repository}/blobs/{digest}"), bytes.to_vec(), "application/octet-stream");
        digest
    }

    /// Adds an image of these layers under a tag. Gives the layers' digests.
    pub(crate) fn image(
        &self,
        repository: &str,
        tag: &str,
        layers: &[Layer],
        config: serde_json::Value,
    ) -> Vec<String> {
        let (manifest, layers) = self.manifest(repository, layers, config);
        self.tag(repository, tag, &manifest);
        layers
    }

    /// Adds what belongs to an image, but no tag.
    pub(crate) fn manifest(
        &self,
        repository: &str,
        layers: &[Layer],
        config: serde_json::Value,
    ) -> (String, Vec<String>) {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string();
        let config_digest = self.blob(repository, config.as_bytes());
        let mut digests = Vec::new();
        let mut list = Vec::new();
        for layer in layers {
            let digest = self.blob(repository, &layer.packed);
            list.push(serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest,
                "size": layer.packed.len()}));
            digests.push(digest);
        }
        let manifest = serde_json::json!({"schemaVersion": 2, "layers": list, "config": {"mediaType":
            "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()}});
        (manifest.to_string(), digests)
    }

    pub(crate) fn tag(&self, repository: &str, tag: &str, manifest: &str) {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        for name in [tag.to_owned(), digest(manifest.as_bytes())] {
            self.put(format!("/v2/{repository}/manifests/{name}"), manifest.as_bytes().to_vec(), kind);
        }
    }

    /// What is at a path from now on, whatever its name promises.
    pub(crate) fn replace(&self, path: &str, bytes: Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        state.content.get_mut(path).expect("there is something to replace").0 = bytes;
    }

    pub(crate) fn fault(&self, path: &str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.insert(path.to_owned(), faults.to_vec());
    }

    pub(crate) fn pause(&self, pause: Duration) {
        self.state.lock().unwrap().pause = pause;
    }

    pub(crate) fn require_basic(&self, user: &str, password: &str) {
        let mut state = self.state.lock().unwrap();
        state.authorization = Some(basic(user, password));
        state.challenge = "Basic realm=\"lab\"".to_owned();
    }

    /// A token is needed, which the service gives to whoever has this password, or to anybody.
    pub(crate) fn require_token(&self, login: Option<(&str, &str)>) {
        let mut state = self.state.lock().unwrap();
        state.authorization = Some("Bearer opaque-token".to_owned());
        state.challenge = format!("Bearer realm=\"http://{}/token\",service=\"lab\"", self.address);
        let login = login.map(|(user, password)| basic(user, password));
        state.token_service = Some((login, "opaque-token".to_owned()));
    }

    /// How often something with this in its path was asked for.
    pub(crate) fn asked(&self, part: &str) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|request| request.contains(part)).count()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

/// A layer as it is sent, and the digest of what it unpacks to.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) packed: Vec<u8>,
    pub(crate) diff_id: String,
}

impl Layer {
    pub(crate) fn of(files: &[(&str, &[u8])]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_uid(rustix::process::geteuid().as_raw().into());
            header.set_gid(rustix::process::getegid().as_raw().into());
            tar.append_data(&mut header, path, *content).unwrap();
        }
        let plain = tar.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        Self { packed: gzip.finish().unwrap(), diff_id: digest(&plain) }
    }

    /// One that is not small even when packed.
    pub(crate) fn large(seed: u8, bytes: usize) -> Self {
        let mut state = u64::from(seed) + 1;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .take(bytes)
        .collect();
        Self::of(&[(&format!("noise-{seed}"), &noise)])
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

struct Request {
    method: String,
    path: String,
    authorization: Option<String>,
    range: Option<usize>,
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, path, authorization: None, range: None };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Ok(Some(request)) };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.to_owned()),
            "range" => {
                let from = value.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
                request.range = from.and_then(|from| from.parse().ok());
            }
            _ => {}
        }
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(request) = read_request(&mut reader)? {
        let pause = state.lock().unwrap().pause;
        std::thread::sleep(pause);
        if !answer(&request, &mut stream, state)? {
            return Ok(());
        }
    }
    Ok(())
}

/// False when the connection ends.
fn answer(request: &Request, stream: &mut TcpStream, state: &Mutex<State>) -> std::io::Result<bool> {
    let path = request.path.split('?').next().unwrap_or_default().to_owned();
    let (found, fault) = {
        let mut state = state.lock().unwrap();
        let range = request.range.unwrap_or(0);
        state.requests.push(format!("{} {} {range}", request.method, request.path));
        if path == "/token" {
            let Some((login, token)) = state.token_service.clone() else { return reply(stream, 404, "", b"") };
            if login.is_some() && login != request.authorization {
                return reply(stream, 401, "", b"wrong password");
            }
            return reply(stream, 200, "", format!("{{\"token\":\"{token}\",\"expires_in\":300}}").as_bytes());
        }
        if state.authorization.is_some() && state.authorization != request.authorization {
            let challenge = format!("WWW-Authenticate: {}\r\n", state.challenge);
            return reply(stream, 401, &challenge, br#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#);
        }
        if path == "/v2/" {
            return reply(stream, 200, "", b"{}");
        }
        let faults = state.faults.get_mut(&path).filter(|faults| !faults.is_empty());
        let fault = faults.map(|faults| faults.remove(0));
        (state.content.get(&path).cloned(), fault)
    };
    let Some((bytes, kind)) = found else {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        return reply(stream, 404, "", body);
    };
    let from = match fault {
        Some(Fault::Status(status)) => return reply(stream, status, "", b""),
        Some(Fault::Silent) => {
            // Until the client gives up.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest)?;
            return Ok(false);
        }
        Some(Fault::NoRange) => 0,
        Some(Fault::Cut(_)) | None => request.range.unwrap_or(0).min(bytes.len()),
    };
    let body = &bytes[from..];
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(true);
    }
    if let Some(Fault::Cut(after)) = fault {
        stream.write_all(&body[..after.min(body.len())])?;
        return Ok(false);
    }
    stream.write_all(body)?;
    Ok(true)
}

fn reply(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<bool> {
    let head = format!("HTTP/1.1 {status} Told\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    Ok(true)
}
