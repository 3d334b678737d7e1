//! What a bare machine asks for over the network: its script, kernel, initramfs, token and the time.
//!
//! Plain HTTP, because firmware and iPXE have no certificates of ours. Therefore nothing here is
//! secret but the token, which is good once, for one machine, for minutes; and the script pins the
//! cluster's authority, so that a node can tell its master from an impostor. Who controls the boot
//! network controls what boots on it: decision 4 says what is done about it and what is not.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use hyper::StatusCode;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use crate::address_buckets::AddressBuckets;
use crate::clock::unix_ms;
use crate::http::server::Connection;
use crate::http::text;
use crate::machines::{Machines, normalize_mac, normalize_uuid};
use crate::revocations::Revocations;
use crate::tokens::{MakeError, Scripts, Tokens};

/// A log line per request: when it has grown beyond this it is renamed, and the one before goes.
const LOG_LIMIT: u64 = 16 << 20;
const PIECE: usize = 64 << 10;
/// Scripts and tokens one address may ask for: so many at once, then one each [`ASK_REFILL`].
const ASK_BURST: u32 = 64;
const ASK_REFILL: Duration = Duration::from_secs(1);

/// Says whether a node is up.
pub type Alive = Arc<dyn Fn(String) -> BoxFuture<'static, bool> + Send + Sync>;

/// What the endpoints share.
#[derive(Clone)]
pub struct Boot {
    /// Where vmlinuz and initramfs.img are.
    pub directory: PathBuf,
    /// The operator's machines.
    pub machines: Arc<Machines>,
    /// Only those get a script and a token.
    pub only_listed: bool,
    /// What every machine's kernel command line has.
    pub cmdline: String,
    /// For one token a script.
    pub tokens: Arc<Tokens>,
    /// Who may fetch one.
    pub scripts: Arc<Mutex<Scripts>>,
    /// Nodes that are to be let in no more.
    pub revocations: Arc<Revocations>,
    /// Knows which nodes are up.
    pub alive: Alive,
    /// See [`asked`].
    pub asked: Asked,
    /// What machines reach us by.
    pub advertise: String,
    /// The port of these endpoints.
    pub boot_port: u16,
    /// The agents' port.
    pub link_port: u16,
    /// Says where the links of the other masters are, so that a node need not ask this one for ever.
    pub others: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Says which authorities a node is to trust: `sha256:..`, with commas between.
    pub pins: Arc<dyn Fn() -> String + Send + Sync>,
    /// `boot.log`.
    pub log: Arc<BootLog>,
}

/// How often each address has asked for scripts and tokens.
#[derive(Clone, Debug)]
pub struct Asked(Arc<Mutex<AddressBuckets>>);

/// Nobody has asked yet.
#[must_use]
pub fn asked() -> Asked {
    Asked(Arc::new(Mutex::new(AddressBuckets::new(ASK_BURST, ASK_REFILL))))
}

/// The endpoints.
pub fn router(boot: Boot) -> Router {
    Router::new()
        .route("/boot/start.ipxe", get(start))
        .route("/boot/ipxe", get(ipxe))
        .route("/boot/vmlinuz", get(vmlinuz))
        .route("/boot/initramfs.img", get(initramfs))
        .route("/boot/token", get(token))
        .route("/boot/time", get(time))
        .layer(from_fn_with_state(boot.clone(), logged))
        .with_state(boot)
}

#[derive(Debug, Deserialize)]
struct Asker {
    #[serde(default)]
    mac: String,
    #[serde(default)]
    uuid: String,
}

impl Asker {
    fn machine(&self) -> Result<(String, String), &'static str> {
        let mac = normalize_mac(&self.mac).ok_or("mac= must be a MAC address, such as 52:54:00:77:00:01\n")?;
        let uuid = normalize_uuid(&self.uuid).ok_or("uuid= must be a UUID or empty\n")?;
        Ok((mac, uuid))
    }
}

async fn ipxe(
    State(boot): State<Boot>,
    Extension(connection): Extension<Connection>,
    Query(asker): Query<Asker>,
) -> Response {
    let address = connection.remote.ip().to_canonical();
    let (mac, uuid) = match admit(&boot, address, &asker) {
        Ok(machine) => machine,
        Err(refused) => return refused,
    };
    let requested =
        boot.scripts.lock().unwrap_or_else(PoisonError::into_inner).requested(&mac, &uuid, address, unix_ms());
    if !requested {
        tracing::warn!(%address, %mac, "too many machines boot at once");
        return text(StatusCode::SERVICE_UNAVAILABLE, "too many machines boot at once: try again in a minute\n");
    }
    text(StatusCode::OK, script(&boot, &mac, &uuid))
}

