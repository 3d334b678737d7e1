//! Copies a file on a node, through the master, as it grows.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use tokio::time::sleep;

use crate::master::{Ask, Master, Refused, segment};

/// After a connection broke, or the agent was not there.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// So often in a row without a byte between.
const MAX_RETRIES: u32 = 60;

/// How much of a file is asked for.
#[derive(Clone, Copy)]
enum Extent {
    Now,
    Growing,
}

/// A file and how much of it has been copied.
pub(crate) struct Pump {
    master: Master,
    path: String,
    offset: u64,
}

impl Pump {
    /// A file of a task's sandbox.
    pub(crate) fn task(master: &Master, framework: &str, task: &str, file: &str) -> Self {
        let file: Vec<String> = file.split('/').filter(|part| !part.is_empty()).map(segment).collect();
        let path = format!("/mesolith/v1/tasks/{}/{}/files/{}", segment(framework), segment(task), file.join("/"));
        Self { master: master.clone(), path, offset: 0 }
    }

    /// A node's own log.
    pub(crate) fn node(master: &Master, name: &str) -> Self {
        Self { master: master.clone(), path: format!("/mesolith/v1/nodes/{}/log", segment(name)), offset: 0 }
    }

    /// Copies what is there now.
    pub(crate) async fn rest(&mut self, sink: &mut (impl Write + Send)) -> Result<()> {
        self.copy(Extent::Now, sink).await
    }

    /// Copies until the file will not grow any more, over broken connections. Dropping the future loses nothing.
    pub(crate) async fn follow(&mut self, sink: &mut (impl Write + Send)) -> Result<()> {
        let mut retries = 0;
        loop {
            let before = self.offset;
            let Err(error) = self.copy(Extent::Growing, sink).await else { return Ok(()) };
            if crate::advice::reader_is_gone(&error) || is_final(&error) {
                return Err(error);
            }
            retries = if self.offset > before { 0 } else { retries + 1 };
            if retries > MAX_RETRIES {
                return Err(error);
            }
            sleep(RETRY_AFTER).await;
        }
    }

    async fn copy(&mut self, extent: Extent, sink: &mut (impl Write + Send)) -> Result<()> {
        let follow = match extent {
            Extent::Now => "",
            Extent::Growing => "&follow=1",
        };
        let path = format!("{}?offset={}{follow}", self.path, self.offset);
        let answer = self.master.open(Ask::get(path)).await?;
        // The beginning of a long output is dropped; what comes is further on than was asked for.
        let begins = answer.headers().get("mesolith-offset").and_then(|value| value.to_str().ok()?.parse().ok());
        self.offset = begins.unwrap_or(self.offset);
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.with_context(|| format!("the master stopped sending {}", self.path))?;
            if let Some(data) = frame.data_ref() {
                sink.write_all(data)?;
                sink.flush()?;
                self.offset += data.len() as u64;
            }
        }
        Ok(())
    }
}

/// Asking again would give the same answer.
fn is_final(error: &anyhow::Error) -> bool {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Refused>())
        .is_some_and(|refused| (400..500).contains(&refused.status))
}
