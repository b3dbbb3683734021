//! ListObjectVersions.

use super::condition::etag;
use super::list::{Encoding, key_of, marker_place, page_size, time};
use super::{Api, bucket, error};
use crate::store::{
    After, AfterVersion, Area, ChecksumType, ObjectPath, Summary, Version, VersionEntry,
    VersionRef, VersionsPage, VersionsQuery, View, list_versions, object_version,
};
use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, ListObjectVersionsInput, ListObjectVersionsOutput,
    ObjectVersion, Owner,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

pub(super) fn list(
    api: &Api,
    req: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let admitted = api.admitted(&req)?;
    let owner = bucket::owner(&api.accounts.name_of(admitted.bucket()?.owner));
    let input = req.input;
    let encoding = Encoding::of(input.encoding_type.as_ref().map(s3s::dto::EncodingType::as_str))?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let delimiter = input.delimiter.clone().unwrap_or_default();
    let max = page_size(input.max_keys)?;
    let view = api.store.read().map_err(|e| error::index(&e))?;
    let path = |key: &[u8]| [input.bucket.as_bytes(), b"/", key].concat();
    let account = admitted.bucket()?.owner;
    let marker = Marker::of(&input)?;
    let after = marker.place(&view, &prefix, &delimiter, |key| admitted.path(key))?;
    let query = VersionsQuery {
        account,
        area: Area::Stor,
        prefix: path(prefix.as_bytes()),
        delimiter: delimiter.into_bytes(),
        after: after.map(|after| match after {
            AfterVersion::Path(key) => AfterVersion::Path(path(&key)),
            AfterVersion::Version(key, version) => AfterVersion::Version(path(&key), version),
            AfterVersion::Prefix(key) => AfterVersion::Prefix(path(&key)),
        }),
        max,
    };
    let page = list_versions(&view, &query).map_err(|e| error::index(&e))?;
    let found = Found::of(&page, &owner, &input.bucket, encoding);
    let (next_key_marker, next_version_id_marker) = match &page.next {
        None => (None, None),
        Some(AfterVersion::Path(path) | AfterVersion::Prefix(path)) => {
            (Some(encoding.text(key_of(path, &input.bucket))), None)
        }
        // Of a null version too it is the number: its place, whatever becomes of the version.
        Some(AfterVersion::Version(path, version)) => {
            let key = encoding.text(key_of(path, &input.bucket));
            (Some(key), Some(VersionRef::Id(*version).to_string()))
        }
    };
    Ok(S3Response::new(ListObjectVersionsOutput {
        common_prefixes: Some(found.prefixes),
        delete_markers: Some(found.markers),
        delimiter: input.delimiter.map(|text| encoding.text(text.as_bytes())),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.next.is_some()),
        key_marker: Some(encoding.text(input.key_marker.unwrap_or_default().as_bytes())),
        max_keys: Some(max as i32),
        name: Some(input.bucket),
        next_key_marker,
        next_version_id_marker,
        prefix: Some(encoding.text(prefix.as_bytes())),
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        versions: Some(found.versions),
        ..ListObjectVersionsOutput::default()
    }))
}

/// Where a page is to start, as clients say it.
struct Marker<'a> {
    key: &'a str,
    version: Option<VersionRef>,
}

impl Marker<'_> {
    fn of(input: &ListObjectVersionsInput) -> S3Result<Marker<'_>> {
        let key = input.key_marker.as_deref().unwrap_or_default();
        let id = input.version_id_marker.as_deref().filter(|id| !id.is_empty());
        if id.is_some() && key.is_empty() {
            return Err(s3_error!(
                InvalidArgument,
                "A version-id marker cannot be specified without a key marker."
            ));
        }
        Ok(Marker { key, version: super::version::named(id)? })
    }

    fn place(
        &self,
        view: &impl View,
        prefix: &str,
        delimiter: &str,
        path: impl FnOnce(&str) -> S3Result<ObjectPath>,
    ) -> S3Result<Option<AfterVersion>> {
        let key = || self.key.as_bytes().to_vec();
        let number = match self.version {
            None => None,
            Some(VersionRef::Id(version)) => Some(version),
            // Gone meanwhile: its place is not known any more. Rather all versions again than any lost;
            // above the newest is a number that none has.
            Some(VersionRef::Null) => {
                let null = object_version(view, &path(self.key)?, VersionRef::Null);
                let null = null.map_err(|e| error::index(&e))?;
                Some(null.map_or(Version(u64::MAX), |record| record.version))
            }
        };
        if let Some(version) = number {
            return Ok(Some(AfterVersion::Version(key(), version)));
        }
        Ok(marker_place(self.key, prefix, delimiter).map(|after| match after {
            After::Path(path) => AfterVersion::Path(path),
            After::Prefix(prefix) => AfterVersion::Prefix(prefix),
        }))
    }
}

struct Found {
    versions: Vec<ObjectVersion>,
    markers: Vec<DeleteMarkerEntry>,
    prefixes: Vec<CommonPrefix>,
}

impl Found {
    fn of(page: &VersionsPage, owner: &Owner, bucket: &str, encoding: Encoding) -> Found {
        let mut found = Found { versions: Vec::new(), markers: Vec::new(), prefixes: Vec::new() };
        for entry in &page.entries {
            match entry {
                VersionEntry::Prefix(path) => {
                    let prefix = Some(encoding.text(key_of(path, bucket)));
                    found.prefixes.push(CommonPrefix { prefix });
                }
                VersionEntry::Version { path, summary, superseded_ms } => {
                    let key = encoding.text(key_of(path, bucket));
                    found.version(key, summary, superseded_ms.is_none(), owner);
                }
            }
        }
        found
    }

    fn version(&mut self, key: String, summary: &Summary, is_latest: bool, owner: &Owner) {
        let (key, is_latest, owner) = (Some(key), Some(is_latest), Some(owner.clone()));
        let last_modified = Some(time(summary.modified_ms));
        let version_id = Some(summary.version_ref().to_string());
        if summary.is_marker() {
            self.markers.push(DeleteMarkerEntry {
                is_latest,
                key,
                last_modified,
                owner,
                version_id,
            });
            return;
        }
        self.versions.push(ObjectVersion {
            checksum_algorithm: summary.checksum.as_deref().map(algorithm),
            checksum_type: summary.checksum.as_ref().map(|_| type_text(summary.checksum_type)),
            e_tag: Some(etag(&summary.etag)),
            is_latest,
            key,
            last_modified,
            owner,
            restore_status: None,
            size: Some(super::get::signed(summary.size)),
            storage_class: Some("STANDARD".to_owned().into()),
            version_id,
        });
    }
}

/// A listed version's checksum algorithm.
pub(super) fn algorithm(name: &str) -> s3s::dto::ChecksumAlgorithmList {
    vec![name.to_ascii_uppercase().into()]
}

/// What a listed version's checksum is of.
pub(super) fn type_text(kind: ChecksumType) -> s3s::dto::ChecksumType {
    let text = match kind {
        ChecksumType::FullObject => "FULL_OBJECT",
        ChecksumType::Composite => "COMPOSITE",
    };
    text.to_owned().into()
}
