//! What tasks an agent has, in few bytes: equal when agent and log know the same.

use sha2::{Digest, Sha256};

use crate::{ContainerId, FrameworkId, TaskId, TaskState};

/// Of every task that runs, or ended with updates that are not acknowledged. In the order of framework and task.
pub fn tasks_digest<'a>(
    tasks: impl IntoIterator<Item = (&'a FrameworkId, &'a TaskId, &'a ContainerId, TaskState)>,
) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (framework, task, container, state) in tasks {
        for text in [framework.as_str(), task.as_str(), container.as_str(), state.name()] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_equal_for_the_same_tasks_only() {
        let (framework, task, container) = (FrameworkId::from("f"), TaskId::from("t"), ContainerId::from("c"));
        let one = |state| tasks_digest([(&framework, &task, &container, state)]);
        assert_eq!(one(TaskState::Running), one(TaskState::Running));
        assert_ne!(one(TaskState::Running), one(TaskState::Finished));
        assert_ne!(one(TaskState::Running), tasks_digest([]));
        // Where one text ends and the next begins counts.
        let (longer, shorter) = (TaskId::from("tc"), ContainerId::from(""));
        assert_ne!(
            tasks_digest([(&framework, &task, &container, TaskState::Running)]),
            tasks_digest([(&framework, &longer, &shorter, TaskState::Running)])
        );
    }
}
