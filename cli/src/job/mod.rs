//! `mobula job …`: making jobs, following them, showing what came of them.

mod follow;
mod inputs;
mod spec;

use crate::args::{Job, Run};
use crate::config::Settings;
use crate::failure::Failure;
use crate::http::Http;
use crate::manta::Manta;
use crate::output::{Screen, many, plain};
use crate::s3::S3;
use crate::transfer::{self, Sink};
use serde_json::json;
use std::io::Read;
use std::ops::ControlFlow;
use wire::job::{JobError, JobId, JobSpec, JobState, JobView};

/// The most bytes of a task's standard error that are shown; the rest is in its object.
const STDERR_BYTES_MAX: u64 = 64 * 1024;
/// The most errors shown at the end of a run: a screenful; the first ones tell the most.
const ERRORS_SHOWN_MAX: usize = 20;
/// The code of a task that was not run, or stopped, because its job was cancelled.
const CANCELLED: &str = "JobCancelledError";

/// Does what a `job` command asks.
pub fn run(
    http: &Http,
    settings: &Settings,
    screen: &Screen,
    command: Job,
    matches: &clap::ArgMatches,
) -> Result<(), Failure> {
    let manta = Manta::new(http, settings)?;
    match command {
        Job::Run(run) => {
            let s3 = S3::new(http, settings)?;
            let matches = matches.subcommand_matches("job");
            let matches = matches.and_then(|job| job.subcommand_matches("run"));
            let flags = spec::flags(&run, matches.expect("this is `job run`"));
            start(&manta, &s3, screen, *run, flags)
        }
        Job::List { running } => list(&manta, screen, running),
        Job::Get { job } => show(screen, &manta.status(job)?),
        Job::Wait { job } => wait(&manta, screen, job),
        Job::Errors { job } => errors(&manta, screen, job),
        Job::Outputs { job, cat } => {
            if cat {
                contents(&manta, screen, &collect(&manta, job, "out")?)
            } else {
                print_names(&manta, screen, job, "out")
            }
        }
        Job::Inputs { job } => print_names(&manta, screen, job, "in"),
        Job::Cancel { job } => {
            manta.cancel(job)?;
            if screen.json { screen.value(&json!({ "cancelled": job })) } else { Ok(()) }
        }
    }
}

fn start(
    manta: &Manta<'_>,
    s3: &S3<'_>,
    screen: &Screen,
    run: Run,
    flags: Vec<spec::Flag>,
) -> Result<(), Failure> {
    let phases = spec::phases(flags, manta.account)?;
    let spec = JobSpec { name: run.name, phases };
    spec.check().map_err(|error| Failure::Usage(error.to_string()))?;
    let (job, count) = inputs::submit(manta, s3, screen, &spec, &run.inputs)?;
    if run.no_wait {
        return if screen.json {
            screen.value(&json!({ "job": job, "inputs": count }))
        } else {
            screen.line(&job.to_string())
        };
    }
    let inputs = many(count, "input");
    screen.note(&format!("job {job}, {inputs} (`mobula job cancel {job}` stops it)"));
    wait(manta, screen, job)
}

/// Follows a job to its end and shows its outputs, and its errors.
fn wait(manta: &Manta<'_>, screen: &Screen, job: JobId) -> Result<(), Failure> {
    let view = follow::until_done(manta, screen, job)?;
    let outputs = collect(manta, job, "out")?;
    let wrong = if view.stats.errors > 0 { first_errors(manta, job)? } else { Vec::new() };
    if screen.json {
        screen.value(&json!({ "job": view, "outputs": outputs, "errors": wrong }))?;
    } else {
        contents(manta, screen, &outputs)?;
        // That a cancelled task was cancelled is no news.
        for error in wrong.iter().filter(|error| error.code != CANCELLED) {
            screen.note(told(manta, error).trim_end());
        }
        let more = view.stats.errors.saturating_sub(wrong.len() as u64);
        if more > 0 && !view.cancelled {
            screen.note(&format!("… and {more} more errors: `mobula job errors {job}`"));
        }
        screen.note(&follow::summary(&view));
    }
    let job = job.to_string();
    match view.stats.errors {
        _ if view.cancelled => Err(Failure::Cancelled { job }),
        0 => Ok(()),
        errors => Err(Failure::Job { job, errors }),
    }
}

