//! Agents that come back to what the log knows of them.

#[path = "rig/rig.rs"]
mod rig;

use api::TaskState;
use master_core::{Input, Return, SessionId};
use rig::{Rig, registration};

/// What the agent of [`Rig::running`] says, with its task in this state.
fn back(rig: &Rig, state: TaskState) -> Return {
    let report = rig.report("m-0000", "t", state);
    Return {
        node: "node-1".into(),
        boot_id: "b1".to_owned(),
        agent: "m-S0".into(),
        edition: 7,
        tasks: api::tasks_digest([(&report.framework, &report.task, &report.container, report.state)]),
    }
}

fn away(rig: &mut Rig) {
    rig.input(Input::AgentDisconnected(SessionId(1)));
    rig.take("f");
}

fn returns(rig: &mut Rig, session: u64, back: Return) -> Vec<String> {
    rig.input(Input::AgentReturns { session: SessionId(session), back: Box::new(back) });
    rig.sent(session)
}

#[test]
fn an_agent_that_is_what_the_log_knows_need_not_register() {
    let mut rig = Rig::running("t");
    rig.wait(6000);
    away(&mut rig);
    let words = back(&rig, TaskState::Running);
    assert_eq!(returns(&mut rig, 2, words), ["registered m-S0"]);
    assert_eq!(rig.take("f"), ["OFFERS m-O2 m-S0 cpus:3; mem:924"]);
    assert!(rig.master.state().agents[&"m-S0".into()].reregistered_at.is_some());
}

#[test]
fn an_agent_that_differs_in_anything_registers_on_the_same_connection() {
    type Change = fn(&mut Return);
    let changes: [(&str, Change); 6] = [
        ("another boot", |back| back.boot_id = "b2".to_owned()),
        ("told something since", |back| back.edition = 8),
        ("told nothing by name", |back| back.edition = 0),
        ("other tasks", |back| back.tasks = [0; 32]),
        ("another id", |back| back.agent = "m-S9".into()),
        ("another node", |back| back.node = "node-2".into()),
    ];
    for (what, change) in changes {
        let mut rig = Rig::running("t");
        away(&mut rig);
        let mut words = back(&rig, TaskState::Running);
        change(&mut words);
        assert_eq!(returns(&mut rig, 2, words), ["register in full"], "{what}");
        let mut whole = registration("node-1", "b1", "cpus:4;mem:1024");
        whole.tasks = vec![rig.report("m-0000", "t", TaskState::Running)];
        rig.register(2, whole);
        assert_eq!(rig.sent(2), ["registered m-S0"], "{what}");
    }
}

#[test]
fn a_task_that_went_on_meanwhile_is_told_in_full() {
    let mut rig = Rig::running("t");
    away(&mut rig);
    let words = back(&rig, TaskState::Finished);
    assert_eq!(returns(&mut rig, 2, words), ["register in full"]);
}

#[test]
fn a_kill_it_missed_reaches_an_agent_that_returns() {
    let mut rig = Rig::running("t");
    away(&mut rig);
    let kill =
        serde_json::json!({"framework_id": {"value": "m-0000"}, "type": "KILL", "kill": {"task_id": {"value": "t"}}});
    rig.call("f", kill);
    let words = back(&rig, TaskState::Running);
    assert_eq!(returns(&mut rig, 2, words), ["registered m-S0", "kill m-0000 t None"]);
}

#[test]
fn a_second_machine_cannot_return_in_place_of_one_that_is_there() {
    let mut rig = Rig::running("t");
    let words = back(&rig, TaskState::Running);
    assert_eq!(returns(&mut rig, 2, words), ["register in full"]);
    rig.update(1, "m-0000", "t", TaskState::Finished, 5);
    assert_eq!(rig.take("f")[0], "UPDATE t TASK_FINISHED uuid", "the first is registered as before");
}

#[test]
fn an_agent_that_was_given_up_tells_all_of_it() {
    let mut rig = Rig::running("t");
    away(&mut rig);
    let words = back(&rig, TaskState::Running);
    rig.wait(75_000);
    assert_eq!(returns(&mut rig, 2, words), ["register in full"]);
}
