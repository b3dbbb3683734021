//! A storaged as a process of its own, on ports of its own choosing.

use super::{ADA, BUCKET, PATIENCE, keys};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tests::s3::Client;

/// Whom it serves.
pub const OF_ADA: [&str; 6] = ["--account", "ada", "--access-key", ADA.0, "--secret-key", ADA.1];

pub struct Daemon {
    child: Child,
    /// Where it serves, by what it says of it: `S3`, `Manta`, …
    pub ports: HashMap<String, SocketAddr>,
}

impl Daemon {
    /// Starts it with more arguments, and waits until it serves so many ports.
    pub fn start(data: &Path, more: &[&str], ports: usize) -> Daemon {
        Daemon::start_for(&OF_ADA, data, more, ports)
    }

    /// The same, with other accounts than ada's.
    pub fn start_for(who: &[&str], data: &Path, more: &[&str], ports: usize) -> Daemon {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Daemon::start_at(anywhere, &[who, more].concat(), data, ports)
    }

    /// Starts it with its S3 at this address, again if need be.
    pub fn start_at(s3: SocketAddr, more: &[&str], data: &Path, ports: usize) -> Daemon {
        let mut child = Command::new(env!("CARGO_BIN_EXE_storaged"))
            .args(["--s3", &s3.to_string(), "--manta", "127.0.0.1:0"])
            .arg("--data")
            .arg(data)
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut found = HashMap::new();
        while found.len() < ports {
            let line = lines.next().expect("storaged ended before it served");
            let text = line.trim_start_matches("storaged: ");
            if let Some((name, address)) = text.split_once(" at ")
                && let Ok(address) = address.parse()
            {
                found.insert(name.to_owned(), address);
            }
        }
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
        Daemon { child, ports: found }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.ports["S3"].to_string(), keys(ADA))
    }

    pub fn create_bucket(&self) {
        self.client().create_bucket(BUCKET).unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        let id = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(id, nix::sys::signal::SIGTERM).unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status,
                None if Instant::now() > until => panic!("storaged does not end"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
