//! What tasks bring with them, from a server on the rack's network; and what they write without end.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{SOON, World};

/// The master's address on the rack's network, where the server is reached, too.
const SERVER: &str = "10.77.0.1";
const PORT: u16 = 8099;
const TASKS: usize = 10;

/// Python's own server, in the network the nodes are in.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl World {
    fn serve(&self, log: &str) -> Server {
        let files = self.scratch.join("files");
        fs::create_dir_all(&files).unwrap();
        let pack = "import tarfile, io, sys\n\
            t = tarfile.open(sys.argv[1], 'w:xz')\n\
            i = tarfile.TarInfo('tool/run'); i.mode = 0o755; data = b'#!/bin/sh\\necho the tool ran as $(id -u)\\n'; i.size = len(data)\n\
            t.addfile(i, io.BytesIO(data)); t.close()\n\
            t = tarfile.open(sys.argv[2], 'w')\n\
            i = tarfile.TarInfo('../../escaped'); t.addfile(i); t.close()\n";
        let packed = std::process::Command::new("python3")
            .args(["-c", pack])
            .args([files.join("tool.tar.xz"), files.join("evil.tar")])
            .status()
            .unwrap();
        assert!(packed.success());
        let mut server = self.rack.inside(std::path::Path::new("/usr/bin/python3"));
        let log = fs::File::create(self.scratch.join(log)).unwrap();
        server.args(["-u", "-m", "http.server", &PORT.to_string(), "--bind", SERVER, "--directory"]).arg(&files);
        let server = Server(server.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        std::thread::sleep(Duration::from_secs(2));
        server
    }

    pub(super) fn files_are_fetched_for_ten_tasks_at_once(&mut self) {
        let _server = self.serve("served.log");
        let uri = format!("http://{SERVER}:{PORT}/tool.tar.xz");
        let tasks: Vec<Value> = (0..TASKS)
            .map(|number| {
                let id = format!("tool-{number}");
                let command = json!({"value": "ls; tool/run", "user": "1234", "uris": [{"value": uri, "cache": true}]});
                json!({"task_id": {"value": id}, "name": id, "command": command})
            })
            .collect();
        self.tasks.launch_all(&tasks, 0.05, 16.0, SOON).unwrap();
        for number in 0..TASKS {
            let id = format!("tool-{number}");
            let end = self.tasks.wait_end(&id, SOON).unwrap();
            assert_eq!(end["state"], "TASK_FINISHED", "{end}");
            assert!(self.tasks.stdout(&id).unwrap().contains("the tool ran as 1234"));
        }
        let served = fs::read_to_string(self.scratch.join("served.log")).unwrap();
        assert_eq!(served.matches("GET /tool.tar.xz").count(), 1, "{served}");
        println!("{TASKS} tasks fetched one archive with one download");
    }

    pub(super) fn what_cannot_be_fetched_fails_the_task(&mut self) {
        let _server = self.serve("served-2.log");
        let here = |path: &str| format!("http://{SERVER}:{PORT}/{path}");
        for (id, uri, words) in [
            ("missing", here("missing"), "404"),
            ("evil", here("evil.tar"), "`..` in its path"),
            ("keys", "file:///run/mesolith/agent/pki/node.key".to_owned(), "cannot read it"),
            ("corrupt", here(&format!("tool.tar.xz#sha256={}", "0".repeat(64))), "checksum"),
        ] {
            let task = json!({"command": {"value": "true", "uris": [{"value": uri}]}});
            self.launch(id, "", &task);
            let end = self.tasks.wait_end(id, SOON).unwrap();
            let expected = (&json!("TASK_FAILED"), &json!("REASON_CONTAINER_LAUNCH_FAILED"));
            assert_eq!((&end["state"], &end["reason"]), expected, "{end}");
            let message = end["message"].as_str().unwrap();
            assert!(message.contains("Failed to fetch all URIs for container") && message.contains(words), "{message}");
        }
    }

    pub(super) fn a_log_bomb_is_kept_short_and_the_task_lives(&mut self) {
        // 40 MiB in a node whose files are memory, by a task that has 96.
        let bomb = "i=0; while [ $i -lt 40 ]; do head -c 1048576 /dev/zero | tr '\\0' x; echo; i=$((i+1)); sleep 0.5; done; \
            echo the end; sleep 1000";
        let task = json!({"task_id": {"value": "bomb"}, "name": "bomb", "command": {"value": bomb}});
        self.tasks.launch_all(&[task], 0.1, 96.0, SOON).unwrap();
        let deadline = Instant::now() + SOON;
        loop {
            let said = self.tasks.stdout("bomb").unwrap_or_default();
            if said.ends_with("the end\n") {
                assert!(said.len() < 12 << 20, "{} bytes are left", said.len());
                break;
            }
            assert!(self.tasks.ends("bomb").is_empty(), "it was ended: {:?}", self.tasks.ends("bomb"));
            assert!(Instant::now() < deadline, "it has not written all: {}", said.len());
            self.tasks.take(Duration::from_secs(2)).unwrap();
        }
        self.end("bomb");
    }
}