/// The errors that are shown at the end of a run; `job errors` shows all.
fn first_errors(manta: &Manta<'_>, job: JobId) -> Result<Vec<JobError>, Failure> {
    let mut errors = Vec::new();
    manta.each_error(job, |error| {
        errors.push(error);
        let full = errors.len() == ERRORS_SHOWN_MAX;
        Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(errors)
}

/// Prints the bytes of objects, one after another.
fn contents(manta: &Manta<'_>, screen: &Screen, names: &[String]) -> Result<(), Failure> {
    for name in names {
        let bar = screen.stdout_bar(name);
        let open = |from, etag: Option<&str>| manta.get(name, from, etag);
        let mut sink = Sink { writer: &mut std::io::stdout().lock(), file: None };
        transfer::fetch(name, &open, &mut sink, &bar)?;
        bar.finish_and_clear();
    }
    Ok(())
}

fn collect(manta: &Manta<'_>, job: JobId, which: &str) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    manta.each_name(job, which, |name| {
        names.push(name.to_owned());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(names)
}

fn print_names(manta: &Manta<'_>, screen: &Screen, job: JobId, which: &str) -> Result<(), Failure> {
    manta.each_name(job, which, |name| {
        if screen.json {
            screen.value(&json!({ "name": name }))?;
        } else {
            screen.line(&plain(name))?;
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn list(manta: &Manta<'_>, screen: &Screen, running: bool) -> Result<(), Failure> {
    for row in manta.jobs(running)? {
        let job = row.name.parse::<JobId>().map_err(|error| Failure::Nonsense {
            what: "list jobs".to_owned(),
            why: format!("{:?} is no job: {error}", row.name),
        })?;
        match manta.status(job) {
            Ok(view) if screen.json => screen.value(&view)?,
            Ok(view) => screen.line(&line(&view))?,
            // Gone between the listing and now.
            Err(Failure::Refused { status: 404, .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn state(view: &JobView) -> &'static str {
    match view.state {
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Done if view.cancelled => "cancelled",
        JobState::Done => "done",
    }
}

/// A job on one line.
fn line(view: &JobView) -> String {
    let stats = &view.stats;
    let name = plain(&view.name);
    format!(
        "{}  {:9}  {}  {}/{} tasks  {}  {name}",
        view.id,
        state(view),
        view.time_created,
        stats.tasks_done,
        stats.tasks,
        many(stats.errors, "error")
    )
    .trim_end()
    .to_owned()
}

fn show(screen: &Screen, view: &JobView) -> Result<(), Failure> {
    if screen.json {
        return screen.value(view);
    }
    let stats = &view.stats;
    let mut text = format!("job      {}\n", view.id);
    if !view.name.is_empty() {
        text.push_str(&format!("name     {}\n", plain(&view.name)));
    }
    let input = if view.input_done { "input ended" } else { "input open" };
    text.push_str(&format!("state    {}, {input}\n", state(view)));
    text.push_str(&format!("made     {}\n", view.time_created));
    if let Some(done) = &view.time_done {
        text.push_str(&format!("done     {done}\n"));
    }
    text.push_str(&format!(
        "tasks    {} of {} over, {} retried\noutputs  {}\nerrors   {}\n",
        stats.tasks_done, stats.tasks, stats.retries, stats.outputs, stats.errors
    ));
    if let Some(why) = &view.waits {
        text.push_str(&format!("waits    for the node: {}\n", plain(why)));
    }
    for (number, phase) in view.phases.iter().enumerate() {
        let kind = match phase.kind {
            wire::job::PhaseKind::Map => "map".to_owned(),
            wire::job::PhaseKind::Reduce => format!("reduce ×{}", phase.reducers()),
        };
        let (memory, exec) = (phase.memory_mib(), plain(&phase.exec));
        text.push_str(&format!("phase {number}  {kind}, {memory} MiB: {exec}\n"));
    }
    screen.bytes(text.as_bytes())
}

/// `mobula job errors`: each error with the task's own words, on standard output.
fn errors(manta: &Manta<'_>, screen: &Screen, job: JobId) -> Result<(), Failure> {
    manta.each_error(job, |error| {
        if screen.json {
            let said = error.stderr.as_ref().map(|name| said(manta, name));
            screen.value(&json!({ "error": error, "stderr_text": said }))?;
        } else {
            screen.bytes(told(manta, &error).as_bytes())?;
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// An error and what its task wrote on standard error.
fn told(manta: &Manta<'_>, error: &JobError) -> String {
    let mut text =
        format!("{}: {} ({})\n", plain(&error.what), plain(&error.message), plain(&error.code));
    if let Some(name) = &error.stderr {
        for line in said(manta, name).lines() {
            text.push_str(&format!("  | {}\n", plain(line)));
        }
    }
    text
}

/// What a task wrote on standard error, or why that cannot be had: the error itself matters more.
fn said(manta: &Manta<'_>, name: &str) -> String {
    let mut bytes = Vec::new();
    let answer = manta.get(name, 0, None);
    let read = answer.map(|answer| {
        answer.into_body().into_reader().take(STDERR_BYTES_MAX).read_to_end(&mut bytes)
    });
    match read {
        Ok(Ok(_)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(Err(error)) => format!("(its standard error, {name}, cannot be read: {error})"),
        Err(failure) => format!("(its standard error cannot be had: {})", failure.chain()),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_cancelled_job_says_so_on_its_line() {
        let view: JobView = serde_json::from_str(
            r#"{"id":"8d6e8c43-3e9c-4a3e-8b5e-9d9a2a5b7c11","name":"n","state":"done",
            "cancelled":true,"inputDone":true,"stats":{"errors":1,"outputs":0,"retries":0,
            "tasks":3,"tasksDone":3},"timeCreated":"2026-11-22T08:00:00.000Z","phases":[]}"#,
        )
        .unwrap();
        let want = "8d6e8c43-3e9c-4a3e-8b5e-9d9a2a5b7c11  cancelled  2026-11-22T08:00:00.000Z  \
                    3/3 tasks  1 error  n";
        assert_eq!(line(&view), want);
    }
}
