//! Processors a task has to itself: chosen near to each other, taken from what everybody else runs on.

use std::collections::{BTreeMap, BTreeSet};

use api::v1::{TaskInfo, resources_from_wire};

/// The label that asks for it: `mesolith.cpus` with the value `exclusive`.
pub const LABEL: &str = "mesolith.cpus";

/// One processor, as the kernel counts them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Processor {
    /// Its number.
    pub id: u32,
    /// The memory it is near to.
    pub numa_node: u32,
    /// Processors with the same core share its units.
    pub core: (u32, u32),
}

/// The processors of a node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Processors(pub Vec<Processor>);

/// How many processors a task wants for itself; `None` for one that shares.
///
/// # Errors
/// When it makes no sense.
pub fn wanted(task: &TaskInfo) -> Result<Option<usize>, String> {
    let mut labels = task.labels.iter().flat_map(|labels| &labels.labels);
    let Some(label) = labels.find(|label| label.key == LABEL) else { return Ok(None) };
    match label.value.as_deref() {
        Some("shared") => return Ok(None),
        Some("exclusive") => {}
        other => return Err(format!("the label {LABEL} is '{}', not exclusive or shared", other.unwrap_or_default())),
    }
    let milli = resources_from_wire(&task.resources).unwrap_or_default().scalar("cpus").0;
    match usize::try_from(milli / 1000) {
        Ok(count @ 1..) if milli.is_multiple_of(1000) => Ok(Some(count)),
        Ok(_) | Err(_) => Err(format!("the label {LABEL} is 'exclusive', and its cpus are no whole number")),
    }
}

impl Processors {
    /// So many that nobody has: of one memory if one has enough, the fullest that has; whole cores before halves of
    /// them. One is always left for everybody else.
    #[must_use]
    pub fn choose(&self, count: usize, taken: &BTreeSet<u32>) -> Option<BTreeSet<u32>> {
        let free: Vec<Processor> = self.0.iter().copied().filter(|one| !taken.contains(&one.id)).collect();
        if free.len() <= count {
            return None;
        }
        let mut nodes: BTreeMap<u32, Vec<Processor>> = BTreeMap::new();
        for one in &free {
            nodes.entry(one.numa_node).or_default().push(*one);
        }
        let mut nodes: Vec<Vec<Processor>> = nodes.into_values().collect();
        nodes.sort_by_key(Vec::len);
        let enough = nodes.iter().position(|node| node.len() >= count);
        // Otherwise of as few as there can be.
        let chosen: Vec<Processor> = match enough {
            Some(at) => self.by_cores(&nodes[at]),
            None => nodes.iter().rev().flat_map(|node| self.by_cores(node)).collect(),
        };
        Some(chosen.into_iter().take(count).map(|one| one.id).collect())
    }

    /// Whole free cores first, each with all its processors beside each other.
    fn by_cores(&self, free: &[Processor]) -> Vec<Processor> {
        let size = |core: (u32, u32), of: &[Processor]| of.iter().filter(|one| one.core == core).count();
        let mut sorted = free.to_vec();
        sorted.sort_by_key(|one| (size(one.core, free) < size(one.core, &self.0), one.core, one.id));
        sorted
    }

    /// What everybody shares.
    #[must_use]
    pub fn rest(&self, taken: &BTreeSet<u32>) -> BTreeSet<u32> {
        self.0.iter().map(|one| one.id).filter(|id| !taken.contains(id)).collect()
    }

    /// The memories these are near to.
    #[must_use]
    pub fn memories(&self, chosen: &BTreeSet<u32>) -> BTreeSet<u32> {
        self.0.iter().filter(|one| chosen.contains(&one.id)).map(|one| one.numa_node).collect()
    }
}

/// `0-2,5`, as the kernel writes lists.
#[must_use]
pub fn list(ids: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == *id => *end = *id,
            _ => ranges.push((*id, *id)),
        }
    }
    let one = |(begin, end): (u32, u32)| if begin == end { begin.to_string() } else { format!("{begin}-{end}") };
    ranges.into_iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two memories with two cores of two processors each: 0-3 and 4-7, siblings 0 and 1, 2 and 3, …
    fn machine() -> Processors {
        Processors((0..8).map(|id| Processor { id, numa_node: id / 4, core: (id / 4, id / 2) }).collect())
    }

    fn set(ids: &[u32]) -> BTreeSet<u32> {
        ids.iter().copied().collect()
    }

    #[test]
    fn processors_are_near_and_whole_cores_if_that_can_be() {
        let machine = machine();
        let choose = |count, taken: &[u32]| machine.choose(count, &set(taken)).map(|chosen| list(&chosen));
        assert_eq!(choose(2, &[]).as_deref(), Some("0-1"));
        // A half of a core is the last to be taken.
        assert_eq!(choose(2, &[0]).as_deref(), Some("2-3"));
        // The memory with just enough, so that the other stays whole.
        assert_eq!(choose(2, &[0, 1]).as_deref(), Some("2-3"));
        assert_eq!(choose(3, &[0, 1]).as_deref(), Some("4-6"));
        // More than one memory has.
        assert_eq!(choose(6, &[]).as_deref(), Some("0-1,4-7"));
        assert_eq!(choose(8, &[]), None, "one is left for everybody");
        assert_eq!(choose(7, &[]).map(|list| list.len()), Some("0-2,4-7".len()));
        assert_eq!(list(&machine.rest(&set(&[0, 1, 5]))), "2-4,6-7");
        assert_eq!(machine.memories(&set(&[0, 5])), set(&[0, 1]));
        assert_eq!(Processors::default().choose(1, &set(&[])), None);
    }

    #[test]
    fn whole_processors_are_asked_for_by_a_label() {
        let of = |value: &str, cpus: f64| {
            let text = format!(
                r#"{{"labels":{{"labels":[{{"key":"mesolith.cpus","value":"{value}"}}]}},
                    "resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":{cpus}}}}}]}}"#
            );
            wanted(&serde_json::from_str(&text).unwrap())
        };
        assert_eq!((of("exclusive", 2.0), of("shared", 0.5)), (Ok(Some(2)), Ok(None)));
        assert!(of("exclusive", 0.5).unwrap_err().contains("no whole number"));
        assert!(of("mine", 1.0).unwrap_err().contains("'mine'"));
        assert_eq!(wanted(&TaskInfo::default()), Ok(None));
    }
}
