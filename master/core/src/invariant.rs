//! What is true after every applied command: checked in debug builds and in tests.

use api::TaskState;

use crate::operation::volume::persistence_id;
use crate::state::{
    MAX_COMPLETED_FRAMEWORKS, MAX_COMPLETED_TASKS, MAX_GONE_AGENTS, MAX_UNREACHABLE_TASKS, Reachability, State,
};

/// Panics when the state contradicts itself.
///
/// # Panics
/// On a mistake of ours: the state can only be reached through [`State::apply`].
pub fn check(state: &State) {
    for (node, id) in &state.nodes {
        let agent = state.agents.get(id).expect("every node has an agent");
        assert_eq!(agent.node, *node, "a node's agent belongs to it");
        assert_eq!(agent.id, *id);
    }
    assert_eq!(state.nodes.len(), state.agents.len(), "every agent is some node's");
    assert!(state.placement_is_right(), "every task is listed with its agent");
    check_operators(state);
    assert!(state.completed_frameworks.len() <= MAX_COMPLETED_FRAMEWORKS);
    for completed in &state.completed_frameworks {
        assert!(!state.frameworks.contains_key(&completed.id), "a removed framework stays removed");
        assert!(completed.completed_tasks.iter().all(|task| task.state.is_terminal()));
    }
    for (id, framework) in &state.frameworks {
        assert_eq!(*id, framework.id);
        assert!(framework.completed_tasks.len() <= MAX_COMPLETED_TASKS);
        assert!(framework.completed_tasks.iter().all(|task| task.state.is_terminal()), "completed tasks have ended");
        assert!(framework.disconnected.is_none() || framework.stream.is_empty(), "who is away has no stream");
        for ((agent, executor_id), executor) in &framework.executors {
            assert!((agent, executor_id, id) == (&executor.agent, &executor.id, &executor.framework));
            let agent = state.agents.get(agent).expect("an executor's agent is known");
            assert_eq!(agent.reachability, Reachability::Reachable, "no executor is on an agent that is lost");
        }
        for (task_id, task) in &framework.tasks {
            assert_eq!(task_id, task.id());
            assert_eq!(task.framework, *id);
            assert_eq!(task.ended_at.is_some(), task.state.is_terminal(), "an ended task knows when");
            let agent = state.agents.get(&task.agent).expect("a task's agent is known");
            if task.state == TaskState::Unreachable {
                assert_ne!(agent.reachability, Reachability::Reachable, "no task is unreachable on a reachable agent");
            }
            if agent.reachability != Reachability::Reachable {
                assert!(!task.holds_resources(), "no task runs, for all we know, on an unreachable agent");
            }
        }
    }
}

/// What operators decided, and what was made of agents' resources.
fn check_operators(state: &State) {
    assert!(state.gone.len() <= MAX_GONE_AGENTS);
    assert!(state.gone.keys().all(|id| !state.agents.contains_key(id)), "who is gone does not come back");
    for agent in state.agents.values() {
        let drains = agent.drain.is_some_and(|drain| !drain.drained);
        assert_eq!(drains, state.draining.contains(&agent.id), "draining agents are listed");
        assert!(agent.drain.is_none() || agent.deactivated, "a draining agent is not offered");
        let mut volumes: Vec<_> =
            agent.resources.iter().filter_map(|resource| Some((resource.role(), persistence_id(resource)?))).collect();
        let all = volumes.len();
        volumes.sort_unstable();
        volumes.dedup();
        assert_eq!(all, volumes.len(), "an agent's volumes have ids of their own");
        if state.maintenance.is_down(&agent.hostname, &agent.address) {
            assert_ne!(agent.reachability, Reachability::Reachable, "no agent is registered on a machine that is down");
        }
    }
    assert!(state.draining.iter().all(|id| state.agents.contains_key(id)), "draining agents are there");
    for operation in state.operations.values() {
        assert!(state.frameworks.contains_key(&operation.framework), "somebody waits for an operation's outcome");
        assert!(state.agents.contains_key(&operation.agent), "an operation's agent is known");
    }
    for machine in &state.maintenance.down {
        let scheduled = state.maintenance.windows.iter().any(|window| window.machines.contains(machine));
        assert!(scheduled, "machines that are down are in the schedule");
    }
    for framework in state.frameworks.values() {
        let away = framework.tasks.values().filter(|task| task.state == TaskState::Unreachable).count();
        assert!(away <= MAX_UNREACHABLE_TASKS, "unreachable tasks are bounded");
    }
    assert!(state.quotas.iter().all(|(role, config)| *role == config.role));
    assert!(state.weights.values().all(|weight| *weight > 0.0));
}
