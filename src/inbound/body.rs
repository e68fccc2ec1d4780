//! Reads bodies: each within a size and a time, and all of them at once within the memory set aside for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderValue, Response, Version};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::Notify;

use super::body_shares::{BodyId, BodyShares, Growth, NoRoom, SourceNumber};
use super::refusal::Refusal;
use crate::journal::Share;
use crate::metrics::Metrics;
use crate::server::Holder;

/// The limits of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    pub bytes_max: usize,
    /// For the body from its first byte to its last.
    pub timeout: Duration,
}

/// A body that is being sent.
pub(super) struct Upload<B> {
    body: B,
    /// Whose share of the memory it takes.
    holder: Holder,
    /// Nothing of it is still to come.
    ended: bool,
}

/// A body that was read, with the memory that it takes.
#[derive(Debug)]
pub(super) struct BufferedBody {
    pub(super) bytes: Bytes,
    /// More came than the limit allows: these are the first bytes.
    pub(super) cut_off: bool,
    memory: Reservation,
}

/// A body that comes out of another one, piece by piece.
pub(super) struct GrowingBody {
    bytes: Vec<u8>,
    memory: Reservation,
}

impl BufferedBody {
    /// Takes its memory from there instead.
    pub(super) fn move_to(&mut self, memory: &SourceMemory) -> Result<(), Refusal> {
        let taken = memory.begin(self.memory.holder, None);
        taken.grow(self.bytes.len())?;
        self.memory = taken;
        Ok(())
    }

    /// Begins a body that comes out of this one; it takes memory beside it.
    pub(super) fn beside(&self) -> GrowingBody {
        let Reservation { memory, holder, .. } = &self.memory;
        GrowingBody { bytes: Vec::new(), memory: memory.begin(*holder, None) }
    }

    /// A body within memory for so many bytes, of which it takes its own.
    #[cfg(test)]
    pub(super) fn for_test(bytes: &[u8], max: usize) -> BufferedBody {
        let holder = Holder::of(std::net::Ipv4Addr::LOCALHOST.into());
        let memory = BodyMemory::of_bytes(max, 0, Arc::default()).of_source(None).begin(holder, None);
        memory.grow(bytes.len()).unwrap();
        BufferedBody { bytes: Bytes::copy_from_slice(bytes), cut_off: false, memory }
    }
}

impl GrowingBody {
    /// Adds a piece, as much of it as fits; false where there is more.
    pub(super) fn push(&mut self, piece: &[u8], bytes_max: usize) -> Result<bool, Refusal> {
        let fits = piece.len().min(bytes_max - self.bytes.len());
        self.memory.grow(fits)?;
        self.bytes.extend_from_slice(&piece[..fits]);
        Ok(fits == piece.len())
    }

    pub(super) fn end(mut self, cut_off: bool) -> BufferedBody {
        self.bytes.shrink_to_fit();
        BufferedBody { bytes: self.bytes.into(), cut_off, memory: self.memory }
    }
}

/// A piece of a body, as much of it as fits.
#[derive(Debug, Default)]
struct Piece {
    bytes: Bytes,
    /// There was more than fits.
    cut_off: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Upload<B> {
    pub(super) fn new(body: B, holder: Holder) -> Upload<B> {
        let ended = body.is_end_stream();
        Upload { body, holder, ended }
    }

    /// It declares that more than this is to come.
    pub(super) fn exceeds(&self, bytes: usize) -> bool {
        usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX) > bytes
    }

    /// Reads the whole body, or its beginning where it is too large.
    pub(super) async fn read(&mut self, limits: BodyLimits, memory: &SourceMemory) -> Result<BufferedBody, Refusal> {
        let give_way = Arc::new(Notify::new());
        let reservation = memory.begin(self.holder, Some(&give_way));
        reservation.grow(0)?;
        tokio::select! {
            biased;
            () = give_way.notified() => Err(Refusal::AddressBodies),
            read = tokio::time::timeout(limits.timeout, self.collect(limits.bytes_max, reservation)) => {
                let read = read.unwrap_or(Err(Refusal::BodyTimeout))?;
                read.memory.whole()?;
                Ok(read)
            }
        }
    }

