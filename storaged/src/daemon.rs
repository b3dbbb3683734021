//! The daemon: opens the store, serves it on every socket, ends in order.
//!
//! ```text
//!   open store ─▶ accounts ─▶ jobs ─▶ wire ─▶ front ─▶ READY=1 ─▶ (SIGTERM) ─▶ STOPPING=1
//!                                                       ─▶ drain front ─▶ stop wire ─▶ shut the store down
//! ```

use crate::accounts::{Accounts, AccountsError, Changes, Watch};
use crate::args::{Args, ArgsError, Durability};
use crate::certificate::{self, CertificateError};
use crate::events::{Events, EventsError, Roots, RootsError, Totals, Webhook};
use crate::front::{Front, FrontError, Kinds, Port, Service, Setting};
use crate::hourly::{self, Hourly, What};
use crate::jobs::{Jobs, JobsError};
use crate::lifecycle::{Day, Lifecycle, LifecycleError};
use crate::metrics::Extra;
use crate::prefetch::Prefetcher;
use crate::s3::Settings;
use crate::store::{self, OpenError, Options, Store};
use crate::tools::Tools;
use crate::wire_server::{Wire, WireError, WireServer};
use clap::Parser;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::activation::{self, ActivationError};
use sys::signal::{Signal, Signals};
use sys::wait::{For, wait};
use thiserror::Error;

/// How long requests in progress may take once the daemon is told to end: the supervisor's patience
/// is 30 s, and the store wants some of it.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(20);

/// How often the file of accounts is looked at, in milliseconds: a change need not wait for a signal, and
/// one stat(2) costs nothing.
const ACCOUNTS_LOOK_MS: u64 = 2000;
/// How long a port may still be an earlier storaged's: 6 to 14 ms on an idle machine (Linux 6.18).
const PORT_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two looks.
const PORT_PAUSE: Duration = Duration::from_millis(2);

