//! Standing zones and images over HTTP: each request is passed on to zoned, which owns all of them.

pub mod events;
pub mod log;
pub mod route;
pub mod session;

use crate::answer::{Answer, success};
use crate::daemon::{Daemon, Link};
use crate::problem::Problem;
use crate::serve::Context;
use bytes::Bytes;
use hyper::StatusCode;
use route::Zones;
use serde::de::DeserializeOwned;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::admin::{
    Accepted, Deleted, ImageImport, Images, Limits, Usage, Why, ZoneUsage, Zones as ZoneList,
};
use wire::carve::CarveChange;
use wire::standing::{
    PAGE_MAX, ZONES_MAX, ZoneName, ZoneReply, ZoneRequest, ZoneSpec, ZoneState, ZoneSummary,
};
use wire::zone;

/// How long zoned may take to do something: what changes is on disk before it is answered, which takes long when
/// tenants keep the disk busy, and files that become objects have to be sealed by storaged first. Less than a request may
/// take. What is not done then goes on, and its end is an event.
pub const ACT_MAX: Duration = Duration::from_secs(25);

/// Asks zoned on a connection.
pub async fn ask(
    link: &mut Link,
    request: ZoneRequest,
) -> Result<(ZoneReply, Vec<OwnedFd>), Problem> {
    let request = zone::Request::Zone(request);
    let only_looks = matches!(
        &request,
        zone::Request::Zone(
            ZoneRequest::List { .. }
                | ZoneRequest::Get(_)
                | ZoneRequest::Limits(_)
                | ZoneRequest::Stats(_)
                | ZoneRequest::Why(_)
                | ZoneRequest::Exec { .. }
                | ZoneRequest::Log(_)
                | ZoneRequest::Watch { .. }
                | ZoneRequest::Images
        )
    );
    let (reply, fds) = match only_looks {
        true => link.ask(&request).await?,
        false => link.ask_within(ACT_MAX, &request).await?,
    };
    match reply {
        zone::Reply::Zone(reply) => Ok((reply, fds)),
        other => Err(stray(&other)),
    }
}

/// An answer that belongs to another question.
pub fn stray(reply: &impl std::fmt::Debug) -> Problem {
    // The name of the answer is enough: what is in it may be long.
    let text = format!("{reply:?}");
    let word = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    Problem::nonsense(Daemon::Zoned, &format!("{word} is no answer to what was asked"))
}

/// Does what a request asks; `body` is its body.
pub async fn perform(action: Zones, body: &[u8], context: &Context) -> Result<Answer, Problem> {
    let mut link = Link::open(Daemon::Zoned, &context.options.run).await?;
    match action {
        Zones::List => success(StatusCode::OK, &ZoneList { zones: all(&mut link).await? }),
        Zones::Usage => success(StatusCode::OK, &usage(&mut link).await?),
        Zones::Create => create(&mut link, body).await,
        Zones::Update(name) => {
            let change: Box<CarveChange> = read("InvalidChange", body)?;
            pass(&mut link, ZoneRequest::Update { name, change }).await
        }
        Zones::Import => {
            let ImageImport { name, object } = read("InvalidImport", body)?;
            pass(&mut link, ZoneRequest::ImportImage { name, object }).await
        }
        Zones::Ask(request) => pass(&mut link, request).await,
        Zones::Log { name, lines, follow } => log::tell(link, name, lines, follow, context).await,
        Zones::Events { after, follow } => events::tell(link, after, follow, context).await,
        Zones::Exec(_) => Err(session::not_asked_for()),
    }
}

/// Reads a body.
pub fn read<T: DeserializeOwned>(code: &str, body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::body(code, &error.to_string()))
}

async fn create(link: &mut Link, body: &[u8]) -> Result<Answer, Problem> {
    let spec: Box<ZoneSpec> = read("InvalidSpec", body)?;
    spec.check().map_err(|error| Problem::body("InvalidSpec", &error.to_string()))?;
    match ask(link, ZoneRequest::Create(spec)).await? {
        (ZoneReply::Zone(view), _) => success(StatusCode::CREATED, &*view),
        (other, _) => Err(stray(&other)),
    }
}