    async fn collect(&mut self, bytes_max: usize, reservation: Reservation) -> Result<BufferedBody, Refusal> {
        let declared = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX).min(bytes_max);
        // A small body comes in one piece and is not copied.
        let first = self.next_piece(&reservation, bytes_max).await?.unwrap_or_default();
        if first.cut_off {
            return Ok(BufferedBody { bytes: first.bytes, cut_off: true, memory: reservation });
        }
        let first = first.bytes;
        let Some(second) = self.next_piece(&reservation, bytes_max - first.len()).await? else {
            return Ok(BufferedBody { bytes: first, cut_off: false, memory: reservation });
        };
        // Not what is only declared.
        let came = first.len() + second.bytes.len();
        let mut bytes = BytesMut::with_capacity(declared.min(2 * came).max(came));
        bytes.extend_from_slice(&first);
        bytes.extend_from_slice(&second.bytes);
        let mut cut_off = second.cut_off;
        drop((first, second));
        while !cut_off && let Some(piece) = self.next_piece(&reservation, bytes_max - bytes.len()).await? {
            bytes.extend_from_slice(&piece.bytes);
            cut_off = piece.cut_off;
        }
        Ok(BufferedBody { bytes: bytes.freeze(), cut_off, memory: reservation })
    }

    /// Reads the next piece that holds data, up to `bytes_left`; none at the end.
    async fn next_piece(&mut self, reservation: &Reservation, bytes_left: usize) -> Result<Option<Piece>, Refusal> {
        while let Some(frame) = self.body.frame().await {
            // A frame of trailers holds no data.
            let Ok(mut bytes) = frame.map_err(|_| Refusal::BodyBroken)?.into_data() else { continue };
            if bytes.is_empty() {
                continue;
            }
            let cut_off = bytes.len() > bytes_left;
            bytes.truncate(bytes_left);
            reservation.grow(bytes.len())?;
            return Ok(Some(Piece { bytes, cut_off }));
        }
        self.ended = true;
        Ok(None)
    }

    /// The rest of a body that was answered early, to be drained beside the response; none where nothing is to come or
    /// the connection ends with the response.
    ///
    /// A sender reads its answer only after it sent its body, and loses the answer when the connection is reset under its
    /// hands. So a rest of bearable size is read and dropped. A sender that has not sent a byte yet (it waits for `100
    /// Continue`) may never send the body, and the next request would be taken for it: there the connection ends.
    pub(super) fn rest(self, head: &Parts, response: &mut Response<Bytes>) -> Option<Upload<B>> {
        if self.ended {
            return None;
        }
        if head.version == Version::HTTP_2 {
            // There a stream ends without its connection.
            response.headers_mut().remove(CONNECTION);
            return Some(self);
        }
        if head.headers.contains_key(EXPECT) || self.exceeds(DRAIN_BYTES) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // Before it closes, the listener lets the sender finish, within the same limits.
        (!response.headers().contains_key(CONNECTION)).then_some(self)
    }

    /// Reads and drops what is still to come, within limits.
    pub(super) async fn drain(mut self) {
        let mut dropped = 0;
        let _ = tokio::time::timeout(DRAIN_TIME, async {
            while let Some(Ok(frame)) = self.body.frame().await {
                dropped += frame.data_ref().map_or(0, Bytes::len);
                if dropped > DRAIN_BYTES {
                    return;
                }
            }
        })
        .await;
    }
}

