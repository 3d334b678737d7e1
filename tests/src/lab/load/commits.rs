//! `./dev bench commits`: how many commands a second are committed by three masters, and by three members of etcd on the
//! same disk, for the same number of clients who each wait for the answer before they ask again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::etcd::{self, Etcd};
use super::event::{self, Event};
use super::wire::{Calls, Events};
use super::{raise_descriptor_limit, runtime};
use crate::http;
use crate::masters::Masters;

const ANSWER: Duration = Duration::from_secs(5);
/// Before it is counted.
const WARM_UP: Duration = Duration::from_millis(500);

/// What to do.
#[derive(Clone, Debug)]
pub struct Commits {
    /// How many ask at the same time, one after the other.
    pub clients: Vec<usize>,
    /// How long each of them is measured.
    pub length: Duration,
    /// Bytes in a command.
    pub payload: usize,
    /// Where the clusters keep their data.
    pub dir: PathBuf,
}

/// One cluster under so many clients.
struct Rate {
    a_second: f64,
    p50: Duration,
    p99: Duration,
    /// Of the leader's log.
    syncs_a_second: f64,
}

/// Runs it and prints the figures.
pub fn commits(wanted: &Commits) -> Result<()> {
    raise_descriptor_limit()?;
    let dir = wanted.dir.join("commits");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    println!(
        "commands of {} bytes, three members, {} s each; etcd without TLS between its members, the masters with it",
        wanted.payload,
        wanted.length.as_secs()
    );
    println!("clients           commits/s     p50 ms     p99 ms   syncs/s   commits a sync");
    let runtime = runtime()?;
    for clients in &wanted.clients {
        let masters = {
            let masters = Masters::start(&dir.join(format!("masters-{clients}")), 3, &[])?;
            let rate = runtime.block_on(of_masters(&masters, *clients, wanted))?;
            show(*clients, "masters", &rate);
            rate
        };
        let etcd = {
            let etcd = Etcd::start(&dir.join(format!("etcd-{clients}")))?;
            let rate = runtime.block_on(of_etcd(&etcd, *clients, wanted))?;
            show(*clients, "etcd", &rate);
            rate
        };
        println!(
            "{clients:>7} masters / etcd = {:.2} (one run of each, one after the other)",
            masters.a_second / etcd.a_second
        );
    }
    Ok(())
}

fn show(clients: usize, whose: &str, rate: &Rate) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "{clients:>7} {whose:<8} {:>10.0} {:>10.2} {:>10.2} {:>9.0} {:>16.1}",
        rate.a_second,
        ms(rate.p50),
        ms(rate.p99),
        rate.syncs_a_second,
        rate.a_second / rate.syncs_a_second.max(1.0)
    );
}

/// A framework that does nothing but change a label of its own.
struct Client {
    name: String,
    framework: String,
    calls: Calls,
    /// The subscription; nobody reads it to the end.
    _events: Events,
}

impl Client {
    async fn subscribe(address: &str, name: String) -> Result<Self> {
        let body = event::subscribe(&name, &["*"]);
        let mut events = Events::subscribe(address, event::MEDIA_TYPE, body.as_bytes()).await?;
        let framework = {
            let event: Event<'_> = serde_json::from_slice(events.next().await?)?;
            event.subscribed.context("the first event is SUBSCRIBED")?.framework_id.value.into_owned()
        };
        let headers = format!("Content-Type: {}\r\nMesos-Stream-Id: {}\r\n", event::MEDIA_TYPE, events.stream_id);
        let calls = Calls::connect(address, &headers).await?;
        Ok(Self { name, framework, calls, _events: events })
    }

    /// Returns when it is committed.
    async fn relabel(&mut self, text: &str) -> Result<()> {
        self.calls.push(event::relabel(&self.framework, &self.name, text).as_bytes());
        self.calls.flush(1).await
    }
}

async fn of_masters(masters: &Masters, clients: usize, wanted: &Commits) -> Result<Rate> {
    let url = masters.url(masters.wait_leader()?);
    let address = url.trim_start_matches("http://").to_owned();
    let mut connected = Vec::new();
    for number in 0..clients {
        connected.push(Client::subscribe(&address, format!("framework-{number}")).await?);
    }
    let syncs = || {
        let text = http::get(&format!("{url}/metrics"), ANSWER)?.success()?.text();
        let count = text.lines().find_map(|line| line.strip_prefix("mesolith_log_sync_ms_count "));
        count.and_then(|count| count.trim().parse::<f64>().ok()).context("the master shows no count of syncs")
    };
    let mut asking = JoinSet::new();
    let (began, until) = span(wanted);
    let before = syncs()?;
    for mut client in connected {
        let text = "x".repeat(wanted.payload);
        asking.spawn(async move {
            let (mut times, mut round) = (Vec::new(), 0_u64);
            while Instant::now() < until {
                round += 1;
                // Another one each time: what says nothing new is not written.
                let label = format!("{round:016}{}", &text[16.min(text.len())..]);
                let asked = Instant::now();
                client.relabel(&label).await?;
                times.push((asked, asked.elapsed()));
            }
            anyhow::Ok(times)
        });
    }
    let times = gather(asking).await?;
    Ok(rate(&times, began, until, syncs()? - before))
}

async fn of_etcd(cluster: &Etcd, clients: usize, wanted: &Commits) -> Result<Rate> {
    let url = cluster.leader()?;
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(etcd::connect(&url).await?);
    }
    let mut asking = JoinSet::new();
    let (began, until) = span(wanted);
    let before = cluster.syncs()?;
    for (number, mut connection) in connected.into_iter().enumerate() {
        let value = vec![b'x'; wanted.payload];
        asking.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < until {
                let put = etcd::Put { key: format!("framework-{number}").into_bytes(), value: value.clone() };
                let asked = Instant::now();
                etcd::put(&mut connection, put).await?;
                times.push((asked, asked.elapsed()));
            }
            anyhow::Ok(times)
        });
    }
    let times = gather(asking).await?;
    Ok(rate(&times, began, until, cluster.syncs()? - before))
}

fn span(wanted: &Commits) -> (Instant, Instant) {
    let began = Instant::now() + WARM_UP;
    (began, began + wanted.length)
}

async fn gather(mut asking: JoinSet<Result<Vec<(Instant, Duration)>>>) -> Result<Vec<(Instant, Duration)>> {
    let mut all = Vec::new();
    while let Some(times) = asking.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}

/// Of what was asked between the two; the syncs are of the warm-up, too.
fn rate(times: &[(Instant, Duration)], began: Instant, until: Instant, syncs: f64) -> Rate {
    let mut counted: Vec<Duration> =
        times.iter().filter(|(asked, _)| (began..until).contains(asked)).map(|(_, took)| *took).collect();
    counted.sort_unstable();
    let at = |part: f64| {
        // A share of a count that fits.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = (counted.len() as f64 * part) as usize;
        counted.get(index.min(counted.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let length = (until - began).as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let a_second = counted.len() as f64 / length;
    Rate { a_second, p50: at(0.5), p99: at(0.99), syncs_a_second: syncs / (length + WARM_UP.as_secs_f64()) }
}
