//! Webhooks of the machine's configuration: events of a bucket arrive at this machine.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::time::Duration;
use tests::appliance::Appliance;
use tests::s3::Ask;

/// This machine, as QEMU's user network shows it to the appliance.
const HOST: &str = "10.0.2.2";
const BUCKET: &str = "told";
/// Longer than an event takes over an emulated network card.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where events come in, for as long as the stories are told.
static LISTENER: OnceLock<TcpListener> = OnceLock::new();

/// The stories' configuration with two webhooks: one that leads here, and an encrypted one, for which storaged reads the
/// authorities that are in the image when it starts.
pub fn config() -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = LISTENER.get_or_init(|| listener).local_addr()?.port();
    let webhooks = format!(
        "[store]\nwebhooks.here = \"http://{HOST}:{port}/in\"\nwebhooks.there = \"https://{HOST}:9/\"\n"
    );
    Ok(tests::appliance::config("fsync").replace("[store]\n", &webhooks))
}

/// One event; the client is told that it was taken.
fn event(listener: &TcpListener) -> Result<serde_json::Value> {
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(&stream);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "the event breaks off");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    (&stream).write_all(b"HTTP/1.1 204 Fine\r\nconnection: close\r\n\r\n")?;
    Ok(serde_json::from_slice(&body)?)
}

pub fn told(a: &Appliance) -> Result<()> {
    let listener = LISTENER.get().context("no configuration named it")?;
    a.s3.create_bucket(BUCKET)?;
    let wanted = "<NotificationConfiguration><QueueConfiguration><Queue>arn:mobula:sqs::webhook:here</Queue>\
        <Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>";
    let path = format!("/{BUCKET}");
    let ask = Ask {
        query: &[("notification", "")],
        body: Some(wanted.as_bytes()),
        ..Ask::new("PUT", &path)
    };
    a.s3.request(&ask)?.expect(200)?;
    let test = event(listener)?;
    ensure!(test["Event"] == "s3:TestEvent", "{test}");
    a.s3.put(BUCKET, "k", b"abc")?;
    let told = event(listener)?;
    let record = &told["Records"][0];
    ensure!(
        record["eventName"] == "ObjectCreated:Put" && record["s3"]["object"]["key"] == "k",
        "{told}"
    );
    let roots = a.agent.read("/etc/ssl/certs/ca-certificates.crt")?;
    let count = roots.matches("BEGIN CERTIFICATE").count();
    println!("  {count} authorities are believed");
    ensure!(count > 50, "no authorities are in the image");
    Ok(())
}
