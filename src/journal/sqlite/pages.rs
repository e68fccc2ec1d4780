//! Reads the pages of a database without SQLite, which reads nothing of a table below one damaged page, and does not
//! report what it skipped.
//!
//! The format is at <https://www.sqlite.org/fileformat2.html>. No number in the file is trusted: whatever the bytes
//! are, reading ends, and uses no more memory than the file is large.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom};

use rusqlite::types::ValueRef;

use super::sectors;

/// The source of pages: a database, and over it the pages of a log.
#[derive(Debug)]
pub(super) struct Pages<R> {
    database: R,
    log: Option<R>,
    /// The offset in the log of the newest version of a page.
    newest: HashMap<u32, u64>,
    page_bytes: usize,
    count: u32,
    /// The total size of the files.
    bytes: u64,
}

/// A page of a tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'p> {
    page: &'p [u8],
    kind: Kind,
    /// The offset of its header: on the first page the file's header comes before it.
    header: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    TableLeaf,
    TableInterior,
    IndexLeaf,
    IndexInterior,
}

/// One entry of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell<'p> {
    /// The page below it; interior pages only.
    pub(super) child: u32,
    /// The row's number; tables only.
    pub(super) id: i64,
    payload_bytes: usize,
    /// The part of the payload that is on this page.
    local: &'p [u8],
    /// The first page with the rest of the payload.
    overflow: Option<u32>,
}

/// The leaves of a table's tree, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leaves {
    pub(super) pages: Vec<Leaf>,
    /// The interior pages above them.
    pub(super) interior: Vec<u32>,
    /// Pages that should be interior pages of the tree but are not.
    pub(super) broken: Vec<Leaf>,
}

/// A page below another one, with the range of its row numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) page: u32,
    /// The last number before the page.
    pub(super) after: Option<i64>,
    /// The last number on the page; none for the last page.
    pub(super) until: Option<i64>,
}

impl<R: Read + Seek> Pages<R> {
    /// Opens a database with pages of this size.
    pub(super) fn of(mut database: R, page_bytes: usize) -> io::Result<Pages<R>> {
        let bytes = database.seek(SeekFrom::End(0))?;
        let count = u32::try_from(bytes.div_ceil(page_bytes as u64)).unwrap_or(u32::MAX);
        Ok(Pages { database, log: None, newest: HashMap::new(), page_bytes, count, bytes })
    }

    /// Adds a log over it: pages by number and offset in the log, oldest first.
    pub(super) fn overlay(&mut self, log: R, pages: impl IntoIterator<Item = (u32, u64)>) {
        self.log = Some(log);
        self.lay_over(pages);
    }

