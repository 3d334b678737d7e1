//! What allocation costs: `cargo bench -p master-core`. The workloads, sizes and steps are those of
//! Mesos's own allocator benchmarks; Mesos's figures beside ours are the best of three sweeps recorded
//! earlier on a machine of this kind, and ours are the best of three sweeps too.
//!
//! `MESOLITH_BENCH=quick` leaves the largest sizes out.

#[path = "allocator/cluster.rs"]
mod cluster;
#[path = "allocator/grid.rs"]
mod grid;
#[path = "allocator/memory.rs"]
mod memory;
#[path = "allocator/others.rs"]
mod others;
#[path = "allocator/quotas.rs"]
mod quotas;

/// Each figure is the smallest of so many.
const SWEEPS: usize = 3;

/// How much is run.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Extent {
    Quick,
    Whole,
}

fn main() {
    // Cargo passes --bench; a name given after `--` is ignored: everything runs.
    let quick = std::env::var("MESOLITH_BENCH").is_ok_and(|value| value == "quick");
    let extent = if quick { Extent::Quick } else { Extent::Whole };
    memory::print(extent);
    println!();
    grid::beside_mesos(extent);
    println!();
    quotas::beside_mesos(extent);
    println!();
    others::alone();
    println!();
    grid::task_ended(if quick { &[(1_000, 100)] } else { &[(1_000, 100), (10_000, 1_000), (50_000, 6_000)] });
    if !quick {
        println!();
        grid::alone();
    }
}
