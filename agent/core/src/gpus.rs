//! Graphics processors a run has to itself.

use std::collections::BTreeSet;

use api::v1::{TaskInfo, resources_from_wire};

use crate::launch::Gpu;

/// How many a task was given as resources.
#[must_use]
pub fn wanted(task: &TaskInfo) -> usize {
    let milli = resources_from_wire(&task.resources).unwrap_or_default().scalar("gpus").0;
    usize::try_from(milli / 1000).unwrap_or(usize::MAX)
}

/// So many that nobody has, the first there are.
///
/// # Errors
/// There are not so many.
pub fn choose(all: &[Gpu], count: usize, taken: &BTreeSet<String>) -> Result<BTreeSet<String>, String> {
    let free = all.iter().filter(|gpu| !taken.contains(&gpu.id));
    let chosen: BTreeSet<String> = free.take(count).map(|gpu| gpu.id.clone()).collect();
    if chosen.len() < count {
        return Err(format!(
            "the task was given {count} gpus, and only {} are free of the {} whose devices this node knows",
            chosen.len(),
            all.len()
        ));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_what_another_has() {
        let all = Gpu::parse("/dev/nvidia0,/dev/nvidia1,/dev/nvidia2").unwrap();
        let first = choose(&all, 2, &BTreeSet::new()).unwrap();
        assert_eq!(first.len(), 2);
        let second = choose(&all, 1, &first).unwrap();
        assert!(first.is_disjoint(&second));
        let error = choose(&all, 2, &first).unwrap_err();
        assert!(error.contains("only 1"), "{error}");
        assert_eq!(choose(&all, 0, &BTreeSet::new()), Ok(BTreeSet::new()));
        let task = r#"{"resources":[{"name":"gpus","type":"SCALAR","scalar":{"value":2}}]}"#;
        assert_eq!(wanted(&serde_json::from_str(task).unwrap()), 2);
    }
}
