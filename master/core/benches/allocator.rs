//! What allocation costs: `cargo bench -p master-core`. Every figure is the best of some sweeps.
//!
//! Agents have 24 cpus, 4 GiB of memory, 4 GiB of disk and a thousand ports; frameworks share one
//! role, each with a share of its own. `MESOLITH_BENCH=quick` leaves the largest sizes out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::v1::{FrameworkInfo, TaskInfo};
use api::{AgentId, FrameworkId, Resources};
use master_core::allocator::{Activity, Allocation, Allocator, Consider, Options, Subscription};
use master_core::{Command, Registration, State};

const SWEEPS: usize = 5;

struct Cluster {
    allocator: Allocator,
    now: Duration,
}

fn cluster(agents: usize, frameworks: usize) -> Cluster {
    let mut allocator = Allocator::new(Options::default());
    for index in 0..frameworks {
        let roles = ["*".to_owned()].into();
        allocator.set_framework(
            &framework_id(index),
            &Subscription { roles, ..Subscription::default() },
            Activity::Active,
        );
    }
    let total =
        Arc::new(Resources::parse("cpus:24;mem:4096;disk:4096;ports:[31000-32000]").expect("the text is well-formed"));
    for index in 0..agents {
        allocator.add_agent(&AgentId(format!("bench-S{index}")), total.clone(), Activity::Active);
    }
    Cluster { allocator, now: Duration::ZERO }
}

fn framework_id(index: usize) -> FrameworkId {
    FrameworkId(format!("bench-{index:04}"))
}

impl Cluster {
    fn round(&mut self) -> (Vec<Allocation>, Duration) {
        self.now += Duration::from_secs(10);
        let start = Instant::now();
        let given = self.allocator.run(self.now);
        (given, start.elapsed())
    }

    fn give_back(&mut self, given: &[Allocation]) {
        for Allocation { framework, role, agent, resources } in given {
            self.allocator.recover(framework, role, agent, resources, Consider::Now);
        }
    }
}

fn round(agents: usize, frameworks: usize) {
    let mut cluster = cluster(agents, frameworks);
    let (given, _) = cluster.round();
    assert_eq!(given.len(), agents, "every agent is offered once");
    cluster.give_back(&given);
    let mut best = Duration::MAX;
    for _ in 0..SWEEPS {
        let (given, took) = cluster.round();
        assert_eq!(given.len(), agents, "every agent is offered once");
        best = best.min(took);
        cluster.give_back(&given);
    }
    #[allow(clippy::cast_precision_loss)] // a few thousand
    let each = best.as_secs_f64() * 1e6 / agents as f64;
    println!(
        "round       {agents:>6} agents {frameworks:>5} frameworks  {:>9.3} ms  {each:>7.2} us an offer",
        millis(best)
    );
}

/// All frameworks decline everything: who is looked at who refused.
fn declined(agents: usize, frameworks: usize) {
    let mut cluster = cluster(agents, frameworks);
    let mut worst = Duration::ZERO;
    for _ in 0..6 {
        let (given, took) = cluster.round();
        worst = worst.max(took);
        for Allocation { framework, role, agent, resources } in &given {
            let (forever, now) = (Duration::from_secs(1_000_000), cluster.now);
            cluster.allocator.refuse(framework, role, agent, resources, forever, now);
            cluster.allocator.recover(framework, role, agent, resources, Consider::Now);
        }
    }
    println!(
        "declined    {agents:>6} agents {frameworks:>5} frameworks  {:>9.3} ms  worst of the first 6 rounds",
        millis(worst)
    );
}

