//! Scripts and laws of the whole agent, over arbitrary restarts.

mod executors;

use std::collections::BTreeSet;

use api::v1::{FrameworkInfo, TaskInfo};
use api::{ContainerId, TaskState};

use super::*;
use crate::checks::Seen;
use crate::container::Usage;
use crate::handover::{ContainerState, ExitStatus};
use crate::launch::Root;

fn site() -> Site {
    Site {
        work_dir: "/var/lib/mesolith".to_owned(),
        bundle_dir: "/run/mesolith/agent/bundles".to_owned(),
        root: Root { path: "/root".to_owned(), passwd: String::new(), is_host: false },
        cgroup_parent: "/mesolith".to_owned(),
        pids_max: 64,
        ..Site::default()
    }
}

/// A machine that keeps its word: files, launcher, init and a framework's view, outside the agent.
struct World {
    agent: Agent,
    now: Now,
    records: BTreeMap<ContainerId, Record>,
    containers: BTreeMap<ContainerId, (i32, &'static str)>,
    /// Kept by init until acknowledged.
    exits: Vec<handover::Exit>,
    queue: VecDeque<Effect>,
    /// What the framework saw, in order, without repetitions.
    seen: Vec<(TaskId, TaskState, Vec<u8>)>,
    next_pid: i32,
    sequence: u64,
    /// Lets the launcher fail the next creation.
    fail_create: bool,
    /// Lets images come only when told.
    slow_registry: bool,
    /// Containers that wait for an image, and how often one was asked for.
    pulling: BTreeSet<ContainerId>,
    pulls: usize,
    executors: executors::Seen,
    /// What runs share, as last told.
    shared: BTreeMap<ContainerId, String>,
    /// What every look at a task sees.
    sees: Seen,
    /// What comes of every fetch, if anything, and how many there were.
    fetched: Option<Result<(), String>>,
    fetches: usize,
}

impl World {
    fn new() -> Self {
        let found = Found { boot_id: "b".to_owned(), ..Found::default() };
        let (agent, _) = Agent::new(site(), [1; 16], vec![], &found, Now::default());
        let mut world = Self {
            agent,
            now: Now { uptime_ms: 1000, unix_ms: 1_700_000_000_000 },
            records: BTreeMap::new(),
            containers: BTreeMap::new(),
            exits: vec![],
            queue: VecDeque::new(),
            seen: vec![],
            next_pid: 100,
            sequence: 0,
            fail_create: false,
            slow_registry: false,
            pulling: BTreeSet::new(),
            pulls: 0,
            executors: executors::Seen::default(),
            shared: BTreeMap::new(),
            sees: Seen::Exit(0),
            fetched: Some(Ok(())),
            fetches: 0,
        };
        world.input(Input::Registered { agent: "m-S0".into() });
        world
    }

    fn input(&mut self, input: Input) {
        let effects = self.agent.handle(input, self.now);
        self.queue.extend(effects);
    }

