//! What each case must report, in a zone and, as a proof that the attack is one, outside of any zone.
//!
//! A row is a list of `try=results`, the results separated by `|`: `ok`, the name of an error, `<N` for
//! at most N, `>N` for at least N, `abc*` for what begins so. Tries that must all give the same are joined by
//! `+`, with or without blanks before it. All that is listed must have been tried and, in a zone, nothing else.

use crate::rows::ROWS;
use crate::{Line, name};

/// Where a case was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the zone of a task.
    Task,
    /// In a standing zone, whose root may do more.
    Standing,
    /// As root of the machine, in no zone: the attack works there, or fails for other reasons.
    Outside,
}

/// What must be said of a case in a place.
pub(crate) struct Row {
    pub(crate) number: u8,
    pub(crate) task: &'static str,
    /// Where it differs from a task's zone.
    pub(crate) standing: Option<&'static str>,
    /// Empty where nobody should try it outside of a zone.
    pub(crate) outside: &'static str,
}

fn row(number: u8, place: Place) -> Option<&'static str> {
    let row = ROWS.iter().find(|row| row.number == number)?;
    let text = match place {
        Place::Task => row.task,
        Place::Standing => row.standing.unwrap_or(row.task),
        Place::Outside => row.outside,
    };
    (!text.is_empty()).then_some(text)
}

/// The cases that the probe can be asked for in a place.
#[must_use]
pub fn cases(place: Place) -> Vec<u8> {
    ROWS.iter().map(|row| row.number).filter(|number| row(*number, place).is_some()).collect()
}

/// What is wrong with a line; nothing if it is as it must be.
#[must_use]
pub fn faults(line: &Line, place: Place) -> Vec<String> {
    let Some(row) = row(line.number, place) else {
        return vec![format!("case {} is not for this place", line.number)];
    };
    let expected = expectations(row);
    let mut faults = Vec::new();
    for (what, results) in &expected {
        match line.result(what) {
            None => faults.push(format!("{what} was not tried")),
            Some(got) if !results.split('|').any(|result| fits(result, got)) => {
                faults.push(format!("{what} gave {got} and not {results}"));
            }
            Some(_) => {}
        }
    }
    for (what, result) in &line.tries {
        // Machines differ; what zones give does not.
        if place != Place::Outside && !expected.iter().any(|(known, _)| known == what) {
            faults.push(format!("{what} gave {result} and is not expected at all"));
        }
    }
    faults
}

/// Each try of a row, and its results.
fn expectations(row: &str) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    let mut tries: Vec<&str> = Vec::new();
    for word in row.split_whitespace() {
        let (names, results) = match word.rsplit_once('=') {
            Some((names, results)) => (names, Some(results)),
            None => (word, None),
        };
        tries.extend(names.split('+').filter(|name| !name.is_empty()));
        if let Some(results) = results {
            found.extend(tries.drain(..).map(|name| (name.to_owned(), results)));
        }
    }
    found
}

fn fits(pattern: &str, got: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    match (pattern.strip_prefix('<'), pattern.strip_prefix('>')) {
        (Some(most), _) => number(got).zip(number(most)).is_some_and(|(got, most)| got <= most),
        (_, Some(least)) => number(got).zip(number(least)).is_some_and(|(got, least)| got >= least),
        _ => match pattern.strip_suffix('*') {
            Some(start) => got.starts_with(start),
            None => pattern == got,
        },
    }
}

/// Compares what a probe wrote with what it was asked for; gives what is wrong, in words.
#[must_use]
pub fn judge(text: &str, asked: &[u8], place: Place) -> Vec<String> {
    let lines = Line::all(text);
    let mut wrong = Vec::new();
    for number in asked {
        let found: Vec<_> = lines.iter().filter(|line| line.number == *number).collect();
        match &found[..] {
            [line] => {
                let faults = faults(line, place);
                wrong.extend(
                    faults.iter().map(|fault| format!("case {number} {}: {fault}", name(*number))),
                );
            }
            [] => wrong.push(format!("case {number} {} said nothing", name(*number))),
            _ => wrong.push(format!("case {number} {} was said twice", name(*number))),
        }
    }
    wrong
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn tries_that_give_the_same_are_told_together() {
        let found = expectations("a+b\n +c=EPERM|ok d=1 kill(all,0)=ok");
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d", "kill(all,0)"]);
        assert_eq!((found[2].1, found[3].1), ("EPERM|ok", "1"));
    }

    #[test]
    fn every_word_of_every_row_is_an_expectation() {
        for row in ROWS {
            for text in [row.task, row.standing.unwrap_or_default(), row.outside] {
                let last = text.split_whitespace().last().unwrap_or("=");
                assert!(last.contains('='), "case {}: {last} expects nothing", row.number);
            }
        }
    }
}
