//! What comes in on a connection, as requests and bodies: bytes in, events out. Pure.
//!
//! ```text
//!            head ends           body ends             next()
//!   Head ───────────────▶ Body ───────────▶ Complete ─────────▶ Head
//!     └── refusal ──▶ Refused ◀── refusal ──┘
//! ```
//!
//! How the bytes were cut on their way never changes the events' meaning; a property test says so.

use super::head::{self, Framing, Head};
use super::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};
use super::refusal::Refusal;
use bytes::{Buf, Bytes, BytesMut};

/// What the bytes so far amount to.
#[derive(Debug)]
pub enum Event {
    /// A request; its body follows.
    Request(Box<Head>),
    /// Some of the body, never none.
    Body(Bytes),
    /// The body is over.
    End,
    /// Nothing until more bytes come.
    Starved,
    /// These bytes are no request. Nothing comes after this.
    Refused(Refusal),
}

#[derive(Debug)]
enum State {
    Head { looked_at: usize },
    Body(Decoder),
    Complete,
    Refused(Refusal),
}

/// The incoming side of a connection.
#[derive(Debug)]
pub struct Input {
    bytes: BytesMut,
    state: State,
}

impl Default for Input {
    fn default() -> Input {
        Input { bytes: BytesMut::new(), state: State::Head { looked_at: 0 } }
    }
}

impl Input {
    /// Takes bytes as they come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes wait to be asked for.
    pub fn buffered(&self) -> usize {
        self.bytes.len()
    }

    /// Gives back memory that nothing is in.
    pub fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
    }

    /// Whether the request and its body have been given out whole.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    /// How much of the body has not been asked for, if it can be known.
    pub fn body_left(&self) -> Option<u64> {
        match self.state {
            State::Body(Decoder::Length(left)) => Some(left),
            State::Body(_) | State::Refused(_) => None,
            State::Head { .. } | State::Complete => Some(0),
        }
    }

    /// Whether a request has begun: its head has begun to arrive or its body is not over.
    pub fn is_inside(&self) -> bool {
        match self.state {
            State::Head { .. } => !self.bytes.is_empty(),
            State::Body(_) => true,
            State::Complete | State::Refused(_) => false,
        }
    }

    /// Goes on to the next request.
    ///
    /// # Panics
    /// When the last one is not complete.
    pub fn next(&mut self) {
        assert!(self.is_complete(), "a request is complete before the next begins");
        self.state = State::Head { looked_at: 0 };
    }

    /// All of the body, if all of it is here already and has not been asked for.
    pub fn whole_body(&mut self) -> Option<Bytes> {
        let State::Body(Decoder::Length(left)) = self.state else { return None };
        let left = usize::try_from(left).ok().filter(|&left| left <= self.bytes.len())?;
        self.state = State::Complete;
        Some(self.bytes.split_to(left).freeze())
    }

    /// What comes next.
    pub fn step(&mut self) -> Event {
        let event = match &mut self.state {
            State::Head { looked_at } => match next_head(&mut self.bytes, looked_at) {
                Ok(Some(head)) => {
                    self.state = State::Body(Decoder::new(head.framing));
                    Event::Request(Box::new(head))
                }
                Ok(None) => Event::Starved,
                Err(refusal) => Event::Refused(refusal),
            },
            State::Body(decoder) => match decoder.step(&mut self.bytes) {
                Ok(Decoded::Data(data)) => Event::Body(data),
                Ok(Decoded::Starved) => Event::Starved,
                Ok(Decoded::End) => {
                    self.state = State::Complete;
                    Event::End
                }
                Err(refusal) => Event::Refused(refusal),
            },
            State::Complete => Event::Starved,
            State::Refused(refusal) => Event::Refused(*refusal),
        };
        if let Event::Refused(refusal) = event {
            self.state = State::Refused(refusal);
        }
        event
    }
}

fn next_head(bytes: &mut BytesMut, looked_at: &mut usize) -> Result<Option<Head>, Refusal> {
    // An empty line before a request is left over by some clients (RFC 9112, 2.2).
    while *looked_at == 0 && bytes.starts_with(b"\r\n") {
        bytes.advance(2);
    }
    match head::find_end(bytes, *looked_at)? {
        Ok(end) => head::parse(&bytes.split_to(end)).map(Some),
        Err(seen) => {
            // "\r" alone may become an empty line to skip.
            *looked_at = if seen < 2 { 0 } else { seen };
            Ok(None)
        }
    }
}

