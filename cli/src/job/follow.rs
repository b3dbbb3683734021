//! Waiting for a job, with a bar, through restarts of the service.

use super::state;
use crate::failure::{Exit, Failure};
use crate::manta::Manta;
use crate::output::{Screen, many};
use std::time::{Duration, Instant};
use wire::job::{JobId, JobState, JobView};

/// The first wait between two looks at a job: short jobs are over by then.
const LOOK_FIRST: Duration = Duration::from_millis(100);
/// The longest wait between two looks.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// How long the service may be away before the wait is given up: a node's reboot fits. The job itself
/// goes on in any case.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// Looks at a job until it is done.
pub fn until_done(manta: &Manta<'_>, screen: &Screen, job: JobId) -> Result<JobView, Failure> {
    let bar = screen.count_bar(0, "job");
    let mut wait = LOOK_FIRST;
    let mut away: Option<Instant> = None;
    loop {
        match manta.status(job) {
            Ok(view) => {
                if away.take().is_some() {
                    screen.note("the service is back");
                }
                bar.set_length(view.stats.tasks);
                bar.set_position(view.stats.tasks_done);
                bar.set_message(message(&view));
                if view.state == JobState::Done {
                    bar.finish_and_clear();
                    return Ok(view);
                }
            }
            Err(failure) => {
                let since = *away.get_or_insert_with(|| {
                    screen.note(&format!("{}; waiting for it", failure.chain()));
                    Instant::now()
                });
                if failure.exit() != Exit::Unreachable || since.elapsed() > AWAY_MAX {
                    bar.finish_and_clear();
                    return Err(failure);
                }
            }
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(LOOK_MAX);
    }
}

/// What stands before the bar.
fn message(view: &JobView) -> String {
    let stats = &view.stats;
    let errors = match stats.errors {
        0 => String::new(),
        errors => format!(", {}", many(errors, "error")),
    };
    let waits = if view.waits.is_some() { ", waits for the node" } else { "" };
    format!("{}{errors}{waits}, tasks", state(view))
}

/// How it went, for a person.
pub fn summary(view: &JobView) -> String {
    let stats = &view.stats;
    let many =
        |count: u64, thing: &str| format!("{count} {thing}{}", if count == 1 { "" } else { "s" });
    format!(
        "job {} {}: {}, {}, {}",
        view.id,
        state(view),
        many(stats.tasks_done, "task"),
        many(stats.outputs, "output"),
        many(stats.errors, "error")
    )
}
