//! `mesolith secrets`: what tasks may name instead of holding it themselves.

use std::io::Read;

use anyhow::{Context, Result};
use hyper::Method;
use serde::{Deserialize, Serialize};

use crate::advice::advise;
use crate::master::{Ask, Master, segment};
use crate::options::Secrets;
use crate::render::{Cell, Format, Output, Row};

/// The master takes no more; read one more to know.
const LONGEST: u64 = 32 << 10;

#[derive(Debug, Deserialize)]
struct List {
    secrets: Vec<Secret>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Secret {
    name: String,
    bytes: u64,
    by: Option<String>,
    unix_ms: u64,
}

impl Row for Secret {
    const HEADINGS: &'static [&'static str] = &["NAME", "BYTES", "BY"];

    fn cells(&self) -> Vec<Cell> {
        let by = self.by.clone().unwrap_or_else(|| "-".to_owned());
        vec![Cell::text(&self.name), Cell::number(self.bytes.to_string()), Cell::text(by)]
    }
}

/// Does what was asked.
pub(crate) async fn perform(master: &Master, output: &Output, what: &Secrets) -> Result<()> {
    match what {
        Secrets::List => {
            let List { secrets } = master.json("/mesolith/v1/secrets").await?;
            output.rows(&secrets, "There are no secrets, or none you may manage.")
        }
        Secrets::Put { name, file, newline } => {
            let mut value = match file {
                Some(path) => {
                    read(std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?)?
                }
                None => tokio::task::spawn_blocking(|| read(std::io::stdin())).await??,
            };
            if !newline && value.last() == Some(&b'\n') {
                value.pop();
            }
            let path = format!("/mesolith/v1/secrets/{}", path(name));
            master.fetch(Ask::with_body(Method::PUT, path, "application/octet-stream", value)).await?;
            say(output, &format!("secret {name} is kept; tasks that run keep what they were started with"))
        }
        Secrets::Delete { name } => {
            master.fetch(Ask::delete(format!("/mesolith/v1/secrets/{}", path(name)))).await?;
            say(output, &format!("secret {name} is deleted; tasks that run keep what they were started with"))
        }
    }
}

fn read(from: impl Read) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut value).context("cannot read the secret")?;
    if value.is_empty() || value.len() as u64 > LONGEST {
        return Err(advise("the secret is empty or too long", format!("a secret has 1 to {LONGEST} bytes")));
    }
    Ok(value)
}

/// A name has parts.
fn path(name: &str) -> String {
    name.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn say(output: &Output, text: &str) -> Result<()> {
    match output.format() {
        Format::Json => output.value(&serde_json::json!({ "done": text })),
        Format::Table => output.print(&format!("{text}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_bounded_and_its_name_stays_a_path() {
        assert_eq!(read(&b"pw\n"[..]).unwrap(), b"pw\n");
        assert!(read(&b""[..]).is_err() && read(&vec![1; 40_000][..]).is_err());
        assert_eq!(path("team/db pass"), "team/db%20pass");
    }
}
