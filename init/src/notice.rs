//! What services tell init on their `NOTIFY_SOCKET` (sd_notify(3)), read from bytes that anyone who runs
//! as the service's user may have sent.

/// The most bytes of a status text that are kept.
pub const STATUS_BYTES_MAX: usize = 256;
/// The most bytes of a stored descriptor's name.
pub const FD_NAME_BYTES_MAX: usize = 64;
/// The name of a stored descriptor that was given none, as systemd has it.
const FD_NAME_DEFAULT: &str = "stored";

/// A notice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// `READY=1`.
    pub ready: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `STATUS=…`, printable and cut to [`STATUS_BYTES_MAX`].
    pub status: Option<String>,
    /// `FDSTORE=1` or `FDSTOREREMOVE=1`.
    pub store: Option<Store>,
}

/// What is to become of a name in the descriptor store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// Keep the descriptors beside the notice under this name.
    Keep(String),
    /// Close those of this name.
    Remove(String),
}

/// Reads a notice. Lines that mean nothing here are passed over, as the protocol asks.
#[must_use]
pub fn parse(bytes: &[u8]) -> Notice {
    let mut notice = Notice::default();
    let (mut keep, mut remove) = (false, false);
    let mut name = FD_NAME_DEFAULT.to_owned();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b'=');
        let (key, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        match (key, value) {
            (b"READY", b"1") => notice.ready = true,
            (b"STOPPING", b"1") => notice.stopping = true,
            (b"STATUS", text) => notice.status = Some(printable(text, STATUS_BYTES_MAX)),
            (b"FDSTORE", b"1") => keep = true,
            (b"FDSTOREREMOVE", b"1") => remove = true,
            (b"FDNAME", text) => name = fd_name(text).unwrap_or(name),
            _ => {}
        }
    }
    notice.store = match (keep, remove) {
        (_, true) => Some(Store::Remove(name)),
        (true, false) => Some(Store::Keep(name)),
        (false, false) => None,
    };
    notice
}

/// A name that can stand in `LISTEN_FDNAMES`: no colon, nothing that can't be printed.
fn fd_name(text: &[u8]) -> Option<String> {
    let good = |byte: &u8| byte.is_ascii_graphic() && *byte != b':';
    let fits = !text.is_empty() && text.len() <= FD_NAME_BYTES_MAX && text.iter().all(good);
    if fits { std::str::from_utf8(text).ok().map(str::to_owned) } else { None }
}

/// Text that can't do anything to a terminal: control characters become `·`, what is over `bytes_max` goes.
#[must_use]
pub fn printable(bytes: &[u8], bytes_max: usize) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        let c = if c.is_control() && c != '\t' { '·' } else { c };
        if text.len() + c.len_utf8() > bytes_max {
            break;
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn readiness_and_status_come_in_one_notice() {
        let notice = parse(b"READY=1\nSTATUS=serving");
        assert!(notice.ready);
        assert_eq!(notice.status.as_deref(), Some("serving"));
    }

    #[test]
    fn a_descriptor_is_kept_under_its_name() {
        let notice = parse(b"FDSTORE=1\nFDNAME=ring");
        assert_eq!(notice.store, Some(Store::Keep("ring".into())));
    }

    #[test]
    fn a_name_that_would_break_the_list_is_not_taken() {
        let notice = parse(b"FDNAME=a:b\nFDSTORE=1");
        assert_eq!(notice.store, Some(Store::Keep("stored".into())));
    }

    #[test]
    fn a_status_can_not_drive_the_terminal() {
        let notice = parse(b"STATUS=\x1b[2Jgone");
        assert_eq!(notice.status.as_deref(), Some("·[2Jgone"));
    }

    #[test]
    fn ready_with_another_value_is_not_ready() {
        assert_eq!(parse(b"READY=0\nREADY\n=1"), Notice::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_never_a_panic(bytes: Vec<u8>) {
            let notice = parse(&bytes);
            prop_assert!(notice.status.is_none_or(|status| status.len() <= STATUS_BYTES_MAX));
        }

        #[test]
        fn lines_of_the_protocol_in_any_order_are_an_answer(
            lines in proptest::collection::vec("(READY|STATUS|FDSTORE|FDNAME|STOPPING)=.{0,80}", 0..8),
        ) {
            let notice = parse(lines.join("\n").as_bytes());
            if let Some(Store::Keep(name) | Store::Remove(name)) = notice.store {
                prop_assert!(!name.contains(':') && name.len() <= FD_NAME_BYTES_MAX);
            }
        }
    }
}