/// The first script of a machine that was sent here without a name: it asks for its own, one master after the other, and
/// never gives up.
async fn start(State(boot): State<Boot>) -> Response {
    text(StatusCode::OK, start_script(&boot))
}

fn start_script(boot: &Boot) -> String {
    let host = if boot.advertise.contains(':') { format!("[{}]", boot.advertise) } else { boot.advertise.clone() };
    // The others serve machines at the same port.
    let others = (boot.others)();
    let others = others.iter().filter_map(|link| Some(link.rsplit_once(':')?.0.to_owned()));
    let mut script = "#!ipxe\n:again\n".to_owned();
    for (number, host) in std::iter::once(host).chain(others).enumerate() {
        let url = format!("http://{host}:{}/boot/ipxe?mac=${{net0/mac}}&uuid=${{uuid}}", boot.boot_port);
        script += &format!(":master{number}\necho Mesolith: asking {host}\nchain {url} || goto master{}\n", number + 1);
        if number == 6 {
            break;
        }
    }
    let last = script.matches("\nchain ").count();
    script + &format!(":master{last}\necho Mesolith: no boot, again in 5 seconds\nsleep 5\ngoto again\n")
}

/// Is this a machine that may boot from us?
// The error is the answer itself.
#[allow(clippy::result_large_err)]
fn admit(boot: &Boot, address: IpAddr, asker: &Asker) -> Result<(String, String), Response> {
    let asked = boot.asked.0.lock().unwrap_or_else(PoisonError::into_inner).take(address, Instant::now());
    if asked.is_err() {
        tracing::warn!(%address, mac = ?asker.mac, "an address asks for boot scripts and tokens too often");
        return Err(text(StatusCode::TOO_MANY_REQUESTS, "too many requests of this address: try again in a minute\n"));
    }
    let (mac, uuid) = asker.machine().map_err(|mistake| text(StatusCode::BAD_REQUEST, mistake))?;
    let refuse = |why: &str| {
        tracing::warn!(%address, %mac, %uuid, reason = why, "a machine is refused to boot");
        text(StatusCode::FORBIDDEN, format!("{why}\n"))
    };
    if boot.machines.get(&mac).is_none() {
        if boot.only_listed {
            return Err(refuse("this machine is not in the master's --machines file, and only those boot"));
        }
        if boot.machines.takes_anothers_name(&mac) {
            return Err(refuse("the name made from this machine's address belongs to another machine: list this one"));
        }
    }
    let node = boot.machines.name(&mac);
    boot.revocations.check_node(&node).map_err(|revoked| refuse(&revoked.to_string()))?;
    Ok((mac, uuid))
}

/// The token is not on the kernel's command line, which dmesg shows to everybody: iPXE wraps it into
/// a second initramfs, as a file only root can read.
fn script(boot: &Boot, mac: &str, uuid: &str) -> String {
    let host = if boot.advertise.contains(':') { format!("[{}]", boot.advertise) } else { boot.advertise.clone() };
    let base = format!("http://{host}:{}", boot.boot_port);
    let machine = boot.machines.get(mac);
    let attributes = machine.and_then(|machine| machine.attributes.as_ref());
    let attributes = attributes.map(|attributes| format!(" mesolith.attributes={attributes}")).unwrap_or_default();
    let own = machine.and_then(|machine| machine.cmdline.as_deref());
    // The last one counts: a machine's own.
    let more = [Some(boot.cmdline.as_str()), own].into_iter().flatten().filter(|more| !more.is_empty());
    let more: String = more.map(|more| format!(" {more}")).collect();
    format!(
        "#!ipxe\n\
         kernel {base}/boot/vmlinuz?mac={mac} initrd=initramfs.img console=tty0 console=ttyS0,115200 \
         mesolith.master={host}:{link}{others} mesolith.boot={base} mesolith.ca={ca} mesolith.name={name}{attributes}{more}\n\
         initrd --name initramfs.img {base}/boot/initramfs.img?mac={mac}\n\
         initrd --name token {base}/boot/token?mac={mac}&uuid={uuid} /etc/mesolith/token mode=600\n\
         boot\n",
        link = boot.link_port,
        // This one first: it made the token.
        others = (boot.others)().iter().map(|other| format!(",{other}")).collect::<String>(),
        ca = (boot.pins)(),
        name = boot.machines.name(mac),
    )
}

