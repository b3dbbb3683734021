use super::*;
use crate::store::{AccountId, BucketConfig, BucketRecord, Options};
use proptest::prelude::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    store: Store,
    settings: Arc<Settings>,
    _data: tempfile::TempDir,
}

fn world() -> World {
    let data = tempfile::tempdir().unwrap();
    let options = Options { kept_bytes: Some(0), ..Options::new(data.path()) };
    let store = Store::open(options).unwrap();
    let settings = Arc::new(Settings::new(store.clone()));
    let document = format!(
        "<NotificationConfiguration><QueueConfiguration><Id>c</Id><Queue>{ARN_PREFIX}hook</Queue>\
         <Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>"
    );
    let made = store.transact_wait(move |txn| {
        txn.make_bucket("b", &BucketRecord::new(AccountId(1), 0))?;
        txn.put_bucket_config("b", BucketConfig::Notification, document)
    });
    made.unwrap();
    World { store, settings, _data: data }
}

fn change(key: &str) -> Change {
    Change {
        kind: EventKind::CreatedPut,
        key: key.to_owned(),
        size: Some(1),
        etag: None,
        version: None,
        sequence: 1,
        time_ms: 0,
    }
}

impl World {
    fn events(&self, address: &str) -> Events {
        let webhook = format!("hook=http://{address}/path").parse().unwrap();
        Events::start(&self.store, &self.settings, vec![webhook], None).unwrap()
    }

    fn tell(&self, events: &Events, key: &str) {
        self.store.wait(events.tell(&Who::default(), "b", [change(key)]));
    }
}

/// Takes one request of a webhook: its path and the key in its body; answers with this status.
fn take(listener: &TcpListener, status: &str) -> (String, String) {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    take_from(stream, status).unwrap()
}

