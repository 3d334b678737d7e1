//! Asks systemd for a scope whose cgroup is delegated: systemd then leaves what is below it alone.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use zbus::zvariant::{OwnedObjectPath, Value};

/// How long systemd may take.
const DEADLINE: Duration = Duration::from_secs(10);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Moves a process into a new scope of that name and ends when it is there.
pub(crate) fn run(pid: u32, name: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("cannot start a runtime").and_then(|runtime| {
        runtime.block_on(async {
            tokio::time::timeout(DEADLINE, ask(pid, name))
                .await
                .unwrap_or_else(|_| bail!("systemd has not made the scope in {} s", DEADLINE.as_secs()))
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot get a delegated scope from systemd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn ask(pid: u32, name: &str) -> anyhow::Result<()> {
    let bus = zbus::Connection::system().await.context("cannot connect to the system bus")?;
    let manager = zbus::Proxy::new(&bus, SYSTEMD, MANAGER_PATH, MANAGER).await.context("cannot reach systemd")?;
    // Before the call: the job may be done before its answer is read.
    let mut removed = manager.receive_signal("JobRemoved").await.context("cannot listen to systemd")?;
    manager.call_method("Subscribe", &()).await.context("systemd sends no signals")?;
    let properties: Vec<(&str, Value<'_>)> = vec![
        ("Description", Value::from("Mesolith agent and its tasks")),
        ("PIDs", Value::from(vec![pid])),
        ("Delegate", Value::from(true)),
        ("CollectMode", Value::from("inactive-or-failed")),
    ];
    let auxiliary: Vec<(&str, Vec<(&str, Value<'_>)>)> = Vec::new();
    let job: OwnedObjectPath = manager
        .call("StartTransientUnit", &(name, "fail", properties, auxiliary))
        .await
        .with_context(|| format!("systemd refuses to start {name}"))?;
    while let Some(message) = removed.next().await {
        let (_, path, _, result): (u32, OwnedObjectPath, String, String) =
            message.body().deserialize().context("systemd's signal is not as documented")?;
        if path == job {
            if result != "done" {
                bail!("systemd ended the job for {name} with `{result}`");
            }
            return Ok(());
        }
    }
    bail!("the connection to systemd ended")
}
