//! ListObjectVersions.

use super::condition::etag;
use super::list::{Encoding, key_of, marker_place, page_size, time};
use super::{Api, Payload, bucket, error};
use crate::store::{
    After, AfterVersion, Area, ChecksumType, ObjectPath, Summary, Version, VersionEntry,
    VersionRef, VersionsPage, VersionsQuery, View, list_versions, object_version,
};
use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, ListObjectVersionsInput, ListObjectVersionsOutput,
    ObjectVersion, Owner,
};
use s3s::xml::{SerResult, Serialize, Serializer};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use std::io::Write;

/// The name space of S3's documents.
const XMLNS: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

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
    let result = ListResult {
        delimiter: input.delimiter.map(|text| encoding.text(text.as_bytes())),
        encoding_type: input.encoding_type.map(|kind| kind.as_str().to_owned()),
        is_truncated: page.next.is_some(),
        key_marker: encoding.text(input.key_marker.unwrap_or_default().as_bytes()),
        max_keys: max as i32,
        name: input.bucket,
        next_key_marker,
        next_version_id_marker,
        prefix: encoding.text(prefix.as_bytes()),
        version_id_marker: input.version_id_marker.unwrap_or_default(),
        found,
    };
    let mut response = S3Response::new(ListObjectVersionsOutput::default());
    response.extensions.insert(Payload::Bytes(result.to_xml()?.into()));
    Ok(response)
}

/// The answer as AWS writes it: versions and delete markers in one order. The library would write all delete
/// markers first, and some clients go by the order.
struct ListResult {
    delimiter: Option<String>,
    encoding_type: Option<String>,
    is_truncated: bool,
    key_marker: String,
    max_keys: i32,
    name: String,
    next_key_marker: Option<String>,
    next_version_id_marker: Option<String>,
    prefix: String,
    version_id_marker: String,
    found: Found,
}

impl ListResult {
    fn to_xml(&self) -> S3Result<Vec<u8>> {
        let mut xml = Vec::with_capacity(512 + 512 * self.found.rows.len());
        let mut to = Serializer::new(&mut xml);
        let written = to.decl().and_then(|()| self.serialize(&mut to));
        written.map_err(S3Error::internal_error)?;
        Ok(super::references::written(&xml).unwrap_or(xml))
    }
}

impl Serialize for ListResult {
    fn serialize<W: Write>(&self, to: &mut Serializer<W>) -> SerResult {
        to.element_with_ns("ListVersionsResult", XMLNS, |to| {
            let optional = [
                ("Delimiter", &self.delimiter),
                ("EncodingType", &self.encoding_type),
                ("NextKeyMarker", &self.next_key_marker),
                ("NextVersionIdMarker", &self.next_version_id_marker),
            ];
            to.content("Name", &self.name)?;
            to.content("Prefix", &self.prefix)?;
            to.content("KeyMarker", &self.key_marker)?;
            to.content("VersionIdMarker", &self.version_id_marker)?;
            to.content("MaxKeys", &self.max_keys)?;
            to.content("IsTruncated", &self.is_truncated)?;
            for (name, value) in optional {
                value.iter().try_for_each(|value| to.content(name, value))?;
            }
            for row in &self.found.rows {
                match row {
                    Row::Version(version) => to.content("Version", version)?,
                    Row::Marker(marker) => to.content("DeleteMarker", marker)?,
                }
            }
            to.flattened_list("CommonPrefixes", &self.found.prefixes)
        })
    }
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

enum Row {
    Version(ObjectVersion),
    Marker(DeleteMarkerEntry),
}

struct Found {
    rows: Vec<Row>,
    prefixes: Vec<CommonPrefix>,
}

impl Found {
    fn of(page: &VersionsPage, owner: &Owner, bucket: &str, encoding: Encoding) -> Found {
        let mut found = Found { rows: Vec::new(), prefixes: Vec::new() };
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
            self.rows.push(Row::Marker(DeleteMarkerEntry {
                is_latest,
                key,
                last_modified,
                owner,
                version_id,
            }));
            return;
        }
        self.rows.push(Row::Version(ObjectVersion {
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
        }));
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
