//! Starting a person's program in a standing zone: found along `PATH`, as who and where the zone says.

use nix::unistd::Pid;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use sys::clone::{Besides, Namespaces, Program, Spawn, start_with};

/// Where programs are looked for when nobody says.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a shell says for a program that is not there, and for one that can't be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// What all programs of a zone are given.
#[derive(Debug)]
pub struct Surroundings {
    /// Variables.
    pub environment: Vec<(String, String)>,
    /// Where they start.
    pub directory: String,
    /// As whom.
    pub user: (u32, u32),
}

/// Why a program does not run, and how a shell would tell.
#[derive(Debug)]
pub struct NotStarted {
    pub code: u8,
    pub message: String,
}

/// The words of a login shell: bash if there is one.
pub fn login_shell() -> Vec<String> {
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    vec![shell.to_owned(), "-l".to_owned()]
}

impl Surroundings {
    /// Starts a program, with further variables.
    pub fn start(
        &self,
        words: &[String],
        further: &[(String, String)],
        descriptors: &[BorrowedFd<'_>],
        terminal: bool,
    ) -> Result<Pid, NotStarted> {
        let name = words.first().map_or("", String::as_str);
        let failed = |error: &io::Error| NotStarted {
            code: if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN },
            message: format!("cannot run {name}: {error}"),
        };
        let mut environment = self.environment.clone();
        for (name, value) in further {
            environment.retain(|(known, _)| known != name);
            environment.push((name.clone(), value.clone()));
        }
        let path = environment.iter().find(|(name, _)| name == "PATH");
        let path = path.map_or(SEARCH_PATH, |(_, value)| value);
        let program = find(name, path, &self.directory);
        let program = c_string(&program.to_string_lossy()).map_err(|error| failed(&error))?;
        let words: Result<Vec<CString>, _> = words.iter().map(|word| c_string(word)).collect();
        let words = words.map_err(|error| failed(&error))?;
        let variables: Result<Vec<CString>, _> =
            environment.iter().map(|(name, value)| c_string(&format!("{name}={value}"))).collect();
        let variables = variables.map_err(|error| failed(&error))?;
        let directory = c_string(&self.directory).map_err(|error| failed(&error))?;
        let arguments: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
        let environment: Vec<&CStr> = variables.iter().map(CString::as_c_str).collect();
        let start = Spawn {
            program: Program::Path(&program),
            arguments: &arguments,
            environment: &environment,
            descriptors,
            cgroup: None,
            namespaces: Namespaces::default(),
        };
        // User 0 is what this process is already.
        let user = (self.user != (0, 0)).then_some(self.user);
        let besides = Besides { terminal, directory: Some(&directory), user, ..Besides::default() };
        start_with(&start, &besides).map(Pid::from_raw).map_err(|error| failed(&error))
    }
}

fn c_string(text: &str) -> io::Result<CString> {
    Ok(CString::new(text)?)
}

/// The first program of this name along `path`; the name itself if it has a slash in it or is nowhere.
fn find(name: &str, path: &str, directory: &str) -> PathBuf {
    if name.contains('/') {
        return Path::new(directory).join(name);
    }
    let places = path.split(':').map(|folder| Path::new(directory).join(folder).join(name));
    let is_program = |place: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        place.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    places.into_iter().find(is_program).unwrap_or_else(|| Path::new(directory).join(name))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn programs_are_found_along_the_path_and_by_their_names() {
        assert_eq!(find("sh", "/no/such:/bin", "/"), Path::new("/bin/sh"));
        assert_eq!(find("/x/y", "/bin", "/tmp"), Path::new("/x/y"));
        assert_eq!(find("./y", "/bin", "/tmp"), Path::new("/tmp/./y"));
        assert_eq!(find("no-such-program", "/bin", "/"), Path::new("/no-such-program"));
    }

    #[test]
    fn a_program_that_is_not_there_is_told_as_a_shell_tells_it() {
        let zone = Surroundings { environment: vec![], directory: "/".to_owned(), user: (0, 0) };
        let words = ["no-such-program".to_owned()];
        let failure = zone.start(&words, &[], &[], false).unwrap_err();
        assert_eq!(failure.code, NOT_FOUND);
        assert!(failure.message.contains("no-such-program"), "{}", failure.message);
    }
}
