//! The bytes of netlink(7): headers, and attributes within attributes. Pure.

/// Bytes of a `struct nlmsghdr`, and of the head of an attribute.
pub(super) const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// Attributes and messages begin at multiples of this (`NLA_ALIGNTO`).
const ALIGNMENT: usize = 4;
/// Marks an attribute that holds others (`NLA_F_NESTED`), and the bits that say no more than such things.
const NESTED: u16 = 1 << 15;
const KIND_BITS: u16 = 0x3fff;

/// A message, its length and number filled in when it is sent.
pub(super) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

/// The body of a message, behind the fixed part of its kind.
#[derive(Debug, Clone)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn new(fixed: &[u8]) -> Self {
        Self(fixed.to_vec())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn head(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
    }

    /// An attribute with this value.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let start = self.head(kind);
        self.0.extend(value);
        self.close(start);
        self
    }

    /// An attribute that is text with a closing zero.
    pub(super) fn text(self, kind: u16, text: &str) -> Self {
        let bytes: Vec<u8> = text.bytes().chain([0]).collect();
        self.with(kind, &bytes)
    }

    /// An attribute that holds others.
    pub(super) fn nested(mut self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let start = self.head(kind | NESTED);
        let mut whole = inner(self);
        whole.close(start);
        whole
    }
}

/// The attributes in these bytes; what is cut off is left out.
pub(super) fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (half(bytes, 0), half(bytes, 2)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(ATTRIBUTE_HEADER..length) else { break };
        found.push((kind & KIND_BITS, value));
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    found
}

/// The value of the first attribute of this kind.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).into_iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
}

pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The messages in what was received: kind, number, body; what is cut off is left out.
pub(super) fn messages(mut bytes: &[u8]) -> Vec<(u16, u32, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind), Some(sequence)) =
        (word(bytes, 0), half(bytes, 4), word(bytes, 8))
    {
        let Some(length) = usize::try_from(length).ok().filter(|length| *length >= HEADER) else {
            break;
        };
        let Some(body) = bytes.get(HEADER..length) else { break };
        found.push((kind, sequence, body));
        bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let body = Body::new(&[]).with(1, &[1, 2, 3]).text(2, "lo");
        assert_eq!(body.bytes(), [7, 0, 1, 0, 1, 2, 3, 0, 7, 0, 2, 0, b'l', b'o', 0, 0]);
        assert_eq!(attributes(body.bytes()), [(1, &[1, 2, 3][..]), (2, &b"lo\0"[..])]);
    }

    #[test]
    fn an_attribute_holds_others_and_says_so() {
        let body = Body::new(&[9; 4]).nested(5, |inner| inner.with(1, &[7; 4]));
        assert_eq!(body.bytes()[4..8], [12, 0, 5, 0x80]);
        let inner = attribute(&body.bytes()[4..], 5).unwrap();
        assert_eq!(attribute(inner, 1), Some(&[7; 4][..]));
    }

    #[test]
    fn what_is_cut_off_or_claims_nothing_ends_the_list() {
        assert!(attributes(&[8, 0, 1, 0, 1]).is_empty());
        assert!(attributes(&[0; 8]).is_empty());
        assert!(messages(&[0; 64]).is_empty());
        let whole = message(3, 0, 7, &[1; 8]);
        assert_eq!(messages(&whole), [(3, 7, &[1; 8][..])]);
        assert!(messages(&whole[..20]).is_empty());
    }
}
