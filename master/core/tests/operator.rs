//! What operators write: weights, quotas, reservations, maintenance, draining.
#![allow(clippy::unwrap_used)] // a test's helper may

#[path = "rig/rig.rs"]
mod rig;

use std::collections::BTreeMap;

use api::resources::Reservation;
use api::{Milli, Resources, TaskState};
use master_core::io::operator::{MachineId, OperatorWrite, QuotaConfig, Unavailability, Window};
use master_core::operation::ResourceOperation;
use master_core::state::Reachability;
use master_core::{Input, RequestId, Response};
use rig::{Rig, refused, registration};

/// What an operator's write is answered with.
fn write(rig: &mut Rig, write: OperatorWrite) -> Option<Response> {
    rig.next_request += 1;
    let request = rig.next_request;
    rig.input(Input::Operator { request: RequestId(request), write: Box::new(write) });
    rig.responses.get(&request).cloned()
}

fn reserved(text: &str, role: &str) -> Resources {
    let plain = Resources::parse(text).unwrap();
    let reserve = |resource: &api::Resource| {
        let level = Reservation { dynamic: true, role: role.to_owned(), principal: None, labels: Vec::new() };
        api::Resource { reservations: vec![level], ..resource.clone() }
    };
    plain.iter().map(reserve).collect()
}

fn reserve(agent: &str, text: &str, role: &str) -> OperatorWrite {
    let operation = ResourceOperation::Reserve { source: Resources::new(), resources: reserved(text, role) };
    OperatorWrite::Apply { agent: agent.into(), operation, principal: None }
}

fn total(rig: &Rig, agent: &str) -> String {
    rig.master.state().agents[&agent.into()].resources.to_string()
}

fn window(hostname: &str) -> Vec<Window> {
    let unavailability = Unavailability { start: 7_000_000_000, duration: Some(60_000_000_000) };
    vec![Window { machines: vec![MachineId::new(hostname, "")], unavailability }]
}

#[test]
fn a_reservation_takes_just_enough_offers_and_is_offered_as_it_is() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.agent(2, "node-2", "cpus:4;mem:1024");
    rig.subscribe("f");
    rig.take("f");
    assert_eq!(write(&mut rig, reserve("m-S0", "cpus:1", "a")), Some(Response::Accepted));
    let told = rig.take("f");
    assert_eq!(told.first().map(String::as_str), Some("RESCIND m-O0"), "{told:?}");
    assert_eq!(total(&rig, "m-S0"), "cpus:3; mem:1024; cpus(a):1");
    assert!(rig.master.view().offers.contains_key(&"m-O1".into()), "the other agent's offer stays");
    rig.wait(6000);
    assert_eq!(rig.take("f"), ["OFFERS m-O2 m-S0 cpus:3; mem:1024"], "what is reserved is not for everybody");
}

#[test]
fn what_is_in_use_is_not_reserved() {
    let mut rig = Rig::running("t");
    let answer = write(&mut rig, reserve("m-S0", "cpus:4", "a"));
    let text = "cpus:3; mem:924 does not contain cpus:4";
    assert_eq!(answer, refused(409, text));
    let answer = write(&mut rig, reserve("m-S9", "cpus:4", "a"));
    assert_eq!(answer, refused(400, "No agent found with specified ID"));
    rig.wait(6000);
    assert_eq!(rig.take("f").last().unwrap(), "OFFERS m-O1 m-S0 cpus:3; mem:924", "the agent is offered again");
}

#[test]
fn reservations_outlive_reboots_and_failovers() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    write(&mut rig, reserve("m-S0", "cpus:3;mem:500", "a"));
    let mut rig = rig.failover();
    rig.register(2, registration("node-1", "b2", "cpus:4;mem:1024"));
    assert_eq!(total(&rig, "m-S0"), "cpus:1; mem:524; cpus(a):3; mem(a):500");
    rig.register(3, registration("node-1", "b3", "cpus:2;mem:1024"));
    rig.wait(5000);
    assert_eq!(total(&rig, "m-S0"), "cpus:2; mem:524; mem(a):500", "what no longer fits is dropped");
    assert_eq!(rig.master.counters().conversions_lost, 1);
}