/// One question, one answer.
async fn pass(link: &mut Link, request: ZoneRequest) -> Result<Answer, Problem> {
    let done = done(&request);
    let ok = StatusCode::OK;
    match (ask(link, request).await?.0, done) {
        (ZoneReply::Done, Some(Done::Deleted(deleted))) => success(ok, &Deleted { deleted }),
        (ZoneReply::Done, Some(Done::Accepted(accepted))) => {
            success(StatusCode::ACCEPTED, &Accepted { accepted })
        }
        (ZoneReply::Zone(view), None) => success(ok, &*view),
        (ZoneReply::Limits(limits), None) => success(ok, &Limits { limits }),
        (ZoneReply::Stats(stats), None) => success(ok, &*stats),
        (ZoneReply::Why(reasons), None) => success(ok, &Why { reasons }),
        (ZoneReply::Published(published), None) => success(ok, &published),
        (ZoneReply::Images(images), None) => success(ok, &Images { images }),
        (other, _) => Err(stray(&other)),
    }
}

/// What a bare "done" means.
enum Done {
    Deleted(String),
    Accepted(String),
}

fn done(request: &ZoneRequest) -> Option<Done> {
    match request {
        ZoneRequest::Delete(name) => Some(Done::Deleted(name.to_string())),
        ZoneRequest::RemoveImage(name) => Some(Done::Deleted(name.clone())),
        ZoneRequest::ImportImage { .. } => Some(Done::Accepted("import".to_owned())),
        ZoneRequest::Create(_)
        | ZoneRequest::List { .. }
        | ZoneRequest::Get(_)
        | ZoneRequest::Start(_)
        | ZoneRequest::Stop { .. }
        | ZoneRequest::Pause(_)
        | ZoneRequest::Resume(_)
        | ZoneRequest::Update { .. }
        | ZoneRequest::Limits(_)
        | ZoneRequest::Stats(_)
        | ZoneRequest::Why(_)
        | ZoneRequest::Exec { .. }
        | ZoneRequest::Log(_)
        | ZoneRequest::Watch { .. }
        | ZoneRequest::Publish(_)
        | ZoneRequest::Images => None,
    }
}

/// All zones, page by page.
pub async fn all(link: &mut Link) -> Result<Vec<ZoneSummary>, Problem> {
    let mut zones: Vec<ZoneSummary> = Vec::new();
    let mut after: Option<ZoneName> = None;
    while zones.len() <= ZONES_MAX {
        match ask(link, ZoneRequest::List { after }).await? {
            (ZoneReply::Zones(page), _) => {
                let last = page.len() < PAGE_MAX;
                after = page.last().map(|zone| zone.name.clone());
                zones.extend(page);
                if last {
                    return Ok(zones);
                }
            }
            (other, _) => return Err(stray(&other)),
        }
    }
    Err(Problem::nonsense(Daemon::Zoned, "its list of zones has no end"))
}

/// What each zone uses that has processes. One that goes in between is left out.
async fn usage(link: &mut Link) -> Result<Usage, Problem> {
    let mut zones = Vec::new();
    for zone in all(link).await? {
        if !matches!(zone.state, ZoneState::Running | ZoneState::Paused) {
            continue;
        }
        match ask(link, ZoneRequest::Stats(zone.name.clone())).await {
            Ok((ZoneReply::Stats(stats), _)) => zones.push(ZoneUsage { zone, stats: *stats }),
            Ok((other, _)) => return Err(stray(&other)),
            Err(problem) if problem.is_refusal() => {}
            Err(problem) => return Err(problem),
        }
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Usage { at_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX), zones })
}

/// One line of a stream.
pub fn line(value: &impl serde::Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).expect("lines are structs of strings and numbers");
    text.push(b'\n');
    text.into()
}
