//! Tables as `sw-patch` prints them: gutters of two spaces, centred headers,
//! rules of `=`, columns as wide as their widest cell.

use std::fmt;

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
        cells.chain([header]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: [usize; N] = std::array::from_fn(|column| self.width(column));
        let gutter = |column| if column == 0 { "" } else { "  " };
        for (column, (header, _)) in self.columns.iter().enumerate() {
            write!(f, "{}{header:^width$}", gutter(column), width = widths[column])?;
        }
        writeln!(f)?;
        for (column, width) in widths.iter().enumerate() {
            write!(f, "{}{:=<width$}", gutter(column), "")?;
        }
        writeln!(f)?;
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                let (gutter, width) = (gutter(column), widths[column]);
                match self.columns[column].1 {
                    Align::Left => write!(f, "{gutter}{cell:<width$}")?,
                    Align::Centre => write!(f, "{gutter}{cell:^width$}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
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
            " Patch ID    RR   Patch State  ",
            "===========  ==  ==============",
            "P1           N     Available   ",
            "LONGER-ID-1  Y   Partial-Remove",
        ];
        assert_eq!(table.to_string().lines().collect::<Vec<_>>(), lines);
    }
}
