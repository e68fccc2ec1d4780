//! Takes the header of the PROXY protocol from a connection, byte for byte: what follows it is TLS or HTTP.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::proxy_header::{Problem, Progress, Told, parse};

/// Reads the header, and not one byte more.
pub(super) async fn read<IO: AsyncRead + Unpin>(stream: &mut IO) -> Result<Told, Problem> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes)? {
            Progress::Whole(told) => return Ok(told),
            Progress::Needs(needed) => {
                let missing = needed.saturating_sub(bytes.len()) as u64;
                let read: io::Result<usize> = (&mut *stream).take(missing).read_buf(&mut bytes).await;
                match read {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(if bytes.is_empty() { Problem::Silent } else { Problem::Cut }),
                }
            }
        }
    }
}
