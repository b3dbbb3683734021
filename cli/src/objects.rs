//! `ls`, `rm`, `mb`, `rb`: looking at objects and removing them.

use crate::args::{Ls, Rm};
use crate::failure::{Failure, hint};
use crate::name::Name;
use crate::output::{Screen, plain};
use crate::s3::{DELETE_KEYS_MAX, Entry, Page, S3};
use serde_json::json;

/// `mobula ls`.
pub fn list(s3: &S3<'_>, screen: &Screen, ls: &Ls) -> Result<(), Failure> {
    let Some(name) = &ls.name else { return list_buckets(s3, screen, ls.long) };
    let prefix = Name::parse(name)?;
    let mut any = false;
    s3.walk(&prefix, !ls.recursive, |page| {
        any |= !page.entries.is_empty() || !page.folders.is_empty();
        show(screen, page, ls.long)
    })?;
    // An empty bucket is an answer; a beginning that no key has is most likely a mistake.
    if !any && !prefix.key.is_empty() {
        return Err(missing(format!("list {prefix}"), "no key begins like this"));
    }
    Ok(())
}

fn missing(what: String, message: &str) -> Failure {
    let (code, message) = ("NoSuchKey".to_owned(), message.to_owned());
    Failure::Refused { what, status: 404, code, message, hint: "" }
}

fn list_buckets(s3: &S3<'_>, screen: &Screen, long: bool) -> Result<(), Failure> {
    for bucket in s3.buckets()? {
        if screen.json {
            screen.value(&bucket)?;
        } else if long {
            screen.line(&format!("{}  {}", moment(&bucket.created), plain(&bucket.name)))?;
        } else {
            screen.line(&plain(&bucket.name))?;
        }
    }
    Ok(())
}

/// Prints a page in the order of its keys, folders among them.
fn show(screen: &Screen, page: Page, long: bool) -> Result<(), Failure> {
    let mut text = String::new();
    for row in rows(page) {
        let line = match (&row, screen.json) {
            (Row::Object(entry), true) => json!({
                "key": entry.key,
                "size": entry.size,
                "modified": entry.modified,
                "etag": entry.etag.trim_matches('"'),
            })
            .to_string(),
            (Row::Folder(folder), true) => json!({ "prefix": folder }).to_string(),
            (Row::Object(entry), false) if long => {
                let (size, key) = (entry.size, plain(&entry.key));
                format!("{size:>14}  {}  {key}", moment(&entry.modified))
            }
            (Row::Folder(folder), false) if long => {
                format!("{:>14}  {:20}  {}", "", "", plain(folder))
            }
            (Row::Object(Entry { key: text, .. }) | Row::Folder(text), false) => plain(text),
        };
        text.push_str(&line);
        text.push('\n');
    }
    screen.bytes(text.as_bytes())
}

enum Row {
    Object(Entry),
    Folder(String),
}

impl Row {
    fn key(&self) -> &str {
        match self {
            Self::Object(entry) => &entry.key,
            Self::Folder(folder) => folder,
        }
    }
}

fn rows(page: Page) -> Vec<Row> {
    let objects = page.entries.into_iter().map(Row::Object);
    let mut rows: Vec<_> = objects.chain(page.folders.into_iter().map(Row::Folder)).collect();
    rows.sort_by(|a, b| a.key().cmp(b.key()));
    rows
}

/// A moment without its fraction of a second: `2026-11-22T08:00:00Z`.
fn moment(text: &str) -> String {
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text.to_owned(),
    }
}

/// `mobula rm`.
pub fn remove(s3: &S3<'_>, screen: &Screen, rm: &Rm) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for text in &rm.names {
        let outcome = if rm.recursive {
            remove_below(s3, screen, &Name::parse(text)?, rm.force)
        } else {
            remove_one(s3, screen, &Name::object(text)?, rm.force)
        };
        failures.extend(outcome.err());
    }
    Failure::summary(failures, rm.names.len(), "names", |failure| screen.report(failure))
}

