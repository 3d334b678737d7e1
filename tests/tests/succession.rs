//! One authority takes the place of another under a cluster that works: three masters, and a node that notices nothing.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::http;
use tests::rack::{Kind, Options, Rack};

const SOON: Duration = Duration::from_secs(60);

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not happen within {SOON:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn get(rack: &Rack, path: &str) -> Option<Value> {
    let leader = rack.wait_leader(SOON).unwrap().url().unwrap();
    http::get(&format!("{leader}{path}"), SOON).ok()?.success().ok()?.json().ok()
}

fn post(rack: &Rack, path: &str) -> u16 {
    let leader = rack.wait_leader(SOON).unwrap().url().unwrap();
    http::post_json(&format!("{leader}{path}"), "{}", SOON).unwrap().status
}

fn connected(rack: &Rack) -> Option<Value> {
    let list = get(rack, "/mesolith/v1/nodes")?;
    list["nodes"].as_array()?.iter().find(|node| node["state"] == "connected").cloned()
}

#[test]
fn an_authority_is_replaced_without_a_restart_and_without_a_lost_node() {
    let options = Options { kind: Kind::Hosted, nodes: 1, masters: 3, ..Options::new().unwrap() };
    let rack = Rack::start(options).unwrap();
    let before = wait("the node registers", || connected(&rack));
    // Its certificate is of the only authority there is.
    let said = wait("the node is known to have a certificate", || {
        get(&rack, "/mesolith/v1/authority").filter(|said| said["nodes_behind"] == serde_json::json!([]))
    });
    assert_eq!(said["serving_sha256"], said["issuing_sha256"]);
    let first = said["serving_sha256"].clone();

    assert_eq!(post(&rack, "/mesolith/v1/authority/finish"), 409, "there is nothing to finish");
    assert_eq!(post(&rack, "/mesolith/v1/authority/rotate"), 200);
    assert_eq!(post(&rack, "/mesolith/v1/authority/rotate"), 409, "one is under way");
    let began = Instant::now();
    let said = wait("the node has a certificate of the new authority", || {
        get(&rack, "/mesolith/v1/authority")
            .filter(|said| said["stage"] == "overlap" && said["nodes_behind"] == serde_json::json!([]))
    });
    println!("renewed {:?} after rotate", began.elapsed());
    assert_eq!(said["serving_sha256"], first, "who knows only the old one still finds the masters");
    assert_ne!(said["issuing_sha256"], first);

    let finished = post(&rack, "/mesolith/v1/authority/finish");
    assert_eq!(finished, 200);
    let said = get(&rack, "/mesolith/v1/authority").unwrap();
    assert_eq!((said["serving_sha256"] == first, said["stage"].is_null()), (false, true), "{said}");
    let after = connected(&rack).expect("the session of before goes on");
    assert_eq!(after["agent_id"], before["agent_id"]);
    assert_eq!(after["reregistered_ms"], before["reregistered_ms"], "it never left");

    // Everybody meets anew: masters each other, and the node the next leader.
    let leader = rack.wait_leader(SOON).unwrap();
    leader.kill9().unwrap();
    wait("the node is with the next leader", || connected(&rack));
    leader.start().unwrap();
    wait("the master that was away is back and keeps up", || {
        let masters = get(&rack, "/mesolith/v1/masters")?;
        let all = masters["members"].as_array()?.iter().all(|seat| seat["lag"].as_u64().is_some_and(|lag| lag < 5));
        all.then_some(())
    });
    let again = wait("all masters trust the same", || get(&rack, "/mesolith/v1/authority"));
    assert_eq!(again["serving_sha256"], said["serving_sha256"]);
    rack.end().unwrap();
}
