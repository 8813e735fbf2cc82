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

    fn width(&self) -> usize {
        self.text.chars().count()
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
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.width()).fold(0, usize::max)
            })
            .collect();
        let stream = Stream::begin(&self.columns, &widths, out)?;
        self.rows.iter().try_for_each(|row| stream.row(row, out))
    }
}

/// A table whose rows are written as they come, under widths that are known before.
pub struct Stream {
    columns: Vec<(usize, Align)>,
}

impl Stream {
    /// Writes the heading; a column is at least as wide as its name.
    pub fn begin(
        columns: &[(&'static str, Align)],
        widths: &[usize],
        out: &mut Output,
    ) -> io::Result<Self> {
        let column = |((name, align), width): (&(&str, Align), &usize)| {
            (name.chars().count().max(*width), *align)
        };
        let stream = Stream {
            columns: columns.iter().zip(widths).map(column).collect(),
        };
        let names = columns.iter().map(|(name, _)| *name);
        let heading: Vec<Cell> = names.map(|n| Cell::toned(Tone::Heading, n)).collect();
        stream.row(&heading, out)?;
        Ok(stream)
    }

    /// Writes one row.
    pub fn row(&self, cells: &[Cell], out: &mut Output) -> io::Result<()> {
        let mut line = String::new();
        let mut spaces = 0; // written when a cell follows, so that no line ends in spaces
        for (cell, (width, align)) in cells.iter().zip(&self.columns) {
            let rest = width.saturating_sub(cell.width());
            let (before, after) = match align {
                Align::Left => (0, rest),
                Align::Right => (rest, 0),
            };
            if cell.text.is_empty() {
                spaces += width + 2;
            } else {
                line.extend(std::iter::repeat_n(' ', spaces + before));
                line += &out.paint(cell.tone, &cell.text);
                spaces = after + 2;
            }
        }
        out.line(&line)
    }
}
