//! What buckets are set to, over HTTP: tags, rules for web pages of other origins, whom their events are
//! told, what becomes of old objects.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{BUCKET, PATIENCE, Server, eventually, talk};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use storaged::lifecycle::{Day, Lifecycle};
use tests::s3::{Answer, Ask};

fn bucket(server: &Server, method: &str, what: &str, body: Option<&str>) -> Answer {
    let path = format!("/{BUCKET}");
    let body = body.map(str::as_bytes);
    let ask = Ask { query: &[(what, "")], body, ..Ask::new(method, &path) };
    server.client.request(&ask).unwrap()
}

#[test]
fn a_bucket_keeps_its_tags() {
    let server = Server::start();
    let ask = |method: &str, body: Option<&str>| bucket(&server, method, "tagging", body);
    assert_eq!(ask("GET", None).elements("Code"), ["NoSuchTagSet"]);
    let tags = "<Tagging><TagSet><Tag><Key>a&amp;b</Key><Value>1</Value></Tag></TagSet></Tagging>";
    assert_eq!(ask("PUT", Some(tags)).elements("Code"), ["InvalidTag"]);
    let tags = tags.replace("a&amp;b", "team");
    assert_eq!(ask("PUT", Some(&tags)).status, 200);
    let shown = ask("GET", None);
    assert_eq!(
        (shown.elements("Key"), shown.elements("Value")),
        (vec!["team".into()], vec!["1".into()])
    );
    assert_eq!(ask("PUT", Some("<Tagging>")).elements("Code"), ["MalformedXML"]);
    assert_eq!(ask("DELETE", None).status, 204);
    assert_eq!(ask("GET", None).elements("Code"), ["NoSuchTagSet"]);
    assert_eq!(ask("DELETE", None).status, 204);
}

const RULES: &str = "<CORSConfiguration>\
    <CORSRule><ID>pages</ID><AllowedOrigin>https://*.example.org</AllowedOrigin>\
    <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod>\
    <AllowedHeader>*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
    <MaxAgeSeconds>3000</MaxAgeSeconds></CORSRule></CORSConfiguration>";

fn preflight(server: &Server, origin: &str, method: &str) -> String {
    let head = format!(
        "OPTIONS /{BUCKET}/k HTTP/1.1\r\nhost: h\r\nconnection: close\r\norigin: {origin}\r\n\
         access-control-request-method: {method}\r\n\
         access-control-request-headers: Authorization, x-amz-date\r\n\r\n"
    );
    talk(server.address, head.as_bytes()).to_ascii_lowercase()
}

#[test]
fn a_browser_is_told_what_pages_may_do() {
    let server = Server::start();
    let ask = |method: &str, body: Option<&str>| bucket(&server, method, "cors", body);
    assert_eq!(ask("GET", None).elements("Code"), ["NoSuchCORSConfiguration"]);
    let origin = "https://a.example.org";
    let none = preflight(&server, origin, "PUT");
    assert!(none.starts_with("http/1.1 403") && none.contains("not enabled"), "{none}");
    assert_eq!(ask("PUT", Some(RULES)).status, 200);
    assert_eq!(ask("GET", None).elements("ID"), ["pages"]);
    let yes = preflight(&server, origin, "PUT");
    assert!(yes.starts_with("http/1.1 200"), "{yes}");
    assert!(yes.contains("access-control-allow-origin: https://a.example.org"), "{yes}");
    assert!(yes.contains("access-control-allow-headers: authorization, x-amz-date"), "{yes}");
    assert!(yes.contains("access-control-max-age: 3000"), "{yes}");
    assert!(preflight(&server, origin, "DELETE").starts_with("http/1.1 403"));
    assert!(preflight(&server, "https://example.com", "PUT").starts_with("http/1.1 403"));
    assert_eq!(server.put("k", &[("origin", origin)], b"x").status, 200);
    let read = server.get("k", &[("origin", origin)]);
    assert_eq!(read.header("access-control-allow-origin"), origin);
    assert_eq!(read.header("access-control-expose-headers"), "etag");
    assert_eq!(read.body, b"x");
    let foreign = server.get("k", &[("origin", "https://example.com")]);
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (200, ""));
    // Pages see refusals too.
    let missing = server.get("none", &[("origin", origin)]);
    assert_eq!((missing.status, missing.header("access-control-allow-origin")), (404, origin));
    assert_eq!(ask("DELETE", None).status, 204);
    assert_eq!(server.get("k", &[("origin", origin)]).header("access-control-allow-origin"), "");
    let bad = RULES.replace("GET", "PATCH");
    assert_eq!(ask("PUT", Some(&bad)).elements("Code"), ["InvalidRequest"]);
}

