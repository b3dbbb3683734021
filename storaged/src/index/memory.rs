//! An index in memory: what tests of everything above the index run on, crashes included.

use super::layer::is_empty;
use super::{Changes, Index, IndexError, Persist, SharedView, View, Visitor};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// An index that keeps everything in memory, and what was last persisted beside it.
#[derive(Debug, Default, Clone)]
pub struct MemoryIndex {
    map: Arc<Map>,
    applied: u64,
    persisted: (Arc<Map>, u64),
}

impl MemoryIndex {
    /// The index as it would be found after a crash.
    #[must_use]
    pub fn crashed(&self) -> Self {
        let (map, applied) = self.persisted.clone();
        Self { map: Arc::clone(&map), applied, persisted: (map, applied) }
    }
}

struct MemoryView(Arc<Map>);

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.0.get(key).cloned())
    }

    fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut Visitor<'_>,
    ) -> Result<(), IndexError> {
        if is_empty(from, to) {
            return Ok(());
        }
        for (key, value) in self.0.range::<[u8], _>((from, to)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Index for MemoryIndex {
    fn view(&self) -> Result<SharedView, IndexError> {
        Ok(Arc::new(MemoryView(Arc::clone(&self.map))))
    }

    fn apply(
        &mut self,
        changes: &Changes,
        sequence: u64,
        persist: Persist,
    ) -> Result<(), IndexError> {
        let map = Arc::make_mut(&mut self.map);
        for (key, change) in changes {
            match change {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
        self.applied = sequence;
        if persist == Persist::Now {
            self.persisted = (Arc::clone(&self.map), sequence);
        }
        Ok(())
    }

    fn applied(&self) -> Result<u64, IndexError> {
        Ok(self.applied)
    }

    fn is_sound(&mut self) -> Result<bool, IndexError> {
        Ok(true)
    }
}
