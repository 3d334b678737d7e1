//! `mesolith exec`, `mesolith attach` and `mesolith files` on a task in a container.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use super::terminal::Terminal;
use super::{SOON, World, said};

impl World {
    pub(super) fn a_program_runs_beside_a_task_as_its_user_and_in_its_namespaces(&mut self) {
        let command = json!({"command": {"value": "echo mine > here; export TOLD=1; sleep 1000", "user": "1234",
            "environment": {"variables": [{"name": "GREETING", "value": "hello"}]}}});
        self.launch("entered", "", &command);
        self.tasks.wait_state("entered", "TASK_RUNNING", SOON).unwrap();
        // What is in its namespaces, its cgroup and its environment; and what it may not.
        let script = "id -u; pwd; cat here; echo $GREETING; echo $$; ps | grep -c 'sleep 100[0]'; \
            grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr -s '\\t' ' '; cat /proc/self/cgroup; \
            mount -t tmpfs x /tmp 2>/dev/null && echo mounted; ls /proc/self/fd | wc -w; echo bad >&2; exit 7";
        let output = self.mesolith(&["exec", "entered", "--", "sh", "-c", script]).output().unwrap();
        let (stdout, stderr, code) = said(&output);
        assert_eq!((stderr.as_str(), code), ("bad\n", Some(7)), "{stdout}");
        let lines: Vec<&str> = stdout.lines().collect();
        assert_eq!(&lines[..4], ["1234", "/mnt/mesos/sandbox", "mine", "hello"], "{stdout}");
        assert!(lines[4].parse::<u32>().unwrap() < 100, "its own process numbers: {stdout}");
        for line in ["1", "CapEff: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2", "0::/"] {
            assert!(lines.contains(&line), "`{line}` in: {stdout}");
        }
        assert!(!lines.contains(&"mounted"), "{stdout}");
        // Three streams and the directory that is listed.
        assert_eq!(lines.last(), Some(&"4"), "nothing of the agent's is open: {stdout}");

        let missing = self.mesolith(&["exec", "entered", "--", "nothing-of-this-name"]).output().unwrap();
        let (_, stderr, code) = said(&missing);
        assert!(code == Some(127) && stderr.contains("`nothing-of-this-name` was not found"), "{stderr} {code:?}");
        let killed = self.mesolith(&["exec", "entered", "--", "sh", "-c", "kill -9 $$"]).output().unwrap();
        assert_eq!(killed.status.code(), Some(137));
        // What the agent is made of cannot be written through the process that entered.
        let exe = "sleep 0.2; (echo x >> /proc/$PPID/exe) 2>&1; true";
        let output = self.mesolith(&["exec", "entered", "--", "sh", "-c", exe]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
    }

    pub(super) fn a_shell_has_a_real_terminal(&mut self) {
        let mut terminal = Terminal::open(33, 101);
        let mut shell = terminal.spawn(&mut self.mesolith(&["exec", "-it", "entered", "--", "sh"]));
        terminal.wait_for("$ ");
        terminal.say("tty; stty size; echo T=$TERM\n");
        terminal.wait_for("/dev/pts/0");
        terminal.wait_for("33 101");
        terminal.wait_for("T=xterm");
        // A window that changes, and a key that interrupts.
        terminal.resize(44, 120, shell.id());
        let deadline = Instant::now() + SOON;
        loop {
            terminal.say("stty size\n");
            if terminal.sees("44 120", Duration::from_secs(2)) {
                break;
            }
            assert!(Instant::now() < deadline, "the window's size does not arrive: {}", terminal.seen());
        }
        terminal.say("sleep 500\n");
        std::thread::sleep(Duration::from_secs(1));
        terminal.say("\u{3}");
        terminal.say("echo code=$?\n");
        terminal.wait_for("code=130");
        terminal.say("exit 3\n");
        assert_eq!(shell.wait().unwrap().code(), Some(3));
        // One whose client dies leaves nothing behind.
        let mut terminal = Terminal::open(24, 80);
        let mut shell = terminal.spawn(&mut self.mesolith(&["exec", "-it", "entered", "--", "sh"]));
        terminal.wait_for("$ ");
        terminal.say("sleep 777\n");
        std::thread::sleep(Duration::from_secs(1));
        shell.kill().unwrap();
        shell.wait().unwrap();
        let deadline = Instant::now() + SOON;
        loop {
            let output = self.mesolith(&["exec", "entered", "--", "ps"]).output().unwrap();
            let (stdout, ..) = said(&output);
            if !stdout.contains("sleep 777") {
                assert!(stdout.contains("sleep 1000"), "{stdout}");
                break;
            }
            assert!(Instant::now() < deadline, "it has stayed: {stdout}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    pub(super) fn much_passes_both_ways_and_ends(&mut self) {
        let input: Vec<u8> = (0..3_000_000u32).flat_map(|number| number.to_le_bytes()).collect();
        let mut cat = self.mesolith(&["exec", "-i", "entered", "--", "cat"]);
        let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = cat.stdin.take().unwrap();
        let given = input.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&given).unwrap());
        let began = Instant::now();
        let output = cat.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.stdout == input, "{} bytes of {} came back", output.stdout.len(), input.len());
        let mib = f64::from(u32::try_from(input.len()).unwrap()) / f64::from(1u32 << 20);
        println!("{mib:.0} MiB through cat and back at {:.1} MiB/s", mib / began.elapsed().as_secs_f64());
    }

