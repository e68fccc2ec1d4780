//! Extracts rows from the pages of a damaged database, without SQLite.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek};

use rusqlite::types::ValueRef;

use super::intake::Intake;
use super::salvage_error::Error;
use crate::journal::sqlite::pages::{Cell, Kind, Leaf, Node, Pages, columns};
use crate::journal::sqlite::wal::Frame;

/// The kind of rows that a page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    Events,
    Bodies,
    KeyStates,
}

/// Imports everything that pages hold. Returns an upper bound for the events that were lost on damaged pages.
pub(super) fn database<R: Read + Seek>(pages: &mut Pages<R>, intake: &mut Intake<'_>) -> Result<u64, Error> {
    if pages.count() == 0 {
        return Ok(0);
    }
    let free = pages.free()?;
    let roots = roots(pages)?;
    let mut trees = HashMap::new();
    for (table, _) in TABLES {
        if let Some(root) = roots.get(table) {
            trees.insert(table, pages.leaves(*root)?);
        }
    }
    // If a tree does not lead to all of its leaves, any page in use that looks like a leaf may be one. Older journals
    // have no table of key states.
    let is_whole = ["event", "content"].iter().all(|table| trees.contains_key(table))
        && trees.values().all(|tree| tree.broken.is_empty());
    let strays = if is_whole { Vec::new() } else { strays(pages, free.as_ref())? };
    let mut damaged: Vec<Leaf> = trees.get("event").map(|tree| tree.broken.clone()).unwrap_or_default();
    for (table, rows) in TABLES {
        let own = trees.get(table).map(|tree| tree.pages.as_slice()).unwrap_or_default();
        for leaf in own {
            if !leaf_rows(pages, leaf.page, rows, intake)? && rows == Rows::Events {
                damaged.push(*leaf);
            }
        }
        let known: HashSet<u32> = own.iter().map(|leaf| leaf.page).collect();
        for page in strays.iter().filter(|page| !known.contains(page)) {
            leaf_rows(pages, *page, rows, intake)?;
        }
    }
    for number in (1..=pages.count()).filter(|page| free.as_ref().is_none_or(|free| !free.contains(page))) {
        let page = pages.read(number)?;
        rows_beside(pages, &page, number, true, intake)?;
    }
    damaged.iter().map(|leaf| intake.missing(*leaf).map_err(Error::Writing)).sum()
}

/// Imports rows from single pages of the log, which may be earlier versions of each other: one at a time, since a log
/// may be larger than the memory. Overflow pages are looked up in `pages`.
pub(super) fn versions<R: Read + Seek>(
    pages: &mut Pages<R>,
    frames: &[Frame],
    intake: &mut Intake<'_>,
) -> Result<(), Error> {
    for (_, rows) in TABLES {
        for frame in frames {
            let page = pages.version(frame.at)?;
            rows_of(pages, &page, frame.page, rows, intake)?;
        }
    }
    for frame in frames {
        // Holds are skipped: one may have been released in a newer page.
        let page = pages.version(frame.at)?;
        rows_beside(pages, &page, frame.page, false, intake)?;
    }
    Ok(())
}

/// The roots of tables by name, as far as the first pages are readable.
pub(super) fn roots<R: Read + Seek>(pages: &mut Pages<R>) -> io::Result<HashMap<String, u32>> {
    let mut roots = HashMap::new();
    for leaf in pages.leaves(1)?.pages {
        let page = pages.read(leaf.page)?;
        for cell in Node::of(&page, leaf.page).into_iter().flat_map(Node::cells).flatten() {
            let Some(payload) = pages.payload(&cell)? else {
                continue;
            };
            if let Some([ValueRef::Text(b"table"), ValueRef::Text(name), _, ValueRef::Integer(root), ..]) =
                columns(&payload).as_deref()
                && let (Ok(name), Ok(root)) = (std::str::from_utf8(name), u32::try_from(*root))
            {
                roots.insert(name.to_owned(), root);
            }
        }
    }
    Ok(roots)
}

/// The pages in use that look like leaves of tables.
fn strays<R: Read + Seek>(pages: &mut Pages<R>, free: Option<&HashSet<u32>>) -> io::Result<Vec<u32>> {
    let mut strays = Vec::new();
    for page in (1..=pages.count()).filter(|page| free.is_none_or(|free| !free.contains(page))) {
        let bytes = pages.read(page)?;
        if Node::of(&bytes, page).is_some_and(|node| node.kind() == Kind::TableLeaf) {
            strays.push(page);
        }
    }
    Ok(strays)
}

fn leaf_rows<R: Read + Seek>(
    pages: &mut Pages<R>,
    number: u32,
    rows: Rows,
    intake: &mut Intake<'_>,
) -> Result<bool, Error> {
    let page = pages.read(number)?;
    rows_of(pages, &page, number, rows, intake)
}

/// Imports the rows of a leaf. If the leaf is damaged, every offset is tried for a provable row. Returns true if it is
/// intact.
fn rows_of<R: Read + Seek>(
    pages: &mut Pages<R>,
    page: &[u8],
    number: u32,
    rows: Rows,
    intake: &mut Intake<'_>,
) -> Result<bool, Error> {
    let mut is_whole = true;
    match Node::of(page, number) {
        Some(node) if node.kind() == Kind::TableLeaf => {
            for cell in node.cells() {
                let taken = cell.map(|cell| take(pages, &cell, rows, false, intake)).transpose()?;
                is_whole &= taken.is_some_and(|taken| taken.is_some());
            }
        }
        Some(_) => return Ok(true),
        None => is_whole = false,
    }
    if !is_whole {
        for at in 0..page.len() {
            if let Some(cell) = Cell::of(page, at, Kind::TableLeaf) {
                take(pages, &cell, rows, true, intake)?;
            }
        }
    }
    Ok(is_whole)
}

/// Imports one row. None if it is no row, else true if it is of the requested kind.
fn take<R: Read + Seek>(
    pages: &mut Pages<R>,
    cell: &Cell<'_>,
    rows: Rows,
    proven: bool,
    intake: &mut Intake<'_>,
) -> Result<Option<bool>, Error> {
    let Some(payload) = pages.payload(cell)? else {
        return Ok(None);
    };
    let Some(columns) = columns(&payload).filter(|columns| columns.first() == Some(&ValueRef::Null)) else {
        return Ok(None);
    };
    let taken = match rows {
        Rows::Events => intake.event(cell.id, &columns, proven),
        Rows::Bodies => intake.content(cell.id, &columns, proven),
        Rows::KeyStates => intake.key_state(cell.id, &columns),
    };
    Ok(Some(taken?))
}

/// Imports calls and holds from a page.
fn rows_beside<R: Read + Seek>(
    pages: &mut Pages<R>,
    page: &[u8],
    number: u32,
    holds: bool,
    intake: &mut Intake<'_>,
) -> Result<(), Error> {
    let Some(node) = Node::of(page, number).filter(|node| matches!(node.kind(), Kind::IndexLeaf | Kind::IndexInterior))
    else {
        return Ok(());
    };
    for cell in node.cells().flatten() {
        if let Some(payload) = pages.payload(&cell)?
            && let Some(columns) = columns(&payload)
        {
            intake.attempt(&columns)?;
            if holds {
                intake.hold(&columns)?;
            }
        }
    }
    Ok(())
}

/// The tables in the order of import.
const TABLES: [(&str, Rows); 3] = [("event", Rows::Events), ("content", Rows::Bodies), ("key_state", Rows::KeyStates)];
