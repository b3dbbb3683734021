//! What a zone has of the store: prefixes below `/manta`, and what it writes to `/out`.

use crate::common::eventually;
use crate::machine::{Machine, name, on_a_machine};
use crate::metered::usage;
use erofs::{Meta, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use sys::lease::Lease;
use uuid::Uuid;
use wire::standing::{Published, Subject, What, ZoneReply, ZoneRequest, ZoneState};
use wire::task::{ManifestId, Reply, Request};
use wire::zone::Outcome;

/// What storaged has, as far as these tests look at it.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Contents>>);

#[derive(Default)]
pub struct Contents {
    /// Manifests in use.
    pub held: BTreeSet<ManifestId>,
    /// The last publication: what came beside it, by name, and who owns it as storaged sees it.
    pub published: Option<BTreeMap<String, (String, u32)>>,
    pub publications: usize,
    /// A publication takes until this is over.
    pub busy: bool,
    /// Whether the one imported image is there, and until when nobody is told.
    pub image: Option<File>,
    pub image_busy: bool,
}

impl Shelf {
    pub fn look(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap()
    }

    /// Answers as storaged would; nothing for what it will not show.
    pub fn answer(&self, request: &Request, fds: &[OwnedFd]) -> Option<(Reply, Vec<OwnedFd>)> {
        match request {
            Request::Manifests { after } => {
                let after = |id: &&ManifestId| after.is_none_or(|after| **id > after);
                let held = self.look().held.iter().filter(after).copied().collect();
                Some((Reply::Manifests(held), Vec::new()))
            }
            Request::Manifest { login, prefix, .. } => {
                assert!(login == "ann" && prefix.starts_with("/ann/stor/"), "{prefix}");
                (!prefix.ends_with("refused")).then(|| self.manifest())
            }
            Request::Release { manifests } => {
                manifests.iter().for_each(|id| assert!(self.look().held.remove(id)));
                Some((Reply::Released, Vec::new()))
            }
            Request::Open { login, path } => {
                assert_eq!((login.as_str(), path.as_str()), ("mobula", crate::images::OBJECT));
                while self.look().image_busy {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let image = self.look().image.as_ref().map(|file| file.try_clone().unwrap())?;
                let bytes = image.metadata().unwrap().len();
                Some((Reply::Opened { bytes }, vec![image.into()]))
            }
            Request::Publish { login, output } => {
                assert_eq!((login.as_str(), output.as_str()), ("ann", "/ann/stor/out"));
                let published = take(&fds[0]);
                self.look().publications += 1;
                while self.look().busy {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let mut contents = self.look();
                let made: Vec<String> =
                    published.keys().map(|name| format!("{output}/{name}")).collect();
                let objects = made.len() as u64;
                let reply = Published { objects, made, ..Default::default() };
                contents.published = Some(published);
                Some((Reply::Published(reply), Vec::new()))
            }
            _ => None,
        }
    }

    fn manifest(&self) -> (Reply, Vec<OwnedFd>) {
        let id = ManifestId(Uuid::new_v4());
        let objects = PathBuf::from("/media/objects");
        fs::create_dir_all(&objects).unwrap();
        fs::write(objects.join("0001"), "second\n").unwrap();
        // Not on a tmpfs: EROFS is mounted from files that have pages.
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(id.0.to_string());
        let mut stream = Stream::begin(File::create_new(&path).unwrap(), &Meta::of_mode(0o555));
        let stream = stream.as_mut().unwrap();
        let meta = Meta::of_mode(0o444);
        stream.file(b"one", &meta, 1, 6, &mut &b"first\n"[..]).unwrap();
        stream.enter(b"deep", &Meta::of_mode(0o555)).unwrap();
        let metacopy = [&[0_u8, 36, 0, 1][..], &[7; 32]].concat();
        let below = Meta {
            attributes: vec![
                (b"trusted.overlay.metacopy".to_vec(), metacopy),
                (b"trusted.overlay.redirect".to_vec(), b"/0001".to_vec()),
            ],
            ..meta
        };
        stream.absent(b"two", &below, 1, 7).unwrap();
        stream.leave().unwrap();
        finish(stream);
        let image = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        self.look().held.insert(id);
        let reply = Reply::Manifest {
            manifest: id,
            objects: 2,
            bytes: image.metadata().unwrap().len(),
            object_bytes: 13,
            left_out: 0,
            verity: false,
        };
        (reply, vec![image.into(), File::open(&objects).unwrap().into()])
    }
}

/// Ends a stream that is only borrowed.
fn finish(stream: &mut Stream<File>) {
    let empty = Stream::begin(tempfile::tempfile().unwrap(), &Meta::of_mode(0)).unwrap();
    std::mem::replace(stream, empty).finish().unwrap();
}

/// Reads a directory as storaged does, and tries what it must not be able to do.
fn take(directory: &OwnedFd) -> BTreeMap<String, (String, u32)> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    assert!(fs::write(path.join("new"), "").is_err(), "it can be written to");
    let mut taken = BTreeMap::new();
    let mut open = vec![path.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let at = entry.unwrap().path();
            if at.is_dir() {
                open.push(at);
                continue;
            }
            let file = File::open(&at).unwrap();
            assert!(Lease::take(file.as_fd()).unwrap().is_some(), "it is still being written");
            let owner = file.metadata().unwrap().uid();
            let text = String::from_utf8_lossy(&fs::read(&at).unwrap()).into_owned();
            let name = at.strip_prefix(&path).unwrap().to_str().unwrap().to_owned();
            taken.insert(name, (text, owner));
        }
    }
    taken
}

const SHOWING: &str = r#"{"name":"web","login":"ann","image":"base",
    "mounts":[{"prefix":"/ann/stor/logs"},{"prefix":"/ann/stor/logs/2026"},{"prefix":"/ann/stor/b"}]}"#;

