//! Debian's docker-registry: filled over the host's loopback, then served to the nodes inside the rack's network.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::http;
use tests::rack::Rack;

use super::image::Image;

/// Where nodes find it.
pub(crate) const ADDRESS: &str = "10.77.0.1:5000";
const ANSWER: Duration = Duration::from_secs(30);

/// The program, its storage and its log. Dropping it ends the program.
pub(crate) struct Registry {
    directory: PathBuf,
    child: Option<Child>,
}

impl Registry {
    /// An empty one in this directory, which is not running.
    pub(crate) fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        Self { directory: directory.to_owned(), child: None }
    }

    fn config(&self, address: &str) -> PathBuf {
        let path = self.directory.join("config.yml");
        let storage = self.directory.join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
             http: {{addr: \"{address}\"}}\n",
            storage.display()
        );
        fs::write(&path, text).unwrap();
        path
    }

    fn start(&mut self, mut command: Command, address: &str) {
        assert!(self.child.is_none(), "it is running");
        let log = File::options().append(true).create(true).open(self.log_file()).unwrap();
        command.arg("serve").arg(self.config(address)).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().expect("docker-registry of the package docker-registry starts"));
    }

    /// Starts it on the host's loopback, pushes the images, ends it.
    pub(crate) fn fill(&mut self, images: &[(&str, &Image)]) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        self.start(Command::new("docker-registry"), &address);
        let deadline = Instant::now() + ANSWER;
        while !http::get(&format!("http://{address}/v2/"), ANSWER).is_ok_and(|answer| answer.status == 200) {
            assert!(Instant::now() < deadline, "the registry does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        for (name, image) in images {
            push(&address, name, image);
        }
        self.kill();
        fs::remove_file(self.log_file()).unwrap();
    }

    /// Serves the nodes of a rack; returns when it does.
    pub(crate) fn serve(&mut self, rack: &Rack) {
        self.start(rack.inside(Path::new("/usr/bin/docker-registry")), ADDRESS);
        let deadline = Instant::now() + ANSWER;
        loop {
            let mut probe = rack.inside(Path::new("/bin/busybox"));
            probe.args(["wget", "-q", "-O", "/dev/null", &format!("http://{ADDRESS}/v2/")]).stderr(Stdio::null());
            if probe.status().is_ok_and(|status| status.success()) {
                return;
            }
            assert!(Instant::now() < deadline, "the registry does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it is running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The bytes of each answer to a GET of this blob, in order.
    pub(crate) fn given(&self, digest: &str) -> Vec<u64> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains("\"GET ") && line.contains(&format!("/blobs/{digest} ")));
        let sizes = lines.filter_map(|line| {
            let mut words = line.split_once("HTTP/1.1\" ")?.1.split_whitespace();
            let given = words.next().is_some_and(|status| status.starts_with('2'));
            words.next()?.parse().ok().filter(|_| given)
        });
        sizes.collect()
    }

    /// Changes one byte of a blob where it is stored.
    pub(crate) fn corrupt(&self, digest: &str) {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let path =
            self.directory.join("storage/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data");
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `name` is `repository:tag`.
fn push(address: &str, name: &str, image: &Image) {
    let (repository, tag) = name.split_once(':').unwrap();
    let base = format!("http://{address}/v2/{repository}");
    let blobs = image.layers.iter().map(|layer| layer.bytes.as_slice()).chain([image.config.as_slice()]);
    for blob in blobs {
        let digest = super::image::digest(blob);
        let known = http::request("HEAD", &format!("{base}/blobs/{digest}"), &[], None, ANSWER);
        if known.is_ok_and(|answer| answer.status == 200) {
            continue;
        }
        let begun = http::request("POST", &format!("{base}/blobs/uploads/"), &[], Some(b""), ANSWER).unwrap();
        let place = begun.success().unwrap().header("location").unwrap().to_owned();
        let place = if place.starts_with('/') { format!("http://{address}{place}") } else { place };
        let joint = if place.contains('?') { '&' } else { '?' };
        let headers = [("Content-Type", "application/octet-stream")];
        let put = http::request("PUT", &format!("{place}{joint}digest={digest}"), &headers, Some(blob), ANSWER);
        put.unwrap().success().unwrap();
    }
    let kind = image.media_type();
    let headers = [("Content-Type", kind.as_str())];
    let put = http::request("PUT", &format!("{base}/manifests/{tag}"), &headers, Some(&image.manifest), ANSWER);
    put.unwrap().success().unwrap();
}
