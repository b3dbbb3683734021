//! What a probe in a zone reports, and what it has to report: the names of all attacks, one line for each.
//!
//! ```text
//!   case 41 new namespaces: refused clone(NEWUSER)=EPERM unshare(NEWNET)=EPERM clone3=ENOSYS
//!        │       │             │                 └ each thing that was tried, and what came of it
//!        │       │             └ none went through (refused), all did (through), some did (mixed)
//! ```
//!
//! The probe judges nothing: whether a line is as it must be is decided outside of the zone, against
//! [`expected`]. Things that are missing from a line fail there, as does a line that is missing.
#![forbid(unsafe_code)]

pub mod expected;
mod rows;

use std::fmt;

/// The attacks, by number from 1.
pub const NAMES: [&str; 70] = [
    "fork bomb",
    "thread bomb",
    "anonymous memory hog",
    "full tmpfs",
    "descriptor exhaustion",
    "pipe buffers",
    "inotify and fanotify watches",
    "POSIX queues and System V memory",
    "locked memory",
    "page-table bomb",
    "dentry bomb",
    "output beyond its quota",
    "direct-io hammer",
    "spin on all processors",
    "more processor than its cap",
    "timer and signal storm",
    "sync storm",
    "dirty-page flood",
    "socket-buffer hog",
    "deep, long and sparse files",
    "log flood",
    "zombie storm",
    "SIGTERM ignored",
    "mount calls",
    "umount and remount",
    "changes to an object",
    "objects opened again for writing",
    "objects mapped for execution",
    "object names",
    "links in output",
    "odd files in output",
    "device nodes",
    "setuid and setcap programs",
    "files by handle",
    "the first process's insides",
    "inherited descriptors",
    "images with odd directories",
    "chroot and pivot_root",
    "hostile image layers",
    "overlay tricks",
    "new namespaces",
    "foreign namespaces",
    "foreign processes' memory",
    "foreign processes' signals",
    "kernel keyrings",
    "bpf, perf, userfaultfd, io_uring",
    "the machine's own calls",
    "the kernel's log",
    "kernel settings",
    "cgroup escape",
    "odd sockets",
    "abstract sockets",
    "forbidden addresses",
    "more network than its rate",
    "keystrokes and escapes",
    "other system-call tables",
    "filters and attachment",
    "core dumps",
    "another tenant's pages",
    "side channels",
    "names and paths of the node",
    "what the last tenant left",
    "the first process killed",
    "garbage on the control sockets",
    "zoned killed at any step",
    "storaged restarted under a zone",
    "object deleted while mapped",
    "damaged object",
    "power cut",
    "a thousand zones",
];

/// The name of a case.
///
/// # Panics
/// If there is no such case.
#[must_use]
pub fn name(number: u8) -> &'static str {
    NAMES[usize::from(number) - 1]
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// 1 to 70.
    pub number: u8,
    /// What was tried, and what came of it: `ok`, the name of an error, or what was seen.
    pub tries: Vec<(String, String)>,
}

impl Line {
    /// A case of which nothing has been tried.
    #[must_use]
    pub fn new(number: u8) -> Self {
        Self { number, tries: Vec::new() }
    }

    /// Notes what was seen. Blanks separate, so there are none in it.
    pub fn saw(&mut self, what: &str, value: impl fmt::Display) {
        let value: String = value.to_string().split_whitespace().collect::<Vec<_>>().join("_");
        self.tries.push((what.to_owned(), value));
    }

    /// `refused`, `through`, `mixed`, or `nothing` where nothing was tried.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        let through = self.tries.iter().filter(|(_, result)| result == "ok").count();
        match (through, self.tries.len()) {
            (_, 0) => "nothing",
            (0, _) => "refused",
            (through, tries) if through == tries => "through",
            _ => "mixed",
        }
    }

    /// What came of one try.
    #[must_use]
    pub fn result(&self, what: &str) -> Option<&str> {
        self.tries.iter().find(|(tried, _)| tried == what).map(|(_, result)| result.as_str())
    }

    /// Takes a line apart; none if it is no line of a probe.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, rest) = text.strip_prefix("case ")?.split_once(' ')?;
        let number: u8 = number.parse().ok()?;
        let named = NAMES.get(usize::from(number).checked_sub(1)?)?;
        let rest = rest.strip_prefix(named)?.strip_prefix(": ")?;
        let mut words = rest.split(' ');
        let verdict = words.next()?;
        let tries = words.map(|word| {
            let (what, result) = word.rsplit_once('=')?;
            Some((what.to_owned(), result.to_owned()))
        });
        let line = Self { number, tries: tries.collect::<Option<_>>()? };
        (line.verdict() == verdict).then_some(line)
    }

    /// The lines in a text, whatever else is in it.
    #[must_use]
    pub fn all(text: &str) -> Vec<Self> {
        text.lines().filter_map(Self::parse).collect()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "case {:02} {}: {}", self.number, name(self.number), self.verdict())?;
        self.tries.iter().try_for_each(|(what, result)| write!(f, " {what}={result}"))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let mut line = Line::new(41);
        line.saw("unshare(NEWNET)", "EPERM");
        line.saw("a=b", "two words");
        let text = line.to_string();
        assert_eq!(text, "case 41 new namespaces: refused unshare(NEWNET)=EPERM a=b=two_words");
        assert_eq!(Line::parse(&text), Some(line));
    }

    #[test]
    fn what_is_no_line_is_none() {
        for text in
            ["", "case 41", "case 0 x: refused", "case 41 fork bomb: refused a=b", "case 71 a: b"]
        {
            assert_eq!(Line::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_differ() {
        let names: std::collections::BTreeSet<_> = NAMES.iter().collect();
        assert_eq!(names.len(), NAMES.len());
    }
}
