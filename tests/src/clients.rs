//! Real S3 clients, as their users run them: Python programs of `tests/clients`, each walking one client
//! through what it does. What they need comes from PyPI by version and hash, once, into the cache.

use crate::build::workspace;
use crate::sigv4::{Keys, sha256};
use anyhow::{Context, Result, bail, ensure};
use image::layout::Layout;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The clients there are walks for.
pub const CLIENTS: [&str; 5] = ["boto3", "awscli", "rclone", "s3cmd", "minio"];

/// One walk, against an emulated server on a busy machine.
const WALK_TIME: Duration = Duration::from_secs(900);

/// A Python with all clients installed.
#[derive(Debug, Clone)]
pub struct Clients {
    python: PathBuf,
}

impl Clients {
    /// Finds the environment in the cache, or makes it.
    ///
    /// # Errors
    /// If Python or a package can't be had.
    pub fn find() -> Result<Self> {
        let layout = Layout::of_this_tree();
        let _lock = layout.lock_cache().context("locking the cache")?;
        let list = folder().join("requirements.txt");
        let text = std::fs::read(&list).with_context(|| format!("reading {}", list.display()))?;
        let home = layout.cache(&format!("clients-{}", &sha256(&text)[..16]));
        let python = home.join("bin/python3");
        // Made last: without it the environment is one that was not finished.
        let complete = home.join("complete");
        if !complete.exists() {
            install(&home, &list)?;
            std::fs::write(&complete, b"").context("marking the clients as complete")?;
        }
        Ok(Self { python })
    }

    /// Walks one client through a server's S3 port; what it prints goes to this program's output.
    ///
    /// # Errors
    /// If the client met something that is not as it should be; its last lines say what.
    pub fn walk(&self, client: &str, endpoint: &str, keys: &Keys) -> Result<()> {
        let mut child = Command::new(&self.python)
            .arg(folder().join(format!("walk_{client}.py")))
            .env("WALK_ENDPOINT", endpoint)
            .env("WALK_ACCESS_KEY", &keys.access)
            .env("WALK_SECRET_KEY", &keys.secret)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("running {}", self.python.display()))?;
        let ended = crate::agent::wait_for("a client's walk", WALK_TIME, || Ok(child.try_wait()?));
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => bail!("the walk of {client} ended with {status}"),
            Err(error) => {
                child.kill().context("killing a walk")?;
                child.wait().context("waiting for a walk")?;
                Err(error)
            }
        }
    }
}

fn folder() -> PathBuf {
    workspace().join("tests/clients")
}

fn install(home: &Path, list: &Path) -> Result<()> {
    println!("  the clients are installed into {}", home.display());
    if home.exists() {
        std::fs::remove_dir_all(home).context("removing an unfinished environment")?;
    }
    done(Command::new("python3").args(["-m", "venv"]).arg(home))?;
    let mut pip = Command::new(home.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    done(pip.args(["--require-hashes", "--requirement"]).arg(list))
}

fn done(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("running {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {errors}", output.status);
    Ok(())
}
