//! Attacks on a booted appliance, each by its number and its name.
//!
//! A probe tries them as a tenant's program; what it must report stands in the `probe` library, and what it
//! cannot see from inside (that the node, its neighbours and its books are unharmed) is looked at from
//! outside. One line is printed for each case that held, and for each that is tried on the host alone; a case
//! that nobody told is a failure of its own.

mod booted;
mod control;
mod health;
mod hogs;
mod names;
mod power;
mod tasks;
mod zones;

use crate::teller::Teller;
use anyhow::{Context, Result, ensure};
use booted::Booted;
use probe::expected::{Place, judge};
use probe::{Line, NAMES};
use std::cell::RefCell;
use std::collections::BTreeSet;
use tests::appliance::Artefacts;
use tests::build::workspace;

/// A story told to the attacked appliance.
type Story = fn(&Booted) -> Result<()>;

const ALL: &str = "attacks: every one of the seventy has been told";
const AGAIN: &str = "attacks: a power cut leaves no half zone, and a damaged object is told";

const STORIES: &[(&str, Story)] = &[
    ("attacks: a task's zone withstands what it tries", tasks::withstands),
    ("attacks: nothing of a tenant is left to the next", tasks::residue),
    ("attacks: hogs die alone", hogs::die_alone),
    ("attacks: hogs that live on are not felt", hogs::not_felt),
    ("attacks: output has a limit, and no way around its end", hogs::output),
    ("attacks: a zone that kills everyone ends by itself", tasks::everyone),
    ("attacks: objects with odd names are shown beneath /manta", names::odd),
    ("attacks: an object deleted while it is mapped stays whole", names::deleted),
    ("attacks: standing zones withstand what their root tries", zones::withstands),
    ("attacks: standing zones keep to their processors", zones::capped),
    ("attacks: standing zones flood their log in vain", zones::log_flood),
    ("attacks: standing zones end even if they will not", zones::ignores_term),
    ("attacks: standing zones' odd output is not taken", zones::output),
    ("attacks: standing zones reach nobody unless a rule says so", zones::network),
    ("attacks: garbage and floods on the control sockets", control::garbage),
    ("attacks: zoned is killed again and again", control::zoned_killed),
    ("attacks: storaged is killed under running zones", control::storaged_killed),
    ("attacks: zones come and go, and nothing piles up", control::leaks),
];

/// Cases that are tried on the host alone, each with a test that does it: its file, its name.
const ON_THE_HOST: &[(u8, &str, &str)] = &[
    (37, "zoned/tests/hostile.rs", "an_image_with_odd_directories_leads_nowhere"),
    (39, "zoned/src/import/hostile_test.rs", "names_that_lead_up_are_refused"),
    (39, "zoned/src/import/hostile_test.rs", "hard_links_to_what_is_not_in_the_image_are_refused"),
    (39, "zoned/src/import/hostile_test.rs", "a_bomb_is_refused_before_it_has_gone_off"),
    (54, "zoned/tests/network/main.rs", "what_leaves_a_zone_keeps_to_its_rate"),
    (54, "zoned/tests/network/main.rs", "what_enters_a_zone_keeps_to_its_rate"),
];

thread_local! {
    static TOLD: RefCell<BTreeSet<u8>> = const { RefCell::new(BTreeSet::new()) };
}

/// Notes and prints that a case held.
fn held(number: u8, detail: &str) {
    println!("  case {number:02} {}: held {detail}", probe::name(number));
    TOLD.with_borrow_mut(|told| told.insert(number));
}

/// Holds a probe's output against what it must say, and prints each line of it.
fn judged(text: &str, asked: &[u8], place: Place) -> Result<()> {
    let wrong = judge(text, asked, place);
    for line in Line::all(text) {
        let start = format!("case {} ", line.number);
        if wrong.iter().any(|fault| fault.starts_with(&start)) {
            println!("  {line}");
        } else if asked.contains(&line.number) {
            let tries = line.tries.iter().map(|(what, result)| format!("{what}={result}"));
            held(line.number, &tries.collect::<Vec<_>>().join(" "));
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// Tells them.
pub fn tell(teller: &mut Teller, artefacts: &Artefacts) {
    let names: Vec<&str> = STORIES.iter().map(|(name, _)| *name).chain([AGAIN, ALL]).collect();
    if !teller.wants(&names) {
        return;
    }
    let booted = match Booted::start(artefacts) {
        Ok(booted) => booted,
        Err(error) => {
            for name in names {
                teller.tell(name, || anyhow::bail!("there was no boot: {error:#}"));
            }
            return;
        }
    };
    for (name, story) in STORIES {
        let told = teller.tell(name, || {
            story(&booted)?;
            booted.healthy().context("afterwards")
        });
        if !told {
            println!("  the console ends with:\n{}", booted.appliance.machine.tail());
        }
    }
    teller.tell(AGAIN, || power::cut(artefacts, booted));
    teller.tell(ALL, all_told);
}

/// Every case was told in this boot, or there is a test on the host that does it, which `make unit` runs.
fn all_told() -> Result<()> {
    for (number, file, test) in ON_THE_HOST {
        let source = std::fs::read_to_string(workspace().join(file))?;
        ensure!(source.contains(&format!("fn {test}(")), "there is no test {test} in {file}");
        // What did not run here is not said to have held.
        println!(
            "  case {number:02} {}: not tried here, but by {test} of {file}",
            probe::name(*number)
        );
        TOLD.with_borrow_mut(|told| told.insert(*number));
    }
    let missing: Vec<_> = TOLD.with_borrow(|told| {
        let numbers = (1..).zip(NAMES).filter(|(number, _)| !told.contains(number));
        numbers.map(|(number, name)| format!("{number} {name}")).collect()
    });
    ensure!(missing.is_empty(), "not told: {missing:#?}");
    Ok(())
}
