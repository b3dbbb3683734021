//! What the end-to-end tests share: a storaged on loopback, over a store in a temporary directory, and a
//! client that signs by its own hands.
#![allow(dead_code, reason = "each test file takes what it needs")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod daemon;
pub mod people;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use storaged::accounts::Accounts;
use storaged::events::{Events, Webhook};
use storaged::front::{Front, Port};
use storaged::s3::Settings;
use storaged::s3::hosted::Domains;
use storaged::store::{Options, Store};
use tests::s3::{Answer, Ask, Client};
use tests::sigv4::{self, Keys, Parts};

/// Longer than anything takes on a busy machine: what is waited for so long does not happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running storaged, gone when dropped.
pub struct Server {
    pub address: SocketAddr,
    /// Signs as [`ADA`], whose bucket [`BUCKET`] is.
    pub client: Client,
    pub store: Store,
    pub events: Events,
    _front: Front,
    data: tempfile::TempDir,
}

/// Access key and secret of an account.
pub const ADA: (&str, &str) = ("AKADA", "secret-of-ada");
/// Access key and secret of another one.
pub const BOB: (&str, &str) = ("AKBOB", "secret-of-bob");
/// A bucket there is from the start.
pub const BUCKET: &str = "bucket";

pub fn keys((access, secret): (&str, &str)) -> Keys {
    Keys { access: access.to_owned(), secret: secret.to_owned() }
}

impl Server {
    pub fn start() -> Server {
        Server::start_telling(Vec::new())
    }

    /// One that may tell these webhooks of events.
    pub fn start_telling(webhooks: Vec<Webhook>) -> Server {
        let data = tempfile::tempdir().unwrap();
        let options = Options { kept_bytes: Some(0), ..Options::new(data.path()) };
        let store = Store::open(options).unwrap();
        let account = |name: &str, (access, secret): (&str, &str)| {
            let (name, access_key) = (name.to_owned(), access.to_owned());
            wire::machine::Account {
                name: name.try_into().unwrap(),
                access_key: access_key.try_into().unwrap(),
                secret_key: secret.to_owned().try_into().unwrap(),
                ssh_keys: Vec::new(),
                limits: Default::default(),
            }
        };
        let accounts = vec![account("ada", ADA), account("bob", BOB)];
        let accounts = Accounts::enter(&store, wire::machine::Accounts { accounts }).unwrap();
        let listener = sys::socket::listen_tcp("127.0.0.1:0".parse().unwrap(), 64).unwrap();
        let address = sys::listen::local_address(&listener).unwrap().unwrap();
        let settings = Arc::new(Settings::new(store.clone()));
        let events = Events::start(&store, &settings, webhooks, None).unwrap();
        let accounts = Arc::new(accounts);
        let told = events.clone();
        let domains = Domains::new(&["s3.test".to_owned()]);
        let kinds = storaged::s3::kinds("s3", domains.clone());
        let service =
            storaged::s3::service_telling(store.clone(), accounts, settings, told, domains);
        let port = Port { listener, service, kinds, tls: None };
        let front = Front::start(vec![port], 2).unwrap();
        let client = Client::new(&address.to_string(), keys(ADA));
        client.create_bucket(BUCKET).unwrap();
        Server { address, client, store, events, _front: front, data }
    }

    /// The store's directory.
    pub fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    pub fn ask(&self, method: &str, key: &str, more: Ask<'_>) -> Answer {
        let path = format!("/{BUCKET}/{key}");
        self.client.request(&Ask { method, path: &path, ..more }).unwrap()
    }

    pub fn put(&self, key: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.ask("PUT", key, Ask { headers, body: Some(body), ..Ask::new("", "") })
    }

    pub fn get(&self, key: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", key, Ask { headers, ..Ask::new("", "") })
    }

    pub fn list(&self, query: &[(&str, &str)]) -> Answer {
        let path = format!("/{BUCKET}");
        self.client.request(&Ask { query, ..Ask::new("GET", &path) }).unwrap()
    }

    /// A PUT signed as usual, but for its payload's word, with these bytes as they are.
    pub fn raw_put(
        &self,
        key: &str,
        payload: &str,
        more: &[(&str, &str)],
        unsigned: &str,
        body: &[u8],
    ) -> String {
        let head = self.signed_head(
            key,
            payload,
            more,
            body.len(),
            &format!("connection: close\r\n{unsigned}"),
        );
        talk(self.address, &[head.as_bytes(), body].concat())
    }

    /// The head of a PUT signed as usual, but for its payload's word, with these lines added unsigned.
    pub fn signed_head(
        &self,
        key: &str,
        payload: &str,
        more: &[(&str, &str)],
        length: usize,
        unsigned: &str,
    ) -> String {
        signed_head(self.address, key, payload, more, length, unsigned)
    }
}

/// The head of a PUT to [`BUCKET`] as [`ADA`].
pub fn signed_head(
    address: SocketAddr,
    key: &str,
    payload: &str,
    more: &[(&str, &str)],
    length: usize,
    unsigned: &str,
) -> String {
    let time = SystemTime::now();
    let path = format!("/{BUCKET}/{key}");
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut headers = vec![
        own("host", &address.to_string()),
        own("x-amz-content-sha256", payload),
        own("x-amz-date", &sigv4::timestamp(time)),
    ];
    headers.extend(more.iter().map(|(name, value)| own(name, value)));
    let keys = keys(ADA);
    let parts = Parts { method: "PUT", path: &path, query: &[], headers: &headers, payload, time };
    let signature = sigv4::sign(&keys, &parts);
    headers.push(own("authorization", &sigv4::authorization(&keys, &signature)));
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("PUT {path} HTTP/1.1\r\n{lines}{unsigned}content-length: {length}\r\n\r\n")
}

/// Waits for something to come true.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends bytes as they are and gives all that comes back.
pub fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

/// Bytes that repeat nothing, the same each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}
