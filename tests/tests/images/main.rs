//! Tasks in container images, on a booted node, from a real registry on the rack's network.
//!
//! The images are made here and pushed over HTTP; the registry is Debian's docker-registry. The node's link is made
//! slow where a pull must take long enough to be interrupted.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

mod image;
mod registry;

use std::path::Path;
use std::time::{Duration, Instant};

use image::{Image, Layer, Packed, busybox, noise};
use registry::{ADDRESS, Registry};
use serde_json::{Value, json};
use tests::rack::{FaultLine, Options, Rack};
use tests::tasks::Tasks;

const BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(120);
const MIB: usize = 1 << 20;
/// How many tasks pull at the same time.
const MANY: usize = 20;

/// What the image's entrypoint says before it becomes its arguments.
const ENTRY: &str =
    "echo greeting=$GREETING; echo home=$HOME; id; pwd; cat hello; ls /etc/gone; touch /tmp/mine; exec \"$@\"";

struct World {
    rack: Rack,
    registry: Registry,
    tasks: Tasks,
    faults: FaultLine,
    shared: Vec<Packed>,
    own: Vec<Packed>,
    /// Large layers that nobody has asked for yet.
    large: Vec<Packed>,
    corrupted: Packed,
}

#[test]
fn tasks_run_in_images_from_a_registry_that_fails_in_every_way() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::start(directory.path());
    world.an_image_says_what_runs_as_whom_and_where();
    world.a_docker_container_has_its_parameters_and_no_network();
    world.an_image_belongs_to_a_user_namespace();
    world.images_are_volumes();
    world.a_task_without_an_image_runs_in_the_default_one();
    world.what_cannot_be_run_says_why();
    world.many_pulls_of_shared_layers_download_each_once();
    world.a_corrupted_layer_is_refused();
    world.slow_down();
    world.a_kill_gives_a_pull_up();
    world.an_agent_that_dies_while_it_pulls_goes_on_and_what_runs_keeps_its_root();
    world.a_registry_that_dies_half_way_is_gone_on_with();
    world.tasks.framework.call("TEARDOWN", &Value::Null).unwrap();
    world.rack.end().unwrap();
}