    /// Selects other pages of the same log.
    pub(super) fn lay_over(&mut self, pages: impl IntoIterator<Item = (u32, u64)>) {
        self.bytes -= self.newest.len() as u64 * self.page_bytes as u64;
        self.newest = pages.into_iter().filter(|(page, _)| *page > 0).collect();
        self.count = self.newest.keys().copied().fold(self.count, u32::max);
        self.bytes += self.newest.len() as u64 * self.page_bytes as u64;
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// The header of the database file, which SQLite reads before any log; without a file, that of the first page.
    pub(super) fn file_header(&mut self) -> io::Result<Vec<u8>> {
        let header = sectors::read_at(&mut self.database, 0, FILE_HEADER_BYTES)?.bytes;
        if header.len() == FILE_HEADER_BYTES { Ok(header) } else { Ok(self.read(1)?[..FILE_HEADER_BYTES].to_vec()) }
    }

    /// Reads a page; missing bytes at the end of the file are zeros.
    pub(super) fn read(&mut self, page: u32) -> io::Result<Vec<u8>> {
        let (from, at) = match (self.newest.get(&page), &mut self.log) {
            (Some(at), Some(log)) => (log, *at),
            _ => (&mut self.database, u64::from(page.saturating_sub(1)) * self.page_bytes as u64),
        };
        read_page(from, at, self.page_bytes)
    }

    /// Reads a version of a page at its offset in the log.
    pub(super) fn version(&mut self, at: u64) -> io::Result<Vec<u8>> {
        match &mut self.log {
            Some(log) => read_page(log, at, self.page_bytes),
            None => Ok(vec![0; self.page_bytes]),
        }
    }

    /// The whole payload of a cell; none if its overflow pages are damaged.
    pub(super) fn payload(&mut self, cell: &Cell<'_>) -> io::Result<Option<Vec<u8>>> {
        if cell.payload_bytes as u64 > self.bytes {
            return Ok(None);
        }
        let mut payload = cell.local.to_vec();
        let mut next = cell.overflow;
        while payload.len() < cell.payload_bytes {
            let Some(page) = next.filter(|page| (1..=self.count).contains(page)) else {
                return Ok(None);
            };
            let bytes = self.read(page)?;
            next = Some(word(&bytes, 0));
            let missing = cell.payload_bytes - payload.len();
            payload.extend_from_slice(&bytes[4..bytes.len().min(4 + missing)]);
        }
        Ok(Some(payload))
    }

    /// Walks a table's tree. Leaves are not read, unless the tree is a single leaf.
    pub(super) fn leaves(&mut self, root: u32) -> io::Result<Leaves> {
        let mut found = Leaves::default();
        let Some(depth) = self.depth(root)? else {
            found.broken.push(Leaf { page: root, after: None, until: None });
            return Ok(found);
        };
        let mut seen = HashSet::new();
        // The next page is taken from the end.
        let mut waiting = vec![(Leaf { page: root, after: None, until: None }, depth)];
        while let Some((leaf, depth)) = waiting.pop() {
            if !(1..=self.count).contains(&leaf.page) || !seen.insert(leaf.page) {
                found.broken.push(leaf);
                continue;
            }
            if depth == 0 {
                found.pages.push(leaf);
                continue;
            }
            let bytes = self.read(leaf.page)?;
            match Node::of(&bytes, leaf.page).and_then(|node| node.children(leaf)) {
                Some(children) => {
                    found.interior.push(leaf.page);
                    waiting.extend(children.into_iter().rev().map(|child| (child, depth - 1)));
                }
                None => found.broken.push(leaf),
            }
        }
        Ok(found)
    }

    /// The number of interior pages above each leaf, along the first entries; along the last ones if the first way is
    /// damaged.
    fn depth(&mut self, root: u32) -> io::Result<Option<usize>> {
        for last in [false, true] {
            let mut page = root;
            for depth in 0..DEPTH_MAX {
                if !(1..=self.count).contains(&page) {
                    break;
                }
                let bytes = self.read(page)?;
                let Some(node) = Node::of(&bytes, page) else {
                    break;
                };
                match node.kind {
                    Kind::TableLeaf => return Ok(Some(depth)),
                    Kind::TableInterior => {
                        let first = node.cells().next().flatten().map(|cell| cell.child);
                        page = first.filter(|_| !last).unwrap_or_else(|| node.right_child());
                    }
                    Kind::IndexLeaf | Kind::IndexInterior => break,
                }
            }
        }
        Ok(None)
    }

    /// The free pages; none if their list is damaged.
    pub(super) fn free(&mut self) -> io::Result<Option<HashSet<u32>>> {
        let first = self.read(1)?;
        let (mut trunk, count) = (word(&first, 32), word(&first, 36));
        let mut free = HashSet::new();
        while trunk != 0 {
            if !(2..=self.count).contains(&trunk) || !free.insert(trunk) {
                return Ok(None);
            }
            let bytes = self.read(trunk)?;
            let leaves = word(&bytes, 4) as usize;
            if leaves > bytes.len() / 4 - 2 {
                return Ok(None);
            }
            for place in 0..leaves {
                let leaf = word(&bytes, 8 + 4 * place);
                if !(2..=self.count).contains(&leaf) || !free.insert(leaf) {
                    return Ok(None);
                }
            }
            trunk = word(&bytes, 0);
        }
        Ok(Some(free).filter(|free| free.len() == count as usize))
    }
}

/// Reads a page; unreadable or missing bytes are zeros.
fn read_page<R: Read + Seek>(from: &mut R, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = sectors::read_at(from, at, length)?.bytes;
    bytes.resize(length, 0);
    Ok(bytes)
}

impl<'p> Node<'p> {
    /// Decodes a page of a tree; none if it is not one.
    pub(super) fn of(page: &'p [u8], number: u32) -> Option<Node<'p>> {
        let header = if number == 1 { FILE_HEADER_BYTES } else { 0 };
        let kind = match page.get(header)? {
            0x0D => Kind::TableLeaf,
            0x05 => Kind::TableInterior,
            0x0A => Kind::IndexLeaf,
            0x02 => Kind::IndexInterior,
            _ => return None,
        };
        let node = Node { page, kind, header };
        (node.cells_begin() + 2 * node.len() <= page.len()).then_some(node)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn len(&self) -> usize {
        usize::from(short(self.page, self.header + 3))
    }

    /// Its entries; none for each invalid one.
    pub(super) fn cells(self) -> impl Iterator<Item = Option<Cell<'p>>> {
        let begin = self.cells_begin();
        (0..self.len()).map(move |place| {
            let at = usize::from(short(self.page, begin + 2 * place));
            // Cells come after all cell pointers.
            if at < begin + 2 * self.len() { None } else { Cell::of(self.page, at, self.kind) }
        })
    }

    /// The pages below it with their ranges; none unless its entries are ordered and within its own range.
    fn children(self, bounds: Leaf) -> Option<Vec<Leaf>> {
        if self.kind != Kind::TableInterior {
            return None;
        }
        let (mut children, mut after) = (Vec::with_capacity(self.len() + 1), bounds.after);
        for cell in self.cells() {
            let cell = cell?;
            if after.is_some_and(|after| cell.id <= after) || bounds.until.is_some_and(|until| cell.id > until) {
                return None;
            }
            children.push(Leaf { page: cell.child, after, until: Some(cell.id) });
            after = Some(cell.id);
        }
        children.push(Leaf { page: self.right_child(), after, until: bounds.until });
        Some(children)
    }

    /// The last page below it, which has no entry.
    fn right_child(&self) -> u32 {
        word(self.page, self.header + 8)
    }

    fn cells_begin(&self) -> usize {
        self.header + if matches!(self.kind, Kind::TableInterior | Kind::IndexInterior) { 12 } else { 8 }
    }
}

impl<'p> Cell<'p> {
    /// Decodes the cell at an offset, for a page of this kind; none if it is invalid.
    pub(super) fn of(page: &'p [u8], at: usize, kind: Kind) -> Option<Cell<'p>> {
        let mut rest = page.get(at..)?;
        let mut child = 0;
        if matches!(kind, Kind::TableInterior | Kind::IndexInterior) {
            child = word(rest.get(..4)?, 0);
            rest = &rest[4..];
        }
        if kind == Kind::TableInterior {
            let (id, _) = varint(rest)?;
            return Some(Cell { child, id, payload_bytes: 0, local: &[], overflow: None });
        }
        let (payload_bytes, length) = varint(rest)?;
        rest = &rest[length..];
        let payload_bytes = usize::try_from(payload_bytes).ok().filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX)?;
        let mut id = 0;
        if kind == Kind::TableLeaf {
            let (number, length) = varint(rest)?;
            (id, rest) = (number, &rest[length..]);
        }
        let local_bytes = local_bytes(payload_bytes, page.len(), kind);
        let local = rest.get(..local_bytes)?;
        let overflow = match local_bytes == payload_bytes {
            true => None,
            false => Some(word(rest.get(local_bytes..local_bytes + 4)?, 0)),
        };
        Some(Cell { child, id, payload_bytes, local, overflow })
    }
}

/// The size of the part of a payload that is on the page itself.
fn local_bytes(payload: usize, page: usize, kind: Kind) -> usize {
    let most = if kind == Kind::TableLeaf { page - 35 } else { (page - 12) * 64 / 255 - 23 };
    if payload <= most {
        return payload;
    }
    let least = (page - 12) * 32 / 255 - 23;
    let fitting = least + (payload - least) % (page - 4);
    if fitting <= most { fitting } else { least }
}

/// The columns of a row; none unless they fill it exactly.
pub(super) fn columns(payload: &[u8]) -> Option<Vec<ValueRef<'_>>> {
    let (header_bytes, mut at) = varint(payload)?;
    let header_bytes = usize::try_from(header_bytes).ok().filter(|bytes| *bytes <= payload.len())?;
    let (mut columns, mut rest) = (Vec::new(), &payload[header_bytes..]);
    while at < header_bytes {
        let (kind, length) = varint(&payload[at..header_bytes])?;
        at += length;
        let (value, bytes) = column(kind, rest)?;
        columns.push(value);
        rest = &rest[bytes..];
    }
    (at == header_bytes && rest.is_empty()).then_some(columns)
}

fn column(kind: i64, bytes: &[u8]) -> Option<(ValueRef<'_>, usize)> {
    let number = |length: usize| {
        let bytes = bytes.get(..length)?;
        let begin = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
        let number = bytes.iter().fold(begin, |number: i64, byte| number << 8 | i64::from(*byte));
        Some((ValueRef::Integer(number), length))
    };
    match kind {
        0 => Some((ValueRef::Null, 0)),
        1..=4 => number(usize::try_from(kind).ok()?),
        5 => number(6),
        6 => number(8),
        7 => Some((ValueRef::Real(f64::from_be_bytes(bytes.get(..8)?.try_into().ok()?)), 8)),
        8 | 9 => Some((ValueRef::Integer(kind - 8), 0)),
        12.. => {
            let length = usize::try_from((kind - 12) / 2).ok()?;
            let bytes = bytes.get(..length)?;
            Some((if kind % 2 == 0 { ValueRef::Blob(bytes) } else { ValueRef::Text(bytes) }, length))
        }
        _ => None,
    }
}

/// Decodes a number of up to nine bytes; returns it with its length.
fn varint(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut number = 0_u64;
    for (place, byte) in bytes.iter().take(9).enumerate() {
        if place == 8 {
            return Some(((number << 8 | u64::from(*byte)).cast_signed(), 9));
        }
        number = number << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return Some((number.cast_signed(), place + 1));
        }
    }
    None
}

