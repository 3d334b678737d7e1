//! Schedules of checks, and what frameworks are told, look by look.

use super::*;

fn task(text: &str) -> TaskInfo {
    serde_json::from_str(text).unwrap()
}

fn health(more: &str) -> TaskInfo {
    task(&format!(
        r#"{{"health_check":{{"type":"COMMAND","command":{{"value":"true"}},"delay_seconds":0,"interval_seconds":1,
            "timeout_seconds":2,"consecutive_failures":3{more}}}}}"#
    ))
}

const BAD: Seen = Seen::Exit(1);
const GOOD: Seen = Seen::Exit(0);

/// Looks once at `now_ms`, sees this.
fn look(checks: &mut Checks, task: &TaskInfo, now_ms: u64, seen: &Seen) -> Option<News> {
    let probes = checks.due(task, now_ms);
    assert_eq!(probes.len(), 1, "one look at {now_ms}");
    checks.seen(task, probes[0].kind, probes[0].number, seen, now_ms)
}

#[test]
fn the_first_look_is_after_the_delay_and_the_next_an_interval_after_the_last_ended() {
    let task = task(r#"{"health_check":{"type":"TCP","tcp":{"port":80},"delay_seconds":2.5,"interval_seconds":4}}"#);
    let mut checks = Checks::default();
    assert!(checks.due(&task, 99_999).is_empty(), "it does not run yet");
    checks.begin(&task, 1_000);
    assert_eq!(checks.deadline_ms(), Some(3_500));
    assert!(checks.due(&task, 3_499).is_empty());
    let probe = checks.due(&task, 3_500).remove(0);
    assert_eq!(probe.target, Target::Tcp { v6: false, port: 80 });
    assert_eq!(probe.timeout_ms, Some(20_000), "Mesos's default");
    assert!(checks.due(&task, 9_000).is_empty() && checks.deadline_ms().is_none(), "one at a time");
    assert_eq!(checks.seen(&task, Kind::Health, probe.number, &Seen::Connected, 9_000), Some(News::Healthy));
    assert_eq!(checks.deadline_ms(), Some(13_000));
    assert_eq!(checks.seen(&task, Kind::Health, probe.number, &Seen::Connected, 9_001), None, "twice");
}

#[test]
fn failures_count_after_the_grace_and_the_third_in_a_row_kills() {
    let task = health(r#","grace_period_seconds":5"#);
    let mut checks = Checks::default();
    checks.begin(&task, 0);
    for now in [0, 2_000, 5_000] {
        assert_eq!(look(&mut checks, &task, now, &BAD), None, "in grace");
    }
    for (now, seen, news) in [
        (6_000, &BAD, Some(News::Unhealthy { failures: 1, kill: false })),
        (7_000, &BAD, Some(News::Unhealthy { failures: 2, kill: false })),
        (8_000, &GOOD, Some(News::Healthy)),
        (9_000, &GOOD, None),
        (10_000, &BAD, Some(News::Unhealthy { failures: 1, kill: false })),
        (11_000, &Seen::Failed("late".to_owned()), Some(News::Unhealthy { failures: 2, kill: false })),
        (12_000, &BAD, Some(News::Unhealthy { failures: 3, kill: true })),
    ] {
        assert_eq!(look(&mut checks, &task, now, seen), news, "at {now}");
    }
    assert_eq!(checks.deadline_ms(), None, "nobody looks at a task that is to end");
    let mut status = TaskStatus::default();
    checks.tell(&task, &mut status);
    assert_eq!((status.healthy, status.check_status), (Some(false), None));
}

#[test]
fn the_first_success_ends_the_grace() {
    let task = health(r#","grace_period_seconds":60"#);
    let mut checks = Checks::default();
    checks.begin(&task, 0);
    assert_eq!(look(&mut checks, &task, 0, &GOOD), Some(News::Healthy));
    assert_eq!(look(&mut checks, &task, 1_000, &BAD), Some(News::Unhealthy { failures: 1, kill: false }));
}

#[test]
fn a_check_tells_only_changes_and_every_status_carries_it() {
    let task =
        task(r#"{"check":{"type":"HTTP","http":{"port":80,"path":"/x"},"delay_seconds":0,"interval_seconds":1}}"#);
    let mut checks = Checks::default();
    let told = |checks: &Checks| {
        let mut status = TaskStatus::default();
        checks.tell(&task, &mut status);
        serde_json::to_value(status.check_status).unwrap()
    };
    assert_eq!(told(&checks), serde_json::json!({"type": "HTTP", "http": {}}), "empty until known");
    checks.begin(&task, 0);
    for (now, seen, news) in [
        (0, Seen::Failed("nobody there".to_owned()), None),
        (1_000, Seen::Status(503), Some(News::CheckChanged)),
        (2_000, Seen::Status(503), None),
        (3_000, Seen::Status(200), Some(News::CheckChanged)),
        (4_000, Seen::Failed("late".to_owned()), Some(News::CheckChanged)),
    ] {
        assert_eq!(look(&mut checks, &task, now, &seen), news, "at {now}");
    }
    assert_eq!(told(&checks), serde_json::json!({"type": "HTTP", "http": {}}));
    assert_eq!(look(&mut checks, &task, 5_000, &Seen::Status(204)), Some(News::CheckChanged));
    assert_eq!(told(&checks)["http"]["status_code"], 204);
}

#[test]
fn another_agent_goes_on_with_what_was_told() {
    let task = health(r#","grace_period_seconds":0"#);
    let mut checks = Checks::default();
    checks.begin(&task, 100);
    assert_eq!(look(&mut checks, &task, 100, &BAD), Some(News::Unhealthy { failures: 1, kill: false }));
    assert_eq!(checks.due(&task, 1_100).len(), 1, "one is under way");
    let mut again: Checks = serde_json::from_str(&serde_json::to_string(&checks).unwrap()).unwrap();
    again.resume(&task, 5_000);
    assert_eq!(look(&mut again, &task, 5_000, &BAD), Some(News::Unhealthy { failures: 2, kill: false }));
    assert_eq!(look(&mut again, &task, 6_000, &BAD), Some(News::Unhealthy { failures: 3, kill: true }));
}

#[test]
fn what_older_frameworks_leave_out_is_read_from_what_they_say() {
    let probe = |text: &str| {
        let task = task(&format!(r#"{{"health_check":{text}}}"#));
        let mut checks = Checks::default();
        checks.begin(&task, 0);
        checks.due(&task, 60_000).pop().map(|probe| (probe.target, probe.timeout_ms))
    };
    let (target, timeout) = probe(
        r#"{"command":{"value":"a b","environment":{"variables":[{"name":"N","value":"v"}]}},"timeout_seconds":0}"#,
    )
    .unwrap();
    let arguments = ["/bin/sh", "-c", "a b"].map(str::to_owned).to_vec();
    let environment = vec![("N".to_owned(), "v".to_owned())];
    assert_eq!((target, timeout), (Target::Command { arguments, environment }, None));
    let (target, _) = probe(r#"{"http":{"port":8443,"scheme":"https","path":"/up","protocol":"IPv6"}}"#).unwrap();
    assert_eq!(target, Target::Http { tls: true, v6: true, port: 8443, path: "/up".to_owned() });
    assert_eq!(probe("{}"), None);
    assert_eq!(probe(r#"{"type":"HTTP","http":{"port":70000}}"#), None);
}

#[test]
fn an_interval_of_nothing_does_not_spin() {
    let mut task = health("");
    task.health_check.as_mut().unwrap().interval_seconds = Some(0.0);
    let mut checks = Checks::default();
    checks.begin(&task, 0);
    look(&mut checks, &task, 0, &GOOD);
    assert_eq!(checks.deadline_ms(), Some(LEAST_INTERVAL_MS));
}
