//! Stories of real S3 clients: with storaged by itself on this machine, and with the booted appliance.

use crate::teller::Teller;
use anyhow::{Context, Result};
use tests::appliance::{Appliance, keys};
use tests::build;
use tests::clients::{CLIENTS, Clients};
use tests::local::Storaged;

/// Tells those of storaged by itself.
pub fn tell(teller: &mut Teller) {
    let name = |client: &str| format!("{client} walks through a storaged of this machine");
    let names: Vec<_> = CLIENTS.iter().map(|client| name(client)).collect();
    if !teller.wants(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
        return;
    }
    let mut server = start();
    for (client, name) in CLIENTS.iter().zip(&names) {
        teller.tell(name, || match &mut server {
            Ok((clients, storaged, _)) => clients.walk(client, &storaged.endpoint(), &keys()),
            Err(error) => anyhow::bail!("there is no storaged to walk through: {error:#}"),
        });
    }
}

fn start() -> Result<(Clients, Storaged, tempfile::TempDir)> {
    let clients = Clients::find()?;
    let directory = tempfile::tempdir().context("making a directory for a store")?;
    let program = build::program("storaged", "storaged")?;
    let storaged = Storaged::start(&program, &directory.path().join("store"))?;
    Ok((clients, storaged, directory))
}

/// One client's walk through a booted appliance.
pub fn walk(appliance: &Appliance, client: &str) -> Result<()> {
    let endpoint = format!("http://127.0.0.1:{}", appliance.ports[0]);
    Clients::find()?.walk(client, &endpoint, &keys())
}

/// boto3 over the encrypted port, with the certificate that the appliance made itself.
pub fn walk_https(appliance: &Appliance) -> Result<()> {
    let endpoint = format!("https://127.0.0.1:{}", appliance.https);
    Clients::find()?.walk("https", &endpoint, &keys())
}
