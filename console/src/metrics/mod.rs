//! All numbers of the node for Prometheus: what init and zoned say, and what storaged itself tells on a port
//! that only this machine reaches.
//!
//! A daemon that is away hides nothing of the others: `mobula_up` says which one it is.

mod store;
mod text;

use crate::accounts;
use crate::daemon::{Daemon, Link, ask};
use crate::node;
use crate::problem::Problem;
use crate::zones;
use crate::{Options, answer};
use std::path::Path;
use text::{SERIES_MAX, Text};
use wire::account::AccountSummary;
use wire::standing::{Stats, ZoneReply, ZoneRequest, ZoneState, ZoneSummary};
use wire::zone::{self, ZonedStatus};

/// What zoned knows.
struct OfZoned {
    status: ZonedStatus,
    zones: Vec<ZoneSummary>,
    used: Vec<(ZoneSummary, Stats)>,
    zones_left_out: usize,
    accounts: Vec<AccountSummary>,
    accounts_left_out: usize,
}

/// Everything, as text.
pub async fn tell(options: &Options) -> answer::Answer {
    let node = node::status(&options.run).await;
    let zoned = of_zoned(&options.run).await;
    let store = store::scrape(options.store_metrics).await;
    let mut text = Text::default();
    for (daemon, why) in [
        (Daemon::Init, node.as_ref().err().map(|problem| problem.message.clone())),
        (Daemon::Zoned, zoned.as_ref().err().map(|problem| problem.message.clone())),
        (Daemon::Storaged, store.as_ref().err().map(ToString::to_string)),
    ] {
        if let Some(why) = why {
            eprintln!("consoled: no numbers of {}: {why}", daemon.name());
        }
    }
    let up = [("init", node.is_ok()), ("storaged", store.is_ok()), ("zoned", zoned.is_ok())];
    text::up(&mut text, &up);
    if let Ok(node) = &node {
        text::node(&mut text, node);
    }
    if let Ok(zoned) = &zoned {
        text::zoned(&mut text, &zoned.status);
        text::zones(&mut text, &zoned.zones, &zoned.used, zoned.zones_left_out);
        text::accounts(&mut text, &zoned.accounts, zoned.accounts_left_out);
    }
    answer::numbers(text.finish(store.as_deref().unwrap_or_default()))
}

async fn of_zoned(run: &Path) -> Result<OfZoned, Problem> {
    let status = match ask(Daemon::Zoned, run, &zone::Request::Status).await? {
        zone::Reply::Status(status) => status,
        other => return Err(zones::stray(&other)),
    };
    let mut link = Link::open(Daemon::Zoned, run).await?;
    let mut zones = zones::all(&mut link).await?;
    let zones_left_out = zones.len().saturating_sub(SERIES_MAX);
    zones.truncate(SERIES_MAX);
    let mut used = Vec::new();
    for zone in &zones {
        if !matches!(zone.state, ZoneState::Running | ZoneState::Paused) {
            continue;
        }
        match zones::ask(&mut link, ZoneRequest::Stats(zone.name.clone())).await {
            Ok((ZoneReply::Stats(stats), _)) => used.push((zone.clone(), *stats)),
            Ok((other, _)) => return Err(zones::stray(&other)),
            // It went in between.
            Err(problem) if problem.is_refusal() => {}
            Err(problem) => return Err(problem),
        }
    }
    let mut accounts = accounts::all(&mut link).await?;
    let accounts_left_out = accounts.len().saturating_sub(SERIES_MAX);
    accounts.truncate(SERIES_MAX);
    Ok(OfZoned { status, zones, used, zones_left_out, accounts, accounts_left_out })
}
