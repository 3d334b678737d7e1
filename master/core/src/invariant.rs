//! What is true after every applied command: checked in debug builds and in tests.

use api::TaskState;

use crate::state::{MAX_COMPLETED_FRAMEWORKS, MAX_COMPLETED_TASKS, Reachability, State};

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
