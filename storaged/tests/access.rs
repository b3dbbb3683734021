//! Who may do what, over HTTP: strangers, nobody, wrong signatures; policies, lists, and what stands above
//! them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::people::{
    ALL, As, BOBS, ada, allow, bob, bucket, nobody, open, policy, said, start, statement,
};
use common::{BUCKET, Server};
use tests::s3::{Ask, Signing};

/// Every operation there is a way to ask for: method, path below the bucket, query, headers, body.
type Attack = (
    &'static str,
    &'static str,
    Vec<(&'static str, &'static str)>,
    Vec<(&'static str, &'static str)>,
);

fn attacks() -> Vec<Attack> {
    let copy = vec![("x-amz-copy-source", "/bucket/k")];
    let mut all: Vec<Attack> = vec![
        ("PUT", "/k", vec![], vec![]),
        ("PUT", "/new", vec![], vec![]),
        ("GET", "/k", vec![], vec![]),
        ("GET", "/k", vec![("versionId", "null")], vec![]),
        ("GET", "/k", vec![("partNumber", "1")], vec![]),
        ("GET", "/never", vec![], vec![]),
        ("HEAD", "/k", vec![], vec![]),
        ("HEAD", "", vec![], vec![]),
        ("DELETE", "/k", vec![], vec![]),
        ("DELETE", "/k", vec![("versionId", "null")], vec![]),
        ("DELETE", "/never", vec![], vec![]),
        ("DELETE", "", vec![], vec![]),
        ("GET", "", vec![], vec![]),
        ("GET", "", vec![("list-type", "2")], vec![]),
        ("GET", "", vec![("versions", "")], vec![]),
        ("GET", "", vec![("uploads", "")], vec![]),
        ("POST", "", vec![("delete", "")], vec![]),
        ("PUT", "/copy", vec![], copy.clone()),
        ("POST", "/k", vec![("uploads", "")], vec![]),
        ("PUT", "/k", vec![("partNumber", "1"), ("uploadId", "u")], vec![]),
        ("PUT", "/k", vec![("partNumber", "1"), ("uploadId", "u")], copy),
        ("POST", "/k", vec![("uploadId", "u")], vec![]),
        ("GET", "/k", vec![("uploadId", "u")], vec![]),
        ("DELETE", "/k", vec![("uploadId", "u")], vec![]),
        ("GET", "/k", vec![("attributes", "")], vec![("x-amz-object-attributes", "ETag")]),
        ("PUT", "/k", vec![], vec![("x-amz-acl", "public-read")]),
        ("PUT", "", vec![("acl", "")], vec![("x-amz-acl", "public-read")]),
        ("PUT", "/k", vec![("acl", "")], vec![("x-amz-acl", "public-read")]),
        ("DELETE", "/k", vec![], vec![("x-amz-bypass-governance-retention", "true")]),
    ];
    for kind in [
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "encryption",
        "lifecycle",
        "location",
        "logging",
        "notification",
        "object-lock",
        "ownershipControls",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "tagging",
        "versioning",
        "website",
    ] {
        all.push(("GET", "", vec![(kind, "")], vec![]));
        all.push(("PUT", "", vec![(kind, "")], vec![]));
        all.push(("DELETE", "", vec![(kind, "")], vec![]));
    }
    for kind in ["acl", "legal-hold", "retention", "tagging"] {
        all.push(("GET", "/k", vec![(kind, "")], vec![]));
        all.push(("PUT", "/k", vec![(kind, "")], vec![]));
        all.push(("DELETE", "/k", vec![(kind, "")], vec![]));
    }
    all
}

