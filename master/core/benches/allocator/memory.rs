//! What agents and tasks cost in memory: the growth of the resident set.

use std::sync::Arc;
use std::time::Instant;

use api::v1::{FrameworkInfo, TaskInfo};
use api::{Attribute, Resources};
use master_core::allocator::{Activity, AgentFacts, Allocator, Options};
use master_core::{Command, Registration, State};

use crate::Extent;
use crate::cluster::{Cluster, agent_id, framework_id, millis, resources};

const TOTAL: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";

/// Runs all of it.
pub(crate) fn print(extent: Extent) {
    state_and_allocator(); // first: later, memory that was freed would be used again
    allocator_alone(if extent == Extent::Quick { 10_000 } else { 50_000 });
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Idle agents; then agents that a framework was offered and refused.
fn allocator_alone(agents: u64) {
    let total = resources(TOTAL);
    for refused in [false, true] {
        let before = resident_kib();
        let mut cluster = Cluster::new();
        if refused {
            cluster.add_framework(0, "*");
        }
        for index in 0..agents {
            cluster.add_agent(usize::try_from(index).unwrap_or(0), &total, None);
            if refused {
                let given = cluster.allocator.run(cluster.now);
                cluster.give_back(&given, std::time::Duration::from_secs(1_000_000));
            }
        }
        let what = if refused { "in the allocator, refused by one framework" } else { "in the allocator" };
        println!("memory   {:>6} bytes an idle agent {what}, of {agents}", (resident_kib() - before) * 1024 / agents);
        std::mem::forget(cluster); // so that the next one cannot use its memory
    }
}

fn register(state: &mut State, index: u64, total: &Resources) {
    let registration = Registration {
        node: format!("node-{index}").into(),
        boot_id: format!("0c3a4d5e-0000-4000-8000-{index:012}"),
        agent: None,
        hostname: format!("node-{index}"),
        address: "10.0.0.1".to_owned(),
        version: "0.1.0".to_owned(),
        capabilities: api::v1::OUR_AGENTS,
        kernel: "6.1.0".to_owned(),
        resources: total.clone(),
        attributes: Attribute::parse_list("rack:r1;zone:a").expect("the text is well-formed"),
        facts: Vec::new(),
        inventory_json: String::new(),
        tasks: Vec::new(),
        edition: 0,
        executors: Vec::new(),
    };
    let agent = agent_id(usize::try_from(index).unwrap_or(0));
    state.apply(Command::RegisterAgent { agent, registration: Box::new(registration), at: 1 });
}

/// What an idle agent and a running task cost in the state and the allocator.
fn state_and_allocator() {
    const AGENTS: u64 = 5_000;
    const TASKS: u64 = 20_000;
    let before = resident_kib();
    let mut state = State::default();
    let total = resources(TOTAL);
    for index in 0..AGENTS {
        register(&mut state, index, &total);
    }
    let mut allocator = Allocator::new(Options::default());
    for agent in state.agents.values() {
        let facts = AgentFacts {
            hostname: agent.hostname.clone(),
            attributes: Arc::clone(&agent.attributes),
            ..AgentFacts::default()
        };
        allocator.add_agent(&agent.id, &agent.resources, facts, Activity::Active);
    }
    let with_agents = resident_kib();
    let framework = framework_id(0);
    state.apply(Command::SubscribeFramework(Box::new(master_core::command::SubscribeFramework {
        framework: framework.clone(),
        info: FrameworkInfo::default(),
        suppressed_roles: Vec::new(),
        offer_constraints: None,
        stream: "s".to_owned(),
        at: 1,
    })));
    for index in 0..TASKS {
        let agent = agent_id(usize::try_from(index % AGENTS).unwrap_or(0));
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
            resources: resources("cpus:0.1;mem:32"),
            at: 1,
            executor: None,
            group: None,
        })));
    }
    let with_tasks = resident_kib();
    println!("memory   {:>6} bytes an idle agent, state and allocator", (with_agents - before) * 1024 / AGENTS);
    println!("memory   {:>6} bytes a staging task", (with_tasks - with_agents) * 1024 / TASKS);
    let start = Instant::now();
    let copy = state.clone();
    println!("picture  {:>9.3} ms to copy {AGENTS} agents and {TASKS} tasks for readers", millis(start.elapsed()));
    let start = Instant::now();
    let bytes = copy.to_snapshot().len();
    println!("snapshot {:>9.3} ms, {} KiB", millis(start.elapsed()), bytes / 1024);
    std::mem::forget((state, copy, allocator)); // so that nobody is measured in their memory
}
