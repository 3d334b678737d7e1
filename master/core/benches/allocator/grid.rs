//! Mesos's AddAndUpdateSlave, DeclineOffers and SuppressOffers, and a task that ends.

use std::time::{Duration, Instant};

use api::{Milli, Resource, Resources};
use master_core::allocator::{Allocation, Consider};

use crate::cluster::{Cluster, agent_id, framework_id, millis, ratio, resources};
use crate::{Extent, SWEEPS};

/// (agents, frameworks, then Mesos's milliseconds: add agents, update agents, add agents before
/// declining, one cycle while declining, one cycle while suppressing.)
const RECORDED: [(usize, usize, [f64; 5]); 9] = [
    (1_000, 50, [55.0, 36.0, 64.0, 33.0, 31.0]),
    (1_000, 200, [59.0, 39.0, 70.0, 34.0, 33.0]),
    (1_000, 1_000, [68.0, 49.0, 78.0, 49.0, 32.0]),
    (5_000, 50, [299.0, 194.0, 360.0, 181.0, 172.0]),
    (5_000, 200, [311.0, 215.0, 372.0, 191.0, 186.0]),
    (5_000, 1_000, [389.0, 289.0, 434.0, 282.0, 194.0]),
    (10_000, 50, [608.0, 453.0, 745.0, 390.0, 356.0]),
    (10_000, 200, [637.0, 436.0, 723.0, 417.0, 389.0]),
    (10_000, 1_000, [879.0, 651.0, 1_011.0, 580.0, 426.0]),
];

/// Mesos's allocator coalesces runs: what was added while one was waiting is looked at by it.
const ADDS_A_RUN: usize = 100;
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs the grid; each figure is the smallest of three sweeps, a cycle the smallest of all rounds.
pub(crate) fn beside_mesos(extent: Extent) {
    println!("Mesos's workloads: smallest of {SWEEPS} sweeps on both sides; Mesos did not run in this run (recorded)");
    println!("add and update: a run for every {ADDS_A_RUN} agents; decline: first 6 rounds; suppress: until all are");
    for (agents, frameworks, recorded) in
        RECORDED.iter().filter(|(agents, ..)| extent == Extent::Whole || *agents == 1_000)
    {
        let best = sweep(*agents, *frameworks);
        let size = format!("{agents} x {frameworks}");
        let names = ["add agents", "update agents", "add agents (decline)", "cycle, decline", "cycle, suppress"];
        for (index, name) in names.iter().enumerate() {
            ratio(name, &size, best[index], recorded[index]);
        }
    }
}

/// Sizes that nothing was recorded for.
pub(crate) fn alone() {
    println!(
        "mesolith alone, one sweep: add agents, update agents, add agents (decline), cycle decline, cycle suppress"
    );
    for (agents, frameworks) in [(20_000, 2_000), (50_000, 1_000), (50_000, 6_000)] {
        let figures = once(agents, frameworks);
        let texts: Vec<String> = figures.iter().map(|figure| format!("{:>9.3} ms", millis(*figure))).collect();
        #[allow(clippy::cast_precision_loss)] // a few thousand
        let each = figures[3].as_secs_f64() * 1e6 / agents as f64;
        println!("{agents} x {frameworks}: {}   {each:.2} us an offer", texts.join(" "));
    }
}

fn sweep(agents: usize, frameworks: usize) -> [Duration; 5] {
    let mut best = [Duration::MAX; 5];
    for _ in 0..SWEEPS {
        for (best, figure) in best.iter_mut().zip(once(agents, frameworks)) {
            *best = figure.min(*best);
        }
    }
    best
}

fn once(agents: usize, frameworks: usize) -> [Duration; 5] {
    let (add, update) = add_and_update(agents, frameworks);
    let (add_decline, decline) = decline(agents, frameworks);
    [add, update, add_decline, decline, suppress(agents, frameworks)]
}

/// Adds all agents; a run for every so many. How long, and how many offers.
fn add_all(
    cluster: &mut Cluster,
    agents: usize,
    frameworks: usize,
    total: &Resources,
    used: &Resources,
) -> (Duration, usize) {
    let start = Instant::now();
    let mut offers = 0;
    for agent in 0..agents {
        cluster.add_agent(agent, total, Some((used, agent % frameworks, "*")));
        if (agent + 1) % ADDS_A_RUN == 0 {
            offers += cluster.allocator.run(cluster.now).len();
        }
    }
    offers += cluster.allocator.run(cluster.now).len();
    (start.elapsed(), offers)
}

fn start(frameworks: usize) -> Cluster {
    let mut cluster = Cluster::new();
    for framework in 0..frameworks {
        cluster.add_framework(framework, "*");
    }
    cluster
}

