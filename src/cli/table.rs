//! Tables as `sw-patch` prints them: gutters of two spaces, centred headers,
//! rules of `=`, columns as wide as their widest cell.

use std::fmt;

use super::term::{hang, width};

/// How the cells of a column stand. Headers are always centred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At the left.
    Left,
    /// In the middle; an odd space goes to the right.
    Centre,
}

/// A table of text.
#[derive(Clone, Debug)]
pub struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    #[must_use]
    pub fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row below the others.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    fn width(&self, column: usize) -> usize {
        let header = self.columns[column].0;
        let cells = self.rows.iter().map(|row| row[column].as_str());
        cells.chain([header]).map(width).max().unwrap_or(0)
    }

    /// The table in so many columns, where there is a bound (in a pipe or a file there
    /// is none). One that is wider is shown row by row, a line for each cell: nothing
    /// is cut, and nothing wraps into a mess.
    #[must_use]
    pub fn fit(&self, columns: Option<usize>) -> String {
        let widths: [usize; N] = std::array::from_fn(|column| self.width(column));
        let whole = widths.iter().sum::<usize>() + 2 * N.saturating_sub(1);
        match columns {
            Some(columns) if whole > columns => self.by_row(columns),
            _ => self.by_column(widths),
        }
    }

    fn by_column(&self, widths: [usize; N]) -> String {
        let line = |cells: [&str; N], align: [Align; N]| {
            let mut line = String::new();
            for (column, cell) in cells.into_iter().enumerate() {
                let space = widths[column] - width(cell);
                let left = if align[column] == Align::Centre { space / 2 } else { 0 };
                line.push_str(&" ".repeat(left));
                line.push_str(cell);
                line.push_str(&" ".repeat(space - left + 2));
            }
            line.truncate(line.trim_end().len());
            line + "\n"
        };
        let mut text = line(self.columns.map(|(header, _)| header), [Align::Centre; N]);
        let rules = widths.map(|width| "=".repeat(width));
        text += &line(rules.each_ref().map(String::as_str), [Align::Left; N]);
        for row in &self.rows {
            text += &line(row.each_ref().map(String::as_str), self.columns.map(|(_, align)| align));
        }
        text
    }

    fn by_row(&self, columns: usize) -> String {
        let indent =
            self.columns.iter().map(|(header, _)| header.len() + 4).max().unwrap_or(0).min(columns / 2);
        let mut text = String::new();
        for row in &self.rows {
            let mut cells = row.iter().zip(&self.columns);
            if let Some((cell, _)) = cells.next() {
                hang(&mut text, "", cell, 0, columns);
            }
            for (cell, (header, _)) in cells.filter(|(cell, _)| !cell.is_empty()) {
                hang(&mut text, &format!("  {header}"), cell, indent, columns);
            }
        }
        text
    }
}

/// As wide as it likes to be.
impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fit(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_looks_as_sw_patch_s_does() {
        let columns = [("Patch ID", Align::Left), ("RR", Align::Centre), ("Patch State", Align::Centre)];
        let mut table = Table::new(columns);
        assert_eq!(table.to_string(), "Patch ID  RR  Patch State\n========  ==  ===========\n");
        table.row(["P1", "N", "Available"].map(str::to_owned));
        table.row(["LONGER-ID-1", "Y", "Partial-Remove"].map(str::to_owned));
        let lines = [
            " Patch ID    RR   Patch State",
            "===========  ==  ==============",
            "P1           N     Available",
            "LONGER-ID-1  Y   Partial-Remove",
        ];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), lines);
        assert_eq!(table.fit(Some(31)), table.to_string());
    }

    #[test]
    fn colour_takes_no_room() {
        let mut table = Table::new([("A", Align::Centre), ("B", Align::Left)]);
        table.row(["\x1b[31mFailed\x1b[0m".to_owned(), "x".to_owned()]);
        table.row(["No".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "  A     B\n======  =\n\x1b[31mFailed\x1b[0m  x\n  No\n");
    }

    #[test]
    fn what_is_wider_than_the_terminal_is_shown_row_by_row() {
        let mut table = Table::new([
            ("Hostname", Align::Left),
            ("Reboot Required", Align::Centre),
            ("State", Align::Centre),
        ]);
        table.row(["worker-0", "No", "installing 42%"].map(str::to_owned));
        table.row(["worker-1", "Yes", "idle"].map(str::to_owned));
        let expected = "\
worker-0
  Reboot Required  No
  State            installing 42%
worker-1
  Reboot Required  Yes
  State            idle
";
        assert_eq!(table.fit(Some(40)), expected);
        assert_eq!(table.fit(Some(41)), table.to_string());
        assert!(table.fit(Some(20)).starts_with("worker-0\n  Reboot Required\n          No\n"));
    }
}
