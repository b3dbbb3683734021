//! bubblewrap, crun and runc, from Debian's packages: the same program over the same image, with what a
//! zone has: namespaces of its own, /proc, /dev, /tmp, the object shown read-only, no capability.

use super::{Output, Times, now};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the object is shown.
const OBJECT: &str = "/manta/object";

/// Who else can run a program in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// `bwrap`: namespaces and mounts, no more.
    Bubblewrap,
    /// The OCI runtime in C.
    Crun,
    /// The OCI runtime in Go.
    Runc,
}

impl Other {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bubblewrap, Self::Crun, Self::Runc];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bubblewrap",
            Self::Crun => "crun",
            Self::Runc => "runc",
        }
    }

    /// Its program; Debian's package is named as it is itself.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bwrap",
            Self::Crun | Self::Runc => self.name(),
        }
    }

    /// What a task in a warm instance may take of its time.
    pub const fn warm_bar(self) -> Option<f64> {
        match self {
            Self::Bubblewrap => Some(0.05),
            Self::Crun | Self::Runc => None,
        }
    }

    /// What a cold zone may take of its time.
    pub const fn cold_bar(self) -> Option<f64> {
        match self {
            Self::Bubblewrap => Some(0.25),
            Self::Crun => Some(0.125),
            Self::Runc => None,
        }
    }

    /// Runs the program once.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(self, bundle: &Bundle, output: &Output) -> Result<Times> {
        let mut command = bundle.command(self);
        let object = fs::File::open(&bundle.object)?;
        command.stdin(object).stdout(output.writer()?).stderr(Stdio::inherit());
        let start = now()?;
        let status = command.status().with_context(|| format!("run {}", self.name()))?;
        let end = now()?;
        ensure!(status.success(), "{} failed: {status}", self.name());
        let took = (end - start) as f64;
        Ok(Times { exec: (output.began()? - start) as f64, status: took, gone: took })
    }
}

/// What they are told.
pub struct Bundle {
    folder: PathBuf,
    image: PathBuf,
    object: PathBuf,
}

impl Bundle {
    /// An OCI bundle beside the image.
    ///
    /// # Errors
    /// What the files say.
    pub fn new(folder: &Path, image: &Path, object: &Path) -> Result<Self> {
        let folder = folder.join("bundle");
        fs::create_dir_all(&folder)?;
        let config = include_str!("config.json")
            .replace("IMAGE", &image.display().to_string())
            .replace("OBJECT", &object.display().to_string());
        fs::write(folder.join("config.json"), config)?;
        // bubblewrap mounts over a file that is there, where the image cannot be written.
        fs::write(image.join(&OBJECT[1..]), "")?;
        Ok(Self { folder, image: image.to_owned(), object: object.to_owned() })
    }

    fn command(&self, other: Other) -> Command {
        let mut command = Command::new(other.program());
        match other {
            Other::Bubblewrap => {
                command.arg("--ro-bind").arg(&self.image).arg("/");
                command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
                command.arg("--ro-bind").arg(&self.object).arg(OBJECT);
                command.args(["--unshare-all", "--cap-drop", "ALL", "--new-session"]);
                command.args(["--clearenv", "--", "/bin/program"]);
            }
            Other::Crun | Other::Runc => {
                command.arg("--root").arg(self.folder.join(other.name()));
                if other == Other::Crun {
                    // Without controllers there is nothing for it to manage.
                    command.arg("--cgroup-manager=disabled");
                }
                command.args(["run", "--bundle"]).arg(&self.folder).arg("mobula-bench");
            }
        }
        command
    }
}
