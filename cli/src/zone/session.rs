//! `mobula zone exec` and `login`: a program in a zone, with our standard input and output or our terminal.
//!
//! One thread and one wait point, over standard input, the WebSocket and signals. Input is read only when
//! all before it has been sent, so that nothing piles up on either side.

use super::args::Exec;
use super::show::outcome;
use crate::admin::Admin;
use crate::failure::Failure;
use crate::output::{Screen, plain};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGTERM, SIGWINCH};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tungstenite::client::{IntoClientRequest, client_with_config};
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};
use wire::admin::zone_path;
use wire::session::{Begin, End, PACKET_BYTES_MAX, PIECE_BYTES, Packet};
use wire::standing::{WindowSize, ZoneName};
use wire::zone::Outcome;

/// The exit status of a command that could not be run, or was lost sight of, as container tools have it.
pub const NOT_RUN: u8 = 125;
/// What is added to a signal's number for the exit status, as shells do.
const SIGNALLED: i32 = 128;
/// How long connection and handshake may take.
const OPEN_MAX: Duration = Duration::from_secs(15);
/// The size of a terminal that does not know its own.
const SIZE_DEFAULT: WindowSize = WindowSize { rows: 24, columns: 80 };

/// `login`: the zone's shell on our terminal.
pub fn login(
    admin: &Admin<'_>,
    screen: &Screen,
    zone: &ZoneName,
    env: &[(String, String)],
) -> Result<u8, Failure> {
    if !isatty(io::stdin()) || !isatty(io::stdout()) {
        let message = "login needs a terminal: use `mobula zone exec ZONE COMMAND` in scripts";
        return Err(Failure::Usage(message.to_owned()));
    }
    run(admin, screen, zone, begin(&[], env, true))
}

/// `exec`: a command with our standard input, output and error.
pub fn exec(admin: &Admin<'_>, screen: &Screen, exec: &Exec) -> Result<u8, Failure> {
    if exec.tty && !isatty(io::stdin()) {
        let message = "--tty needs a terminal on standard input".to_owned();
        return Err(Failure::Usage(message));
    }
    let begin = begin(&exec.command, &exec.env, exec.tty);
    run(admin, screen, &exec.zone, Begin { detached: exec.detach, ..begin })
}

fn begin(command: &[String], env: &[(String, String)], tty: bool) -> Begin {
    let mut environment = Vec::new();
    // Programs there have to know what kind of terminal ours is.
    if let Some(term) = std::env::var("TERM").ok().filter(|term| tty && !term.is_empty()) {
        environment.push(("TERM".to_owned(), term));
    }
    environment.extend_from_slice(env);
    Begin { command: command.to_vec(), environment, terminal: tty.then(size), detached: false }
}

/// The size of our terminal.
fn size() -> WindowSize {
    match tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            WindowSize { rows: size.ws_row, columns: size.ws_col }
        }
        _ => SIZE_DEFAULT,
    }
}

fn run(admin: &Admin<'_>, screen: &Screen, zone: &ZoneName, begin: Begin) -> Result<u8, Failure> {
    let what = format!("run a command in {zone}");
    let socket = connect(admin, &what, zone)?;
    let terminal = begin.terminal.is_some();
    let input = !begin.detached;
    let mut session = Session { socket, screen, what: what.clone(), busy: false, input };
    session.say(&Packet::Begin(begin))?;
    let signals = Signals::new().map_err(|error| unusable(&what, "signals", error))?;
    let raw = terminal.then(Raw::set).transpose();
    let raw = raw.map_err(|error| unusable(&what, "the terminal", error))?;
    let end = session.pump(&signals);
    drop(raw);
    status(&what, screen, end?)
}

fn unusable(what: &str, which: &str, error: io::Error) -> Failure {
    Failure::Source { what: format!("{what}: {which}"), source: error }
}

