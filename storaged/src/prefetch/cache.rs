//! Which objects stay mapped: those asked for last, within a number of bytes and of objects.

use std::collections::BTreeMap;

/// Mappings by object, with their order of use.
#[derive(Debug)]
pub struct Cache<M> {
    entries: BTreeMap<u64, Entry<M>>,
    /// Object by time of its last use.
    order: BTreeMap<u64, u64>,
    clock: u64,
    bytes: u64,
    evicted: u64,
    bytes_max: u64,
    objects_max: usize,
}

#[derive(Debug)]
struct Entry<M> {
    mapping: M,
    bytes: u64,
    used: u64,
}

impl<M> Cache<M> {
    /// An empty cache with these limits.
    pub fn new(bytes_max: u64, objects_max: usize) -> Self {
        let (entries, order) = (BTreeMap::new(), BTreeMap::new());
        Self { entries, order, clock: 0, bytes: 0, evicted: 0, bytes_max, objects_max }
    }

    /// Notes a use of an object; how many of its bytes are mapped, if it is here.
    pub fn touch(&mut self, id: u64) -> Option<u64> {
        let entry = self.entries.get_mut(&id)?;
        self.clock += 1;
        self.order.remove(&entry.used);
        entry.used = self.clock;
        self.order.insert(self.clock, id);
        Some(entry.bytes)
    }

    /// Keeps a mapping of `bytes`, and lets go of those used longest ago beyond the limits. One that is
    /// over the limits by itself stays until the next.
    pub fn insert(&mut self, id: u64, bytes: u64, mapping: M) {
        self.remove(id);
        self.clock += 1;
        self.order.insert(self.clock, id);
        self.entries.insert(id, Entry { mapping, bytes, used: self.clock });
        self.bytes += bytes;
        while self.entries.len() > 1
            && (self.bytes > self.bytes_max || self.entries.len() > self.objects_max)
        {
            let oldest = self.order.values().next().copied().expect("every entry has its place");
            self.remove(oldest);
            self.evicted += 1;
        }
    }

    /// Lets go of an object, here or not.
    pub fn remove(&mut self, id: u64) -> Option<M> {
        let entry = self.entries.remove(&id)?;
        self.order.remove(&entry.used);
        self.bytes -= entry.bytes;
        Some(entry.mapping)
    }

    /// Lets go of all.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.bytes = 0;
    }

    /// How it is.
    pub fn status(&self) -> wire::prefetch::Status {
        let (bytes, evicted) = (self.bytes, self.evicted);
        wire::prefetch::Status { objects: self.entries.len() as u64, bytes, evicted }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_keeps_what_was_used_last_within_its_limits(
            acts in prop::collection::vec((0..3_u8, 0..12_u64, 1..40_u64), 0..80),
        ) {
            let mut cache = Cache::new(100, 5);
            let mut model: Vec<(u64, u64)> = Vec::new();
            for (act, id, bytes) in acts {
                match act {
                    0 => {
                        cache.insert(id, bytes, ());
                        model.retain(|(other, _)| *other != id);
                        model.push((id, bytes));
                        while model.len() > 1
                            && (model.iter().map(|(_, b)| b).sum::<u64>() > 100 || model.len() > 5)
                        {
                            model.remove(0);
                        }
                    }
                    1 => {
                        let known = model.iter().position(|(other, _)| *other == id);
                        let expected = known.map(|at| {
                            let entry = model.remove(at);
                            model.push(entry);
                            entry.1
                        });
                        prop_assert_eq!(cache.touch(id), expected);
                    }
                    _ => {
                        cache.remove(id);
                        model.retain(|(other, _)| *other != id);
                    }
                }
                let status = cache.status();
                prop_assert_eq!(status.objects, model.len() as u64);
                prop_assert_eq!(status.bytes, model.iter().map(|(_, b)| b).sum::<u64>());
                prop_assert_eq!(cache.order.len(), model.len());
            }
        }
    }
}
