//! Tasks that do what they may for as long as everything else takes: begun first, and looked at in the end. Their node is
//! looked at every few seconds meanwhile, and its agent killed more than once.

use serde_json::json;

use super::network::resources;
use super::{Case, SOON, World, scalar};

pub(super) const BEGUN: &[Case] = &[("within their limits, begun", begin)];
pub(super) const LOOKED_AT: &[Case] = &[("within their limits, left alone", look)];

/// Less than its disk, and the port of its offer.
const WITHIN: [&str; 2] = ["disk-fits", "honest"];

fn begin(world: &mut World) {
    let disk = json!({"resources": [scalar("cpus", 0.1), scalar("mem", 64.0), scalar("disk", 8.0)]});
    let write = "dd if=/dev/zero of=big bs=1M count=6 2>/dev/null; echo written; sleep 3000";
    world.launch("disk-fits", json!({ "value": write }), disk);
    let port = json!({"resources": resources(31_300, 31_300)});
    let listen = "( while true; do echo mine | nc -l -p 31300; done ) & echo listens; sleep 3000";
    world.launch("honest", json!({ "value": listen }), port);
    world.wait_stdout("disk-fits", "written");
    world.wait_stdout("honest", "listens");
}

fn look(world: &mut World) {
    world.tasks.take(std::time::Duration::from_millis(100)).unwrap();
    for id in WITHIN {
        assert!(world.tasks.ends(id).is_empty(), "{id}: {:?}", world.tasks.ends(id));
        world.tasks.kill(id).unwrap();
    }
    for id in WITHIN {
        assert_eq!(world.tasks.wait_first_end(id, SOON).unwrap()["state"], "TASK_KILLED", "{id}");
    }
}
