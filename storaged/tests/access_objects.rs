//! Who may do what with single objects, over HTTP: tags, versions, copies, what is not there.

mod common;

use common::BUCKET;
use common::people::{
    ALL, BOBS, ada, allow, bob, bucket, nobody, open, policy, said, start, statement,
};
use tests::s3::Ask;

#[test]
fn who_may_not_list_learns_nothing_of_what_is_not_there() {
    let server = start();
    let bob = bob(&server);
    let all = allow(BOBS, "s3:*Object*", "/*", "{}");
    assert_eq!(policy(&server, &all).status, 204);
    let asked = |key: &str, kind: &str| {
        let query: Vec<_> = [(kind, "")].into_iter().filter(|(name, _)| !name.is_empty()).collect();
        let headers = [("x-amz-object-attributes", "ETag")];
        let path = format!("/{BUCKET}/{key}");
        said(&bob.ask("GET", &path, &query, Ask { headers: &headers, ..Ask::new("", "") }))
    };
    for kind in ["", "tagging", "attributes", "acl"] {
        assert_eq!(
            (asked("k", kind), asked("never", kind)),
            ("200".into(), "AccessDenied".into()),
            "{kind}"
        );
    }
    let list = allow(BOBS, "s3:ListBucket", "", "{}");
    assert_eq!(policy(&server, &format!("{all},{list}")).status, 204);
    for kind in ["", "tagging", "attributes", "acl"] {
        assert_eq!(asked("never", kind), "NoSuchKey", "{kind}");
    }
}

#[test]
fn tags_that_are_and_tags_that_are_to_be_decide() {
    let server = start();
    let (ada, bob) = (ada(&server), bob(&server));
    let tagged = "{\"StringEquals\":{\"s3:ExistingObjectTag/for\":\"bob\"}}";
    assert_eq!(policy(&server, &allow(BOBS, "s3:GetObject", "/*", tagged)).status, 204);
    let put =
        |headers: &[(&str, &str)]| assert_eq!(ada.with("PUT", "/bucket/t", headers).status, 200);
    put(&[("x-amz-tagging", "for=bob")]);
    assert_eq!((bob.get("t"), bob.get("k")), (200, 403));
    put(&[("x-amz-tagging", "for=eve&a=b")]);
    assert_eq!(bob.get("t"), 403);
    put(&[]);
    assert_eq!(bob.get("t"), 403);
    let only = "{\"ForAllValues:StringEquals\":{\"s3:RequestObjectTagKeys\":[\"colour\"]},\
                \"StringEquals\":{\"s3:RequestObjectTag/colour\":\"red\"}}";
    let may = format!(
        "{},{}",
        allow(BOBS, "s3:PutObjectTagging", "/*", only),
        allow(BOBS, "s3:PutObject", "/*", "{}")
    );
    assert_eq!(policy(&server, &may).status, 204);
    let set = |key: &str, value: &str| {
        let tag = format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>");
        let document = format!("<Tagging><TagSet>{tag}</TagSet></Tagging>");
        bob.put("/bucket/t", &[("tagging", "")], &document).status
    };
    assert_eq!((set("colour", "red"), set("colour", "blue"), set("shape", "red")), (200, 403, 403));
    let with = |tags| bob.with("PUT", "/bucket/n", &[("x-amz-tagging", tags)]).status;
    assert_eq!((with("colour=red"), with("colour=blue"), with("colour=red&a=b")), (200, 403, 403));
}

#[test]
fn versions_need_a_permission_of_their_own() {
    let server = start();
    let (ada, bob) = (ada(&server), bob(&server));
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(ada.put(&bucket(), &[("versioning", "")], on).status, 200);
    let first = ada.with("PUT", "/bucket/v", &[]);
    let id = first.header("x-amz-version-id").to_owned();
    assert_eq!(ada.with("PUT", "/bucket/v", &[]).status, 200);
    let get = |id: &str| bob.ask("GET", "/bucket/v", &[("versionId", id)], Ask::new("", "")).status;
    let delete = |id: &str| {
        let one =
            format!("<Delete><Object><Key>v</Key><VersionId>{id}</VersionId></Object></Delete>");
        let ask = Ask { body: Some(one.as_bytes()), ..Ask::new("", "") };
        let many = bob.ask("POST", &bucket(), &[("delete", "")], ask);
        let one = bob.ask("DELETE", "/bucket/v", &[("versionId", id)], Ask::new("", ""));
        (many.elements("Code").len(), one.status)
    };
    assert_eq!(policy(&server, &allow(BOBS, "s3:*Object", "/*", "{}")).status, 204);
    assert_eq!((bob.get("v"), get(&id), delete(&id)), (200, 403, (1, 403)));
    let this = format!("{{\"StringEquals\":{{\"s3:VersionId\":\"{id}\"}}}}");
    assert_eq!(policy(&server, &allow(BOBS, "s3:GetObjectVersion", "/*", &this)).status, 204);
    assert_eq!((bob.get("v"), get(&id), get("null")), (403, 200, 403));
    assert_eq!(policy(&server, &allow(BOBS, "s3:DeleteObjectVersion", "/*", "{}")).status, 204);
    assert_eq!(bob.plain("DELETE", "/bucket/v").status, 403);
    assert_eq!(delete(&id), (0, 204));
}

