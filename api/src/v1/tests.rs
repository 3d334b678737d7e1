//! One type, two encodings: what each call and event becomes, and what is refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::required::Described;
use super::scheduler::{Call, Event};
use super::*;
use crate::TaskState;

/// JSON to the message, to protobuf, back, and to JSON again.
fn round_trip<M: ApiMessage + PartialEq>(json: Value) {
    let message: M =
        ContentType::Json.decode(json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"));
    let bytes = ContentType::Protobuf.encode(&message);
    let back: M = ContentType::Protobuf.decode(&bytes).unwrap();
    assert_eq!(back, message, "{json}");
    let written: Value = serde_json::from_slice(&ContentType::Json.encode(&back)).unwrap();
    contains(&written, &json);
    let packed = rmp_like(&message);
    assert_eq!(packed, bytes, "formats that are not for people carry the bytes");
}

/// What a serializer that is not for people is given.
fn rmp_like<M: ApiMessage>(message: &M) -> Vec<u8> {
    rmp_serde::from_slice::<serde_bytes_like::Bytes>(&rmp_serde::to_vec(message).unwrap()).unwrap().0
}

mod serde_bytes_like {
    use serde::{Deserialize, Deserializer};

    pub(super) struct Bytes(pub(super) Vec<u8>);

    impl<'de> Deserialize<'de> for Bytes {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl serde::de::Visitor<'_> for Visitor {
                type Value = Bytes;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("bytes")
                }
                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                    Ok(Bytes(bytes.to_vec()))
                }
            }
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

/// Everything of `part` is in `whole`; the whole may have defaults besides.
fn contains(whole: &Value, part: &Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (key, value) in part {
                contains(whole.get(key).unwrap_or_else(|| panic!("{key} is lost")), value);
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            assert_eq!(whole.len(), part.len());
            whole.iter().zip(part).for_each(|(whole, part)| contains(whole, part));
        }
        (Value::Number(whole), Value::Number(part)) => assert_eq!(whole.as_f64(), part.as_f64()),
        (whole, part) => assert_eq!(whole, part),
    }
}

fn task() -> Value {
    json!({"name": "t", "task_id": {"value": "1"}, "agent_id": {"value": "S0"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}, "allocation_info": {"role": "a"},
            "reservations": [{"type": "DYNAMIC", "role": "a", "principal": "p", "labels": {"labels": [{"key": "k"}]}}]},
            {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 1, "end": 2}]}},
            {"name": "disk", "type": "SCALAR", "scalar": {"value": 5.0}, "disk": {"persistence": {"id": "v"},
                "volume": {"mode": "RW", "container_path": "data"}, "source": {"type": "MOUNT", "mount": {"root": "/d"}}}}],
        "limits": {"cpus": {"value": "Infinity"}},
        "command": {"value": "true", "shell": false, "arguments": ["a"], "environment": {"variables": [{"name": "A", "value": "b"}]}},
        "health_check": {"type": "HTTP", "http": {"port": 80, "path": "/"}, "delay_seconds": 1.5},
        "check": {"type": "TCP", "tcp": {"port": 1}},
        "container": {"type": "MESOS", "volumes": [{"mode": "RO", "container_path": "/x", "host_path": "/y"}]},
        "kill_policy": {"grace_period": {"nanoseconds": 5}}, "data": "aGk=", "labels": {"labels": [{"key": "a", "value": "b"}]},
        "discovery": {"visibility": "CLUSTER", "ports": {"ports": [{"number": 5}]}},
        "max_completion_time": {"nanoseconds": 9}})
}

fn framework() -> Value {
    json!({"user": "u", "name": "f", "id": {"value": "F"}, "failover_timeout": 7.5, "roles": ["a", "b"],
        "capabilities": [{"type": "MULTI_ROLE"}],
        "offer_filters": {"a": {"min_allocatable_resources": {"quantities": [{"quantities": {"cpus": {"value": 1.0}}}]}}}})
}

