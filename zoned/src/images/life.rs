//! The life of an import, as a state machine: `step` decides, the daemon acts.
//!
//! ```text
//!   Naming ─▶ Opening ─▶ Staging ─▶ Running ──Gone(Ok)──▶ Committing ─▶ Reading ─▶ an image
//!   (account)  (archive)  (output)   (a zone)      │        (object)    (mounted)
//!                                      │           └──Gone(Err)──▶ discarded
//!                                      └── overdue, storaged gone ──▶ Killing ──Gone──▶ discarded
//! ```
//! What is committed is noted before, so that an object is never left behind that nobody knows of.

/// Where an import is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// storaged is asked whose the archive is.
    Naming,
    /// It is asked for the archive.
    Opening,
    /// It is asked for an empty file.
    Staging,
    /// The zone runs.
    Running,
    /// The zone is being killed, for this reason.
    Killing(String),
    /// The file becomes an object.
    Committing,
    /// The object is opened, to be mounted.
    Reading,
}

/// What happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// storaged has done what it was asked for in this state.
    Answered,
    /// storaged has refused it, or the daemon could not go on with it.
    Failed(String),
    /// The zone is gone; whether there is an image, or why not.
    Gone(Result<(), String>),
    /// The zone takes too long.
    Overdue,
    /// The connection to storaged has ended, and its answers never come.
    LinkLost,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask storaged for the archive.
    AskArchive,
    /// Ask it for an empty file.
    AskFile,
    /// Start the zone.
    Start,
    /// Kill the zone.
    Kill,
    /// Note on disk that there may be an object from now on.
    Note,
    /// Ask storaged to make the file an object.
    AskCommit,
    /// Note that the object is an image.
    NoteImage,
    /// Ask storaged for the image.
    AskImage,
    /// Tell storaged to forget the file.
    Discard,
    /// Forget what was noted: there is no object.
    Unnote,
    /// Remove the object and what was noted.
    Withdraw,
    /// Tell everybody that there is an image.
    Succeed,
    /// Tell everybody why there is none.
    Fail(String),
}

/// Why nothing comes of an import whose storaged went away.
const LINK_LOST: &str = "storaged went away: import it again";
/// Why nothing comes of one that takes too long.
const OVERDUE: &str = "it took longer than an import may";

/// What becomes of an import, and what is to be done about it. None: it is over.
#[must_use]
pub fn step(state: &State, event: Event) -> (Option<State>, Vec<Action>) {
    use Action::{
        AskArchive, AskCommit, AskFile, AskImage, Discard, Fail, Kill, Note, NoteImage, Start,
        Succeed, Unnote, Withdraw,
    };
    let over = |actions: Vec<Action>| (None, actions);
    match (state, event) {
        (State::Naming, Event::Answered) => (Some(State::Opening), vec![AskArchive]),
        (State::Opening, Event::Answered) => (Some(State::Staging), vec![AskFile]),
        (State::Staging, Event::Answered) => (Some(State::Running), vec![Start]),
        (State::Committing, Event::Answered) => (Some(State::Reading), vec![NoteImage, AskImage]),
        (State::Reading, Event::Answered) => over(vec![Succeed]),
        (State::Naming | State::Opening | State::Staging, Event::Failed(why)) => {
            over(vec![Fail(why)])
        }
        // It did not start.
        (State::Running, Event::Failed(why)) => over(vec![Discard, Fail(why)]),
        (State::Committing, Event::Failed(why)) => over(vec![Discard, Unnote, Fail(why)]),
        // An object that cannot be mounted is no image.
        (State::Reading, Event::Failed(why)) => over(vec![Withdraw, Fail(why)]),
        (State::Running, Event::Gone(Ok(()))) => (Some(State::Committing), vec![Note, AskCommit]),
        (State::Running, Event::Gone(Err(why))) => over(vec![Discard, Fail(why)]),
        (State::Killing(why), Event::Gone(_)) => over(vec![Discard, Fail(why.clone())]),
        (State::Running, Event::Overdue) => (Some(State::Killing(OVERDUE.to_owned())), vec![Kill]),
        (State::Running, Event::LinkLost) => {
            (Some(State::Killing(LINK_LOST.to_owned())), vec![Kill])
        }
        (State::Naming | State::Opening | State::Staging, Event::LinkLost) => {
            over(vec![Fail(LINK_LOST.to_owned())])
        }
        // Nobody knows whether there is an object: what was noted is cleared when storaged is back.
        (State::Committing, Event::LinkLost) => over(vec![Fail(LINK_LOST.to_owned())]),
        // Images that were noted are asked for again when storaged is back.
        (State::Reading, Event::LinkLost) => (Some(State::Reading), Vec::new()),
        (State::Killing(_), _)
        | (State::Running, Event::Answered)
        | (_, Event::Gone(_) | Event::Overdue) => (Some(state.clone()), Vec::new()),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Answered),
            2 => Just(Event::Gone(Ok(()))),
            1 => Just(Event::Gone(Err("bad".to_owned()))),
            1 => Just(Event::Failed("no".to_owned())),
            1 => Just(Event::Overdue),
            1 => Just(Event::LinkLost),
        ]
    }

    #[test]
    fn an_archive_that_is_good_becomes_an_image() {
        let mut state = State::Naming;
        let mut all = Vec::new();
        let gone = Event::Gone(Ok(()));
        let answered = || Event::Answered;
        for event in [answered(), answered(), answered(), gone, answered()] {
            let (next, actions) = step(&state, event);
            state = next.unwrap();
            all.extend(actions);
        }
        let (last, actions) = step(&state, Event::Answered);
        all.extend(actions);
        use Action::{AskArchive, AskCommit, AskFile, AskImage, Note, NoteImage, Start, Succeed};
        let wanted = [AskArchive, AskFile, Start, Note, AskCommit, NoteImage, AskImage, Succeed];
        assert_eq!((last, all), (None, wanted.to_vec()));
    }

    proptest! {
        /// Whatever happens: it is told once how it ended, a file that was asked for is committed or
        /// discarded, and nothing is committed before its writers are gone.
        #[test]
        fn every_import_ends_once_and_leaves_nothing(
            events in proptest::collection::vec(event(), 0..40),
        ) {
            let mut state = Some(State::Naming);
            let (mut told, mut started, mut gone) = (0, false, false);
            let (mut noted, mut kept, mut settled) = (false, false, false);
            for event in events {
                let Some(now) = state else { break };
                let zone_gone = matches!(event, Event::Gone(_))
                    && matches!(now, State::Running | State::Killing(_));
                let lost_commit = now == State::Committing && event == Event::LinkLost;
                gone |= zone_gone;
                let (next, actions) = step(&now, event);
                for action in &actions {
                    match action {
                        Action::Start => started = true,
                        Action::Kill => prop_assert!(started && !gone),
                        Action::Note => noted = true,
                        Action::AskCommit => prop_assert!(noted && gone),
                        Action::NoteImage => kept = true,
                        Action::Unnote => { prop_assert!(noted); settled = true; }
                        Action::Discard => settled = true,
                        Action::Withdraw => { prop_assert!(kept); kept = false; settled = true; }
                        Action::Succeed => { told += 1; prop_assert!(kept); settled = true; }
                        Action::Fail(_) => { told += 1; prop_assert!(!kept); }
                        Action::AskArchive | Action::AskFile | Action::AskImage => {}
                    }
                }
                settled |= lost_commit;
                if next.is_none() {
                    prop_assert_eq!(told, 1);
                    prop_assert!(!started || settled);
                } else {
                    prop_assert_eq!(told, 0);
                }
                state = next;
            }
        }
    }
}