/// The exit status that an end asks for.
fn status(what: &str, screen: &Screen, end: End) -> Result<u8, Failure> {
    if screen.json {
        screen.value(&end)?;
    }
    match end {
        End::Outcome(Outcome::Exited { code }) => Ok(code),
        End::Outcome(Outcome::Signalled { signal }) => {
            Ok(u8::try_from(SIGNALLED + signal).unwrap_or(u8::MAX))
        }
        End::Outcome(ended @ (Outcome::InitFailed { .. } | Outcome::Broken { .. })) => {
            Err(Failure::Zone(format!("{what}: {}", outcome(&ended))))
        }
        End::Detached { session } => {
            screen.note(&format!("session {session} runs on; what it writes is in the zone's log"));
            Ok(0)
        }
        End::Refused(refusal) => {
            let (code, message) = (plain(&refusal.code), plain(&refusal.message));
            let status = match code.as_str() {
                code if code.starts_with("NoSuch") => 404,
                code if code.ends_with("Unavailable") => 503,
                _ => 409,
            };
            Err(Failure::Refused { what: what.to_owned(), status, code, message, hint: "" })
        }
        End::Lost { message } => Err(Failure::Away(format!("{what}: {}", plain(&message)))),
    }
}

fn connect(
    admin: &Admin<'_>,
    what: &str,
    zone: &ZoneName,
) -> Result<WebSocket<TcpStream>, Failure> {
    let nonsense = |why: String| Failure::Nonsense { what: what.to_owned(), why };
    let away = |error: ureq::Error| Failure::Unreachable {
        endpoint: admin.endpoint.to_string(),
        source: Box::new(error),
    };
    let authority = admin.endpoint.authority();
    let host = authority.parse().map_err(|error| nonsense(format!("{authority:?}: {error}")))?;
    let stream = crate::resolve::connect(&host, OPEN_MAX).map_err(away)?;
    let prepared = stream.set_read_timeout(Some(OPEN_MAX)).and_then(|()| stream.set_nodelay(true));
    prepared.map_err(|error| away(ureq::Error::Io(error)))?;
    let url = format!("ws://{authority}{}", zone_path(zone, "exec"));
    let mut request = url.into_client_request().map_err(|error| nonsense(error.to_string()))?;
    let token = format!("Bearer {}", admin.token).parse();
    let token = token.map_err(|_| Failure::Usage("the token has odd letters in it".to_owned()))?;
    request.headers_mut().insert("authorization", token);
    let config = WebSocketConfig::default()
        .max_message_size(Some(PACKET_BYTES_MAX))
        .max_frame_size(Some(PACKET_BYTES_MAX))
        .write_buffer_size(0)
        .max_write_buffer_size(4 * PACKET_BYTES_MAX);
    match client_with_config(request, stream, Some(config)) {
        Ok((socket, _)) => {
            socket.get_ref().set_nonblocking(true).map_err(|e| away(ureq::Error::Io(e)))?;
            Ok(socket)
        }
        Err(HandshakeError::Failure(Error::Http(answer))) => {
            let status = answer.status().as_u16();
            let problem = answer.body().as_deref().map(serde_json::from_slice);
            let Some(Ok(wire::admin::Problem { code, message })) = problem else {
                return Err(nonsense(format!("HTTP {status} without an explanation")));
            };
            let (code, message) = (plain(&code), plain(&message));
            Err(Failure::Refused { what: what.to_owned(), status, code, message, hint: "" })
        }
        Err(HandshakeError::Failure(error)) => Err(nonsense(error.to_string())),
        Err(HandshakeError::Interrupted(_)) => Err(Failure::Away(format!(
            "{what}: {} said nothing for {} s",
            admin.endpoint,
            OPEN_MAX.as_secs()
        ))),
    }
}

/// Signals, as bytes in sockets.
struct Signals {
    window: UnixStream,
    end: UnixStream,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (window, tell_window) = UnixStream::pair()?;
        let (end, tell_end) = UnixStream::pair()?;
        window.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGWINCH, tell_window)?;
        // These would end us with the terminal left as it is.
        signal_hook::low_level::pipe::register(SIGTERM, tell_end.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGHUP, tell_end)?;
        Ok(Self { window, end })
    }
}

/// Our terminal without its line editing, until this is dropped.
struct Raw {
    before: Termios,
}

