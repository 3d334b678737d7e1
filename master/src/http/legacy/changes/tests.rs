//! What the real master answered to the same bodies.

use serde_json::json;

use super::*;

fn refused(change: Result<OperatorWrite, Invalid>) -> String {
    change.unwrap_err().0
}

#[test]
fn weights_are_refused_in_mesoss_words() {
    for (body, error) in [
        ("", "Failed to parse update weights request JSON '': syntax error at line 1 near: "),
        ("{", "Failed to parse update weights request JSON '{': syntax error at line 1 near: "),
        ("{}", "Failed to parse update weights request JSON '{}': Unexpected JSON type parsed"),
        (
            r#"[{"role":"a","weight":0}]"#,
            "Failed to validate update weights request JSON for role 'a': Invalid weight '0': Weights must be positive",
        ),
        (
            r#"[{"role":"a","weight":-1}]"#,
            "Failed to validate update weights request JSON for role 'a': Invalid weight '-1': Weights must be positive",
        ),
        (
            r#"[{"role":"a"}]"#,
            r#"Failed to convert weights JSON array to protobuf '[{"role":"a"}]': Missing required fields: weight"#,
        ),
        (
            r#"[{"weight":2}]"#,
            "Failed to validate update weights request JSON: Invalid role '': Role names cannot be the empty string",
        ),
        (
            r#"[{"role":"a b","weight":2}]"#,
            "Failed to validate update weights request JSON: Invalid role 'a b': Role component 'a b' is invalid because it contains backspace or whitespace",
        ),
        (
            r#"[{"role":"/a","weight":2}]"#,
            "Failed to validate update weights request JSON: Invalid role '/a': Role '/a' cannot start with a slash",
        ),
        (
            r#"[{"role":"a","weight":"x"}]"#,
            r#"Failed to convert weights JSON array to protobuf '[{"role":"a","weight":"x"}]': Failed to parse 'x' as a JSON number for field 'weight': syntax error at line 1 near: x"#,
        ),
        ("[1]", "Failed to convert weights JSON array to protobuf '[1]': Expecting a JSON object"),
        (
            r#"[{"role":" ","weight":3}]"#,
            "Failed to validate update weights request JSON: Invalid role '': Role names cannot be the empty string",
        ),
    ] {
        assert_eq!(refused(read_weights(body.as_bytes())), error);
    }
    let both = br#"[{"role":"a","weight":2},{"role":"*","weight":"3.5"}]"#;
    assert_eq!(
        read_weights(both).unwrap(),
        OperatorWrite::UpdateWeights(vec![("a".to_owned(), 2.0), ("*".to_owned(), 3.5)])
    );
    assert_eq!(read_weights(b"[]").unwrap(), OperatorWrite::UpdateWeights(vec![]));
}

#[test]
fn quota_requests_are_refused_in_mesoss_words() {
    let cpus = |more: Value| {
        let mut resource = json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}});
        resource.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"role": "q", "guarantee": [resource]})
    };
    let prefix = "Failed to validate set quota request: ";
    for (body, error) in [
        (json!({}), "QuotaInfo with invalid role: Role names cannot be the empty string"),
        (json!({"role": "q"}), "QuotaInfo with empty 'guarantee'"),
        (cpus(json!({"role": "r"})), "QuotaInfo must not contain any ReservationInfo"),
        (
            cpus(json!({"reservation": {}})),
            "QuotaInfo with invalid resource: Resource 'cpus:1' is invalid: Invalid reservation: role \"*\" cannot be dynamically reserved",
        ),
        (
            cpus(json!({"disk": {}})),
            "QuotaInfo with invalid resource: Resource 'cpus[]:1' is invalid: DiskInfo should not be set for cpus resource",
        ),
        (cpus(json!({"revocable": {}})), "QuotaInfo must not contain RevocableInfo"),
        (
            cpus(json!({"scalar": {"value": -1}})),
            "QuotaInfo with invalid resource: Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0",
        ),
        (
            json!({"role": "q", "guarantee": [{"name": "ports", "type": "RANGES", "ranges": {"range": []}}]}),
            "QuotaInfo must not include non-scalar resources",
        ),
        (
            json!({"role": "q", "guarantee": [cpus(json!({}))["guarantee"][0], cpus(json!({}))["guarantee"][0]]}),
            "QuotaInfo contains duplicate resource name 'cpus'",
        ),
    ] {
        assert_eq!(refused(read_set_quota(body.to_string().as_bytes())), format!("{prefix}{error}"));
    }
    let body = r#"{"role": "q", "guarantee": [{"name": "cpus"}]}"#;
    let error =
        format!("Failed to validate set quota request JSON '{body}': Missing required fields: guarantee[0].type");
    assert_eq!(refused(read_set_quota(body.as_bytes())), error);
    let set = read_set_quota(cpus(json!({})).to_string().as_bytes()).unwrap();
    let guarantee = BTreeMap::from([("cpus".to_owned(), Milli(1000))]);
    assert_eq!(set, OperatorWrite::SetQuota { role: "q".to_owned(), guarantee, force: false });
}

