//! The rules of the source tree, run over this repository.

use std::process::Command;

use serde_json::Value;
use tests::rack::repository;
use tests::tidy::{self, Tree};

fn tree() -> Tree {
    Tree::read(&repository()).expect("the repository can be read")
}

/// `cargo metadata`, from what is on this machine already.
fn metadata(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(args)
        .current_dir(repository())
        .output()
        .expect("cargo runs: it has built this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn arrows_between_crates_point_down_and_cores_use_pure_codecs() {
    none(&tidy::floors(&metadata(&["--no-deps"])));
}

#[test]
fn the_cores_have_no_io_no_clock_and_no_chance() {
    none(&tidy::pure_cores(&tree()));
}

#[test]
fn files_are_named_after_what_is_in_them() {
    none(&tidy::file_names(&tree()));
}

#[test]
fn every_file_says_what_it_is_for() {
    none(&tidy::missing_purpose(&tree()));
}

#[test]
fn nothing_is_left_over() {
    none(&tidy::forbidden_words(&tree()));
}

#[test]
fn unsafe_code_is_in_its_one_room() {
    none(&tidy::stray_unsafe(&tree()));
}

#[test]
fn every_crate_takes_the_workspaces_lints() {
    none(&tidy::missing_lints(&tree()).unwrap());
}

#[test]
fn every_dependency_has_its_reason() {
    none(&tidy::missing_reasons(&tree()).unwrap());
}

#[test]
fn the_documents_name_files_that_exist() {
    none(&tidy::stale_paths(&tree()).unwrap());
}

#[test]
fn crates_come_in_one_version_but_for_named_exceptions() {
    let tree = tree();
    let (lock, exceptions) = (tree.text("Cargo.lock").unwrap(), tree.text("tests/dependencies.toml").unwrap());
    none(&tidy::duplicates(&lock, &exceptions).unwrap());
}

#[test]
fn licences_are_free_but_for_named_exceptions() {
    let exceptions = tree().text("tests/dependencies.toml").unwrap();
    none(&tidy::licences(&metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]), &exceptions).unwrap());
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let tree = tree();
    println!("the longest files:");
    for (lines, path) in tidy::longest_files(&tree, 10) {
        println!("  {lines:>4} {path}");
    }
    println!("the longest functions:");
    for (lines, place) in tidy::longest_functions(&tree, 10) {
        println!("  {lines:>4} {place}");
    }
    none(&tidy::too_long_files(&tree));
}