impl World {
    fn start(directory: &Path) -> Self {
        let base = busybox();
        let app = Layer::default()
            .directory("srv/app/", 0o755)
            .file("srv/app/hello", 0o644, b"hello from the image\n")
            .file("etc/.wh.gone", 0o644, b"")
            .zstd();
        let shared = vec![base.clone(), Layer::default().file("shared-1", 0o644, &noise(1, MIB)).gzip()];
        let own: Vec<Packed> = (0..MANY)
            .map(|number| Layer::default().file("number", 0o644, format!("image {number}\n").as_bytes()).gzip())
            .collect();
        let large: Vec<Packed> =
            (0..3).map(|number| Layer::default().file("noise", 0o644, &noise(100 + number, 12 * MIB)).gzip()).collect();
        let corrupted = Layer::default().file("noise", 0o644, &noise(7, MIB)).gzip();
        let shell = json!({"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]});
        let entry = json!({"Entrypoint": ["/bin/sh", "-c", ENTRY, "entry"], "Cmd": ["sleep", "600"], "User": "app",
            "Env": ["PATH=/bin", "GREETING=from the image"], "WorkingDir": "/srv/app"});
        let mut images = vec![
            ("lab/base:1".to_owned(), Image::of(&[&base], &shell)),
            ("lab/app:1".to_owned(), Image::of(&[&base, &app], &entry)),
            ("lab/corrupted:1".to_owned(), Image::of(&[&base, &corrupted], &shell)),
        ];
        for (number, layer) in own.iter().enumerate() {
            let image = Image::of(&[&shared[0], &shared[1], layer], &shell);
            images.push((format!("lab/many:{number}"), image));
        }
        for (number, layer) in large.iter().enumerate() {
            images.push((format!("lab/large:{number}"), Image::of(&[&base, layer], &shell)));
        }
        let mut registry = Registry::new(&directory.join("registry"));
        let list: Vec<(&str, &Image)> = images.iter().map(|(name, image)| (name.as_str(), image)).collect();
        registry.fill(&list);
        registry.corrupt(&corrupted.digest);

        let mut options = FaultLine::with_line(Options::new().unwrap());
        options.memory_mib = 1024;
        options.cmdline.push_str(&format!(" mesolith.image={ADDRESS}/lab/base:1 mesolith.image_plain_http={ADDRESS}"));
        let rack = Rack::start(options).unwrap();
        registry.serve(&rack);
        rack.wait_registered(1, BOOT).unwrap();
        let faults = FaultLine::connect(&rack).unwrap();
        let tasks = Tasks::subscribe(rack.api_url(), "images").unwrap();
        Self { rack, registry, tasks, faults, shared, own, large, corrupted }
    }

    /// Launches one task with this command and container.
    fn launch(&mut self, id: &str, command: Value, container: Value) {
        let task = json!({"task_id": {"value": id}, "name": id, "command": command, "container": container});
        self.tasks.launch_all(&[task], 0.1, 32.0, SOON).unwrap();
    }

    /// Runs one to its end.
    fn run(&mut self, id: &str, command: Value, container: Value) -> Value {
        self.launch(id, command, container);
        self.tasks.wait_end(id, SOON).unwrap()
    }

    fn stdout(&self, id: &str) -> String {
        self.tasks.stdout(id).unwrap()
    }

    fn wait_stdout(&self, id: &str, text: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let said = self.tasks.stdout(id).unwrap_or_default();
            if said.contains(text) {
                return said;
            }
            assert!(Instant::now() < deadline, "{id} has not said `{text}`: {said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn an_image_says_what_runs_as_whom_and_where(&mut self) {
        self.launch("entry", json!({"shell": false}), mesos("lab/app:1"));
        self.tasks.wait_state("entry", "TASK_RUNNING", SOON).unwrap();
        let said = self.wait_stdout("entry", "hello from the image");
        for line in ["greeting=from the image", "home=/srv/app", "/srv/app"] {
            assert!(said.lines().any(|said| said == line), "`{line}` in: {said}");
        }
        assert!(said.contains("uid=1000(app) gid=1001(app) groups=") && said.contains("44(logs)"), "{said}");
        assert!(!said.contains("/etc/gone"), "a later layer has deleted it: {said}");
        self.tasks.kill("entry").unwrap();
        assert_eq!(self.tasks.wait_end("entry", SOON).unwrap()["state"], "TASK_KILLED");
        // Arguments replace cmd, the command's own words replace what the image says; and every container has its own root.
        let command = json!({"shell": false, "arguments": ["ls", "/tmp"], "user": "0",
            "environment": {"variables": [{"name": "GREETING", "value": "from the task"}]}});
        let end = self.run("arguments", command, mesos("lab/app:1"));
        assert_eq!(end["state"], "TASK_FINISHED", "{end}");
        let said = self.stdout("arguments");
        assert!(said.contains("greeting=from the task") && said.contains("uid=0(root)"), "{said}");
        assert!(said.trim_end().ends_with("mine"), "{said}");
        let end = self.run(
            "fresh",
            json!({"value": "ls /tmp | wc -l; pwd; cat $MESOS_SANDBOX/stdout | wc -l"}),
            mesos("lab/base:1"),
        );
        assert_eq!(end["state"], "TASK_FINISHED", "{end}");
        let said = self.stdout("fresh");
        assert!(said.starts_with("0\n/mnt/mesos/sandbox\n2"), "a root of its own, and the sandbox: {said}");
    }

    fn a_docker_container_has_its_parameters_and_no_network(&mut self) {
        let container = json!({"type": "DOCKER", "docker": {"image": format!("{ADDRESS}/lab/app:1"), "network": "NONE", "parameters": [
            {"key": "env", "value": "GREETING=from a parameter"}, {"key": "user", "value": "1234:44"},
            {"key": "workdir", "value": "/made/for/me"}, {"key": "hostname", "value": "inside"}]}});
        // An interface that is down has no carrier to read.
        let command = "ls /sys/class/net; cat /sys/class/net/lo/carrier; id -u; id -g; pwd; hostname; echo $GREETING";
        let command = json!({ "value": command });
        let end = self.run("docker", command, container);
        assert_eq!(end["state"], "TASK_FINISHED", "{end}");
        assert_eq!(self.stdout("docker"), "lo\n1\n1234\n44\n/made/for/me\ninside\nfrom a parameter\n");
        let container = json!({"type": "DOCKER", "docker": {"image": format!("{ADDRESS}/lab/base:1"), "network": "BRIDGE", "parameters": [
            {"key": "dns", "value": "10.9.9.9"}, {"key": "add-host", "value": "db:10.9.9.8"}, {"key": "tmpfs", "value": "/scratch:size=1m"}]}});
        let command =
            "cat /etc/resolv.conf; grep db /etc/hosts; grep -c '/scratch tmpfs' /proc/mounts; ls /sys/class/net";
        let end = self.run("docker-bridge", json!({ "value": command }), container);
        assert_eq!(end["state"], "TASK_FINISHED", "{end}");
        assert_eq!(self.stdout("docker-bridge"), "nameserver 10.9.9.9\n10.9.9.8 db\n1\neth0\nlo\n");
    }

    /// Everything in it is the container's own, whatever the node's file system can.
    fn an_image_belongs_to_a_user_namespace(&mut self) {
        let command = "id -u; grep -c ' 65536$' /proc/self/uid_map; ls -ln /srv/app/hello | tr -s ' ' | cut -d' ' -f3,4; \
            echo more >> /srv/app/hello && tail -n1 /srv/app/hello; touch /new && rm /etc/passwd && mv /bin/busybox /bin/busybox-2 && echo changed; \
            pwd; b=/bin/busybox-2; $b ls -lnd /made/for/me | $b tr -s ' ' | $b cut -d' ' -f3";
        let container = json!({"type": "DOCKER", "docker": {"image": format!("{ADDRESS}/lab/app:1"), "network": "HOST", "parameters": [
            {"key": "workdir", "value": "/made/for/me"}, {"key": "user", "value": "0"}]}});
        let labels = json!({"labels": [{"key": "mesolith.user_namespace", "value": "own"}]});
        let task = json!({"task_id": {"value": "own"}, "name": "own", "command": {"value": command}, "container": container, "labels": labels});
        self.tasks.launch_all(&[task], 0.1, 32.0, SOON).unwrap();
        let end = self.tasks.wait_end("own", SOON).unwrap();
        assert_eq!(end["state"], "TASK_FINISHED", "{end} {}", self.stdout("own"));
        assert_eq!(self.stdout("own"), "0\n1\n0 0\nmore\nchanged\n/made/for/me\n0\n");
        let end =
            self.run("not-own", json!({"value": "ls /new /bin/busybox; cat hello", "user": "app"}), mesos("lab/app:1"));
        assert_eq!(self.stdout("not-own"), "/bin/busybox\nhello from the image\n", "{end}");
    }

    fn images_are_volumes(&mut self) {
        let mut container = mesos("lab/app:1");
        let image = |name: &str| mesos(name)["mesos"]["image"].clone();
        container["volumes"] = json!([
            {"mode": "RO", "container_path": "/other", "image": image("lab/many:7")},
            {"mode": "RW", "container_path": "scratch", "image": image("lab/many:7")},
            {"mode": "RO", "container_path": "same", "image": image("lab/app:1")}]);
        let command = "cat /other/number scratch/number; ls same/etc/gone 2>/dev/null; cat same/srv/app/hello; \
            touch /other/x 2>/dev/null || echo read-only; echo x > scratch/x && echo scratch; id -u";
        let command = json!({"value": format!("cd /mnt/mesos/sandbox; {command}"), "user": "0"});
        for (id, more) in [
            ("volumes", json!({})),
            ("volumes-own", json!({"labels": [{"key": "mesolith.user_namespace", "value": "own"}]})),
        ] {
            let task = json!({"task_id": {"value": id}, "name": id, "command": command, "container": container, "labels": more});
            self.tasks.launch_all(&[task], 0.1, 32.0, SOON).unwrap();
            let end = self.tasks.wait_end(id, SOON).unwrap();
            assert_eq!(end["state"], "TASK_FINISHED", "{end}");
            assert_eq!(self.stdout(id), "image 7\nimage 7\nhello from the image\nread-only\nscratch\n0\n");
        }
        let mut wrong = mesos("lab/base:1");
        wrong["volumes"] = json!([{"mode": "RO", "container_path": "/other", "image": image("lab/nothing:1")}]);
        let end = self.run("no-volume", json!({"value": "true"}), wrong);
        assert!(end["message"].as_str().unwrap().contains("does not have it"), "{end}");
    }

    fn a_task_without_an_image_runs_in_the_default_one(&mut self) {
        self.tasks.launch("default", "ls /etc/gone && id -un", 0.1, 32.0, SOON).unwrap();
        let end = self.tasks.wait_end("default", SOON).unwrap();
        assert_eq!(end["state"], "TASK_FINISHED", "{end}");
        assert_eq!(self.stdout("default"), "/etc/gone\nroot\n");
    }

    fn what_cannot_be_run_says_why(&mut self) {
        let docker = |more: Value| {
            let mut docker = json!({"image": format!("{ADDRESS}/lab/base:1")});
            docker.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"type": "DOCKER", "docker": docker})
        };
        let appc = json!({"type": "MESOS", "mesos": {"image": {"type": "APPC", "appc": {"name": "coreos.com/etcd"}}}});
        let shell = json!({"value": "true"});
        for (id, command, container, words) in [
            ("missing", shell.clone(), mesos("lab/nothing:1"), "does not have it"),
            ("user", json!({"value": "true", "user": "alice"}), mesos("lab/base:1"), "unknown user 'alice'"),
            (
                "nothing",
                json!({"shell": false, "value": "/bin/nothing"}),
                mesos("lab/base:1"),
                "`/bin/nothing` not found",
            ),
            ("appc", shell.clone(), appc, "APPC images ('coreos.com/etcd')"),
            ("user-network", shell.clone(), docker(json!({"network": "USER"})), "name the network"),
            (
                "parameter",
                shell.clone(),
                docker(json!({"parameters": [{"key": "device", "value": "/dev/fuse"}]})),
                "'device'",
            ),
        ] {
            let end = self.run(id, command, container);
            assert_eq!(
                (&end["state"], &end["reason"]),
                (&json!("TASK_FAILED"), &json!("REASON_CONTAINER_LAUNCH_FAILED")),
                "{end}"
            );
            assert!(end["message"].as_str().unwrap().contains(words), "{id}: {end}");
        }
        let missing = &self.tasks.ends("missing")[0]["message"];
        assert!(missing.as_str().unwrap().contains(&format!("image '{ADDRESS}/lab/nothing:1'")), "{missing}");
    }

    fn many_pulls_of_shared_layers_download_each_once(&mut self) {
        let tasks: Vec<Value> = (0..MANY)
            .map(|number| {
                let id = format!("many-{number}");
                json!({"task_id": {"value": id}, "name": id, "command": {"value": "cat /number"}, "container": mesos(&format!("lab/many:{number}"))})
            })
            .collect();
        self.tasks.launch_all(&tasks, 0.04, 16.0, SOON).unwrap();
        for number in 0..MANY {
            let id = format!("many-{number}");
            let end = self.tasks.wait_end(&id, SOON).unwrap();
            assert_eq!(end["state"], "TASK_FINISHED", "{end}");
            assert_eq!(self.stdout(&id), format!("image {number}\n"));
        }
        for layer in self.shared.iter().chain(&self.own) {
            let given = self.registry.given(&layer.digest);
            assert_eq!(given, [layer.bytes.len() as u64], "{} was downloaded once and whole", layer.digest);
        }
    }

    fn a_corrupted_layer_is_refused(&mut self) {
        let end = self.run("corrupted", json!({"value": "true"}), mesos("lab/corrupted:1"));
        assert_eq!(end["state"], "TASK_FAILED", "{end}");
        let message = end["message"].as_str().unwrap();
        for words in [format!("{ADDRESS}/lab/corrupted:1"), self.corrupted.digest.clone(), "is corrupt".to_owned()] {
            assert!(message.contains(&words), "`{words}` in: {message}");
        }
    }

    /// 12 MiB take six seconds from now on.
    fn slow_down(&self) {
        let mut tc = self.rack.inside(Path::new("/sbin/tc"));
        tc.args("qdisc add dev tap1 root tbf rate 16mbit burst 64kb latency 500ms".split(' '));
        assert!(tc.status().unwrap().success());
    }

    /// Returns when the node has got some of a blob.
    fn wait_for_traffic(&self) {
        let sent = || -> u64 {
            let mut cat = self.rack.inside(Path::new("/bin/cat"));
            let output = cat.arg("/proc/net/dev").output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let line = text.lines().find(|line| line.trim_start().starts_with("tap1:")).unwrap();
            line.split_whitespace().nth(9).unwrap().parse().unwrap()
        };
        let (before, deadline) = (sent(), Instant::now() + SOON);
        while sent() < before + 2 * MIB as u64 {
            assert!(Instant::now() < deadline, "nothing is pulled");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn a_kill_gives_a_pull_up(&mut self) {
        self.launch("given-up", json!({"value": "true"}), mesos("lab/large:0"));
        self.wait_for_traffic();
        assert!(self.tasks.statuses("given-up").is_empty(), "it is staging");
        let since = Instant::now();
        self.tasks.kill("given-up").unwrap();
        let end = self.tasks.wait_end("given-up", SOON).unwrap();
        assert_eq!(
            (&end["state"], &end["reason"]),
            (&json!("TASK_KILLED"), &json!("REASON_TASK_KILLED_DURING_LAUNCH")),
            "{end}"
        );
        assert!(since.elapsed() < Duration::from_secs(4), "it waited for the pull: {:?}", since.elapsed());
    }

    fn an_agent_that_dies_while_it_pulls_goes_on_and_what_runs_keeps_its_root(&mut self) {
        let beats = json!({"shell": false, "arguments": ["sh", "-c", "while sleep 1; do echo beat $(ls /tmp); cat hello; done"]});
        self.launch("beats", beats, mesos("lab/app:1"));
        self.wait_stdout("beats", "beat mine");
        self.launch("resumed", json!({"value": "ls -l /noise"}), mesos("lab/large:1"));
        self.wait_for_traffic();
        let beaten = self.stdout("beats").lines().count();
        let killed = self.faults.kill("agent").unwrap();
        self.faults.wait_other("agent", killed, SOON).unwrap();
        let end = self.tasks.wait_end("resumed", SOON).unwrap();
        assert_eq!(end["state"], "TASK_FINISHED", "{end}");
        assert!(self.stdout("resumed").contains(&(12 * MIB).to_string()));
        let (given, size) = (self.registry.given(&self.large[1].digest), self.large[1].bytes.len() as u64);
        assert_eq!(given.len(), 2, "{given:?}");
        assert!(given[1] < size, "the rest of it, and not all of it again: {given:?} of {size}");
        let deadline = Instant::now() + SOON;
        while self.stdout("beats").lines().count() < beaten + 6 {
            assert!(Instant::now() < deadline, "it has lost its root: {}", self.stdout("beats"));
            std::thread::sleep(Duration::from_millis(200));
        }
        let said = self.stdout("beats");
        assert!(said.lines().rev().take(4).any(|line| line == "hello from the image"), "{said}");
        self.tasks.kill("beats").unwrap();
        assert_eq!(self.tasks.wait_end("beats", SOON).unwrap()["state"], "TASK_KILLED");
    }

    fn a_registry_that_dies_half_way_is_gone_on_with(&mut self) {
        self.launch("half-way", json!({"value": "ls -l /noise"}), mesos("lab/large:2"));
        self.wait_for_traffic();
        self.registry.kill();
        std::thread::sleep(Duration::from_secs(5));
        assert!(self.tasks.ends("half-way").is_empty());
        self.registry.serve(&self.rack);
        let end = self.tasks.wait_end("half-way", SOON).unwrap();
        assert_eq!(end["state"], "TASK_FINISHED", "{end}");
        assert!(self.stdout("half-way").contains(&(12 * MIB).to_string()));
        let (given, size) = (self.registry.given(&self.large[2].digest), self.large[2].bytes.len() as u64);
        // What a registry was giving when it was killed, it has not written into its log.
        assert!(given.len() == 1 && given[0] < size, "it went on where it was: {given:?} of {size}");
    }
}

fn mesos(image: &str) -> Value {
    json!({"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": format!("{ADDRESS}/{image}")}}}})
}