#[test]
fn weights_are_checked_and_offer_everything_anew() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.subscribe("f");
    rig.take("f");
    let answer = write(&mut rig, OperatorWrite::UpdateWeights(vec![("a".to_owned(), 0.0)]));
    let text =
        "Failed to validate update weights request JSON for role 'a': Invalid weight '0': Weights must be positive";
    assert_eq!(answer, refused(400, text));
    assert_eq!(write(&mut rig, OperatorWrite::UpdateWeights(vec![("a".to_owned(), 2.5)])), Some(Response::Ok));
    assert_eq!(rig.take("f"), Vec::<String>::new(), "nobody is in the role");
    assert_eq!(write(&mut rig, OperatorWrite::UpdateWeights(vec![("*".to_owned(), 3.0)])), Some(Response::Ok));
    assert_eq!(rig.take("f"), ["RESCIND m-O0", "OFFERS m-O1 m-S0 cpus:4; mem:1024"]);
    let rig = rig.failover();
    assert_eq!(rig.master.state().weights.len(), 2);
}

#[test]
fn a_quota_below_what_is_used_needs_force() {
    let mut rig = Rig::running("t");
    let limits = BTreeMap::from([("cpus".to_owned(), Milli(500))]);
    let config = QuotaConfig { role: "a".to_owned(), limits: limits.clone(), ..QuotaConfig::default() };
    let update = |force| OperatorWrite::UpdateQuota { force, configs: vec![config.clone()] };
    assert_eq!(write(&mut rig, update(false)), Some(Response::Ok), "nobody uses the role");
    write(&mut rig, reserve("m-S0", "cpus:1", "a"));
    let text = "Invalid QuotaConfig: Role 'a' is already consuming 'cpus:1'; this is more than the requested limits \
                'cpus:0.5' (use 'force' flag to bypass this check)";
    assert_eq!(write(&mut rig, update(false)), refused(400, text));
    assert_eq!(write(&mut rig, update(true)), Some(Response::Ok));
    let set = OperatorWrite::SetQuota {
        force: false,
        role: "b".to_owned(),
        guarantee: BTreeMap::from([("cpus".to_owned(), Milli(9000))]),
    };
    assert_eq!(write(&mut rig, set).map(|answer| matches!(answer, Response::Refused { status: 409, .. })), Some(true));
    assert_eq!(write(&mut rig, OperatorWrite::RemoveQuota { role: "a".to_owned() }), Some(Response::Ok));
    assert_eq!(
        write(&mut rig, OperatorWrite::RemoveQuota { role: "a".to_owned() }),
        refused(400, "Failed to remove quota: Role 'a' has no quota set")
    );
}

#[test]
fn maintenance_goes_from_draining_to_down_to_up() {
    let mut rig = Rig::running("t");
    let machine = MachineId::new("node-1.example", "");
    let down = OperatorWrite::StartMaintenance(vec![machine.clone()]);
    let text = r#"Machine '{"hostname":"node-1.example"}' is not in DRAINING mode and cannot be brought down"#;
    assert_eq!(write(&mut rig, down.clone()), refused(400, text));
    let schedule = OperatorWrite::UpdateMaintenanceSchedule(window("Node-1.example"));
    assert_eq!(write(&mut rig, schedule), Some(Response::Ok));
    assert_eq!(write(&mut rig, down), Some(Response::Ok));
    assert_eq!(rig.sent(1), ["shutdown m-0000", "refused retry=true Operator initiated 'Machine DOWN'"]);
    assert!(rig.task("m-0000", "t").is_none(), "its task is lost");
    assert!(rig.take("f").contains(&"UPDATE t TASK_LOST REASON_AGENT_REMOVED".to_owned()));
    let mut rig = rig.failover();
    rig.agent(5, "node-1", "cpus:4;mem:1024");
    assert_eq!(rig.sent(5), ["refused retry=true Machine is `DOWN`"]);
    let empty = OperatorWrite::UpdateMaintenanceSchedule(Vec::new());
    assert_eq!(write(&mut rig, empty).map(|answer| answer != Response::Ok), Some(true), "it is down still");
    assert_eq!(write(&mut rig, OperatorWrite::StopMaintenance(vec![machine])), Some(Response::Ok));
    assert!(rig.master.state().maintenance.windows.is_empty());
    rig.agent(6, "node-1", "cpus:4;mem:1024");
    assert_eq!(rig.master.state().agents[&"m-S0".into()].reachability, Reachability::Reachable);
}

