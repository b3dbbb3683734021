//! Which request is which: pure, so that every path and parameter can be tested.

use crate::accounts::{self, Accounts};
use crate::problem::Problem;
use crate::zones::route::{self as zones, Zones};
use hyper::Method;
use wire::admin::{LINES_DEFAULT, LINES_MAX, path};
use wire::service::ServiceName;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `GET /v1/health`.
    Health,
    /// `GET /v1/node`.
    Node,
    /// `GET /v1/node/logs`.
    Logs {
        /// Of one service, or of all.
        service: Option<ServiceName>,
        /// At most so many.
        lines: u32,
    },
    /// `POST /v1/node/poweroff`.
    Poweroff,
    /// `POST /v1/node/reboot`.
    Reboot,
    /// `GET /v1/store`.
    Store,
    /// `GET /v1/zones`.
    Zoned,
    /// `GET /metrics`.
    Metrics,
    /// Below `/v1/zones` and `/v1/images`.
    Zones(Zones),
    /// Below `/v1/accounts`.
    Accounts(Accounts),
}

impl Action {
    /// Whether it is done for anyone.
    pub fn is_open(&self) -> bool {
        *self == Self::Health
    }
}

/// Finds what a request asks for.
///
/// # Errors
/// 404 for another path, 405 for another method, 400 for a wrong parameter.
pub fn route(method: &Method, target: &str, query: Option<&str>) -> Result<Action, Problem> {
    let (wanted, action) = match target {
        path::HEALTH => ("GET", Action::Health),
        path::NODE => ("GET", Action::Node),
        path::LOGS => ("GET", Action::Logs { service: None, lines: LINES_DEFAULT }),
        path::POWEROFF => ("POST", Action::Poweroff),
        path::REBOOT => ("POST", Action::Reboot),
        path::STORE => ("GET", Action::Store),
        path::ZONES => ("GET", Action::Zoned),
        path::METRICS => ("GET", Action::Metrics),
        _ => {
            let query = query.unwrap_or_default();
            let zones = zones::route(method, target, query).map(|found| found.map(Action::Zones));
            let accounts =
                || accounts::route(method, target, query).map(|found| found.map(Action::Accounts));
            let found = zones.or_else(accounts);
            return found.unwrap_or_else(|| Err(Problem::no_such_path(target)));
        }
    };
    let head = *method == Method::HEAD && wanted == "GET";
    if method.as_str() != wanted && !head {
        return Err(Problem::method(wanted));
    }
    parameters(action, query.unwrap_or_default())
}

/// Puts the query's parameters into the action.
fn parameters(mut action: Action, query: &str) -> Result<Action, Problem> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (&mut action, key) {
            (Action::Logs { service, .. }, "service") => *service = Some(name(value)?),
            (Action::Logs { lines, .. }, "lines") => {
                *lines = value.parse().ok().filter(|n| (1..=LINES_MAX).contains(n)).ok_or_else(
                    || Problem::parameter(format!("lines is {value:?}: 1 to {LINES_MAX} it is")),
                )?;
            }
            _ => return Err(Problem::parameter(format!("{key:?} is no parameter here"))),
        }
    }
    Ok(action)
}

/// A service's name needs no decoding: it has plain letters only.
fn name(value: &str) -> Result<ServiceName, Problem> {
    ServiceName::try_from(value.to_owned())
        .map_err(|error| Problem::parameter(format!("service is {value:?}: {error}")))
}

#[cfg(test)]
mod test {
    use super::*;

    fn get(target: &str, query: &str) -> Result<Action, u16> {
        route(&Method::GET, target, Some(query)).map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn every_path_leads_somewhere_by_its_method_only() {
        let table = [
            (Method::GET, path::HEALTH, Action::Health),
            (Method::GET, path::NODE, Action::Node),
            (Method::POST, path::POWEROFF, Action::Poweroff),
            (Method::POST, path::REBOOT, Action::Reboot),
            (Method::GET, path::STORE, Action::Store),
            (Method::GET, path::ZONES, Action::Zoned),
            (Method::GET, path::METRICS, Action::Metrics),
        ];
        for (method, path, action) in table {
            assert_eq!(route(&method, path, None), Ok(action));
            let other = if method == Method::GET { Method::POST } else { Method::GET };
            assert_eq!(route(&other, path, None).unwrap_err().status.as_u16(), 405);
        }
    }

    #[test]
    fn nothing_that_ends_the_node_is_done_by_get_or_head() {
        for method in [Method::GET, Method::HEAD] {
            assert!(route(&method, path::POWEROFF, None).is_err());
        }
    }

    #[test]
    fn logs_take_a_service_and_a_number() {
        let service = ServiceName::try_from("storaged".to_owned()).unwrap();
        let want = Action::Logs { service: Some(service), lines: 7 };
        assert_eq!(get(path::LOGS, "service=storaged&lines=7"), Ok(want));
        assert_eq!(get(path::LOGS, ""), Ok(Action::Logs { service: None, lines: LINES_DEFAULT }));
    }

    #[test]
    fn wrong_parameters_are_400() {
        for query in ["lines=0", "lines=5001", "lines=x", "service=../x", "colour=1", "lines"] {
            assert_eq!(get(path::LOGS, query), Err(400), "{query}");
        }
        assert_eq!(get(path::NODE, "x=1"), Err(400));
    }

    #[test]
    fn other_paths_are_404() {
        for target in ["/", "/v1", "/v1/node/", "/v2/node", "//v1/node", "/v1/node/../store"] {
            assert_eq!(get(target, ""), Err(404), "{target}");
        }
    }
}
