//! A job from offers to its end, event by event.

use super::super::constraint::Constraint;
use super::super::demand::tests::offer;
use super::*;

fn job(cpus: f64, constraints: &[&str]) -> Job {
    let constraints = constraints.iter().map(|text| Constraint::parse(text).unwrap()).collect();
    let demand = Demand::new([("cpus", cpus), ("mem", 32.0), ("disk", 0.0), ("gpus", 0.0)], constraints).unwrap();
    let task = TaskInfo { task_id: TaskId::from("t"), ..TaskInfo::default() };
    Job::new(demand, task, Duration::from_secs(3), Some(Duration::from_secs(60)))
}

fn status(state: TaskState, message: &str) -> Event {
    let mut status = TaskStatus::new("t".into(), state);
    status.message = Some(message.to_owned());
    status.uuid = Some(vec![0; 16]);
    Event::Update(Box::new(status))
}

fn offers(list: &[(&str, &str, &str)]) -> Event {
    Event::Offers(list.iter().map(|(id, resources, attributes)| offer(id, resources, attributes)).collect())
}

/// The kinds of the actions, and the ending's code.
fn kinds(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Accept { offers, .. } => Some(format!("accept {}", offers[0])),
            Action::Decline { offers, .. } => Some(format!("decline {}", offers.len())),
            Action::Acknowledge(_) => Some("ack".to_owned()),
            Action::Suppress => Some("suppress".to_owned()),
            Action::Revive => Some("revive".to_owned()),
            Action::Kill { .. } => Some("kill".to_owned()),
            Action::Reconcile { .. } => Some("reconcile".to_owned()),
            Action::Started => Some("started".to_owned()),
            Action::Say(_) => None,
            Action::End(ending) => Some(format!("end {}", ending.code)),
        })
        .collect()
}

#[test]
fn a_task_goes_from_offer_to_exit_status() {
    let mut job = job(1.0, &["rack:LIKE:r2.*"]);
    let big = "cpus:4;mem:512";
    let event = offers(&[
        ("1", big, "rack:r1"),
        ("2", "cpus:0.5;mem:512", "rack:r2"),
        ("3", big, "rack:r2"),
        ("4", big, "rack:r2"),
    ]);
    assert_eq!(kinds(&job.on_event(event)), ["accept 3", "suppress", "decline 2", "decline 1"]);
    assert_eq!(kinds(&job.on_event(offers(&[("5", big, "rack:r2")]))), ["decline 1"]);
    assert_eq!(kinds(&job.on_event(status(TaskState::Starting, ""))), ["ack", "started"]);
    assert_eq!(kinds(&job.on_event(status(TaskState::Running, ""))), ["ack"]);
    assert_eq!(kinds(&job.on_event(status(TaskState::Failed, "Command exited with status 3"))), ["ack", "end 3"]);
    // A repeated update is acknowledged and otherwise nothing.
    assert_eq!(kinds(&job.on_event(status(TaskState::Failed, "Command exited with status 3"))), ["ack"]);
}

#[test]
fn another_tasks_update_is_acknowledged_and_ignored() {
    let mut job = job(1.0, &[]);
    job.on_event(offers(&[("1", "cpus:4;mem:512", "")]));
    let mut other = TaskStatus::new("other".into(), TaskState::Failed);
    other.uuid = Some(vec![0; 16]);
    assert_eq!(kinds(&job.on_event(Event::Update(Box::new(other)))), ["ack"]);
}

#[test]
fn ctrl_c_kills_and_a_second_one_does_not_wait() {
    let mut seeking = job(1.0, &[]);
    assert_eq!(kinds(&seeking.on_kill(KillReason::Signal(2))), ["end 130"]);
    let mut running = job(1.0, &[]);
    running.on_event(offers(&[("1", "cpus:4;mem:512", "")]));
    running.on_event(status(TaskState::Running, ""));
    assert_eq!(kinds(&running.on_kill(KillReason::Signal(2))), ["kill"]);
    assert_eq!(
        kinds(&running.on_event(status(TaskState::Killed, "Command terminated with signal Terminated"))),
        ["ack", "end 130"]
    );
    let mut stuck = job(1.0, &[]);
    stuck.on_event(offers(&[("1", "cpus:4;mem:512", "")]));
    stuck.on_kill(KillReason::Timeout);
    assert_eq!(kinds(&stuck.on_kill(KillReason::Signal(15))), ["end 143"]);
}

#[test]
fn a_task_that_ends_by_itself_while_being_killed_keeps_its_status() {
    let mut job = job(1.0, &[]);
    job.on_event(offers(&[("1", "cpus:4;mem:512", "")]));
    job.on_kill(KillReason::Signal(2));
    assert_eq!(
        kinds(&job.on_event(status(TaskState::Failed, "Command exited with status 7"))),
        ["ack", "started", "end 7"]
    );
}

#[test]
fn a_timeout_is_its_own_exit_code() {
    let mut job = job(1.0, &[]);
    job.on_event(offers(&[("1", "cpus:4;mem:512", "")]));
    job.on_event(status(TaskState::Running, ""));
    assert_eq!(kinds(&job.on_kill(KillReason::Timeout)), ["kill"]);
    assert_eq!(kinds(&job.on_event(status(TaskState::Killed, ""))), ["ack", "end 124"]);
}

#[test]
fn a_launch_lost_with_the_connection_is_tried_again_but_a_lost_task_is_not() {
    let mut early = job(1.0, &[]);
    early.on_event(offers(&[("1", "cpus:4;mem:512", "")]));
    assert_eq!(kinds(&early.on_resubscribed()), ["reconcile"]);
    let mut unknown = TaskStatus::new("t".into(), TaskState::Unknown);
    unknown.uuid = None;
    assert_eq!(kinds(&early.on_event(Event::Update(Box::new(unknown.clone())))), ["revive"]);
    assert_eq!(kinds(&early.on_event(offers(&[("2", "cpus:4;mem:512", "")]))), ["accept 2", "suppress"]);
    early.on_event(status(TaskState::Running, ""));
    assert_eq!(kinds(&early.on_event(Event::Update(Box::new(unknown)))), ["end 125"]);
}

#[test]
fn giving_up_says_what_was_seen() {
    let complaint = |job: &mut Job| match &job.on_no_offer(Duration::from_secs(30))[..] {
        [Action::End(ending)] => ending.complaint.clone().unwrap().0,
        other => panic!("{other:?}"),
    };
    let mut nothing = job(1.0, &[]);
    assert!(complaint(&mut nothing).contains("no offer came within 30 s"));
    let mut small = job(8.0, &[]);
    small.learn_names([("agent-2".into(), "node-2".to_owned())]);
    small.on_event(offers(&[("1", "cpus:2;mem:512", ""), ("2", "cpus:4;mem:512", "")]));
    assert!(
        complaint(&mut small)
            .contains("no node offers cpus:8; mem:32: the largest offer in 30 s was cpus:4; mem:512 on node-2")
    );
    let mut elsewhere = job(1.0, &["rack:LIKE:r9"]);
    elsewhere.on_event(offers(&[("1", "cpus:2;mem:512", "rack:r1"), ("2", "cpus:2;mem:512", "")]));
    assert!(complaint(&mut elsewhere).contains("satisfies rack:LIKE:r9: rack is r1 on host-1, none on host-2"));
}