fn add_and_update(agents: usize, frameworks: usize) -> (Duration, Duration) {
    let mut cluster = start(frameworks);
    let total = resources("cpus:2;mem:1024;disk:4096;ports:[31000-32000]");
    let used = resources("cpus:1;mem:128;disk:1024;ports:[31126-31510,31512-31623,31810-31852,31854-31964]");
    let (add, offers) = add_all(&mut cluster, agents, frameworks, &total, &used);
    assert_eq!(offers, agents, "every agent is offered once");
    let mut more = total;
    more.add(Resource { revocable: true, ..Resource::scalar("cpus", Milli(10_000)) });
    let start = Instant::now();
    let mut offers = 0;
    for agent in 0..agents {
        cluster.allocator.update_total(&agent_id(agent), &more);
        if (agent + 1) % ADDS_A_RUN == 0 {
            offers += cluster.allocator.run(cluster.now).len();
        }
    }
    let update = start.elapsed();
    assert_eq!(offers, agents, "the new resources of every agent are offered");
    (add, update)
}

/// Sixteen ranges of ports, as Mesos's benchmark makes them.
fn fragmented(text: &str) -> Resources {
    let ranges: Vec<String> =
        (0..16).map(|index| format!("{}-{}", 31_000 + index * 62, 31_000 + index * 62 + 30)).collect();
    resources(&format!("{text};ports:[{}]", ranges.join(",")))
}

fn decline(agents: usize, frameworks: usize) -> (Duration, Duration) {
    let mut cluster = start(frameworks);
    let total = resources("cpus:24;mem:4096;disk:4096;ports:[31000-32000]");
    let used = fragmented("cpus:16;mem:2014;disk:1024");
    let (add, _) = add_all(&mut cluster, agents, frameworks, &total, &used);
    let mut outstanding = held_offers(&cluster, agents, frameworks, &total, &used);
    let mut best = Duration::MAX;
    for _ in 0..6 {
        cluster.give_back(&outstanding, FOR_EVER);
        let (given, took) = cluster.cycle();
        assert_eq!(given.len(), agents, "every agent is offered once a round");
        best = best.min(took);
        outstanding = given;
    }
    (add, best)
}

/// What [`add_all`] offered: whoever holds what is not in use.
fn held_offers(
    cluster: &Cluster,
    agents: usize,
    frameworks: usize,
    total: &Resources,
    used: &Resources,
) -> Vec<Allocation> {
    let offered = total.checked_sub(used).expect("less is used than there is");
    let mut offers = Vec::with_capacity(agents);
    for agent in 0..agents {
        let id = agent_id(agent);
        let user = agent % frameworks;
        let holder = (0..frameworks).find(|framework| {
            let held = cluster.allocator.held(&framework_id(*framework), "*", &id);
            if *framework == user { held.contains(total) } else { !held.is_empty() }
        });
        let framework = framework_id(holder.expect("the rest of each agent is offered"));
        offers.push(Allocation { framework, role: "*".to_owned(), agent: id, resources: offered.clone() });
    }
    offers
}

fn suppress(agents: usize, frameworks: usize) -> Duration {
    let mut cluster = start(frameworks);
    let total = resources("cpus:24;mem:4096;disk:4096;ports:[31000-32000]");
    let used = fragmented("cpus:16;mem:1024;disk:1024");
    for agent in 0..agents {
        cluster.add_agent(agent, &total, Some((&used, agent % frameworks, "*")));
    }
    let mut outstanding = cluster.allocator.run(cluster.now);
    let mut best = Duration::MAX;
    for round in 0..4 {
        cluster.give_back(&outstanding, Duration::ZERO);
        for framework in round * frameworks / 5..(round + 1) * frameworks / 5 {
            cluster.allocator.suppress(&framework_id(framework), &["*".to_owned()].into());
        }
        let (given, took) = cluster.cycle();
        assert_eq!(given.len(), agents, "those that are not suppressed are offered every agent");
        best = best.min(took);
        outstanding = given;
    }
    // The fifth round suppresses everybody: there is nothing to offer, and it is no figure of ours.
    best
}

/// One task ends: its agent is offered again, and nobody else is looked at.
pub(crate) fn task_ended(sizes: &[(usize, usize)]) {
    for (agents, frameworks) in sizes {
        let mut cluster = start(*frameworks);
        let total = resources("cpus:24;mem:4096;disk:4096;ports:[31000-32000]");
        for agent in 0..*agents {
            cluster.add_agent(agent, &total, None);
        }
        let given = cluster.allocator.run(cluster.now);
        let task = resources("cpus:1;mem:128");
        let mut took: Vec<Duration> = given
            .iter()
            .take(1000)
            .map(|Allocation { framework, role, agent, .. }| {
                let start = Instant::now();
                cluster.allocator.recover(framework, role, agent, &task, Consider::Now);
                let offers = cluster.allocator.run(cluster.now);
                let took = start.elapsed();
                assert_eq!(offers.len(), 1, "what the task used is offered");
                took
            })
            .collect();
        took.sort_unstable();
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        println!(
            "from a task's end to the offer  {:<16} median {:>7.2} us   99 of 100 {:>7.2} us   of {} ends",
            format!("{agents} x {frameworks}"),
            micros(took[took.len() / 2]),
            micros(took[took.len() * 99 / 100]),
            took.len()
        );
    }
}