#[test]
fn a_quota_is_removed_by_its_path() {
    for path in ["/quota", "/master/quota", "/quota/"] {
        let error = refused(read_remove_quota(&quota_path(path)));
        assert!(error.ends_with("expected 3 tokens, found 2 tokens"), "{error}");
    }
    assert_eq!(
        read_remove_quota(&quota_path("/quota/a/b")).unwrap(),
        OperatorWrite::RemoveQuota { role: "a/b".to_owned() }
    );
}

#[test]
fn schedules_and_machines_are_refused_in_mesoss_words() {
    let window = |machines: Value, unavailability: Value| {
        json!({"windows": [{"machine_ids": machines, "unavailability": unavailability}]}).to_string()
    };
    let soon = || json!({"start": {"nanoseconds": 1}, "duration": {"nanoseconds": 2}});
    for (body, error) in [
        (String::new(), "syntax error at line 1 near: "),
        ("[]".to_owned(), "Unexpected JSON type parsed"),
        (window(json!([]), soon()), "List of machines in the maintenance window is empty"),
        (window(json!([{}]), soon()), "Both 'hostname' and 'ip' for a machine are empty"),
        (
            window(json!([{"hostname": "H1"}, {"hostname": "h1"}]), soon()),
            r#"Machine '{"hostname":"h1"}' appears more than once in the schedule"#,
        ),
        (window(json!([{"hostname": "h1", "ip": "bad"}]), soon()), "Failed to parse IPv4: bad"),
        (window(json!([{"hostname": "h1"}]), json!({})), "Missing required fields: windows[0].unavailability.start"),
        (
            window(json!([{"hostname": "h1"}]), json!({"start": {"nanoseconds": 1}, "duration": {"nanoseconds": -1}})),
            "Unavailability 'duration' is negative",
        ),
        (
            json!({"windows": [{"machine_ids": [{"hostname": "h1"}]}]}).to_string(),
            "Missing required fields: windows[0].unavailability",
        ),
    ] {
        assert_eq!(refused(read_schedule(body.as_bytes())), error);
    }
    assert_eq!(read_schedule(b"{}").unwrap(), OperatorWrite::UpdateMaintenanceSchedule(vec![]));
    for (body, error) in [
        ("", "syntax error at line 1 near: "),
        ("{}", "Unexpected JSON type parsed"),
        ("[]", "List of machines is empty"),
        ("[{}]", "Both 'hostname' and 'ip' for a machine are empty"),
        ("[1]", "Expecting a JSON object"),
        (
            r#"[{"hostname":"h2"},{"hostname":"H2"}]"#,
            r#"Machine '{"hostname":"H2"}' appears more than once in the schedule"#,
        ),
    ] {
        assert_eq!(refused(read_machines_up(body.as_bytes())), error);
    }
}

#[test]
fn forms_are_refused_in_mesoss_words() {
    let reserve = |body: &str| refused(read_operation(OperationKind::Reserve, body.as_bytes()));
    let destroy = |body: &str| refused(read_operation(OperationKind::Destroy, body.as_bytes()));
    assert_eq!(reserve("x=y"), "Missing 'slaveId' query parameter in the request body");
    assert_eq!(reserve("slaveId="), "Missing 'resources' query parameter in the request body");
    assert_eq!(destroy("slaveId=s"), "Missing 'volumes' query parameter in the request body");
    for (text, error) in [
        ("", "syntax error at line 1 near: "),
        ("{}", "Unexpected JSON type parsed"),
        ("[1]", "Expecting a JSON object"),
        (r#"[{"name":"cpus"}]"#, "Missing required fields: type"),
    ] {
        let expected = format!("Error parsing 'resources' query parameter in the request body: {error}");
        assert_eq!(reserve(&format!("slaveId=s&resources={text}")), expected);
        let expected = format!("Error in parsing 'volumes' query parameter in the request body: {error}");
        assert_eq!(destroy(&format!("slaveId=s&volumes={text}")), expected);
    }
    assert_eq!(refused(read_teardown(b"%zz")), "Unable to decode query string: Malformed % escape in '%zz': '%zz'");
    assert_eq!(refused(read_teardown(b"x")), "Missing 'frameworkId' query parameter in the request body");
    assert_eq!(read_teardown(b"frameworkId=a").unwrap(), OperatorWrite::Teardown("a".into()));
}
