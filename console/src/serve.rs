//! HTTP: connections, limits, time-outs, and the way from a request to its answer.

use crate::answer::{Answer, refusal, success};
use crate::daemon::{Daemon, ask};
use crate::problem::Problem;
use crate::route::{Action, route};
use crate::zones::{self, route::Zones};
use crate::{Options, accounts, logs, metrics, node, token};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use wire::admin::{self, Accepted, Health};
use wire::node::NodeRequest;
use wire::{task, zone};

/// Connections that are served at once; more wait in the backlog. Each takes some 40 KiB, of the 256 MiB
/// that the service has; idle ones of a stranger go after [`HEAD_MAX`].
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to send a request's head, waiting between two requests included.
const HEAD_MAX: Duration = Duration::from_secs(15);
/// How long a request may take from its head to its answer; the slowest reads logs of all services.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How long a connection takes requests: the answer to the first one after that says that it is the last.
const CONNECTION_MAX: Duration = Duration::from_secs(300);
/// How long a connection lives at most, so that slow readers do not hold all of them. A request that came in time is
/// never cut off: its head began within [`CONNECTION_MAX`] and one wait more.
const LIFE_MAX: Duration = CONNECTION_MAX.saturating_add(HEAD_MAX).saturating_add(REQUEST_MAX);
/// The most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most headers of a request.
const HEADERS_MAX: usize = 64;
/// The most bytes of a body that no request here needs.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// The most bytes of a document (a zone, a change): it has to fit a message to zoned.
const DOCUMENT_BYTES_MAX: usize = 56 * 1024;
/// How long open requests may take to end when consoled is told to.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// The wait after accept(2) failed, which it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers whose lines come as they are made, at once: each holds a connection for as long as it likes.
const FOLLOWERS_MAX: usize = 64;
/// Sessions in zones at once; each takes some 200 KiB.
const SESSIONS_MAX: usize = 128;
/// Seconds of silence after which the kernel asks a peer whether it is still there, and how often, with
/// ten seconds between (tcp(7)): sessions and followers may be silent for days.
const KEEPALIVE_S: u64 = 60;
const KEEPALIVE_PROBES: u32 = 6;
const KEEPALIVE_PAUSE_S: u64 = 10;

/// What the requests of one connection share.
#[derive(Debug, Clone)]
pub struct Context {
    /// How consoled was started.
    pub options: Arc<Options>,
    /// Whether consoled has been told to end.
    pub stopping: watch::Receiver<bool>,
    followers: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
    /// Whether an answer on this connection goes on for as long as its client likes.
    lasting: Arc<AtomicBool>,
}

impl Context {
    /// A place for an answer whose lines come as they are made.
    pub fn follower(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.followers).try_acquire_owned();
        place.map_err(|_| Problem::full("streams of lines", FOLLOWERS_MAX))
    }

    /// A place for a session.
    pub fn session(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.sessions).try_acquire_owned();
        place.map_err(|_| Problem::full("sessions", SESSIONS_MAX))
    }

    /// Lets the connection live longer than others.
    pub fn lasts(&self) {
        self.lasting.store(true, Ordering::Relaxed);
    }
}

/// Serves until SIGTERM or SIGINT, then lets open requests end.
pub async fn until_told(listener: TcpListener, options: &Options) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(false);
    let end = told_to_end()?;
    let sessions = Arc::new(Semaphore::new(SESSIONS_MAX));
    let context = Context {
        options: Arc::new(options.clone()),
        stopping,
        followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        sessions: Arc::clone(&sessions),
        lasting: Arc::default(),
    };
    // Gone with the choice: it holds a place for whoever comes next.
    tokio::select! {
        never = accept(listener, context, Arc::clone(&places)) => match never {},
        () = end => {}
    }
    eprintln!("consoled: told to end");
    stop.send_replace(true);
    let all = async {
        let most = |places: usize| u32::try_from(places).unwrap_or(u32::MAX);
        // The semaphores are never closed.
        drop(places.acquire_many(most(CONNECTIONS_MAX)).await);
        drop(sessions.acquire_many(most(SESSIONS_MAX)).await);
    };
    if tokio::time::timeout(DRAIN_MAX, all).await.is_err() {
        eprintln!("consoled: some requests did not end in {} s", DRAIN_MAX.as_secs());
    }
    Ok(())
}

