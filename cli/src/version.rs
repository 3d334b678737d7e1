//! `mesolith version`

use anyhow::Result;
use serde_json::{Value, json};

use crate::advice::describe;
use crate::master::Master;
use crate::render::{Format, Output};

/// Ours, and the master's if it answers.
pub(crate) async fn show(master: &Master, output: &Output) -> Result<()> {
    let ours = env!("CARGO_PKG_VERSION");
    let theirs = master.json::<Value>("/version").await;
    let url = master.address().url();
    if output.format() == Format::Json {
        let master = match &theirs {
            Ok(version) => json!({"url": url, "version": version}),
            Err(error) => json!({"url": url, "error": describe(error).0}),
        };
        return output.value(&json!({"mesolith": ours, "master": master}));
    }
    let mut text = format!("mesolith  {ours}\n");
    match theirs {
        Ok(version) => {
            let field = |name: &str| version.get(name).and_then(Value::as_str).map(str::to_owned);
            // Frameworks read `version` as Mesos's; our own stands beside it.
            let own = field("mesolith_version").map(|own| format!("{own}, ")).unwrap_or_default();
            text.push_str(&format!("master    {own}Mesos API {} at {url}\n", field("version").unwrap_or_default()));
        }
        Err(error) => text.push_str(&format!("master    none: {}\n", describe(&error).0)),
    }
    output.print(&text)
}