fn take_from(mut stream: impl Read + Write, status: &str) -> std::io::Result<(String, String)> {
    let mut reader = BufReader::new(&mut stream);
    let mut line = String::new();
    let (mut path, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(rest) = line.strip_prefix("POST ") {
            path = rest.split(' ').next().unwrap().to_owned();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let key = value["Records"][0]["s3"]["object"]["key"].as_str().unwrap().to_owned();
    let answer = format!(
        "HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:1/evil\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(answer.as_bytes())?;
    Ok((path, key))
}

fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < end, "it does not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_event_is_delivered_again_until_it_is_taken() {
    let world = world();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let events = world.events(&listener.local_addr().unwrap().to_string());
    world.tell(&events, "one");
    world.tell(&events, "two");
    assert_eq!(take(&listener, "500 Broken"), ("/path".to_owned(), "one".to_owned()));
    // A redirect is a failure, and nobody goes there.
    assert_eq!(take(&listener, "307 Elsewhere").1, "one");
    assert_eq!(take(&listener, "204 Fine").1, "one");
    assert_eq!(take(&listener, "200 OK").1, "two");
    until(|| events.counters()[0].queued == 0);
    let counters = events.counters().remove(0);
    assert_eq!((counters.delivered, counters.failed, counters.dropped), (2, 2, 0));
}

#[test]
fn events_outlive_a_restart() {
    let world = world();
    // Nobody listens there: the port was free a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let events = world.events(&closed.to_string());
    world.tell(&events, "kept");
    until(|| events.counters()[0].failed > 0);
    drop(events);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let events = world.events(&listener.local_addr().unwrap().to_string());
    assert_eq!(events.counters()[0].queued, 1);
    assert_eq!(take(&listener, "200 OK").1, "kept");
}

#[test]
fn nothing_is_queued_that_nobody_wants() {
    let world = world();
    let events = Events::start(&world.store, &world.settings, Vec::new(), None).unwrap();
    let sequence = world.store.status().sequence;
    // Wanted, but not by a webhook that the operator named.
    world.tell(&events, "k");
    let removed = Change { kind: EventKind::RemovedDelete, ..change("k") };
    world.store.wait(events.tell(&Who::default(), "b", [removed]));
    world.store.wait(events.tell(&Who::default(), "none", [change("k")]));
    assert_eq!(world.store.status().sequence, sequence);
    assert!(!events.knows("hook") && events.counters().is_empty());
}

#[test]
fn a_full_queue_loses_its_oldest() {
    let world = world();
    let view = world.store.read().unwrap();
    let queue = Queue::open(&view, "hook").unwrap();
    let push = |events: Vec<Vec<u8>>| {
        let queue = queue.clone();
        world.store.transact_wait(move |txn| queue.push(txn, 0, events)).unwrap()
    };
    let numbered = |from: u64, to: u64| (from..to).map(|n| n.to_string().into_bytes()).collect();
    assert_eq!(push(numbered(0, QUEUED_MAX - 1)), 0);
    assert_eq!(push(numbered(QUEUED_MAX - 1, QUEUED_MAX + 2)), 2);
    assert_eq!(queue.length(), QUEUED_MAX);
    let view = world.store.read().unwrap();
    let first = queue.first(&view, 1).unwrap().remove(0);
    assert_eq!(first.1.json, b"2");
    let again = Queue::open(&view, "hook").unwrap();
    assert_eq!(again.length(), QUEUED_MAX);
    let (other, key) = (queue.clone(), first.0);
    let remove = move |txn: &mut crate::store::Txn<'_>| other.remove(txn, vec![key.clone(), key]);
    world.store.transact_wait(remove).unwrap();
    assert_eq!(queue.length(), QUEUED_MAX - 1);
}

/// An authority's certificate as PEM, and a server's that it vouches for.
fn vouched() -> (String, Arc<rustls::ServerConfig>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = server.signed_by(&own, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(own.serialize_der()).unwrap(),
        );
    (pem, Arc::new(config.unwrap()))
}

#[test]
fn an_encrypted_webhook_is_one_that_an_authority_vouches_for() {
    let world = world();
    let ((good, config), (other, _)) = (vouched(), vouched());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("hook=https://{}/path", listener.local_addr().unwrap());
    let webhook: Webhook = url.parse().unwrap();
    let start = |roots: Option<&Roots>| {
        Events::start(&world.store, &world.settings, vec![webhook.clone()], roots)
    };
    assert!(matches!(start(None), Err(EventsError::Roots(_))));
    let roots = |pem: &str| {
        let path = world._data.path().join("ca.pem");
        std::fs::write(&path, pem).unwrap();
        Roots::read(&path).unwrap()
    };
    let accept = || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        take_from(rustls::StreamOwned::new(connection, stream), "200 OK")
    };
    let events = start(Some(&roots(&other))).unwrap();
    world.tell(&events, "secret");
    accept().unwrap_err();
    until(|| events.counters()[0].failed > 0);
    assert_eq!(events.counters()[0].delivered, 0);
    drop(events);
    let events = start(Some(&roots(&good))).unwrap();
    assert_eq!(accept().unwrap(), ("/path".to_owned(), "secret".to_owned()));
    until(|| events.counters()[0].delivered == 1);
}

#[test]
fn webhooks_are_named_and_plain() {
    let parse = |text: &str| text.parse::<Webhook>();
    let hook = parse("a-b_1=http://host:8080/x?y=z").unwrap();
    assert_eq!((&*hook.name, hook.url.to_string()), ("a-b_1", "http://host:8080/x?y=z".to_owned()));
    for name in ["http://host", "=http://host", "a b=http://host", &("a".repeat(65) + "=http://h")]
    {
        assert_eq!(parse(name), Err(WebhookError::Name), "{name}");
    }
    for url in
        ["a=", "a=/x", "a=ftp://h/", "a=https:///x", "a=http://user:secret@h/", "a=http:///x"]
    {
        assert!(matches!(parse(url), Err(WebhookError::Url(_))), "{url}");
    }
}

proptest! {
    #[test]
    fn waits_grow_and_end(failures in 1_u32..100, age in 0_u64..200_000_000) {
        let step = after_failure(failures, 1_000, 1_000 + age);
        prop_assert_eq!(step == Step::GiveUp, Duration::from_millis(age) >= AGE_MAX);
        if let (Step::Retry(now), Step::Retry(next)) = (step, after_failure(failures + 1, 1_000, 1_000 + age)) {
            prop_assert!(now >= Duration::from_secs(1) && now <= next && next <= Duration::from_secs(300));
        }
    }

    #[test]
    fn any_text_is_a_webhook_or_refused(text in ".{0,40}") {
        if let Ok(hook) = text.parse::<Webhook>() {
            prop_assert!(text.starts_with(&hook.name) && hook.url.host().is_some());
        }
    }
}

proptest! {
    #[test]
    fn what_a_configuration_may_name_is_a_webhook(
        name in "[a-zA-Z0-9_-]{1,64}",
        url in "https?://[a-z0-9.-]{1,20}(:[0-9]{1,5})?(/[a-zA-Z0-9._~%!$&'()*+,;=:@/?-]{0,30})?(\\?[a-z%=&?]{0,9})?",
    ) {
        use wire::machine::{WebhookName, WebhookUrl};
        if let (Ok(name), Ok(url)) = (WebhookName::try_from(name), WebhookUrl::try_from(url)) {
            let text = format!("{}={}", name.as_str(), url.as_str());
            prop_assert!(text.parse::<Webhook>().is_ok(), "{}", text);
        }
    }

    #[test]
    fn authorities_of_a_configuration_can_be_read(der in proptest::collection::vec(any::<u8>(), 1..100), width in 1..80_usize) {
        use base64::Engine;
        let base64 = base64::prelude::BASE64_STANDARD.encode(der);
        let lines: Vec<_> = base64.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let pem = format!(
            "# a comment\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            lines.join("\n")
        );
        let authorities = wire::machine::Authorities::try_from(pem).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, authorities.as_str()).unwrap();
        prop_assert!(Roots::read(&path).is_ok());
    }
}