#[test]
fn every_scheduler_call_is_the_same_in_json_and_protobuf() {
    let uuid = "AAAAAAAAAAAAAAAAAAAAAA==";
    let constraints = json!({"role_constraints": {"a": {"groups": [{"attribute_constraints": [
        {"selector": {"attribute_name": "rack"}, "predicate": {"text_matches": {"regex": "r.*"}}},
        {"selector": {"pseudoattribute_type": "HOSTNAME"}, "predicate": {"not_exists": {}}}]}]}}});
    let id = |value: &str| json!({ "value": value });
    for (kind, member) in [
        (
            "SUBSCRIBE",
            json!({"framework_info": framework(), "suppressed_roles": ["a"], "offer_constraints": constraints}),
        ),
        (
            "ACCEPT",
            json!({"offer_ids": [id("o")], "filters": {"refuse_seconds": 3.0}, "operations": [
            {"type": "LAUNCH", "launch": {"task_infos": [task()]}},
            {"type": "LAUNCH_GROUP", "launch_group": {"executor": {"type": "DEFAULT", "executor_id": id("e")},
                "task_group": {"tasks": [task()]}}},
            {"type": "RESERVE", "id": id("op"), "reserve": {"resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 1.0}}]}}]}),
        ),
        ("DECLINE", json!({"offer_ids": [id("o")], "filters": {"refuse_seconds": 0.0}})),
        ("ACCEPT_INVERSE_OFFERS", json!({"inverse_offer_ids": [id("o")]})),
        ("DECLINE_INVERSE_OFFERS", json!({"inverse_offer_ids": [id("o")]})),
        ("REVIVE", json!({"roles": ["a"]})),
        ("SUPPRESS", json!({"roles": ["a"]})),
        ("KILL", json!({"task_id": id("t"), "agent_id": id("a"), "kill_policy": {"grace_period": {"nanoseconds": 1}}})),
        ("SHUTDOWN", json!({"executor_id": id("e"), "agent_id": id("a")})),
        ("ACKNOWLEDGE", json!({"agent_id": id("a"), "task_id": id("t"), "uuid": uuid})),
        ("ACKNOWLEDGE_OPERATION_STATUS", json!({"agent_id": id("a"), "uuid": uuid, "operation_id": id("op")})),
        ("RECONCILE", json!({"tasks": [{"task_id": id("t"), "agent_id": id("a")}]})),
        ("RECONCILE_OPERATIONS", json!({"operations": [{"operation_id": id("op"), "agent_id": id("a")}]})),
        ("MESSAGE", json!({"agent_id": id("a"), "executor_id": id("e"), "data": "aGk="})),
        (
            "REQUEST",
            json!({"requests": [{"agent_id": id("a"), "resources": [
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 1.0}}]}]}),
        ),
        ("UPDATE_FRAMEWORK", json!({"framework_info": framework()})),
    ] {
        round_trip::<Call>(json!({"framework_id": {"value": "F"}, "type": kind, kind.to_lowercase(): member}));
    }
    round_trip::<Call>(json!({"framework_id": {"value": "F"}, "type": "TEARDOWN"}));
}

#[test]
fn every_scheduler_event_is_the_same_in_json_and_protobuf() {
    let mut status = TaskStatus::new("t".into(), TaskState::Running);
    status.uuid = Some(vec![7; 16]);
    status.reason = Some(Reason::Reconciliation.into());
    let events = [
        Event::new_subscribed("F".into(), 15.0, MasterInfo::default()),
        Event::new_offers(vec![Offer { id: "o".into(), ..Offer::default() }]),
        Event::new_rescind("o".into()),
        Event::new_update(status),
        Event::new_message("a".into(), "e".into(), b"hi".to_vec()),
        Event::new_failure("a".into(), Some(("e".into(), 256))),
        Event::new_error("no"),
        Event::new_heartbeat(),
    ];
    for event in events {
        let json = serde_json::to_value(&event).unwrap();
        let kind = event.r#type().as_str_name();
        assert_eq!(json["type"], kind);
        assert!(kind == "HEARTBEAT" || json.get(kind.to_lowercase()).is_some(), "{json}");
        round_trip::<Event>(json);
    }
    for (kind, member) in [
        (
            "INVERSE_OFFERS",
            json!({"inverse_offers": [{"id": {"value": "o"}, "framework_id": {"value": "F"},
            "unavailability": {"start": {"nanoseconds": 1}}}]}),
        ),
        ("RESCIND_INVERSE_OFFER", json!({"inverse_offer_id": {"value": "o"}})),
        (
            "UPDATE_OPERATION_STATUS",
            json!({"status": {"operation_id": {"value": "op"}, "state": "OPERATION_FINISHED"}}),
        ),
    ] {
        round_trip::<Event>(json!({"type": kind, kind.to_lowercase(): member}));
    }
}

#[test]
fn executor_and_operator_messages_are_the_same_in_json_and_protobuf() {
    let status = json!({"task_id": {"value": "t"}, "state": "TASK_RUNNING", "uuid": "AAAAAAAAAAAAAAAAAAAAAA=="});
    round_trip::<executor::Call>(
        json!({"executor_id": {"value": "e"}, "framework_id": {"value": "F"}, "type": "SUBSCRIBE",
        "subscribe": {"unacknowledged_tasks": [task()], "unacknowledged_updates": [{"status": status}]}}),
    );
    round_trip::<executor::Event>(json!({"type": "LAUNCH", "launch": {"task": task()}}));
    round_trip::<master::Call>(json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": {"value": "a"},
        "max_grace_period": {"seconds": 600}, "mark_gone": true}}));
    round_trip::<master::Call>(json!({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [
        {"role": "r", "limits": {"cpus": {"value": 1.0}}}]}}));
    round_trip::<master::Response>(json!({"type": "GET_HEALTH", "get_health": {"healthy": true}}));
    round_trip::<master::Event>(json!({"type": "TASK_UPDATED", "task_updated": {"framework_id": {"value": "F"},
        "status": status, "state": "TASK_RUNNING"}}));
    round_trip::<agent::Call>(json!({"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": {
        "container_id": {"value": "c", "parent": {"value": "p"}}, "command": {"value": "true"}}}));
    round_trip::<agent::Response>(json!({"type": "GET_CONTAINERS", "get_containers": {"containers": [{
        "framework_id": {"value": "F"}, "executor_id": {"value": "e"}, "executor_name": "n", "container_id": {"value": "c"},
        "container_status": {"executor_pid": 5}, "resource_statistics": {"timestamp": 1.5, "mem_rss_bytes": 9007199254740993_u64}}]}}));
}

