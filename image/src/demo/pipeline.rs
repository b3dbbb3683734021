//! The demonstration's pipeline, as a job in the appliance and as a pipe on this machine, and the
//! comparison of what the two give.

use super::DemoError;
use super::input::Input;
use crate::command;
use crate::file::failed;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The map phase, run on each object. The locale stands in the line itself, so that both sides sort alike
/// whatever a zone or a machine has for a default.
pub const MAP: &str = "LC_ALL=C grep ^Maintainer:";
/// The reduce phase, run on all that the map phase wrote.
pub const REDUCE: &str = "export LC_ALL=C; sort | uniq -c | sort -rn | head -20";

/// Runs the pipeline on this machine, over the same files.
///
/// # Errors
/// When it fails.
pub fn on_this_machine(input: &Input) -> Result<(Vec<u8>, Duration), DemoError> {
    let started = Instant::now();
    let script = format!("for file; do {MAP} <\"$file\"; done | {{ {REDUCE}; }}");
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script, "bash"]).args(&input.files);
    Ok((command::bytes(&mut bash)?, started.elapsed()))
}

/// What the appliance gave must be what this machine gave, byte for byte.
///
/// # Errors
/// [`DemoError::Differs`], with the first line that does.
pub fn compare(appliance: &[u8], machine: &[u8]) -> Result<(), DemoError> {
    if machine.is_empty() {
        return Err(DemoError::Empty);
    }
    if appliance == machine {
        return Ok(());
    }
    let lines = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
    };
    let (left, right) = (lines(appliance), lines(machine));
    let at = left.iter().zip(&right).take_while(|(l, r)| l == r).count();
    let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "(nothing)".to_owned());
    Err(DemoError::Differs { line: at + 1, appliance: line(&left), machine: line(&right) })
}

/// Changes one maintainer's name, once, in one object, such that the result must change: the name is the
/// one counted first. Gives the changed file.
///
/// # Errors
/// When there is no such line or the file can't be written.
pub fn alter_one(input: &Input, result: &[u8]) -> Result<PathBuf, DemoError> {
    let text = String::from_utf8_lossy(result);
    let first = text.lines().next().and_then(|line| line.trim_start().split_once(' '));
    let (_, name) = first.ok_or(DemoError::Empty)?;
    for file in &input.files {
        let content = fs::read(file).map_err(failed("read", file))?;
        if let Some(altered) = altered(&content, name.as_bytes()) {
            fs::write(file, altered).map_err(failed("write", file))?;
            return Ok(file.clone());
        }
    }
    Err(DemoError::Empty)
}

/// `content` with its first line equal to `line` replaced by another maintainer.
fn altered(content: &[u8], line: &[u8]) -> Option<Vec<u8>> {
    let mut lines: Vec<_> = content.split(|byte| *byte == b'\n').collect();
    *lines.iter_mut().find(|other| **other == line)? = b"Maintainer: Nobody <nobody@invalid>";
    Some(lines.join(&b'\n'))
}

#[cfg(test)]
mod test {
    use super::*;

    fn input(folder: &std::path::Path, texts: &[&str]) -> Input {
        let mut files = Vec::new();
        for (number, text) in (0..).zip(texts) {
            files.push(folder.join(format!("{number}")));
            fs::write(&files[number], text).unwrap();
        }
        let bytes = texts.iter().map(|text| text.len() as u64).sum();
        Input { folder: folder.to_owned(), files, bytes }
    }

    #[test]
    fn the_pipeline_counts_maintainers() {
        let folder = tempfile::tempdir().unwrap();
        let input = input(
            folder.path(),
            &["Package: a\nMaintainer: X\n\n", "Maintainer: Y\n\nMaintainer: X\n\n"],
        );
        let (result, _) = on_this_machine(&input).unwrap();
        assert_eq!(result, b"      2 Maintainer: X\n      1 Maintainer: Y\n");
    }

    #[test]
    fn one_altered_object_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let input =
            input(folder.path(), &["Maintainer: Y\n\n", "Maintainer: X\n\nMaintainer: X\n\n"]);
        let (before, _) = on_this_machine(&input).unwrap();
        compare(&before, &before).unwrap();
        assert_eq!(alter_one(&input, &before).unwrap(), input.files[1]);
        let (after, _) = on_this_machine(&input).unwrap();
        assert!(matches!(compare(&after, &before), Err(DemoError::Differs { line: 1, .. })));
    }

    #[test]
    fn two_empty_results_prove_nothing() {
        assert!(matches!(compare(b"", b""), Err(DemoError::Empty)));
    }

    #[test]
    fn a_missing_last_line_is_a_difference() {
        assert!(matches!(compare(b"a\n", b"a\nb\n"), Err(DemoError::Differs { line: 2, .. })));
        assert!(matches!(compare(b"a", b"a\n"), Err(DemoError::Differs { .. })));
    }
}
