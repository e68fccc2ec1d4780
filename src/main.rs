//! The program: everything is in the library.

use std::process::ExitCode;

/// An event takes some two hundred allocations, which cost a third of what they do with the C library's allocator; and
/// memory that a storm took is given back after it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gander::main()
}