/// Memory set aside for bodies that are being read or wait to be written.
#[derive(Clone, Debug)]
pub(super) struct BodyMemory(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    bodies: Mutex<Bodies>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Bodies {
    shares: BodyShares,
    /// Tells those who read a body that it has to give way.
    readers: HashMap<BodyId, Arc<Notify>>,
    /// The bytes of these that the metric counts, among those of other memories.
    shown: i64,
}

/// The memory for bodies, as one source may use it.
#[derive(Clone, Debug)]
pub(super) struct SourceMemory {
    pool: Arc<Pool>,
    source: SourceNumber,
}

/// Memory that one body takes, given back when this is dropped.
#[derive(Debug)]
struct Reservation {
    memory: SourceMemory,
    holder: Holder,
    id: BodyId,
}

impl BodyMemory {
    /// Makes room for some bodies of the largest size, however large that is.
    pub(super) fn new(body_bytes_max: usize, metrics: Arc<Metrics>) -> BodyMemory {
        let large = body_bytes_max.saturating_add(BODY_CHARGE).saturating_mul(4);
        BodyMemory::of_bytes(MEMORY_BYTES.max(large), BODY_CHARGE, metrics)
    }

    fn of_bytes(max: usize, charge: usize, metrics: Arc<Metrics>) -> BodyMemory {
        let bodies = Bodies { shares: BodyShares::new(max, charge), readers: HashMap::new(), shown: 0 };
        BodyMemory(Arc::new(Pool { bodies: Mutex::new(bodies), metrics }))
    }

    /// For bodies whose senders are not known: strangers can fill no more than this, and nothing that is set aside for
    /// senders who are. One body of the largest size fits all the same.
    pub(super) fn for_unverified(body_bytes_max: usize, metrics: Arc<Metrics>) -> BodyMemory {
        BodyMemory::of_bytes(UNVERIFIED_BYTES.max(body_bytes_max.saturating_add(BODY_CHARGE)), BODY_CHARGE, metrics)
    }

    /// The memory as one more source may use it.
    pub(super) fn of_source(&self, share: Option<Share>) -> SourceMemory {
        let source = self.0.bodies().shares.add_source(share);
        SourceMemory { pool: Arc::clone(&self.0), source }
    }
}

impl Pool {
    fn bodies(&self) -> MutexGuard<'_, Bodies> {
        // Nothing that is done with it can panic half way.
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, bodies: &mut Bodies) {
        let used = i64::try_from(bodies.shares.used()).unwrap_or(i64::MAX);
        self.metrics.requests.body_bytes.inc_by(used - std::mem::replace(&mut bodies.shown, used));
    }
}

impl SourceMemory {
    /// Begins a body. `reader` is told where it has to give way; without one it does not.
    fn begin(&self, holder: Holder, reader: Option<&Arc<Notify>>) -> Reservation {
        let mut bodies = self.pool.bodies();
        let id = bodies.shares.begin(holder, self.source, reader.map(|_| Instant::now()));
        if let Some(reader) = reader {
            bodies.readers.insert(id, Arc::clone(reader));
        }
        Reservation { memory: self.clone(), holder, id }
    }
}

impl Reservation {
    /// Takes more. Bytes that don't fit are counted too, until the body is given up a moment later.
    fn grow(&self, bytes: usize) -> Result<(), Refusal> {
        let pool = &self.memory.pool;
        let mut bodies = pool.bodies();
        let Growth { give_way, room } = bodies.shares.grow(self.id, bytes, Instant::now());
        for reader in give_way.iter().filter_map(|id| bodies.readers.remove(id)) {
            reader.notify_one();
        }
        pool.show(&mut bodies);
        room.map_err(Refusal::from)
    }

    /// The body has come.
    fn whole(&self) -> Result<(), Refusal> {
        let mut bodies = self.memory.pool.bodies();
        bodies.readers.remove(&self.id);
        if bodies.shares.whole(self.id) { Ok(()) } else { Err(Refusal::AddressBodies) }
    }
}

impl From<NoRoom> for Refusal {
    fn from(no_room: NoRoom) -> Refusal {
        match no_room {
            NoRoom::Full => Refusal::BodiesFull,
            NoRoom::SourceShare => Refusal::SourceBodies,
            NoRoom::GaveWay => Refusal::AddressBodies,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let pool = &self.memory.pool;
        let mut bodies = pool.bodies();
        bodies.shares.end(self.id);
        bodies.readers.remove(&self.id);
        pool.show(&mut bodies);
    }
}

/// The rest of a body that was answered early: this much is still read and dropped.
const DRAIN_BYTES: usize = 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// 64 bodies of the default limit at once; a sidecar stays small also while it is flooded.
const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// For the head, the task and the buffers of a request whose body is coming: 4,096 of them at once, and 512 of strangers.
const BODY_CHARGE: usize = 16 * 1024;

/// An eighth of that. An alert has a few KiB, so that hundreds of signed ones are read at once.
const UNVERIFIED_BYTES: usize = MEMORY_BYTES / 8;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;

