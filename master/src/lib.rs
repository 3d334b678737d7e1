//! The master's shell: sockets, disk and clock around `master-core`'s decisions.
//!
//! [`run`] builds the parts in order and waits. The [`driver`] owns the core; [`raft`] keeps its
//! commands; [`http`] and [`agents`] bring it what frameworks and nodes say; [`boot`], [`join`] and
//! [`ca`] turn bare machines into nodes.

mod address_buckets;
mod address_shares;
mod address_turns;
pub mod agents;
mod atomic_file;
pub mod authority;
pub mod boot;
pub mod ca;
pub mod claims;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod crashes;
pub mod disk;
pub mod driver;
mod flags;
mod hex;
pub mod http;
pub mod join;
mod judged;
pub mod kept;
pub mod link;
pub mod liveness;
pub mod logging;
pub mod machines;
pub mod netboot;
pub mod peers;
pub mod raft;
pub mod random;
pub mod ready;
pub mod rescue;
pub mod revocations;
pub mod secrets;
pub mod subscribers;
mod tcp;
mod timings;
pub mod token_command;
pub mod tokens;
mod zookeeper;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use base64::Engine;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::agents::{Beside, Gate, LinkService, Standbys};
use crate::authority::{Authority, Successions};
use crate::boot::{Boot, BootLog};
use crate::ca::{Ca, Identity};
use crate::claims::{Claims, Unclaimed};
use crate::clock::{Clock, unix_ms};
use crate::cluster::{Joined, Masters, Part, Place};
use crate::config::{Config, Listen};
use crate::crashes::Crashes;
use crate::driver::{Driver, Handle};
use crate::http::auth::{self, ApiTokens, Credentials, Guard};
use crate::http::server::Limits;
use crate::http::tls::Served;
use crate::http::{Api, router::Facts};
use crate::join::JoinService;
use crate::kept::Keeper;
use crate::liveness::Liveness;
use crate::netboot::Netboot;
use crate::peers::Dialer;
use crate::raft::Member;
use crate::ready::{Ready, connectable};
use crate::revocations::Revocations;
use crate::secrets::Secrets;
use crate::tokens::Tokens;

