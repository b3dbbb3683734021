//! MD5 of uploads: many at a time, on a thread of its own, while disk threads write the same bytes.
//!
//! ```text
//!   upload ─▶ update(state, pieces) ─▶ queue ─▶ up to sixteen lanes, refilled as they end ─▶ state
//! ```
//! One chain of MD5 runs at 0.7 GB/s; the vectors of [`sys::md5`] take sixteen beside each other at hardly
//! less each. So the busier, the cheaper. Without such vectors there is a thread a core, one upload each.

use bytes::{Buf, Bytes};
use crossbeam::channel::{Receiver, Sender, unbounded};
use futures_channel::oneshot;
use std::collections::VecDeque;
use std::io;
use sys::md5::{BLOCK_BYTES, LANES, START};

/// Blocks that are compressed before others may join: 64 KiB of each upload.
const STRETCH_BLOCKS: usize = 1024;
/// With fewer uploads than this, one after the other is faster than all at once.
const TOGETHER_MIN: usize = 3;

/// Turns that are given to others before a stretch: with nobody else to run, each takes a microsecond.
const TURNS_MAX: usize = 3;

type Block = [u8; BLOCK_BYTES];

/// The MD5 of the bytes so far.
#[derive(Debug, Clone)]
pub(super) struct Md5 {
    state: [u32; 4],
    /// Bytes beyond the last whole block.
    tail: Block,
    bytes: u64,
}

impl Default for Md5 {
    fn default() -> Md5 {
        Md5 { state: START, tail: [0; BLOCK_BYTES], bytes: 0 }
    }
}

impl Md5 {
    fn tail_bytes(&self) -> usize {
        (self.bytes % BLOCK_BYTES as u64) as usize
    }

    /// Takes bytes until the tail is a block; what was taken must be less than a block if it was empty.
    fn fill_tail(&mut self, piece: &mut Bytes) {
        let at = self.tail_bytes();
        let taken = piece.len().min(BLOCK_BYTES - at);
        piece.copy_to_slice(&mut self.tail[at..at + taken]);
        self.bytes += taken as u64;
        if at + taken == BLOCK_BYTES {
            md5::block_api::compress(&mut self.state, &[self.tail]);
        }
    }

    /// The digest.
    pub(super) fn finish(mut self) -> [u8; 16] {
        let (at, bits) = (self.tail_bytes(), self.bytes.wrapping_mul(8));
        let mut end = [[0; BLOCK_BYTES]; 2];
        end[0][..at].copy_from_slice(&self.tail[..at]);
        end[0][at] = 0x80;
        // The length takes the last eight bytes, of a second block where the first has no room.
        let blocks = if at < BLOCK_BYTES - 8 { 1 } else { 2 };
        end[blocks - 1][BLOCK_BYTES - 8..].copy_from_slice(&bits.to_le_bytes());
        md5::block_api::compress(&mut self.state, &end[..blocks]);
        let mut digest = [0; 16];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        digest
    }
}

struct Job {
    md5: Md5,
    pieces: VecDeque<Bytes>,
    reply: oneshot::Sender<Md5>,
}

impl Job {
    /// The blocks that are next, after what is less than a block was taken; none: it is done.
    fn blocks(&mut self) -> &[Block] {
        while let Some(piece) = self.pieces.front_mut() {
            if piece.is_empty() {
                self.pieces.pop_front();
            } else if self.md5.tail_bytes() > 0 || piece.len() < BLOCK_BYTES {
                self.md5.fill_tail(piece);
            } else {
                break;
            }
        }
        self.pieces.front().map_or(&[], |piece| piece.as_chunks().0)
    }

    /// Notes that so many blocks were compressed into this state.
    fn advance(&mut self, blocks: usize, state: [u32; 4]) {
        self.md5.state = state;
        self.md5.bytes += (blocks * BLOCK_BYTES) as u64;
        if let Some(piece) = self.pieces.front_mut() {
            piece.advance(blocks * BLOCK_BYTES);
        }
    }
}

/// The threads' handle; they end when it is dropped.
#[derive(Debug)]
pub(super) struct Hasher {
    queue: Sender<Job>,
}

impl Hasher {
    pub(super) fn start() -> io::Result<Hasher> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let (threads, lanes) = if sys::md5::is_fast() { (1, LANES) } else { (cores(), 1) };
        let (queue, jobs) = unbounded::<Job>();
        for number in 0..threads {
            let jobs = jobs.clone();
            let thread = std::thread::Builder::new().name(format!("md5-{number}"));
            thread.spawn(move || serve(&jobs, lanes))?;
        }
        Ok(Hasher { queue })
    }

    /// Adds pieces, in their order; the answer comes when all are in.
    pub(super) fn update(&self, md5: Md5, pieces: &[Bytes]) -> oneshot::Receiver<Md5> {
        let (reply, answer) = oneshot::channel();
        let sent = self.queue.send(Job { md5, pieces: pieces.iter().cloned().collect(), reply });
        assert!(sent.is_ok(), "the threads live as long as their handle");
        answer
    }
}

