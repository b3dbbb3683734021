//! Which request about zones is which: pure, so that every path and parameter can be tested.

use crate::problem::Problem;
use hyper::Method;
use wire::admin::LINES_MAX;
use wire::standing::{STOP_S_DEFAULT, STOP_S_MAX, ZoneName, ZoneRequest};

/// The most bytes of an image's name in a path; zoned knows which of them there are.
const IMAGE_NAME_BYTES_MAX: usize = 128;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zones {
    /// All standing zones.
    List,
    /// What all of them use.
    Usage,
    /// A zone is to be made; the body says which.
    Create,
    /// Limits are to be changed; the body says how.
    Update(ZoneName),
    /// An image is to be made; the body says of what.
    Import,
    /// One question with one answer.
    Ask(ZoneRequest),
    /// What a zone's command wrote.
    Log {
        /// Which zone's.
        name: ZoneName,
        /// The last so many lines first; all that are kept if none.
        lines: Option<u32>,
        /// Whether to go on.
        follow: bool,
    },
    /// What happened.
    Events {
        /// Those after this number.
        after: u64,
        /// Whether to go on.
        follow: bool,
    },
    /// A session.
    Exec(ZoneName),
}

impl Zones {
    /// Whether its request has a body that is read.
    pub const fn has_body(&self) -> bool {
        matches!(self, Self::Create | Self::Update(_) | Self::Import)
    }
}

/// Finds what a request asks for; nothing if its path has nothing to do with zones.
pub fn route(method: &Method, target: &str, query: &str) -> Option<Result<Zones, Problem>> {
    let words: Vec<&str> = target.strip_prefix("/v1/")?.split('/').collect();
    let found = match words.as_slice() {
        ["zones", "stats"] => Ok(("GET", only(method, &Method::GET, Zones::Usage))),
        ["zones", "events"] => {
            let events = Zones::Events { after: 0, follow: false };
            Ok(("GET", only(method, &Method::GET, events)))
        }
        ["zones", "standing"] => Ok(match *method {
            Method::GET => ("GET, POST", Some(Zones::List)),
            Method::POST => ("GET, POST", Some(Zones::Create)),
            _ => ("GET, POST", None),
        }),
        ["zones", "standing", name] => zone_name(name).map(|name| zone(method, name)),
        ["zones", "standing", name, act] => {
            let name = zone_name(name);
            name.and_then(|name| {
                part(method, name, act).ok_or_else(|| Problem::no_such_path(target))
            })
        }
        ["images"] => Ok(match *method {
            Method::GET => ("GET, POST", Some(Zones::Ask(ZoneRequest::Images))),
            Method::POST => ("GET, POST", Some(Zones::Import)),
            _ => ("GET, POST", None),
        }),
        ["images", name] => image_name(name).map(|name| {
            let remove = Zones::Ask(ZoneRequest::RemoveImage(name));
            ("DELETE", only(method, &Method::DELETE, remove))
        }),
        _ => return None,
    };
    Some(found.and_then(|(allowed, action)| {
        let action = action.ok_or_else(|| Problem::method(allowed))?;
        parameters(action, query)
    }))
}

type Found = (&'static str, Option<Zones>);

fn only(method: &Method, wanted: &Method, action: Zones) -> Option<Zones> {
    (method == wanted).then_some(action)
}

/// A zone itself.
fn zone(method: &Method, name: ZoneName) -> Found {
    let action = match *method {
        Method::GET => Some(Zones::Ask(ZoneRequest::Get(name))),
        Method::PATCH => Some(Zones::Update(name)),
        Method::DELETE => Some(Zones::Ask(ZoneRequest::Delete(name))),
        _ => None,
    };
    ("GET, PATCH, DELETE", action)
}

/// Something of a zone, or something to do to it.
fn part(method: &Method, name: ZoneName, act: &str) -> Option<Found> {
    let (wanted, action) = match act {
        "start" => (Method::POST, Zones::Ask(ZoneRequest::Start(name))),
        "stop" => {
            let stop = ZoneRequest::Stop { name, timeout_s: STOP_S_DEFAULT };
            (Method::POST, Zones::Ask(stop))
        }
        "pause" => (Method::POST, Zones::Ask(ZoneRequest::Pause(name))),
        "resume" => (Method::POST, Zones::Ask(ZoneRequest::Resume(name))),
        "publish" => (Method::POST, Zones::Ask(ZoneRequest::Publish(name))),
        "limits" => (Method::GET, Zones::Ask(ZoneRequest::Limits(name))),
        "stats" => (Method::GET, Zones::Ask(ZoneRequest::Stats(name))),
        "why" => (Method::GET, Zones::Ask(ZoneRequest::Why(name))),
        "logs" => (Method::GET, Zones::Log { name, lines: None, follow: false }),
        "exec" => (Method::GET, Zones::Exec(name)),
        _ => return None,
    };
    let allowed = if wanted == Method::GET { "GET" } else { "POST" };
    Some((allowed, only(method, &wanted, action)))
}

fn zone_name(text: &str) -> Result<ZoneName, Problem> {
    ZoneName::try_from(text.to_owned())
        .map_err(|why| Problem::parameter(format!("{text:?} is no zone's name: {why}")))
}

/// No more than fits a path as it is: what an image may be called is zoned's to say.
fn image_name(text: &str) -> Result<String, Problem> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if text.is_empty() || text.len() > IMAGE_NAME_BYTES_MAX || !text.bytes().all(plain) {
        let why = "letters, digits, -, . and _ are what it is made of";
        return Err(Problem::parameter(format!("{text:?} is no image's name: {why}")));
    }
    Ok(text.to_owned())
}

