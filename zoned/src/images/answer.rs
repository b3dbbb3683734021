//! Requests of people about images, and what they are answered.

use super::import::Import;
use super::note::{Note, Whom};
use super::record::{Phase, Record};
use super::{ImageError, is_name};
use crate::chain;
use crate::daemon::Daemon;
use crate::standing::{Asker, refusal};
use wire::frame::Refusal;
use wire::standing::{ImageView, ZoneReply, ZoneRequest};

/// The most images that were imported: one answer has to hold them all.
const IMAGES_MAX: usize = 128;

fn internal(error: &ImageError) -> Refusal {
    refusal("Internal", chain(error))
}

/// The login in `/login/stor/…`.
fn login(object: &str) -> Option<&str> {
    let (login, rest) = object.strip_prefix('/')?.split_once('/')?;
    (!login.is_empty() && rest.contains('/')).then_some(login)
}

impl Daemon {
    /// Does what is asked about images; any other request is refused.
    pub(crate) fn image_request(&mut self, request: ZoneRequest) -> Result<ZoneReply, Refusal> {
        match request {
            ZoneRequest::Images => self.list_images(),
            ZoneRequest::ImportImage { name, object } => self.import_image(name, object),
            _ => Err(refusal("Internal", "the request came to the wrong place".to_owned())),
        }
    }

    /// All images: those that came with the appliance, then those that were imported.
    fn list_images(&self) -> Result<ZoneReply, Refusal> {
        let shipped = self.images.shipped().map_err(|error| internal(&error))?;
        let shipped = shipped.into_iter().map(|(name, bytes, sha256)| {
            let zones = self.zones_of(&name);
            ImageView { name, sha256, bytes, shipped: true, zones }
        });
        let imported = self.images.records.all().filter_map(|(name, record)| {
            let Phase::Ready { sha256, bytes } = &record.phase else { return None };
            Some(ImageView {
                name: name.to_owned(),
                sha256: sha256.clone(),
                bytes: *bytes,
                shipped: false,
                zones: self.zones_of(name),
            })
        });
        Ok(ZoneReply::Images(shipped.chain(imported).collect()))
    }

    /// Zones that use an image: standing ones, whether they run or not, and those of tasks.
    fn zones_of(&self, name: &str) -> u32 {
        let standing = self.standing.using(name);
        let tasks = self.zones.values().filter(|entry| entry.uses(name)).count();
        standing.saturating_add(u32::try_from(tasks).unwrap_or(u32::MAX))
    }

    /// Begins to make an image of an object.
    fn import_image(&mut self, name: String, object: String) -> Result<ZoneReply, Refusal> {
        if !is_name(&name) {
            return Err(refusal("InvalidName", chain(&ImageError::Name { name })));
        }
        let Some(login) = login(&object).map(str::to_owned) else {
            let message = format!("{object:?} is no object's name: /login/stor/…");
            return Err(refusal("InvalidObject", message));
        };
        if self.images.is_known(&name) {
            let message = format!("there is an image {name}: remove it, or give another name");
            return Err(refusal("ImageExists", message));
        }
        if self.images.records.all().count() >= IMAGES_MAX {
            let message = format!("there are {IMAGES_MAX} images: remove one that nobody uses");
            return Err(refusal("TooMany", message));
        }
        if let Some(import) = &self.images.import {
            let message = format!("{} is being imported: one at a time", import.name);
            return Err(refusal("Busy", message));
        }
        if !self.link.has_room() {
            let message = "storaged, which has the archive, is not there: try again";
            return Err(refusal("Unavailable", message.to_owned()));
        }
        self.begin_import(Import::new(name, login, object));
        Ok(ZoneReply::Done)
    }

    /// Removes an image that nobody uses: from here on nobody can, and its object goes as soon as storaged is there.
    pub(crate) fn remove_image(&mut self, asker: Asker, name: String) {
        if let Err(refused) = self.try_remove_image(asker, name) {
            self.answer_zone(asker, Err(refused), &[]);
        }
    }

    fn try_remove_image(&mut self, asker: Asker, name: String) -> Result<(), Refusal> {
        let Some(before) = self.images.records.get(&name).cloned() else {
            return Err(match self.images.is_known(&name) {
                true => refusal("Shipped", format!("the image {name} came with the appliance")),
                false => refusal("NoSuchImage", format!("there is no image {name}")),
            });
        };
        let zones = self.zones_of(&name);
        if zones > 0 {
            let message = format!("{zones} zones use the image {name}: delete them first");
            return Err(refusal("InUse", message));
        }
        if self.images.noting.contains(&name) {
            let message = format!("the image {name} is being made or removed: try again");
            return Err(refusal("Busy", message));
        }
        self.images.unmount(&name).map_err(|error| internal(&error))?;
        let record = Record { phase: Phase::Removing, ..before.clone() };
        self.images.records.set(&name, Some(record.clone()));
        self.note(Note { name, record: Some(record), whom: Whom::Person(asker, before) });
        Ok(())
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_object_s_name_begins_with_whose_it_is() {
        assert_eq!(login("/ann/stor/a.tar"), Some("ann"));
        for bad in ["", "/", "ann/stor/a", "/ann", "/ann/stor", "//stor/a"] {
            assert_eq!(login(bad), None, "{bad}");
        }
    }
}
