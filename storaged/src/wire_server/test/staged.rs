//! Files that zoned has something write become objects, or nothing.

use super::{FakeZoned, House};
use std::fs::File;
use std::io::Write;
use wire::task::{Reply, Request, StagedId};

fn stage(zoned: &mut FakeZoned) -> (StagedId, File) {
    let (reply, mut fds) = zoned.ask(&Request::Stage { project: 0 });
    let Ok(Reply::Staged { staged }) = reply else { panic!("{reply:?}") };
    (staged, fds.pop().unwrap().into())
}

fn commit(staged: StagedId, login: &str, path: &str) -> Request {
    let (login, path) = (login.to_owned(), path.to_owned());
    Request::Commit { staged, login, path, content_type: "application/octet-stream".to_owned() }
}

fn remove(path: &str) -> Request {
    Request::Remove { login: "ann".to_owned(), path: path.to_owned() }
}

#[test]
fn what_was_written_becomes_an_object_and_goes_when_it_is_removed() {
    const PATH: &str = "/ann/stor/images/x.erofs";
    let house = House::new();
    let mut zoned = house.zoned();
    let (staged, mut file) = stage(&mut zoned);
    file.write_all(b"an image").unwrap();
    drop(file);
    let reply = zoned.ask(&commit(staged, "ann", PATH)).0.unwrap();
    let sha256 = "a5df3fde7b200c3fa2791144c7e05c5c2bced4c6ad863d3a4cf76c972c1712f9".to_owned();
    assert_eq!(reply, Reply::Committed { bytes: 8, sha256 });
    assert_eq!(house.read(PATH).unwrap(), b"an image");
    let again = zoned.ask(&commit(staged, "ann", PATH)).0.unwrap_err();
    assert_eq!(again.code, "NoSuchFile");
    assert_eq!(zoned.ask(&remove(PATH)).0.unwrap(), Reply::Removed);
    assert_eq!(house.read(PATH), None);
    assert_eq!(zoned.ask(&remove(PATH)).0.unwrap(), Reply::Removed, "it is gone, as asked");
}

#[test]
fn an_account_of_the_system_s_own_is_made_for_its_first_object() {
    let house = House::new();
    let mut zoned = house.zoned();
    let (staged, file) = stage(&mut zoned);
    drop(file);
    let committed = zoned.ask(&commit(staged, "mobula", "/mobula/stor/images/a.erofs")).0;
    assert!(matches!(committed, Ok(Reply::Committed { bytes: 0, .. })), "{committed:?}");
    let account = zoned.ask(&Request::Account { login: "mobula".to_owned() }).0;
    assert!(matches!(account, Ok(Reply::Account { .. })), "{account:?}");
}

#[test]
fn names_of_others_and_files_still_written_are_refused() {
    let house = House::new();
    let mut zoned = house.zoned();
    let (staged, file) = stage(&mut zoned);
    let refused = zoned.ask(&commit(staged, "ann", "/bob/stor/x")).0.unwrap_err();
    assert_eq!(refused.code, "Authorization");
    drop(file);
    let refused = zoned.ask(&remove("/bob/stor/x")).0.unwrap_err();
    assert_eq!(refused.code, "Authorization");
    let (staged, _writer) = stage(&mut zoned);
    let refused = zoned.ask(&commit(staged, "ann", "/ann/stor/x")).0.unwrap_err();
    assert!(refused.message.contains("open for writing"), "{refused:?}");
    assert_eq!(house.read("/ann/stor/x"), None);
}

#[test]
fn files_end_with_their_connection_and_are_not_without_number() {
    let house = House::new();
    let mut zoned = house.zoned();
    let (first, _) = stage(&mut zoned);
    assert_eq!(zoned.ask(&Request::Discard { staged: first }).0.unwrap(), Reply::Removed);
    let mut files: Vec<_> = (0..8).map(|_| stage(&mut zoned)).collect();
    let refused = zoned.ask(&Request::Stage { project: 0 }).0.unwrap_err();
    assert_eq!(refused.code, "Busy");
    drop(zoned);
    let mut zoned = house.zoned();
    let (last, file) = files.pop().unwrap();
    drop((file, files));
    let refused = zoned.ask(&commit(last, "ann", "/ann/stor/x")).0.unwrap_err();
    assert_eq!(refused.code, "NoSuchFile");
    stage(&mut zoned);
}
