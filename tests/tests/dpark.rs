//! The unmodified DPark counts words: an executor of its own that runs many tasks, on a hosted node.
#![cfg(feature = "nightly")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tests::bare_master::BareMaster;
use tests::clients::{PythonPackages, programs, run_to_end};
use tests::hosted_agent::HostedAgent;

/// It polls once a second, and starts a process for each file of a shuffle.
const COUNTED: Duration = Duration::from_secs(120);
/// Now and then it reports its own task as lost, with Mesos as with us.
const TRIES: usize = 3;
/// It refuses to be root, and its executor becomes who it is.
const NOBODY: &str = "65534";

#[test]
fn dpark_counts_words() {
    // Where others than root may go.
    let dir = tempfile::Builder::new().prefix("dpark").permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    let files = ["dpark-requirements.txt"];
    let python = dir.path().join("python");
    let python =
        PythonPackages::install_with(Path::new("/usr/bin/python3"), "dpark-build-requirements.txt", &python, &files)
            .unwrap();
    let master = BareMaster::start(dir.path(), &[]).unwrap();
    let agent = HostedAgent::start_with(dir.path(), &master, "cpus:4;mem:4096;disk:256");
    // Without isolation the executor sees its sandbox where it is, and it is not root.
    fs::set_permissions(dir.path().join("work"), Permissions::from_mode(0o755)).unwrap();

    let words = dir.path().join("words");
    fs::create_dir(&words).unwrap();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for file in 0..3_u64 {
        let text: Vec<String> = (0..20_000).map(|at| format!("word-{}", (at * at + file) % 97)).collect();
        text.iter().for_each(|word| *expected.entry(word.clone()).or_default() += 1);
        let lines: Vec<String> = text.chunks(10).map(|line| line.join(" ")).collect();
        fs::write(words.join(file.to_string()), lines.join("\n")).unwrap();
    }
    let own = dir.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, Permissions::from_mode(0o777)).unwrap();
    let result = own.join("result.json");
    let script = own.join("dpark_words.py");
    fs::copy(programs().join("dpark_words.py"), &script).unwrap();

    let mut command = python.python();
    if nix::unistd::geteuid().is_root() {
        let program = command.get_program().to_owned();
        command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
    }
    command.current_dir(&own).env("HOME", &own).arg(&script);
    command.args(["-m", master.url.trim_start_matches("http://"), "-M", "100", "-c", "0.5"]).arg(&words).arg(&result);
    let counted = (0..TRIES).any(|_| match run_to_end(&mut command, &dir.path().join("dpark.log"), COUNTED) {
        Ok(_) => true,
        Err(error) => {
            println!("{error:#}");
            false
        }
    });
    assert!(counted, "agent:\n{}", agent.said());
    let found: BTreeMap<String, u64> = serde_json::from_slice(&fs::read(result).unwrap()).unwrap();
    assert_eq!(found, expected);
    println!("{}", python.verify().unwrap());
}