fn everything(server: &Server) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for key in server.client.keys(BUCKET).unwrap() {
        let body = server.client.get(BUCKET, &key).unwrap().unwrap();
        all.push((key, body));
    }
    for kind in
        ["acl", "policy", "publicAccessBlock", "ownershipControls", "tagging", "cors", "versioning"]
    {
        let answer = ada(server).ask("GET", &bucket(), &[(kind, "")], Ask::new("", ""));
        // Every answer to an error has an id of its own.
        let body = if answer.status == 200 { answer.body } else { said(&answer).into_bytes() };
        all.push((kind.to_owned(), body));
    }
    all
}

#[test]
fn strangers_nobody_and_forgers_get_nothing_and_change_nothing() {
    let server = start();
    let before = everything(&server);
    let forger = As { signing: Signing::WrongSecret, ..ada(&server) };
    for who in [nobody(&server), bob(&server), forger] {
        for (method, path, query, headers) in attacks() {
            let body = matches!(method, "PUT" | "POST").then_some(&b"<x/>"[..]);
            let path = format!("/{BUCKET}{path}");
            let answer =
                who.ask(method, &path, &query, Ask { headers: &headers, body, ..Ask::new("", "") });
            // What is no operation at all may say so first; nothing may succeed.
            let refused = answer.status == 403 || (matches!(answer.status, 400 | 405 | 501));
            assert!(refused, "{method} {path} {query:?}: {} {}", answer.status, answer.text());
            let known =
                matches!(said(&answer).as_str(), "AccessDenied" | "SignatureDoesNotMatch" | "403");
            let foreign = matches!(answer.status, 400 | 405 | 501);
            assert!(known || foreign, "{method} {path} {query:?}: {}", said(&answer));
        }
    }
    assert_eq!(everything(&server), before);
}

#[test]
fn only_who_has_an_account_makes_and_lists_buckets() {
    let server = start();
    assert_eq!(said(&nobody(&server).plain("PUT", "/mine")), "AccessDenied");
    assert_eq!(said(&nobody(&server).plain("GET", "/")), "AccessDenied");
    assert!(bob(&server).plain("GET", "/").elements("Name").is_empty());
    assert_eq!(said(&bob(&server).plain("PUT", &bucket())), "BucketAlreadyExists");
    // A bucket that is not there is told to anybody, as AWS does.
    assert_eq!(said(&nobody(&server).plain("GET", "/never-made")), "NoSuchBucket");
}

#[test]
fn a_new_bucket_is_closed_to_the_public() {
    let server = start();
    let ada = ada(&server);
    let block = ada.ask("GET", &bucket(), &[("publicAccessBlock", "")], Ask::new("", ""));
    for name in
        ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"]
    {
        assert_eq!(block.elements(name), ["true"]);
    }
    let ownership = ada.ask("GET", &bucket(), &[("ownershipControls", "")], Ask::new("", ""));
    assert_eq!(ownership.elements("ObjectOwnership"), ["BucketOwnerEnforced"]);
    assert_eq!(said(&policy(&server, &allow(ALL, "s3:GetObject", "/*", "{}"))), "AccessDenied");
    let refused = ada.with("PUT", "/bucket/k", &[("x-amz-acl", "public-read")]);
    assert_eq!(said(&refused), "AccessControlListNotSupported");
    let fine = ada.with("PUT", "/bucket/k", &[("x-amz-acl", "bucket-owner-full-control")]);
    assert_eq!(fine.status, 200);
    for (headers, code) in [
        (vec![("x-amz-acl", "public-read")], "InvalidBucketAclWithObjectOwnership"),
        (
            vec![("x-amz-acl", "public-read"), ("x-amz-object-ownership", "ObjectWriter")],
            "InvalidBucketAclWithBlockPublicAccessError",
        ),
        (vec![("x-amz-object-ownership", "Nobody")], "InvalidArgument"),
        (vec![("x-amz-acl", "private")], "200"),
    ] {
        let answer = ada.ask("PUT", "/second", &[], Ask { headers: &headers, ..Ask::new("", "") });
        assert_eq!(said(&answer), code, "{}", answer.text());
    }
}