    use super::*;

    /// A body of these pieces; it stalls before its end where `stalls`.
    struct Pieces {
        pieces: VecDeque<&'static [u8]>,
        stalls: bool,
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.pieces.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece))))),
                None if self.stalls => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    fn upload(pieces: &[&'static [u8]], stalls: bool) -> Upload<Pieces> {
        let holder = Holder::of(std::net::Ipv4Addr::LOCALHOST.into());
        Upload::new(Pieces { pieces: pieces.iter().copied().collect(), stalls }, holder)
    }

    const LIMITS: BodyLimits = BodyLimits { bytes_max: 6, timeout: Duration::from_millis(20) };

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_and_not_beyond() {
        type Row<'a> = (&'a [&'static [u8]], &'a [u8], bool);
        let rows: &[Row<'_>] = &[
            (&[], b"", false),
            (&[b"abc"], b"abc", false),
            (&[b"abc", b"", b"def"], b"abcdef", false),
            (&[b"a", b"b", b"c", b"d", b"e", b"f"], b"abcdef", false),
            (&[b"abcdefg"], b"abcdef", true),
            (&[b"abc", b"defg"], b"abcdef", true),
            (&[b"abcdef", b"g"], b"abcdef", true),
            (&[b"a", b"b", b"c", b"d", b"e", b"f", b"g"], b"abcdef", true),
        ];
        for (pieces, bytes, cut_off) in rows {
            let memory = BodyMemory::new(LIMITS.bytes_max, Arc::default()).of_source(Some(Share::Auto));
            let read = upload(pieces, false).read(LIMITS, &memory).await;
            let read = read.unwrap();
            assert_eq!((&read.bytes[..], read.cut_off), (*bytes, *cut_off), "{pieces:?}");
            drop(read);
            assert_eq!(memory.pool.bodies().shares.used(), 0, "all memory is given back");
            assert!(memory.pool.bodies().readers.is_empty());
        }
    }

    #[tokio::test]
    async fn a_body_that_stalls_is_not_waited_for() {
        let read = upload(&[b"abc"], true).read(LIMITS, &BodyMemory::new(6, Arc::default()).of_source(None)).await;
        assert_eq!(read.unwrap_err(), Refusal::BodyTimeout);
    }

    fn memory(max: usize) -> BodyMemory {
        BodyMemory::of_bytes(max, 0, Arc::default())
    }

    #[tokio::test]
    async fn bodies_share_the_memory_set_aside() {
        let memory = memory(10).of_source(None);
        let first = upload(&[b"abc", b"def"], false).read(LIMITS, &memory).await.unwrap();
        let second = upload(&[b"abc", b"def"], false).read(LIMITS, &memory).await;
        assert_eq!(second.unwrap_err(), Refusal::BodiesFull);
        drop(first);
        assert!(upload(&[b"abc", b"def"], false).read(LIMITS, &memory).await.is_ok());
    }

    #[tokio::test]
    async fn the_bodies_of_one_source_leave_as_much_free_as_they_take() {
        let memory = memory(16);
        let [flood, late] = [Share::Auto, Share::Auto].map(|share| memory.of_source(Some(share)));
        let read = async |memory: &SourceMemory| upload(&[b"ab", b"cd"], false).read(LIMITS, memory).await;
        let held = [read(&flood).await.unwrap(), read(&flood).await.unwrap()];
        assert_eq!(read(&flood).await.unwrap_err(), Refusal::SourceBodies, "half of it is taken");
        let first = read(&late).await.unwrap();
        assert_eq!(read(&late).await.unwrap_err(), Refusal::SourceBodies, "four are free, it would have eight");
        drop(held);
        let second = read(&late).await.unwrap();
        drop((first, second));
        assert_eq!(memory.0.bodies().shares.used(), 0, "also what was refused is given back");

        let fixed = memory.of_source(Some(Share::Percent(30)));
        let _first = read(&fixed).await.unwrap();
        assert_eq!(read(&fixed).await.unwrap_err(), Refusal::SourceBodies, "30 % of 16 are four");
    }
}
