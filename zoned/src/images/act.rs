//! Does what [`super::life`] decides: asks storaged, runs the one program of an import in a zone, mounts.
//!
//! The zone is one for a task, from the default image, in the cgroup of whose archive it is, and metered to
//! that account: its stdin is the archive, its stdout the empty file of storaged's, its stderr a file in
//! memory that is read when all is over.

use super::import::{DISK_GIB, Import, Running, kill_zone};
use super::life::{Action, Event, step};
use super::note::{Note, Whom};
use super::record::{Phase, Record};
use crate::chain;
use crate::daemon::{Asked, Daemon, WORDS_A_TURN, Written};
use crate::disk::FileError;
use crate::meter::Key;
use crate::running::size_of_all;
use crate::slot::Slot;
use crate::zone::Zone;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use sys::clone::reap;
use wire::frame::Refusal;
use wire::job::IMAGE_DEFAULT;
use wire::standing::{Stats, Subject, What};
use wire::task::{Reply, Request};

/// Whose objects images are.
pub(super) const OWNER: &str = "mobula";
/// What an image's object is said to hold.
const CONTENT_TYPE: &str = "application/vnd.mobula.image.erofs";
/// The longest import: 16 GiB at the speed of a slow disk, twice over.
const IMPORT_MS_MAX: u64 = 60 * 60 * 1000;

/// When an action is done.
enum Done {
    /// It is.
    Now,
    /// When the disk has taken something in.
    Later,
}

/// What was asked of storaged about images.
#[derive(Debug)]
pub(crate) enum Question {
    /// Whose the archive is.
    Account,
    /// The archive.
    Archive,
    /// An empty file.
    File,
    /// To make the file an object.
    Commit,
    /// To forget the file.
    Discard,
    /// The image of this name.
    Image(String),
    /// To remove the object of this image.
    Remove(String),
}

impl Daemon {
    /// Begins an import that was checked.
    pub(super) fn begin_import(&mut self, import: Import) {
        let login = import.login.clone();
        self.images.import = Some(import);
        if let Err(why) = self.ask_image(&Request::Account { login }, Question::Account) {
            self.import_happens(Event::Failed(why));
        }
    }

    fn ask_image(&mut self, request: &Request, question: Question) -> Result<(), String> {
        if !self.link.has_room() {
            return Err("storaged is not there, or has too much to do".to_owned());
        }
        match self.link.ask(request, Asked::Image(question)) {
            Ok(()) => Ok(()),
            Err((error, _)) => {
                let why = chain(&error);
                self.lose_link(&why);
                Err(why)
            }
        }
    }

    /// storaged has answered.
    pub(crate) fn image_answered(&mut self, question: Question, reply: Reply, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        let import = self.images.import.as_mut();
        match (question, reply, import) {
            (Question::Image(name), Reply::Opened { .. }, _) => {
                let mounted = fds.next().ok_or_else(|| "it came without its file".to_owned());
                let wanted = self.images.records.get(&name).map(|record| &record.phase);
                if !matches!(wanted, Some(Phase::Ready { .. })) {
                    // It was removed meanwhile.
                    return;
                }
                let mounted = mounted.and_then(|object| {
                    let mounted = self.images.mount_object(&name, object.as_fd());
                    mounted.map_err(|error| chain(&error))
                });
                self.image_shown(&name, mounted);
            }
            (Question::Remove(name), Reply::Removed, _) => {
                self.note(Note { name, record: None, whom: Whom::Nobody });
            }
            (Question::Discard, Reply::Removed, _) => {}
            (Question::Account, Reply::Account { id }, Some(import)) => {
                import.account = id;
                self.import_happens(Event::Answered);
            }
            (Question::Archive, Reply::Opened { .. }, Some(import)) => {
                import.opened = fds.next();
                self.import_happens(Event::Answered);
            }
            (Question::File, Reply::Staged { staged }, Some(import)) => {
                (import.staged, import.file) = (Some(staged), fds.next());
                self.import_happens(Event::Answered);
            }
            (Question::Commit, Reply::Committed { bytes, sha256 }, Some(import)) => {
                import.made = Some((sha256, bytes));
                self.import_happens(Event::Answered);
            }
            (question, ..) => self.lose_link(&format!("storaged answered {question:?} wrongly")),
        }
    }

    /// storaged has refused.
    pub(crate) fn image_refused(&mut self, question: Question, refusal: &Refusal) {
        let why = refusal.message.clone();
        match question {
            Question::Account | Question::Archive | Question::File | Question::Commit => {
                self.import_happens(Event::Failed(why));
            }
            Question::Image(name) => self.image_shown(&name, Err(why)),
            Question::Remove(name) => {
                eprintln!("zoned: the object of image {name} stays for now: {why}");
            }
            // It was committed, or went with its connection.
            Question::Discard => {}
        }
    }

