//! HTTP: connections, limits, time-outs, and the way from a request to its answer.

use crate::daemon::{Daemon, ask};
use crate::problem::Problem;
use crate::route::{Action, route};
use crate::{Options, logs, node, token};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
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
/// How long a connection lives at most, so that slow readers do not hold all of them.
const CONNECTION_MAX: Duration = Duration::from_secs(300);
/// The most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most headers of a request.
const HEADERS_MAX: usize = 64;
/// The most bytes of a request's body; no request here needs one.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// How long open requests may take to end when consoled is told to.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// The wait after accept(2) failed, which it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Answer = Response<Full<Bytes>>;

/// Serves until SIGTERM or SIGINT, then lets open requests end.
pub async fn until_told(listener: TcpListener, options: &Options) -> io::Result<()> {
    let options = Arc::new(options.clone());
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(false);
    let mut end = std::pin::pin!(told_to_end()?);
    let mut accept = std::pin::pin!(accept(listener, options, Arc::clone(&places), stopping));
    std::future::poll_fn(|context| match accept.as_mut().poll(context) {
        Poll::Ready(never) => match never {},
        Poll::Pending => end.as_mut().poll(context),
    })
    .await;
    eprintln!("consoled: told to end");
    stop.send_replace(true);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    if tokio::time::timeout(DRAIN_MAX, places.acquire_many(all)).await.is_err() {
        eprintln!("consoled: some requests did not end in {} s", DRAIN_MAX.as_secs());
    }
    Ok(())
}

/// Accepts connections as long as it is polled, and no more than there are places.
async fn accept(
    listener: TcpListener,
    options: Arc<Options>,
    places: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
) -> Infallible {
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((socket, _)) => {
                let (options, stopping) = (Arc::clone(&options), stopping.clone());
                tokio::spawn(async move {
                    connection(socket, options, stopping).await;
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

/// Serves one connection.
async fn connection(socket: TcpStream, options: Arc<Options>, mut stopping: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let options = Arc::clone(&options);
        async move { Ok::<_, Infallible>(answer(request, &options).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let served = http.serve_connection(TokioIo::new(socket), service);
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
    // A client that breaks off, sends rubbish or is too slow is the client's affair: it has been
    // answered as far as HTTP allows, and there is nothing to do but to forget it.
    drop(tokio::time::timeout(CONNECTION_MAX, life).await);
}

/// Answers one request.
async fn answer(request: Request<Incoming>, options: &Options) -> Answer {
    let outcome = match tokio::time::timeout(REQUEST_MAX, serve(request, options)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "TooSlow",
            format!("no answer could be had within {} s: try again", REQUEST_MAX.as_secs()),
        )),
    };
    outcome.unwrap_or_else(refusal)
}

async fn serve(request: Request<Incoming>, options: &Options) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    let action = route(&head.method, head.uri.path(), head.uri.query());
    // Without the token nobody learns even which paths there are.
    if !action.as_ref().is_ok_and(Action::is_open) {
        token::check(&options.token_file, head.headers.get(header::AUTHORIZATION))?;
    }
    let action = action?;
    Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
        let message = format!("the body cannot be taken ({error}): no request here needs one");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", message)
    })?;
    perform(action, options).await
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
        Action::Zones => match ask(Daemon::Zoned, run, &zone::Request::Status).await? {
            zone::Reply::Status(status) => success(StatusCode::OK, &status),
            zone::Reply::Zone(_) => {
                Err(Problem::nonsense(Daemon::Zoned, "it sent another answer than a status"))
            }
        },
    }
}

async fn end(options: &Options, request: NodeRequest, what: &str) -> Result<Answer, Problem> {
    node::end(&options.run, request).await?;
    eprintln!("consoled: {what} asked for over the admin API");
    success(StatusCode::ACCEPTED, &Accepted { accepted: what.to_owned() })
}

fn success(status: StatusCode, value: &impl Serialize) -> Result<Answer, Problem> {
    let body = serde_json::to_vec(value).map_err(|error| {
        let message = format!("the answer has no JSON form ({error}): report this");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    })?;
    Ok(respond(status, body))
}

fn refusal(problem: Problem) -> Answer {
    let Problem { status, code, message, allow } = problem;
    let body = serde_json::to_vec(&admin::Problem { code, message });
    let mut answer = respond(status, body.expect("two strings have a JSON form"));
    let headers = answer.headers_mut();
    if let Some(method) = allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(method));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    answer
}

fn respond(status: StatusCode, mut body: Vec<u8>) -> Answer {
    body.push(b'\n');
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let fixed = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