    pub(super) fn nobody_enters_what_is_not_there(&mut self) {
        for (task, words) in [("nothing", "no task is called"), ("entered", "")] {
            let output = self.mesolith(&["exec", task, "--", "true"]).output().unwrap();
            let (_, stderr, code) = said(&output);
            assert_eq!(code, Some(if words.is_empty() { 0 } else { 125 }), "{stderr}");
            assert!(stderr.contains(words), "{stderr}");
        }
        self.end("entered");
        let output = self.mesolith(&["exec", "entered", "--", "true"]).output().unwrap();
        let (_, stderr, code) = said(&output);
        assert!(code == Some(125) && !stderr.is_empty(), "{stderr} {code:?}");
    }

    pub(super) fn a_sandbox_is_listed_and_nothing_outside_it(&mut self) {
        let script = "mkdir -p a/b; echo deep > a/b/file; ln -s /etc/passwd out; ln -s ../../../../../../.. up; \
            mkfifo pipe; echo ready; while sleep 1; do echo beat; done";
        self.run("files", script);
        self.wait("the files are there", |tasks| tasks.stdout("files").is_ok_and(|said| said.contains("ready")));
        let list = |path: &str| said(&self.mesolith(&["files", "files", path, "--json"]).output().unwrap());
        let (stdout, stderr, _) = list("");
        for name in ["\"a\"", "\"out\"", "\"pipe\"", "\"stdout\"", "drwxr-xr-x", "prw-r--r--"] {
            assert!(stdout.contains(name), "`{name}` in: {stdout} {stderr}");
        }
        assert!(list("a/b").0.contains("\"a/b/file\""));
        let read = |path: &str| said(&self.mesolith(&["files", "files", "--cat", path]).output().unwrap());
        assert_eq!(read("a/b/file").0, "deep\n");
        for outside in ["out", "up/etc/passwd", "../../../../../../../etc/passwd", "pipe", "a"] {
            let (stdout, stderr, code) = read(outside);
            assert!(stdout.is_empty() && code == Some(1) && !stderr.is_empty(), "{outside}: {stdout} {stderr}");
        }
        for outside in ["out", "up", "../.."] {
            assert_eq!(list(outside).2, Some(1), "{outside}");
        }
        // Somebody who looks on sees what comes from then on, until the task ends.
        let attached = self.mesolith(&["attach", "files"]).stdout(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_secs(5));
        self.end("files");
        let (stdout, _, code) = said(&attached.wait_with_output().unwrap());
        assert!(stdout.contains("beat\n") && !stdout.contains("ready") && code == Some(0), "{stdout} {code:?}");
    }
}