fn serve(jobs: &Receiver<Job>, lanes: usize) {
    let mut active: Vec<Job> = Vec::with_capacity(lanes);
    loop {
        if active.is_empty() {
            match jobs.recv() {
                Ok(job) => active.push(job),
                Err(_) => return,
            }
        }
        gather(jobs, &mut active, lanes);
        for job in active.extract_if(.., |job| job.blocks().is_empty()) {
            // Nobody waits for an upload that was given up.
            drop(job.reply.send(job.md5));
        }
        stretch(&mut active);
    }
}

/// Takes what waits. Before a stretch that few would share, others have a turn to bring more: on one core
/// nobody else runs while this does.
fn gather(jobs: &Receiver<Job>, active: &mut Vec<Job>, lanes: usize) {
    for turn in 0..=TURNS_MAX {
        while active.len() < lanes
            && let Ok(job) = jobs.try_recv()
        {
            active.push(job);
        }
        if active.len() * 2 >= lanes || turn == TURNS_MAX {
            return;
        }
        std::thread::yield_now();
    }
}

/// Compresses a stretch of each upload.
fn stretch(active: &mut [Job]) {
    if active.len() < TOGETHER_MIN {
        for job in active {
            let mut state = job.md5.state;
            let blocks = job.blocks();
            let count = blocks.len().min(STRETCH_BLOCKS);
            md5::block_api::compress(&mut state, &blocks[..count]);
            job.advance(count, state);
        }
        return;
    }
    let mut states = [START; LANES];
    for (state, job) in states.iter_mut().zip(active.iter()) {
        *state = job.md5.state;
    }
    let mut count = STRETCH_BLOCKS;
    let blocks: Vec<&[Block]> = active.iter_mut().map(Job::blocks).collect();
    blocks.iter().for_each(|blocks| count = count.min(blocks.len()));
    // A lane that nobody uses does the first one's work again.
    let messages = std::array::from_fn(|lane| &blocks.get(lane).unwrap_or(&blocks[0])[..count]);
    sys::md5::compress(&mut states, &messages);
    for (job, state) in active.iter_mut().zip(states) {
        job.advance(count, state);
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use md5::Digest;
    use proptest::prelude::*;

    /// An upload: the lengths of the pieces of each of its updates.
    fn upload() -> impl Strategy<Value = Vec<Vec<usize>>> {
        let length =
            prop_oneof![0_usize..200, 0_usize..3, Just(64), Just(128), 5_000_usize..100_000];
        let pieces = proptest::collection::vec(length, 0..4);
        proptest::collection::vec(pieces, 0..4)
    }

    fn bytes(seed: usize, length: usize) -> Bytes {
        (0..length).map(|at| (at * 31 + seed * 7 + at / 251) as u8).collect::<Vec<_>>().into()
    }

    fn run(hasher: &Hasher, upload: &[Vec<usize>], seed: usize) -> ([u8; 16], [u8; 16]) {
        let (mut md5, mut expected) = (Md5::default(), md5::Md5::new());
        for (number, lengths) in upload.iter().enumerate() {
            let pieces: Vec<_> =
                lengths.iter().map(|length| bytes(seed + number, *length)).collect();
            pieces.iter().for_each(|piece| expected.update(piece));
            md5 = crate::committer::wait(hasher.update(md5, &pieces)).unwrap();
        }
        (md5.finish(), expected.finalize().into())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn uploads_beside_each_other_have_the_md5_of_their_bytes(
            uploads in proptest::collection::vec(upload(), 1..24), together in any::<bool>(),
        ) {
            let lanes = if together { LANES } else { 1 };
            let (queue, jobs) = unbounded();
            let thread = std::thread::spawn(move || serve(&jobs, lanes));
            let hasher = Hasher { queue };
            std::thread::scope(|scope| {
                let hasher = &hasher;
                let started: Vec<_> = uploads.iter().enumerate()
                    .map(|(seed, upload)| scope.spawn(move || run(hasher, upload, seed)))
                    .collect();
                for upload in started {
                    let (found, expected) = upload.join().unwrap();
                    assert_eq!(found, expected);
                }
            });
            drop(hasher);
            thread.join().unwrap();
        }
    }
}
