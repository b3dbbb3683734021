//! The latest lines of one service, or of all of them in the order of time.
//!
//! init keeps a log for each service and gives it from a line number on, in pages; what is wanted is the
//! end of it.

use crate::daemon::{Daemon, ask};
use crate::problem::Problem;
use std::collections::VecDeque;
use std::path::Path;
use wire::admin::{Line, Logs};
use wire::node::{INIT, LogPage, NodeReply, NodeRequest, NodeStatus};
use wire::service::ServiceName;

/// The most pages that are read of one service's log: far more than init keeps, so that a log that grows
/// as it is read comes to an end.
const PAGES_MAX: usize = 512;

/// Reads the last `lines` lines of `service`, or of all services.
pub async fn latest(run: &Path, service: Option<ServiceName>, lines: u32) -> Result<Logs, Problem> {
    let lines = usize::try_from(lines).unwrap_or(usize::MAX);
    let services = match service {
        Some(service) => vec![service],
        None => all(&crate::node::status(run).await?),
    };
    let mut found = Vec::new();
    for service in services {
        found.extend(of(run, &service, lines).await?);
    }
    Ok(Logs { lines: merge(found, lines) })
}

/// Every name under which init keeps a log.
fn all(status: &NodeStatus) -> Vec<ServiceName> {
    let init = ServiceName::try_from(INIT.to_owned()).ok();
    init.into_iter().chain(status.services.iter().map(|service| service.name.clone())).collect()
}

/// The last `most` lines of one service.
async fn of(run: &Path, service: &ServiceName, most: usize) -> Result<VecDeque<Line>, Problem> {
    let mut kept = VecDeque::new();
    let mut from = 0;
    for _ in 0..PAGES_MAX {
        let page = page(run, service, from).await?;
        if page.lines.is_empty() || page.next <= from {
            break;
        }
        from = page.next;
        for line in page.lines {
            if kept.len() == most {
                kept.pop_front();
            }
            let service = service.to_string();
            kept.push_back(Line { service, at_ms: line.at_ms, text: line.text });
        }
    }
    Ok(kept)
}

async fn page(run: &Path, service: &ServiceName, from: u64) -> Result<LogPage, Problem> {
    let request = NodeRequest::Logs { service: service.clone(), from };
    match ask(Daemon::Init, run, &request).await? {
        NodeReply::Logs(page) => Ok(page),
        other => Err(Problem::nonsense(Daemon::Init, &format!("no log but {other:?}"))),
    }
}

/// The last `most` lines by time; lines of the same moment stay in their order.
fn merge(mut lines: Vec<Line>, most: usize) -> Vec<Line> {
    lines.sort_by_key(|line| line.at_ms);
    let surplus = lines.len().saturating_sub(most);
    lines.split_off(surplus)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_latest_lines_of_all_stand_in_the_order_of_time() {
        let line = |service: &str, at_ms, text: &str| Line {
            service: service.to_owned(),
            at_ms,
            text: text.to_owned(),
        };
        let lines =
            vec![line("a", 1, "old"), line("a", 5, "x"), line("b", 3, "y"), line("b", 5, "z")];
        let texts: Vec<_> = merge(lines, 3).into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["y", "x", "z"]);
    }
}
