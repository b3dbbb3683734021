//! GETs over HTTPS: storaged's own certificate on both servers, TLS 1.3, connections that are kept. No bar:
//! here both encrypt what else they would pass on without a copy.

use crate::get::{self, Size};
use crate::peers::{Peers, Which};
use crate::process::Server;
use crate::report::Report;
use crate::settings::Scale;
use crate::wrk::Scheme;
use anyhow::{Result, ensure};

/// Where storaged keeps the certificate that it makes: in its data, as PEM, behind its key.
const CERTIFICATE: &str = "tls.pem";

/// All rows.
pub fn run(
    peers: &Peers,
    others: &[Which],
    sizes: &[Size],
    scale: &Scale,
    report: &mut Report,
) -> Result<()> {
    let data = peers.run.join(Which::Storaged.name());
    let address = Scheme::Https.address(Which::Storaged.address());
    let mut storaged = peers.storaged(&data, &["--https", &address.to_string()])?;
    // It is open last, once there is a certificate.
    storaged.wait_for_port(address)?;
    let mut servers: Vec<Server> = vec![storaged];
    let certificate = data.join(CERTIFICATE);
    ensure!(certificate.exists(), "storaged has made no {}", certificate.display());
    if others.contains(&Which::Nginx) {
        servers.push(peers.nginx(Some(&certificate))?);
    }
    sizes.iter().try_for_each(|size| get::run(peers, &servers, *size, Scheme::Https, scale, report))
}
