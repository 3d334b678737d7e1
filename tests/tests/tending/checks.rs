//! Checks and health checks: by our own framework, and as an unmodified client sees them.

use std::time::Duration;

use serde_json::{Value, json};
use tests::clients::{PythonPackages, programs, run_to_end};

use super::{SOON, World};

const HEALTH: &str = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED";
const CHECK: &str = "REASON_TASK_CHECK_STATUS_UPDATED";

impl World {
    pub(super) fn a_failing_health_check_kills_and_tells(&mut self) {
        let health = json!({"health_check": {"type": "COMMAND", "command": {"value": "test -e $MESOS_SANDBOX/well"},
            "delay_seconds": 0, "interval_seconds": 0.5, "grace_period_seconds": 0, "consecutive_failures": 3}});
        self.launch("sick", "touch well; sleep 6; rm well; sleep 1000", &health);
        let end = self.tasks.wait_end("sick", SOON).unwrap();
        assert_eq!((&end["state"], &end["healthy"]), (&json!("TASK_KILLED"), &json!(false)), "{end}");
        let told: Vec<Value> = self.told("sick", HEALTH).iter().map(|status| status["healthy"].clone()).collect();
        // It may have been looked at before it was well.
        let from = told.iter().position(|healthy| *healthy == true).expect("it was well once");
        assert_eq!(told[from..], [json!(true), json!(false), json!(false), json!(false)], "{told:?}");
    }

    pub(super) fn http_and_tcp_are_looked_at(&mut self) {
        let script = "mkdir -p www; echo up > www/up; httpd -f -p 31999 -h www & sleep 1000";
        let more = json!({
            "check": {"type": "HTTP", "http": {"port": 31999, "path": "/up"}, "delay_seconds": 0, "interval_seconds": 1},
            "health_check": {"type": "TCP", "tcp": {"port": 31999}, "delay_seconds": 0, "interval_seconds": 1,
                "grace_period_seconds": 60}});
        self.launch("served", script, &more);
        self.wait("it is seen and healthy", |tasks| {
            let statuses = tasks.statuses("served");
            statuses.iter().any(|status| status["healthy"] == true)
                && statuses.iter().any(|status| status["check_status"]["http"]["status_code"] == 200)
        });
        let first = self.tasks.statuses("served").iter().find(|status| status["state"] == "TASK_STARTING").unwrap();
        assert_eq!(first["check_status"], json!({"type": "HTTP", "http": {}}), "{first}");
        self.end("served");
    }

    pub(super) fn checks_go_on_in_another_agent(&mut self) {
        let check = json!({"check": {"type": "COMMAND", "command": {"command": {"value": "test -e go"}},
            "delay_seconds": 0, "interval_seconds": 1}});
        self.launch("watched", "sleep 25; touch go; sleep 1000", &check);
        let seen = |code: i32| move |status: &Value| status["check_status"]["command"]["exit_code"] == code;
        self.wait("the first look", |tasks| tasks.statuses("watched").iter().any(seen(1)));
        let killed = self.faults.kill("agent").unwrap();
        self.faults.wait_other("agent", killed, SOON).unwrap();
        self.wait("what came after", |tasks| tasks.statuses("watched").iter().any(seen(0)));
        assert_eq!(self.told("watched", CHECK).len(), 2, "nothing is told twice: {:?}", self.told("watched", CHECK));
        self.end("watched");
    }

    pub(super) fn pymesos_sees_checks(&mut self) {
        let python = PythonPackages::install(&self.scratch.join("python"), &["requirements.txt"]).unwrap();
        let result = self.scratch.join("result.json");
        let mut command = python.python();
        command.arg(programs().join("pymesos_framework.py")).arg(self.rack.api_address()).arg(&result).arg("checks");
        run_to_end(&mut command, &self.scratch.join("framework.log"), Duration::from_secs(300)).unwrap();
        let result: Value = serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap();
        assert_eq!(result["failures"], json!({}), "{result}");
        let scenario = &result["scenarios"]["checks"];
        let (end, list) = (&scenario["end"], |name: &str| scenario[name].as_array().unwrap().clone());
        assert_eq!((&end["state"], &end["healthy"]), (&json!("TASK_KILLED"), &json!(false)), "{end}");
        assert!(list("sick").iter().any(|update| update["reason"] == HEALTH && update["healthy"] == true));
        let codes: Vec<i64> = list("seen")
            .iter()
            .filter(|update| update["reason"] == CHECK)
            .filter_map(|update| update["check_status"]["command"]["exit_code"].as_i64())
            .collect();
        assert_eq!(codes[..3], [1, 0, 1], "{codes:?}");
        assert!(
            list("seen").iter().all(|update| update["check_status"]["type"] == "COMMAND"),
            "every status carries it"
        );
        println!("pymesos saw the check's {codes:?} and the end of the sick task");
    }

    /// The updates of a task for this reason, each once.
    fn told(&self, id: &str, reason: &str) -> Vec<Value> {
        let mut told: Vec<Value> = Vec::new();
        for status in self.tasks.statuses(id).iter().filter(|status| status["reason"] == reason) {
            if !told.iter().any(|known| known["uuid"] == status["uuid"]) {
                told.push(status.clone());
            }
        }
        told
    }
}
