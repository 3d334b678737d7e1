//! Text in columns.

use std::fmt::Display;

/// Rows under headings. Columns that say nothing in any row are left out.
pub(super) struct Table<const N: usize> {
    heads: [&'static str; N],
    right: [bool; N],
    rows: Vec<[String; N]>,
}

/// What stands for "the kernel does not say".
const DASH: &str = "-";

/// Names with the longest padded to a column.
#[derive(Default)]
pub(super) struct Facts(Vec<(&'static str, String)>);

pub(super) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| DASH.to_owned(), |value| value.to_string())
}

impl<const N: usize> Table<N> {
    pub(super) fn new(heads: [&'static str; N]) -> Self {
        Self { heads, right: [false; N], rows: Vec::new() }
    }

    /// Aligns a column of numbers.
    pub(super) fn right(mut self, column: usize) -> Self {
        self.right[column] = true;
        self
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    pub(super) fn show(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let says = |column: &usize| self.rows.iter().any(|row| row[*column] != DASH && !row[*column].is_empty());
        let columns: Vec<usize> = (0..N).filter(says).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default().max(self.heads[column].len())
        };
        let widths: Vec<usize> = columns.iter().map(|column| width(*column)).collect();
        let mut text = String::new();
        let line = |text: &mut String, cell: &dyn Fn(usize) -> String| {
            let mut line = String::from(" ");
            for (column, width) in columns.iter().zip(&widths) {
                let cell = cell(*column);
                line.push(' ');
                line.push_str(&if self.right[*column] {
                    format!("{cell:>width$} ")
                } else {
                    format!("{cell:<width$} ")
                });
            }
            text.push_str(line.trim_end());
            text.push('\n');
        };
        line(&mut text, &|column| self.heads[column].to_owned());
        for row in &self.rows {
            line(&mut text, &|column| row[column].clone());
        }
        text
    }
}

impl Facts {
    /// A fact, unless it is empty.
    pub(super) fn plain(&mut self, name: &'static str, value: String) {
        if !value.is_empty() {
            self.0.push((name, value));
        }
    }

    pub(super) fn optional(&mut self, name: &'static str, value: Option<&String>) {
        self.plain(name, value.cloned().unwrap_or_default());
    }

    /// What is known of several words, in one line.
    pub(super) fn words<const N: usize>(&mut self, name: &'static str, words: [&Option<String>; N]) {
        let known: Vec<&str> = words.into_iter().flatten().map(String::as_str).collect();
        self.plain(name, known.join(" "));
    }

    pub(super) fn show(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        self.0.iter().map(|(name, value)| format!("  {name:<width$}  {value}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_silent_ones_are_left_out() {
        let mut table = Table::new(["NAME", "SIZE", "NODE"]).right(1);
        table.row(["sda".into(), "8 TB".into(), "-".into()]);
        table.row(["nvme0n1".into(), "480 GB".into(), "-".into()]);
        assert_eq!(table.show(), "  NAME       SIZE\n  sda        8 TB\n  nvme0n1  480 GB\n");
        assert_eq!(Table::new(["X"]).show(), "");
    }
}
