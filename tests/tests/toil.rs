//! The unmodified Toil runs a workflow: its executor reads the agent's `/state` before it does anything, sends messages, and
//! brings back labels with its updates. On a hosted node whose door is open, as Toil's leader expects of Mesos's agents.
#![cfg(feature = "nightly")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fs;
use std::time::Duration;

use tests::bare_master::BareMaster;
use tests::clients::{PythonPackages, programs, run_to_end};
use tests::hosted_agent::HostedAgent;

/// Every job is an interpreter of its own, which imports Toil first.
const RAN: Duration = Duration::from_secs(300);

#[test]
fn toil_runs_a_workflow() {
    let dir = tempfile::tempdir().unwrap();
    let python =
        PythonPackages::install(&dir.path().join("python"), &["requirements.txt", "toil-requirements.txt"]).unwrap();
    let master = BareMaster::start(dir.path(), &[]).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let told = ["--agent-api", port.as_str(), "--attributes", "preemptible:False"];
    let agent = HostedAgent::start_told(dir.path(), &master, "cpus:2;mem:2048;disk:4096", &told);

    // Toil takes everything beside the workflow along.
    let own = dir.path().join("own");
    fs::create_dir(&own).unwrap();
    let script = own.join("toil_words.py");
    fs::copy(programs().join("toil_words.py"), &script).unwrap();
    let (store, result) = (dir.path().join("store"), dir.path().join("result"));
    let mut command = python.command("python").unwrap();
    // Without: the executor would be looked for on the node's PATH, where only an image has it.
    command.env("TOIL_CHECK_ENV", "True").env("USER", "root").env("LOGNAME", "root");
    command.current_dir(&own).arg(&script).arg(format!("file:{}", store.display())).arg(&result);
    command.args(["--batchSystem", "mesos", "--mesosEndpoint", master.url.trim_start_matches("http://")]);
    command.args(["--retryCount", "2", "--logInfo", "--workDir"]).arg(dir.path());
    if let Err(error) = run_to_end(&mut command, &dir.path().join("toil.log"), RAN) {
        panic!("{error:#}\nagent:\n{}\nmaster:\n{}", agent.said(), master.log());
    }
    assert_eq!(fs::read_to_string(result).unwrap(), "6");
    println!("{}", python.verify().unwrap());
}
