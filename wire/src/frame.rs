//! One message on the wire: a fixed header, then a JSON body.
//!
//! ```text
//!  0        4        6        8                16       20       22       24
//!  | magic  | version| kind   | id             | length | fds    | zero   | body, `length` bytes …
//!  | "MBLA" | u16 LE | u16 LE | u64 LE         | u32 LE | u16 LE | u16    |
//! ```
//!
//! `id` pairs a reply with its request; it is 0 in a push, which nobody answers. `fds` is the number of
//! descriptors that travel beside the message; a receiver that got another number drops the peer.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first four bytes of every message.
pub const MAGIC: [u8; 4] = *b"MBLA";
/// The version of header and bodies; a peer that speaks another one is refused.
pub const VERSION: u16 = 1;
/// Bytes in a header.
pub const HEADER_BYTES: usize = 24;
/// The most bytes in a message, its header included: one `SOCK_SEQPACKET` datagram that fits the
/// default socket buffer. Longer lists are paged.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The most descriptors beside one message. The kernel's own limit is 253 (unix(7), `SCM_MAX_FD`).
pub const FDS_MAX: usize = 16;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first message on a connection: who is there.
    Hello,
    /// Asks for something; answered by one [`Kind::Reply`] or [`Kind::Refusal`] with the same id.
    Request,
    /// The answer to a request.
    Reply,
    /// The request was understood and will not be done; the body is a [`Refusal`].
    Refusal,
    /// News that nobody answers; its id is 0.
    Push,
}

impl Kind {
    const fn code(self) -> u16 {
        match self {
            Self::Hello => 1,
            Self::Request => 2,
            Self::Reply => 3,
            Self::Refusal => 4,
            Self::Push => 5,
        }
    }

    const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::Hello,
            2 => Self::Request,
            3 => Self::Reply,
            4 => Self::Refusal,
            5 => Self::Push,
            _ => return None,
        })
    }
}

/// Why a request will not be done, in words a person can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// A stable word for programs, in CamelCase: `NoSuchJob`, `Busy`.
    pub code: String,
    /// What was refused, why, and what to do next.
    pub message: String,
}

/// What is wrong with the bytes of a message.
#[derive(Debug, Error)]
pub enum FrameError {
    /// Fewer bytes than a header has.
    #[error("a message of {got} bytes is shorter than its {HEADER_BYTES}-byte header")]
    Short {
        /// Bytes received.
        got: usize,
    },
    /// The first bytes are not [`MAGIC`].
    #[error(
        "a message starts with {got:02x?} where \"MBLA\" was expected: the peer is no Mobula daemon"
    )]
    Magic {
        /// The bytes in its place.
        got: [u8; 4],
    },
    /// Another [`VERSION`].
    #[error(
        "the peer speaks version {got} of the wire and this program version {VERSION}: update the older one"
    )]
    Version {
        /// The version received.
        got: u16,
    },
    /// A kind that does not exist.
    #[error("message kind {got} is unknown")]
    Kind {
        /// The code received.
        got: u16,
    },
    /// The header's length is not the body's.
    #[error("the header announces {announced} bytes of body and {got} came")]
    Length {
        /// What the header says.
        announced: usize,
        /// What came.
        got: usize,
    },
    /// The header's descriptor count is not what came beside the message.
    #[error("the header announces {announced} descriptors and {got} came")]
    Descriptors {
        /// What the header says.
        announced: usize,
        /// What came.
        got: usize,
    },
    /// A message over [`MESSAGE_BYTES_MAX`] or with more than [`FDS_MAX`] descriptors.
    #[error(
        "a message of {bytes} bytes and {fds} descriptors is over the limit of {MESSAGE_BYTES_MAX} and {FDS_MAX}"
    )]
    TooLarge {
        /// Bytes of header and body.
        bytes: usize,
        /// Descriptors beside it.
        fds: usize,
    },
    /// The body is not the JSON that its kind asks for.
    #[error("the body is not the JSON expected here")]
    Body(#[from] serde_json::Error),
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: U16,
    kind: U16,
    id: U64,
    length: U32,
    fds: U16,
    zero: U16,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// A message taken apart: its header checked, its body not yet read.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the message is for.
    pub kind: Kind,
    /// Pairs a reply with its request; 0 in a push.
    pub id: u64,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes a message apart; `fds` is the number of descriptors that came beside it.
    ///
    /// # Errors
    /// Every [`FrameError`] but [`FrameError::Body`]: whoever sent such bytes is to be dropped.
    pub fn parse(message: &'a [u8], fds: usize) -> Result<Self, FrameError> {
        let (header, body) = Header::ref_from_prefix(message)
            .map_err(|_| FrameError::Short { got: message.len() })?;
        if header.magic != MAGIC {
            return Err(FrameError::Magic { got: header.magic });
        }
        if header.version.get() != VERSION {
            return Err(FrameError::Version { got: header.version.get() });
        }
        let code = header.kind.get();
        let kind = Kind::from_code(code).ok_or(FrameError::Kind { got: code })?;
        if message.len() > MESSAGE_BYTES_MAX || fds > FDS_MAX {
            return Err(FrameError::TooLarge { bytes: message.len(), fds });
        }
        let announced = header.length.get() as usize;
        if announced != body.len() {
            return Err(FrameError::Length { announced, got: body.len() });
        }
        let announced = usize::from(header.fds.get());
        if announced != fds {
            return Err(FrameError::Descriptors { announced, got: fds });
        }
        Ok(Self { kind, id: header.id.get(), body })
    }

    /// Reads the body as `T`.
    ///
    /// # Errors
    /// [`FrameError::Body`] if it is not the JSON of a `T`.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        Ok(serde_json::from_slice(self.body)?)
    }
}

