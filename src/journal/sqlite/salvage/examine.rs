//! Checks the journal's files before SQLite opens them: SQLite changes them, and does not report what it ignores.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::journal::sqlite::ID_MAX;
use crate::journal::sqlite::names::FILE;
use crate::journal::sqlite::pages::{FILE_HEADER_BYTES, Kind, Leaf, Node, Pages, columns, word};
use crate::journal::sqlite::schema::{self, VERSION};
use crate::journal::sqlite::sectors;
use crate::journal::sqlite::wal::{self, Log};

/// The result of the check.
#[derive(Debug)]
pub(super) struct Examined {
    /// The log; none if there is no log or it is unrecognizable.
    pub(super) log: Option<Log>,
    /// The reason why the journal can't be used as it is.
    pub(super) problem: Option<String>,
}

/// The size of a database's pages, by its first bytes, which may be damaged.
fn page_bytes(database: &mut (impl Read + Seek), log: Option<&Log>) -> io::Result<usize> {
    let header = sectors::read_at(database, 0, FILE_HEADER_BYTES)?.bytes;
    let said = header.get(16..18).map_or(0, |bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    match log {
        Some(log) => Ok(log.page_bytes),
        None if said == 8_192 || said == 4_096 => Ok(said),
        None => guessed_page_bytes(database),
    }
}

/// The page size with which more pages look like those of a tree.
fn guessed_page_bytes(database: &mut (impl Read + Seek)) -> io::Result<usize> {
    let mut likeliest = (0, 8_192);
    for page_bytes in [8_192, 4_096] {
        let mut pages = Pages::of(&mut *database, page_bytes)?;
        let looked_at = pages.count().min(PAGES_GUESSED_BY);
        let mut trees = 0;
        for page in 2..=looked_at {
            let bytes = pages.read(page)?;
            trees += u32::from(Node::of(&bytes, page).is_some());
        }
        let share = trees * 1_000 / looked_at.max(1);
        likeliest = likeliest.max((share, page_bytes));
    }
    Ok(likeliest.1)
}

/// Opens the database and the part of the log that SQLite uses.
pub(super) fn open(directory: &Path) -> io::Result<(Pages<File>, Option<Log>)> {
    let path = directory.join(FILE);
    files(&path, &directory.join(format!("{FILE}-wal")))
}

/// Opens files of any name as pages. A missing file counts as empty.
pub(super) fn files(database: &Path, log: &Path) -> io::Result<(Pages<File>, Option<Log>)> {
    let or_nothing = |path: &Path| match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::open("/dev/null"),
        other => other,
    };
    let (mut database, mut log_file) = (or_nothing(database)?, or_nothing(log)?);
    let log = wal::read(&mut log_file)?;
    let page_bytes = page_bytes(&mut database, log.as_ref())?;
    let mut pages = Pages::of(database, page_bytes)?;
    if let Some(log) = &log {
        pages.overlay(log_file, log.frames[..log.taken].iter().map(|frame| (frame.page, frame.at)));
    }
    Ok((pages, log))
}

/// Checks everything that can be checked without reading every payload.
pub(super) fn examine(directory: &Path) -> io::Result<Examined> {
    let (mut pages, log) = open(directory)?;
    let mut problem = None;
    if pages.count() > 0 {
        problem = problem_of(&mut pages)?;
    }
    Ok(Examined { log, problem })
}

fn problem_of<R: Read + Seek>(pages: &mut Pages<R>) -> io::Result<Option<String>> {
    let first = pages.read(1)?;
    if is_new(&first) && pages.count() == 1 {
        return Ok(None);
    }
    for header in [&first[..FILE_HEADER_BYTES], &pages.file_header()?] {
        if let Some(problem) = problem_of_header(header, pages.page_bytes(), pages.count()) {
            return Ok(Some(problem));
        }
    }
    let schema = match problem_of_schema(pages)? {
        Ok(schema) => schema,
        Err(problem) => return Ok(Some(problem)),
    };
    let version = word(&first, 60);
    // Tables of another layout belong to another version; `connect` reports that.
    if i64::from(version) != VERSION {
        return Ok(schema.is_ours.then(|| format!("the number of its layout is {version}")));
    }
    let mut used = HashSet::new();
    for (table, root) in schema.tables.iter().chain([(&"of tables".to_owned(), &1)]) {
        let tree = pages.leaves(*root)?;
        if !tree.broken.is_empty() {
            return Ok(Some(format!("the tree of table {table} is broken")));
        }
        if READ_AT_A_START.contains(&table.as_str())
            && let Some(problem) = problem_of_rows(pages, table, &tree.pages)?
        {
            return Ok(Some(problem));
        }
        let mut own = tree.pages.iter().map(|leaf| leaf.page).chain(tree.interior);
        if let Some(twice) = own.find(|page| !used.insert(*page)) {
            return Ok(Some(format!("page {twice} belongs to two tables")));
        }
    }
    let Some(free) = pages.free()? else {
        return Ok(Some("the list of its free pages is broken".to_owned()));
    };
    if let Some(page) = free.iter().find(|page| used.contains(page)) {
        return Ok(Some(format!("page {page} is in use, and among the free ones")));
    }
    // Tables are created before any rows: roots that nothing refers to are among the first pages.
    for number in (1..=pages.count().min(ROOTS_AMONG)).filter(|page| !used.contains(page) && !free.contains(page)) {
        let page = pages.read(number)?;
        let is_table = |node: Node<'_>| matches!(node.kind(), Kind::TableLeaf | Kind::TableInterior);
        if Node::of(&page, number).is_some_and(is_table) {
            return Ok(Some(format!("page {number} belongs to no table")));
        }
    }
    Ok(None)
}

