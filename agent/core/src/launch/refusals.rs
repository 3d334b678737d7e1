//! What this version cannot run, said in words before anything is made.

use api::v1::TaskInfo;

use super::LaunchError;

pub(super) fn check(task: &TaskInfo) -> Result<(), LaunchError> {
    let no = |what: String| Err(LaunchError::Unsupported(what));
    if task.command.is_none() {
        return Err(LaunchError::NoCommand);
    }
    let Some(container) = &task.container else { return Ok(()) };
    let asked = [("tty_info", container.tty_info.as_ref().is_some_and(|info| info.window_size.is_some()))];
    match asked.into_iter().find(|(_, asked)| *asked) {
        Some((field, _)) => no(format!("containers with {field}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::task;
    use super::*;

    #[test]
    fn what_is_not_supported_is_named() {
        let tty = r#"{"command":{"value":"x"},"container":{"type":"MESOS","tty_info":{"window_size":{"rows":1,"columns":2}}}}"#;
        let error = check(&task(tty)).unwrap_err().to_string();
        assert_eq!(error, "this version cannot run containers with tty_info");
        assert_eq!(check(&task("{}")), Err(LaunchError::NoCommand));
        assert_eq!(check(&task(r#"{"command":{"value":"x"},"container":{"type":"MESOS","volumes":[]}}"#)), Ok(()));
    }
}
