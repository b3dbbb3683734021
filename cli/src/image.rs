//! `mobula image …`: what the roots of zones are made from.

use crate::admin::{Admin, Flow};
use crate::config::Settings;
use crate::failure::Failure;
use crate::http::Http;
use crate::output::{Screen, plain, size, table};
use crate::zone::args::Image;
use crate::zone::place;
use serde_json::json;
use wire::admin::{Accepted, Deleted, ImageImport, Images, path};
use wire::standing::{Event, ImageView, Subject, What};

/// Does what an `image` command asks.
pub fn run(
    http: &Http,
    settings: &Settings,
    screen: &Screen,
    command: &Image,
) -> Result<(), Failure> {
    let admin = Admin::new(http, settings)?;
    match command {
        Image::Import { name, object, no_wait } => {
            let account = settings.account();
            // A whole name says whose it is.
            let account = if object.starts_with('/') { "" } else { account? };
            let import = ImageImport { name: name.clone(), object: place(object, account)? };
            let wait = !no_wait;
            self::import(&admin, screen, &import, wait)
        }
        Image::List => list(&admin, screen),
        Image::Rm { names } => remove(&admin, screen, names),
    }
}

fn import(
    admin: &Admin<'_>,
    screen: &Screen,
    import: &ImageImport,
    wait: bool,
) -> Result<(), Failure> {
    let what = format!("import {}", import.name);
    // What has happened so far is not the end of what begins now.
    let mut last = 0;
    if wait {
        admin.lines(&what, path::EVENTS.to_owned(), |event: Event| {
            last = event.number;
            Ok(Flow::More)
        })?;
    }
    let accepted: Accepted = admin.tell(&what, "POST", path::IMAGES.to_owned(), import)?;
    if !wait {
        return match screen.json {
            true => screen.value(&accepted),
            false => {
                screen.note(&format!(
                    "{what} has begun: `mobula image list` shows it when it is done"
                ));
                Ok(())
            }
        };
    }
    let bar = screen.spinner(&what);
    let mut end = None;
    let followed =
        admin.lines(&what, format!("{}?after={last}&follow", path::EVENTS), |event: Event| {
            end = (event.subject == Subject::Image(import.name.clone())).then_some(event.what);
            Ok(match end {
                Some(What::Imported { .. } | What::ImportFailed { .. }) => Flow::Enough,
                _ => Flow::More,
            })
        });
    bar.finish_and_clear();
    followed?;
    match end {
        Some(What::Imported { sha256, bytes }) if screen.json => {
            screen.value(&json!({ "image": import.name, "sha256": sha256, "bytes": bytes }))
        }
        Some(What::Imported { sha256, bytes }) => {
            screen.line(&format!("{}: {}, sha256 {}", import.name, size(bytes), plain(&sha256)))
        }
        Some(What::ImportFailed { why }) => Err(Failure::Zone(format!("{what}: {}", plain(&why)))),
        _ => Err(Failure::Zone(format!("{what}: its end was not seen; `mobula image list` tells"))),
    }
}

fn list(admin: &Admin<'_>, screen: &Screen) -> Result<(), Failure> {
    let list: Images = admin.ask("list images", "GET", path::IMAGES.to_owned())?;
    if screen.json {
        return list.images.iter().try_for_each(|image| screen.value(image));
    }
    let row = |image: &ImageView| {
        let from = if image.shipped { "shipped" } else { "imported" };
        vec![
            plain(&image.name),
            size(image.bytes),
            image.zones.to_string(),
            from.to_owned(),
            plain(&image.sha256),
        ]
    };
    let rows: Vec<_> = list.images.iter().map(row).collect();
    let head = ["NAME", "SIZE", "ZONES", "FROM", "SHA-256"];
    screen.bytes(table(&head, &[1, 2], &rows).as_bytes())
}

fn remove(admin: &Admin<'_>, screen: &Screen, names: &[String]) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for name in names {
        let target = format!("{}/{}", path::IMAGES, crate::name::encode_value(name));
        match admin.ask::<Deleted>(&format!("remove {name}"), "DELETE", target) {
            Ok(deleted) if screen.json => screen.value(&deleted)?,
            Ok(_) => screen.line(&format!("{name} is removed"))?,
            Err(failure) => failures.push(failure),
        }
    }
    Failure::summary(failures, names.len(), "images", |failure| screen.report(failure))
}
