//! Jobs from end to end on this machine: a real store in a temporary directory, the wire, and a zoned
//! without zones.

mod fake_zoned;
mod house;
mod staged;

use super::{Wire, WireServer};
use crate::committer::wait;
use crate::jobs::{JobFilter, JobsError};
use crate::prefetch::Prefetcher;
use crate::store::{AccountId, Area, BucketRecord, Deleter, ObjectPath, Txn, Versioning};
use fake_zoned::FakeZoned;
use house::House;
use std::io::Write;
use wire::job::{JobId, JobState};
use wire::task::{Ending, Request, Settled};

#[test]
fn two_maps_and_a_reduce_give_what_the_pipeline_gives_and_leave_nothing_else() {
    let house = House::new();
    let mut zoned = house.zoned();
    house.put("b/one", b"pear\napple\nfig\n");
    house.put("b/two", "apple\n".repeat(5000).as_bytes());
    let job = house.create(
        r#"{"name":"sort","phases":[{"exec":"grep -v fig"},{"exec":"tr a-z A-Z"},
            {"type":"reduce","exec":"sort | uniq -c | awk '{print $2, $1}'"}]}"#,
    );
    house.add(job, &["/ann/stor/b/one", "/ann/stor/b/two"]);
    house.end(job);
    let view = house.run(&mut zoned, job);
    assert_eq!((view.stats.tasks, view.stats.tasks_done, view.stats.errors), (5, 5, 0));
    assert_eq!(view.stats.outputs, 1);
    let outputs = house.outputs(job);
    assert!(outputs[0].starts_with(&format!("/ann/jobs/{job}/stor/reduce.2.")), "{outputs:?}");
    assert_eq!(house.read(&outputs[0]).unwrap(), b"APPLE 5001\nPEAR 1\n");
    assert_eq!(house.left().len(), 1, "{:?}", house.left());
}

