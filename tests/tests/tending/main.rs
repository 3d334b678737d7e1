//! How tasks are tended on a booted node: looked at, entered, listed, and brought what they need.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

mod checks;
mod entered;
mod fetched;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::rack::{FaultLine, Options, Rack};
use tests::tasks::Tasks;

const BOOT: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(150);

struct World {
    rack: Rack,
    tasks: Tasks,
    faults: FaultLine,
    scratch: PathBuf,
}

#[test]
fn tasks_are_looked_at_and_entered_on_a_booted_node() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::start(directory.path());
    world.a_program_runs_beside_a_task_as_its_user_and_in_its_namespaces();
    world.a_shell_has_a_real_terminal();
    world.much_passes_both_ways_and_ends();
    world.nobody_enters_what_is_not_there();
    world.a_sandbox_is_listed_and_nothing_outside_it();
    world.a_failing_health_check_kills_and_tells();
    world.http_and_tcp_are_looked_at();
    world.checks_go_on_in_another_agent();
    world.files_are_fetched_for_ten_tasks_at_once();
    world.what_cannot_be_fetched_fails_the_task();
    world.a_log_bomb_is_kept_short_and_the_task_lives();
    // From here on the offers are another's.
    world.tasks.framework.call("TEARDOWN", &Value::Null).unwrap();
    world.pymesos_sees_checks();
    world.rack.end().unwrap();
}

impl World {
    fn start(directory: &Path) -> Self {
        let mut options = FaultLine::with_line(Options::new().unwrap());
        options.nodes = 1;
        options.memory_mib = 1024;
        let rack = Rack::start(options).unwrap();
        rack.wait_registered(1, BOOT).unwrap();
        let faults = FaultLine::connect(&rack).unwrap();
        let tasks = Tasks::subscribe(rack.api_url(), "tending").unwrap();
        Self { rack, tasks, faults, scratch: directory.to_owned() }
    }

    /// Launches a task of this id with more than a command.
    fn launch(&mut self, id: &str, command: &str, more: &Value) {
        let mut task = json!({"task_id": {"value": id}, "name": id, "command": {"value": command}});
        task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.tasks.launch_all(&[task], 0.1, 32.0, SOON).unwrap();
    }

    fn run(&mut self, id: &str, command: &str) {
        self.launch(id, command, &json!({}));
        self.tasks.wait_state(id, "TASK_RUNNING", SOON).unwrap();
    }

    fn end(&mut self, id: &str) {
        self.tasks.kill(id).unwrap();
        self.tasks.wait_end(id, SOON).unwrap();
    }

    /// The operator's program on this cluster.
    fn mesolith(&self, arguments: &[&str]) -> Command {
        let program = self.rack.options().programs.agent.with_file_name("mesolith");
        let mut command = Command::new(program);
        command.env("MESOLITH_MASTER", self.rack.api_url()).args(arguments).current_dir(&self.scratch);
        command
    }

    /// Takes in updates until this is true.
    fn wait(&mut self, what: &str, mut reached: impl FnMut(&Tasks) -> bool) {
        let deadline = Instant::now() + SOON;
        while !reached(&self.tasks) {
            assert!(Instant::now() < deadline, "{what}");
            self.tasks.take(Duration::from_millis(200)).unwrap();
        }
    }
}

fn said(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}