/// From SIGTERM to the end, for answers that are on their way.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// Until a lone replica leads: its log has to be read and applied.
const LEAD_DEADLINE: Duration = Duration::from_secs(300);
/// Where the certificate that is served is found, if it is not of the cluster's CA.
const API_CERTIFICATE: &str = "api-certificate.pem";
/// Machines that boot at once: a hall that comes back after a power cut, in turns.
const BOOT_CONNECTIONS: usize = 1024;
/// Of one address: a router with a rack behind it.
const BOOT_CONNECTIONS_PER_ADDRESS: usize = 256;
/// How often a session is asked whether it still answers; without a ping for twice as long the agent connects anew.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps the master from starting, or what ended it.
pub async fn run(config: Config) -> anyhow::Result<()> {
    raise_descriptor_limit();
    let data = &config.data;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("cannot create {}", data.display()))?;
    let _lock = lock(data)?;
    Ready::remove(data).with_context(|| format!("cannot write to {}", data.display()))?;
    let clock = Clock::start();
    let now_secs = i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX);
    let sockets = Sockets::open(&config)?;
    let member = Member {
        addr: host_and_port(&config.advertise, sockets.link_address.port()),
        http: (config.advertise_http.clone())
            .unwrap_or_else(|| host_and_port(&config.advertise, sockets.http_address.port())),
    };
    if let Some((address, token)) = &config.join {
        let part = if config.learner { Part::Learner } else { Part::Voter };
        match cluster::join(data, address, token, member.clone(), part).await.context("cannot join")? {
            Joined::Now(place) => tracing::info!(id = place.id, "joined the cluster"),
            Joined::Before(place) => tracing::info!(id = place.id, "--join is not needed: this master is a member"),
        }
    }
    let place = Place::read(data).context("cannot read replica.json")?;
    let advertise = config.advertise.clone();
    let issue = move |ca: &Ca| server_identity(ca, &advertise, i64::try_from(unix_ms() / 1000).unwrap_or(now_secs));
    let authority = Authority::new(data, Ca::open(data, now_secs)?, issue)?;
    let dialer = Dialer::master(&authority).context("cannot set up TLS for the other masters")?;
    let options = raft::Options {
        snapshot_every: config.snapshot_every,
        id: place.as_ref().map_or(raft::FOUNDER, |place| place.id),
        member: member.clone(),
        founds: place.is_none(),
        dialer: dialer.clone(),
        disk: disk::Real::shared(),
        chance: random::Chance::System,
    };
    let started = raft::start(&data.join("raft"), &options).await?;
    let ip = sockets.public_ip(&config.advertise);
    let core = core_config(&config, &ip, sockets.http_address.port())?;
    let times = flags::Times { ping: core.ping_interval, fetch: LEAD_DEADLINE, register: agents::REGISTER_DEADLINE };
    let flags = flags::flags(&config, &core, times);
    let master = master_core::Master::new(core, started.state);
    let (handle, inbox) = Handle::channel();
    let (stop, stopped) = watch::channel(false);
    let (lead, leading) = watch::channel(false);
    let replica = started.replica.clone();
    let driver = Driver::new(master, clock, started.replica, inbox, started.messages);
    let term = driver.term();
    let keeper = Keeper::new(driver.kept(), handle.clone(), replica.clone(), dialer.clone());
    let tokens = Arc::new(Tokens::new(keeper.clone()));
    let revocations = Arc::new(Revocations::new(keeper.clone()));
    let successions = Arc::new(Successions::new(keeper.clone()));
    tokio::spawn(authority.clone().follow(keeper.clone()));
    let crashes = Arc::new(Crashes::new(keeper.clone()));
    let gate = Gate {
        claims: Arc::new(Claims::new(keeper.clone(), config.admission, config.machines.clone())),
        unclaimed: Unclaimed::default(),
    };
    let secrets = Arc::new(Secrets::new(keeper.clone(), authority.clone()));
    let liveness = Liveness { driver: handle.clone(), replica: replica.clone(), dialer: dialer.clone() };
    let guard = Arc::new(guard(&config, keeper.clone(), revocations.clone())?);
    let mut driver = tokio::spawn(driver.run(stopped.clone(), lead));
    let mut serving = tokio::task::JoinSet::new();
    let mut link_to_serve = Some({
        let tls = link::tls(&authority).context("cannot set up TLS for the link")?;
        let masters = Masters::new(
            replica.clone(),
            authority.clone(),
            tokens.clone(),
            keeper.clone(),
            liveness.clone(),
            data.clone(),
        );
        let join = JoinService::new(authority.clone(), tokens.clone(), revocations.clone(), gate.claims.clone());
        let standbys = Standbys::new(term, replica.clone(), revocations.clone());
        let beside = Beside {
            gate: gate.clone(),
            crashes: crashes.clone(),
            authority: authority.clone(),
            guard: guard.clone(),
            secrets: secrets.clone(),
        };
        let link = LinkService::new(handle.clone(), replica.clone(), standbys, beside, 2 * PING_INTERVAL);
        let (revocations, stopped, listener) = (revocations.clone(), stopped.clone(), sockets.link);
        async move {
            if let Err(error) = link::serve(listener, tls, masters, join, link, revocations, stopped).await {
                tracing::error!(%error, "the link ended");
            }
        }
    });
    if started.alone {
        // Whoever comes finds a leader.
        tokio::select! {
            led = tokio::time::timeout(LEAD_DEADLINE, wait_for(leading.clone())) => led.context("the log was not ready in time")?,
            ended = &mut driver => return Err(driver_end(ended)),
        }
        // Before anybody is let in: the revocations are among it.
        let (files, keeper) = (data.clone(), keeper.clone());
        tokio::task::spawn_blocking(move || kept::import(&files, &keeper)).await??;
    } else if let Some(link) = link_to_serve.take() {
        // There is no leader unless the masters reach each other.
        serving.spawn(link);
    }

    let ready = Ready {
        http: connectable(sockets.http_address).to_string(),
        scheme: if config.access.insecure_api { "http" } else { "https" }.to_owned(),
        link: connectable(sockets.link_address).to_string(),
        boot: sockets.boot.as_ref().map(|(_, address)| connectable(*address).to_string()),
        advertise: config.advertise.clone(),
        ca_sha256: authority.now().serving.fingerprint(),
        pid: std::process::id(),
    };
    let facts = Arc::new(facts(&config, &ip, sockets.http_address.port(), flags, &ready));
    let api = Api {
        driver: handle.clone(),
        leading: leading.clone(),
        replica: replica.clone(),
        tokens: tokens.clone(),
        revocations: revocations.clone(),
        gate,
        crashes,
        authority: authority.clone(),
        successions,
        secrets,
        facts,
    };
    let tls = if config.access.insecure_api {
        None
    } else {
        let served = Arc::new(served(&config, &authority)?);
        let directory = data.clone();
        let changed = move |served: &Served| {
            if let Err(error) = publish_certificate(&directory, served) {
                tracing::error!(%error, "cannot write the API's certificate into the data directory");
            }
        };
        if config.access.tls.is_some() {
            publish_certificate(data, &served).context("cannot write the API's certificate")?;
            serving.spawn(served.clone().follow(stopped.clone(), changed));
        } else {
            serving.spawn(served.clone().follow_authority(authority.clone(), stopped.clone(), |_| {}));
        }
        Some(Arc::new(http::tls::config(&authority, served)))
    };
    let app = http::router(api, guard);
    let limits = Limits::connections(config.access.connections).per_address(config.access.per_address);
    serving.spawn(http::server::serve(sockets.http, tls, app, limits, stopped.clone()));
    if let Some(listener) = sockets.zk {
        serving.spawn(zookeeper::serve(listener, replica.clone(), api::MESOS_VERSION, stopped.clone()));
    }
    if let (Some((listener, address)), Some((_, directory))) = (sockets.boot, &config.boot) {
        let boot = Boot {
            directory: directory.clone(),
            machines: Arc::new(config.machines.clone()),
            only_listed: config.only_listed,
            cmdline: config.boot_cmdline.clone(),
            tokens: tokens.clone(),
            scripts: Arc::default(),
            revocations: revocations.clone(),
            alive: Arc::new(move |node| {
                let liveness = liveness.clone();
                Box::pin(async move { liveness.is_alive(&node).await })
            }),
            asked: boot::asked(),
            advertise: config.advertise.clone(),
            boot_port: address.port(),
            link_port: sockets.link_address.port(),
            others: {
                let replica = replica.clone();
                Arc::new(move || {
                    let members = replica.standing().members.into_iter().filter(|seat| seat.id != replica.id());
                    members.map(|seat| seat.member.addr).collect()
                })
            },
            pins: {
                let authority = authority.clone();
                Arc::new(move || authority.now().pins())
            },
            log: Arc::new(BootLog::open(data.join("boot.log")).context("cannot open boot.log")?),
        };
        if let Some((interface, files)) = &config.netboot {
            let netboot = Netboot::open(interface, files, address.port()).context("cannot serve --netboot")?;
            serving.spawn(netboot.serve(stopped.clone()));
        }
        serving.spawn(http::server::serve(
            listener,
            None,
            boot::router(boot),
            Limits::connections(BOOT_CONNECTIONS).per_address(BOOT_CONNECTIONS_PER_ADDRESS),
            stopped.clone(),
        ));
    }
    if let Some(link) = link_to_serve {
        serving.spawn(link);
    }
    if !started.alone {
        let seated = async {
            let place = place.unwrap_or(Place { id: replica.id(), masters: Vec::new(), learner: false });
            cluster::announce(&replica, &dialer, &member, &place).await
        };
        tokio::select! {
            seated = seated => seated?,
            ended = &mut driver => return Err(driver_end(ended)),
            signal = terminated() => return signal,
        }
    }
    ready.write(data).with_context(|| format!("cannot write ready.json in {}", data.display()))?;
    greet(&config, &ready);

    let ended = tokio::select! {
        signal = terminated() => { signal?; None }
        ended = &mut driver => Some(driver_end(ended)),
    };
    drop(Ready::remove(data));
    tracing::info!("stopping");
    stop.send_replace(true);
    let drained = async {
        if ended.is_none() {
            drop(driver.await);
        }
        while serving.join_next().await.is_some() {}
    };
    if tokio::time::timeout(DRAIN_DEADLINE, drained).await.is_err() {
        tracing::warn!(seconds = DRAIN_DEADLINE.as_secs(), "some connections did not end in time; they are cut");
    }
    if tokio::time::timeout(DRAIN_DEADLINE, replica.stop()).await.is_err() {
        tracing::warn!("the replicated log did not stop in time; what was acknowledged is on the disk");
    }
    ended.map_or(Ok(()), Err)
}

fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Two masters on one log would ruin it.
fn lock(data: &Path) -> anyhow::Result<Flock<std::fs::File>> {
    let path = data.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow!("another master runs on {}: stop it first", data.display()))
}

/// Every agent and scheduler is a descriptor; the soft limit is often 1024.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

struct Sockets {
    http: TcpListener,
    http_address: SocketAddr,
    link: TcpListener,
    link_address: SocketAddr,
    boot: Option<(TcpListener, SocketAddr)>,
    zk: Option<TcpListener>,
}

impl Sockets {
    /// Opens all of them; reports every one that cannot be.
    fn open(config: &Config) -> anyhow::Result<Self> {
        let mut mistakes = Vec::new();
        let mut open = |flag, listen| match tcp::listen(flag, listen) {
            Ok(listener) => Some(listener),
            Err(mistake) => {
                mistakes.push(mistake);
                None
            }
        };
        let http = open("http", config.http);
        let link = open("link", Listen::Address(config.link));
        let boot = config.boot.as_ref().map(|(address, _)| open("boot", Listen::Address(*address)));
        let zk = config.zk.map(|address| open("zk", Listen::Address(address)));
        match (http, link, boot, zk) {
            (Some(http), Some(link), boot @ (None | Some(Some(_))), zk @ (None | Some(Some(_)))) => {
                let boot = boot.flatten();
                Ok(Self {
                    zk: zk.flatten(),
                    http_address: http.local_addr()?,
                    http,
                    link_address: link.local_addr()?,
                    link,
                    boot: boot.map(|boot| boot.local_addr().map(|address| (boot, address))).transpose()?,
                })
            }
            _ => Err(anyhow!("{}", mistakes.join("\n"))),
        }
    }