/// Finds a row that is in the wrong place, or incomplete.
fn problem_of_rows<R: Read + Seek>(pages: &mut Pages<R>, table: &str, leaves: &[Leaf]) -> io::Result<Option<String>> {
    for leaf in leaves {
        let broken = || Ok(Some(format!("page {} of table {table} is broken", leaf.page)));
        let page = pages.read(leaf.page)?;
        let Some(node) = Node::of(&page, leaf.page).filter(|node| node.kind() == Kind::TableLeaf) else {
            return broken();
        };
        let mut after = leaf.after.unwrap_or(0).max(0);
        for cell in node.cells() {
            let Some(cell) = cell else {
                return broken();
            };
            let in_order = cell.id > after && leaf.until.is_none_or(|until| cell.id <= until);
            if !in_order || cell.id > ID_MAX.cast_signed() {
                return broken();
            }
            after = cell.id;
            // SQLite stops reading at a row that it can't decode.
            let is_readable = pages.payload(&cell)?.is_some_and(|payload| columns(&payload).is_some());
            if !is_readable {
                return broken();
            }
        }
    }
    Ok(None)
}

/// Returns true for the header of a database to which SQLite has written no table yet. Until the first checkpoint all of
/// a new journal is in its log.
fn is_new(header: &[u8]) -> bool {
    word(header, 28) == 1 && word(header, 44) == 0 && word(header, 56) == 0
}

/// Finds a header value that our journals never have.
fn problem_of_header(header: &[u8], page_bytes: usize, count: u32) -> Option<String> {
    let said = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let is_ours = header.starts_with(b"SQLite format 3\0")
        && said == page_bytes
        // Either journal mode, and no reserved bytes per page.
        && matches!(header[18..21], [1, 1, 0] | [2, 2, 0])
        && header[21..24] == [64, 32, 32]
        && (is_new(header) || word(header, 44) == SCHEMA_FORMAT && word(header, 56) == UTF_8)
        && word(header, 64) <= 1
        && (word(header, 52) == 0) <= (word(header, 64) == 0)
        && word(header, 52) <= count
        && header[72..92].iter().all(|byte| *byte == 0);
    if !is_ours {
        return Some("its first bytes are not those of a journal".to_owned());
    }
    // SQLite trusts the number of pages only if it was written with the last change.
    let is_current = word(header, 24) == word(header, 92);
    (is_current && word(header, 28) > count)
        .then(|| format!("{} of its {} pages are missing", word(header, 28) - count, word(header, 28)))
}

struct Schema {
    tables: HashMap<String, u32>,
    /// True if the tables of this layout are there.
    is_ours: bool,
}

/// The tables and indexes that a journal lists, by name.
struct Definitions {
    sql: HashMap<String, String>,
    /// The first page of each table with row numbers.
    tables: HashMap<String, u32>,
}

