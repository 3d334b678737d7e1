//! Executors and pods, over the whole agent.

use api::v1::executor::{Call, Event};
use api::v1::{Reason, TaskStatus};

use super::*;
use crate::agent::executors::{ExecutorEffect, Input as ExecutorInput, Run};
use crate::executor::{ExecutorRecord, Launch, Token};

/// What the world saw of executors.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) records: BTreeMap<ContainerId, ExecutorRecord>,
    /// To its process, in order.
    sent: Vec<Event>,
    /// Places of volumes that came and went.
    volumes: Vec<(Vec<String>, Vec<String>)>,
    /// To its framework.
    messages: Vec<Vec<u8>>,
    ended: Vec<i32>,
    /// The master does not answer.
    deaf: bool,
    streams: u64,
}

impl World {
    pub(super) fn about_executor(&mut self, effect: ExecutorEffect) {
        match effect {
            ExecutorEffect::Save(record) => {
                let text = serde_json::to_string(&record).unwrap();
                self.executors.records.insert(record.container.clone(), serde_json::from_str(&text).unwrap());
            }
            ExecutorEffect::Forget(container) => {
                self.executors.records.remove(&container);
            }
            ExecutorEffect::Send { stream, event, .. } if stream == self.executors.streams => {
                self.executors.sent.push(*event);
            }
            ExecutorEffect::Send { .. } | ExecutorEffect::Close { .. } | ExecutorEffect::Resize { .. } => {}
            ExecutorEffect::Volumes { added, removed, .. } => {
                let places = added.into_iter().map(|later| later.place).collect();
                self.executors.volumes.push((places, removed));
            }
            ExecutorEffect::Message { data, .. } => self.executors.messages.push(data),
            ExecutorEffect::TellEnd { container, status, .. } if !self.executors.deaf => {
                self.executors.ended.push(status);
                self.input(Input::Executor(ExecutorInput::Forget(container)));
            }
            ExecutorEffect::TellEnd { .. } => {}
        }
    }