#[test]
fn fields_are_printed_as_declared_with_their_defaults() {
    let info = FrameworkInfo { user: "u".into(), name: "f".into(), ..FrameworkInfo::default() };
    assert_eq!(
        serde_json::to_string(&info).unwrap(),
        r#"{"user":"u","name":"f","failover_timeout":0.0,"checkpoint":false}"#
    );
    let filters = Filters::default();
    assert_eq!(serde_json::to_string(&filters).unwrap(), r#"{"refuse_seconds":5.0}"#);
    let mut status = TaskStatus::new("t".into(), TaskState::Running);
    status.uuid = Some(vec![0; 16]);
    status.agent_id = Some("S0".into());
    assert_eq!(
        serde_json::to_string(&Event::new_update(status)).unwrap(),
        r#"{"type":"UPDATE","update":{"status":{"task_id":{"value":"t"},"state":"TASK_RUNNING","agent_id":{"value":"S0"},"uuid":"AAAAAAAAAAAAAAAAAAAAAA=="}}}"#
    );
    let resource = resources_to_wire(&crate::Resources::parse("cpus:1.5").unwrap(), &Format::default());
    assert_eq!(
        serde_json::to_string(&resource).unwrap(),
        r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":1.5},"role":"*"}]"#
    );
}

#[test]
fn calls_are_read_as_leniently_as_mesos_reads_them() {
    let text = r#"{"framework_id":{"value":"f"},"type":"ACCEPT","accept":{"offer_ids":{"value":"o"},"extra":1,
        "operations":[{"type":"LAUNCH","launch":{"task_infos":[{"name":"t","task_id":{"value":"1:5:1"},
        "agent_id":{"value":"s"},"command":{"value":"true","shell":"true"},"resources":null}]}}],
        "filters":{"refuse_seconds":"7"}}}"#;
    let call: Call = ContentType::Json.decode(text.as_bytes()).unwrap();
    let accept = call.accept.unwrap();
    assert_eq!(accept.filters, Some(Filters { refuse_seconds: Some(7.0) }));
    assert_eq!(accept.offer_ids.len(), 1);
    let task = &accept.operations[0].launch.as_ref().unwrap().task_infos[0];
    assert!(task.command.as_ref().unwrap().shell() && task.resources.is_empty());
    let unknown: Call = ContentType::Json.decode(br#"{"type":"DANCE"}"#).unwrap();
    assert_eq!(unknown.r#type, None, "an optional enum nobody knows is unset");
}

#[test]
fn what_is_no_call_is_told_in_mesoss_words() {
    let error = |text: &str| ContentType::Json.decode::<Call>(text.as_bytes()).unwrap_err().to_string();
    assert!(error("{").starts_with("Failed to parse body into JSON: "));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(error(&deep).starts_with("Failed to parse body into JSON: "));
    for (text, reason) in [
        ("[]", "Expecting a JSON object"),
        (r#"{"type":7}"#, "Not expecting a JSON number for field 'type'"),
        (r#"{"kill":"x"}"#, "Not expecting a JSON string for field 'kill'"),
        (r#"{"kill":[{}]}"#, "Not expecting a JSON array for field 'kill'"),
        (r#"{"kill":{"task_id":{}}}"#, "Missing required fields: kill.task_id.value"),
        (r#"{"subscribe":{}}"#, "Missing required fields: subscribe.framework_info"),
        (
            r#"{"subscribe":{"framework_info":{}}}"#,
            "Missing required fields: subscribe.framework_info.user, subscribe.framework_info.name",
        ),
        (
            r#"{"accept":{"operations":[{"launch":{"task_infos":[{"name":"a","task_id":{"value":"b"},
                "agent_id":{"value":"c"}},{"resources":[{"name":"x","scalar":{}}]}]}}]}}"#,
            "Missing required fields: accept.operations[0].launch.task_infos[1].name, \
             accept.operations[0].launch.task_infos[1].task_id, accept.operations[0].launch.task_infos[1].agent_id, \
             accept.operations[0].launch.task_infos[1].resources[0].type, \
             accept.operations[0].launch.task_infos[1].resources[0].scalar.value",
        ),
        (
            r#"{"acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"a"},"uuid":"??"}}"#,
            "Failed to base64 decode bytes field 'uuid': Invalid character '?'",
        ),
        (
            r#"{"accept":{"operations":[{"launch":{"task_infos":[{"resources":[{"type":"CUBIC"}]}]}}]}}"#,
            "Failed to find enum for 'CUBIC'",
        ),
    ] {
        assert_eq!(error(text), format!("Failed to convert JSON into Call protobuf: {reason}"), "{text}");
    }
    let refused = |bytes: &[u8]| ContentType::Protobuf.decode::<Call>(bytes).unwrap_err().to_string();
    assert_eq!(refused(b"\xff\xff"), "Failed to parse body into Call protobuf");
    // A KILL without a task, of which prost would make one with the empty id.
    let kill = [0x10, 6, 0x32, 0];
    assert_eq!(ContentType::Protobuf.missing::<Call>(&kill), ["kill.task_id"]);
    assert_eq!(refused(&kill), "Failed to parse body into Call protobuf");
}

