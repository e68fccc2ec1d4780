//! Another program at the journal's files: a process of its own, since locks are held between processes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rusqlite::Connection;

/// A process with one connection, which does what it is told and says what came of it.
pub struct Other {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    /// Starts it over a journal, which it opens as `sqlite3` does: able to write, and to fold the log when it goes.
    pub fn open(journal: &Path) -> Other {
        Other::open_under(&[], journal)
    }

    /// The same under a command that is to start it, empty for none.
    pub fn open_under(under: &[String], journal: &Path) -> Other {
        let itself = std::env::current_exe().unwrap().display().to_string();
        let words: Vec<String> = under.iter().cloned().chain([itself]).collect();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args(["--exact", "other::another_program", "--nocapture"])
            .env(JOURNAL, journal)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Other { child, orders, answers }
    }

    /// Has a statement carried out; returns the first number that it gives, or the error.
    pub fn does(&mut self, statement: &str) -> Result<i64, String> {
        writeln!(self.orders, "{statement}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the other program ended");
            if let Some(number) = line.strip_prefix(GAVE) {
                return Ok(number.trim().parse().unwrap());
            }
            if let Some(error) = line.strip_prefix(FAILED) {
                return Err(error.trim().to_owned());
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Closes the journal and ends.
    pub fn close(mut self) {
        drop(self.orders);
        assert!(self.child.wait().unwrap().success());
    }
}

/// Opens a journal, counts its events and goes, as a person does with `sqlite3`.
pub fn count(journal: &Path) -> i64 {
    count_under(&[], journal)
}

pub fn count_under(under: &[String], journal: &Path) -> i64 {
    let mut other = Other::open_under(under, journal);
    let counted = other.does("SELECT count(*) FROM event").unwrap();
    other.close();
    counted
}

/// The other program itself: started by [`Other::open`], a test of nothing otherwise.
#[test]
fn another_program() {
    let Ok(journal) = std::env::var(JOURNAL) else { return };
    let connection = Connection::open(journal).unwrap();
    for order in std::io::stdin().lines() {
        let done = connection.prepare(&order.unwrap()).and_then(|mut statement| {
            let mut rows = statement.query([])?;
            let first = rows.next()?.map(|row| row.get(0)).transpose()?;
            while rows.next()?.is_some() {}
            Ok(first.unwrap_or(0_i64))
        });
        match done {
            Ok(number) => println!("\n{GAVE}{number}"),
            Err(error) => println!("\n{FAILED}{error}"),
        }
    }
    connection.close().unwrap();
}

const JOURNAL: &str = "GANDER_OTHER_JOURNAL";
const GAVE: &str = "gave ";
const FAILED: &str = "failed ";