async fn token(
    State(boot): State<Boot>,
    Extension(connection): Extension<Connection>,
    Query(asker): Query<Asker>,
    request: Request,
) -> Response {
    let address = connection.remote.ip().to_canonical();
    let (mac, uuid) = match admit(&boot, address, &asker) {
        Ok(machine) => machine,
        Err(refused) => return refused,
    };
    if request.method() != hyper::Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "A token is fetched once, by GET\n");
    }
    if !boot.scripts.lock().unwrap_or_else(PoisonError::into_inner).take(&mac, &uuid, address, unix_ms()) {
        tracing::warn!(%address, %mac, "a boot token is asked for without a script, or a second time");
        let body = "there is one token for each boot script, and it was fetched: boot again\n";
        return text(StatusCode::FORBIDDEN, body);
    }
    let node = boot.machines.name(&mac);
    if (boot.alive)(node.clone()).await {
        tracing::warn!(%address, %mac, %node, "a boot token is asked for in the name of a node that is up");
        return text(StatusCode::CONFLICT, format!("{node} is up and connected: there is no token for a second one\n"));
    }
    let asked = (mac.clone(), node.clone());
    let made =
        tokio::task::spawn_blocking(move || boot.tokens.make_for_boot(&asked.0, &uuid, &asked.1, address, unix_ms()))
            .await;
    match made {
        Ok(Ok(token)) => text(StatusCode::OK, token),
        Ok(Err(error @ (MakeError::Random(_) | MakeError::Keep(_)))) => {
            tracing::error!(%error, "no boot token was made");
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
        }
        Ok(Err(error @ MakeError::LiveElsewhere { .. })) => {
            tracing::warn!(%address, %mac, %node, reason = %error, "a boot token is refused");
            text(StatusCode::CONFLICT, format!("{error}\n"))
        }
        Ok(Err(error @ MakeError::Full)) => {
            tracing::warn!(%address, %mac, %node, reason = %error, "a boot token is refused");
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "making the token failed\n"),
    }
}

async fn time() -> Response {
    let now = unix_ms();
    text(StatusCode::OK, format!("{}.{:03}\n", now / 1000, now % 1000))
}

async fn vmlinuz(State(boot): State<Boot>) -> Response {
    file(&boot.directory.join("vmlinuz")).await
}

async fn initramfs(State(boot): State<Boot>) -> Response {
    file(&boot.directory.join("initramfs.img")).await
}