/// Accepts connections as long as it is polled, and no more than there are places.
async fn accept(listener: TcpListener, context: Context, places: Arc<Semaphore>) -> Infallible {
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((socket, _)) => {
                let context = Context { lasting: Arc::default(), ..context.clone() };
                tokio::spawn(async move {
                    connection(socket, context, CONNECTION_MAX, LIFE_MAX).await;
                    drop(place);
                });
            }
            Err(error) => {
                eprintln!("consoled: cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ready when a signal says that it is time to go.
fn told_to_end() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(std::future::poll_fn(move |context| {
        let told =
            terminate.poll_recv(context).is_ready() || interrupt.poll_recv(context).is_ready();
        if told { Poll::Ready(()) } else { Poll::Pending }
    }))
}

/// Serves one connection, which takes requests for as long as `open`, and ends after `most`.
async fn connection(socket: TcpStream, context: Context, open: Duration, most: Duration) {
    if let Err(error) = keep_alive(&socket) {
        eprintln!("consoled: a client's connection cannot be watched: {error}");
    }
    let (lasting, mut stopping) = (Arc::clone(&context.lasting), context.stopping.clone());
    let begun = Instant::now();
    let service = service_fn(move |request| {
        let context = context.clone();
        async move {
            let mut answer = answer(request, &context).await;
            // A connection that is cut instead resets a request which is on its way.
            if begun.elapsed() >= open && !context.lasting.load(Ordering::Relaxed) {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let served = http.serve_connection(TokioIo::new(socket), service).with_upgrades();
    let mut served = std::pin::pin!(served);
    let life = async {
        let mut told = std::pin::pin!(stopping.wait_for(|stop| *stop));
        let mut asked = false;
        std::future::poll_fn(|context| {
            if !asked && told.as_mut().poll(context).is_ready() {
                asked = true;
                served.as_mut().graceful_shutdown();
            }
            served.as_mut().poll(context)
        })
        .await
    };
    let mut life = std::pin::pin!(life);
    // A client that breaks off, sends rubbish or is too slow is the client's affair: it has been
    // answered as far as HTTP allows, and there is nothing to do but to forget it.
    while tokio::time::timeout(most, life.as_mut()).await.is_err()
        && lasting.load(Ordering::Relaxed)
    {}
}

/// Has the kernel find out when the peer is gone without a word.
fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(KEEPALIVE_S))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(KEEPALIVE_PAUSE_S))?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    // Keys are echoed one by one.
    sockopt::set_tcp_nodelay(socket, true)?;
    Ok(())
}

/// Answers one request.
async fn answer(request: Request<Incoming>, context: &Context) -> Answer {
    let outcome = match tokio::time::timeout(REQUEST_MAX, serve(request, context)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "TooSlow",
            format!("no answer could be had within {} s: try again", REQUEST_MAX.as_secs()),
        )),
    };
    outcome.unwrap_or_else(refusal)
}

async fn serve(request: Request<Incoming>, context: &Context) -> Result<Answer, Problem> {
    let action = route(request.method(), request.uri().path(), request.uri().query());
    // Without the token nobody learns even which paths there are.
    if !action.as_ref().is_ok_and(Action::is_open) {
        let token = request.headers().get(header::AUTHORIZATION);
        token::check(&context.options.token_file, token)?;
    }
    match action? {
        Action::Zones(Zones::Exec(zone)) => zones::session::begin(request, zone, context),
        Action::Zones(action) => {
            let most = if action.has_body() { DOCUMENT_BYTES_MAX } else { BODY_BYTES_MAX };
            let body = body(request, most).await?;
            zones::perform(action, &body, context).await
        }
        Action::Accounts(action) => {
            let body = body(request, BODY_BYTES_MAX).await?;
            accounts::perform(action, &body, &context.options.run).await
        }
        action => {
            body(request, BODY_BYTES_MAX).await?;
            perform(action, &context.options).await
        }
    }
}

/// The request's whole body.
async fn body(request: Request<Incoming>, most: usize) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), most).collect().await.map_err(|error| {
        let message = format!("the body cannot be taken ({error}): {most} bytes are the most here");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", message)
    })?;
    Ok(body.to_bytes())
}

async fn perform(action: Action, options: &Options) -> Result<Answer, Problem> {
    let run = &options.run;
    match action {
        Action::Health => success(StatusCode::OK, &Health { alive: true }),
        Action::Node => success(StatusCode::OK, &node::view(run, &options.data).await?),
        Action::Logs { service, lines } => {
            success(StatusCode::OK, &logs::latest(run, service, lines).await?)
        }
        Action::Poweroff => end(options, NodeRequest::Poweroff, "poweroff").await,
        Action::Reboot => end(options, NodeRequest::Reboot, "reboot").await,
        Action::Store => match ask(Daemon::Storaged, run, &task::Request::Status).await? {
            task::Reply::Status(status) => success(StatusCode::OK, &status),
            _ => Err(Problem::nonsense(Daemon::Storaged, "it sent another answer than a status")),
        },
        Action::Zoned => match ask(Daemon::Zoned, run, &zone::Request::Status).await? {
            zone::Reply::Status(status) => success(StatusCode::OK, &status),
            other => Err(zones::stray(&other)),
        },
        Action::Metrics => Ok(metrics::tell(options).await),
        Action::Zones(_) | Action::Accounts(_) => Err(Problem::no_such_path(admin::path::STANDING)),
    }
}

async fn end(options: &Options, request: NodeRequest, what: &str) -> Result<Answer, Problem> {
    node::end(&options.run, request).await?;
    eprintln!("consoled: {what} asked for over the admin API");
    success(StatusCode::ACCEPTED, &Accepted { accepted: what.to_owned() })
}

#[cfg(test)]
mod test {
    use super::*;
    use clap::Parser;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What a client reads that asks once on a connection open for so long, and its own half closed or not.
    fn read(open: Duration, last: bool) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_stop, stopping) = watch::channel(false);
            let context = Context {
                options: Arc::new(Options::parse_from(["consoled"])),
                stopping,
                followers: Arc::new(Semaphore::new(1)),
                sessions: Arc::new(Semaphore::new(1)),
                lasting: Arc::default(),
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap());
            let (client, served) = tokio::join!(client, listener.accept());
            let (mut client, (socket, _)) = (client.unwrap(), served.unwrap());
            let served = tokio::spawn(connection(socket, context, open, LIFE_MAX));
            client.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            if last {
                client.shutdown().await.unwrap();
            }
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            served.await.unwrap();
            text
        })
    }

    #[test]
    fn an_old_connection_ends_with_an_answer_that_says_so() {
        let text = read(Duration::ZERO, false);
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("alive"), "{text}");
        assert!(text.contains("connection: close"), "{text}");
    }

    #[test]
    fn a_young_one_stays_open() {
        let text = read(CONNECTION_MAX, true);
        assert!(text.starts_with("HTTP/1.1 200") && !text.contains("connection: close"), "{text}");
    }
}
