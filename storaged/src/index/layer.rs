//! Changes that are not in the index yet, and a view that shows them as if they were.

use super::{IndexError, View, Visitor};
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// What a transaction or a batch changes: a value, or nothing where a key goes.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A view with changes laid over it.
pub struct Layer<'a> {
    /// What is below.
    pub base: &'a dyn View,
    /// What lies over it.
    pub changes: &'a Changes,
}

impl View for Layer<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.base.get(key),
        }
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
        let mut over = self.changes.range::<[u8], _>((from, to)).peekable();
        let mut ended = false;
        self.base.range(from, to, &mut |key, value| {
            while let Some((changed, change)) = over.next_if(|(k, _)| k.as_slice() <= key) {
                if let Some(new) = change
                    && visit(changed, new).is_break()
                {
                    ended = true;
                    return ControlFlow::Break(());
                }
                if changed == key {
                    return ControlFlow::Continue(());
                }
            }
            let flow = visit(key, value);
            ended = flow.is_break();
            flow
        })?;
        if !ended {
            for (key, change) in over {
                if let Some(value) = change
                    && visit(key, value).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Whether no key lies between the bounds; `BTreeMap::range` panics on some of these.
pub(super) fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(a), Bound::Included(b)) => a > b,
        (Bound::Excluded(a) | Bound::Included(a), Bound::Excluded(b))
        | (Bound::Excluded(a), Bound::Included(b)) => a >= b,
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::index::{Index, MemoryIndex, Persist};
    use proptest::prelude::*;

    fn changes() -> impl Strategy<Value = Changes> {
        let key = proptest::collection::vec(0_u8..4, 0..3);
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3));
        proptest::collection::btree_map(key, value, 0..20)
    }

    fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
        let key = || proptest::collection::vec(0_u8..4, 0..3);
        prop_oneof![
            key().prop_map(Bound::Included),
            key().prop_map(Bound::Excluded),
            Just(Bound::Unbounded)
        ]
    }

    fn collect(
        view: &dyn View,
        from: &Bound<Vec<u8>>,
        to: &Bound<Vec<u8>>,
        max: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut seen = Vec::new();
        view.range(
            from.as_ref().map(Vec::as_slice),
            to.as_ref().map(Vec::as_slice),
            &mut |k, v| {
                seen.push((k.to_vec(), v.to_vec()));
                if seen.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        )
        .unwrap();
        seen
    }

    proptest! {
        #[test]
        fn a_layer_shows_what_applying_it_would(below in changes(), over in changes(), from in bound(), to in bound(), max in 1_usize..30) {
            let mut index = MemoryIndex::default();
            index.apply(&below, 1, Persist::Later).unwrap();
            let base = index.view().unwrap();
            let layer = Layer { base: &*base, changes: &over };
            let seen = collect(&layer, &from, &to, max);
            index.apply(&over, 2, Persist::Later).unwrap();
            let applied = index.view().unwrap();
            prop_assert_eq!(seen, collect(&*applied, &from, &to, max));
            for key in over.keys().chain(below.keys()) {
                let layer = Layer { base: &*base, changes: &over };
                prop_assert_eq!(layer.get(key).unwrap(), applied.get(key).unwrap());
            }
        }
    }
}
