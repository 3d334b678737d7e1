//! Mesos's UpdateAllocation and MultiFrameworkAllocations: nothing usable was recorded for them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::{FrameworkId, Resources};
use master_core::allocator::{Allocation, Consider};

use crate::SWEEPS;
use crate::cluster::{Cluster, agent_id, framework_id, millis, resources};

/// Runs both.
pub(crate) fn alone() {
    println!("mesolith alone: smallest of {SWEEPS} sweeps");
    for roles in [50, 100, 200] {
        let best = (0..SWEEPS).map(|_| update_allocation(roles)).min().unwrap_or_default();
        println!("UpdateAllocation {roles} roles: {:.3} ms for one unreserve and reserve", millis(best));
    }
    let best = (0..SWEEPS).map(|_| many_frameworks()).min_by_key(|run| run.1).unwrap_or_default();
    println!("MultiFrameworkAllocations: 19500 tasks placed in {} rounds, {:.3} ms of runs", best.0, millis(best.1));
}

/// One agent with four reservations for each of many roles; a framework's share is unreserved and
/// reserved again. The time of one such pair.
fn update_allocation(roles: usize) -> Duration {
    let reserved = |role: usize| {
        let port = 31_000 + role;
        resources(&format!("cpus(r{role}):1;mem(r{role}):128;disk(r{role}):1024;ports(r{role}):[{port}-{port}]"))
    };
    let mut total = Resources::new();
    for role in 0..roles {
        total.add_all(&reserved(role));
    }
    let mut cluster = Cluster::new();
    cluster.add_framework(0, "r0");
    cluster.add_agent(0, &total, None);
    let (given, _) = cluster.cycle();
    assert_eq!(given.len(), 1, "the framework is offered what is reserved to it");
    let bare = resources("cpus:1;mem:128;disk:1024;ports:[31000-31000]");
    let mine = reserved(0);
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        for (from, to) in [(&mine, &bare), (&bare, &mine)] {
            let changed = cluster.allocator.update_allocation(&framework_id(0), "r0", &agent_id(0), from, to);
            assert_eq!(changed, Ok(()), "the framework has it");
        }
        best = start.elapsed().min(best);
    }
    best
}

/// What is left to do of a framework: tasks, of what size, and how many of them fit in one offer.
struct Todo {
    role: String,
    left: u64,
    task: [u64; 2],
    most: u64,
}

/// 80 agents; 4 frameworks with many tasks, 500 with a few large ones, 50 in between. Rounds until all
/// are placed, and the time of their runs.
fn many_frameworks() -> (usize, Duration) {
    let mut cluster = Cluster::new();
    let mut todo: BTreeMap<FrameworkId, Todo> = BTreeMap::new();
    for index in 0..554 {
        let (role, left, task, most) = match index {
            0..4 => (format!("marathon{index}"), 4_000, [70, 400_000], 100),
            4..504 => ("jenkins".to_owned(), 5, [100, 4_000_000], 1),
            _ => (format!("spark{index}"), 20, [1_000, 1_000_000], 5),
        };
        cluster.add_framework(index, &role);
        todo.insert(framework_id(index), Todo { role, left, task, most });
    }
    for agent in 0..80 {
        cluster.add_agent(agent, &resources("cpus:64;mem:488000"), None);
    }
    let mut took = Duration::ZERO;
    for round in 1..=5_000 {
        let (given, time) = cluster.cycle();
        took += time;
        for Allocation { framework, role, agent, resources: offer } in given {
            let todo = todo.get_mut(&framework).expect("it was added");
            let [cpus, mem] = todo.task;
            let fits = (offer.scalar("cpus").0 / cpus).min(offer.scalar("mem").0 / mem).min(todo.most).min(todo.left);
            todo.left -= fits;
            let used = format!("cpus:{};mem:{}", api::Milli(cpus * fits), api::Milli(mem * fits));
            let rest = offer.checked_sub(&resources(&used)).expect("it fits");
            cluster.allocator.recover(&framework, &role, &agent, &rest, Consider::Later);
            if todo.left == 0 {
                cluster.allocator.suppress(&framework, &[todo.role.clone()].into());
            }
        }
        if todo.values().all(|todo| todo.left == 0) {
            return (round, took);
        }
    }
    panic!("not all tasks find a place");
}
