//! What Mesos's own allocator tests expect.

use master_core::allocator::run_vectors;

#[test]
fn every_vector_of_mesos_passes() {
    all_pass(include_str!("vectors/drf.json"), 15);
}

#[test]
fn the_rules_of_nesting_weights_and_headroom_hold() {
    all_pass(include_str!("vectors/rules.json"), 6);
}

fn all_pass(text: &str, count: usize) {
    let results = run_vectors(text).expect("the file is in the schema");
    assert_eq!(results.len(), count);
    let failures: Vec<String> =
        results.iter().filter_map(|(id, result)| result.as_ref().err().map(|error| format!("{id}: {error}"))).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_vector_that_expects_something_else_fails() {
    let text = r#"{"vectors": [
        {"id": "a", "kind": "sorter", "steps": [
            {"op": "set_total", "resources": "cpus:10"}, {"op": "add", "client": "x"}, {"op": "expect_sort", "order": []}]},
        {"id": "b", "kind": "allocator", "steps": [
            {"op": "add_framework", "id": "f", "roles": ["r"]}, {"op": "add_agent", "id": "s", "resources": "cpus:1"},
            {"op": "expect", "offers": []}]},
        {"id": "c", "kind": "allocator", "steps": [{"op": "dance"}]}]}"#;
    let results = run_vectors(text).expect("the file is in the schema");
    assert!(results.iter().all(|(_, result)| result.is_err()), "{results:?}");
    assert!(run_vectors("nonsense").is_err());
}
