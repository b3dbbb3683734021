//! Images imported on this host: a real zone makes them of archives, this kernel mounts them, tasks run in
//! them; storaged is a folder and a few lines of test.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{Node, alone, eventually, runnable};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use sys::seqpacket::{Listener, Socket};
use wire::frame::{Frame, Kind, Refusal, encode};
use wire::job::PhaseKind;
use wire::standing::{ImageView, What, ZonePush, ZoneReply, ZoneRequest};
use wire::task::{Ending, Push, Reply, Request, StagedId, Task};

const OBJECT: &str = "/mobula/stor/images/mine.erofs";
const ARCHIVE: &str = "/ann/stor/mine.tar";

/// A person at zoned's socket.
struct Person(Socket);

impl Person {
    fn come() -> Self {
        let mut socket = Socket::connect(Path::new("/media/zoned.sock"));
        eventually("zoned listens", || {
            socket = Socket::connect(Path::new("/media/zoned.sock"));
            socket.is_ok()
        });
        Self(socket.unwrap())
    }

    fn hear(&self) -> (Kind, Vec<u8>) {
        let mut message = Vec::new();
        self.0.recv(&mut message).unwrap().expect("zoned is there");
        (Frame::parse(&message, 0).unwrap().kind, message)
    }

    fn ask(&self, request: ZoneRequest) -> Result<ZoneReply, Refusal> {
        let request = wire::zone::Request::Zone(request);
        self.0.send(&encode(Kind::Request, 1, &request, 0).unwrap(), &[]).unwrap();
        let (kind, message) = self.hear();
        let frame = Frame::parse(&message, 0).unwrap();
        if kind == Kind::Refusal {
            return Err(frame.body().unwrap());
        }
        let wire::zone::Reply::Zone(reply) = frame.body().unwrap() else { panic!("{frame:?}") };
        Ok(reply)
    }

    fn import(&self) -> Result<ZoneReply, Refusal> {
        let (name, object) = ("mine".to_owned(), ARCHIVE.to_owned());
        self.ask(ZoneRequest::ImportImage { name, object })
    }

    fn images(&self) -> Vec<ImageView> {
        match self.ask(ZoneRequest::Images).unwrap() {
            ZoneReply::Images(images) => images,
            other => panic!("{other:?}"),
        }
    }

    /// The next thing that happens, for whoever watches.
    fn event(&self) -> What {
        let (kind, message) = self.hear();
        assert_eq!(kind, Kind::Push);
        let ZonePush::Events(mut events) = Frame::parse(&message, 0).unwrap().body().unwrap()
        else {
            panic!("no events")
        };
        assert_eq!(events.len(), 1, "{events:?}");
        events.pop().unwrap().what
    }

    fn watcher() -> Self {
        let person = Self::come();
        assert_eq!(person.ask(ZoneRequest::Watch { after: 0 }), Ok(ZoneReply::Done));
        person
    }
}

/// The part of storaged that keeps images: on the host's disk, as EROFS is not mounted from a tmpfs.
struct Store {
    folder: tempfile::TempDir,
    next: u64,
}