    /// The connection to storaged has ended.
    pub(crate) fn images_lose_link(&mut self) {
        self.images.asked.clear();
        self.images.refused.clear();
        self.import_happens(Event::LinkLost);
    }

    fn image_shown(&mut self, name: &str, mounted: Result<(), String>) {
        let imports = self.images.import.as_ref().is_some_and(|import| import.name == name);
        match mounted {
            Ok(()) if imports => self.import_happens(Event::Answered),
            Err(why) if imports => self.import_happens(Event::Failed(why)),
            Ok(()) => {}
            Err(why) => self.images.refuse(name, why),
        }
    }

    /// Asks for images that are to be mounted, and for the removal of what was half made or half removed.
    pub(crate) fn tidy_images(&mut self) {
        self.images.tend();
        let limit = Duration::from_millis(IMPORT_MS_MAX);
        let running = self.images.import.as_ref().and_then(|import| import.running.as_ref());
        if running.is_some_and(|running| running.since.elapsed() > limit) {
            self.import_happens(Event::Overdue);
        }
        while self.link.has_room() {
            let Some((name, record)) = self.images.next_to_ask() else { return };
            self.images.asked.insert(name.clone());
            let (login, path) = (OWNER.to_owned(), record.object);
            let asked = match record.phase {
                Phase::Ready { .. } => {
                    self.ask_image(&Request::Open { login, path }, Question::Image(name))
                }
                Phase::Making | Phase::Removing => {
                    self.ask_image(&Request::Remove { login, path }, Question::Remove(name))
                }
            };
            if asked.is_err() {
                return;
            }
        }
    }

    /// Takes in what the zone of the import has said.
    pub(crate) fn hear_import(&mut self) {
        let running = |daemon: &mut Self| -> Option<Result<bool, String>> {
            Some(daemon.images.import.as_mut()?.running.as_mut()?.hear())
        };
        for _ in 0..WORDS_A_TURN {
            match running(self) {
                Some(Ok(true)) => {}
                None | Some(Ok(false)) => return,
                Some(Err(why)) => {
                    eprintln!("zoned: the zone of an import spoke nonsense: {why}");
                    if let Some(import) = &mut self.images.import {
                        import.running.iter_mut().for_each(|running| running.listening = false);
                        kill_zone(import);
                    }
                    return;
                }
            }
        }
    }

    /// The zone of the import is gone.
    pub(crate) fn import_gone(&mut self) {
        self.hear_import();
        let Some(import) = &mut self.images.import else { return };
        let Some(running) = import.running.take() else { return };
        if let Err(error) = reap(running.zone.pidfd.as_fd()) {
            eprintln!("zoned: cannot reap the zone of an import: {error}");
        }
        let result = running.result();
        let key = Key::Import(import.name.clone());
        let Zone { cgroup, .. } = running.zone;
        let how = if result.is_ok() { "imported" } else { "failed" };
        self.meter.end(&key, &cgroup.stats(), how);
        self.garbage.push(cgroup);
        self.import_happens(Event::Gone(result));
    }

    /// Something happened to the import: it is taken in when what follows from the last is done.
    fn import_happens(&mut self, event: Event) {
        let Some(import) = &mut self.images.import else { return };
        import.events.push_back(event);
        if !import.busy {
            self.follow_import();
        }
    }

    /// Does what was decided, and decides what follows, until the disk has something to do, or nothing is left.
    pub(super) fn follow_import(&mut self) {
        loop {
            let Some(import) = &mut self.images.import else { return };
            import.busy = true;
            if let Some(action) = import.actions.pop_front() {
                match self.do_for_import(action) {
                    Ok(Done::Now) => {}
                    Ok(Done::Later) => return,
                    Err(why) => self.import_failed(why),
                }
            } else if import.over {
                if let Some(slot) = self.images.import.take().and_then(|import| import.slot) {
                    self.put_back(slot);
                }
            } else if let Some(event) = import.events.pop_front() {
                let (next, actions) = step(&import.state, event);
                import.actions = actions.into();
                match next {
                    Some(next) => import.state = next,
                    None => import.over = true,
                }
            } else {
                import.busy = false;
                return;
            }
        }
    }

    /// An action of the import could not be done.
    pub(super) fn import_failed(&mut self, why: String) {
        let Some(import) = &mut self.images.import else { return };
        if import.over {
            // What is left is done all the same: nobody comes back to it.
            return eprintln!("zoned: an import is over, but {why}");
        }
        import.actions.clear();
        import.events.push_front(Event::Failed(why));
    }

