//! Standard output and standard error, of which either may be closed, a pipe, or a terminal with colours.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use unicode_width::UnicodeWidthStr;

use super::Exit;
use crate::logging::{self, Lines, no_colour};

pub(crate) use crate::text::{plain, quoted, shortened};

/// Where a command writes.
#[derive(Debug)]
pub(crate) struct Terminal {
    colour: bool,
    output: Output,
}

#[derive(Debug)]
enum Output {
    Open,
    /// Nothing here waits for whoever reads it.
    Queued(Lines),
    /// Whoever read it has gone (`gander events list | head`): the rest is for nobody.
    Closed,
    Failed(io::Error),
}

impl Terminal {
    pub(crate) fn new() -> Terminal {
        let colour = !no_colour(std::env::var_os("NO_COLOR").as_deref());
        Terminal { colour, output: Output::Open }
    }

    /// Results are read on a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self.output, Output::Open) && io::stdout().is_terminal()
    }

    /// Writes a result over the one before, from the first line of the screen.
    pub(crate) fn redraw(&mut self, text: &str) {
        let lines = text.replace('\n', "\u{1b}[K\n");
        let _ = self.write(format!("\u{1b}[H{lines}\u{1b}[K\n\u{1b}[J").as_bytes());
    }

    /// Results may be coloured.
    pub(crate) fn colour(&self) -> bool {
        self.colour && io::stdout().is_terminal()
    }

    /// Messages may be coloured.
    pub(crate) fn colour_for_errors(&self) -> bool {
        self.colour && io::stderr().is_terminal()
    }

    /// Standard output was closed by its reader, or can't be written: more of the result is for nobody.
    pub(crate) fn is_unread(&self) -> bool {
        matches!(self.output, Output::Closed | Output::Failed(_))
    }

    /// From now on no line waits for its reader: for a command that serves others meanwhile.
    pub(crate) fn detach(&mut self) -> io::Result<()> {
        if matches!(self.output, Output::Open) {
            let sink = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            let lines =
                Lines::start("output", sink, |dropped| format!("… {} lines are missing here\n", dropped.lines))?;
            self.output = Output::Queued(lines);
        }
        Ok(())
    }

    /// Writes a line of the result.
    pub(crate) fn print(&mut self, line: &str) {
        let _ = self.write(format!("{line}\n").as_bytes());
    }

    /// Says something beside the result.
    pub(crate) fn say(&mut self, line: &str) {
        logging::say(line);
    }

    /// Says why something can't be done; a name in it may hold what moves a cursor.
    pub(crate) fn say_error(&mut self, problem: &str) {
        self.say(&format!("error: {}", plain_lines(problem)));
    }

    /// The process's exit code: a result that could not be written is no result.
    pub(crate) fn finish(&mut self, exit: Exit) -> ExitCode {
        let _ = self.flush();
        let exit = match std::mem::replace(&mut self.output, Output::Open) {
            Output::Failed(error) => {
                self.say(&format!("error: can't write the result: {error}"));
                Exit::CouldNotRun
            }
            Output::Open | Output::Queued(_) | Output::Closed => exit,
        };
        logging::finish();
        exit.into()
    }
}

/// The result, to standard output. What can't be written is remembered for [`Terminal::finish`] and never an error, so
/// that no command has to think of a reader that goes away.
impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.output {
            Output::Open => {
                if let Err(error) = io::stdout().lock().write_all(bytes) {
                    self.note(error);
                }
            }
            Output::Queued(lines) => lines.put(bytes),
            Output::Closed | Output::Failed(_) => {}
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.output {
            Output::Open => {
                if let Err(error) = io::stdout().lock().flush() {
                    self.note(error);
                }
            }
            Output::Queued(lines) => {
                lines.flush(FLUSH_MAX);
                if let Some(kind) = lines.failing() {
                    self.note(kind.into());
                }
            }
            Output::Closed | Output::Failed(_) => {}
        }
        Ok(())
    }
}

impl Terminal {
    fn note(&mut self, error: io::Error) {
        self.output = match error.kind() {
            io::ErrorKind::BrokenPipe => Output::Closed,
            _ => Output::Failed(error),
        };
    }
}

/// The wait for queued lines to be read: their reader may be stuck.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// As [`plain`], of a text of several lines.
fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// A text in a colour or weight of a terminal, where it is wanted.
pub(crate) fn painted(text: &str, paint: Paint, colour: bool) -> String {
    if colour { format!("\u{1b}[{}m{text}\u{1b}[0m", paint as u8) } else { text.to_owned() }
}

/// A colour or weight, by the number that terminals know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// A text from outside as a cell of a table. `gander events show` has the whole of a longer one.
pub(crate) fn cell(text: &str) -> String {
    shortened(text, CELL_CHARS_MAX)
}

/// Rows of cells as lines with aligned columns; the last column is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    painted_table(rows, |_, _| None)
}

/// Rows of cells as lines, with cells painted by row and column.
pub(crate) fn painted_table(rows: &[Vec<String>], paint: impl Fn(usize, usize) -> Option<Paint>) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |(index, row): (usize, &Vec<String>)| {
        // What is empty to the end of the line is not padded.
        let filled = row.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
        let cells = row[..filled].iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let padding = if column + 1 == filled { 0 } else { width - cell.width() };
            let cell = format!("{cell}{:padding$}", "");
            paint(index, column).map_or(cell.clone(), |paint| painted(&cell, paint, true))
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().enumerate().map(line).collect()
}

/// A longer cell would break the table.
const CELL_CHARS_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_moves_no_cursor() {
        assert_eq!(plain_lines("can't read a\u{1b}[2J\n  b\r"), "can't read a\\u{1b}[2J\n  b\\r");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["id", "key", "n"], ["1", "é", "1"], ["10", "警報", "2"], ["2", "", ""]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), ["id  key   n", "1   é     1", "10  警報  2", "2"]);
        let painted = painted_table(&rows[1..3], |row, column| (row == 0 && column == 1).then_some(Paint::Red));
        assert_eq!(painted, ["1   \u{1b}[31mé   \u{1b}[0m  1", "10  警報  2"]);
    }
}
