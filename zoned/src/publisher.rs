//! The program that a zone with an `/out` finds on its path: asks that all in `/out` becomes objects, waits
//! until that is done, and says what became of it.
//!
//! Objects go to stdout, a name a line, so that a script may use them; all else goes to stderr. Trusts
//! nobody and nothing: it is the zone's own, and what it shows may have any name.

use std::path::Path;
use sys::seqpacket::{RecvError, SendError, Socket, SocketError};
use thiserror::Error;
use wire::frame::{Frame, FrameError, Kind, Refusal, encode};
use wire::standing::Published;
use wire::zone::{PUBLISH_SOCKET, Wish};

/// How to use it.
pub const USAGE: &str = "\
usage: mobula-publish [--json]

Makes objects of the files in /out and waits until that is done. A file that is an object already is left out,
one that somebody still writes to is not taken. Files stay where they are.

Objects are written to stdout, a name a line, or all that became of /out with --json.

Exits with 0 if all is published, 1 if some file was not taken, 2 if it is not used so, 75 if nothing could
be done and it is worth trying again.
";
/// All files are objects.
const ALL: u8 = 0;
/// Some are not.
const SOME: u8 = 1;
/// It was called in another way (bash(1), for its builtins).
const WRONG_USE: u8 = 2;
/// Try again (sysexits.h, `EX_TEMPFAIL`).
const LATER: u8 = 75;

/// Why it does not know what became of `/out`.
#[derive(Debug, Error)]
enum AskError {
    /// Nobody listens.
    #[error("cannot ask the zone's first process")]
    Connect(#[from] SocketError),
    /// It takes nothing.
    #[error("cannot ask the zone's first process")]
    Send(#[from] SendError),
    /// It says nothing.
    #[error("cannot hear the zone's first process")]
    Receive(#[from] RecvError),
    /// It has gone.
    #[error("the zone's first process has closed the connection: the zone ends")]
    Closed,
    /// It says what makes no sense.
    #[error("the zone's first process sent a damaged message")]
    Frame(#[from] FrameError),
}

/// What it says, and how it ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// To stdout.
    pub output: String,
    /// To stderr.
    pub error: String,
    /// The exit code.
    pub code: u8,
}

/// Does what these arguments ask for.
#[must_use]
pub fn run(arguments: &[String]) -> Said {
    let json = match arguments {
        [] => false,
        [word] if word == "--json" => true,
        [word] if matches!(word.as_str(), "-h" | "--help") => {
            return Said { output: USAGE.to_owned(), ..Said::default() };
        }
        _ => return Said { error: USAGE.to_owned(), code: WRONG_USE, ..Said::default() },
    };
    match ask(Path::new(PUBLISH_SOCKET)) {
        Ok(Ok(published)) => said(&published, json),
        Ok(Err(refusal)) => {
            let error = format!("mobula-publish: {}\n", refusal.message);
            Said { error, code: LATER, ..Said::default() }
        }
        Err(error) => {
            let error = format!("mobula-publish: {}\n", crate::chain(&error));
            Said { error, code: LATER, ..Said::default() }
        }
    }
}

fn ask(path: &Path) -> Result<Result<Published, Refusal>, AskError> {
    let socket = Socket::connect(path)?;
    socket.send(&encode(Kind::Request, 1, &Wish::Publish, 0)?, &[])?;
    let mut message = Vec::new();
    let fds = socket.recv(&mut message)?.ok_or(AskError::Closed)?;
    let frame = Frame::parse(&message, fds.len())?;
    Ok(if frame.kind == Kind::Refusal { Err(frame.body()?) } else { Ok(frame.body()?) })
}

fn said(published: &Published, json: bool) -> Said {
    let mut said = Said::default();
    if json {
        said.output = serde_json::to_string(published).expect("texts and numbers are JSON") + "\n";
    } else {
        published.made.iter().for_each(|name| said.output += &format!("{}\n", plain(name)));
    }
    let unnamed = published.objects.saturating_sub(published.made.len() as u64);
    if unnamed > 0 {
        said.error += &format!("and {unnamed} more objects\n");
    }
    for refused in &published.refused {
        said.error += &format!("not taken: {}\n", plain(refused));
    }
    let unnamed = published.refused_count.saturating_sub(published.refused.len() as u64);
    if unnamed > 0 {
        said.error += &format!("and {unnamed} more were not taken\n");
    }
    said.code = if published.refused_count == 0 { ALL } else { SOME };
    said
}

/// On one line, and nothing that a terminal would obey.
fn plain(text: &str) -> String {
    let letters = text.chars().flat_map(|letter| {
        let odd = letter.is_control();
        let escaped = odd.then(|| letter.escape_default());
        escaped.into_iter().flatten().chain((!odd).then_some(letter))
    });
    letters.collect()
}

#[cfg(test)]
mod test {
    use super::*;

    fn published() -> Published {
        Published {
            objects: 3,
            bytes: 10,
            made: vec!["/ann/stor/out/a".to_owned(), "/ann/stor/out/ü\n\u{1b}[2J".to_owned()],
            refused: vec!["b: it is a pipe".to_owned()],
            refused_count: 2,
        }
    }

    #[test]
    fn objects_go_to_stdout_and_the_rest_to_stderr() {
        let said = said(&published(), false);
        assert_eq!(said.output, "/ann/stor/out/a\n/ann/stor/out/ü\\n\\u{1b}[2J\n");
        assert_eq!(
            said.error,
            "and 1 more objects\nnot taken: b: it is a pipe\nand 1 more were not taken\n"
        );
        assert_eq!(said.code, SOME);
    }

    #[test]
    fn json_is_all_that_became_of_it() {
        let said = said(&published(), true);
        assert_eq!(serde_json::from_str::<Published>(&said.output).unwrap(), published());
    }

    #[test]
    fn other_words_are_told_how_it_is_used() {
        let said = run(&["now".to_owned()]);
        assert_eq!((said.code, said.error.as_str()), (WRONG_USE, USAGE));
        assert_eq!(run(&["--help".to_owned()]).code, ALL);
    }

    #[test]
    fn where_nobody_listens_it_is_worth_trying_again() {
        let error = ask(Path::new("/no/such/socket")).unwrap_err();
        assert!(matches!(error, AskError::Connect(_)), "{error}");
    }
}