#[test]
fn a_zone_shows_prefixes_until_it_stops_over_a_crash_of_zoned() {
    on_a_machine(
        "objects::a_zone_shows_prefixes_until_it_stops_over_a_crash_of_zoned",
        |machine| {
            let mut client = machine.client();
            client.create(SHOWING);
            client.reach("web", ZoneState::Running);
            let held = machine.shelf.look().held.clone();
            assert_eq!(held.len(), 2, "a prefix below another is shown by it");
            let script = "cd /manta/ann/stor; cat logs/one b/deep/two; ls logs b; \
            echo x > logs/one; rm -f logs/one; chmod 777 b/deep/two; ln b/one b/other; \
            grep -c /media /proc/self/mountinfo";
            let (_, text) = client.exec("web", script);
            assert!(
                text.starts_with("first\nsecond\nb:\ndeep\none\n\nlogs:\ndeep\none\n0\n"),
                "{text}"
            );
            assert_eq!(text.matches("Read-only file system").count(), 4, "{text}");
            let (outcome, _) =
                client.exec("web", "cp /manta/ann/stor/b/one /tmp && test -r /tmp/one");
            assert_eq!(outcome, Outcome::Exited { code: 0 });
            machine.crash();
            machine.start(None);
            let mut client = machine.client();
            client.reach("web", ZoneState::Running);
            assert_eq!(client.exec("web", "cat /manta/ann/stor/b/deep/two").1, "second\n");
            // One that nobody knows goes when zoned connects; those of the zone stay.
            assert_eq!(machine.shelf.look().held, held);
            client.zone(ZoneRequest::Stop { name: name("web"), timeout_s: 0 });
            client.reach("web", ZoneState::Installed);
            eventually("what it showed is released", || machine.shelf.look().held.is_empty());
            // Two prefixes of 13 bytes, once, whatever was read of them.
            eventually("its end is on record", || {
                usage(machine).iter().any(|line| line["event"] == "done")
            });
            let done = usage(machine).pop().unwrap();
            assert_eq!(done["total"]["object_bytes"], "26", "{done}");
        },
    );
}

#[test]
fn what_storaged_holds_for_nobody_is_released() {
    on_a_machine("objects::what_storaged_holds_for_nobody_is_released", |machine| {
        let mut client = machine.client();
        client.create(SHOWING);
        client.reach("web", ZoneState::Running);
        machine.shelf.look().held.insert(ManifestId(Uuid::from_u128(1)));
        machine.cut_power();
        machine.start(None);
        let mut client = machine.client();
        client.reach("web", ZoneState::Running);
        let held = machine.shelf.look().held.clone();
        assert!(held.len() == 2 && !held.contains(&ManifestId(Uuid::from_u128(1))), "{held:?}");
    });
}

