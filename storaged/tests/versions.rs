//! Versions and object lock over S3, on this machine.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{BUCKET, Server, eventually};
use std::time::{Duration, SystemTime};
use tests::s3::{Answer, Ask};

fn on_bucket(server: &Server, method: &str, what: &str, body: Option<&str>) -> Answer {
    let path = format!("/{BUCKET}");
    let query = [(what, "")];
    let body = body.map(str::as_bytes);
    server.client.request(&Ask { query: &query, body, ..Ask::new(method, &path) }).unwrap()
}

fn switch(server: &Server, status: &str) -> u16 {
    let body =
        format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    on_bucket(server, "PUT", "versioning", Some(&body)).status
}

fn put(server: &Server, key: &str, body: &str) -> String {
    let answer = server.put(key, &[], body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-amz-version-id").to_owned()
}

fn with_version(server: &Server, method: &str, key: &str, version: &str) -> Answer {
    server.ask(method, key, Ask { query: &[("versionId", version)], ..Ask::new("", "") })
}

/// Body, version and whether it is a delete marker, of an object that may be read or not.
fn read(server: &Server, key: &str) -> (u16, String, String, String) {
    let answer = server.get(key, &[]);
    let text = if answer.status == 200 { answer.text() } else { answer.elements("Code").concat() };
    let header = |name: &str| answer.header(name).to_owned();
    (answer.status, text, header("x-amz-version-id"), header("x-amz-delete-marker"))
}

fn delete(server: &Server, key: &str) -> (String, String) {
    let answer = server.ask("DELETE", key, Ask::new("", ""));
    assert_eq!(answer.status, 204);
    let header = |name: &str| answer.header(name).to_owned();
    (header("x-amz-version-id"), header("x-amz-delete-marker"))
}

fn own(parts: (u16, &str, &str, &str)) -> (u16, String, String, String) {
    (parts.0, parts.1.to_owned(), parts.2.to_owned(), parts.3.to_owned())
}

#[test]
fn versioning_is_off_then_enabled_then_suspended() {
    let server = Server::start();
    let status = || on_bucket(&server, "GET", "versioning", None).elements("Status").concat();
    assert_eq!(status(), "");
    assert_eq!(switch(&server, "Enabled"), 200);
    assert_eq!(status(), "Enabled");
    assert_eq!(switch(&server, "Suspended"), 200);
    assert_eq!(status(), "Suspended");
    assert_eq!(switch(&server, "Off"), 400);
    let nothing = on_bucket(&server, "PUT", "versioning", Some("<VersioningConfiguration/>"));
    assert_eq!(nothing.status, 400);
    let mfa = "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>\
               </VersioningConfiguration>";
    assert_eq!(on_bucket(&server, "PUT", "versioning", Some(mfa)).status, 501);
    assert_eq!(status(), "Suspended");
}

#[test]
fn an_unversioned_bucket_shows_no_versions_and_knows_null() {
    let server = Server::start();
    assert_eq!(put(&server, "k", "1"), "");
    assert_eq!(put(&server, "k", "2"), "");
    assert_eq!(read(&server, "k"), own((200, "2", "", "")));
    assert_eq!(with_version(&server, "GET", "k", "null").text(), "2");
    assert_eq!(with_version(&server, "GET", "k", "0000000000000001").status, 404);
    assert_eq!(with_version(&server, "GET", "k", "nonsense").status, 400);
    assert_eq!(delete(&server, "k"), (String::new(), String::new()));
    assert_eq!(read(&server, "k"), own((404, "NoSuchKey", "", "")));
}

#[test]
fn versions_pile_up_and_each_can_be_read_and_removed() {
    let server = Server::start();
    put(&server, "k", "0");
    switch(&server, "Enabled");
    let large = "x".repeat(20_000);
    let (first, second) = (put(&server, "k", &large), put(&server, "k", "2"));
    assert_ne!(first, second);
    assert_eq!(read(&server, "k"), own((200, "2", &second, "")));
    assert!(with_version(&server, "GET", "k", &first).text() == large);
    let null = with_version(&server, "HEAD", "k", "null");
    assert_eq!((null.status, null.header("x-amz-version-id")), (200, "null"));

    let (marker, shown) = delete(&server, "k");
    assert_eq!(shown, "true");
    assert_eq!(read(&server, "k"), own((404, "NoSuchKey", &marker, "true")));
    let refused = with_version(&server, "GET", "k", &marker);
    assert_eq!((refused.status, refused.header("x-amz-delete-marker")), (405, "true"));
    assert_eq!(server.client.keys(BUCKET).unwrap(), [""; 0]);
    let undone = with_version(&server, "DELETE", "k", &marker);
    assert_eq!((undone.status, undone.header("x-amz-delete-marker")), (204, "true"));
    assert_eq!(read(&server, "k"), own((200, "2", &second, "")));

    let gone = with_version(&server, "DELETE", "k", &second);
    assert_eq!((gone.status, gone.header("x-amz-version-id")), (204, &*second));
    assert_eq!(with_version(&server, "GET", "k", &second).elements("Code"), ["NoSuchVersion"]);
    assert!(read(&server, "k").1 == large);
    assert_eq!(with_version(&server, "DELETE", "k", "null").status, 204);
    assert_eq!(with_version(&server, "DELETE", "k", &first).status, 204);
    assert_eq!(on_bucket(&server, "GET", "versions", None).elements("VersionId"), [""; 0]);
    assert_eq!(server.client.request(&Ask::new("DELETE", "/bucket")).unwrap().status, 204);
}

#[test]
fn a_suspended_bucket_replaces_the_null_version_alone() {
    let server = Server::start();
    put(&server, "k", "0");
    switch(&server, "Enabled");
    let first = put(&server, "k", "1");
    switch(&server, "Suspended");
    assert_eq!(put(&server, "k", "2"), "null");
    assert_eq!(put(&server, "k", "3"), "null");
    let ids = || on_bucket(&server, "GET", "versions", None).elements("VersionId");
    assert_eq!(ids(), ["null", &*first]);
    assert_eq!(delete(&server, "k"), ("null".to_owned(), "true".to_owned()));
    assert_eq!(ids().len(), 2);
    assert_eq!(with_version(&server, "GET", "k", &first).text(), "1");
    assert_eq!(with_version(&server, "GET", "k", "null").status, 405);
    assert_eq!(server.client.request(&Ask::new("DELETE", "/bucket")).unwrap().status, 409);
}

#[test]
fn versions_are_listed_in_pages_that_miss_nothing() {
    let server = Server::start();
    switch(&server, "Enabled");
    let mut expected = Vec::new();
    for key in ["a b", "d/1", "d/2", "z"] {
        let mut ids: Vec<_> = (0..3).map(|n| put(&server, key, &n.to_string())).collect();
        if key == "z" {
            ids.push(delete(&server, key).0);
        }
        ids.reverse();
        expected.extend(ids.into_iter().map(|id| (key.to_owned(), id)));
    }
    let page = |query: &[(&str, &str)]| server.list(&[&[("versions", "")], query].concat());
    let mut seen = Vec::new();
    let (mut key, mut version) = (String::new(), String::new());
    loop {
        let markers = [("key-marker", &*key), ("version-id-marker", &*version)];
        let markers = if key.is_empty() { &[][..] } else { &markers[..] };
        let answer = page(&[&[("max-keys", "2")], markers].concat());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let keys = answer.elements("Key");
        let entries: Vec<_> = keys.into_iter().zip(answer.elements("VersionId")).collect();
        seen.extend(entries);
        if answer.elements("IsTruncated") == ["false"] {
            break;
        }
        (key, version) = (
            answer.elements("NextKeyMarker").concat(),
            answer.elements("NextVersionIdMarker").concat(),
        );
    }
    assert_eq!(seen, expected);

    let latest = page(&[]).elements("IsLatest");
    assert_eq!(latest.iter().filter(|word| *word == "true").count(), 4);
    let folded = page(&[("delimiter", "/"), ("encoding-type", "url")]);
    assert_eq!(folded.elements("CommonPrefixes"), ["<Prefix>d/</Prefix>"]);
    assert_eq!(folded.elements("Key").len(), 7);
    assert!(folded.elements("Key").contains(&"a%20b".to_owned()));
    assert_eq!(page(&[("prefix", "d/"), ("key-marker", "d/1")]).elements("Key").len(), 3);
    assert_eq!(page(&[("version-id-marker", "null")]).status, 400);
    assert_eq!(server.client.keys(BUCKET).unwrap(), ["a b", "d/1", "d/2"]);
}

#[test]
fn many_versions_go_at_once() {
    let server = Server::start();
    switch(&server, "Enabled");
    let (old, new) = (put(&server, "k", "1"), put(&server, "k", "2"));
    let object = |id: &str| match id {
        "" => "<Object><Key>k</Key></Object>".to_owned(),
        id => format!("<Object><Key>k</Key><VersionId>{id}</VersionId></Object>"),
    };
    let remove = |ids: &[&str]| {
        let objects: String = ids.iter().map(|id| object(id)).collect();
        let answer =
            on_bucket(&server, "POST", "delete", Some(&format!("<Delete>{objects}</Delete>")));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    };
    let marked = remove(&[""]);
    let marker = marked.elements("DeleteMarkerVersionId").concat();
    assert_eq!(marked.elements("DeleteMarker"), ["true"]);
    assert_eq!(read(&server, "k").2, marker);
    let undone = remove(&[&marker, &new, "bad"]);
    assert_eq!(undone.elements("DeleteMarkerVersionId"), [&*marker]);
    assert_eq!(undone.elements("Code"), ["InvalidArgument"]);
    assert_eq!(read(&server, "k"), own((200, "1", &old, "")));
}

/// A time so many seconds from now, as clients write it.
fn in_seconds(seconds: u64) -> String {
    let time = SystemTime::now() + Duration::from_secs(seconds);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let time = time::OffsetDateTime::from_unix_timestamp(since.as_secs() as i64).unwrap();
    let (date, (hour, minute, second)) = (time.date(), time.to_hms());
    let (year, month, day) = date.to_calendar_date();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}

const LOCKED: &str = "locked";

/// A server with a bucket that locks.
fn locking() -> Server {
    let server = Server::start();
    let ask = Ask {
        headers: &[("x-amz-bucket-object-lock-enabled", "true")],
        body: Some(b""),
        ..Ask::new("PUT", "/locked")
    };
    assert_eq!(server.client.request(&ask).unwrap().status, 200);
    server
}

fn lock(server: &Server, method: &str, path: &str, what: Ask<'_>) -> Answer {
    let path = format!("/{LOCKED}{path}");
    server.client.request(&Ask { method, path: &path, ..what }).unwrap()
}

/// A version that is kept for a while.
fn put_kept(server: &Server, key: &str, headers: &[(&str, &str)]) -> Answer {
    // The MD5 of "abc".
    let sum = [("content-md5", "kAFQmDzST7DWlj99KOF/cg==")];
    let headers = [&sum, headers].concat();
    lock(
        server,
        "PUT",
        &format!("/{key}"),
        Ask { headers: &headers, body: Some(b"abc"), ..Ask::new("", "") },
    )
}

fn remove_version(server: &Server, key: &str, id: &str, headers: &[(&str, &str)]) -> u16 {
    let ask = Ask { query: &[("versionId", id)], headers, ..Ask::new("", "") };
    lock(server, "DELETE", &format!("/{key}"), ask).status
}

fn retain(
    server: &Server,
    key: &str,
    id: &str,
    retention: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let body = format!("<Retention>{retention}</Retention>");
    let query = [("retention", ""), ("versionId", id)];
    let ask = Ask { query: &query, headers, body: Some(body.as_bytes()), ..Ask::new("", "") };
    lock(server, "PUT", &format!("/{key}"), ask)
}

const BYPASS: (&str, &str) = ("x-amz-bypass-governance-retention", "true");

#[test]
fn retention_keeps_a_version_and_governance_yields_to_permission() {
    let server = locking();
    let hour = in_seconds(3600);
    for mode in ["GOVERNANCE", "COMPLIANCE"] {
        let headers =
            [("x-amz-object-lock-mode", mode), ("x-amz-object-lock-retain-until-date", &*hour)];
        let stored = put_kept(&server, mode, &headers);
        assert_eq!(stored.status, 200, "{}", stored.text());
        let id = stored.header("x-amz-version-id");
        let head = lock(&server, "HEAD", &format!("/{mode}"), Ask::new("", ""));
        assert_eq!(head.header("x-amz-object-lock-mode"), mode);
        assert!(!head.header("x-amz-object-lock-retain-until-date").is_empty());
        // A marker may be laid on it; the version stays.
        assert_eq!(lock(&server, "DELETE", &format!("/{mode}"), Ask::new("", "")).status, 204);
        assert_eq!(remove_version(&server, mode, id, &[]), 403);
        let shorter =
            format!("<Mode>{mode}</Mode><RetainUntilDate>{}</RetainUntilDate>", in_seconds(60));
        assert_eq!(retain(&server, mode, id, &shorter, &[]).status, 403);
        let longer =
            format!("<Mode>{mode}</Mode><RetainUntilDate>{}</RetainUntilDate>", in_seconds(7200));
        assert_eq!(retain(&server, mode, id, &longer, &[]).status, 200);
        let (may, gone) = if mode == "GOVERNANCE" { (200, 204) } else { (403, 403) };
        assert_eq!(retain(&server, mode, id, &shorter, &[BYPASS]).status, may);
        let asked = Ask { query: &[("retention", ""), ("versionId", id)], ..Ask::new("", "") };
        assert_eq!(lock(&server, "GET", &format!("/{mode}"), asked).elements("Mode"), [mode]);
        assert_eq!(remove_version(&server, mode, id, &[]), 403);
        assert_eq!(remove_version(&server, mode, id, &[BYPASS]), gone);
    }
}

#[test]
fn a_retention_ends_with_its_time() {
    let server = locking();
    let end = SystemTime::now() + Duration::from_secs(5);
    let soon = in_seconds(5);
    let headers =
        [("x-amz-object-lock-mode", "COMPLIANCE"), ("x-amz-object-lock-retain-until-date", &*soon)];
    let stored = put_kept(&server, "k", &headers);
    let id = stored.header("x-amz-version-id");
    let removed = || remove_version(&server, "k", id, &[]);
    eventually("the version may go", || {
        let status = removed();
        assert!([403, 204].contains(&status), "{status}");
        status == 204
    });
    // The date has whole seconds.
    assert!(SystemTime::now() + Duration::from_secs(1) > end, "it went too early");
}

#[test]
fn a_legal_hold_keeps_a_version_until_it_is_lifted() {
    let server = locking();
    let stored = put_kept(&server, "k", &[("x-amz-object-lock-legal-hold", "ON")]);
    let id = stored.header("x-amz-version-id");
    let hold = |method: &str, body: Option<&str>| {
        let query = [("legal-hold", ""), ("versionId", id)];
        let body = body.map(str::as_bytes);
        lock(&server, method, "/k", Ask { query: &query, body, ..Ask::new("", "") })
    };
    assert_eq!(hold("GET", None).elements("Status"), ["ON"]);
    assert_eq!(remove_version(&server, "k", id, &[BYPASS]), 403);
    let several =
        format!("<Delete><Object><Key>k</Key><VersionId>{id}</VersionId></Object></Delete>");
    let ask = Ask { query: &[("delete", "")], body: Some(several.as_bytes()), ..Ask::new("", "") };
    assert_eq!(lock(&server, "POST", "", ask).elements("Code"), ["AccessDenied"]);
    assert_eq!(hold("PUT", Some("<LegalHold><Status>maybe</Status></LegalHold>")).status, 400);
    assert_eq!(hold("PUT", Some("<LegalHold><Status>OFF</Status></LegalHold>")).status, 200);
    assert_eq!(hold("GET", None).elements("Status"), ["OFF"]);
    assert_eq!(remove_version(&server, "k", id, &[]), 204);
}

#[test]
fn a_legal_hold_that_never_was_is_not_found() {
    let server = locking();
    let asked = |key: &str| {
        let query = [("legal-hold", "")];
        let said = lock(&server, "GET", key, Ask { query: &query, ..Ask::new("", "") });
        let head = lock(&server, "HEAD", key, Ask::new("", ""));
        let shown = head.header("x-amz-object-lock-legal-hold").to_owned();
        (said.status, said.elements("Code").join(""), said.elements("Status").join(""), shown)
    };
    let own = |text: &str| text.to_owned();
    put_kept(&server, "never", &[]);
    assert_eq!(asked("/never"), (404, own("NoSuchObjectLockConfiguration"), own(""), own("")));
    put_kept(&server, "off", &[("x-amz-object-lock-legal-hold", "OFF")]);
    assert_eq!(asked("/off"), (200, own(""), own("OFF"), own("OFF")));
    put_kept(&server, "on", &[("x-amz-object-lock-legal-hold", "ON")]);
    assert_eq!(asked("/on"), (200, own(""), own("ON"), own("ON")));
}

#[test]
fn locks_are_shown_to_who_may_see_them() {
    let server = locking();
    let hour = in_seconds(3600);
    let headers = [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-retain-until-date", &*hour),
        ("x-amz-object-lock-legal-hold", "ON"),
    ];
    assert_eq!(put_kept(&server, "k", &headers).status, 200);
    let bob = tests::s3::Client::new(&server.address.to_string(), common::keys(common::BOB));
    let seen = |actions: &str| {
        let policy = format!(
            "{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":\"bob\"}},\
             \"Action\":[{actions}],\"Resource\":\"arn:aws:s3:::{LOCKED}/*\"}}]}}"
        );
        let ask =
            Ask { query: &[("policy", "")], body: Some(policy.as_bytes()), ..Ask::new("", "") };
        assert_eq!(lock(&server, "PUT", "", ask).status, 204);
        let got = bob.request(&Ask::new("GET", &format!("/{LOCKED}/k"))).unwrap();
        assert_eq!(got.status, 200, "{}", got.text());
        headers.map(|(name, _)| !got.header(name).is_empty())
    };
    assert_eq!(seen("\"s3:GetObject\""), [false, false, false]);
    assert_eq!(seen("\"s3:GetObject\",\"s3:GetObjectRetention\""), [true, true, false]);
    assert_eq!(seen("\"s3:GetObject\",\"s3:GetObjectLegalHold\""), [false, false, true]);
}

#[test]
fn a_bucket_s_default_retention_is_given_to_what_is_written() {
    let server = locking();
    let configure = |rule: &str| {
        let body = format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}\
             </ObjectLockConfiguration>"
        );
        let ask =
            Ask { query: &[("object-lock", "")], body: Some(body.as_bytes()), ..Ask::new("", "") };
        lock(&server, "PUT", "", ask).status
    };
    let rule = |inside: &str| format!("<Rule><DefaultRetention>{inside}</DefaultRetention></Rule>");
    assert_eq!(configure(&rule("<Mode>COMPLIANCE</Mode><Days>1</Days><Years>1</Years>")), 400);
    assert_eq!(configure(&rule("<Mode>COMPLIANCE</Mode><Days>0</Days>")), 400);
    assert_eq!(configure(&rule("<Mode>COMPLIANCE</Mode><Days>3</Days>")), 200);
    let asked = Ask { query: &[("object-lock", "")], ..Ask::new("", "") };
    let configured = lock(&server, "GET", "", asked);
    assert_eq!(
        (configured.elements("Days"), configured.elements("Mode")),
        (vec!["3".into()], vec!["COMPLIANCE".into()])
    );
    let unsure = Ask { body: Some(b"abc"), ..Ask::new("", "") };
    assert_eq!(lock(&server, "PUT", "/k", unsure).status, 400, "nothing vouches for it");
    let stored = put_kept(&server, "k", &[]);
    let id = stored.header("x-amz-version-id");
    let head = lock(&server, "HEAD", "/k", Ask::new("", ""));
    assert_eq!(head.header("x-amz-object-lock-mode"), "COMPLIANCE");
    assert_eq!(remove_version(&server, "k", id, &[BYPASS]), 403);
    let suspend = Ask {
        query: &[("versioning", "")],
        body: Some(
            b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>",
        ),
        ..Ask::new("", "")
    };
    assert_eq!(lock(&server, "PUT", "", suspend).elements("Code"), ["InvalidBucketState"]);
    assert_eq!(lock(&server, "DELETE", "", Ask::new("", "")).status, 409);
}

#[test]
fn a_bucket_without_object_lock_takes_no_locks() {
    let server = Server::start();
    let hour = in_seconds(3600);
    let headers = [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-retain-until-date", &*hour),
        ("content-md5", "kAFQmDzST7DWlj99KOF/cg=="),
    ];
    assert_eq!(server.put("k", &headers, b"abc").elements("Code"), ["InvalidRequest"]);
    put(&server, "k", "abc");
    let query = [("retention", "")];
    let asked = server.ask("GET", "k", Ask { query: &query, ..Ask::new("", "") });
    assert_eq!(asked.elements("Code"), ["InvalidRequest"]);
    let none = on_bucket(&server, "GET", "object-lock", None);
    assert_eq!(
        (none.status, none.elements("Code").concat()),
        (404, "ObjectLockConfigurationNotFoundError".to_owned())
    );
    let enabled = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
    assert_eq!(on_bucket(&server, "PUT", "object-lock", Some(enabled)).status, 409);
    switch(&server, "Enabled");
    assert_eq!(on_bucket(&server, "PUT", "object-lock", Some(enabled)).status, 200);
    assert_eq!(server.put("k", &headers, b"abc").status, 200);
}
