//! Tables in `sw-patch`'s layout: gutters of two spaces, centred headers, rules of `=`,
//! columns as wide as their widest cell.

use std::fmt;
use std::iter::repeat_n;

use super::term::{hang, width};

/// The alignment of a column's cells. Headers are always centred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Left.
    Left,
    /// Centred; an odd space goes to the right.
    Centre,
}

/// A table of text.
#[derive(Clone, Debug)]
pub struct TextTable<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> TextTable<N> {
    /// A table without rows.
    #[must_use]
    pub fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row below the others.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// The table within a number of columns, if there is a bound. A wider table is shown
    /// row by row, one line for each cell, so that nothing is cut or wrapped.
    #[must_use]
    pub fn fit(&self, columns: Option<usize>) -> String {
        fit(&self.columns, self.rows.as_flattened(), columns)
    }
}

/// A column: its header and alignment.
pub type Column = (&'static str, Align);

/// As [`TextTable::fit`], for cells in row order. It takes slices, so that it is compiled
/// only once.
#[must_use]
pub fn fit(columns: &[Column], cells: &[String], bound: Option<usize>) -> String {
    let mut widths: Vec<usize> = columns.iter().map(|(header, _)| header.len()).collect();
    for row in cells.chunks(columns.len()) {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    let whole = widths.iter().sum::<usize>() + 2 * columns.len().saturating_sub(1);
    match bound {
        Some(bound) if whole > bound => by_row(columns, cells, bound),
        _ => by_column(columns, cells, &widths),
    }
}

fn by_column(columns: &[Column], cells: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (column, (header, _)) in columns.iter().enumerate() {
        place(&mut text, header, Align::Centre, widths, column);
    }
    for (column, wide) in widths.iter().enumerate() {
        place(&mut text, &"=".repeat(*wide), Align::Left, widths, column);
    }
    for (nth, cell) in cells.iter().enumerate() {
        let column = nth % columns.len();
        place(&mut text, cell, columns[column].1, widths, column);
    }
    text
}

/// Writes a cell, and a line end after the last one of a row.
fn place(text: &mut String, cell: &str, align: Align, widths: &[usize], column: usize) {
    let space = widths[column] - width(cell);
    let left = if align == Align::Centre { space / 2 } else { 0 };
    text.extend(repeat_n(' ', left));
    text.push_str(cell);
    if column + 1 < widths.len() {
        text.extend(repeat_n(' ', space - left + 2));
    } else {
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
}

fn by_row(columns: &[Column], cells: &[String], bound: usize) -> String {
    let indent = columns.iter().map(|(header, _)| header.len() + 4).max().unwrap_or(0).min(bound / 2);
    let mut text = String::new();
    for (nth, cell) in cells.iter().enumerate() {
        match nth % columns.len() {
            0 => hang(&mut text, "", cell, 0, bound),
            _ if cell.is_empty() => {}
            column => hang(&mut text, &["  ", columns[column].0].concat(), cell, indent, bound),
        }
    }
    text
}

/// The table without a bound on its width.
impl<const N: usize> fmt::Display for TextTable<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fit(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::term::{Style, painted};

    #[test]
    fn a_table_looks_as_sw_patch_s_does() {
        let columns = [("Patch ID", Align::Left), ("RR", Align::Centre), ("Patch State", Align::Centre)];
        let mut table = TextTable::new(columns);
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
    fn colour_has_no_width() {
        let mut table = TextTable::new([("A", Align::Centre), ("B", Align::Left)]);
        table.row([Style::new(Some("always")).red("Failed"), "x".to_owned()]);
        table.row(["No".to_owned(), String::new()]);
        assert_eq!(painted(&table.to_string()), "  A     B\n======  =\n\x1b[31mFailed\x1b[0m  x\n  No\n");
    }

    #[test]
    fn a_table_wider_than_the_terminal_is_shown_row_by_row() {
        let mut table = TextTable::new([
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