    /// The address in `pid` and `master_info`: the advertised one if it is one, or where we listen.
    fn public_ip(&self, advertise: &str) -> String {
        let advertised = advertise.parse::<IpAddr>().ok();
        advertised.unwrap_or_else(|| connectable(self.http_address).ip()).to_string()
    }
}

fn core_config(config: &Config, ip: &str, port: u16) -> anyhow::Result<master_core::Config> {
    Ok(master_core::Config {
        master_id: uuid::Uuid::new_v4().to_string().into(),
        hostname: config.advertise.clone(),
        ip: ip.to_owned(),
        port,
        version: api::MESOS_VERSION.to_owned(),
        seed: u64::from_le_bytes(random::bytes()?),
        ping_interval: PING_INTERVAL.min(config.agent_timeout / 2),
        agent_timeout: config.agent_timeout,
        allocation_interval: config.allocation_interval,
        acls: config.access.acls.clone(),
        ..master_core::Config::default()
    })
}

fn facts(config: &Config, ip: &str, port: u16, flags: BTreeMap<String, String>, ready: &Ready) -> Facts {
    Facts {
        mesos_version: api::MESOS_VERSION,
        hostname: config.advertise.clone(),
        http: config.advertise_http.clone().unwrap_or_else(|| host_and_port(&config.advertise, port)),
        ip: ip.to_owned(),
        port,
        cluster: config.name.clone(),
        started_ms: unix_ms(),
        flags,
        event_streams: config.access.event_streams,
        ca_sha256: ready.ca_sha256.clone(),
    }
}

/// The names and addresses this master may be reached by.
fn server_identity(ca: &Ca, advertise: &str, now_secs: i64) -> Result<Identity, ca::CaError> {
    let mut hosts = vec![
        advertise.to_owned(),
        peers::SERVER_NAME.to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    if let Some(name) = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()) {
        hosts.push(name);
    }
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let address = interface.address;
        let v4 = address.and_then(|address| address.as_sockaddr_in().map(|v4| v4.ip().to_string()));
        let v6 = address.and_then(|address| address.as_sockaddr_in6().map(|v6| v6.ip().to_string()));
        hosts.extend(v4.or(v6));
    }
    hosts.sort();
    hosts.dedup();
    ca.issue(advertise, &hosts, now_secs)
}