impl Store {
    fn new() -> Self {
        Self { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), next: 1 }
    }

    fn staged(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("staged-{id}"))
    }

    fn object(&self) -> PathBuf {
        self.folder.path().join("object")
    }

    /// Answers one request as storaged would; gives what it was.
    fn answer(&mut self, node: &mut Node, archive: &[u8]) -> Request {
        let (id, request) = node.request();
        match &request {
            Request::Account { login } => {
                assert_eq!(login, "ann");
                node.reply(id, &Reply::Account { id: 7 }, &[]);
            }
            Request::Open { login, path } if path == ARCHIVE => {
                assert_eq!(login, "ann");
                let file = node.object(archive);
                node.reply(id, &Reply::Opened { bytes: archive.len() as u64 }, &[file]);
            }
            Request::Open { login, path } => {
                assert_eq!((login.as_str(), path.as_str()), ("mobula", OBJECT));
                let file = File::open(self.object()).unwrap();
                let bytes = file.metadata().unwrap().len();
                node.reply(id, &Reply::Opened { bytes }, &[file.into()]);
            }
            Request::Stage { project } => {
                assert!(*project >= 100_000, "{project}");
                let (number, path) = (self.next, self.staged(self.next));
                self.next += 1;
                let file = File::options().write(true).create_new(true).open(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                chown(&path, Some(200), Some(200)).unwrap();
                let staged = StagedId(number);
                node.reply(id, &Reply::Staged { staged }, &[OwnedFd::from(file)]);
            }
            Request::Commit { staged, login, path, .. } => {
                assert_eq!((login.as_str(), path.as_str()), ("mobula", OBJECT));
                let file = self.staged(staged.0);
                let bytes = fs::read(&file).unwrap();
                fs::rename(file, self.object()).unwrap();
                let sha256 = hex(&bytes);
                let bytes = bytes.len() as u64;
                node.reply(id, &Reply::Committed { bytes, sha256 }, &[]);
            }
            Request::Discard { staged } => {
                fs::remove_file(self.staged(staged.0)).unwrap();
                node.reply(id, &Reply::Removed, &[]);
            }
            Request::Remove { path, .. } => {
                assert_eq!(path, OBJECT);
                // It may never have been made.
                drop(fs::remove_file(self.object()));
                node.reply(id, &Reply::Removed, &[]);
            }
            other => panic!("unexpected {other:?}"),
        }
        request
    }

    /// Answers until a request of this kind has been answered.
    fn answer_until(
        &mut self,
        node: &mut Node,
        archive: &[u8],
        last: fn(&Request) -> bool,
    ) -> Vec<Request> {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(last) {
            seen.push(self.answer(node, archive));
        }
        seen
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn start() -> Node {
    Node::with(&["--zone-import", env!("CARGO_BIN_EXE_zone-import")])
}

/// What `docker save` makes of an image with a shell, made with the host's tar.
fn archive(words: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"set -e; mkdir -p root/bin root/lib root/lib64 root/etc; cp /bin/bash /bin/cat root/bin/
        cp /lib64/ld-linux-x86-64.so.2 root/lib64/
        cp $(ldd /bin/bash /bin/cat | grep -o '/lib/[^ ]*' | sort -u) root/lib/
        ln -s /etc root/dev; printf '%s' "$1" >root/etc/words; tar -C root -cf 0.tar .
        mkdir -p upper/etc; : >upper/etc/.wh.gone
        tar -C upper -cf 1.tar ."#;
    let made = Command::new("bash").args(["-c", script, "-", words]).current_dir(&folder).status();
    assert!(made.unwrap().success());
    let file = |name: &str| folder.path().join(name);
    let digest = |name: &str| format!("sha256:{}", hex(&fs::read(file(name)).unwrap()));
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Env": ["GREETING=good day", "HOME=/nowhere"], "Cmd": ["/bin/bash"] },
        "rootfs": { "type": "layers", "diff_ids": [digest("0.tar"), digest("1.tar")] },
    });
    fs::write(file("config.json"), config.to_string()).unwrap();
    let manifest = json!([{ "Config": "config.json", "Layers": ["0.tar", "1.tar"] }]);
    fs::write(file("manifest.json"), manifest.to_string()).unwrap();
    let names = ["manifest.json", "config.json", "0.tar", "1.tar"];
    let packed = Command::new("tar").arg("-c").args(names).current_dir(&folder).output().unwrap();
    assert!(packed.status.success());
    packed.stdout
}

fn is_commit(request: &Request) -> bool {
    matches!(request, Request::Commit { .. })
}

fn is_open_image(request: &Request) -> bool {
    matches!(request, Request::Open { path, .. } if path == OBJECT)
}

fn is_remove(request: &Request) -> bool {
    matches!(request, Request::Remove { .. })
}

