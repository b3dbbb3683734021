//! Every byte that the store leaves on disk, but for the content of objects: `docs/formats.md` says
//! the same in words.
//!
//! Pure code: it turns values into bytes and back, never panics on bytes it did not write, and does no
//! input or output. Numbers are little-endian in values and big-endian in keys, where their order
//! counts. Every value starts with its version.

mod codec;
mod file;
mod key;
mod object;
mod record;
mod snapshot;
mod upload;
mod value;

pub use codec::{DecodeError, Reader, Writer};
pub use file::{FORMAT_VERSION, Format, FormatError, LEAST_READER};
pub use key::{
    Keyspace, account_key, blob_key, blob_of_key, bucket_config_key, bucket_key, bucket_owner_key,
    config_of_key, event_key, event_prefix, object_key, object_prefix, path_of_key, prefix_end,
    state_key, stem_of_key, to_unlink_key, version_of_key,
};
pub use object::{Summary, is_marker};
pub use record::{
    Batch, Found, RECORD_ALIGNMENT, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES,
    SegmentHeader, encode_record, find_record, read_record,
};
pub use snapshot::{
    CHUNK_BYTES, CHUNK_BYTES_MAX, CHUNK_HEADER_BYTES, ChunkHead, ChunkWriter,
    SNAPSHOT_HEADER_BYTES, SnapshotDamage, SnapshotHeader, SnapshotReader, parse_snapshot,
};
pub use upload::{
    check_upload_row, completed_key, part_key, read_upload_list_key, upload_key, upload_list_exact,
    upload_list_key, upload_list_prefix, upload_of_key, uploads_prefix,
};
pub use value::Value;