/// Decodes a big-endian number of four bytes.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The first page begins with this header.
pub(super) const FILE_HEADER_BYTES: usize = 100;
/// A tree of 8 KiB pages with more levels would be larger than any disk.
const DEPTH_MAX: usize = 20;
/// Larger than any request with its body, by the limit of `listen.max_body`.
const PAYLOAD_BYTES_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use rusqlite::types::Value;
    use rusqlite::{Connection, params};

    use super::*;

    /// Rows by number; the columns do not include it.
    type Rows = Vec<(i64, Vec<Value>)>;

    /// A database with a table of rows of many sizes, of which every third was removed, and the table's root.
    fn written(page_bytes: usize) -> (Vec<u8>, u32, Rows) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("some.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "page_size", page_bytes as i64).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE line (id INTEGER PRIMARY KEY, a, b, c, d); CREATE INDEX by_a ON line (a, b); BEGIN",
            )
            .unwrap();
        for number in 0..900_i64 {
            let size = [0, 7, 300, 3_000, 40_000][number as usize % 5] + number as usize;
            connection
                .execute(
                    "INSERT INTO line VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![
                        number * 1_000 - 5_000,
                        i64::MIN >> (number % 64),
                        "é".repeat(size / 2),
                        vec![7_u8; size / 3],
                        0.5
                    ],
                )
                .unwrap();
        }
        connection.execute_batch("DELETE FROM line WHERE id % 3 = 0; COMMIT").unwrap();
        let root = connection.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'line'", [], |row| row.get(0));
        let rows = connection
            .prepare("SELECT id, a, b, c, d FROM line ORDER BY id")
            .unwrap()
            .query_map([], |row| {
                Ok((row.get(0)?, (1..5).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>()?))
            })
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        drop(connection.close());
        (std::fs::read(&path).unwrap(), root.unwrap(), rows)
    }

    fn rows<R: Read + Seek>(pages: &mut Pages<R>, root: u32) -> Rows {
        let mut rows = Vec::new();
        for leaf in pages.leaves(root).unwrap().pages {
            let page = pages.read(leaf.page).unwrap();
            for cell in Node::of(&page, leaf.page).into_iter().flat_map(Node::cells).flatten() {
                let Some(payload) = pages.payload(&cell).unwrap() else { continue };
                if let Some(columns) = columns(&payload) {
                    rows.push((cell.id, columns.into_iter().skip(1).map(value).collect()));
                }
            }
        }
        rows
    }

    fn value(column: ValueRef<'_>) -> Value {
        match column {
            ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
            other => Value::try_from(other).unwrap(),
        }
    }

    #[test]
    fn a_table_is_read_as_sqlite_reads_it() {
        for page_bytes in [512, 4_096, 8_192] {
            let (file, root, expected) = written(page_bytes);
            let mut pages = Pages::of(Cursor::new(&file), page_bytes).unwrap();
            assert!(rows(&mut pages, root) == expected, "pages of {page_bytes} bytes");
            let leaves = pages.leaves(root).unwrap();
            assert_eq!(leaves.broken, []);
            let free = pages.free().unwrap().expect("a sound list");
            assert!(free.len() > 100 && leaves.pages.iter().all(|leaf| !free.contains(&leaf.page)));
        }
    }

    #[test]
    fn of_a_tree_with_a_broken_page_all_else_is_found_and_the_gap_is_known() {
        let (mut file, root, expected) = written(512);
        let mut pages = Pages::of(Cursor::new(file.clone()), 512).unwrap();
        let whole = pages.leaves(root).unwrap();
        let interior = *whole.interior.last().unwrap();
        assert_ne!(interior, root);
        file[(interior as usize - 1) * 512] = 0x0D;
        let mut pages = Pages::of(Cursor::new(file), 512).unwrap();
        let found = pages.leaves(root).unwrap();
        assert_eq!(found.broken.iter().map(|leaf| leaf.page).collect::<Vec<_>>(), [interior]);
        let lost = whole.pages.len() - found.pages.len();
        assert!(lost > 0 && found.pages.iter().all(|leaf| whole.pages.contains(leaf)));
        assert!(rows(&mut pages, root).len() > expected.len() / 4);
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_bytes_are_reading_ends(
            spoilt in proptest::collection::vec((proptest::num::usize::ANY, proptest::num::u8::ANY), 1..40),
            cut in proptest::num::usize::ANY,
        ) {
            static WRITTEN: std::sync::OnceLock<(Vec<u8>, u32, Rows)> = std::sync::OnceLock::new();
            let (file, root, _) = WRITTEN.get_or_init(|| written(4_096));
            let mut file = file.clone();
            for (at, byte) in spoilt {
                // Among the trees, not in the middle of a long text.
                let at = at % file.len();
                let at = if byte % 2 == 0 { at } else { at / 4_096 * 4_096 + at % 64 };
                file[at] = byte;
            }
            file.truncate(file.len() - cut % 8_192);
            let mut pages = Pages::of(Cursor::new(&file), 4_096).unwrap();
            rows(&mut pages, *root);
            rows(&mut pages, 1);
            pages.free().unwrap();
            for at in 0..64 {
                Cell::of(&file[..4_096], at, Kind::IndexInterior);
                columns(&file[at..]);
            }
        }
    }
}