#[test]
fn an_archive_becomes_an_image_that_tasks_run_in_until_it_is_removed() {
    alone("an_archive_becomes_an_image_that_tasks_run_in_until_it_is_removed", || {
        let (mut node, mut store) = (start(), Store::new());
        let (person, watcher) = (Person::come(), Person::watcher());
        let archive = archive("out of an archive");
        assert_eq!(person.import(), Ok(ZoneReply::Done));
        assert_eq!(person.import().unwrap_err().code, "Busy");
        store.answer_until(&mut node, &archive, is_open_image);
        let What::Imported { sha256, bytes } = watcher.event() else { panic!("not imported") };
        let images = person.images();
        let mine = images.iter().find(|image| image.name == "mine").unwrap();
        assert_eq!(
            (&mine.sha256, mine.bytes, mine.shipped, mine.zones),
            (&sha256, bytes, false, 0)
        );
        assert_eq!(hex(&fs::read(store.object()).unwrap()), sha256);
        assert_eq!(person.import().unwrap_err().code, "ImageExists");

        let say = r#"cat /etc/words; echo " $GREETING $HOME"; read -r x </dev/urandom; echo $?"#;
        let mut task = node.task(PhaseKind::Map, say);
        task.image = "mine".to_owned();
        let done = node.run(task, b"", &[], &[]);
        assert_eq!(done.ending, Ending::Exited { code: 0 }, "{}", done.stderr);
        assert_eq!(done.stdout, "out of an archive good day /nowhere\n0\n");

        // zoned is started again: the image is still there.
        node.kill_and_restart();
        let person = Person::come();
        store.answer_until(&mut node, &archive, is_open_image);
        let mut task =
            node.task(PhaseKind::Map, "cat; cat /etc/words; for ((i=0;i<400000;i++)); do :; done");
        task.image = "mine".to_owned();
        let (attempt, outputs) = node.begin(task, b"input, ", &[]);
        eventually("the task runs", || node.status().zones_running == 1);
        let refused = person.ask(ZoneRequest::RemoveImage("mine".to_owned())).unwrap_err();
        assert_eq!(refused.code, "InUse", "{refused:?}");
        let done = node.see_through(attempt, &outputs, &[]);
        assert_eq!(done.stdout, "input, out of an archive", "{}", done.stderr);

        let mut answer = Err(refused);
        eventually("nobody uses it", || {
            answer = person.ask(ZoneRequest::RemoveImage("mine".to_owned()));
            answer.is_ok()
        });
        store.answer_until(&mut node, &archive, is_remove);
        assert!(person.images().iter().all(|image| image.name != "mine"));
        eventually("the record is gone", || {
            !Path::new("/media/images/.imported/mine.json").exists()
        });
        // zoned hears of it a moment later.
        eventually("zoned knows that it is gone", || {
            let refused = person.ask(ZoneRequest::RemoveImage("mine".to_owned())).unwrap_err();
            assert!(["Busy", "NoSuchImage"].contains(&refused.code.as_str()), "{refused:?}");
            refused.code == "NoSuchImage"
        });
        // Who had it made pays for that.
        let lines = node.metered.borrow();
        let imports: Vec<_> = lines.iter().filter(|line| line["kind"] == "import").collect();
        let events: Vec<_> = imports.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["start", "done"]);
        let done = imports[1];
        assert_eq!(
            (&done["id"], &done["account"], &done["login"], &done["how"]),
            (&"mine".into(), &"7".into(), &"ann".into(), &"imported".into())
        );
        assert_eq!(done["total"]["object_bytes"], archive.len().to_string());
    });
}

#[test]
fn an_archive_that_is_damaged_leaves_nothing_but_its_reason() {
    alone("an_archive_that_is_damaged_leaves_nothing_but_its_reason", || {
        let (mut node, mut store) = (start(), Store::new());
        let (person, watcher) = (Person::come(), Person::watcher());
        let mut archive = archive("words");
        let at = archive.windows(5).rposition(|part| part == b"words").unwrap();
        archive[at] = b'l';
        assert_eq!(person.import(), Ok(ZoneReply::Done));
        let asked = store
            .answer_until(&mut node, &archive, |asked| matches!(asked, Request::Discard { .. }));
        assert!(!asked.iter().any(is_commit));
        let What::ImportFailed { why } = watcher.event() else { panic!("it was imported") };
        assert!(why.contains("digest"), "{why}");
        assert!(person.images().is_empty());
        eventually("its zone is gone", || node.zones() == 0);
        // And the next one comes.
        assert_eq!(person.import(), Ok(ZoneReply::Done));
        store.answer_until(&mut node, b"no archive at all", |asked| {
            matches!(asked, Request::Discard { .. })
        });
        assert!(matches!(watcher.event(), What::ImportFailed { .. }));
    });
}

