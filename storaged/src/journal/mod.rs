//! The journal: the truth of the store, an append-only sequence of batches.