#[derive(Debug)]
enum Decoded {
    Data(Bytes),
    End,
    Starved,
}

/// Takes a body out of its framing.
#[derive(Debug)]
enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// A chunk's size line is next.
    ChunkSize,
    /// So many bytes of a chunk are left.
    ChunkData(u64),
    /// The CR LF after a chunk's bytes is next.
    ChunkEnd,
    /// Trailer lines, so many bytes of them so far, or the empty line that ends all.
    Trailer(usize),
}

impl Decoder {
    fn new(framing: Framing) -> Decoder {
        match framing {
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::ChunkSize,
        }
    }

    fn step(&mut self, bytes: &mut BytesMut) -> Result<Decoded, Refusal> {
        loop {
            match self {
                Decoder::Length(0) => return Ok(Decoded::End),
                Decoder::Length(left) => {
                    return Ok(take(bytes, left).map_or(Decoded::Starved, Decoded::Data));
                }
                Decoder::ChunkSize => {
                    let line = line(bytes, CHUNK_LINE_BYTES_MAX, Refusal::ChunkSize)?;
                    let Some(line) = line else { return Ok(Decoded::Starved) };
                    *self = match chunk_size(&line)? {
                        0 => Decoder::Trailer(0),
                        size => Decoder::ChunkData(size),
                    };
                }
                Decoder::ChunkData(0) => *self = Decoder::ChunkEnd,
                Decoder::ChunkData(left) => {
                    return Ok(take(bytes, left).map_or(Decoded::Starved, Decoded::Data));
                }
                Decoder::ChunkEnd => match bytes.get(..2) {
                    Some(b"\r\n") => {
                        bytes.advance(2);
                        *self = Decoder::ChunkSize;
                    }
                    None if b"\r\n".starts_with(bytes) => return Ok(Decoded::Starved),
                    Some(_) | None => return Err(Refusal::ChunkEnd),
                },
                Decoder::Trailer(so_far) => {
                    let room = TRAILER_BYTES_MAX - *so_far;
                    let line = line(bytes, room, Refusal::Trailer)?;
                    let Some(line) = line else { return Ok(Decoded::Starved) };
                    if line.is_empty() {
                        *self = Decoder::Length(0);
                    } else if is_field(&line) {
                        *so_far += (line.len() + 2).min(room);
                    } else {
                        return Err(Refusal::Trailer);
                    }
                }
            }
        }
    }
}

/// As many as are here and belong to the body, none if none are.
fn take(bytes: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= length as u64;
    (length > 0).then(|| bytes.split_to(length).freeze())
}

/// A line without its CR LF, once it is here.
fn line(bytes: &mut BytesMut, max: usize, wrong: Refusal) -> Result<Option<BytesMut>, Refusal> {
    let control = |b: &u8| *b < b' ' && *b != b'\t';
    let Some(end) = bytes.iter().position(control) else {
        return if bytes.len() > max { Err(wrong) } else { Ok(None) };
    };
    if end > max || bytes[end] != b'\r' {
        return Err(wrong);
    }
    match bytes.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => {
            let line = bytes.split_to(end);
            bytes.advance(2);
            Ok(Some(line))
        }
        Some(_) => Err(wrong),
    }
}

/// A trailer field: a token, at once a colon. Nobody reads it, but nothing else may pass for one.
fn is_field(line: &[u8]) -> bool {
    let name = line.split(|&b| b == b':').next().unwrap_or_default();
    name.len() < line.len() && http::HeaderName::from_bytes(name).is_ok()
}

