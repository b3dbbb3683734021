//! `mobula zone …`: standing zones, over the admin API.

pub mod args;
mod session;
pub mod show;
mod spec;
mod top;
mod wait;
pub mod words;

pub use session::NOT_RUN;
pub use spec::place;

use crate::admin::{Admin, Flow};
use crate::config::Settings;
use crate::failure::Failure;
use crate::http::Http;
use crate::output::{Screen, plain};
use args::{Create, Logs, Which, Zone};
use serde::Serialize;
use std::hash::{BuildHasher, RandomState};
use wire::admin::{
    Deleted, Limits, LogLine, Usage, Why, ZoneUsage, Zones, path, zone_path as path_of,
};
use wire::carve::Limit;
use wire::standing::{Event, Published, Stats, ZoneName, ZoneState, ZoneView};

/// Does what a `zone` command asks; gives the exit status of a command that was run in a zone.
pub fn run(
    http: &Http,
    settings: &Settings,
    screen: &Screen,
    command: &Zone,
) -> Result<u8, Failure> {
    let admin = &Admin::new(http, settings)?;
    match command {
        Zone::Login { env, zone } => return session::login(admin, screen, zone, env),
        Zone::Exec(exec) => return session::exec(admin, screen, exec),
        Zone::Create(new) if new.dry_run => {
            screen.value(&spec::spec(new, settings.account()?, random())?)
        }
        Zone::Create(new) => create(admin, screen, new, settings.account()?),
        Zone::List => list(admin, screen),
        Zone::Get { zone } => {
            let view = view(admin, zone)?;
            one(screen, &view, show::zone)
        }
        Zone::Logs(logs) => log(admin, screen, logs),
        Zone::Top(options) => top::run(admin, screen, options),
        Zone::Stats { zone } => stats(admin, screen, zone.as_ref()),
        Zone::Events { follow, after } => events(admin, screen, *follow, *after),
        Zone::Update { zone, limits, allow } => {
            update(admin, screen, zone, &spec::update(limits, allow)?)
        }
        Zone::Pause(which) => {
            each(admin, screen, which, "pause", "", |view| wait::is(view, ZoneState::Paused))
        }
        Zone::Resume(which) => {
            each(admin, screen, which, "resume", "", |view| wait::is(view, ZoneState::Running))
        }
        Zone::Stop { timeout, which } => {
            let query = format!("?timeout_s={timeout}");
            each(admin, screen, which, "stop", &query, wait::stopped)
        }
        Zone::Start(which) => each(admin, screen, which, "start", "", wait::started),
        Zone::Delete { zones } => delete(admin, screen, zones),
        Zone::Why { zone } => {
            let what = format!("ask about {zone}");
            let why: Why = admin.ask(&what, "GET", path_of(zone, "why"))?;
            one(screen, &why, |why| show::reasons(&why.reasons))
        }
        Zone::Limits { zone } => {
            let limits = limits_of(admin, zone)?;
            one(screen, &limits, |limits| show::limits(&limits.limits))
        }
        Zone::Publish { zone } => publish(admin, screen, zone),
    }?;
    Ok(0)
}

/// One document, or what it says in words.
fn one<T: Serialize>(
    screen: &Screen,
    value: &T,
    words: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    if screen.json { screen.value(value) } else { screen.bytes(words(value).as_bytes()) }
}

fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

fn view(admin: &Admin<'_>, zone: &ZoneName) -> Result<ZoneView, Failure> {
    admin.ask(&format!("look at {zone}"), "GET", path_of(zone, ""))
}

fn limits_of(admin: &Admin<'_>, zone: &ZoneName) -> Result<Limits, Failure> {
    admin.ask(&format!("look at the limits of {zone}"), "GET", path_of(zone, "limits"))
}

fn create(admin: &Admin<'_>, screen: &Screen, new: &Create, account: &str) -> Result<(), Failure> {
    let spec = spec::spec(new, account, random())?;
    let what = format!("create {}", spec.name);
    let mut made: ZoneView = admin.tell(&what, "POST", path::STANDING.to_owned(), &spec)?;
    if !new.no_wait {
        made = wait::until(admin, screen, made, wait::started)?;
    }
    one(screen, &made, |made| format!("{}\n", made.summary.name))
}

fn list(admin: &Admin<'_>, screen: &Screen) -> Result<(), Failure> {
    let list: Zones = admin.ask("list zones", "GET", path::STANDING.to_owned())?;
    if screen.json {
        return list.zones.iter().try_for_each(|zone| screen.value(zone));
    }
    screen.bytes(show::list(&list.zones).as_bytes())
}

fn log(admin: &Admin<'_>, screen: &Screen, logs: &Logs) -> Result<(), Failure> {
    let Logs { follow, lines, raw, zone } = logs;
    let lines = lines.map(|lines| format!("&lines={lines}")).unwrap_or_default();
    let target = format!("{}?follow={follow}{lines}", path_of(zone, "logs"));
    let mut begun = false;
    admin.lines(&format!("read the log of {zone}"), target, |line: LogLine| {
        if screen.json {
            screen.value(&line)?;
            return Ok(Flow::More);
        }
        let text = if *raw { line.text } else { plain(&line.text) };
        begun = line.cut;
        screen.bytes(format!("{text}{}", if line.cut { "" } else { "\n" }).as_bytes())?;
        Ok(Flow::More)
    })?;
    if begun { screen.line("") } else { Ok(()) }
}

