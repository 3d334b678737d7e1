//! As many seeds as fit into the suite: `mesolith-simulate` runs more.

use master_simulation::{Options, Outcome, run};

fn simulated(seed: u64, masters: usize) -> Outcome {
    run(&Options {
        seed,
        masters,
        verbose: false,
        #[cfg(feature = "planted-bugs")]
        bug: None,
    })
}

/// Seeds of the suite, in threads of the test runner.
fn no_violation(seeds: std::ops::Range<u64>, masters: usize) {
    let outcomes: Vec<(u64, Outcome)> = seeds.map(|seed| (seed, simulated(seed, masters))).collect();
    for (seed, outcome) in &outcomes {
        assert_eq!(outcome.violation, None, "mesolith-simulate --seeds {seed} --masters {masters} shows it again");
    }
    let (faults, containers): (usize, usize) =
        outcomes.iter().fold((0, 0), |sum, (_, one)| (sum.0 + one.faults, sum.1 + one.containers));
    let (members, writes) =
        outcomes.iter().fold((0, 0), |sum, (_, one)| (sum.0 + one.changes.0, sum.1 + one.changes.1));
    println!(
        "{} seeds, {masters} masters: {faults} faults, {containers} containers, {members} changes of members, {writes} writes",
        outcomes.len()
    );
    assert!(members * 3 > outcomes.len() && writes > 2 * outcomes.len(), "nobody changes anything");
    assert!(faults > 3 * outcomes.len() && containers > 3 * outcomes.len(), "the seeds do next to nothing");
}

#[test]
fn three_masters_keep_what_they_promise() {
    no_violation(0..300, 3);
}

#[test]
fn five_masters_keep_what_they_promise() {
    no_violation(1000..1120, 5);
}

#[test]
fn a_seed_is_a_run() {
    for seed in 2000..2040 {
        let masters = if seed % 2 == 0 { 3 } else { 5 };
        let (one, again) = (simulated(seed, masters), simulated(seed, masters));
        assert_eq!(one, again, "seed {seed}");
    }
    assert_ne!(simulated(2000, 3).hash, simulated(2001, 3).hash);
}