#[test]
fn a_policy_lets_in_whom_it_names_where_it_says() {
    let server = start();
    let (bob, nobody) = (bob(&server), nobody(&server));
    assert_eq!(policy(&server, &allow(BOBS, "s3:GetObject", "/open/*", "{}")).status, 204);
    assert_eq!((bob.get("open/k"), bob.get("k"), nobody.get("open/k")), (200, 403, 403));
    // Who may not list does not learn what is there.
    assert_eq!(bob.code("open/never"), "AccessDenied");
    let list = allow(BOBS, "s3:ListBucket", "", "{\"StringLike\":{\"s3:prefix\":\"open/*\"}}");
    let get = allow(BOBS, "s3:GetObject", "/open/*", "{}");
    assert_eq!(policy(&server, &format!("{get},{list}")).status, 204);
    let listed = |prefix| {
        let query = [("list-type", "2"), ("prefix", prefix)];
        bob.ask("GET", &bucket(), &query, Ask::new("", "")).status
    };
    assert_eq!((listed("open/x"), listed("home/"), listed("")), (200, 403, 403));
    let home = allow(BOBS, "s3:*Object", "/home/${aws:username}/*", "{}");
    assert_eq!(policy(&server, &home).status, 204);
    assert_eq!((bob.get("home/bob/k"), bob.get("open/k")), (200, 403));
    assert_eq!(bob.put("/bucket/home/bob/new", &[], "bob's").status, 200);
    assert_eq!(bob.plain("DELETE", "/bucket/home/bob/k").status, 204);
    // What bob wrote belongs to the bucket's owner.
    assert_eq!(server.client.get(BUCKET, "home/bob/new").unwrap().unwrap(), b"bob's");
    assert!(!server.client.keys(BUCKET).unwrap().contains(&"home/bob/k".to_owned()));
    let away = ada(&server).ask("DELETE", &bucket(), &[("policy", "")], Ask::new("", ""));
    assert_eq!((away.status, bob.get("home/bob/new")), (204, 403));
}

#[test]
fn a_deny_wins_even_over_the_owner_who_mends_it() {
    let server = start();
    let ada = ada(&server);
    let deny = statement("Deny", ALL, "s3:*", "*", "{}");
    assert_eq!(policy(&server, &deny).status, 204);
    for path in ["/bucket/k", "/bucket"] {
        assert_eq!(said(&ada.plain("GET", path)), "AccessDenied");
    }
    assert_eq!(ada.put("/bucket/new", &[], "x").status, 403);
    assert_eq!(ada.plain("DELETE", "/bucket/k").status, 403);
    let read = ada.ask("GET", &bucket(), &[("policy", "")], Ask::new("", ""));
    assert!(read.text().contains("Deny"));
    let away = ada.ask("DELETE", &bucket(), &[("policy", "")], Ask::new("", ""));
    assert_eq!((away.status, ada.get("k")), (204, 200));
    let none = ada.ask("GET", &bucket(), &[("policy", "")], Ask::new("", ""));
    assert_eq!(said(&none), "NoSuchBucketPolicy");
}

#[test]
fn others_may_not_have_the_policy_even_if_it_says_so() {
    let server = start();
    let bob = bob(&server);
    assert_eq!(policy(&server, &allow(BOBS, "s3:*", "*", "{}")).status, 204);
    for method in ["GET", "PUT", "DELETE"] {
        let body = (method == "PUT").then_some(&b"{}"[..]);
        let answer =
            bob.ask(method, &bucket(), &[("policy", "")], Ask { body, ..Ask::new("", "") });
        assert_eq!((answer.status, said(&answer).as_str()), (405, "MethodNotAllowed"));
    }
    // But whatever else.
    assert_eq!(bob.ask("GET", &bucket(), &[("location", "")], Ask::new("", "")).status, 200);
    assert_eq!(bob.plain("GET", &bucket()).status, 200);
}