    fn run_task(&mut self, task: &str, extra: &str) {
        let text = format!(r#"{{"task_id":{{"value":"{task}"}},"command":{{"value":"sleep 9"}}{extra}}}"#);
        let info: TaskInfo = serde_json::from_str(&text).unwrap();
        self.input(Input::RunTask {
            framework: "f".into(),
            container: format!("c-{task}").into(),
            task: Box::new(info),
            framework_info: Box::new(FrameworkInfo { user: "root".to_owned(), ..FrameworkInfo::default() }),
            secrets: crate::launch::Secrets::new(),
        });
    }

    /// Performs one waiting effect. `false`: there is none.
    fn perform(&mut self) -> bool {
        let Some(effect) = self.queue.pop_front() else { return false };
        match effect {
            Effect::Save(record) => {
                // Through its written form, as in a file.
                let text = serde_json::to_string(&record).unwrap();
                self.records.insert(record.container.clone(), serde_json::from_str(&text).unwrap());
            }
            Effect::Forget(container) => {
                self.records.remove(&container);
            }
            Effect::Pull { container, .. } => {
                assert!(self.records.contains_key(&container), "what is begun is written down");
                self.pulls += 1;
                self.pulling.insert(container.clone());
                if !self.slow_registry {
                    self.pulled(&container, Ok(()));
                }
            }
            Effect::CancelPull(container) => {
                self.pulling.remove(&container);
            }
            Effect::Fetch { container, uris, .. } => {
                assert!(self.records.contains_key(&container) && !uris.is_empty(), "what is begun is written down");
                self.fetches += 1;
                if let Some(result) = self.fetched.clone() {
                    self.input(Input::Fetched { container, result });
                }
            }
            Effect::Prepare { container, .. } => self.input(Input::Prepared { container, result: Ok(()) }),
            Effect::Create { container, .. } => {
                if std::mem::take(&mut self.fail_create) {
                    self.input(Input::Created { container, result: Err("executable 'x' not found".to_owned()) });
                    return true;
                }
                self.next_pid += 1;
                self.containers.insert(container.clone(), (self.next_pid, "created"));
                let process = Process { pid: self.next_pid, start_ticks: self.now.uptime_ms / 10 };
                self.input(Input::Created { container, result: Ok(process) });
            }
            Effect::Start(container) => {
                let result = match self.containers.get_mut(&container) {
                    Some((_, status)) => {
                        *status = "running";
                        Ok(())
                    }
                    None => Err("no such container".to_owned()),
                };
                self.input(Input::Started { container, result });
            }
            Effect::Terminate { container, .. } => self.end(&container, ExitStatus::Signal(15)),
            Effect::KillAll(container) => self.end(&container, ExitStatus::Signal(9)),
            Effect::ReadUsage(container) => self.input(Input::Used { container, usage: Usage::default() }),
            Effect::Delete(container) => {
                self.end(&container, ExitStatus::Signal(9));
                self.containers.remove(&container);
                self.input(Input::Deleted { container });
            }
            Effect::Claim { .. } | Effect::LimitCpu { .. } => {}
            Effect::ShareCores { container, cpus } => {
                self.shared.insert(container, cpus);
            }
            Effect::Probe { container, probe, .. } => {
                let (kind, number, seen) = (probe.kind, probe.number, self.sees.clone());
                self.input(Input::Probed { container, kind, number, seen });
            }
            Effect::AcknowledgeExit { sequence } => self.exits.retain(|exit| exit.sequence != sequence),
            Effect::Send { status, .. } => {
                let uuid = status.uuid.clone().unwrap();
                let task = status.task_id.clone();
                if !self.seen.iter().any(|(_, _, seen)| *seen == uuid) {
                    self.seen.push((task.clone(), status.state(), uuid));
                }
                let uuid = status.uuid_bytes().unwrap().to_vec();
                self.input(Input::Acknowledge { framework: "f".into(), task, uuid });
            }
            Effect::Executor(effect) => self.about_executor(effect),
        }
        true
    }

    /// The image comes, or not.
    fn pulled(&mut self, container: &ContainerId, result: Result<(), String>) {
        assert!(self.pulling.remove(container), "nobody waits for an image");
        let config = crate::image::ImageConfig { cmd: vec!["/run".to_owned()], ..Default::default() };
        let image = crate::image::Image { layers: vec!["l".to_owned()], config, ..Default::default() };
        let pulled = Box::new(Pulled { image, accounts: crate::image::Accounts::default() });
        self.input(Input::Pulled { container: container.clone(), result: result.map(|()| pulled) });
    }

    /// The first process of a container ends; init notices.
    fn end(&mut self, container: &ContainerId, status: ExitStatus) {
        let Some((pid, state)) = self.containers.get_mut(container) else { return };
        if *state == "stopped" {
            return;
        }
        *state = "stopped";
        self.sequence += 1;
        let exit = handover::Exit { sequence: self.sequence, pid: *pid, status, uptime_ms: self.now.uptime_ms };
        self.exits.push(exit);
        self.input(Input::Exited(exit));
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.perform() {
                return;
            }
        }
        panic!("never settles: {:?}", self.queue);
    }

    /// The agent process dies where it stands and comes back.
    fn restart(&mut self) {
        self.queue.clear();
        self.pulling.clear();
        let live = self.containers.values().filter(|(_, status)| *status != "stopped");
        let pids: BTreeSet<i32> = live.map(|(pid, _)| *pid).collect();
        let found = Found {
            boot_id: "b".to_owned(),
            containers: self
                .containers
                .iter()
                .map(|(id, (pid, status))| ContainerState {
                    container: id.to_string(),
                    pid: Some(*pid),
                    status: (*status).to_owned(),
                })
                .collect(),
            alive: self
                .records
                .values()
                .filter_map(|record| record.process)
                .filter(|process| pids.contains(&process.pid))
                .collect(),
            start_ticks: BTreeMap::new(),
        };
        self.sequence += 1000;
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&self.sequence.to_le_bytes());
        let (agent, effects) = Agent::new(site(), seed, self.records.values().cloned().collect(), &found, self.now);
        self.agent = agent;
        self.queue.extend(effects);
        let executors = self.executors.records.values().cloned().collect();
        let effects = self.agent.recover_executors(executors, self.now);
        self.queue.extend(effects);
        for exit in self.exits.clone() {
            self.input(Input::Exited(exit));
        }
        self.input(Input::Registered { agent: "m-S0".into() });
    }