/// Compares tables and indexes with those of this version and earlier ones. Additions by others are ignored.
fn problem_of_schema<R: Read + Seek>(pages: &mut Pages<R>) -> io::Result<Result<Schema, String>> {
    let is_of_another_layout = i64::from(word(&pages.read(1)?, 60)) != VERSION;
    let Some(Definitions { sql: found, tables }) = definitions(pages)? else {
        return Ok(Err("the list of its tables is broken".to_owned()));
    };
    let expected = expected().map_err(|error| io::Error::other(error.to_string()))?;
    let is_ours = expected.base.iter().all(|(name, sql)| found.get(name).is_some_and(|found| found.starts_with(sql)));
    for (name, sql) in &expected.base {
        match found.get(name) {
            Some(found) if !is_rotten(found, sql, BYTES_ROTTEN_MAX) => {}
            None if is_of_another_layout => {}
            _ => return Ok(Err(format!("the definition of {name} is damaged"))),
        }
    }
    for (name, sql) in &expected.added {
        let is_sound = match found.get(name) {
            Some(found) => !is_rotten(found, sql, BYTES_ROTTEN_IN_ADDED),
            // An earlier version had none, unless a damaged name hides it.
            None => !found.iter().any(|(other, found)| {
                let is_that = found == sql || is_rotten(found, sql, BYTES_ROTTEN_IN_ADDED);
                is_that && expected.added.iter().all(|(name, _)| name != other)
            }),
        };
        if !is_sound {
            return Ok(Err(format!("the definition of {name} is damaged")));
        }
    }
    Ok(Ok(Schema { tables, is_ours }))
}

/// Reads the list of tables and indexes; none if it is broken.
fn definitions<R: Read + Seek>(pages: &mut Pages<R>) -> io::Result<Option<Definitions>> {
    let tree = pages.leaves(1)?;
    if !tree.broken.is_empty() {
        return Ok(None);
    }
    let mut found = Definitions { sql: HashMap::new(), tables: HashMap::new() };
    for leaf in &tree.pages {
        let page = pages.read(leaf.page)?;
        let Some(node) = Node::of(&page, leaf.page).filter(|node| node.kind() == Kind::TableLeaf) else {
            return Ok(None);
        };
        for cell in node.cells() {
            let Some(payload) = cell.map(|cell| pages.payload(&cell)).transpose()?.flatten() else {
                return Ok(None);
            };
            let Some(row) = columns(&payload) else {
                return Ok(None);
            };
            let [ValueRef::Text(kind), ValueRef::Text(name), ValueRef::Text(_), ValueRef::Integer(root), sql] = row[..]
            else {
                return Ok(None);
            };
            let (Ok(root), Ok(name)) = (u32::try_from(root), std::str::from_utf8(name)) else {
                return Ok(None);
            };
            let sql = words(sql.as_str_or_null().unwrap_or_default().unwrap_or_default());
            if kind == b"table" && !is_without_rowid(&sql) {
                found.tables.insert(name.to_owned(), root);
            }
            if root > pages.count() {
                return Ok(None);
            }
            found.sql.insert(name.to_owned(), sql);
        }
    }
    Ok(Some(found))
}

/// The definitions of tables and indexes, by name.
struct Expected {
    /// The tables that every journal of this layout has.
    base: Vec<(String, String)>,
    /// The tables that were added later.
    added: Vec<(String, String)>,
}

fn expected() -> Result<Expected, rusqlite::Error> {
    let connection = Connection::open_in_memory()?;
    let definitions = || {
        let mut statement = connection.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, words(&row.get::<_, String>(1)?))))?;
        rows.collect::<Result<Vec<(String, String)>, rusqlite::Error>>()
    };
    connection.execute_batch(schema::SCHEMA)?;
    let base = definitions()?;
    schema::add_missing(&connection)?;
    let added = definitions()?;
    Ok(Expected { base, added })
}

/// A definition as its words, without layout and comments.
fn words(sql: &str) -> String {
    let lines: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    lines.join(" ").replace(['(', ')', ','], " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns true if a definition differs from the expected one in a few bytes only, as far as both go. A very different
/// one belongs to another version.
fn is_rotten(found: &str, expected: &str, bytes_max: usize) -> bool {
    let differing = found.bytes().zip(expected.bytes()).filter(|(one, other)| one != other).count();
    (1..=bytes_max).contains(&differing)
}

/// Returns true for a `WITHOUT ROWID` table, which is an index by itself.
fn is_without_rowid(sql: &str) -> bool {
    sql.ends_with("WITHOUT ROWID")
}

/// Tables that a start reads completely before anything is delivered.
const READ_AT_A_START: [&str; 2] = ["event", "key_state"];
/// A word changed by hand differs in more bytes.
const BYTES_ROTTEN_MAX: usize = 8;
/// Another version may have added a different column in place of the last one, which also differs in more bytes.
const BYTES_ROTTEN_IN_ADDED: usize = 2;
const SCHEMA_FORMAT: u32 = 4;
const UTF_8: u32 = 1;
/// More than the number of tables and indexes.
const ROOTS_AMONG: u32 = 32;
/// Pages that are tried to guess their size.
const PAGES_GUESSED_BY: u32 = 64;
