//! What is asked. What is answered is in the recordings.

mod accept;
mod calls;
mod events;
mod legacy;
mod legacy_changes;
mod maintenance;
mod operations;
mod operator;
mod operator_changes;
mod pipeline;
mod protobuf;
mod subscribe;
mod task_validation;
mod tasks;

use super::dialogue::Dialogue;

/// Every scenario, in the order of their names.
#[must_use]
pub fn all() -> Vec<Dialogue> {
    let mut all: Vec<Dialogue> = [
        accept::scenarios(),
        calls::scenarios(),
        events::scenarios(),
        legacy::scenarios(),
        legacy_changes::scenarios(),
        maintenance::scenarios(),
        operations::scenarios(),
        operator::scenarios(),
        operator_changes::scenarios(),
        pipeline::scenarios(),
        protobuf::scenarios(),
        subscribe::scenarios(),
        task_validation::scenarios(),
        tasks::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let all = all();
        for pair in all.windows(2) {
            assert_ne!(pair[0].name, pair[1].name);
        }
    }
}