#[test]
fn an_import_whose_storaged_goes_away_leaves_nothing() {
    alone("an_import_whose_storaged_goes_away_leaves_nothing", || {
        let (mut node, mut store) = (start(), Store::new());
        let (person, watcher) = (Person::come(), Person::watcher());
        let archive = archive("words");
        assert_eq!(person.import(), Ok(ZoneReply::Done));
        store.answer_until(&mut node, &archive, |asked| matches!(asked, Request::Stage { .. }));
        node.reconnect();
        let What::ImportFailed { why } = watcher.event() else { panic!("it was imported") };
        assert!(why.contains("storaged"), "{why}");
        eventually("its zone is gone", || node.zones() == 0);
        // Gone while it made the object: nobody knows whether there is one, so it is removed.
        assert_eq!(person.import(), Ok(ZoneReply::Done));
        let mut seen = 0;
        while seen < 3 {
            if !matches!(store.answer(&mut node, &archive), Request::Discard { .. }) {
                seen += 1;
            }
        }
        let (_, request) = node.request();
        assert!(is_commit(&request), "{request:?}");
        node.reconnect();
        assert!(matches!(watcher.event(), What::ImportFailed { .. }));
        store.answer_until(&mut node, &archive, is_remove);
        eventually("the record is gone", || {
            !Path::new("/media/images/.imported/mine.json").exists()
        });
        assert!(person.images().is_empty());
    });
}

#[test]
fn names_that_are_none_and_what_came_with_the_appliance_are_refused() {
    alone("names_that_are_none_and_what_came_with_the_appliance_are_refused", || {
        let node = start();
        let person = Person::come();
        let import = |name: &str, object: &str| {
            let (name, object) = (name.to_owned(), object.to_owned());
            person.ask(ZoneRequest::ImportImage { name, object }).unwrap_err().code
        };
        for name in ["", "..", "a/b", ".imported", "a b"] {
            assert_eq!(import(name, ARCHIVE), "InvalidName", "{name}");
        }
        assert_eq!(import("x", "relative"), "InvalidObject");
        assert_eq!(import("base", ARCHIVE), "ImageExists");
        let refused = person.ask(ZoneRequest::RemoveImage("base".to_owned())).unwrap_err();
        assert_eq!(refused.code, "Shipped");
        drop(node);
    });
}

#[test]
fn tasks_start_when_their_image_is_read_and_others_do_not_wait_for_them() {
    alone("tasks_start_when_their_image_is_read_and_others_do_not_wait_for_them", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prefetcher.sock");
        let prefetcher = Listener::bind(&path, 0o600).unwrap();
        let mut node = Node::with(&["--prefetcher", &path.display().to_string()]);
        node.folder_image("other");
        let base = prefetcher.accept().unwrap().unwrap();
        let (first, second) = (node.task(PhaseKind::Map, "cat"), node.task(PhaseKind::Map, "cat"));
        let second = Task { image: "other".to_owned(), ..second };
        let began = Instant::now();
        node.push(&Push::Runnable(vec![runnable(&first), runnable(&second)]));
        let done = encode(Kind::Reply, 1, &wire::prefetch::Reply::Done { bytes: 7 }, 0).unwrap();
        // Asked for by the first task that needs it, and read at once.
        let other = prefetcher.accept().unwrap().unwrap();
        other.send(&done, &[]).unwrap();
        let claimed = |node: &Node| match node.request() {
            (id, Request::Claim { job, .. }) => (id, job),
            (_, request) => panic!("unexpected {request:?}"),
        };
        let (id, job) = claimed(&node);
        // zoned waits for ten seconds at most.
        if began.elapsed() < Duration::from_secs(8) {
            assert_eq!((job, node.status().waiting), (second.job, 1));
        }
        node.reply(id, &Reply::NothingReady, &[]);
        base.send(&done, &[]).unwrap();
        assert_eq!(claimed(&node).1, if job == first.job { second.job } else { first.job });
    });
}
