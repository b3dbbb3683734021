//! PID 1 and supervisor, and noded, the machine's configuration brain.
//!
//! Two programs: `init` boots the system, keeps its services alive and ends it in order; it is small, has
//! one thread and one wait, and must never fail. `noded` knows the machine (configuration, network,
//! clock, data disk); it may fail, and is started again.
#![forbid(unsafe_code)]

mod answer;
pub mod boot;
pub mod cgroup;
pub mod console;
pub mod control;
mod ending;
pub mod keys;
pub mod logs;
pub mod noded;
pub mod notice;
pub mod order;
pub mod service;
pub mod shutdown;
pub mod supervisor;
pub mod tables;
pub mod unit;
pub mod unmount;

use console::Console;
use std::collections::BTreeMap;
use std::path::Path;
use supervisor::Supervisor;
use sys::signal::Signals;
use wire::service::{SERVICES_MAX, ServiceName, ServiceSpec};

/// Descriptors that init may have open: those that it keeps for services, each twice while one is started.
const OPEN_FILES: u64 = 16_384;
const _: () = assert!(OPEN_FILES > 2 * wire::service::FD_STORE_MAX as u64 + 1024);

/// Where services are described.
const SERVICES: &str = "/etc/mobula/services";

/// Boots the system and runs it: what PID 1 does.
pub fn run() -> ! {
    let started_ms = sys::clock::since_boot_ms();
    let faults = boot::mounts();
    let mut console = Console::open();
    console.say(&format!("init {} starts", env!("CARGO_PKG_VERSION")));
    for fault in faults {
        console.say(&fault);
    }
    if let Err(error) = sys::power::ctrl_alt_del_asks() {
        console.say(&format!("Ctrl-Alt-Del restarts at once: {error}"));
    }
    let signals = loop {
        match Signals::take_all() {
            Ok(signals) => break signals,
            Err(error) => {
                console.say(&format!("cannot take signals, trying again: {error}"));
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        }
    };
    if let Err(error) = sys::host::allow_open_files(OPEN_FILES) {
        console.say(&format!("few descriptors can be kept for services: {error}"));
    }
    boot::modules(&mut console);
    boot::settings(&mut console);
    let controllers = boot::cgroups(&mut console);
    boot::close_root(&mut console);
    boot::probe(&mut console);
    let specs = services(Path::new(SERVICES), &mut |text| console.say(text));
    Supervisor::new(console, signals, specs, controllers, started_ms).run()
}

/// Reads the services' files. A file that is wrong is said to be and passed over: the others run.
fn services(folder: &Path, say: &mut dyn FnMut(&str)) -> BTreeMap<ServiceName, ServiceSpec> {
    let mut specs = BTreeMap::new();
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) => {
            say(&format!("no services: cannot read {}: {error}", folder.display()));
            return specs;
        }
    };
    let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
    paths.sort();
    for path in paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "toml")) {
        if specs.len() >= SERVICES_MAX {
            say(&format!("{} is over the limit of {SERVICES_MAX} services", path.display()));
            break;
        }
        match service(&path) {
            Ok((name, spec)) => drop(specs.insert(name, spec)),
            Err(error) => {
                say(&format!("the service file {} is wrong: {error}", path.display()));
            }
        }
    }
    specs
}

fn service(path: &Path) -> Result<(ServiceName, ServiceSpec), Box<dyn std::error::Error>> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = ServiceName::try_from(stem)?;
    let text = std::fs::read_to_string(path)?;
    let spec = ServiceSpec::parse(&name, &text)?;
    Ok((name, spec))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_services_that_are_shipped_are_right_and_in_order() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/services");
        let mut said = Vec::new();
        let specs = services(&folder, &mut |text| said.push(text.to_owned()));
        assert_eq!(said, Vec::<String>::new());
        let names: Vec<_> = specs.keys().map(ServiceName::as_str).collect();
        assert_eq!(names, ["consoled", "noded", "prefetcher", "storaged", "zoned"]);
        // Who looks after a node sees by it what the others wait for.
        let consoled = specs.iter().find(|(name, _)| name.as_str() == "consoled");
        assert!(consoled.is_some_and(|(_, spec)| spec.after.is_empty()));
        let after = specs.iter().map(|(name, spec)| (name.clone(), spec.after.clone())).collect();
        assert!(order::faults(&after).is_empty());
    }
}