/// Puts the query's parameters into the action.
fn parameters(mut action: Zones, query: &str) -> Result<Zones, Problem> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (&mut action, key) {
            (Zones::Log { follow, .. } | Zones::Events { follow, .. }, "follow") => {
                *follow = truth(value)?;
            }
            (Zones::Log { lines, .. }, "lines") => {
                *lines = Some(number("lines", value, LINES_MAX.into())?);
            }
            (Zones::Events { after, .. }, "after") => {
                *after = number("after", value, u64::MAX)?;
            }
            (Zones::Ask(ZoneRequest::Stop { timeout_s, .. }), "timeout_s") => {
                *timeout_s = number("timeout_s", value, STOP_S_MAX.into())?;
            }
            _ => return Err(Problem::parameter(format!("{key:?} is no parameter here"))),
        }
    }
    Ok(action)
}

fn truth(value: &str) -> Result<bool, Problem> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Problem::parameter(format!("follow is {value:?}: true or false it is"))),
    }
}

fn number<T: TryFrom<u64>>(key: &str, value: &str, most: u64) -> Result<T, Problem> {
    let read = value.parse().ok().filter(|n| *n <= most).and_then(|n| T::try_from(n).ok());
    read.ok_or_else(|| Problem::parameter(format!("{key} is {value:?}: 0 to {most} it is")))
}

#[cfg(test)]
mod test {
    use super::*;

    fn web() -> ZoneName {
        ZoneName::try_from("web".to_owned()).unwrap()
    }

    fn find(method: &Method, target: &str, query: &str) -> Result<Zones, u16> {
        let found = route(method, target, query).unwrap_or_else(|| Err(Problem::no_such_path("")));
        found.map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn every_request_of_zoned_has_a_path() {
        let base = "/v1/zones/standing/web";
        let table = [
            (Method::GET, "", ZoneRequest::Get(web())),
            (Method::DELETE, "", ZoneRequest::Delete(web())),
            (Method::POST, "/start", ZoneRequest::Start(web())),
            (Method::POST, "/stop", ZoneRequest::Stop { name: web(), timeout_s: STOP_S_DEFAULT }),
            (Method::POST, "/pause", ZoneRequest::Pause(web())),
            (Method::POST, "/resume", ZoneRequest::Resume(web())),
            (Method::POST, "/publish", ZoneRequest::Publish(web())),
            (Method::GET, "/limits", ZoneRequest::Limits(web())),
            (Method::GET, "/stats", ZoneRequest::Stats(web())),
            (Method::GET, "/why", ZoneRequest::Why(web())),
        ];
        for (method, rest, request) in table {
            assert_eq!(find(&method, &format!("{base}{rest}"), ""), Ok(Zones::Ask(request)));
            assert_eq!(find(&Method::PUT, &format!("{base}{rest}"), ""), Err(405), "{rest}");
        }
        assert_eq!(find(&Method::PATCH, base, ""), Ok(Zones::Update(web())));
        assert_eq!(find(&Method::GET, &format!("{base}/exec"), ""), Ok(Zones::Exec(web())));
        assert_eq!(find(&Method::POST, "/v1/zones/standing", ""), Ok(Zones::Create));
        assert_eq!(find(&Method::GET, "/v1/zones/stats", ""), Ok(Zones::Usage));
        assert_eq!(find(&Method::POST, "/v1/images", ""), Ok(Zones::Import));
        let remove = ZoneRequest::RemoveImage("debian-12.1_x".to_owned());
        assert_eq!(find(&Method::DELETE, "/v1/images/debian-12.1_x", ""), Ok(Zones::Ask(remove)));
    }

    #[test]
    fn parameters_are_read_and_wrong_ones_are_400() {
        let log = Zones::Log { name: web(), lines: Some(5), follow: true };
        assert_eq!(find(&Method::GET, "/v1/zones/standing/web/logs", "lines=5&follow"), Ok(log));
        let events = Zones::Events { after: 9, follow: false };
        assert_eq!(find(&Method::GET, "/v1/zones/events", "after=9&follow=0"), Ok(events));
        let stop = ZoneRequest::Stop { name: web(), timeout_s: 0 };
        let stopped = find(&Method::POST, "/v1/zones/standing/web/stop", "timeout_s=0");
        assert_eq!(stopped, Ok(Zones::Ask(stop)));
        for (target, query) in [
            ("/v1/zones/standing/web/logs", "lines=5001"),
            ("/v1/zones/standing/web/logs", "follow=perhaps"),
            ("/v1/zones/events", "after=-1"),
            ("/v1/zones/standing/web", "x"),
        ] {
            assert_eq!(find(&Method::GET, target, query), Err(400), "{target}?{query}");
        }
        let long = find(&Method::POST, "/v1/zones/standing/web/stop", "timeout_s=3601");
        assert_eq!(long, Err(400));
    }

    #[test]
    fn names_that_no_zone_has_are_400_and_other_paths_404() {
        for name in ["..", "A", "web%2f", "", "-"] {
            let target = format!("/v1/zones/standing/{name}");
            assert_eq!(find(&Method::GET, &target, ""), Err(400), "{name}");
        }
        assert_eq!(find(&Method::DELETE, "/v1/images/a%2fb", ""), Err(400));
        for target in ["/v1/zones/standing/web/sing", "/v1/zones/x", "/v1/images/a/b", "/v2/images"]
        {
            assert_eq!(find(&Method::GET, target, ""), Err(404), "{target}");
        }
    }
}