    fn run(&mut self, executor: &str, tasks: &[&str], launch: Launch) {
        let kind = if executor == "pod" { r#""type":"DEFAULT""# } else { r#""command":{"value":"./run"}"# };
        let tasks = tasks.iter().map(|task| {
            let command = if executor == "pod" { r#","command":{"value":"sleep 9"}"# } else { "" };
            let text = format!(
                r#"{{"task_id":{{"value":"{task}"}}{command},"executor":{{"executor_id":{{"value":"{executor}"}},{kind}}}}}"#
            );
            (format!("r-{task}").as_str().into(), serde_json::from_str(&text).unwrap())
        });
        let run = Run {
            framework: "f".into(),
            executor: format!("c-{executor}").as_str().into(),
            tasks: tasks.collect(),
            launch,
            framework_info: FrameworkInfo { user: "root".to_owned(), ..FrameworkInfo::default() },
            token: Token("hush".to_owned()),
            secrets: crate::launch::Secrets::new(),
        };
        self.input(Input::Executor(ExecutorInput::Run(Box::new(run))));
    }

    fn call(&mut self, rest: &str) -> Result<(), (u16, String)> {
        let text = format!(r#"{{"executor_id":{{"value":"e"}},"framework_id":{{"value":"f"}},{rest}}}"#);
        let call: Call = serde_json::from_str(&text).unwrap();
        let container = self.agent.check_call(&call, Some("hush")).map_err(|why| (why.status, why.text))?;
        let input = match call.subscribe {
            Some(subscribe) => {
                self.executors.streams += 1;
                ExecutorInput::Subscribed { container, stream: self.executors.streams, subscribe }
            }
            None => ExecutorInput::Said { container, call: Box::new(call) },
        };
        self.input(Input::Executor(input));
        self.settle();
        Ok(())
    }

    fn subscribe(&mut self) {
        self.call(r#""type":"SUBSCRIBE","subscribe":{}"#).unwrap();
    }

    fn update(&mut self, task: &str, state: &str, uuid: u8) {
        let mut status = TaskStatus::new(task.into(), TaskState::from_name(state).unwrap());
        status.uuid = Some(vec![uuid; 16]);
        status.source = Some(api::v1::Source::Executor.into());
        let status = serde_json::to_string(&status).unwrap();
        self.call(&format!(r#""type":"UPDATE","update":{{"status":{status}}}"#)).unwrap();
    }

    /// The kinds of what the process was sent since last asked.
    fn heard(&mut self) -> Vec<String> {
        let sent = std::mem::take(&mut self.executors.sent);
        let name = |event: &Event| {
            let kind = event.r#type().as_str_name().to_owned();
            let launch = event.launch.as_ref().map(|launch| launch.task.task_id.to_string());
            let group = event.launch_group.as_ref().map(|group| group.task_group.tasks.len().to_string());
            let kill = event.kill.as_ref().map(|kill| kill.task_id.to_string());
            launch.or(group).or(kill).map_or(kind.clone(), |what| format!("{kind} {what}"))
        };
        sent.iter().map(name).collect()
    }
}

/// A later task with this persistent volume at `mine`.
fn on_volume(task: &str, volume: &str) -> Input {
    let disk = format!(
        r#"[{{"name":"disk","type":"SCALAR","scalar":{{"value":16}},"reservations":[{{"type":"DYNAMIC","role":"data"}}],
        "disk":{{"persistence":{{"id":"{volume}"}},"volume":{{"container_path":"mine","mode":"RW"}}}}}}]"#
    );
    let info = format!(
        r#"{{"task_id":{{"value":"{task}"}},"resources":{disk},"executor":{{"executor_id":{{"value":"e"}},"command":{{"value":"./run"}}}}}}"#
    );
    Input::Executor(ExecutorInput::Run(Box::new(Run {
        framework: "f".into(),
        executor: "c-e".into(),
        tasks: vec![(format!("r-{task}").as_str().into(), serde_json::from_str(&info).unwrap())],
        launch: Launch::Task,
        framework_info: FrameworkInfo { user: "root".to_owned(), ..FrameworkInfo::default() },
        token: Token("hush".to_owned()),
        secrets: crate::launch::Secrets::new(),
    })))
}

#[test]
fn two_volumes_at_one_place_end_the_executor() {
    let mut world = World::new();
    world.run("e", &["t1"], Launch::Task);
    world.settle();
    world.subscribe();
    world.input(on_volume("t2", "v1"));
    world.settle();
    world.input(on_volume("t3", "v2"));
    world.settle();
    assert_eq!(world.executors.volumes.len(), 1, "the second one is not mounted over the first");
    for task in ["t2", "t3"] {
        assert_eq!(world.states(task).last(), Some(&TaskState::Failed), "{task}: the executor is ended");
    }
}

#[test]
fn volumes_of_later_tasks_come_before_the_executor_hears_of_them_and_go_with_them() {
    let mut world = World::new();
    world.run("e", &["t1"], Launch::Task);
    world.settle();
    world.subscribe();
    assert_eq!(world.executors.volumes, []);
    world.heard();
    world.input(on_volume("t2", "v1"));
    while world.executors.sent.is_empty() && world.perform() {}
    let place = "/mnt/mesos/sandbox/mine".to_owned();
    assert_eq!(world.executors.volumes, [(vec![place.clone()], vec![])], "it is there when the task is told");
    world.settle();
    assert_eq!(world.heard(), ["LAUNCH t2"]);
    assert_eq!(world.records[&"c-e".into()].mounted[0].place, place);
    world.update("t2", "TASK_FINISHED", 7);
    world.settle();
    assert_eq!(world.executors.volumes.last(), Some(&(vec![], vec![place])));
}

#[test]
fn an_executor_runs_its_tasks_and_its_updates_reach_the_framework() {
    let mut world = World::new();
    world.run("e", &["t1"], Launch::Task);
    world.settle();
    assert_eq!(world.call(r#""type":"MESSAGE","message":{"data":"aGk="}"#).unwrap_err().0, 403, "not subscribed");
    world.run("e", &["t2", "t3"], Launch::Group);
    world.subscribe();
    assert_eq!(world.heard(), ["SUBSCRIBED", "LAUNCH t1", "LAUNCH_GROUP 2"]);
    world.run("e", &["t4"], Launch::Task);
    world.run("e", &["t4"], Launch::Task);
    world.settle();
    assert_eq!(world.heard(), ["LAUNCH t4"], "a repeated word is heard once");
    world.update("t1", "TASK_RUNNING", 1);
    world.update("t1", "TASK_RUNNING", 1);
    world.update("t1", "TASK_FINISHED", 2);
    world.update("t1", "TASK_FAILED", 3);
    assert_eq!(world.heard(), ["ACKNOWLEDGED"; 4], "every update is answered");
    assert_eq!(world.states("t1"), [TaskState::Running, TaskState::Finished], "and what is new is told");
    world.input(Input::KillTask { framework: "f".into(), task: "t4".into(), grace_ms: Some(5) });
    world.settle();
    assert_eq!(world.heard(), ["KILL t4"]);
    world.call(r#""type":"MESSAGE","message":{"data":"aGk="}"#).unwrap();
    assert_eq!(world.executors.messages, [b"hi".to_vec()]);
    let (framework, executor) = ("f".into(), "e".into());
    world.input(Input::Executor(ExecutorInput::Message { framework, executor, data: vec![1] }));
    world.settle();
    assert_eq!(world.heard(), ["MESSAGE"]);
}

#[test]
fn when_an_executor_ends_its_tasks_fail_and_the_master_hears_until_it_answers() {
    let mut world = World::new();
    world.run("e", &["t1"], Launch::Task);
    world.run("e", &["t2"], Launch::Task);
    world.settle();
    world.subscribe();
    world.update("t1", "TASK_FINISHED", 1);
    world.executors.deaf = true;
    world.end(&"c-e".into(), ExitStatus::Code(3));
    world.settle();
    world.pass(1);
    world.settle();
    assert_eq!(world.states("t1"), [TaskState::Finished]);
    assert_eq!(world.states("t2"), [TaskState::Failed]);
    assert_eq!(world.agent.executor_reports().len(), 1, "the master does not know yet");
    world.restart();
    world.settle();
    world.executors.deaf = false;
    world.pass(10_000);
    world.settle();
    assert_eq!(world.executors.ended, [3 << 8]);
    assert!(world.executors.records.is_empty() && world.records.is_empty(), "nothing is left");
}

#[test]
fn a_word_repeated_after_the_end_starts_nothing() {
    let mut world = World::new();
    world.run("e", &["t"], Launch::Task);
    world.settle();
    world.end(&"c-e".into(), ExitStatus::Code(0));
    world.settle();
    world.pass(1);
    world.settle();
    assert!(world.executors.records.is_empty());
    world.run("e", &["t"], Launch::Task);
    world.settle();
    assert!(world.executors.records.is_empty() && world.containers.is_empty());
}

#[test]
fn an_executor_that_does_not_subscribe_is_ended() {
    let mut world = World::new();
    world.run("e", &["t"], Launch::Task);
    world.settle();
    world.pass(59_000);
    world.settle();
    assert!(world.states("t").is_empty());
    world.pass(1_001);
    world.settle();
    assert_eq!(world.states("t"), [TaskState::Failed]);
    assert!(world.containers.is_empty());
}

#[test]
fn the_agent_comes_back_and_the_executor_goes_on() {
    let mut world = World::new();
    world.run("e", &["t1"], Launch::Task);
    world.run("e", &["t2"], Launch::Task);
    world.settle();
    world.subscribe();
    world.update("t1", "TASK_RUNNING", 1);
    world.restart();
    world.settle();
    assert_eq!(world.agent.executor_reports().len(), 1);
    assert_eq!(world.agent.reports().len(), 2, "its tasks, and not its own run");
    world.heard();
    // It never heard of t2, and the agent's answer to an update was lost.
    let task = r#"{"task_id":{"value":"t1"}}"#;
    world.call(&format!(r#""type":"SUBSCRIBE","subscribe":{{"unacknowledged_tasks":[{task}]}}"#)).unwrap();
    assert_eq!(world.heard(), ["SUBSCRIBED"]);
    assert_eq!(world.states("t1"), [TaskState::Running]);
    assert_eq!(world.states("t2"), [TaskState::Lost], "as Mesos: it was launched while the agent was away");
    world.pass(20_000);
    world.settle();
    world.update("t1", "TASK_FINISHED", 2);
    assert_eq!(world.states("t1"), [TaskState::Running, TaskState::Finished]);
}

#[test]
fn an_executor_that_does_not_come_back_is_ended() {
    let mut world = World::new();
    world.run("e", &["t"], Launch::Task);
    world.settle();
    world.subscribe();
    world.update("t", "TASK_RUNNING", 1);
    world.restart();
    world.settle();
    world.pass(15_001);
    world.settle();
    assert_eq!(world.states("t"), [TaskState::Running, TaskState::Lost]);
    assert!(world.containers.is_empty());
}

#[test]
fn a_task_killed_before_its_executor_subscribed_never_reaches_it() {
    let mut world = World::new();
    world.run("e", &["t1", "t2"], Launch::Group);
    world.settle();
    world.input(Input::KillTask { framework: "f".into(), task: "t2".into(), grace_ms: None });
    world.settle();
    assert_eq!((world.states("t1"), world.states("t2")), (vec![TaskState::Killed], vec![TaskState::Killed]));
    world.subscribe();
    assert_eq!(world.heard(), ["SHUTDOWN"], "there is nothing for it to do");
    world.pass(5_001);
    world.settle();
    assert!(world.containers.is_empty());
}

#[test]
fn a_framework_that_is_gone_takes_its_executors_with_it() {
    let mut world = World::new();
    world.run("e", &["t"], Launch::Task);
    world.settle();
    world.subscribe();
    world.heard();
    world.input(Input::ShutdownFramework { framework: "f".into() });
    world.settle();
    assert_eq!(world.heard(), ["SHUTDOWN"]);
    world.end(&"c-e".into(), ExitStatus::Code(0));
    world.settle();
    assert!(world.states("t").is_empty() && world.executors.records.is_empty());
}

#[test]
fn who_shows_another_token_is_refused() {
    let mut world = World::new();
    world.run("e", &["t"], Launch::Task);
    world.settle();
    let call = |executor: &str, framework: &str| -> Call {
        let text = format!(
            r#"{{"executor_id":{{"value":"{executor}"}},"framework_id":{{"value":"{framework}"}},"type":"SUBSCRIBE","subscribe":{{}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(world.agent.check_call(&call("e", "g"), None).unwrap_err().text, "Framework cannot be found");
    assert_eq!(world.agent.check_call(&call("o", "f"), None).unwrap_err().text, "Executor cannot be found");
    assert_eq!(world.agent.check_call(&call("e", "f"), Some("guess")).unwrap_err().status, 403);
    assert!(world.agent.check_call(&call("e", "f"), Some("hush")).is_ok());
    assert!(world.agent.check_call(&call("e", "f"), None).is_ok(), "older clients show nothing");
    let shown = format!("{:?}", world.executors.records);
    assert!(!shown.contains("hush"), "a token is not written to a log: {shown}");
}

#[test]
fn tasks_of_a_group_start_together_and_fail_together() {
    let mut world = World::new();
    world.slow_registry = true;
    world.run("pod", &["a", "b"], Launch::Group);
    world.settle();
    assert_eq!(world.containers.len(), 2);
    assert_eq!(world.states("a"), [TaskState::Starting, TaskState::Running]);
    world.end(&"r-a".into(), ExitStatus::Code(1));
    world.settle();
    assert_eq!(world.states("a").last(), Some(&TaskState::Failed));
    assert_eq!(world.states("b").last(), Some(&TaskState::Killed));
    world.pass(1);
    world.settle();
    assert_eq!(world.executors.ended, [0], "a pod ends with its tasks");
    assert!(world.executors.records.is_empty() && world.records.is_empty());
}

#[test]
fn a_task_that_finishes_leaves_its_group_alone() {
    let mut world = World::new();
    world.run("pod", &["a", "b"], Launch::Group);
    world.run("pod", &["c"], Launch::Group);
    world.settle();
    world.end(&"r-a".into(), ExitStatus::Code(0));
    world.end(&"r-c".into(), ExitStatus::Code(1));
    world.settle();
    assert_eq!(world.states("b").last(), Some(&TaskState::Running), "another group's end is nothing to it");
    world.restart();
    world.settle();
    world.pass(60_000);
    world.settle();
    assert_eq!(world.states("b").last(), Some(&TaskState::Running));
    world.input(Input::KillTask { framework: "f".into(), task: "b".into(), grace_ms: None });
    world.settle();
    assert_eq!(world.states("b").last(), Some(&TaskState::Killed));
}

#[test]
fn what_is_named_by_reference_reaches_the_tasks_of_a_pod_and_nobody_else() {
    let mut world = World::new();
    let variable = r#"{"name":"A","type":"SECRET","secret":{"type":"REFERENCE","reference":{"name":"db"}}}"#;
    let task = |id: &str, variables: &str| -> (ContainerId, api::v1::TaskInfo) {
        let text = format!(
            r#"{{"task_id":{{"value":"{id}"}},"command":{{"value":"true","environment":{{"variables":[{variables}]}}}},
                "executor":{{"executor_id":{{"value":"pod"}},"type":"DEFAULT"}}}}"#
        );
        (format!("r-{id}").as_str().into(), serde_json::from_str(&text).unwrap())
    };
    let run = Run {
        framework: "f".into(),
        executor: "c-pod".into(),
        tasks: vec![task("a", variable), task("b", "")],
        launch: Launch::Group,
        framework_info: FrameworkInfo { user: "root".to_owned(), ..FrameworkInfo::default() },
        token: Token("hush".to_owned()),
        secrets: crate::launch::Secrets::from([("db".to_owned(), b"pw".to_vec())]),
    };
    world.input(Input::Executor(ExecutorInput::Run(Box::new(run))));
    world.settle();
    assert_eq!(world.states("a"), [TaskState::Starting, TaskState::Running]);
    let of = |run: &str| world.records[&ContainerId::from(run)].secrets.len();
    assert_eq!((of("r-a"), of("r-b")), (1, 0));
}

#[test]
fn a_group_of_which_one_cannot_be_made_never_starts() {
    let mut world = World::new();
    world.fail_create = true;
    world.run("pod", &["a", "b"], Launch::Group);
    world.settle();
    assert_eq!(world.states("a"), [TaskState::Starting, TaskState::Failed]);
    assert_eq!(world.states("b"), [TaskState::Starting, TaskState::Killed], "it never ran");
    assert!(world.containers.is_empty());
}

#[test]
fn a_group_waits_for_all_its_tasks_over_any_restart() {
    for steps in 0..30 {
        let mut world = World::new();
        world.run("pod", &["a", "b"], Launch::Group);
        for _ in 0..steps {
            world.perform();
        }
        world.restart();
        // The master repeats what the agent did not know.
        world.run("pod", &["a", "b"], Launch::Group);
        world.settle();
        for task in ["a", "b"] {
            assert_eq!(world.states(task), [TaskState::Starting, TaskState::Running], "{task} after {steps} steps");
        }
    }
}

#[test]
fn statuses_say_which_executor_and_which_container() {
    let mut world = World::new();
    world.run("pod", &["a"], Launch::Group);
    let mut statuses = Vec::new();
    while let Some(effect) = world.queue.front() {
        if let Effect::Send { status, .. } = effect {
            statuses.push(status.clone());
        }
        world.perform();
    }
    let status = &statuses[0];
    assert_eq!(status.executor_id.as_ref().unwrap().as_str(), "pod");
    let container = status.container_status.as_ref().unwrap().container_id.as_ref().unwrap();
    assert_eq!((container.value.as_str(), container.parent.as_ref().unwrap().value.as_str()), ("r-a", "c-pod"));
    assert_eq!(status.given_reason(), None::<Reason>);
}

#[test]
fn the_tasks_of_an_executor_that_overruns_are_told_which_limit_it_was() {
    let disk = crate::overrun::Overrun::Disk { limit: 1 << 20, used: 5 << 20, volume: None };
    for (overrun, reason) in [
        (disk, Reason::ContainerLimitationDisk),
        (crate::overrun::Overrun::Ports(vec![22]), Reason::ContainerLimitation),
    ] {
        let mut world = World::new();
        world.run("e", &["t"], Launch::Task);
        world.settle();
        world.subscribe();
        world.update("t", "TASK_RUNNING", 1);
        world.executors.deaf = true;
        world.input(Input::Overran { container: "c-e".into(), overrun });
        let mut reasons = Vec::new();
        while let Some(effect) = world.queue.front() {
            if let Effect::Executor(ExecutorEffect::Save(record)) = effect {
                let of_task = record.tasks.values().flat_map(|task| task.updates.iter());
                reasons.extend(of_task.filter_map(TaskStatus::given_reason));
            }
            world.perform();
        }
        assert_eq!(world.states("t").last(), Some(&TaskState::Failed));
        assert!(reasons.contains(&reason), "{reasons:?}");
    }
}