    fn pass(&mut self, ms: u64) {
        self.now.uptime_ms += ms;
        self.now.unix_ms += ms;
        self.input(Input::Tick);
    }

    fn states(&self, task: &str) -> Vec<TaskState> {
        self.seen.iter().filter(|(seen, _, _)| seen.as_str() == task).map(|(_, state, _)| *state).collect()
    }
}

const LIFE: [TaskState; 2] = [TaskState::Starting, TaskState::Running];

#[test]
fn a_task_starts_runs_finishes_and_is_forgotten() {
    let mut world = World::new();
    world.run_task("t", "");
    world.settle();
    assert_eq!(world.states("t"), LIFE);
    assert_eq!(world.agent.reports()[0].state, TaskState::Running);
    world.end(&"c-t".into(), ExitStatus::Code(0));
    world.settle();
    assert_eq!(world.states("t"), [TaskState::Starting, TaskState::Running, TaskState::Finished]);
    assert!(world.records.is_empty() && world.containers.is_empty() && world.exits.is_empty());
    assert!(world.agent.reports().is_empty());
    world.run_task("t", "");
    world.settle();
    assert_eq!(world.states("t").len(), 3, "a repeated RunTask does not run twice");
}

const URIS: &str = r#","command":{"value":"x","uris":[{"value":"http://h/a.tgz"}]}"#;

#[test]
fn a_task_stages_until_its_files_are_here_and_fails_when_they_cannot_be_had() {
    let mut world = World::new();
    world.run_task("t", URIS);
    world.settle();
    assert_eq!((world.states("t"), world.fetches), (LIFE.to_vec(), 1));
    world.fetched = Some(Err("'http://h/a.tgz': the server says 404".to_owned()));
    world.run_task("u", URIS);
    world.settle();
    assert_eq!(world.states("u"), [TaskState::Failed]);
    assert!(world.containers.len() == 1 && world.records.len() == 1, "nothing is left of it");
}

#[test]
fn a_kill_gives_a_fetch_up_and_a_new_agent_fetches_again() {
    let mut world = World::new();
    world.fetched = None;
    world.run_task("t", URIS);
    world.settle();
    assert!(world.states("t").is_empty());
    world.input(Input::KillTask { framework: "f".into(), task: "t".into(), grace_ms: None });
    world.settle();
    assert_eq!(world.states("t"), [TaskState::Killed]);
    world.run_task("u", URIS);
    world.settle();
    world.fetched = Some(Ok(()));
    world.restart();
    world.settle();
    assert_eq!((world.states("u"), world.fetches), (LIFE.to_vec(), 3));
}

#[test]
fn a_sick_task_is_killed_and_its_framework_told_how_it_was() {
    let mut world = World::new();
    let health = r#","health_check":{"type":"TCP","tcp":{"port":1},"delay_seconds":0,"interval_seconds":1,
        "grace_period_seconds":0,"consecutive_failures":2}"#;
    world.run_task("t", health);
    world.settle();
    for seen in [Seen::Connected, Seen::Refused(String::new()), Seen::Refused(String::new())] {
        world.sees = seen;
        world.pass(1_000);
        world.settle();
    }
    let (starting, running) = (TaskState::Starting, TaskState::Running);
    assert_eq!(world.states("t"), [starting, running, running, running, running, TaskState::Killed]);
    world.pass(60_000);
    world.settle();
    assert!(world.records.is_empty());
}

