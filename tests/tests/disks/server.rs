//! One server with three disks, and what is done with it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::http;
use tests::rack::{Options, Rack};
use tests::tasks::Tasks;

pub(crate) const BOOT: Duration = Duration::from_secs(300);
pub(crate) const SOON: Duration = Duration::from_secs(180);

/// What the node offers of disks, in MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Offered {
    /// Of the work directory's.
    pub(crate) plain: f64,
    /// MOUNT disks, all together.
    pub(crate) mount: f64,
}

pub(crate) struct Server {
    pub(crate) rack: Rack,
    pub(crate) tasks: Tasks,
    directory: tempfile::TempDir,
}

impl Server {
    /// An NVMe drive NVA1 of 3 GB, a virtual disk VB1 of 1 GB, and a SATA disk ZA1 with somebody's LVM on it.
    pub(crate) fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new().unwrap();
        options.nodes = 1;
        options.memory_mib = 1024;
        let mut args: Vec<String> = Vec::new();
        for (name, size, device) in [
            ("nvme", 3_000_000_512_u64, "nvme,id=nvme0,serial=NVA1,drive=nvme"),
            ("virtio", 1_000_000_000, "virtio-blk-pci,serial=VB1,drive=virtio"),
            ("sata", 1_000_000_000, "ide-hd,bus=ide.0,serial=ZA1,model=ST8000NM0055,rotation_rate=7200,drive=sata"),
        ] {
            let path = directory.path().join(name);
            File::create(&path).unwrap().set_len(size / 512 * 512).unwrap();
            let drive = format!("if=none,id={name},format=raw,file={}", path.display());
            args.extend(["-drive".to_owned(), drive, "-device".to_owned(), device.to_owned()]);
        }
        File::options()
            .write(true)
            .open(directory.path().join("sata"))
            .unwrap()
            .write_all_at(b"LABELONE", 512)
            .unwrap();
        args.extend(more.iter().map(|one| (*one).to_owned()));
        options.node_qemu_args.insert("node-1".to_owned(), args);
        let rack = Rack::start(options).unwrap();
        rack.wait_registered(1, BOOT).unwrap();
        let tasks = subscribe(&rack);
        Self { rack, tasks, directory }
    }

    pub(crate) fn path(&self, disk: &str) -> PathBuf {
        self.directory.path().join(disk)
    }

    /// What has been written to a disk that began as a hole.
    pub(crate) fn written(&self, disk: &str) -> u64 {
        fs::metadata(self.path(disk)).unwrap().blocks() * 512
    }

    /// The first 40 MB of a disk.
    pub(crate) fn bytes(&self, disk: &str) -> Vec<u8> {
        let mut bytes = vec![0; 40_000_000];
        File::open(self.path(disk)).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.rack.options().programs.cli);
        let output = command.args(["--master", self.rack.api_address()]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Keeps a rule for the node.
    pub(crate) fn rule(&self, arguments: &[&str]) {
        let (name, rest) = arguments.split_first().unwrap();
        let all: Vec<&str> =
            ["rules", "add", name, "--node", "node-1"].into_iter().chain(rest.iter().copied()).collect();
        self.cli(&all);
    }

    /// What the node says of its disks; waits while its agent is on its way back.
    pub(crate) fn disks(&self) -> Vec<Value> {
        let url = format!("{}/mesolith/v1/nodes/node-1/api/disks", self.rack.api_url());
        let deadline = Instant::now() + SOON;
        loop {
            let answer = http::get(&url, Duration::from_secs(30)).unwrap();
            if answer.status == 200 {
                let answer: Value = serde_json::from_str(&answer.text()).unwrap();
                return answer["disks"].as_array().unwrap().clone();
            }
            assert!(Instant::now() < deadline, "{}", answer.text());
            thread::sleep(Duration::from_millis(200));
        }
    }

    pub(crate) fn wait_disks(&self, what: &str, until: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + SOON;
        loop {
            let disks = self.disks();
            if until(&disks) {
                return disks;
            }
            assert!(Instant::now() < deadline, "not within {SOON:?}: {what}: {disks:#?}");
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// Until the work directory is on a disk.
    pub(crate) fn wait_pool(&self) {
        let deadline = Instant::now() + SOON;
        while self.offered().plain < 900.0 {
            assert!(Instant::now() < deadline, "no pool: {:?} {:?}", self.offered(), self.rack.node(1).console());
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// What the master knows the node to have.
    pub(crate) fn offered(&self) -> Offered {
        let body = json!({"type": "GET_AGENTS"}).to_string();
        let answer = http::post_json(&format!("{}/api/v1", self.rack.api_url()), &body, Duration::from_secs(30));
        let answer = answer.unwrap().json().unwrap();
        let mut offered = Offered::default();
        let all = answer["get_agents"]["agents"][0]["total_resources"].as_array().cloned().unwrap_or_default();
        for resource in all.iter().filter(|resource| resource["name"] == "disk") {
            let size = resource["scalar"]["value"].as_f64().unwrap_or_default();
            match resource["disk"]["source"]["type"].as_str() {
                Some("MOUNT") => offered.mount += size,
                None => offered.plain += size,
                Some(other) => panic!("{other}: {resource}"),
            }
        }
        offered
    }

    /// Reserves and makes a volume of the whole MOUNT disk, and runs a task on it.
    pub(crate) fn make_volume_and(&mut self, id: &str, command: &str) {
        let operations = |offer: &Value| {
            let disk = mount_of(offer, |one| one["disk"]["persistence"].is_null())?;
            let mut reserved = disk.clone();
            reserved["reservations"] = json!([{"type": "DYNAMIC", "role": "data", "principal": "disks"}]);
            let mut volume = reserved.clone();
            volume["disk"]["persistence"] = json!({"id": "v1", "principal": "disks"});
            volume["disk"]["volume"] = json!({"container_path": "data", "mode": "RW"});
            Some(json!([
                {"type": "RESERVE", "reserve": {"resources": [reserved]}},
                {"type": "CREATE", "create": {"volumes": [volume]}},
                {"type": "LAUNCH", "launch": {"task_infos": [task(offer, id, command, &volume)]}},
            ]))
        };
        self.tasks.accept_first(operations, SOON).unwrap();
    }

    /// Runs a task on the volume there is.
    pub(crate) fn on_volume(&mut self, id: &str, command: &str) {
        let operations = |offer: &Value| {
            let volume = mount_of(offer, |one| one["disk"]["persistence"]["id"] == "v1")?;
            Some(json!([{"type": "LAUNCH", "launch": {"task_infos": [task(offer, id, command, &volume)]}}]))
        };
        self.tasks.accept_first(operations, SOON).unwrap();
    }
}

pub(crate) fn subscribe(rack: &Rack) -> Tasks {
    let capabilities = ["RESERVATION_REFINEMENT", "MULTI_ROLE"].map(|kind| json!({ "type": kind }));
    let more = json!({"principal": "disks", "roles": ["data"], "capabilities": capabilities});
    Tasks::subscribe_as(rack.api_url(), "disks", &more).unwrap()
}

fn mount_of(offer: &Value, is: impl Fn(&Value) -> bool) -> Option<Value> {
    let all = offer["resources"].as_array()?;
    all.iter().find(|one| one["disk"]["source"]["type"] == "MOUNT" && is(one)).cloned()
}

fn task(offer: &Value, id: &str, command: &str, volume: &Value) -> Value {
    let role = &offer["allocation_info"];
    let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": role});
    json!({"task_id": {"value": id}, "name": id, "agent_id": offer["agent_id"], "command": {"value": command},
        "kill_policy": {"grace_period": {"nanoseconds": 1_000_000_000}},
        "resources": [scalar("cpus", 0.1), scalar("mem", 48.0), volume]})
}