#[test]
fn draining_ends_tasks_and_then_the_agent() {
    let mut rig = Rig::running("t");
    let drain = OperatorWrite::DrainAgent { agent: "m-S0".into(), max_grace_ms: Some(1000), mark_gone: true };
    assert_eq!(write(&mut rig, drain), Some(Response::Ok));
    assert_eq!(rig.sent(1), ["kill m-0000 t Some(1000)"]);
    assert_eq!(
        write(&mut rig, OperatorWrite::ReactivateAgent("m-S0".into())),
        refused(400, "Agent is still in the DRAINING state")
    );
    rig.take("f");
    let mut rig = rig.failover();
    let mut back = registration("node-1", "b1", "cpus:4;mem:1024");
    back.agent = Some("m-S0".into());
    back.tasks.push(rig.report("m-0000", "t", TaskState::Running));
    rig.register(2, back.clone());
    assert_eq!(rig.sent(2), ["registered m-S0", "kill m-0000 t Some(1000)"], "a new leader goes on");
    rig.again("g", "m-0000");
    assert_eq!(rig.take("g"), ["SUBSCRIBED m-0000"], "a draining agent is not offered");
    rig.update(2, "m-0000", "t", TaskState::Killed, 2);
    assert_eq!(rig.take("g"), ["UPDATE t TASK_KILLED REASON_AGENT_DRAINING uuid"]);
    rig.acknowledge("g", "m-0000", "m-S0", "t", 2);
    assert!(rig.master.state().gone.contains_key(&"m-S0".into()), "drained and gone");
    let sent = rig.sent(2);
    assert_eq!(sent.last().unwrap(), "refused retry=false Agent has been marked gone");
    back.tasks.clear();
    rig.register(3, back);
    assert_eq!(rig.sent(3), ["refused retry=false Agent has been marked gone"]);
    rig.register(4, registration("node-1", "b2", "cpus:4;mem:1024"));
    assert_eq!(rig.sent(4), ["registered m-S1"], "after a reboot the machine is another agent");
}

#[test]
fn a_deactivated_agent_is_not_offered_until_it_is_reactivated() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.subscribe("f");
    rig.take("f");
    let id = || "m-S0".into();
    assert_eq!(write(&mut rig, OperatorWrite::ReactivateAgent(id())), refused(400, "Agent is not deactivated"));
    assert_eq!(write(&mut rig, OperatorWrite::DeactivateAgent("x".into())), refused(400, "Unknown agent"));
    assert_eq!(write(&mut rig, OperatorWrite::DeactivateAgent(id())), Some(Response::Ok));
    rig.wait(5000);
    assert_eq!(rig.take("f"), ["RESCIND m-O0"]);
    assert_eq!(write(&mut rig, OperatorWrite::ReactivateAgent(id())), Some(Response::Ok));
    assert_eq!(rig.take("f"), ["OFFERS m-O1 m-S0 cpus:4; mem:1024"]);
}

#[test]
fn a_gone_agents_tasks_are_lost_for_good() {
    let mut rig = Rig::running("t");
    let gone = || OperatorWrite::MarkAgentGone("m-S0".into());
    assert_eq!(write(&mut rig, OperatorWrite::MarkAgentGone("x".into())), refused(404, "Agent 'x' not found"));
    assert_eq!(write(&mut rig, gone()), Some(Response::Ok));
    assert_eq!(write(&mut rig, gone()), Some(Response::Ok), "again is no mistake");
    let told = rig.take("f");
    assert!(told.contains(&"UPDATE t TASK_LOST REASON_AGENT_REMOVED".to_owned()), "{told:?}");
    assert!(told.contains(&"FAILURE m-S0".to_owned()));
    assert!(rig.master.state().agents.is_empty());
}

#[test]
fn offers_time_out() {
    let config = master_core::Config { offer_timeout: Some(std::time::Duration::from_secs(30)), ..rig::config() };
    let mut rig = Rig::leading(config);
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.subscribe("f");
    rig.take("f");
    rig.wait(29_000);
    rig.pong(1);
    assert!(rig.take("f").is_empty());
    rig.wait(3000);
    assert_eq!(rig.take("f"), ["RESCIND m-O0", "OFFERS m-O1 m-S0 cpus:4; mem:1024"]);
}

#[test]
fn agents_are_given_up_one_by_one_when_the_operator_says_so() {
    let config = master_core::Config {
        agent_removal_rate_limit: Some((1, std::time::Duration::from_secs(600))),
        ..rig::config()
    };
    let mut rig = Rig::leading(config);
    for number in 1..=3 {
        rig.agent(number, &format!("node-{number}"), "cpus:4;mem:1024");
        rig.input(Input::AgentDisconnected(master_core::SessionId(number)));
    }
    let away = |rig: &Rig| {
        let agents = rig.master.state().agents.values();
        agents.filter(|agent| agent.reachability != Reachability::Reachable).count()
    };
    rig.wait(100_000);
    assert_eq!(away(&rig), 1);
    rig.agent(9, "node-2", "cpus:4;mem:1024");
    for _ in 0..200 {
        rig.wait(10_000);
        rig.pong(9);
    }
    assert_eq!(away(&rig), 2, "the one that came back stays");
}
