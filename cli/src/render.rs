//! Tables for people and JSON for machines, from the same rows.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

/// What a table says beside its text, in colour where there is one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Busy,
    Faint,
}

impl Tone {
    /// Of a task state.
    pub(crate) fn of_task(state: &str) -> Self {
        match state {
            "TASK_RUNNING" => Self::Good,
            "TASK_STAGING" | "TASK_STARTING" | "TASK_KILLING" => Self::Busy,
            "TASK_FINISHED" | "TASK_KILLED" => Self::Faint,
            _ => Self::Bad,
        }
    }

    const fn escape(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Busy => "\x1b[33m",
            Self::Faint => "\x1b[2m",
        }
    }
}

/// One field of a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// Text; control characters, which could command the terminal, are replaced.
    pub(crate) fn text(text: impl AsRef<str>) -> Self {
        let text: String = text.as_ref().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Self { text: if text.is_empty() { "-".to_owned() } else { text }, tone: Tone::Plain, right: false }
    }

    /// Text in a tone.
    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { tone, ..Self::text(text) }
    }

    /// A number, set to the right.
    pub(crate) fn number(text: impl AsRef<str>) -> Self {
        Self { right: true, ..Self::text(text) }
    }
}

/// A kind of row. Its fields, by their names, are what machines read: they stay.
pub(crate) trait Row: Serialize {
    /// Headings of the table.
    const HEADINGS: &'static [&'static str];
    /// As many as headings.
    fn cells(&self) -> Vec<Cell>;
}

/// For whom to print.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Table,
    Json,
}

/// Whether escapes for colour are understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ink {
    Plain,
    Colour,
}

/// Where and how to print.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    ink: Ink,
}

impl Output {
    /// Colour only on a terminal, and not against the wish of NO_COLOR.
    pub(crate) fn new(format: Format) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { format, ink: if wanted && std::io::stdout().is_terminal() { Ink::Colour } else { Ink::Plain } }
    }

    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    pub(crate) const fn ink(&self) -> Ink {
        self.ink
    }

    /// All rows; people are told `nothing` where there are none.
    pub(crate) fn rows<R: Row>(&self, rows: &[R], nothing: &str) -> Result<()> {
        if self.format == Format::Json {
            return self.value(&rows);
        }
        if rows.is_empty() {
            eprintln!("{nothing}");
            return Ok(());
        }
        let cells: Vec<Vec<Cell>> = rows.iter().map(Row::cells).collect();
        self.print(&table(R::HEADINGS, &cells, self.ink))
    }

    /// Any value, as JSON.
    pub(crate) fn value<T: Serialize>(&self, value: &T) -> Result<()> {
        self.print(&format!("{}\n", serde_json::to_string_pretty(value)?))
    }

    /// Text as it is.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }
}

fn table(headings: &[&str], rows: &[Vec<Cell>], ink: Ink) -> String {
    let columns = headings.len();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    let right = |column: usize| rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.right);
    let heading: Vec<Cell> = headings
        .iter()
        .enumerate()
        .map(|(column, heading)| Cell { text: (*heading).to_owned(), tone: Tone::Faint, right: right(column) })
        .collect();
    for row in std::iter::once(&heading).chain(rows) {
        for (column, cell) in row.iter().enumerate().take(columns) {
            let gap = widths[column] - cell.text.chars().count();
            let last = column + 1 == columns;
            let (before, after) = if cell.right { (gap, 0) } else { (0, if last { 0 } else { gap }) };
            let (on, off) =
                if ink == Ink::Colour && cell.tone != Tone::Plain { (cell.tone.escape(), "\x1b[0m") } else { ("", "") };
            let _ = write!(text, "{:before$}{on}{}{off}{:after$}", "", cell.text, ""); // a String takes everything
            if !last {
                text.push_str("  ");
            }
        }
        text.push('\n');
    }
    text
}

/// At most three decimals, as Mesos counts, without trailing zeros.
pub(crate) fn amount(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// MiB as people read them.
pub(crate) fn mebibytes(value: f64) -> String {
    if value >= 1024.0 * 1024.0 {
        format!("{} TiB", amount((value / 1024.0 / 1024.0 * 10.0).round() / 10.0))
    } else if value >= 10.0 * 1024.0 {
        format!("{} GiB", amount((value / 1024.0 * 10.0).round() / 10.0))
    } else {
        format!("{} MiB", amount(value.round()))
    }
}

/// `used of total`.
pub(crate) fn share(used: f64, total: f64, unit: fn(f64) -> String) -> String {
    let (used, total) = (unit(used), unit(total));
    match (used.split_once(' '), total.split_once(' ')) {
        (Some((number, a)), Some((_, b))) if a == b => format!("{number} of {total}"),
        _ => format!("{used} of {total}"),
    }
}

/// How long ago a Mesos time (seconds since 1970) was; `-` for none.
pub(crate) fn age(seconds: f64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    if seconds <= 0.0 { "-".to_owned() } else { span(now - seconds) }
}

/// `42s`, `3m12s`, `5h3m`, `2d4h`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // negative and huge values saturate
fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let rows = vec![
            vec![Cell::text("node-1"), Cell::number("0.5"), Cell::toned("up", Tone::Good)],
            vec![Cell::text("n"), Cell::number("12"), Cell::text("")],
        ];
        assert_eq!(
            table(&["NAME", "CPUS", "STATE"], &rows, Ink::Plain),
            "NAME    CPUS  STATE\nnode-1   0.5  up\nn         12  -\n"
        );
        assert!(table(&["NAME", "CPUS", "STATE"], &rows, Ink::Colour).contains("\x1b[32mup\x1b[0m"));
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(Cell::text("a\x1b[2Jb\n").text, "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn amounts_and_times_are_short() {
        assert_eq!((amount(0.5).as_str(), amount(2.0).as_str(), amount(0.1 + 0.2).as_str()), ("0.5", "2", "0.3"));
        assert_eq!((mebibytes(512.0).as_str(), mebibytes(15_872.0).as_str()), ("512 MiB", "15.5 GiB"));
        assert_eq!(share(64.0, 512.0, mebibytes), "64 of 512 MiB");
        assert_eq!(share(64.0, 20_480.0, mebibytes), "64 MiB of 20 GiB");
        for (seconds, text) in [(-5.0, "0s"), (42.0, "42s"), (192.0, "3m12s"), (18_180.0, "5h3m"), (187_200.0, "2d4h")]
        {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(age(0.0), "-");
    }
}