/// One task ends: its agent is offered again, and nobody else is looked at.
fn task_ended(agents: usize, frameworks: usize) {
    let mut cluster = cluster(agents, frameworks);
    let (given, _) = cluster.round();
    let task = Resources::parse("cpus:1;mem:128").expect("the text is well-formed");
    let mut best = Duration::MAX;
    for allocation in given.iter().take(1000) {
        let start = Instant::now();
        let Allocation { framework, role, agent, .. } = allocation;
        cluster.allocator.recover(framework, role, agent, &task, Consider::Now);
        let offers = cluster.allocator.run(cluster.now);
        best = best.min(start.elapsed());
        assert_eq!(offers.len(), 1, "what the task used is offered");
    }
    println!(
        "task ended  {agents:>6} agents {frameworks:>5} frameworks  {:>9.3} us from the end to the offer",
        best.as_secs_f64() * 1e6
    );
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// What an idle agent and a running task cost in the state and the allocator.
fn memory() {
    const AGENTS: u64 = 5_000;
    const TASKS: u64 = 20_000;
    let before = resident_kib();
    let mut state = State::default();
    let resources =
        Resources::parse("cpus:24;mem:4096;disk:4096;ports:[31000-32000]").expect("the text is well-formed");
    for index in 0..AGENTS {
        let registration = Registration {
            node: format!("node-{index}").into(),
            boot_id: format!("0c3a4d5e-0000-4000-8000-{index:012}"),
            agent: None,
            hostname: format!("node-{index}"),
            address: "10.0.0.1".to_owned(),
            version: "0.1.0".to_owned(),
            kernel: "6.1.0".to_owned(),
            resources: resources.clone(),
            attributes: api::Attribute::parse_list("rack:r1;zone:a").expect("the text is well-formed"),
            inventory_json: String::new(),
            tasks: Vec::new(),
        };
        let agent = AgentId(format!("bench-S{index}"));
        state.apply(Command::RegisterAgent { agent, registration: Box::new(registration), at: 1 });
    }
    let mut allocator = Allocator::new(Options::default());
    for agent in state.agents.values() {
        allocator.add_agent(&agent.id, agent.resources.clone(), Activity::Active);
    }
    let with_agents = resident_kib();
    let framework = framework_id(0);
    state.apply(Command::SubscribeFramework(Box::new(master_core::command::SubscribeFramework {
        framework: framework.clone(),
        info: FrameworkInfo::default(),
        suppressed_roles: Vec::new(),
        stream: "s".to_owned(),
        at: 1,
    })));
    for index in 0..TASKS {
        let agent = AgentId(format!("bench-S{}", index % AGENTS));
        let info: TaskInfo = serde_json::from_value(serde_json::json!({
            "name": format!("task-{index}"), "task_id": {"value": format!("task-{index}")}, "agent_id": {"value": agent},
            "command": {"value": "sleep 1000"},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                          {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}]}))
        .expect("the task is well-formed");
        state.apply(Command::LaunchTask(Box::new(master_core::command::LaunchTask {
            framework: framework.clone(),
            agent,
            role: "*".to_owned(),
            container: format!("0c3a4d5e-0000-4000-9000-{index:012}").into(),
            info,
            resources: Resources::parse("cpus:0.1;mem:32").expect("the text is well-formed"),
            at: 1,
        })));
    }
    let with_tasks = resident_kib();
    println!("memory      {:>6} bytes an idle agent (state and allocator)", (with_agents - before) * 1024 / AGENTS);
    println!("memory      {:>6} bytes a staging task", (with_tasks - with_agents) * 1024 / TASKS);
    let start = Instant::now();
    let copy = state.clone();
    println!(
        "picture     {:>6} agents {TASKS:>5} tasks       {:>9.3} ms to copy the state for readers",
        AGENTS,
        millis(start.elapsed())
    );
    let start = Instant::now();
    let bytes = copy.to_snapshot().len();
    println!("snapshot    {:>6} KiB                          {:>9.3} ms", bytes / 1024, millis(start.elapsed()));
}

fn main() {
    // Cargo passes --bench; a name given after `--` is ignored: everything runs.
    let quick = std::env::var("MESOLITH_BENCH").is_ok_and(|value| value == "quick");
    memory();
    for agents in if quick { vec![1_000] } else { vec![1_000, 10_000] } {
        for frameworks in [10, 100, 1_000] {
            round(agents, frameworks);
        }
    }
    declined(1_000, 100);
    if !quick {
        declined(10_000, 1_000);
    }
    for (agents, frameworks) in [(1_000, 100), (10_000, 1_000)] {
        task_ended(agents, frameworks);
    }
}
