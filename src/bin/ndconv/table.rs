//! Tables for people: columns as wide as their widest cell, two spaces apart.

use std::io;

use crate::output::{Output, Tone, printable};

/// One field of a table.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A field with a colour.
    pub fn toned(tone: Tone, text: impl AsRef<str>) -> Self {
        let text = printable(text.as_ref()).into_owned();
        Cell { text, tone }
    }
}

impl<S: AsRef<str>> From<S> for Cell {
    fn from(text: S) -> Self {
        Cell::toned(Tone::Plain, text)
    }
}

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Names and text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a heading.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Table {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells at its end are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Writes heading and rows.
    pub fn print(&self, out: &mut Output) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let heading = self.columns[column].0.chars().count();
            cells
                .map(|cell| cell.text.chars().count())
                .fold(heading, usize::max)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let heading = self.columns.iter().map(|(name, _)| *name);
        let heading: Vec<Cell> = heading.map(|n| Cell::toned(Tone::Heading, n)).collect();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            let mut spaces = 0; // written when a cell follows, so that no line ends in spaces
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.columns) {
                let rest = width - cell.text.chars().count();
                let (before, after) = match align {
                    Align::Left => (0, rest),
                    Align::Right => (rest, 0),
                };
                if !cell.text.is_empty() {
                    line.extend(std::iter::repeat_n(' ', spaces + before));
                    line += &out.paint(cell.tone, &cell.text);
                    spaces = after + 2;
                } else {
                    spaces += width + 2;
                }
            }
            out.line(&line)?;
        }
        Ok(())
    }
}
