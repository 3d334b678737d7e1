//! `mesolith files TASK [PATH]`: what is in a task's sandbox, and single files of it.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::advice::advise;
use crate::cluster::State;
use crate::master::{Master, segment};
use crate::options::Files;
use crate::pump::Pump;
use crate::render::{Cell, Output, Row};

/// Lists a directory, or copies a file to our output.
pub(crate) async fn show(master: &Master, output: &Output, which: &Files) -> Result<()> {
    let state = State::read(master).await?;
    let of = which.task.as_str();
    let Some(task) = state.find_task(of)? else {
        return Err(advise(format!("no task is called `{of}`"), "`mesolith tasks --all` lists what there is"));
    };
    if let Some(path) = &which.cat {
        let mut stdout = std::io::stdout();
        let mut pump = Pump::task(master, &task.framework_id, &task.id, path);
        return if which.follow { pump.follow(&mut stdout).await } else { pump.rest(&mut stdout).await };
    }
    let path: String = which.path.iter().flat_map(|path| path.split('/')).filter(|part| !part.is_empty()).fold(
        format!("/mesolith/v1/tasks/{}/{}/browse", segment(&task.framework_id), segment(&task.id)),
        |path, part| format!("{path}/{}", segment(part)),
    );
    let files: Vec<File> = master.json(&path).await?;
    output.rows(&files, "The directory is empty.")
}

/// As Mesos's `/files/browse` says it.
#[derive(Debug, Deserialize, Serialize)]
struct File {
    mode: String,
    nlink: u64,
    uid: String,
    gid: String,
    size: u64,
    mtime: f64,
    path: String,
}

impl Row for File {
    const HEADINGS: &'static [&'static str] = &["MODE", "UID", "GID", "SIZE", "MODIFIED", "PATH"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::text(self.mode.clone()),
            Cell::number(self.uid.clone()),
            Cell::number(self.gid.clone()),
            Cell::number(self.size.to_string()),
            Cell::text(moment(self.mtime)),
            Cell::text(self.path.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>()),
        ]
    }
}

/// UTC, for there is no other time that all who look share.
#[allow(clippy::cast_possible_truncation)] // seconds of this era fit
fn moment(seconds: f64) -> String {
    let seconds = seconds as i64;
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since the first of March of the year 0: leap days are then at a year's end.
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        assert_eq!(moment(0.0), "1970-01-01 00:00:00");
        assert_eq!(moment(951_782_400.5), "2000-02-29 00:00:00");
        assert_eq!(moment(1_795_302_061.0), "2026-11-21 23:01:01");
    }
}