fn stats(admin: &Admin<'_>, screen: &Screen, zone: Option<&ZoneName>) -> Result<(), Failure> {
    let Some(zone) = zone else {
        let all: Usage = admin.ask("look at all zones", "GET", path::USAGE.to_owned())?;
        for ZoneUsage { zone, stats } in &all.zones {
            match screen.json {
                true => screen.value(&ZoneUsage { zone: zone.clone(), stats: stats.clone() })?,
                false => screen.line(&format!("{}:\n{}", zone.name, show::stats(stats)))?,
            }
        }
        return Ok(());
    };
    let what = format!("look at what {zone} uses");
    let stats: Stats = admin.ask(&what, "GET", path_of(zone, "stats"))?;
    one(screen, &stats, show::stats)
}

fn events(admin: &Admin<'_>, screen: &Screen, follow: bool, after: u64) -> Result<(), Failure> {
    let target = format!("{}?after={after}&follow={follow}", path::EVENTS);
    admin.lines("follow what happens", target, |event: Event| {
        match screen.json {
            true => screen.value(&event)?,
            false => screen.line(&show::event(&event))?,
        }
        Ok(Flow::More)
    })
}

/// What changed, with the value before.
#[derive(Serialize)]
pub struct Changed<'a> {
    /// Which limit.
    pub name: &'a str,
    /// What was in force.
    pub before: Option<&'a str>,
    /// What was asked for.
    pub asked: &'a str,
    /// What is in force.
    pub got: &'a str,
}

fn update(
    admin: &Admin<'_>,
    screen: &Screen,
    zone: &ZoneName,
    change: &wire::carve::CarveChange,
) -> Result<(), Failure> {
    if *change == wire::carve::CarveChange::default() {
        let message = "nothing is to be changed: `mobula zone update --help` lists the limits";
        return Err(Failure::Usage(message.to_owned()));
    }
    let before = limits_of(admin, zone)?.limits;
    let what = format!("update {zone}");
    let after: Limits = admin.tell(&what, "PATCH", path_of(zone, ""), change)?;
    let old = |limit: &Limit| before.iter().find(|old| old.name == limit.name);
    for limit in &after.limits {
        let before = old(limit);
        if before.is_some_and(|before| before == limit) {
            continue;
        }
        let before = before.map(|before| before.got.as_str());
        let Limit { name, asked, got } = limit;
        match screen.json {
            true => screen.value(&Changed { name, before, asked, got })?,
            false => screen.line(&show::change(limit, before))?,
        }
    }
    Ok(())
}

/// Does one thing to several zones, the next also if one fails.
fn each(
    admin: &Admin<'_>,
    screen: &Screen,
    which: &Which,
    act: &str,
    query: &str,
    done: fn(&ZoneView) -> wait::Found,
) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for zone in &which.zones {
        let target = format!("{}{query}", path_of(zone, act));
        let asked = admin.ask(&format!("{act} {zone}"), "POST", target);
        let outcome = asked.and_then(|view: ZoneView| match which.no_wait {
            true => Ok(view),
            false => wait::until(admin, screen, view, done),
        });
        match outcome {
            Ok(view) => one(screen, &view, |view| show::brief(&view.summary))?,
            Err(failure) => failures.push(failure),
        }
    }
    Failure::summary(failures, which.zones.len(), "zones", |failure| screen.report(failure))
}

fn delete(admin: &Admin<'_>, screen: &Screen, zones: &[ZoneName]) -> Result<(), Failure> {
    let mut failures = Vec::new();
    // All are asked for before one is waited for: they go side by side.
    let ask = |zone| admin.ask(&format!("delete {zone}"), "DELETE", path_of(zone, ""));
    let asked: Vec<Result<Deleted, Failure>> = zones.iter().map(ask).collect();
    for (zone, asked) in zones.iter().zip(asked) {
        match asked.and_then(|deleted| wait::gone(admin, zone).map(|()| deleted)) {
            Ok(deleted) => one(screen, &deleted, |_| format!("{zone} is deleted\n"))?,
            Err(failure) => failures.push(failure),
        }
    }
    Failure::summary(failures, zones.len(), "zones", |failure| screen.report(failure))
}

fn publish(admin: &Admin<'_>, screen: &Screen, zone: &ZoneName) -> Result<(), Failure> {
    let what = format!("publish {zone}");
    let published: Published = admin.ask(&what, "POST", path_of(zone, "publish"))?;
    one(screen, &published, show::published)?;
    match published.refused_count {
        0 => Ok(()),
        refused => Err(Failure::Zone(format!(
            "{what}: {refused} of {} files were not taken",
            refused + published.objects
        ))),
    }
}