#[test]
fn a_prefix_that_cannot_be_shown_is_why_a_zone_does_not_start() {
    on_a_machine(
        "objects::a_prefix_that_cannot_be_shown_is_why_a_zone_does_not_start",
        |machine| {
            let mut client = machine.client();
            client.create(
                r#"{"name":"web","login":"ann","image":"base",
                "mounts":[{"prefix":"/ann/stor/good"},{"prefix":"/ann/stor/refused"}]}"#,
            );
            client.reach("web", ZoneState::Failed);
            let (reply, _) = client.ask(ZoneRequest::Why(name("web"))).unwrap();
            let ZoneReply::Why(why) = reply else { panic!("unexpected {reply:?}") };
            assert!(
                why.iter().any(|line| line.contains("does not show /ann/stor/refused")),
                "{why:?}"
            );
            eventually("what was gathered is released", || machine.shelf.look().held.is_empty());
            client.zone(ZoneRequest::Stop { name: name("web"), timeout_s: 0 });
        },
    );
}

pub fn published(machine: &Machine) -> Vec<(String, String)> {
    let look = machine.shelf.look();
    let files = look.published.iter().flatten();
    files.map(|(name, (text, _))| (name.clone(), text.clone())).collect()
}

pub fn pair(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

#[test]
fn output_is_published_when_asked_and_when_a_zone_is_gone() {
    on_a_machine("objects::output_is_published_when_asked_and_when_a_zone_is_gone", |machine| {
        let mut client = machine.client();
        client.create(r#"{"name":"web","login":"ann","image":"base","output":"/ann/stor/out"}"#);
        client.reach("web", ZoneState::Running);
        client.exec("web", "umask 077; echo first > /out/a");
        let (reply, _) = client.ask(ZoneRequest::Publish(name("web"))).unwrap();
        assert!(matches!(reply, ZoneReply::Published(Published { objects: 1, .. })), "{reply:?}");
        assert_eq!(published(machine), [pair("a", "first\n")]);
        let owner = machine.shelf.look().published.as_ref().unwrap()["a"].1;
        assert_eq!(owner, 200, "storaged sees them as its own");
        client.exec("web", "echo second > /out/b");
        client.zone(ZoneRequest::Stop { name: name("web"), timeout_s: 0 });
        client.reach("web", ZoneState::Installed);
        assert_eq!(published(machine), [pair("a", "first\n"), pair("b", "second\n")]);
        let told = client.events(0);
        let of_web = told.iter().filter(|event| event.subject == Subject::Zone(name("web")));
        let published_events = of_web.filter(|event| matches!(event.what, What::Published(_)));
        assert!(published_events.count() >= 2, "{told:?}");
        // What was killed with it is gone, what it wrote before is not.
        client.zone(ZoneRequest::Start(name("web")));
        client.reach("web", ZoneState::Running);
        client.exec("web", "rm /out/*; echo last > /out/c");
        client.ask(ZoneRequest::Delete(name("web"))).unwrap();
        eventually("it is deleted", || client.try_state("web").is_none());
        assert_eq!(published(machine), [pair("c", "last\n")]);
        let no_zone = client.ask(ZoneRequest::Publish(name("web"))).unwrap_err();
        assert_eq!(no_zone.code, "NoSuchZone");
        client.run("mute", "");
        let none = client.ask(ZoneRequest::Publish(name("mute"))).unwrap_err();
        assert_eq!(none.code, "NoOutput");
    });
}

#[test]
fn output_that_a_power_cut_left_is_published_after_it() {
    on_a_machine("objects::output_that_a_power_cut_left_is_published_after_it", |machine| {
        let mut client = machine.client();
        client.create(
            r#"{"name":"web","login":"ann","image":"base","output":"/ann/stor/out",
                "autoboot":false}"#,
        );
        client.reach("web", ZoneState::Running);
        client.exec("web", "echo left > /out/a; sync");
        machine.cut_power();
        machine.start(None);
        let mut client = machine.client();
        client.reach("web", ZoneState::Installed);
        eventually("it is published", || published(machine) == [pair("a", "left\n")]);
    });
}
