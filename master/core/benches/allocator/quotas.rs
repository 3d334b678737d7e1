//! Mesos's LargeAndSmallQuota and NonQuotaVsQuota.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{Milli, Resources};
use master_core::allocator::Quota;

use crate::cluster::{Cluster, ratio, resources};
use crate::{Extent, SWEEPS};

fn quota(text: &str) -> Quota {
    let named: BTreeMap<String, Milli> =
        resources(text).scalars().into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect();
    Quota { guarantees: named.clone(), limits: named }
}

/// The first cycle, which hands out everything, and a second one; the smallest of all sweeps.
fn best(make: impl Fn() -> Cluster, cpus: usize) -> (Duration, Duration) {
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..SWEEPS {
        let mut cluster = make();
        let (given, first) = cluster.cycle();
        let handed: u64 = given.iter().map(|given| given.resources.scalar("cpus").0 / 1000).sum();
        assert_eq!(handed, cpus as u64, "every role gets what it may have");
        let (given, idle) = cluster.cycle();
        assert_eq!(given.len(), 0, "nobody may have what is left");
        best = (best.0.min(first), best.1.min(idle));
    }
    best
}

fn fill(agents: usize, total: &Resources) -> Cluster {
    let mut cluster = Cluster::new();
    for agent in 0..agents {
        cluster.add_agent(agent, total, None);
    }
    cluster
}

/// Roles with half an agent each, roles with two, and one framework in every role.
fn large_and_small(small: usize, large: usize) -> Cluster {
    let total = resources("cpus:2;mem:2048;disk:2048");
    let mut cluster = fill(small / 5 + large * 5, &total); // a quarter of it is nobody's to have
    for index in 0..small + large {
        let (role, amount) = if index < small {
            (format!("small{index}"), "cpus:1;mem:1024;disk:1024")
        } else {
            (format!("large{index}"), "cpus:4;mem:4096;disk:4096")
        };
        cluster.allocator.update_quota(&role, &quota(amount));
        cluster.add_framework(index, &role);
    }
    cluster
}

/// Two agents and two frameworks a role.
fn roles(count: usize, each: Option<&Quota>) -> Cluster {
    let total = resources("cpus:2;mem:2048;disk:2048");
    let mut cluster = fill(count * 2, &total);
    for role in 0..count {
        let name = format!("role{role}");
        if let Some(quota) = each {
            cluster.allocator.update_quota(&name, quota);
        }
        cluster.add_framework(role * 2, &name);
        cluster.add_framework(role * 2 + 1, &name);
    }
    cluster
}

/// Runs both.
pub(crate) fn beside_mesos(extent: Extent) {
    println!("Mesos's quota workloads (drf sorter): ours the smallest of {SWEEPS} sweeps, Mesos's one recorded run");
    for (small, large, agents, recorded) in [(250, 50, 300, (228.0, 175.0)), (2_500, 500, 3_000, (12_200.0, 9_500.0))] {
        let first_and_idle = best(|| large_and_small(small, large), small + large * 4);
        report("LargeAndSmallQuota", &format!("{agents} x {}", small + large), first_and_idle, recorded);
    }
    let two_agents = quota("cpus:4;mem:4096;disk:4096");
    for (count, with_quota, recorded) in [
        (100, false, (4.2, 4.0)),
        (100, true, (4.5, 1.8)),
        (1_000, false, (199.0, 142.0)),
        (1_000, true, (164.0, 52.0)),
    ] {
        if extent == Extent::Quick && count == 1_000 {
            continue;
        }
        let name = if with_quota { "NonQuotaVsQuota, with" } else { "NonQuotaVsQuota, without" };
        let first_and_idle = best(|| roles(count, with_quota.then_some(&two_agents)), count * 4);
        report(name, &format!("{} x {count}", count * 2), first_and_idle, recorded);
    }
}

fn report(name: &str, size: &str, (first, idle): (Duration, Duration), (mesos_first, mesos_idle): (f64, f64)) {
    ratio(&format!("{name}, first"), size, first, mesos_first);
    ratio(&format!("{name}, idle"), size, idle, mesos_idle);
}