    fn do_for_import(&mut self, action: Action) -> Result<Done, String> {
        let Some(import) = &mut self.images.import else { return Ok(Done::Now) };
        let (name, object) = (import.name.clone(), import.object());
        let done = match action {
            Action::AskArchive => {
                let (login, path) = (import.login.clone(), import.archive.clone());
                self.ask_image(&Request::Open { login, path }, Question::Archive)
            }
            Action::AskFile => return self.make_import_room().map(|()| Done::Later),
            Action::Start => self.start_import(),
            Action::Kill => {
                kill_zone(import);
                Ok(())
            }
            Action::Note => return Ok(self.note_import(name, object, Some(Phase::Making))),
            Action::AskCommit => {
                let Some(staged) = import.staged else { return Ok(Done::Now) };
                let (login, content_type) = (OWNER.to_owned(), CONTENT_TYPE.to_owned());
                let request = Request::Commit { staged, login, path: object, content_type };
                self.ask_image(&request, Question::Commit)
            }
            Action::NoteImage => {
                let (sha256, bytes) = import.made.clone().unwrap_or_default();
                return Ok(self.note_import(name, object, Some(Phase::Ready { sha256, bytes })));
            }
            Action::AskImage => {
                self.images.asked.insert(name.clone());
                let (login, path) = (OWNER.to_owned(), object);
                self.ask_image(&Request::Open { login, path }, Question::Image(name))
            }
            Action::Discard => match import.staged {
                Some(staged) => self.ask_image(&Request::Discard { staged }, Question::Discard),
                None => Ok(()),
            },
            Action::Unnote => return Ok(self.note_import(name, object, None)),
            Action::Withdraw => {
                self.images.asked.remove(&name);
                return Ok(self.note_import(name, object, Some(Phase::Removing)));
            }
            Action::Succeed => {
                let (sha256, bytes) = import.made.clone().unwrap_or_default();
                self.events.tell(Subject::Image(name), What::Imported { sha256, bytes });
                Ok(())
            }
            Action::Fail(why) => {
                eprintln!("zoned: the image {name} was not imported: {why}");
                self.events.tell(Subject::Image(name), What::ImportFailed { why });
                Ok(())
            }
        };
        done.map(|()| Done::Now)
    }

    fn note_import(&mut self, name: String, object: String, phase: Option<Phase>) -> Done {
        let record = phase.map(|phase| Record { object, phase });
        self.note(Note { name, record, whom: Whom::Import });
        Done::Later
    }

    /// Has a slot's quota set; the file is asked for when it is.
    fn make_import_room(&mut self) -> Result<(), String> {
        match self.pool.take() {
            Ok(Some(slot)) => self.limit(slot.project(), DISK_GIB, Written::Import(slot)),
            Ok(None) => return Err("every place for a zone is taken: try again".to_owned()),
            Err(error) => return Err(chain(&error)),
        }
        Ok(())
    }

    /// The quota of the slot is set, or not.
    pub(crate) fn import_limited(&mut self, slot: Slot, limited: Result<(), FileError>) {
        let project = slot.project();
        let Some(import) = &mut self.images.import else { return self.put_back(slot) };
        import.slot = Some(slot);
        let asked = limited
            .map_err(|error| chain(&error))
            .and_then(|()| self.ask_image(&Request::Stage { project }, Question::File));
        if let Err(why) = asked {
            self.import_failed(why);
        }
        self.follow_import();
    }

    fn start_import(&mut self) -> Result<(), String> {
        let image = self.images.get(IMAGE_DEFAULT).map_err(|error| chain(&error))?;
        let program = File::open(&self.import_program)
            .map_err(|error| format!("cannot open {}: {error}", self.import_program.display()))?;
        let said = memfd_create(c"import", MFdFlags::MFD_CLOEXEC).map(File::from);
        let said = said.map_err(|error| format!("cannot make a file in memory: {error}"))?;
        let words = said.try_clone().map_err(|error| error.to_string())?;
        let Some(import) = &mut self.images.import else { return Ok(()) };
        let (Some(archive), Some(file), Some(mut slot)) =
            (import.opened.take(), import.file.take(), import.slot.take())
        else {
            return Err("storaged gave no descriptor".to_owned());
        };
        let task = import.task();
        let (key, whose) = (Key::Import(import.name.clone()), import.whose());
        let delivered = size_of_all(std::slice::from_ref(&archive));
        // They are closed here then: nobody but the zone writes to the file.
        let fds = vec![archive, file, words.into(), program.into()];
        let started = self.launcher.start(&task, fds, &mut slot, &image, &mut self.cgroups);
        import.slot = Some(slot);
        let zone = started.map_err(|error| chain(&error))?;
        let since = Instant::now();
        import.running = Some(Running { zone, said, since, listening: true, outcome: None });
        self.meter.begin(key.clone(), whose, Import::reserved(), &Stats::default());
        self.meter.delivered(&key, delivered);
        Ok(())
    }
}
