//! The status page on the consoles: on a screen it stays at the top and lines scroll below it; a serial line, which may be
//! a log, gets it when it has changed, and when somebody presses a key.

use std::fmt::Write as _;

/// What is shown now.
#[derive(Debug, Default)]
pub(crate) struct Page {
    lines: Vec<String>,
}

impl Page {
    /// Takes new lines; whether they differ.
    pub(crate) fn set(&mut self, lines: Vec<String>) -> bool {
        let other = self.lines != lines;
        self.lines = lines;
        other
    }

    /// For a serial line: a block of lines.
    pub(crate) fn block(&self) -> Option<String> {
        if self.lines.is_empty() {
            return None;
        }
        let rule = "-".repeat(72);
        let mut text = format!("{rule}\n");
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        text.push_str(&rule);
        Some(text)
    }

    /// For a screen: drawn at its top, with the cursor left where it was. Lines scroll below the page from then on.
    pub(crate) fn drawing(&self) -> Option<String> {
        if self.lines.is_empty() {
            return None;
        }
        // Keep the cursor, take the lines below the page as what scrolls (which moves the cursor), draw, put it back.
        let mut text = format!("\x1b7\x1b[{};999r\x1b[H", self.lines.len() + 2);
        for line in &self.lines {
            let _ = write!(text, "{line}\x1b[K\r\n");
        }
        let _ = write!(text, "{}\x1b[K\x1b8", "-".repeat(72));
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_drawn_without_moving_the_cursor_for_good() {
        let mut page = Page::default();
        assert!(page.block().is_none() && page.drawing().is_none());
        assert!(page.set(vec!["one".to_owned(), "two".to_owned()]));
        assert!(!page.set(vec!["one".to_owned(), "two".to_owned()]));
        let drawing = page.drawing().unwrap();
        assert!(drawing.starts_with("\x1b7\x1b[4;999r\x1b[Hone\x1b[K") && drawing.ends_with("\x1b8"), "{drawing:?}");
        assert_eq!(page.block().unwrap().lines().count(), 4);
    }
}