#[test]
fn a_kill_ends_killed_and_a_task_over_its_time_fails() {
    let mut world = World::new();
    world.run_task("a", "");
    world.run_task("b", r#","max_completion_time":{"nanoseconds":5000000000}"#);
    world.settle();
    world.input(Input::KillTask { framework: "f".into(), task: "a".into(), grace_ms: None });
    world.settle();
    assert_eq!(world.states("a").last(), Some(&TaskState::Killed));
    world.pass(4999);
    world.settle();
    assert_eq!(world.states("b"), LIFE);
    world.pass(1);
    world.settle();
    assert_eq!(world.states("b").last(), Some(&TaskState::Failed));
}

#[test]
fn an_exit_that_comes_before_its_pid_is_matched() {
    let mut world = World::new();
    world.run_task("t", "");
    world.perform(); // Save
    world.perform(); // Prepare
    world.perform(); // Save
    world.now.uptime_ms += 5;
    let exit = handover::Exit { sequence: 1, pid: 101, status: ExitStatus::Code(7), uptime_ms: world.now.uptime_ms };
    world.exits.push(exit);
    world.input(Input::Exited(exit));
    world.settle();
    assert_eq!(world.states("t").last(), Some(&TaskState::Failed));
    assert!(world.exits.is_empty());
}

#[test]
fn what_cannot_be_launched_fails_with_its_reason() {
    let mut world = World::new();
    world.run_task("t", r#","container":{"type":"DOCKER","docker":{"image":"nginx","volume_driver":"rexray"}}"#);
    world.settle();
    assert_eq!(world.states("t"), [TaskState::Failed]);
    world.fail_create = true;
    world.run_task("u", "");
    world.settle();
    assert_eq!(world.states("u"), [TaskState::Starting, TaskState::Failed]);
    assert!(world.records.is_empty());
}

/// A task of an image.
const IMAGE: &str = r#","container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"app"}}}}"#;

#[test]
fn a_task_stays_in_staging_until_its_image_is_there() {
    let mut world = World::new();
    world.slow_registry = true;
    world.run_task("t", IMAGE);
    world.settle();
    assert!(world.seen.is_empty());
    assert_eq!(world.agent.reports()[0].state, TaskState::Staging);
    world.restart();
    world.settle();
    assert_eq!(world.pulls, 2, "a new agent asks again");
    world.pulled(&"c-t".into(), Ok(()));
    world.settle();
    assert_eq!(world.states("t"), LIFE);
    assert_eq!(world.agent.layers_in_use().map(|(_, layers)| layers.to_vec()).collect::<Vec<_>>(), [["l".to_owned()]]);
    world.restart();
    world.settle();
    assert_eq!((world.states("t"), world.pulls), (LIFE.to_vec(), 2), "a running task needs no image again");
    assert_eq!(world.agent.layers_in_use().count(), 1, "its layers stay in use");
    world.end(&"c-t".into(), ExitStatus::Code(0));
    world.settle();
    assert_eq!(world.states("t").last(), Some(&TaskState::Finished));
    assert_eq!(world.agent.layers_in_use().count(), 0);
}

#[test]
fn an_image_that_does_not_come_fails_the_task_and_a_kill_gives_it_up() {
    let mut world = World::new();
    world.slow_registry = true;
    world.run_task("t", IMAGE);
    world.run_task("k", IMAGE);
    world.settle();
    world.pulled(&"c-t".into(), Err("image 'app': no such image".to_owned()));
    world.input(Input::KillTask { framework: "f".into(), task: "k".into(), grace_ms: None });
    world.settle();
    assert_eq!(world.states("t"), [TaskState::Failed]);
    assert_eq!(world.states("k"), [TaskState::Killed]);
    assert!(world.pulling.is_empty(), "nothing is pulled for nobody");
    assert!(world.records.is_empty());
}

#[test]
fn an_image_agents_die_of_is_given_up() {
    let mut world = World::new();
    world.slow_registry = true;
    world.run_task("t", IMAGE);
    world.settle();
    for _ in 0..MAX_PULLS {
        world.restart();
        world.settle();
    }
    assert_eq!(world.states("t"), [TaskState::Failed]);
    assert_eq!(world.pulls, MAX_PULLS as usize);
}

#[test]
fn nothing_is_sent_without_a_session_and_all_of_it_after() {
    let mut world = World::new();
    world.input(Input::Disconnected);
    world.run_task("t", "");
    world.settle();
    assert!(world.seen.is_empty());
    world.input(Input::Registered { agent: "m-S0".into() });
    world.settle();
    assert_eq!(world.states("t"), LIFE);
}

#[test]
fn a_process_that_ended_unseen_fails_after_a_while() {
    let mut world = World::new();
    world.run_task("t", "");
    world.settle();
    world.containers.clear();
    world.restart();
    world.settle();
    assert_eq!(world.states("t"), LIFE);
    world.pass(UNSEEN_MS);
    world.settle();
    assert_eq!(world.states("t").last(), Some(&TaskState::Failed));
}

#[test]
fn a_removed_frameworks_tasks_are_killed() {
    let mut world = World::new();
    world.run_task("t", "");
    world.settle();
    world.input(Input::ShutdownFramework { framework: "f".into() });
    world.settle();
    assert_eq!(world.states("t").last(), Some(&TaskState::Killed));
    assert_eq!(world.agent.running(), 0);
}

proptest::proptest! {
    /// Whatever happens and wherever the agent dies: each task has one terminal state, told last, and
    /// statuses never go back.
    #[test]
    fn every_task_ends_once_over_any_restarts(choices in proptest::collection::vec(0u8..10, 1..120)) {
        let mut world = World::new();
        let mut tasks = 0;
        for choice in choices {
            match choice {
                0 if tasks < 5 => { tasks += 1; world.run_task(&format!("t{tasks}"), if tasks % 2 == 0 { IMAGE } else { "" }); }
                1 => world.restart(),
                2 => { let id = world.containers.iter().find(|(_, (_, status))| *status == "running").map(|(id, _)| id.clone());
                       if let Some(id) = id { world.end(&id, ExitStatus::Code(0)); } }
                3 if tasks > 0 => world.input(Input::KillTask { framework: "f".into(), task: format!("t{tasks}").into(), grace_ms: None }),
                4 => world.pass(1_000),
                5 => world.fail_create = true,
                9 => {
                    world.slow_registry = !world.slow_registry;
                    if let Some(id) = world.pulling.first().cloned() { world.pulled(&id, Ok(())); }
                }
                _ => { world.perform(); }
            }
        }
        let known: Vec<String> = (1..=tasks).map(|number| format!("t{number}")).collect();
        let saved: BTreeSet<String> = world.records.values().map(|record| record.task.to_string()).collect();
        world.slow_registry = false;
        world.settle();
        while let Some(id) = world.pulling.first().cloned() { world.pulled(&id, Ok(())); world.settle(); }
        for (id, (_, status)) in world.containers.clone() {
            if status == "running" { world.end(&id, ExitStatus::Code(0)); }
        }
        for _ in 0..5 { world.settle(); world.pass(UNSEEN_MS); }
        world.settle();
        for task in known {
            let states = world.states(&task);
            // A task whose record was never written before the agent died is unknown to it: the master repeats RunTask.
            if states.is_empty() { proptest::prop_assert!(!saved.contains(&task)); continue; }
            let terminal = states.iter().filter(|state| state.is_terminal()).count();
            proptest::prop_assert_eq!(terminal, 1, "{} {:?}", task, states);
            proptest::prop_assert!(states.last().unwrap().is_terminal(), "{} {:?}", task, states);
            proptest::prop_assert!(states.iter().filter(|state| **state == TaskState::Running).count() <= 1);
        }
        proptest::prop_assert!(world.records.is_empty() && world.containers.is_empty() && world.exits.is_empty());
    }
}

fn resources(cpus: u32) -> String {
    format!(
        r#","resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":{cpus}}}}},
        {{"name":"ports","type":"RANGES","ranges":{{"range":[{{"begin":80,"end":81}}]}}}}]"#
    )
}

#[test]
fn processors_of_ones_own_are_nobody_elses_until_the_end() {
    let mut world = World::new();
    let one = |id| crate::cores::Processor { id, numa_node: 0, core: (0, id) };
    world.agent.site_mut().processors = crate::cores::Processors((0..4).map(one).collect());
    world.run_task("shared", "");
    world.settle();
    assert!(world.shared.is_empty(), "nothing is taken");
    let exclusive =
        format!(r#"{},"labels":{{"labels":[{{"key":"mesolith.cpus","value":"exclusive"}}]}}"#, resources(2));
    world.run_task("own", &exclusive);
    world.settle();
    assert_eq!(world.records[&"c-own".into()].cores, BTreeSet::from([0, 1]));
    assert_eq!(world.shared.get(&"c-shared".into()).map(String::as_str), Some("2-3"));
    assert_eq!(world.shared.get(&"c-own".into()), None);
    world.run_task("too-many", &exclusive);
    world.settle();
    assert_eq!(world.states("too-many"), [TaskState::Failed]);
    world.end(&"c-own".into(), ExitStatus::Code(0));
    world.settle();
    assert_eq!(world.shared.get(&"c-shared".into()).map(String::as_str), Some("0-3"));
}

#[test]
fn an_address_and_a_port_are_one_runs_until_its_end() {
    let mut world = World::new();
    let bridge = |host: u16| {
        let mapping = format!(r#"{{"host_port":{host},"container_port":80}}"#);
        let container = format!(r#","container":{{"type":"MESOS","network_infos":[{{"port_mappings":[{mapping}]}}]}}"#);
        format!("{}{container}", resources(1))
    };
    world.run_task("one", &bridge(80));
    world.run_task("two", &bridge(81));
    world.settle();
    let address = |world: &World, task: &str| {
        world.records[&format!("c-{task}").into()].network.as_ref().map(|network| network.ip.to_string())
    };
    assert_eq!(address(&world, "one").as_deref(), Some("10.88.0.2"));
    assert_eq!(address(&world, "two").as_deref(), Some("10.88.0.3"));
    world.run_task("again", &bridge(80));
    world.settle();
    assert_eq!(world.states("again"), [TaskState::Failed], "the port is another's");
    world.end(&"c-one".into(), ExitStatus::Code(0));
    world.settle();
    world.run_task("three", &bridge(80));
    world.settle();
    assert_eq!(address(&world, "three").as_deref(), Some("10.88.0.2"));
}

#[test]
fn a_task_that_overruns_ends_with_the_reason() {
    let mut world = World::new();
    world.run_task("t", "");
    world.settle();
    let overrun = crate::overrun::Overrun::Ports(vec![22]);
    world.input(Input::Overran { container: "c-t".into(), overrun });
    world.settle();
    assert_eq!(world.states("t").last(), Some(&TaskState::Failed));
}

#[test]
fn ids_are_a_runs_own_and_kept_over_a_restart() {
    let mut world = World::new();
    let own = r#","labels":{"labels":[{"key":"mesolith.user_namespace","value":"own"}]}"#;
    for task in ["a", "b"] {
        world.run_task(task, own);
    }
    world.run_task("c", "");
    world.settle();
    let ids = |world: &World, id: &str| world.records[&id.into()].ids;
    let (one, other) = (ids(&world, "c-a").unwrap(), ids(&world, "c-b").unwrap());
    assert!(one != other && one % crate::ids::SIZE == 0, "{one} {other}");
    assert_eq!(ids(&world, "c-c"), None);
    world.restart();
    world.run_task("d", own);
    world.settle();
    assert!(![one, other].contains(&ids(&world, "c-d").unwrap()), "those who run keep theirs");
}

#[test]
fn images_for_volumes_are_brought_after_the_tasks_own() {
    let mut world = World::new();
    let image = |name: &str| format!(r#"{{"type":"DOCKER","docker":{{"name":"{name}"}}}}"#);
    let volume = |name: &str, at: &str| format!(r#"{{"mode":"RO","container_path":"{at}","image":{}}}"#, image(name));
    let more = format!(
        r#","container":{{"type":"MESOS","mesos":{{"image":{}}},"volumes":[{},{},{}]}}"#,
        image("own:1"),
        volume("data:1", "/one"),
        volume("data:1", "/two"),
        volume("own:1", "/three"),
    );
    world.run_task("t", &more);
    world.settle();
    let record = &world.records[&"c-t".into()];
    assert_eq!((world.pulls, record.volume_images.len(), record.phase.clone()), (3, 2, Phase::Running));
    assert_eq!(world.agent.layers_in_use().count(), 3, "all of them stay in use");
}

#[test]
fn a_network_nobody_made_is_refused_with_those_there_are() {
    let mut world = World::new();
    world.agent.site_mut().networks.insert("lab".to_owned());
    let on = |name: &str| format!(r#","container":{{"type":"MESOS","network_infos":[{{"name":"{name}"}}]}}"#);
    world.run_task("there", &on("lab"));
    world.run_task("nowhere", &on("other"));
    world.settle();
    assert_eq!(world.states("there"), LIFE.to_vec()[..2]);
    assert_eq!(world.states("nowhere"), [TaskState::Failed]);
    let named = world.records[&"c-there".into()].named_network.clone().unwrap();
    assert_eq!(named.name, "lab");
}
