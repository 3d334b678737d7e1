//! Runs allocator vectors: `cargo run -p master-core --example vectors -- FILE...`. One line a
//! vector; fails if one fails.

use std::process::ExitCode;

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: vectors FILE...");
        return ExitCode::from(2);
    }
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                println!("FAIL {file}: cannot read it: {error}");
                failed += 1;
                continue;
            }
        };
        match master_core::allocator::run_vectors(&text) {
            Ok(results) => {
                for (id, result) in results {
                    match result {
                        Ok(()) => {
                            passed += 1;
                            println!("ok   {id}");
                        }
                        Err(error) => {
                            failed += 1;
                            println!("FAIL {id}: {error}");
                        }
                    }
                }
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {file}: {error}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