/// Puts a message together, to be sent with `fds` descriptors beside it.
///
/// # Errors
/// [`FrameError::TooLarge`] if it does not fit one message; [`FrameError::Body`] if `body` has no JSON
/// form (a map with keys that are no strings).
pub fn encode<T: Serialize>(
    kind: Kind,
    id: u64,
    body: &T,
    fds: usize,
) -> Result<Vec<u8>, FrameError> {
    let mut message = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut message, body)?;
    let bytes = message.len();
    let too_large = FrameError::TooLarge { bytes, fds };
    if bytes > MESSAGE_BYTES_MAX || fds > FDS_MAX {
        return Err(too_large);
    }
    let (Ok(length), Ok(count)) = (u32::try_from(bytes - HEADER_BYTES), u16::try_from(fds)) else {
        return Err(too_large);
    };
    let header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        kind: kind.code().into(),
        id: id.into(),
        length: length.into(),
        fds: count.into(),
        zero: 0.into(),
    };
    message[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    Ok(message)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed(id: u64, fds in 0..=FDS_MAX, text in ".{0,200}") {
            let message = encode(Kind::Request, id, &text, fds).unwrap();
            let frame = Frame::parse(&message, fds).unwrap();
            prop_assert_eq!((frame.kind, frame.id), (Kind::Request, id));
            prop_assert_eq!(frame.body::<String>().unwrap(), text);
        }

        #[test]
        fn any_bytes_are_an_answer_never_a_panic(bytes: Vec<u8>, fds in 0..20_usize) {
            if let Ok(frame) = Frame::parse(&bytes, fds) {
                prop_assert_eq!(bytes.len(), HEADER_BYTES + frame.body.len());
            }
        }

        #[test]
        fn a_damaged_header_is_refused_or_says_something_else(at in 0..HEADER_BYTES - 2, bit in 0..8_u32) {
            let mut message = encode(Kind::Push, 7, &"x", 0).unwrap();
            message[at] ^= 1 << bit;
            let other = Frame::parse(&message, 0);
            prop_assert!(other.is_err() || other.is_ok_and(|f| (f.kind, f.id) != (Kind::Push, 7)));
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_at_the_sender() {
        let body = "x".repeat(MESSAGE_BYTES_MAX);
        assert!(matches!(encode(Kind::Push, 0, &body, 0), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn a_descriptor_lost_on_the_way_is_noticed() {
        let message = encode(Kind::Reply, 1, &(), 2).unwrap();
        let lost = Frame::parse(&message, 1);
        assert!(matches!(lost, Err(FrameError::Descriptors { announced: 2, got: 1 })));
    }
}
