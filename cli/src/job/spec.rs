//! From flags in the order they were typed to the phases of a job.

use crate::args::Run;
use crate::failure::Failure;
use crate::name::Name;
use clap::ArgMatches;
use wire::job::{Phase, PhaseKind};

/// A flag that makes a phase or belongs to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flag {
    /// `--map CMD`.
    Map(String),
    /// `--reduce CMD`.
    Reduce(String),
    /// Anything that belongs to a phase.
    Of(Setting),
}

/// What a phase may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// `--count N`.
    Count(u32),
    /// `--memory MIB`.
    Memory(u32),
    /// `--disk GIB`.
    Disk(u32),
    /// `--init CMD`.
    Init(String),
    /// `--asset BUCKET/KEY`.
    Asset(String),
    /// `--image NAME`.
    Image(String),
}

/// The flags of `job run` in the order they were typed.
pub fn flags(run: &Run, matches: &ArgMatches) -> Vec<Flag> {
    let mut all: Vec<(usize, Flag)> = Vec::new();
    let mut add = |id: &str, flags: Vec<Flag>| {
        let places = matches.indices_of(id).into_iter().flatten();
        all.extend(places.zip(flags));
    };
    fn of<T: Clone>(values: &[T], flag: impl Fn(T) -> Setting) -> Vec<Flag> {
        values.iter().cloned().map(|value| Flag::Of(flag(value))).collect()
    }
    add("map", run.map.iter().cloned().map(Flag::Map).collect());
    add("reduce", run.reduce.iter().cloned().map(Flag::Reduce).collect());
    add("count", of(&run.count, Setting::Count));
    add("memory", of(&run.memory, Setting::Memory));
    add("disk", of(&run.disk, Setting::Disk));
    add("init", of(&run.init, Setting::Init));
    add("asset", of(&run.asset, Setting::Asset));
    add("image", of(&run.image, Setting::Image));
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, flag)| flag).collect()
}

/// The phases that the flags describe: a setting belongs to the phase before it, or, before the first
/// phase, to every phase that can have it.
///
/// # Errors
/// [`Failure::Usage`] if there is no phase, or a count for maps only.
pub fn phases(flags: Vec<Flag>, account: &str) -> Result<Vec<Phase>, Failure> {
    let mut common: Vec<Setting> = Vec::new();
    let mut phases: Vec<Phase> = Vec::new();
    for flag in flags {
        let (kind, exec) = match flag {
            Flag::Map(exec) => (PhaseKind::Map, exec),
            Flag::Reduce(exec) => (PhaseKind::Reduce, exec),
            Flag::Of(setting) => {
                match phases.last_mut() {
                    None => common.push(setting),
                    Some(phase) => apply(phase, &setting, account)?,
                }
                continue;
            }
        };
        phases.push(Phase {
            kind,
            exec,
            init: None,
            assets: Vec::new(),
            count: None,
            memory: None,
            disk: None,
            image: None,
        });
        let phase = phases.last_mut().expect("one was pushed");
        for setting in &common {
            // The common number of reducers says nothing of maps.
            if kind == PhaseKind::Reduce || !matches!(setting, Setting::Count(_)) {
                apply(phase, setting, account)?;
            }
        }
    }
    let reduces = phases.iter().any(|phase| phase.kind == PhaseKind::Reduce);
    if phases.is_empty() {
        let message = "a job needs a phase: add --map CMD, or --reduce CMD, or both".to_owned();
        return Err(Failure::Usage(message));
    }
    if !reduces && common.iter().any(|setting| matches!(setting, Setting::Count(_))) {
        return Err(Failure::Usage(
            "--count is the number of reducers, and there is no --reduce".to_owned(),
        ));
    }
    Ok(phases)
}

fn apply(phase: &mut Phase, setting: &Setting, account: &str) -> Result<(), Failure> {
    match setting {
        Setting::Count(count) => phase.count = Some(*count),
        Setting::Memory(memory) => phase.memory = Some(*memory),
        Setting::Disk(disk) => phase.disk = Some(*disk),
        Setting::Init(init) => phase.init = Some(init.clone()),
        Setting::Image(image) => phase.image = Some(image.clone()),
        Setting::Asset(asset) => phase.assets.push(full_name(asset, account)?),
    }
    Ok(())
}

/// An object's name in Manta; one that begins with a slash is one already.
pub fn full_name(text: &str, account: &str) -> Result<String, Failure> {
    if text.contains(['\n', '\r']) {
        let message = format!("{text:?} holds a line break, which no input of a job may");
        return Err(Failure::Usage(message));
    }
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Ok(Name::object(text)?.manta(account))
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::args::{Arguments, Command, Job};
    use clap::{CommandFactory, FromArgMatches};

    fn typed(line: &[&str]) -> Result<Vec<Phase>, Failure> {
        let line = ["mobula", "job", "run"].iter().chain(line);
        let matches = Arguments::command().get_matches_from(line);
        let arguments = Arguments::from_arg_matches(&matches).unwrap();
        let Command::Job { command: Job::Run(run) } = arguments.command else { unreachable!() };
        let matches = matches.subcommand_matches("job").unwrap();
        phases(flags(&run, matches.subcommand_matches("run").unwrap()), "ada")
    }

    #[test]
    fn phases_stand_in_the_order_typed_whatever_their_kind() {
        let line = ["-r", "a", "--map", "b", "--reduce", "c", "-m", "d", "in/put"];
        let execs: Vec<_> = typed(&line).unwrap().into_iter().map(|phase| phase.exec).collect();
        assert_eq!(execs, ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_setting_belongs_to_the_phase_before_it() {
        let line = ["-m", "a", "--memory", "256", "-r", "b", "--count", "2", "--asset", "k/x"];
        let phases = typed(&line).unwrap();
        assert_eq!((phases[0].memory, phases[0].count), (Some(256), None));
        assert_eq!((phases[1].memory, phases[1].count), (None, Some(2)));
        assert_eq!(phases[1].assets, ["/ada/stor/k/x"]);
    }

    #[test]
    fn a_setting_before_all_phases_belongs_to_each_that_can_have_it() {
        let phases = typed(&["--count", "3", "--memory", "512", "-m", "a", "-r", "b"]).unwrap();
        let got: Vec<_> = phases.iter().map(|phase| (phase.memory, phase.count)).collect();
        assert_eq!(got, [(Some(512), None), (Some(512), Some(3))]);
    }

    #[test]
    fn no_phase_and_a_count_without_reduce_are_refused() {
        assert!(matches!(typed(&["in/put"]), Err(Failure::Usage(_))));
        assert!(matches!(typed(&["--count", "3", "-m", "a"]), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_name_with_a_line_break_cannot_be_an_input() {
        assert!(full_name("b/a\nb", "ada").is_err());
        assert_eq!(full_name("/bob/public/x", "ada").unwrap(), "/bob/public/x");
    }
}