/// Why the daemon does not run.
#[derive(Debug, Error)]
enum DaemonError {
    #[error(transparent)]
    Args(#[from] ArgsError),
    #[error(transparent)]
    Activation(#[from] ActivationError),
    #[error("can't open the store")]
    Store(#[from] OpenError),
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    #[error("can't take up the jobs")]
    Jobs(#[from] JobsError),
    #[error(transparent)]
    Events(#[from] EventsError),
    #[error(transparent)]
    Roots(#[from] RootsError),
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("can't serve HTTPS")]
    Certificate(#[from] CertificateError),
    #[error("can't serve")]
    Front(#[from] FrontError),
    #[error("can't listen at {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("can't wait for signals")]
    Signals(#[source] io::Error),
}

/// Runs `storaged` until it is told to stop.
pub fn run() -> ExitCode {
    if let Some(tools) = Tools::named() {
        start_log(tools.log);
        return tools.run();
    }
    let args = Args::parse();
    start_log(args.log);
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{}", crate::s3::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> Result<(), DaemonError> {
    // Before the first thread, which would take the signals instead.
    let signals = match args.accounts_file() {
        Some(_) => Signals::take_ends_and_hangup(),
        None => Signals::take_ends(),
    };
    let signals = signals.map_err(DaemonError::Signals)?;
    let watch = args.accounts_file().map(|path| Watch::new(path.to_owned()));
    allow_open_files();
    let mut handed: HashMap<_, _> = activation::listeners()?.into_iter().collect();
    let given = args.accounts()?;
    let store = Store::open(options(args))?;
    let status = store.status();
    log::info!(
        "store {} at {}: {} objects, {} bytes; {}, durability {:?}",
        status.store,
        args.data.display(),
        status.objects,
        status.object_bytes,
        if status.verity { "sealed by the kernel" } else { "no fs-verity here: own digests" },
        args.durability,
    );
    let accounts = Arc::new(Accounts::enter(&store, given)?);
    let jobs = Jobs::open(store.clone())?;
    let wire = handed.remove("wire").map(Wire::Handed);
    let wire = wire.or_else(|| args.wire.clone().map(Wire::Path));
    let prefetcher = Prefetcher::new(args.prefetcher.clone());
    let left = prefetcher.left();
    let kept = |account: &str, what: &'static What| keeper(args, &store, account, what);
    let usage = wire.as_ref().and_then(|_| kept(hourly::SYSTEM_ACCOUNT, &hourly::USAGE));
    let keep = usage.as_ref().and_then(Hourly::usage);
    let wire =
        wire.map(|wire| WireServer::start(wire, jobs.clone(), prefetcher, keep)).transpose()?;
    let s3 = listener(handed.remove("s3"), args.s3, "S3")?;
    let manta = listener(handed.remove("manta"), args.manta, "Manta")?;
    let day = Day::of_ms(args.lifecycle_day * 1000);
    let settings = Arc::new(Settings::with_day(store.clone(), day));
    let encrypted = args.webhook.iter().any(Webhook::is_encrypted);
    let roots = encrypted.then(|| Roots::read(&args.webhook_ca)).transpose()?;
    let events = Events::start(&store, &settings, args.webhook.clone(), roots.as_ref())?;
    let clock = Arc::new(crate::s3::now_ms);
    let lifecycle = Lifecycle::start(store.clone(), events.clone(), day, clock)?;
    let service = crate::s3::service_telling(
        store.clone(),
        Arc::clone(&accounts),
        settings,
        events.clone(),
        args.domains(),
    );
    let https = https(args, handed.remove("https"), &service)?;
    let mut ports = vec![
        Port { listener: s3, service, kinds: crate::s3::kinds("s3", args.domains()), tls: None },
        Port {
            listener: manta,
            service: crate::manta::service(jobs.clone(), Arc::clone(&accounts)),
            kinds: crate::manta::kinds(),
            tls: None,
        },
    ];
    ports.extend(https);
    for name in handed.keys() {
        log::warn!("the socket {name:?} was handed over and is not served");
    }
    let account = args.access_log.as_ref();
    let access_log = account.and_then(|account| kept(account.as_str(), &hourly::ACCESS));
    let lines = access_log.as_ref().and_then(Hourly::lines);
    let setting = Setting { threads: threads(args), lines, ..Setting::default() };
    let front = Front::start_with(ports, setting)?;
    let left = Extra {
        name: "mobula_prefetch_left_bytes_total",
        help: "Bytes of objects that were left to their readers: larger than their share of the cache.",
        value: left,
    };
    let extras = told(events.totals()).into_iter().chain([left]).collect();
    let numbers = numbers(args, &front, &store, access_log.as_ref(), extras)?;
    tell("READY=1");
    wait_for_end(&signals, watch, || reread(args, &store, &accounts))?;
    log::info!("ending: requests in progress have {} s", DRAIN_TIME_MAX.as_secs());
    tell("STOPPING=1");
    front.drain(DRAIN_TIME_MAX);
    drop(numbers);
    drop(access_log);
    if let Some(wire) = wire {
        wire.stop();
    }
    drop(usage);
    lifecycle.stop();
    store.shutdown();
    log::info!("ended");
    Ok(())
}

/// The encrypted port, with the same service behind it.
fn https(
    args: &Args,
    handed: Option<OwnedFd>,
    service: &Arc<dyn Service>,
) -> Result<Option<Port>, DaemonError> {
    let address = match (args.https, &handed) {
        (Some(address), _) => address,
        (None, Some(_)) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        (None, None) => return Ok(None),
    };
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => certificate::given(certificate, key)?,
        _ => certificate::own(&args.data, address.ip())?,
    };
    Ok(Some(Port {
        listener: listener(handed, address, "HTTPS")?,
        service: Arc::clone(service),
        kinds: crate::s3::kinds("https", args.domains()),
        tls: Some(tls),
    }))
}

/// A keeper of lines. A store that can't take them now, because it is full, say, or somebody has a bucket of that name,
/// is served without: of usage, zoned keeps what is not taken.
fn keeper(args: &Args, store: &Store, account: &str, what: &'static What) -> Option<Hourly> {
    let said = |error| {
        log::error!("no {} until the next start: {}", what.name, crate::s3::chain(&error));
    };
    Hourly::start(store, &args.data, account, what).map_err(said).ok()
}

/// The front of the numbers: a thread of its own, so that whoever reads them holds up no request.
fn numbers(
    args: &Args,
    front: &Front,
    store: &Store,
    access_log: Option<&Hourly>,
    extras: Vec<Extra>,
) -> Result<Option<Front>, DaemonError> {
    let Some(address) = args.metrics else { return Ok(None) };
    let listener = listener(None, address, "metrics")?;
    let lines = access_log.into_iter().map(|log| Extra {
        name: "mobula_access_log_dropped_total",
        help: "Lines of the access log that were lost for want of time or room.",
        value: log.dropped(),
    });
    let extras = lines.chain(extras);
    let service = crate::metrics::service(front.counts(), store.clone(), extras.collect());
    Ok(Some(Front::start(
        vec![Port { listener, service, kinds: Kinds::one("metrics"), tls: None }],
        1,
    )?))
}

/// What became of events.
fn told(totals: &Totals) -> [Extra; 3] {
    let extra = |name, help, value: &Arc<_>| Extra { name, help, value: Arc::clone(value) };
    [
        extra(
            "mobula_events_delivered_total",
            "Events of buckets that a webhook took.",
            &totals.delivered,
        ),
        extra(
            "mobula_events_failed_total",
            "Tries to deliver an event that failed.",
            &totals.failed,
        ),
        extra(
            "mobula_events_dropped_total",
            "Events of buckets that no webhook will see.",
            &totals.dropped,
        ),
    ]
}

/// As many open files as we may have: a connection is one, and so is an object that is read.
fn allow_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(e) = raised {
        log::warn!("can't raise the limit of open files: {e}");
    }
}

fn options(args: &Args) -> Options {
    let usual = Options::new(&args.data);
    Options {
        snapshot_journal_bytes: args.snapshot_after.unwrap_or(usual.snapshot_journal_bytes),
        scrub_rate: args.scrub_rate,
        segment_bytes: args.segment_bytes.unwrap_or(usual.segment_bytes),
        inline_bytes: args.inline_bytes,
        objects_view: args.objects_view.clone(),
        durability: match args.durability {
            Durability::Fsync => store::Durability::Fsync,
            Durability::None => store::Durability::None,
        },
        ..usual
    }
}

fn threads(args: &Args) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.map_or_else(cores, usize::from)
}

fn listener(
    handed: Option<OwnedFd>,
    address: SocketAddr,
    what: &str,
) -> Result<OwnedFd, DaemonError> {
    let listener = match handed {
        Some(listener) => listener,
        None => bound(address).map_err(|source| DaemonError::Listen { address, source })?,
    };
    sys::listen::let_it_block(&listener)
        .map_err(|source| DaemonError::Listen { address, source })?;
    match sys::listen::local_address(&listener) {
        Ok(Some(address)) => log::info!("{what} at {address}"),
        // A socket without an address of the internet is still a socket.
        Ok(None) | Err(_) => log::info!("{what} at the socket that was handed over"),
    }
    Ok(listener)
}

/// Listens. The kernel takes the ring of a storaged that was killed apart some milliseconds after its end, and until then
/// the ring's listener is there: that is waited for.
fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let until = Instant::now() + PORT_TIME_MAX;
    loop {
        match sys::socket::listen_tcp(address, sys::socket::BACKLOG_MAX) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(PORT_PAUSE);
            }
            done => return done,
        }
    }
}

fn tell(state: &str) {
    if let Err(e) = activation::notify(state) {
        log::warn!("can't tell the supervisor {state}: {e}");
    }
}

/// Waits for a signal to end, and sees to the file of accounts meanwhile.
fn wait_for_end(
    signals: &Signals,
    mut watch: Option<Watch>,
    reread: impl Fn(),
) -> Result<(), DaemonError> {
    let pause = watch.as_ref().map(|_| ACCOUNTS_LOOK_MS);
    loop {
        match signals.next().map_err(DaemonError::Signals)? {
            None => {}
            Some(Signal::Hangup) => reread(),
            Some(_) => return Ok(()),
        }
        if watch.as_mut().is_some_and(Watch::has_changed) {
            reread();
        }
        wait(&[(signals.as_fd(), For::Input)], pause).map_err(DaemonError::Signals)?;
    }
}

/// Takes the accounts of the file as it is now; all stay as they are if that can't be.
fn reread(args: &Args, store: &Store, accounts: &Accounts) {
    let given = args.accounts().map_err(|error| crate::s3::chain(&error));
    let entered = given
        .and_then(|given| accounts.reenter(store, given).map_err(|error| crate::s3::chain(&error)));
    match entered {
        Ok(changes) if changes == Changes::default() => {
            log::info!("the accounts were read again: nothing changed");
        }
        Ok(Changes { added, changed, removed }) => log::info!(
            "the accounts were read again: {added:?} came, {changed:?} changed, {removed:?} went"
        ),
        Err(error) => log::error!("the accounts stay as they were: {error}"),
    }
}

struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let level = match record.level() {
            log::Level::Error => "error: ",
            log::Level::Warn => "warning: ",
            log::Level::Info | log::Level::Debug | log::Level::Trace => "",
        };
        eprintln!("storaged: {level}{}", record.args());
    }

    fn flush(&self) {}
}

fn start_log(level: log::LevelFilter) {
    // A second logger in one process is not worth dying for.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}
