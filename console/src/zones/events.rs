//! What happened to zones, a line each; over a restart of zoned too.

use super::{ask, line, stray};
use crate::answer::{Answer, lines};
use crate::body::Page;
use crate::daemon::{Daemon, Link};
use crate::problem::Problem;
use crate::serve::Context;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc::Sender, watch};
use tokio::time::{Instant, sleep, timeout};
use wire::standing::{Event, ZonePush, ZoneReply, ZoneRequest};
use wire::zone;

/// How long zoned may be away before whoever follows is told: as long as it takes to be started again.
pub const AWAY_MAX: Duration = Duration::from_secs(30);
/// The wait between two attempts to find it again.
pub const AWAY_PAUSE: Duration = Duration::from_millis(500);
/// How long nothing comes before zoned is asked whether there is more.
const QUIET: Duration = Duration::from_millis(30);

/// Answers with the events after a number, and goes on if asked to.
pub async fn tell(
    mut link: Link,
    after: u64,
    follow: bool,
    context: &Context,
) -> Result<Answer, Problem> {
    let place = context.follower()?;
    watch_from(&mut link, after).await?;
    let (out, page) = Page::stream(place);
    let (run, stopping) = (context.options.run.clone(), context.stopping.clone());
    if follow {
        context.lasts();
        tokio::spawn(go_on(link, after, out, run, stopping));
    } else {
        let known = known(&mut link, after).await?;
        tokio::spawn(async move {
            // Whoever no longer reads has no use for the rest.
            drop(out.send(known).await);
        });
    }
    Ok(lines(page))
}

async fn watch_from(link: &mut Link, after: u64) -> Result<(), Problem> {
    match ask(link, ZoneRequest::Watch { after }).await? {
        (ZoneReply::Done, _) => Ok(()),
        (other, _) => Err(stray(&other)),
    }
}

/// All events that zoned remembers. It sends them in its own time, a few messages between two answers: they
/// have all come when another answer brings none.
async fn known(link: &mut Link, mut after: u64) -> Result<Bytes, Problem> {
    let mut text = Vec::new();
    loop {
        let before = after;
        while let Ok(push) = timeout(QUIET, link.news::<ZonePush>()).await {
            for event in fresh(push?, &mut after) {
                text.extend_from_slice(&line(&event));
            }
        }
        let (_, _): (zone::Reply, _) = link.ask(&zone::Request::Status).await?;
        while let Some(push) = link.heard::<ZonePush>()? {
            for event in fresh(push, &mut after) {
                text.extend_from_slice(&line(&event));
            }
        }
        if after == before {
            return Ok(text.into());
        }
    }
}

/// The events that have not been told yet: none is told twice, whatever zoned sends.
fn fresh(push: ZonePush, told: &mut u64) -> Vec<Event> {
    let ZonePush::Events(mut events) = push else { return Vec::new() };
    events.retain(|event| {
        let is_new = event.number > *told;
        *told = event.number.max(*told);
        is_new
    });
    events
}

async fn go_on(
    mut link: Link,
    mut told: u64,
    out: Sender<Bytes>,
    run: PathBuf,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let news = tokio::select! {
            news = link.news::<ZonePush>() => news,
            () = out.closed() => return,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let told_now = match news {
            Ok(push) => {
                let mut text = Vec::new();
                for event in fresh(push, &mut told) {
                    text.extend_from_slice(&line(&event));
                }
                out.send(text.into()).await
            }
            Err(_) => match again(&run, told, &out).await {
                Some(Ok(found)) => {
                    link = found;
                    Ok(())
                }
                Some(Err(problem)) => {
                    // The last line says why it is the last; if nobody reads it, nobody asks.
                    drop(out.send(line(&problem.words())).await);
                    return;
                }
                None => return,
            },
        };
        if told_now.is_err() {
            return;
        }
    }
}

/// A new connection, on which events go on after the last one told; nothing if nobody reads any more.
async fn again(run: &Path, told: u64, out: &Sender<Bytes>) -> Option<Result<Link, Problem>> {
    let begun = Instant::now();
    loop {
        let found = async {
            let mut link = Link::open(Daemon::Zoned, run).await?;
            watch_from(&mut link, told).await?;
            Ok(link)
        };
        match found.await {
            Ok(link) => return Some(Ok(link)),
            Err(problem) if begun.elapsed() > AWAY_MAX => return Some(Err(problem)),
            Err(_) => sleep(AWAY_PAUSE).await,
        }
        if out.is_closed() {
            return None;
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use wire::standing::{Subject, What};

    fn event(number: u64) -> Event {
        Event { number, at_unix_ms: 0, subject: Subject::Node, what: What::Released }
    }

    #[test]
    fn no_event_is_told_twice() {
        let mut told = 2;
        let events =
            fresh(ZonePush::Events(vec![event(1), event(3), event(3), event(4)]), &mut told);
        let numbers: Vec<_> = events.iter().map(|event| event.number).collect();
        assert_eq!((numbers, told), (vec![3, 4], 4));
    }
}