#[test]
fn enum_numbers_nobody_knows_count_as_absent() {
    // Resource { name: "x", type: 99 }: the required type is not there.
    let resource = [0x0a, 1, b'x', 0x10, 99];
    assert_eq!(ContentType::Protobuf.missing::<Resource>(&resource), ["type"]);
    let status = TaskStatus { reason: Some(9999), ..TaskStatus::new("t".into(), TaskState::Lost) };
    assert_eq!(serde_json::to_value(&status).unwrap().get("reason"), None);
}

#[test]
fn secrets_do_not_show_in_a_log() {
    let secret = Secret { value: Some(super::secret::Value { data: b"hunter2".to_vec() }), ..Secret::default() };
    assert!(!format!("{secret:?}").contains(&format!("{:?}", b"hunter2".to_vec())));
    let credential = Credential { principal: "p".into(), secret: Some("hunter2".into()) };
    assert!(!format!("{credential:?}").contains("hunter2"));
}

#[test]
fn the_messages_a_master_holds_by_the_million_are_small() {
    println!(
        "TaskStatus {} TaskInfo {} Offer {} Resource {} scheduler::Call {} scheduler::Event {}",
        size_of::<TaskStatus>(),
        size_of::<TaskInfo>(),
        size_of::<Offer>(),
        size_of::<Resource>(),
        size_of::<Call>(),
        size_of::<Event>()
    );
    assert!(size_of::<TaskStatus>() <= 300);
    assert!(size_of::<TaskInfo>() <= 500);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[A-Z_a-z0-9=/+]{0,8}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("type"),
        Just("accept"),
        Just("operations"),
        Just("launch"),
        Just("task_infos"),
        Just("resources"),
        Just("limits"),
        Just("value"),
        Just("subscribe"),
        Just("framework_info"),
        Just("uuid"),
        Just("offer_ids"),
        Just("offer_constraints"),
        Just("role_constraints"),
        Just("container"),
        Just("volumes"),
        Just("kill"),
    ];
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone().prop_map(str::to_owned), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for content_type in [ContentType::Json, ContentType::Protobuf] {
            let _ = content_type.decode::<Call>(&bytes);
            let _ = content_type.missing::<Call>(&bytes);
            let _ = content_type.decode::<master::Call>(&bytes);
        }
    }

    #[test]
    fn no_json_makes_it_panic(value in any_json()) {
        let _ = super::required::in_json(&value, Call::SHAPE);
        if let Ok(call) = ContentType::Json.decode::<Call>(value.to_string().as_bytes()) {
            let bytes = ContentType::Protobuf.encode(&call);
            prop_assert!(ContentType::Protobuf.missing::<Call>(&bytes).is_empty());
        }
    }
}