#[test]
fn the_public_comes_in_where_nothing_blocks_it() {
    let server = start();
    let (ada, nobody) = (ada(&server), nobody(&server));
    let get = allow(ALL, "s3:GetObject", "/open/*", "{}");
    open(&server);
    assert_eq!(policy(&server, &get).status, 204);
    assert_eq!((nobody.get("open/k"), nobody.get("k")), (200, 403));
    assert_eq!(nobody.put("/bucket/open/k", &[], "x").status, 403);
    let status = ada.ask("GET", &bucket(), &[("policyStatus", "")], Ask::new("", ""));
    assert_eq!(status.elements("IsPublic"), ["true"]);
    let gone = ada.ask("GET", &bucket(), &[("publicAccessBlock", "")], Ask::new("", ""));
    assert_eq!(said(&gone), "NoSuchPublicAccessBlockConfiguration");
    let block = "<PublicAccessBlockConfiguration><RestrictPublicBuckets>true</RestrictPublicBuckets>\
                 </PublicAccessBlockConfiguration>";
    assert_eq!(ada.put(&bucket(), &[("publicAccessBlock", "")], block).status, 200);
    assert_eq!(
        (nobody.get("open/k"), bob(&server).get("open/k"), ada.get("open/k")),
        (403, 403, 200)
    );
}

#[test]
fn conditions_look_at_the_request() {
    let server = start();
    let bob = bob(&server);
    open(&server);
    let when = |condition: &str| {
        let answer = policy(&server, &allow(BOBS, "s3:GetObject", "/*", condition));
        assert_eq!(answer.status, 204, "{}", answer.text());
        bob.get("k")
    };
    assert_eq!(when("{\"IpAddress\":{\"aws:SourceIp\":\"127.0.0.0/8\"}}"), 200);
    assert_eq!(when("{\"NotIpAddress\":{\"aws:SourceIp\":\"127.0.0.0/8\"}}"), 403);
    assert_eq!(when("{\"Bool\":{\"aws:SecureTransport\":\"true\"}}"), 403);
    assert_eq!(when("{\"DateGreaterThan\":{\"aws:CurrentTime\":\"2020-01-01T00:00:00Z\"}}"), 200);
    assert_eq!(when("{\"NumericLessThan\":{\"aws:EpochTime\":1600000000}}"), 403);
    assert_eq!(when("{\"StringEquals\":{\"s3:signatureversion\":\"AWS4-HMAC-SHA256\"}}"), 200);
    assert_eq!(when("{\"StringEquals\":{\"s3:authType\":\"REST-QUERY-STRING\"}}"), 403);
    let presigned =
        As { client: bob.client.clone(), signing: Signing::Presigned, _server: &server };
    assert_eq!(presigned.get("k"), 200);
    assert_eq!(when("{\"StringEquals\":{\"aws:PrincipalAccount\":\"bob\"}}"), 200);
    assert_eq!(when("{\"Null\":{\"aws:Referer\":\"false\"}}"), 403);
    let referred = bob.with("GET", "/bucket/k", &[("referer", "http://x/")]);
    assert_eq!(referred.status, 200);
    let deny = "{\"StringNotEquals\":{\"s3:x-amz-acl\":\"bucket-owner-full-control\"}}";
    let statements = format!(
        "{},{}",
        allow(BOBS, "s3:Put*", "/*", "{}"),
        statement("Deny", ALL, "s3:PutObject", "/*", deny)
    );
    assert_eq!(policy(&server, &statements).status, 204);
    assert_eq!(bob.with("PUT", "/bucket/n", &[]).status, 403);
    let full = [("x-amz-acl", "bucket-owner-full-control")];
    assert_eq!(bob.with("PUT", "/bucket/n", &full).status, 200);
}