/// Streams a file: it may be larger than we want to hold, times the machines of a rack.
async fn file(path: &Path) -> Response {
    let opened = async {
        let file = tokio::fs::File::open(path).await?;
        let length = file.metadata().await?.len();
        io::Result::Ok((file, length))
    };
    let (file, length) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "cannot read a boot file");
            return text(StatusCode::NOT_FOUND, format!("cannot read {}: {error}\n", path.display()));
        }
    };
    // Never more than announced, even if the file is being replaced.
    let pieces = stream::try_unfold(file.take(length), |mut file| async move {
        let mut piece = vec![0; PIECE];
        let count = file.read(&mut piece).await?;
        piece.truncate(count);
        io::Result::Ok((count > 0).then(|| (Bytes::from(piece), file)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// One line a request: `unix_ms remote method path mac status bytes`. Without the query, so that a
/// line is always of one shape.
async fn logged(
    State(boot): State<Boot>,
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    let mac = Query::<Asker>::try_from_uri(request.uri()).ok().and_then(|Query(asker)| normalize_mac(&asker.mac));
    let line = Line {
        log: boot.log.clone(),
        remote: connection.remote.to_string(),
        request: format!("{} {}", request.method(), request.uri().path()),
        mac: mac.unwrap_or_else(|| "-".to_owned()),
        status: 0,
        bytes: 0,
    };
    let (head, body) = next.run(request).await.into_parts();
    let line = Line { status: head.status.as_u16(), ..line };
    Response::from_parts(head, Body::new(Counted { body, line: Some(line) }))
}

/// Written when the answer has gone, with the bytes that really went.
struct Line {
    log: Arc<BootLog>,
    remote: String,
    request: String,
    mac: String,
    status: u16,
    bytes: u64,
}

/// Passes a body on and counts.
struct Counted {
    body: Body,
    line: Option<Line>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(Ok(frame)), Some(line)) = (&frame, &mut self.line) {
            line.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            let Line { log, remote, request, mac, status, bytes } = line;
            tracing::info!(%remote, %request, %mac, status, bytes, "boot request");
            log.append(&format!("{} {remote} {request} {mac} {status} {bytes}\n", unix_ms()));
        }
    }
}

/// `boot.log`: what proves a network boot.
#[derive(Debug)]
pub struct BootLog {
    path: PathBuf,
    file: Mutex<File>,
}

impl BootLog {
    /// Opens the file to append to it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = Mutex::new(OpenOptions::new().create(true).append(true).open(&path)?);
        Ok(Self { path, file })
    }

    fn append(&self, line: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.write_all(line.as_bytes()).and_then(|()| {
            if file.metadata()?.len() > LOG_LIMIT {
                std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
                *file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            }
            Ok(())
        });
        if let Err(error) = written {
            tracing::warn!(%error, file = %self.path.display(), "cannot write the boot log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::Keeper;

    #[test]
    fn the_script_names_the_machine_and_holds_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("machines.json");
        std::fs::write(
            &list,
            r#"[{"mac":"52:54:00:77:00:01","name":"node-1","attributes":"rack:r1-a","cmdline":"quiet"}]"#,
        )
        .unwrap();
        let keeper = Keeper::in_memory();
        let boot = Boot {
            directory: dir.path().to_owned(),
            machines: Arc::new(Machines::read(&list).unwrap()),
            only_listed: true,
            cmdline: "mesolith.image=base:1".to_owned(),
            scripts: Arc::default(),
            revocations: Arc::new(Revocations::new(keeper.clone())),
            alive: Arc::new(|_| Box::pin(async { false })),
            asked: asked(),
            tokens: Arc::new(Tokens::new(keeper)),
            advertise: "10.0.2.2".to_owned(),
            boot_port: 5080,
            link_port: 5052,
            others: Arc::new(Vec::new),
            pins: Arc::new(|| format!("sha256:{}", "ab".repeat(32))),
            log: Arc::new(BootLog::open(dir.path().join("boot.log")).unwrap()),
        };
        let text = script(&boot, "52:54:00:77:00:01", "");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], "#!ipxe");
        assert!(
            lines[1].ends_with("mesolith.name=node-1 mesolith.attributes=rack:r1-a mesolith.image=base:1 quiet"),
            "{}",
            lines[1]
        );
        assert!(
            lines[1]
                .contains(" mesolith.master=10.0.2.2:5052 mesolith.boot=http://10.0.2.2:5080 mesolith.ca=sha256:abab")
        );
        assert!(lines[3].ends_with("/boot/token?mac=52:54:00:77:00:01&uuid= /etc/mesolith/token mode=600"));
        assert!(script(&boot, "52:54:00:77:00:02", "").contains("mesolith.name=node-770002 mesolith.image=base:1\n"));
        let several = Boot { others: Arc::new(|| vec!["m2:5052".to_owned(), "m3:5052".to_owned()]), ..boot.clone() };
        let text = script(&several, "52:54:00:77:00:01", "");
        assert!(text.contains(" mesolith.master=10.0.2.2:5052,m2:5052,m3:5052 mesolith.boot="), "{text}");

        let text = start_script(&several);
        assert!(text.starts_with("#!ipxe\n:again\n:master0\n") && text.ends_with("sleep 5\ngoto again\n"), "{text}");
        assert!(
            text.contains("chain http://m3:5080/boot/ipxe?mac=${net0/mac}&uuid=${uuid} || goto master3\n:master3\n"),
            "{text}"
        );

        let asker = |mac: &str| Asker { mac: mac.to_owned(), uuid: String::new() };
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        assert!(admit(&boot, address(1), &asker("52:54:00:77:00:01")).is_ok());
        let status = |answer: Result<_, Response>| answer.map_err(|refused| refused.status().as_u16()).err();
        assert_eq!(status(admit(&boot, address(1), &asker("52:54:00:77:00:02"))), Some(403));
        let any = Boot { only_listed: false, ..boot.clone() };
        assert!(admit(&any, address(1), &asker("52:54:00:77:00:02")).is_ok());
        boot.revocations.revoke_node("node-1", "", 1).unwrap();
        assert_eq!(status(admit(&boot, address(1), &asker("52:54:00:77:00:01"))), Some(403));
        for _ in 0..ASK_BURST {
            drop(admit(&any, address(2), &asker("nonsense")));
        }
        assert_eq!(status(admit(&any, address(2), &asker("52:54:00:77:00:02"))), Some(429));
        assert!(admit(&any, address(3), &asker("52:54:00:77:00:02")).is_ok());
    }
}
