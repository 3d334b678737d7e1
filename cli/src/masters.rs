//! `mesolith masters [add | promote ID | remove ID]`

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::master::{Ask, Master};
use crate::options::MastersChange;
use crate::render::{Cell, Format, Output, Row, Tone};

const PATH: &str = "/mesolith/v1/masters";

#[derive(Deserialize)]
struct Standing {
    term: u64,
    leader: Option<u64>,
    last_log: Option<u64>,
    members: Vec<Seat>,
}

#[derive(Deserialize)]
struct Seat {
    id: u64,
    member: Place,
    voter: bool,
    lag: Option<u64>,
}

#[derive(Deserialize)]
struct Place {
    addr: String,
    http: String,
}

#[derive(Debug, Serialize)]
struct MasterRow {
    id: u64,
    /// `leader`, `voter` or `learner`.
    role: String,
    api: String,
    link: String,
    term: u64,
    /// Of the leader's log.
    last_log: Option<u64>,
    /// Entries it has not got yet; only a leader knows.
    lag: Option<u64>,
}

impl Row for MasterRow {
    const HEADINGS: &'static [&'static str] = &["ID", "ROLE", "API", "LINK", "TERM", "LAG"];

    fn cells(&self) -> Vec<Cell> {
        let tone = if self.role == "leader" { Tone::Good } else { Tone::Plain };
        vec![
            Cell::number(self.id.to_string()),
            Cell::toned(&self.role, tone),
            Cell::text(&self.api),
            Cell::text(&self.link),
            Cell::number(self.term.to_string()),
            Cell::number(self.lag.map(|lag| lag.to_string()).unwrap_or_default()),
        ]
    }
}

/// As the leader sees them, or the one that was asked while nobody leads.
pub(crate) async fn list(master: &Master, output: &Output) -> Result<()> {
    let standing: Standing = master.json(PATH).await?;
    if standing.leader.is_none() {
        eprintln!("No master leads: this is what {} knows.", master.address().url());
    }
    let row = |seat: &Seat| MasterRow {
        id: seat.id,
        role: match (Some(seat.id) == standing.leader, seat.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        }
        .to_owned(),
        api: seat.member.http.clone(),
        link: seat.member.addr.clone(),
        term: standing.term,
        last_log: standing.last_log,
        lag: seat.lag,
    };
    let rows: Vec<MasterRow> = standing.members.iter().map(row).collect();
    output.rows(&rows, "No masters.")
}

#[derive(Deserialize)]
struct Token {
    token: String,
    join: Option<String>,
    expires_in_seconds: u64,
}

/// Changes who they are.
pub(crate) async fn change(master: &Master, output: &Output, change: &MastersChange) -> Result<()> {
    match change {
        MastersChange::Add => {
            let body = master.fetch(Ask::post(PATH, "application/json", "")).await?;
            let made: Token = serde_json::from_slice(&body)?;
            let join = made.join.unwrap_or_else(|| "HOST:5052".to_owned());
            if output.format() == Format::Json {
                let (token, seconds) = (&made.token, made.expires_in_seconds);
                return output.value(&json!({"join": join, "token": token, "expires_in_seconds": seconds}));
            }
            // The token is not on the command line, which every user of that machine can read.
            output.print(&format!(
                "On the new machine, within {} minutes:\n\n  MESOLITH_JOIN_TOKEN={} \\\n    mesolith-master --data DIR --join {join}\n\nWhoever has the token gets all that a master has, the authority's key included: it is good once.\n",
                made.expires_in_seconds / 60,
                made.token,
            ))
        }
        MastersChange::Promote { id } => {
            master.fetch(Ask::post(format!("{PATH}/{id}/promote"), "application/json", "")).await?;
            done(output, *id, "votes now")
        }
        MastersChange::Remove { id } => {
            master.fetch(Ask::delete(format!("{PATH}/{id}"))).await?;
            done(output, *id, "is no member any more: stop it, and remove its data directory")
        }
    }
}

fn done(output: &Output, id: u64, what: &str) -> Result<()> {
    if output.format() == Format::Json {
        return output.value(&json!({"id": id}));
    }
    output.print(&format!("Master {id} {what}.\n"))
}