#[test]
fn a_policy_that_is_not_understood_is_refused() {
    let server = start();
    let code = |statement: &str| said(&policy(&server, statement));
    let malformed = "MalformedPolicy";
    assert_eq!(
        code(&allow(BOBS, "s3:GetObject", "/*", "{\"StringIs\":{\"aws:SourceIp\":\"x\"}}")),
        malformed
    );
    assert_eq!(
        code(&allow(BOBS, "s3:GetObject", "/*", "{\"StringEquals\":{\"aws:SourceVpc\":\"x\"}}")),
        malformed
    );
    assert_eq!(code(&allow(BOBS, "s3:GetEverything", "/*", "{}")), malformed);
    assert_eq!(code(&allow(BOBS, "s3:GetObject", "", "{}")), malformed);
    assert_eq!(code(&allow("{\"AWS\":\"carol\"}", "s3:GetObject", "/*", "{}")), malformed);
    assert_eq!(code(&allow(BOBS, "s3:GetObject", "et/*", "{}")), malformed);
    assert_eq!(code("{}"), malformed);
    assert_eq!(code("rubbish"), malformed);
    let none = ada(&server).ask("GET", &bucket(), &[("policy", "")], Ask::new("", ""));
    assert_eq!(said(&none), "NoSuchBucketPolicy");
}

