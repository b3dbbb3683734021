//! Attacks on a booted appliance, each by its number and its name.
//!
//! A probe tries them as a tenant's program; what it must report stands in the `probe` library, and what it
//! cannot see from inside (that the node, its neighbours and its books are unharmed) is looked at from
//! outside. One line is printed for each case that held; a case that nobody told is a failure of its own.

mod booted;
mod control;
mod felt;
pub mod health;
mod hogs;
mod images;
mod names;
mod power;
mod shown;
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
    ("attacks: a zone's network keeps to its rate", zones::rates),
    ("attacks: hostile archives are no images", images::refused),
    ("attacks: images with odd directories lead nowhere", images::masks),
    ("attacks: images with marks, devices and privileged programs gain nothing", images::marked),
    ("attacks: garbage and floods on the control sockets", control::garbage),
    ("attacks: first processes of zones speak nonsense", control::first_processes),
    ("attacks: what a zone shows outlasts the objects and storaged", shown::lasts),
    ("attacks: zoned is killed again and again", control::zoned_killed),
    ("attacks: storaged is killed under running zones", control::storaged_killed),
    ("attacks: zones come and go, and nothing piles up", control::leaks),
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

/// Every case was told in this boot.
fn all_told() -> Result<()> {
    let missing: Vec<_> = TOLD.with_borrow(|told| {
        let numbers = (1..).zip(NAMES).filter(|(number, _)| !told.contains(number));
        numbers.map(|(number, name)| format!("{number} {name}")).collect()
    });
    ensure!(missing.is_empty(), "not told: {missing:#?}");
    println!("  {} attacks were tried in the appliance, and held", NAMES.len());
    Ok(())
}
