//! An executor's call, in Mesos's order and words.

use api::TaskState;
use api::v1::executor::Call;
use api::v1::executor::call::Type;
use api::v1::{Source, TaskStatus};

/// What is wrong with a call.
///
/// # Errors
/// Mesos's text.
pub fn call(call: &Call) -> Result<(), String> {
    let expected = |what: &str| Err(format!("Failed to validate Executor::Call: Expecting '{what}' to be present"));
    match call.r#type.map(|_| call.r#type()) {
        None => expected("type"),
        Some(Type::Subscribe) if call.subscribe.is_none() => expected("subscribe"),
        Some(Type::Message) if call.message.is_none() => expected("message"),
        Some(Type::Update) => match &call.update {
            None => expected("update"),
            Some(update) => {
                status(call, &update.status).map_err(|why| format!("Failed to validate Executor::Call: {why}"))
            }
        },
        Some(Type::Subscribe | Type::Message | Type::Heartbeat | Type::Unknown) => Ok(()),
    }
}

fn status(call: &Call, status: &TaskStatus) -> Result<(), String> {
    let (executor, framework) = (&call.executor_id, &call.framework_id);
    let Some(uuid) = &status.uuid else { return Err("Expecting 'uuid' to be present".to_owned()) };
    if uuid.len() != 16 {
        return Err(format!("Not a valid UUID: expected 16 bytes, got {}", uuid.len()));
    }
    if let Some(other) = status.executor_id.as_ref().filter(|other| *other != executor) {
        return Err(format!("ExecutorID in Call: {executor} does not match ExecutorID in TaskStatus: {other}"));
    }
    if status.given_source() != Some(Source::Executor) {
        return Err(format!(
            "Received Call from executor {executor} of framework {framework} with invalid source, expecting \
             'SOURCE_EXECUTOR'"
        ));
    }
    if status.state() == TaskState::Staging {
        return Err(format!(
            "Received TASK_STAGING from executor {executor} of framework {framework} which is not allowed"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_mesoss_words() {
        let uuid = "AAAAAAAAAAAAAAAAAAAAAA==";
        let update =
            |status: &str| format!(r#","type":"UPDATE","update":{{"status":{{"task_id":{{"value":"t"}},{status}}}}}"#);
        for (rest, words) in [
            (String::new(), Some("Expecting 'type' to be present")),
            (r#","type":"SUBSCRIBE""#.to_owned(), Some("Expecting 'subscribe' to be present")),
            (r#","type":"SUBSCRIBE","subscribe":{}"#.to_owned(), None),
            (r#","type":"HEARTBEAT""#.to_owned(), None),
            (r#","type":"MESSAGE""#.to_owned(), Some("Expecting 'message' to be present")),
            (r#","type":"UPDATE""#.to_owned(), Some("Expecting 'update' to be present")),
            (update(r#""state":"TASK_RUNNING""#), Some("Expecting 'uuid' to be present")),
            (update(r#""state":"TASK_RUNNING","uuid":"AAA=""#), Some("Not a valid UUID")),
            (
                update(&format!(r#""state":"TASK_RUNNING","uuid":"{uuid}","executor_id":{{"value":"o"}}"#)),
                Some("ExecutorID in Call: e does not match ExecutorID in TaskStatus: o"),
            ),
            (update(&format!(r#""state":"TASK_RUNNING","uuid":"{uuid}""#)), Some("expecting 'SOURCE_EXECUTOR'")),
            (
                update(&format!(r#""state":"TASK_STAGING","uuid":"{uuid}","source":"SOURCE_EXECUTOR""#)),
                Some("Received TASK_STAGING from executor e of framework f which is not allowed"),
            ),
            (update(&format!(r#""state":"TASK_RUNNING","uuid":"{uuid}","source":"SOURCE_EXECUTOR""#)), None),
        ] {
            let text = format!(r#"{{"executor_id":{{"value":"e"}},"framework_id":{{"value":"f"}}{rest}}}"#);
            let got = call(&serde_json::from_str(&text).unwrap());
            match words {
                None => assert_eq!(got, Ok(()), "{text}"),
                Some(words) => assert!(got.clone().unwrap_err().contains(words), "{text}: {got:?}"),
            }
        }
    }
}