/// Takes one event of a webhook, and what it is.
fn event(listener: &TcpListener) -> serde_json::Value {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(&stream);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = "HTTP/1.1 204 Fine\r\nconnection: close\r\n\r\n";
    (&stream).write_all(answer.as_bytes()).unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_webhook_hears_of_changes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("hook=http://{}/in", listener.local_addr().unwrap());
    let server = Server::start_telling(vec![hook.parse().unwrap()]);
    let ask = |method: &str, body: Option<&str>| bucket(&server, method, "notification", body);
    assert_eq!(ask("GET", None).elements("QueueConfiguration").len(), 0);
    let wanted = "<NotificationConfiguration><QueueConfiguration><Id>pictures</Id>\
        <Queue>arn:mobula:sqs::webhook:hook</Queue><Event>s3:ObjectCreated:*</Event>\
        <Filter><S3Key><FilterRule><Name>suffix</Name><Value>.jpg</Value></FilterRule></S3Key>\
        </Filter></QueueConfiguration></NotificationConfiguration>";
    let unknown = wanted.replace("webhook:hook", "webhook:other");
    assert_eq!(ask("PUT", Some(&unknown)).elements("Code"), ["InvalidArgument"]);
    assert_eq!(ask("PUT", Some(wanted)).status, 200);
    assert_eq!(event(&listener)["Event"], "s3:TestEvent");
    assert_eq!(ask("GET", None).elements("Id"), ["pictures"]);
    assert_eq!(server.put("a.txt", &[], b"x").status, 200);
    assert_eq!(server.put("a b.jpg", &[], b"abc").status, 200);
    let told = event(&listener);
    let record = &told["Records"][0];
    assert_eq!(record["eventName"], "ObjectCreated:Put");
    assert_eq!(record["userIdentity"]["principalId"], "ada");
    assert_eq!(record["requestParameters"]["sourceIPAddress"], "127.0.0.1");
    assert_eq!(
        (&record["s3"]["bucket"]["name"], &record["s3"]["object"]["key"]),
        (&BUCKET.into(), &"a+b.jpg".into())
    );
    assert_eq!(record["s3"]["object"]["eTag"], "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(record["s3"]["object"]["size"], 3);
    let wanted = wanted.replace("ObjectCreated", "ObjectRemoved");
    assert_eq!(ask("PUT", Some(&wanted)).status, 200);
    assert_eq!(event(&listener)["Event"], "s3:TestEvent");
    // What was not there has not gone.
    for key in ["never.jpg", "a b.jpg"] {
        assert_eq!(server.ask("DELETE", key, Ask::new("", "")).status, 204);
    }
    let record = event(&listener)["Records"][0].take();
    assert_eq!(record["eventName"], "ObjectRemoved:Delete");
    assert_eq!(record["s3"]["object"]["key"], "a+b.jpg");
    assert_eq!(server.put("c.jpg", &[], b"abc").status, 200);
    let body =
        b"<Delete><Object><Key>a.txt</Key></Object><Object><Key>c.jpg</Key></Object></Delete>";
    let path = format!("/{BUCKET}");
    let many = Ask { query: &[("delete", "")], body: Some(body), ..Ask::new("POST", &path) };
    assert_eq!(server.client.request(&many).unwrap().status, 200);
    assert_eq!(event(&listener)["Records"][0]["s3"]["object"]["key"], "c.jpg");
    assert_eq!(ask("PUT", Some("<NotificationConfiguration/>")).status, 200);
    assert_eq!(ask("GET", None).elements("Id").len(), 0);
    assert_eq!(server.put("b.jpg", &[], b"abc").status, 200);
    // What was taken is forgotten a moment later, and nothing more has come.
    eventually("all events are delivered", || server.events.counters()[0].queued == 0);
    assert_eq!(server.events.counters()[0].delivered, 5);
}

#[test]
fn a_bucket_is_where_its_maker_said() {
    let server = Server::start();
    let make = |path: &str, location: &str| {
        let body = format!(
            "<CreateBucketConfiguration><LocationConstraint>{location}</LocationConstraint>\
             </CreateBucketConfiguration>"
        );
        let ask = Ask { body: Some(body.as_bytes()), ..Ask::new("PUT", path) };
        server.client.request(&ask).unwrap()
    };
    assert_eq!(make("/far", "eu-west-1").status, 200);
    assert_eq!(make("/near", "us-east-1").status, 200);
    assert_eq!(make("/nowhere", "a b").elements("Code"), ["InvalidLocationConstraint"]);
    let ask = |method: &str, path: &str, query: &[(&str, &str)]| {
        server.client.request(&Ask { query, ..Ask::new(method, path) }).unwrap()
    };
    let location = |path: &str| ask("GET", path, &[("location", "")]).text();
    assert!(location("/far").contains(">eu-west-1</LocationConstraint>"), "{}", location("/far"));
    assert!(!location("/near").contains("us-east-1"), "{}", location("/near"));
    assert_eq!(ask("HEAD", "/far", &[]).header("x-amz-bucket-region"), "eu-west-1");
    assert_eq!(ask("HEAD", "/near", &[]).header("x-amz-bucket-region"), "us-east-1");
    let listed = |query: &[(&str, &str)]| ask("GET", "/", query).elements("Name");
    assert_eq!(listed(&[]), [BUCKET, "far", "near"]);
    assert_eq!(listed(&[("bucket-region", "eu-west-1")]), ["far"]);
    let page = ask("GET", "/", &[("max-buckets", "2")]);
    assert_eq!(page.elements("Name"), [BUCKET, "far"]);
    let token = page.elements("ContinuationToken").remove(0);
    assert_eq!(listed(&[("max-buckets", "2"), ("continuation-token", &token)]), ["near"]);
    for max in ["0", "-1", "10001"] {
        assert_eq!(ask("GET", "/", &[("max-buckets", max)]).status, 400);
    }
    assert_eq!(ask("DELETE", "/far", &[]).status, 204);
    server.client.create_bucket("far").unwrap();
    assert_eq!(ask("HEAD", "/far", &[]).header("x-amz-bucket-region"), "us-east-1");
}

/// The answer to the completion of an upload of one part.
fn completed(server: &Server, key: &str) -> Answer {
    let begin = Ask { query: &[("uploads", "")], body: Some(b""), ..Ask::new("", "") };
    let id = server.ask("POST", key, begin).elements("UploadId").pop().unwrap();
    let query = [("partNumber", "1"), ("uploadId", &*id)];
    let part = Ask { query: &query, body: Some(b"x"), ..Ask::new("", "") };
    let tag = server.ask("PUT", key, part).header("etag").to_owned();
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>\
         </CompleteMultipartUpload>"
    );
    let query = [("uploadId", &*id)];
    let done = server.ask(
        "POST",
        key,
        Ask { query: &query, body: Some(list.as_bytes()), ..Ask::new("", "") },
    );
    assert_eq!(done.status, 200, "{}", done.text());
    done
}

