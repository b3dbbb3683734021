//! Tries attacks and says what came of each; decides nothing. See the library for what it says.
//!
//! `probe CASE…` tries them one after the other. `probe hog CASE` tries one that it may not survive: the line
//! is written before. `PROBE_OBJECT` names the object that the zone shows, else `MANTA_INPUT_FILE` does.
#![forbid(unsafe_code)]

mod calls;
mod files;
mod hogs;
mod kernel;
mod overlay;
mod resources;
mod seen;
mod tries;

use probe::Line;
use std::io::Write;
use std::process::ExitCode;

/// What this program exits with when it has survived a hog that it should not have.
const SURVIVED: u8 = 77;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["part", part, ref rest @ ..] => kernel::part(part, rest),
        ["hog", case] => {
            let Ok(number) = case.parse() else { return usage() };
            let mut line = Line::new(number);
            line.saw("began", "yes");
            // Both: the one of a task that fails is kept as an object, the other is not.
            eprintln!("{line}");
            say(&line);
            match hogs::run(number) {
                Some(true) => ExitCode::SUCCESS,
                Some(false) => ExitCode::from(SURVIVED),
                None => usage(),
            }
        }
        [] => usage(),
        ref cases => {
            for case in cases {
                let Ok(number) = case.parse() else { return usage() };
                let mut line = Line::new(number);
                if !run(&mut line) {
                    return usage();
                }
                say(&line);
            }
            ExitCode::SUCCESS
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: probe CASE… | probe hog CASE");
    ExitCode::from(2)
}

fn say(line: &Line) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        eprintln!("probe: cannot say {line}: {error}");
    }
}

fn run(line: &mut Line) -> bool {
    let case: fn(&mut Line) = match line.number {
        1 => resources::fork_bomb,
        2 => resources::thread_bomb,
        4 => resources::full_tmpfs,
        5 => resources::descriptors,
        6 => resources::pipe_buffers,
        7 => resources::watches,
        8 => resources::queues_and_segments,
        9 => resources::locked_memory,
        11 => resources::names_looked_up,
        12 => resources::output_quota,
        16 => resources::timers,
        17 => resources::syncs,
        20 => resources::odd_sizes,
        22 => resources::zombies,
        24 => files::mounts,
        25 => files::unmounts,
        26 => files::changes,
        27 => files::opened_again,
        28 => files::executable,
        32 => files::devices,
        33 => seen::setuid,
        34 => files::handles,
        35 => files::first_process,
        36 => files::descriptors,
        38 => files::new_roots,
        40 => overlay::overlay,
        41 => kernel::new_namespaces,
        42 => kernel::foreign_namespaces,
        43 => kernel::foreign_memory,
        44 => kernel::foreign_signals,
        45 => calls::keyrings,
        46 => calls::big_four,
        47 => calls::machine,
        48 => calls::log,
        49 => calls::settings,
        50 => calls::cgroups,
        51 => calls::sockets,
        52 => calls::abstract_sockets,
        53 => calls::addresses,
        55 => kernel::terminals,
        56 => kernel::other_tables,
        57 => kernel::attachment,
        58 => kernel::core_dumps,
        59 => seen::other_pages,
        60 => seen::side_channels,
        61 => seen::node_names,
        62 => seen::last_tenant,
        63 => kernel::first_process,
        _ => return false,
    };
    case(line);
    true
}
