//! A master without a rack, on loopback: for tests that bring their own agents, or none.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::http;
use crate::rack::Programs;

/// Its first start makes a CA and a Raft log.
const READY: Duration = Duration::from_secs(60);

/// The master is on this host.
const ANSWER: Duration = Duration::from_secs(10);

/// A running master. Dropping it kills it.
pub struct BareMaster {
    process: Child,
    dir: PathBuf,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// `127.0.0.1:PORT`, where agents connect.
    pub link: String,
}

impl BareMaster {
    /// Starts one whose API is plain and open, with its data and log in `dir`; `more` is added to its command line.
    pub fn start(dir: &Path, more: &[&str]) -> Result<Self> {
        Self::start_at(dir, "127.0.0.1:0", "127.0.0.1:0", more)
    }

    /// The same, with the API and the link at these addresses.
    pub fn start_at(dir: &Path, http: &str, link: &str, more: &[&str]) -> Result<Self> {
        Self::start_program(&Programs::find()?.master, dir, http, link, more)
    }

    /// The same, of another version.
    pub fn start_program(program: &Path, dir: &Path, http: &str, link: &str, more: &[&str]) -> Result<Self> {
        Self::spawn(program, dir, &[&["--http", http, "--link", link, "--insecure-api"], more].concat())
    }

    /// Starts one whose API speaks TLS and asks for credentials, unless `more` says otherwise.
    pub fn start_guarded(dir: &Path, more: &[&str]) -> Result<Self> {
        Self::spawn(
            &Programs::find()?.master,
            dir,
            &[&["--http", "127.0.0.1:0", "--link", "127.0.0.1:0"], more].concat(),
        )
    }

    fn spawn(program: &Path, dir: &Path, arguments: &[&str]) -> Result<Self> {
        let log = File::options().create(true).append(true).open(dir.join("master.log"));
        let log = log.context("cannot write the master's log")?;
        let data = dir.join("master");
        // Of a master that was killed here.
        drop(fs::remove_file(data.join("ready.json")));
        let process = Command::new(program)
            .arg("--data")
            .arg(&data)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start mesolith-master; `./dev build` makes it")?;
        // From here on an error drops it, and so kills the process.
        let mut master = Self { process, dir: dir.to_owned(), url: String::new(), link: String::new() };
        let deadline = Instant::now() + READY;
        let ready: Value = loop {
            if let Ok(text) = fs::read(data.join("ready.json")) {
                break serde_json::from_slice(&text)?;
            }
            if let Some(status) = master.process.try_wait()? {
                bail!("the master ended with {status}:\n{}", master.log());
            }
            ensure!(Instant::now() < deadline, "the master does not serve after {READY:?}:\n{}", master.log());
            std::thread::sleep(Duration::from_millis(20));
        };
        let text = |key: &str| ready[key].as_str().with_context(|| format!("ready.json has no {key}"));
        (master.url, master.link) = (format!("http://{}", text("http")?), text("link")?.to_owned());
        Ok(master)
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.join("master")
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("master.log")).unwrap_or_default()
    }

    /// GET a path of its API, which must answer 2xx with JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        http::get(&format!("{}{path}", self.url), ANSWER)?.success()?.json()
    }

    /// A join token for a node of this name, and `sha256:HEX` of the CA to pin.
    pub fn token(&self, node: &str) -> Result<(String, String)> {
        let wanted = json!({ "name": node }).to_string();
        let answer =
            http::post_json(&format!("{}/mesolith/v1/tokens", self.url), &wanted, ANSWER)?.success()?.json()?;
        let text = |key: &str| answer[key].as_str().with_context(|| format!("the token answer has no {key}"));
        let ca = text("ca_sha256")?;
        Ok((text("token")?.to_owned(), format!("sha256:{}", ca.trim_start_matches("sha256:"))))
    }

    /// The active agents in `/state`.
    pub fn agents(&self) -> Result<Vec<Value>> {
        let state = self.get("/state")?;
        let agents = state["slaves"].as_array().context("/state lists agents")?;
        Ok(agents.iter().filter(|agent| agent["active"] == true).cloned().collect())
    }
}

impl Drop for BareMaster {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
