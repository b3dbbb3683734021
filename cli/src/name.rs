//! Names of objects, as people write them (`BUCKET/KEY`), as URLs carry them, as files bear them.

use crate::failure::Failure;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use std::path::{Component, Path, PathBuf};

/// What a path keeps as it is: RFC 3986's unreserved characters and the slash.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
/// What a value in a query keeps as it is: RFC 3986's unreserved characters.
const VALUE: &AsciiSet = &PATH.add(b'/');
/// The most bytes in a key, as in S3.
const KEY_BYTES_MAX: usize = 1024;

/// `BUCKET` or `BUCKET/KEY`; the key may be empty, end in a slash, or be only the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The bucket.
    pub bucket: String,
    /// The key, or the beginning of keys.
    pub key: String,
}

impl Name {
    /// Reads `BUCKET[/KEY]`.
    ///
    /// # Errors
    /// [`Failure::Usage`] if there is no bucket or the key is too long.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let (bucket, key) = text.split_once('/').unwrap_or((text, ""));
        if bucket.is_empty() {
            let message = format!(
                "{text:?} names no bucket: write BUCKET/KEY, with nothing before the bucket"
            );
            return Err(Failure::Usage(message));
        }
        if key.len() > KEY_BYTES_MAX {
            let (got, max) = (key.len(), KEY_BYTES_MAX);
            return Err(Failure::Usage(format!(
                "the key in {bucket:?} has {got} bytes, {max} is the most: shorten it"
            )));
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// Reads `BUCKET/KEY`, both of them there.
    ///
    /// # Errors
    /// [`Failure::Usage`] as in [`Name::parse`], and for an empty key.
    pub fn object(text: &str) -> Result<Self, Failure> {
        let name = Self::parse(text)?;
        if name.key.is_empty() {
            let message = format!(
                "{text:?} names a bucket and no object: write BUCKET/KEY, or add -r for all below it"
            );
            return Err(Failure::Usage(message));
        }
        Ok(name)
    }

    /// The same bucket, another key.
    pub fn with_key(&self, key: impl Into<String>) -> Self {
        Self { bucket: self.bucket.clone(), key: key.into() }
    }

    /// The beginning of all keys below this one: it and a slash, unless it is empty or ends in one.
    pub fn folder(&self) -> String {
        match self.key.as_str() {
            "" => String::new(),
            key if key.ends_with('/') => key.to_owned(),
            key => format!("{key}/"),
        }
    }

    /// The path of the object in a URL.
    pub fn url_path(&self) -> String {
        if self.key.is_empty() {
            encode_path(&format!("/{}", self.bucket))
        } else {
            encode_path(&format!("/{}/{}", self.bucket, self.key))
        }
    }

    /// Its name in Manta: `/ACCOUNT/stor/BUCKET/KEY`.
    pub fn manta(&self, account: &str) -> String {
        format!("/{account}/stor/{}/{}", self.bucket, self.key)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.bucket)
        } else {
            write!(f, "{}/{}", self.bucket, self.key)
        }
    }
}

/// A path with everything but RFC 3986's unreserved characters and slashes percent-encoded.
pub fn encode_path(path: &str) -> String {
    percent_encode(path.as_bytes(), PATH).to_string()
}

/// A value of a query, percent-encoded.
pub fn encode_value(value: &str) -> String {
    percent_encode(value.as_bytes(), VALUE).to_string()
}

/// The key of a file that is uploaded to `target`: `target` itself, or, if that is a bucket or ends in
/// a slash or takes several files, the file's name below it.
///
/// # Errors
/// [`Failure::Usage`] if the file has no name, or one that is not UTF-8.
pub fn upload_key(target: &Name, file: &Path, several: bool) -> Result<String, Failure> {
    if !several && !target.key.is_empty() && !target.key.ends_with('/') {
        return Ok(target.key.clone());
    }
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Failure::Usage(format!(
            "{file:?} has no name to store it under: write the whole BUCKET/KEY"
        ))
    })?;
    Ok(format!("{}{name}", target.folder()))
}

/// Where an object goes below a local folder, from the part of its key behind the prefix.
///
/// # Errors
/// [`Failure::Usage`] if the key would leave the folder or has no form as a path (`..`, `a//b`, a
/// final slash): such a key is fetched by its own name only.
pub fn local_path(folder: &Path, rest: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(rest);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let pieces = rest.split('/').all(|piece| !piece.is_empty() && piece != ".");
    if !plain || !pieces || rest.contains('\0') {
        return Err(Failure::Usage(format!(
            "the key {rest:?} cannot be a path below {folder:?}: get it alone, with a file name"
        )));
    }
    Ok(folder.join(path))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn the_bucket_ends_at_the_first_slash() {
        let got = name("logs/2026//a b/");
        assert_eq!((got.bucket.as_str(), got.key.as_str()), ("logs", "2026//a b/"));
        assert_eq!(name("logs"), name("logs/"));
    }

    #[test]
    fn a_name_without_a_bucket_is_refused() {
        assert!(Name::parse("").is_err() && Name::parse("/login/stor/x").is_err());
        assert!(Name::object("logs/").is_err());
    }

    #[test]
    fn a_key_over_the_limit_is_refused() {
        assert!(Name::parse(&format!("b/{}", "k".repeat(KEY_BYTES_MAX))).is_ok());
        assert!(Name::parse(&format!("b/{}", "k".repeat(KEY_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn urls_keep_slashes_and_encode_the_rest() {
        assert_eq!(name("b/a b/ü?#+%").url_path(), "/b/a%20b/%C3%BC%3F%23%2B%25");
        assert_eq!(encode_value("a/b=c&d"), "a%2Fb%3Dc%26d");
    }

    #[test]
    fn manta_names_stand_below_stor() {
        assert_eq!(name("b/k/x").manta("ada"), "/ada/stor/b/k/x");
    }

    #[test]
    fn a_file_takes_the_key_given_or_its_own_name_below_a_folder() {
        let key =
            |target, several| upload_key(&name(target), Path::new("d/f.txt"), several).unwrap();
        assert_eq!(key("b/x", false), "x");
        assert_eq!(key("b/x/", false), "x/f.txt");
        assert_eq!(key("b", false), "f.txt");
        assert_eq!(key("b/x", true), "x/f.txt");
    }

    #[test]
    fn a_key_never_leaves_the_folder() {
        let folder = Path::new("/d");
        assert_eq!(local_path(folder, "a/b").unwrap(), Path::new("/d/a/b"));
        for bad in ["../x", "a/../../x", "/etc/x", "a//b", "a/", "./a", "a/./b", "", "a\0"] {
            assert!(local_path(folder, bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_local_path_is_refused_or_stands_below_the_folder(rest in "[./a-c\\\\]{0,12}") {
            if let Ok(path) = local_path(Path::new("/d"), &rest) {
                prop_assert_eq!(path, Path::new("/d").join(&rest));
                prop_assert!(!rest.split('/').any(|piece| piece == ".."));
            }
        }

        #[test]
        fn an_encoded_path_is_plain_and_reads_back(text in "\\PC{0,40}") {
            let encoded = encode_path(&text);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#'));
            let back = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap();
            prop_assert_eq!(back, text);
        }
    }
}