const DAY: u64 = 24 * 60 * 60 * 1000;

#[test]
fn old_objects_go() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("hook=http://{}/in", listener.local_addr().unwrap());
    let server = Server::start_telling(vec![hook.parse().unwrap()]);
    let ask = |method: &str, body: Option<&str>| bucket(&server, method, "lifecycle", body);
    assert_eq!(ask("GET", None).elements("Code"), ["NoSuchLifecycleConfiguration"]);
    let rules = "<LifecycleConfiguration><Rule><Status>Enabled</Status>\
        <Filter><Prefix>tmp/</Prefix></Filter><Expiration><Days>1</Days></Expiration></Rule>\
        </LifecycleConfiguration>";
    for (from, to, code) in [
        ("<Days>1</Days>", "<Days>0</Days>", "InvalidArgument"),
        ("Enabled", "On", "MalformedXML"),
        ("<Expiration><Days>1</Days></Expiration>", "", "InvalidRequest"),
        ("Expiration>", "Transition>", "NotImplemented"),
    ] {
        let wrong = rules.replace(from, to);
        assert_eq!(ask("PUT", Some(&wrong)).elements("Code"), [code], "{to}");
    }
    assert_eq!(ask("PUT", Some(rules)).status, 200);
    let shown = ask("GET", None);
    assert_eq!(
        (shown.elements("ID"), shown.elements("Days")),
        (vec!["rule-1".into()], vec!["1".into()])
    );
    let said = server.put("tmp/k", &[], b"x").header("x-amz-expiration").to_owned();
    assert!(
        said.starts_with("expiry-date=\"")
            && said.ends_with(" 00:00:00 GMT\", rule-id=\"rule%2D1\""),
        "{said}"
    );
    assert_eq!(server.get("tmp/k", &[]).header("x-amz-expiration"), said);
    // A header that the short way does not know.
    assert_eq!(server.get("tmp/k", &[("origin", "http://x")]).header("x-amz-expiration"), said);
    assert_eq!(server.ask("HEAD", "tmp/k", Ask::new("", "")).header("x-amz-expiration"), said);
    assert_eq!(server.put("k", &[], b"x").header("x-amz-expiration"), "");
    assert_eq!(
        server.put("tmp/c", &[("x-amz-copy-source", "bucket/k")], b"").header("x-amz-expiration"),
        said
    );
    assert_eq!(completed(&server, "tmp/p").header("x-amz-expiration"), said);
    for key in ["tmp/c", "tmp/p"] {
        server.client.delete(BUCKET, key).unwrap();
    }
    let wanted = "<NotificationConfiguration><QueueConfiguration><Id>c</Id>\
        <Queue>arn:mobula:sqs::webhook:hook</Queue><Event>s3:LifecycleExpiration:*</Event>\
        </QueueConfiguration></NotificationConfiguration>";
    assert_eq!(bucket(&server, "PUT", "notification", Some(wanted)).status, 200);
    assert_eq!(event(&listener)["Event"], "s3:TestEvent");
    let clock = Arc::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        now + 2 * DAY
    });
    let (store, events) = (server.store.clone(), server.events.clone());
    let _lifecycle = Lifecycle::start(store, events, Day::default(), clock).unwrap();
    let record = event(&listener)["Records"][0].take();
    assert_eq!(record["eventName"], "LifecycleExpiration:Delete");
    assert_eq!(record["s3"]["object"]["key"], "tmp/k");
    assert_eq!(server.client.keys(BUCKET).unwrap(), ["k"]);
    assert_eq!(ask("DELETE", None).status, 204);
    assert_eq!(ask("GET", None).status, 404);
}
