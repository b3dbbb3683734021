//! The log over a real store.

use super::slot::Slot;
use super::*;
use crate::store::{ObjectPath, Options};

struct Place {
    data: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Place {
        let data = tempfile::tempdir().unwrap();
        let options = Options { kept_bytes: Some(0), ..Options::new(data.path()) };
        Place { store: Store::open(options).unwrap(), data }
    }

    fn start(&self) -> Hourly {
        Hourly::start(&self.store, self.data.path(), "system", &ACCESS).unwrap()
    }

    fn object(&self, slot: Slot) -> Option<Vec<u8>> {
        let owner = self.store.transact_wait(|txn| txn.account("system")).unwrap();
        let path = ObjectPath::of_key(owner, ACCESS.bucket, slot.key().as_bytes()).unwrap();
        let (record, file) = self.store.open_object(&path).unwrap()?;
        let file = file.expect("a log is no inline object");
        let mut bytes = vec![0; record.size as usize];
        let read = sys::transfer::read_cached(&*file, 0, &mut bytes).unwrap();
        assert_eq!(read, sys::transfer::Moved::Bytes(bytes.len()));
        Some(bytes)
    }

    fn spool(&self, slot: Slot) -> PathBuf {
        self.data.path().join(ACCESS.directory).join(slot.file())
    }
}

fn say(log: &Hourly, line: &str) {
    log.lines().unwrap().pieces.send(format!("{line}\n").into_bytes()).unwrap();
}

#[test]
fn an_hour_is_one_object_also_over_a_restart() {
    let place = Place::new();
    let before = Slot::at(now());
    for line in ["a", "b"] {
        let log = place.start();
        say(&log, line);
    }
    // The test may run over the end of an hour.
    let all = [before, Slot::at(now())].map(|slot| place.object(slot).unwrap_or_default());
    assert!(all.contains(&b"a\nb\n".to_vec()) || all == [b"a\n".to_vec(), b"b\n".to_vec()]);
    assert!(place.spool(Slot::at(now())).exists());
}

#[test]
fn earlier_hours_become_objects_at_the_start() {
    let place = Place::new();
    drop(place.start());
    let slots = [Slot { hour: 400_000, part: 0 }, Slot { hour: 400_000, part: 1 }];
    slots.iter().for_each(|slot| fs::write(place.spool(*slot), slot.file()).unwrap());
    fs::write(place.data.path().join(ACCESS.directory).join("something else"), "x").unwrap();
    drop(place.start());
    for slot in slots {
        assert_eq!(place.object(slot).unwrap(), slot.file().as_bytes());
        assert!(!place.spool(slot).exists());
    }
}

#[test]
fn somebody_elses_bucket_is_not_taken() {
    let place = Place::new();
    drop(place.start());
    let other = Hourly::start(&place.store, place.data.path(), "other", &ACCESS);
    assert!(matches!(other, Err(HourlyError::Taken { .. })));
}

#[test]
fn a_part_that_is_an_object_already_is_not_written_over() {
    let place = Place::new();
    let slot = Slot::at(now());
    let log = place.start();
    say(&log, "first");
    drop(log);
    // As if it had been full: the object stays, the file goes.
    fs::remove_file(place.spool(slot)).unwrap();
    let log = place.start();
    say(&log, "second");
    drop(log);
    if Slot::at(now()).hour == slot.hour {
        assert_eq!(place.object(slot).unwrap(), b"first\n");
        assert_eq!(place.object(slot.next()).unwrap(), b"second\n");
    }
}

#[test]
fn what_was_answered_is_on_disk_and_in_the_object_of_its_hour() {
    let place = Place::new();
    let start = || Hourly::start(&place.store, place.data.path(), "mobula", &USAGE).unwrap();
    let hour = Slot::at(now());
    let log = start();
    log.usage().unwrap().keep(pieced(&["{}".to_owned()]).unwrap()).unwrap();
    let file = place.data.path().join(USAGE.directory).join(hour.file());
    assert!(Slot::at(now()) != hour || fs::read(&file).unwrap() == b"{}\n");
    drop(log);
    // A power cut has torn a line.
    if let Ok(text) = fs::read_to_string(&file) {
        fs::write(&file, text + "{\"half").unwrap();
    }
    let log = start();
    log.usage().unwrap().keep(pieced(&["{\"b\":1}".to_owned()]).unwrap()).unwrap();
    drop(log);
    if Slot::at(now()) == hour {
        let owner = place.store.transact_wait(|txn| txn.account("mobula")).unwrap();
        let path = ObjectPath::of_key(owner, USAGE.bucket, hour.key().as_bytes()).unwrap();
        let (record, _) = place.store.open_object(&path).unwrap().unwrap();
        assert_eq!(record.size, b"{}\n{\"half\n{\"b\":1}\n".len() as u64);
    }
}