#[test]
fn a_map_is_named_after_its_input_and_sees_mantas_environment() {
    let house = House::new();
    let mut zoned = house.zoned();
    house.put("b/k", b"x");
    let job =
        house.create(r#"{"phases":[{"exec":"echo $MANTA_INPUT_OBJECT $MANTA_OUTPUT_BASE"}]}"#);
    house.add(job, &["/ann/stor/b/k"]);
    house.end(job);
    house.run(&mut zoned, job);
    let name = house.outputs(job).remove(0);
    let base = format!("/ann/jobs/{job}/stor/ann/stor/b/k.0.");
    assert!(name.starts_with(&base));
    let expected = format!("/ann/stor/b/k {base}\n");
    assert_eq!(house.read(&name).unwrap(), expected.as_bytes());
}

#[test]
fn what_can_not_be_read_is_an_error_of_its_own_and_stops_nothing_else() {
    let house = House::new();
    let mut zoned = house.zoned();
    house.put("b/k", b"x");
    let job = house.create(r#"{"phases":[{"exec":"cat"}]}"#);
    house.add(
        job,
        &["/ann/stor/b/none", "/bob/stor/b/k", "/ann/stor/b", "nonsense", "/ann/stor/b/k"],
    );
    house.end(job);
    let view = house.run(&mut zoned, job);
    let errors = house.errors(job);
    let codes: Vec<&str> = errors.iter().map(|error| error.code.as_str()).collect();
    let (missing, forbidden) = ("ResourceNotFoundError", "AuthorizationError");
    assert_eq!(codes, [missing, forbidden, "InvalidArgumentError", missing]);
    assert_eq!(errors[0].what, "phase 0: input \"/ann/stor/b/none\"");
    assert_eq!(errors[0].message, "no such object: \"/ann/stor/b/none\"");
    assert_eq!((view.stats.tasks, view.stats.outputs, view.stats.errors), (1, 1, 4));
}

#[test]
fn a_failing_command_is_never_run_again_and_its_stderr_is_kept() {
    let house = House::new();
    let mut zoned = house.zoned();
    house.put("b/k", b"x");
    let job = house.create(r#"{"phases":[{"exec":"echo no such luck >&2; nonsense; exit 3"}]}"#);
    house.add(job, &["/ann/stor/b/k"]);
    house.end(job);
    let view = house.run(&mut zoned, job);
    assert_eq!((view.stats.errors, view.stats.outputs, view.stats.retries), (1, 0, 0));
    let error = house.errors(job).remove(0);
    assert_eq!(error.code, "UserTaskError");
    assert_eq!(error.message, "user command exited with code 3");
    let stderr = error.stderr.unwrap();
    assert!(stderr.contains("b/k.0.err."));
    let text = String::from_utf8(house.read(&stderr).unwrap()).unwrap();
    assert!(text.contains("no such luck") && text.contains("command not found"), "{text}");
    assert_eq!(house.left().len(), 1);
}

#[test]
fn a_reduce_phase_runs_without_any_input_and_as_often_as_it_says() {
    let house = House::new();
    let mut zoned = house.zoned();
    let job = house
        .create(r#"{"phases":[{"type":"reduce","count":3,"exec":"wc -c; echo $MANTA_REDUCER"}]}"#);
    house.end(job);
    let view = house.run(&mut zoned, job);
    assert_eq!((view.stats.tasks, view.stats.outputs), (3, 3));
    let mut found: Vec<Vec<u8>> =
        house.outputs(job).iter().map(|name| house.read(name).unwrap()).collect();
    found.sort();
    assert_eq!(found, [b"0\n0\n", b"0\n1\n", b"0\n2\n"]);
}

#[test]
fn reducers_read_their_inputs_in_order_and_in_pages() {
    let house = House::new();
    let mut zoned = house.zoned();
    let names: Vec<String> = (0..50).map(|n| format!("/ann/stor/b/{n:03}")).collect();
    for n in 0..50 {
        house.put(&format!("b/{n:03}"), format!("{n}\n").as_bytes());
    }
    let job = house.create(r#"{"phases":[{"type":"reduce","count":2,"exec":"tr '\\n' ' '"}]}"#);
    house.add(job, &names.iter().map(String::as_str).collect::<Vec<_>>());
    house.end(job);
    house.run(&mut zoned, job);
    let numbers =
        |first: usize| (first..50).step_by(2).map(|n| format!("{n} ")).collect::<String>();
    let mut found: Vec<Vec<u8>> =
        house.outputs(job).iter().map(|name| house.read(name).unwrap()).collect();
    found.sort();
    assert_eq!(found, [numbers(0).into_bytes(), numbers(1).into_bytes()]);
}

#[test]
fn a_cancelled_job_kills_what_runs_and_settles_what_waits() {
    let house = House::new();
    let mut zoned = house.zoned();
    house.put("b/k", b"x");
    let job = house.create(r#"{"phases":[{"exec":"cat"},{"type":"reduce","exec":"cat"}]}"#);
    house.add(job, &["/ann/stor/b/k"; 5]);
    let running = loop {
        match zoned.claim_any() {
            Some(claimed) => break claimed,
            None => zoned.hear(),
        }
    };
    wait(house.jobs.cancel(house.account, job)).unwrap();
    while !zoned.cancelled.contains(&job) {
        zoned.hear();
    }
    assert!(zoned.claim(job, 0).is_none());
    assert_eq!(zoned.ended(running.task.attempt, Ending::Cancelled), Settled::Discarded);
    let view = house.wait_done(job);
    assert!(view.cancelled && view.input_done);
    assert_eq!((view.stats.tasks_done, view.stats.outputs, view.stats.errors), (6, 0, 6));
    assert!(house.errors(job).iter().all(|error| error.code == "JobCancelledError"));
    assert!(house.left().is_empty());
    let again = wait(house.jobs.cancel(house.account, job));
    assert!(matches!(again, Err(JobsError::Refused(_))));
}

#[test]
fn an_attempt_ends_with_its_connection_and_its_task_runs_again() {
    let house = House::new();
    house.put("b/k", b"again");
    let job = house.create(r#"{"phases":[{"exec":"cat"}]}"#);
    house.add(job, &["/ann/stor/b/k"]);
    house.end(job);
    let mut first = house.zoned();
    while first.claim_any().is_none() {
        first.hear();
    }
    drop(first);
    let mut second = house.zoned();
    let view = house.run(&mut second, job);
    assert_eq!((view.stats.outputs, view.stats.retries, view.stats.tasks), (1, 1, 1));
    assert_eq!(house.read(&house.outputs(job)[0]).unwrap(), b"again");
}

#[test]
fn a_newer_zoned_takes_the_place_of_an_older_one() {
    let house = House::new();
    house.put("b/k", b"x");
    let job = house.create(r#"{"phases":[{"exec":"cat"}]}"#);
    house.add(job, &["/ann/stor/b/k"]);
    house.end(job);
    let mut first = house.zoned();
    let late = loop {
        match first.claim_any() {
            Some(claimed) => break claimed,
            None => first.hear(),
        }
    };
    let mut second = house.zoned();
    let view = house.run(&mut second, job);
    assert_eq!((view.stats.outputs, view.stats.retries), (1, 1));
    assert_eq!(second.ended(late.task.attempt, Ending::Exited { code: 0 }), Settled::Discarded);
}

#[test]
fn a_restart_of_storaged_eats_no_work() {
    let house = House::new();
    house.put("b/k", b"x");
    let job = house.create(r#"{"phases":[{"exec":"cat"},{"type":"reduce","exec":"wc -c"}]}"#);
    house.add(job, &["/ann/stor/b/k"; 4]);
    house.end(job);
    let mut zoned = house.zoned();
    while zoned.claim_any().is_none() {
        zoned.hear();
    }
    let house = house.again();
    let mut zoned = house.zoned();
    let view = house.run(&mut zoned, job);
    assert_eq!((view.stats.errors, view.stats.retries, view.stats.tasks_done), (0, 1, 5));
    assert_eq!(house.read(&house.outputs(job)[0]).unwrap(), b"4\n");
}

#[test]
fn what_the_system_loses_is_tried_twice_more_and_then_given_up() {
    let house = House::new();
    let mut zoned = house.zoned();
    house.put("b/k", b"x");
    let job = house.create(r#"{"phases":[{"exec":"cat"}]}"#);
    house.add(job, &["/ann/stor/b/k"]);
    house.end(job);
    let mut lose = |expected| {
        let claimed = zoned.claim(job, 0).unwrap();
        let ending = Ending::Lost { message: "no zone".to_owned() };
        assert_eq!(zoned.ended(claimed.task.attempt, ending), expected);
    };
    lose(Settled::Retried);
    lose(Settled::Retried);
    lose(Settled::Failed);
    let view = house.wait_done(job);
    assert_eq!((view.stats.errors, view.stats.retries), (1, 2));
    let error = house.errors(job).remove(0);
    assert_eq!(error.code, "InternalError");
    assert!(error.message.contains("3 times") && error.message.contains("no zone"));
}

#[test]
fn a_task_reads_the_bytes_that_were_there_when_the_input_was_added() {
    let house = House::new();
    let mut zoned = house.zoned();
    let old = "old\n".repeat(1000);
    house.put("b/large", old.as_bytes());
    house.put("b/small", b"old");
    let job = house.create(r#"{"phases":[{"exec":"cat"}]}"#);
    house.add(job, &["/ann/stor/b/large", "/ann/stor/b/small"]);
    house.end(job);
    house.put("b/large", "new\n".repeat(1000).as_bytes());
    house.put("b/small", b"new");
    let view = house.run(&mut zoned, job);
    assert_eq!((view.stats.outputs, view.stats.errors), (1, 1));
    assert_eq!(house.read(&house.outputs(job)[0]).unwrap(), old.as_bytes());
    let error = house.errors(job).remove(0);
    assert_eq!(error.code, "ResourceNotFoundError");
    assert!(error.message.contains("replaced"), "{}", error.message);
}

#[test]
fn a_task_reads_the_version_that_its_input_was_where_versions_are_kept() {
    let house = House::new();
    let mut zoned = house.zoned();
    let versioning = Versioning::Enabled;
    let record = BucketRecord { versioning, ..BucketRecord::new(house.account, 0) };
    house.store.transact_wait(move |txn| txn.make_bucket("b", &record)).unwrap();
    house.put("b/small", b"old");
    house.put("b/gone", b"gone");
    let job = house.create(r#"{"phases":[{"exec":"cat"}]}"#);
    house.add(job, &["/ann/stor/b/small", "/ann/stor/b/gone"]);
    house.end(job);
    house.put("b/small", b"new");
    let path = ObjectPath::new(house.account, Area::Stor, "b/gone").unwrap();
    let delete = move |txn: &mut Txn<'_>| txn.delete_object(&path, None, Deleter::plain(0));
    house.store.transact_wait(delete).unwrap();
    let view = house.run(&mut zoned, job);
    assert_eq!((view.stats.outputs, view.stats.errors), (2, 0));
    let mut outputs: Vec<_> =
        house.outputs(job).iter().map(|name| house.read(name).unwrap()).collect();
    outputs.sort();
    assert_eq!(outputs, [b"gone".to_vec(), b"old".to_vec()]);
}

#[test]
fn an_asset_that_is_missing_fails_each_task_before_it_starts() {
    let house = House::new();
    let mut zoned = house.zoned();
    house.put("b/k", b"x");
    let job = house.create(r#"{"phases":[{"exec":"cat","assets":["/ann/stor/b/none"]}]}"#);
    house.add(job, &["/ann/stor/b/k"; 3]);
    house.end(job);
    let view = house.run(&mut zoned, job);
    assert_eq!((view.stats.tasks_done, view.stats.errors), (3, 3));
    assert!(house.errors(job).iter().all(|error| error.code == "TaskInitError"));
}

#[test]
fn a_writer_that_is_left_is_a_named_failure() {
    let house = House::new();
    let mut zoned = house.zoned();
    house.put("b/k", b"x");
    let job = house.create(r#"{"phases":[{"exec":"cat"}]}"#);
    house.add(job, &["/ann/stor/b/k"]);
    house.end(job);
    let claimed = zoned.claim(job, 0).unwrap();
    assert_eq!(zoned.ended(claimed.task.attempt, Ending::Exited { code: 0 }), Settled::Failed);
    drop(claimed);
    let error = house.errors(job).remove(0);
    assert!(error.message.contains("open for writing"), "{}", error.message);
    assert_eq!(house.wait_done(job).stats.outputs, 0);
}

#[test]
fn a_thousand_tasks_are_settled_once_each() {
    let house = House::new();
    let mut zoned = house.zoned();
    house.put("b/k", b"x");
    let job = house.create(r#"{"phases":[{"exec":"-"},{"type":"reduce","exec":"wc -c"}]}"#);
    for _ in 0..4 {
        house.add(job, &["/ann/stor/b/k"; 250]);
    }
    house.end(job);
    let mut committed = 0;
    while let Some(claimed) = zoned.claim(job, 0) {
        let attempt = claimed.task.attempt;
        std::fs::File::from(claimed.stdout).write_all(b"12").unwrap();
        assert_eq!(zoned.ended(attempt, Ending::Exited { code: 0 }), Settled::Committed);
        committed += 1;
    }
    let view = house.run(&mut zoned, job);
    assert_eq!((committed, view.stats.tasks_done, view.stats.errors), (1000, 1001, 0));
    assert_eq!(house.read(&house.outputs(job)[0]).unwrap(), b"2000\n");
    assert_eq!(house.left().len(), 1);
}

#[test]
fn rubbish_on_the_wire_is_dropped_and_hurts_nobody() {
    let house = House::new();
    let mut zoned = house.zoned();
    let stranger = sys::seqpacket::Socket::connect(&house.socket()).unwrap();
    stranger.send(b"GET / HTTP/1.1\r\n\r\n", &[]).unwrap();
    assert!(stranger.recv(&mut Vec::new()).unwrap().is_none());
    let thief = sys::seqpacket::Socket::connect(&house.socket()).unwrap();
    let claim = Request::Claim { job: JobId(uuid::Uuid::nil()), phase: 0, project: 0 };
    let claim = wire::frame::encode(wire::frame::Kind::Request, 1, &claim, 0).unwrap();
    thief.send(&claim, &[]).unwrap();
    assert!(thief.recv(&mut Vec::new()).unwrap().is_none());
    assert!(zoned.ask(&Request::Status).0.is_ok());
}

#[test]
fn zoned_hears_of_more_when_a_claim_found_only_tasks_that_cannot_start() {
    let house = House::new();
    let mut zoned = house.zoned();
    house.put("b/k", b"x");
    let job = house.create(r#"{"phases":[{"exec":"cat","assets":["/ann/stor/b/none"]}]}"#);
    house.add(job, &["/ann/stor/b/k"; 200]);
    house.end(job);
    let mut claims = 0;
    while house.view(job).state != JobState::Done {
        // As zoned does: whoever is told that nothing is ready waits until it hears otherwise.
        zoned.runnable.remove(&(job, 0));
        while zoned.runnable.get(&(job, 0)).is_none_or(|entry| entry.ready == 0) {
            zoned.hear();
        }
        zoned.runnable.clear();
        assert!(zoned.claim(job, 0).is_none());
        claims += 1;
    }
    assert!(claims > 1);
    assert_eq!(house.view(job).stats.errors, 200);
}

#[test]
fn objects_stay_mapped_by_the_prefetcher_while_their_task_runs() {
    let mut house = House::new();
    let path = house.directory.path().join("prefetcher.sock");
    let listener = sys::seqpacket::Listener::bind(&path, 0o600).unwrap();
    std::thread::spawn(move || crate::prefetch::server::serve(&listener));
    house.server.take().unwrap().stop();
    let wire = Wire::Path(house.socket());
    let prefetcher = Prefetcher::new(Some(path.clone()));
    house.server = Some(WireServer::start(wire, house.jobs.clone(), prefetcher, None).unwrap());
    let asking = Prefetcher::new(Some(path));
    let mapped = || asking.status().unwrap();
    house.put("b/k", "line\n".repeat(5000).as_bytes());
    let job = house.create(r#"{"phases":[{"exec":"wc -l"}]}"#);
    house.add(job, &["/ann/stor/b/k"; 2]);
    house.end(job);
    let mut zoned = house.zoned();
    let first = zoned.claim(job, 0).unwrap();
    let second = zoned.claim(job, 0).unwrap();
    assert_eq!((mapped().objects, mapped().bytes), (1, 25_000));
    assert_eq!(zoned.run(first), Settled::Committed);
    assert_eq!(mapped().objects, 1);
    assert_eq!(zoned.run(second), Settled::Committed);
    assert_eq!(mapped().objects, 0);
}

#[test]
fn a_stranger_sees_no_job() {
    let house = House::new();
    let job = house.create(r#"{"phases":[{"exec":"cat"}]}"#);
    let stranger = AccountId(999);
    assert!(matches!(house.jobs.view(stranger, job), Err(JobsError::NoSuchJob(_))));
    let (found, _) = house.jobs.list(stranger, &JobFilter::default(), None, 10).unwrap();
    assert!(found.is_empty());
    let (found, _) = house.jobs.list(house.account, &JobFilter::default(), None, 10).unwrap();
    assert_eq!(found.len(), 1);
}
