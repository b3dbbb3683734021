//! What a client may ask of the front at most, each with its reason.

use std::time::Duration;

/// Bytes of a request's head: S3 allows 2 KiB of user metadata, and a presigned target is long.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a request's target: a key of 1,024 bytes, all escaped, and a presigned query.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;
/// Header fields of a request: clients send about 20, user metadata may add some dozens.
pub const HEADERS_MAX: usize = 128;
/// Bytes of a chunk's size line with its extensions, and of all trailers: nobody needs more.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Bytes of all trailers of a chunked body, which are checked and dropped.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a body that wait for its handler, on each side of the decoder: enough to hide a disk's
/// latency at network speed, little enough for thousands of uploads.
pub const BODY_WINDOW_BYTES: usize = 512 * 1024;
/// Bytes of an unread body that are thrown away to keep a connection; with more it is closed.
pub const DISCARD_BYTES_MAX: usize = 256 * 1024;

/// Connections of one ring thread: an idle one takes some 600 bytes here (and a socket in the kernel), all
/// of them 20 MiB. The process's limit of open files may be reached first.
pub const CONNECTIONS_MAX: usize = 32_768;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From the first byte of a head, or the accepting, to its last.
    pub head: Duration,
    /// Between two requests of a connection.
    pub keep_alive: Duration,
    /// Without a byte of a body that its handler waits for.
    pub body_idle: Duration,
    /// Without a byte that the client takes of its response.
    pub send_idle: Duration,
    /// Without a word from a handler that waits for nothing from the client: a disk in trouble is
    /// slow, and a client that gives up earlier tries again and makes it slower.
    pub handler: Duration,
    /// For a client to take the last response of a connection that is closed before its body was read.
    pub linger: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            head: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            body_idle: Duration::from_secs(30),
            send_idle: Duration::from_secs(60),
            handler: Duration::from_secs(300),
            linger: Duration::from_secs(5),
        }
    }
}

/// How often the times are looked at.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A file at most this long is read and sent with the head in one call; sendfile, which copies nothing
/// and is two calls more, pays beyond.
pub const ONE_SEND_BYTES_MAX: u64 = 2 * 1024;
/// A turn of sending a file, after which other connections have theirs.
pub const SLICE_BYTES: u64 = 1024 * 1024;
/// The same where a file's bytes are read to be encrypted: it is memory that a connection holds, twice.
pub const SEALED_SLICE_BYTES: u64 = 128 * 1024;
/// What is read ahead at once of a file that is not in memory.
pub const READ_AHEAD_BYTES: u64 = 4 * 1024 * 1024;
/// Threads that wait for the disk on behalf of all rings; more than a disk's queue helps nobody.
pub const READ_AHEAD_THREADS: usize = 4;

/// Submission entries of a ring: a batch between two waits.
pub const RING_ENTRIES: u32 = 1024;
/// Receive buffers of a ring, 4 MiB with the next: what can arrive between two rounds of the loop.
pub const RECEIVE_BUFFERS: u16 = 128;
/// Bytes of a receive buffer: a head or a small object at once, and few completions for large ones.
pub const RECEIVE_BUFFER_BYTES: u32 = 32 * 1024;