/// Who may use the API. The generated credentials are made when somebody is asked for some.
fn guard(config: &Config, keeper: Keeper, revocations: Arc<Revocations>) -> anyhow::Result<Guard> {
    let (data, access) = (&config.data, &config.access);
    let mut credentials = access.credentials.clone();
    let mut administrators = access.administrators.clone();
    if access.enforced.any() {
        let path = data.join("api-credentials.json");
        let own = Credentials::open(&path).with_context(|| format!("cannot use {}", path.display()))?;
        if credentials.iter().any(|one| one.principal == own.principal) {
            anyhow::bail!("--credentials gives '{}' another secret than {}: rename one", own.principal, path.display());
        }
        administrators.insert(own.principal.clone());
        credentials.push(own);
    }
    Ok(Guard::new(auth::Options {
        enforced: access.enforced,
        credentials,
        tokens: ApiTokens::new(keeper),
        jwt: access.jwt.clone(),
        rate_limits: access.rate_limits.clone(),
        acls: access.acls.clone(),
        administrators,
        revocations,
    }))
}

/// The certificate of the API port.
fn served(config: &Config, authority: &Authority) -> anyhow::Result<Served> {
    if let Some((certificate, key)) = &config.access.tls {
        return Ok(Served::given(certificate, key)?);
    }
    drop(std::fs::remove_file(config.data.join(API_CERTIFICATE))); // of an earlier run
    Ok(Served::own(authority))
}

/// For the commands on this host, which cannot know its authority.
fn publish_certificate(data: &Path, served: &Served) -> std::io::Result<()> {
    let Some(leaf) = served.leaf() else { return Ok(()) };
    let body = base64::engine::general_purpose::STANDARD.encode(&leaf);
    let lines = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n").collect::<String>();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n");
    atomic_file::write(&data.join(API_CERTIFICATE), pem.as_bytes(), 0o644)
}

async fn wait_for(mut leading: watch::Receiver<bool>) {
    // An error means that the driver ended; whoever waits for that too will see it.
    if leading.wait_for(|leading| *leading).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn driver_end(ended: Result<Result<(), driver::DriverError>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow!("the driver ended by itself"),
        Ok(Err(error)) => error.into(),
        Err(panic) => anyhow!("the driver failed: {panic}"),
    }
}

async fn terminated() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// For the person who started it: where it listens, and what to do next.
fn greet(config: &Config, ready: &Ready) {
    let data = config.data.display();
    eprintln!("mesolith-master {} is ready.", env!("CARGO_PKG_VERSION"));
    eprintln!("  frameworks and tools   {}://{}", ready.scheme, ready.http);
    eprintln!("  agents (mutual TLS)    {}", ready.link);
    match &ready.boot {
        Some(boot) => eprintln!("  machines that boot     http://{boot}/boot/ipxe?mac=${{mac}}&uuid=${{uuid}}"),
        None => eprintln!("  machines that boot     off (--boot ADDR --boot-dir DIR)"),
    }
    let enforced = config.access.enforced;
    if !enforced.any() {
        eprintln!("  The API is plain HTTP and open to everybody (--insecure-api).");
    } else if config.access.insecure_api {
        eprintln!(
            "  The API is plain HTTP (--insecure-api): secrets are readable on the network. It asks {enforced:?}"
        );
    } else if config.access.tls.is_some() {
        eprintln!(
            "  The API asks for the credentials in {data}/api-credentials.json; its certificate is the one you gave"
        );
    } else {
        eprintln!("  The API asks for the credentials in {data}/api-credentials.json; its CA is {data}/ca.pem");
    }
    eprintln!(
        "  Next: curl -s {}{}://{}/state-summary",
        if !enforced.any() { "" } else { "--cacert <data>/ca.pem -u operator:<secret> " },
        ready.scheme,
        ready.http
    );
    eprintln!("        mesolith-master token --data {data} --name NODE     (a token for a hosted agent)");
}