#[test]
fn who_may_not_read_learns_nothing_by_a_tag() {
    let server = start();
    let bob = bob(&server);
    let tag = server.client.put(BUCKET, "k", b"secret").unwrap();
    let ask = |method: &str, tag: &str| bob.with(method, "/bucket/k", &[("if-match", tag)]).status;
    let many = |tag: &str| {
        let tag = format!("<ETag>{}</ETag>", tag.trim_matches('"'));
        let list = format!("<Delete><Object><Key>k</Key>{tag}</Object></Delete>");
        let ask = Ask { body: Some(list.as_bytes()), ..Ask::new("", "") };
        bob.ask("POST", &bucket(), &[("delete", "")], ask).elements("Code").pop()
    };
    let changes = allow(BOBS, "s3:*Object", "/*", "{}");
    let blind = format!("{changes},{}", statement("Deny", BOBS, "s3:GetObject", "/*", "{}"));
    assert_eq!(policy(&server, &blind).status, 204);
    for tag in ["\"00\"", &tag] {
        assert_eq!((ask("PUT", tag), ask("DELETE", tag)), (403, 403), "{tag}");
        assert_eq!(many(tag).as_deref(), Some("AccessDenied"), "{tag}");
    }
    // Whether there is an object at all tells no content.
    assert_eq!(ask("PUT", "*"), 200);
    assert_eq!(ask("DELETE", "*"), 204);
    let tag = server.client.put(BUCKET, "k", b"secret").unwrap();
    assert_eq!(policy(&server, &changes).status, 204);
    assert_eq!((ask("PUT", "\"00\""), ask("DELETE", "\"00\"")), (412, 412));
    assert_eq!(many("\"00\"").as_deref(), Some("PreconditionFailed"));
    assert_eq!((many(&tag), server.client.get(BUCKET, "k").unwrap()), (None, None));
    server.client.put(BUCKET, "k", b"secret").unwrap();
    assert_eq!((many("*"), server.client.get(BUCKET, "k").unwrap()), (None, None));
}

#[test]
fn a_copy_needs_both_ends() {
    let server = start();
    let (ada, bob) = (ada(&server), bob(&server));
    assert_eq!(bob.plain("PUT", "/bobs-own").status, 200);
    let copy = |who: &common::people::As<'_>, from: &str, to: &str| {
        let headers = [("x-amz-copy-source", from)];
        who.ask("PUT", to, &[], Ask { headers: &headers, ..Ask::new("", "") }).status
    };
    assert_eq!(copy(&bob, "/bucket/k", "/bobs-own/k"), 403);
    assert_eq!(copy(&ada, "/bucket/k", "/bobs-own/k"), 403);
    assert_eq!(copy(&bob, "/bucket/never", "/bobs-own/k"), 403);
    assert_eq!(policy(&server, &allow(BOBS, "s3:GetObject", "/open/*", "{}")).status, 204);
    assert_eq!(copy(&bob, "/bucket/k", "/bobs-own/k"), 403);
    assert_eq!(copy(&bob, "/bucket/open/k", "/bobs-own/k"), 200);
    assert_eq!(copy(&bob, "/bucket/open/k", "/bucket/new"), 403);
    assert_eq!(bob.plain("GET", "/bobs-own/k").body, b"secret");
    assert_eq!(ada.plain("GET", "/bobs-own/k").status, 403);
}

#[test]
fn nobody_writes_where_the_public_may_and_the_owner_owns_it() {
    let server = start();
    let (ada, nobody) = (ada(&server), nobody(&server));
    open(&server);
    let statements = format!(
        "{},{}",
        allow(ALL, "s3:PutObject", "/drop/*", "{}"),
        statement("Deny", ALL, "s3:PutObject", "/drop/*.exe", "{}")
    );
    assert_eq!(policy(&server, &statements).status, 204);
    let put = |path: &str, headers: &[(&str, &str)]| nobody.with("PUT", path, headers).status;
    assert_eq!((put("/bucket/drop/a", &[]), put("/bucket/drop/a.exe", &[])), (200, 403));
    // A key is no path: this is another object than k.
    assert_eq!(put("/bucket/drop/../k", &[]), 200);
    assert_eq!(put("/bucket/drop/t", &[("x-amz-tagging", "a=b")]), 403, "tags need their own");
    assert_eq!(nobody.get("drop/a"), 403);
    assert_eq!((ada.get("drop/a"), ada.plain("GET", "/bucket/k").body), (200, b"secret".to_vec()));
    assert_eq!(ada.put("/bucket/drop/b.exe", &[], "x").status, 403, "a deny is for all");
}

#[test]
fn presigned_urls_are_their_signers_and_say_so() {
    let server = start();
    let bob = bob(&server);
    let condition = "{\"StringEquals\":{\"s3:authType\":\"REST-HEADER\"}}";
    assert_eq!(policy(&server, &allow(BOBS, "s3:GetObject", "/*", condition)).status, 204);
    let presigned = common::people::As {
        signing: tests::s3::Signing::Presigned,
        ..common::people::bob(&server)
    };
    assert_eq!((bob.get("k"), presigned.get("k")), (200, 403));
}