fn object_writer(server: &Server) {
    let rule = "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>";
    let answer = ada(server).put(&bucket(), &[("ownershipControls", "")], rule);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn lists_let_in_whom_they_grant_where_lists_count() {
    let server = start();
    let (ada, bob, nobody) = (ada(&server), bob(&server), nobody(&server));
    object_writer(&server);
    let read = [("x-amz-acl", "public-read")];
    assert_eq!(
        said(&ada.with("PUT", "/bucket/pub", &read)),
        "AccessDenied",
        "public lists are blocked"
    );
    open(&server);
    assert_eq!(ada.with("PUT", "/bucket/pub", &read).status, 200);
    assert_eq!((nobody.get("pub"), nobody.get("k")), (200, 403));
    assert_eq!(said(&nobody.with("PUT", "/bucket/pub", &[])), "AccessDenied");
    assert_eq!(ada.with("PUT", "/bucket/auth", &[("x-amz-acl", "authenticated-read")]).status, 200);
    assert_eq!((nobody.get("auth"), bob.get("auth")), (403, 200));
    assert_eq!(ada.with("PUT", "/bucket/one", &[("x-amz-grant-read", "id=\"bob\"")]).status, 200);
    assert_eq!((nobody.get("one"), bob.get("one")), (403, 200));
    assert_eq!(
        said(&ada.with("PUT", "/bucket/one", &[("x-amz-grant-read", "id=\"carol\"")])),
        "InvalidArgument"
    );
    assert_eq!(
        said(&ada.with("PUT", "/bucket/one", &[("x-amz-acl", "log-delivery-write")])),
        "NotImplemented"
    );
    // Without the right to list, what is not there is denied; with it, it is missing.
    assert_eq!(nobody.code("never"), "AccessDenied");
    let list =
        ada.ask("PUT", &bucket(), &[("acl", "")], Ask { headers: &read, ..Ask::new("", "") });
    assert_eq!(list.status, 200, "{}", list.text());
    assert_eq!(nobody.plain("GET", &bucket()).status, 200);
    assert_eq!(nobody.code("never"), "NoSuchKey");
    assert_eq!(nobody.code("k"), "AccessDenied");
    // Lists switched off, or the public ignored: closed again.
    let block = "<PublicAccessBlockConfiguration><IgnorePublicAcls>true</IgnorePublicAcls></PublicAccessBlockConfiguration>";
    assert_eq!(ada.put(&bucket(), &[("publicAccessBlock", "")], block).status, 200);
    assert_eq!((nobody.get("pub"), bob.get("auth"), bob.get("one")), (403, 403, 200));
    let enforced = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>";
    let refused = ada.put(&bucket(), &[("ownershipControls", "")], enforced);
    assert_eq!(said(&refused), "InvalidBucketAclWithObjectOwnership");
    let private = [("x-amz-acl", "private")];
    let closed =
        ada.ask("PUT", &bucket(), &[("acl", "")], Ask { headers: &private, ..Ask::new("", "") });
    assert_eq!(closed.status, 200);
    assert_eq!(ada.put(&bucket(), &[("ownershipControls", "")], enforced).status, 200);
    assert_eq!(bob.get("one"), 403);
}

#[test]
fn who_writes_an_object_owns_its_list() {
    let server = start();
    let (ada, bob) = (ada(&server), bob(&server));
    object_writer(&server);
    let grant = [("x-amz-grant-write", "id=bob"), ("x-amz-grant-full-control", "id=ada")];
    let answer =
        ada.ask("PUT", &bucket(), &[("acl", "")], Ask { headers: &grant, ..Ask::new("", "") });
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kept = ada.ask("GET", &bucket(), &[("acl", "")], Ask::new("", ""));
    assert_eq!(kept.elements("Permission"), ["FULL_CONTROL", "WRITE"], "{}", kept.text());
    assert_eq!(bob.with("PUT", "/bucket/bobs", &[]).status, 200);
    assert_eq!(bob.with("PUT", "/bucket/bobs", &[]).status, 200, "again");
    assert_eq!(bob.with("PUT", "/bucket/k", &[]).status, 403, "what is ada's");
    assert_eq!((bob.get("bobs"), bob.get("k"), ada.get("bobs")), (200, 403, 200));
    let list = bob.ask("GET", "/bucket/bobs", &[("acl", "")], Ask::new("", ""));
    assert_eq!(list.elements("ID"), ["bob", "bob"], "{}", list.text());
    let document = "<AccessControlPolicy xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>bob</ID></Owner>\
        <AccessControlList><Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">\
        <ID>bob</ID></Grantee><Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>";
    let answer = bob.put("/bucket/bobs", &[("acl", "")], document);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = bob.ask("GET", "/bucket/bobs", &[("acl", "")], Ask::new("", ""));
    assert_eq!(list.elements("Permission"), ["READ"]);
    let stolen = document.replace("<Owner><ID>bob", "<Owner><ID>ada");
    assert_eq!(said(&bob.put("/bucket/bobs", &[("acl", "")], &stolen)), "AccessDenied");
    let other = bob.ask("GET", "/bucket/k", &[("acl", "")], Ask::new("", ""));
    assert_eq!(said(&other), "AccessDenied");
    // Lists off again: the bucket's owner owns it all.
    let deleted = ada.ask("DELETE", &bucket(), &[("ownershipControls", "")], Ask::new("", ""));
    assert_eq!((deleted.status, bob.get("bobs")), (204, 200), "without controls lists count");
}

#[test]
fn several_keys_are_each_decided_about() {
    let server = start();
    let bob = bob(&server);
    assert_eq!(policy(&server, &allow(BOBS, "s3:DeleteObject", "/open/*", "{}")).status, 204);
    let body = b"<Delete><Object><Key>open/k</Key></Object><Object><Key>k</Key></Object></Delete>";
    let ask = Ask { body: Some(body), ..Ask::new("", "") };
    let answer = bob.ask("POST", &bucket(), &[("delete", "")], ask);
    assert_eq!(
        (answer.status, answer.elements("Code")),
        (200, vec!["AccessDenied".to_owned()]),
        "{}",
        answer.text()
    );
    let left = server.client.keys(BUCKET).unwrap();
    assert!(left.contains(&"k".to_owned()) && !left.contains(&"open/k".to_owned()), "{left:?}");
}

#[test]
fn the_owner_a_client_expects_is_the_owner() {
    let server = start();
    let ada = ada(&server);
    let get =
        |owner| ada.with("GET", "/bucket/k", &[("x-amz-expected-bucket-owner", owner)]).status;
    assert_eq!((get("ada"), get("bob")), (200, 403));
}
