//! `mesolith logs NODE|TASK`

use anyhow::Result;

use crate::advice::advise;
use crate::cluster::State;
use crate::master::Master;
use crate::options::Logs;
use crate::pump::Pump;

/// Copies a task's output or a node's log to ours.
pub(crate) async fn show(master: &Master, which: &Logs) -> Result<()> {
    let state = State::read(master).await?;
    let of = which.of.as_str();
    let mut pump = match (state.find_task(of)?, state.find_node(of)) {
        (Some(task), None) => {
            let file = if which.stderr { "stderr" } else { "stdout" };
            Pump::task(master, &task.framework_id, &task.id, file)
        }
        (None, Some(_)) if which.stderr => {
            return Err(advise(format!("`{of}` is a node: it has one log and no stderr"), "leave --stderr out"));
        }
        (None, Some(node)) => Pump::node(master, node.name()),
        (Some(task), Some(node)) => {
            let next = format!("write {} for the node, or {}/{} for the task", node.id, task.framework_id, task.id);
            return Err(advise(format!("both a node and a task are called `{of}`"), next));
        }
        (None, None) => {
            let next = "`mesolith tasks --all` and `mesolith nodes` list what there is";
            return Err(advise(format!("no task and no node is called `{of}`"), next));
        }
    };
    let mut stdout = std::io::stdout();
    if which.follow { pump.follow(&mut stdout).await } else { pump.rest(&mut stdout).await }
}