fn remove_one(s3: &S3<'_>, screen: &Screen, name: &Name, force: bool) -> Result<(), Failure> {
    // S3 says "done" for what was never there; a person who mistyped wants to know.
    if !force && !s3.exists(name)? {
        return Err(missing(format!("remove {name}"), "there is no such object"));
    }
    s3.delete(name)?;
    if screen.json {
        screen.value(&json!({ "removed": name.to_string() }))?;
    }
    Ok(())
}

/// Removes the object `name`, if there is one, and all below it.
fn remove_below(s3: &S3<'_>, screen: &Screen, name: &Name, force: bool) -> Result<(), Failure> {
    let below = name.with_key(name.folder());
    let spinner = screen.spinner("removed");
    let mut keys = Vec::new();
    let mut removed = 0;
    let mut left = Vec::new();
    if below.key != name.key && s3.exists(name)? {
        keys.push(name.key.clone());
    }
    let mut flush = |keys: &[String]| -> Result<(), Failure> {
        for keys in keys.chunks(DELETE_KEYS_MAX) {
            let undeleted = s3.delete_many(name, keys)?;
            removed += keys.len() - undeleted.len().min(keys.len());
            left.extend(undeleted);
            spinner.set_position(removed as u64);
        }
        Ok(())
    };
    s3.walk(&below, false, |page| {
        keys.extend(page.entries.into_iter().map(|entry| entry.key));
        let full = keys.len() / DELETE_KEYS_MAX * DELETE_KEYS_MAX;
        let rest = keys.split_off(full);
        flush(&std::mem::replace(&mut keys, rest))
    })?;
    flush(&keys)?;
    spinner.finish_and_clear();
    let all = removed + left.len();
    if all == 0 && !force {
        return Err(missing(
            format!("remove {name}"),
            "there is nothing of that name, or below it",
        ));
    }
    if screen.json {
        screen.value(&json!({ "removed_below": name.to_string(), "objects": removed }))?;
    } else {
        screen.note(&format!("{removed} objects removed below {name}"));
    }
    let failures = left.into_iter().map(|undeleted| Failure::Refused {
        what: format!("remove {}", name.with_key(undeleted.key)),
        status: if undeleted.code == "AccessDenied" { 403 } else { 500 },
        hint: hint(&undeleted.code),
        code: undeleted.code,
        message: undeleted.message,
    });
    Failure::summary(failures.collect(), all, "objects", |failure| screen.report(failure))
}

/// `mobula mb`.
pub fn make_bucket(s3: &S3<'_>, screen: &Screen, bucket: &str) -> Result<(), Failure> {
    let bucket = just_bucket(bucket)?;
    s3.make_bucket(&bucket, false)?;
    if screen.json { screen.value(&json!({ "made": bucket.bucket })) } else { Ok(()) }
}

/// `mobula rb`.
pub fn remove_bucket(s3: &S3<'_>, screen: &Screen, bucket: &str) -> Result<(), Failure> {
    let bucket = just_bucket(bucket)?;
    s3.remove_bucket(&bucket)?;
    if screen.json { screen.value(&json!({ "removed": bucket.bucket })) } else { Ok(()) }
}

fn just_bucket(text: &str) -> Result<Name, Failure> {
    let name = Name::parse(text)?;
    if name.key.is_empty() {
        Ok(name)
    } else {
        Err(Failure::Usage(format!("{text:?} is more than a bucket: write its name alone")))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn folders_stand_among_objects_in_the_order_of_keys() {
        let entry = |key: &str| Entry {
            key: key.to_owned(),
            size: 0,
            modified: String::new(),
            etag: String::new(),
        };
        let entries = vec![entry("a"), entry("c")];
        let page = Page { entries, folders: vec!["b/".to_owned()], next: None };
        let keys: Vec<_> = rows(page).iter().map(|row| row.key().to_owned()).collect();
        assert_eq!(keys, ["a", "b/", "c"]);
    }

    #[test]
    fn fractions_of_seconds_are_not_shown() {
        assert_eq!(moment("2026-11-22T08:00:00.123Z"), "2026-11-22T08:00:00Z");
        assert_eq!(moment(""), "");
    }

    #[test]
    fn a_bucket_alone_is_asked_for() {
        assert!(just_bucket("b").is_ok() && just_bucket("b/k").is_err());
    }
}