impl Raw {
    fn set() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before) {
            eprintln!("mobula: the terminal cannot be set back ({error}): type `reset`");
        }
    }
}

struct Session<'a> {
    socket: WebSocket<TcpStream>,
    screen: &'a Screen,
    what: String,
    /// Whether something waits to be sent.
    busy: bool,
    /// Whether there is more on standard input.
    input: bool,
}

impl Session<'_> {
    /// Passes on what comes from either side, until the end.
    fn pump(&mut self, signals: &Signals) -> Result<End, Failure> {
        loop {
            if let Some(end) = self.hear()? {
                return Ok(end);
            }
            self.busy = self.sent(Ok(()))?;
            let (input, window, told) = self.wait(signals)?;
            if told {
                return Err(Failure::Zone(format!("{}: told to end", self.what)));
            }
            if window {
                // However many changes there were, the size now is what counts.
                while (&signals.window).read(&mut [0; 64]).is_ok_and(|got| got > 0) {}
                self.say(&Packet::Size(size()))?;
            }
            if input {
                self.pass_input()?;
            }
        }
    }

    /// Waits for standard input, a change of the window, the order to end, or the socket.
    fn wait(&self, signals: &Signals) -> Result<(bool, bool, bool), Failure> {
        let stdin = io::stdin();
        let out = if self.busy { PollFlags::OUT } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::new(self.socket.get_ref(), PollFlags::IN | out),
            PollFd::new(&signals.window, PollFlags::IN),
            PollFd::new(&signals.end, PollFlags::IN),
        ];
        if self.input && !self.busy {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(unusable(&self.what, "poll", error.into())),
        }
        let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok((ready(3), ready(1), ready(2)))
    }

    fn pass_input(&mut self) -> Result<(), Failure> {
        let mut piece = vec![0; PIECE_BYTES];
        // Not through the library's buffer, behind which poll(2) would not see what has been read.
        let got = match rustix::io::read(io::stdin(), &mut piece) {
            Ok(got) => got,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(()),
            // As of a terminal that is gone.
            Err(_) => 0,
        };
        self.input = got > 0;
        self.say(&Packet::Input(&piece[..got]))
    }

    fn say(&mut self, packet: &Packet<'_>) -> Result<(), Failure> {
        let bytes = packet.encode().map_err(|error| Failure::Usage(error.to_string()))?;
        let said = self.socket.write(Message::Binary(bytes.into()));
        self.busy = self.sent(said)?;
        Ok(())
    }

    /// Whether something is left to be sent.
    fn sent(&mut self, said: Result<(), Error>) -> Result<bool, Failure> {
        match said.and_then(|()| self.socket.flush()) {
            Ok(()) => Ok(false),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            // What there is to read says why.
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => Ok(false),
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn broken(&self, error: &Error) -> Failure {
        Failure::Away(format!("{}: the connection broke: {error}", self.what))
    }

    /// Takes in whatever has come; the end, if that has.
    fn hear(&mut self) -> Result<Option<End>, Failure> {
        loop {
            let message = match self.socket.read() {
                Ok(Message::Binary(bytes)) => bytes,
                Ok(_) => continue,
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(self.broken(&error)),
            };
            match Packet::parse(&message) {
                Ok(Packet::Output(bytes)) => self.show("stdout", bytes)?,
                Ok(Packet::Errors(bytes)) => self.show("stderr", bytes)?,
                Ok(Packet::End(end)) => return Ok(Some(end)),
                Ok(Packet::Input(_) | Packet::Size(_) | Packet::Begin(_)) => {}
                Err(error) => {
                    let what = self.what.clone();
                    return Err(Failure::Nonsense { what, why: error.to_string() });
                }
            }
        }
    }

    /// What the program wrote is ours to pass on as it is, as ssh does; as JSON it is text.
    fn show(&self, stream: &str, bytes: &[u8]) -> Result<(), Failure> {
        if self.screen.json {
            return self.screen.value(&json!({ stream: String::from_utf8_lossy(bytes) }));
        }
        if stream == "stderr" {
            io::stderr().write_all(bytes)?;
            return Ok(());
        }
        self.screen.bytes(bytes)
    }
}