/// A chunk's size; its extensions are for nobody here.
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line.split(|&b| b == b';').next().unwrap_or_default();
    let digits = digits.trim_ascii_end();
    let fits = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).map_err(|_| Refusal::ChunkSize)?;
    u64::from_str_radix(text, 16).ok().filter(|_| fits).ok_or(Refusal::ChunkSize)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    /// The whole conversation, pieces of bodies joined.
    fn told(pieces: &[&[u8]]) -> Vec<String> {
        let mut input = Input::default();
        let (mut told, mut body) = (Vec::new(), Vec::new());
        for piece in pieces {
            input.push(piece);
            loop {
                match input.step() {
                    Event::Request(head) => told.push(format!(
                        "{} {} {:?}",
                        head.request.method(),
                        head.request.uri(),
                        head.framing
                    )),
                    Event::Body(bytes) => body.extend_from_slice(&bytes),
                    Event::End => {
                        told.push(String::from_utf8_lossy(&std::mem::take(&mut body)).into_owned());
                        input.next();
                    }
                    Event::Starved => break,
                    Event::Refused(refusal) => {
                        told.push(format!("{refusal:?}"));
                        return told;
                    }
                }
            }
        }
        told
    }

    const TALK: &[u8] = b"\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\nPUT /b HTTP/1.1\r\nHost: h\r\n\
        Content-Length: 5\r\n\r\nhelloPUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;x=\"y\"\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: r\r\n\r\nGET /d HTTP/1.1\r\nHost: h\r\n\r\n";

    #[test]
    fn pipelined_requests_come_one_by_one() {
        let expected = [
            "GET /a Length(0)",
            "",
            "PUT /b Length(5)",
            "hello",
            "PUT /c Chunked",
            "abc0123456789",
            "GET /d Length(0)",
            "",
        ];
        assert_eq!(told(&[TALK]), expected);
    }

    #[test]
    fn wrong_chunks_are_refused() {
        let refused = |body: &str| {
            let head = "PUT /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
            told(&[head.as_bytes(), body.as_bytes()]).pop().unwrap()
        };
        assert_eq!(refused("x\r\n"), "ChunkSize");
        assert_eq!(refused("\r\n"), "ChunkSize");
        assert_eq!(refused("-1\r\n"), "ChunkSize");
        assert_eq!(refused("0x3\r\nabc"), "ChunkSize");
        assert_eq!(refused("1\nabc"), "ChunkSize");
        assert_eq!(refused("1000000000000000\r\n"), "ChunkSize");
        assert_eq!(refused(&"0".repeat(CHUNK_LINE_BYTES_MAX + 1)), "ChunkSize");
        assert_eq!(refused("1\r\naXX"), "ChunkEnd");
        assert_eq!(refused("0\r\nno field\r\n"), "Trailer");
        assert_eq!(refused("0\r\na: b\r\n\tfolded: c\r\n"), "Trailer");
        assert_eq!(refused("0\r\na : b\r\n"), "Trailer");
        assert_eq!(refused("0\r\na: b\n\r\n"), "Trailer");
        assert_eq!(refused("3;x=\"\n\"\r\nabc"), "ChunkSize");
        assert_eq!(refused("+3\r\nabc"), "ChunkSize");
        assert_eq!(refused(" 3\r\nabc"), "ChunkSize");
        assert_eq!(refused("3 3\r\nabc"), "ChunkSize");
        assert_eq!(refused(&format!("0\r\na: {}", "b".repeat(TRAILER_BYTES_MAX))), "Trailer");
    }

    #[test]
    fn a_body_that_is_here_is_taken_at_once() {
        let mut input = Input::default();
        input.push(b"PUT /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcdef");
        assert!(matches!(input.step(), Event::Request(_)));
        assert_eq!(input.whole_body().unwrap(), "abc");
        assert!(input.is_complete());
        assert_eq!(input.buffered(), 3);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cuts in prop::collection::vec(0..TALK.len(), 0..40)) {
            let mut cuts = cuts;
            cuts.extend([0, TALK.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|w| &TALK[w[0]..w[1]]).collect();
            prop_assert_eq!(told(&pieces), told(&[TALK]));
        }

        #[test]
        fn rubbish_is_told_the_same_however_cut(
            bytes in prop::collection::vec(prop::sample::select(
                b"GET / HTTP/1.1\r\nHost: h\r\n\r\n\r\n0aF;:\x00\xff".to_vec()), 0..200),
            at in 0..200usize,
        ) {
            let at = at.min(bytes.len());
            prop_assert_eq!(told(&[&bytes[..at], &bytes[at..]]), told(&[&bytes]));
        }

        #[test]
        fn a_spoiled_talk_is_told_the_same_however_cut(
            place in 0..TALK.len(), byte: u8, at in 0..TALK.len(),
        ) {
            let mut bytes = TALK.to_vec();
            bytes[place] = byte;
            prop_assert_eq!(told(&[&bytes[..at], &bytes[at..]]), told(&[&bytes]));
        }
    }
}
