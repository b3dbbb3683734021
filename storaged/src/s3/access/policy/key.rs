//! The condition keys, by name. Plain data.

/// What a condition asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// `aws:SourceIp`
    SourceIp,
    /// `aws:SecureTransport`
    SecureTransport,
    /// `aws:CurrentTime`
    CurrentTime,
    /// `aws:EpochTime`
    EpochTime,
    /// `aws:PrincipalAccount`
    PrincipalAccount,
    /// `aws:PrincipalArn`
    PrincipalArn,
    /// `aws:PrincipalType`
    PrincipalType,
    /// `aws:username`
    Username,
    /// `aws:userid`
    UserId,
    /// `aws:UserAgent`
    UserAgent,
    /// `aws:Referer`
    Referer,
    /// `aws:ResourceAccount` and `s3:ResourceAccount`
    ResourceAccount,
    /// `s3:prefix`
    Prefix,
    /// `s3:delimiter`
    Delimiter,
    /// `s3:max-keys`
    MaxKeys,
    /// `s3:authType`
    AuthType,
    /// `s3:signatureversion`
    SignatureVersion,
    /// `s3:VersionId`
    VersionId,
    /// `s3:ExistingObjectTag/<key>`
    ExistingTag(String),
    /// `s3:RequestObjectTag/<key>`
    RequestTag(String),
    /// `s3:RequestObjectTagKeys`
    RequestTagKeys,
    /// A header of the request.
    Header(&'static str),
}

/// Keys that are the values of headers: their names, and the headers'.
const HEADERS: &[(&str, &str)] = &[
    ("s3:if-match", "if-match"),
    ("s3:if-none-match", "if-none-match"),
    ("s3:object-lock-legal-hold", "x-amz-object-lock-legal-hold"),
    ("s3:object-lock-mode", "x-amz-object-lock-mode"),
    ("s3:object-lock-retain-until-date", "x-amz-object-lock-retain-until-date"),
    ("s3:x-amz-acl", "x-amz-acl"),
    ("s3:x-amz-content-sha256", "x-amz-content-sha256"),
    ("s3:x-amz-copy-source", "x-amz-copy-source"),
    ("s3:x-amz-grant-full-control", "x-amz-grant-full-control"),
    ("s3:x-amz-grant-read", "x-amz-grant-read"),
    ("s3:x-amz-grant-read-acp", "x-amz-grant-read-acp"),
    ("s3:x-amz-grant-write", "x-amz-grant-write"),
    ("s3:x-amz-grant-write-acp", "x-amz-grant-write-acp"),
    ("s3:x-amz-metadata-directive", "x-amz-metadata-directive"),
    ("s3:x-amz-server-side-encryption", "x-amz-server-side-encryption"),
    ("s3:x-amz-storage-class", "x-amz-storage-class"),
];

/// The others, but for those with a tag's key behind them. In lower case: names of keys have no case.
const NAMED: &[(&str, Key)] = &[
    ("aws:sourceip", Key::SourceIp),
    ("aws:securetransport", Key::SecureTransport),
    ("aws:currenttime", Key::CurrentTime),
    ("aws:epochtime", Key::EpochTime),
    ("aws:principalaccount", Key::PrincipalAccount),
    ("aws:principalarn", Key::PrincipalArn),
    ("aws:principaltype", Key::PrincipalType),
    ("aws:username", Key::Username),
    ("aws:userid", Key::UserId),
    ("aws:useragent", Key::UserAgent),
    ("aws:referer", Key::Referer),
    ("aws:resourceaccount", Key::ResourceAccount),
    ("s3:resourceaccount", Key::ResourceAccount),
    ("s3:prefix", Key::Prefix),
    ("s3:delimiter", Key::Delimiter),
    ("s3:max-keys", Key::MaxKeys),
    ("s3:authtype", Key::AuthType),
    ("s3:signatureversion", Key::SignatureVersion),
    ("s3:versionid", Key::VersionId),
    ("s3:requestobjecttagkeys", Key::RequestTagKeys),
];

impl Key {
    /// The key of this name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Key> {
        // A tag's key has its case.
        if let Some((family, tag)) = name.split_once('/') {
            return match family.to_ascii_lowercase().as_str() {
                _ if tag.is_empty() => None,
                "s3:existingobjecttag" => Some(Key::ExistingTag(tag.to_owned())),
                "s3:requestobjecttag" => Some(Key::RequestTag(tag.to_owned())),
                _ => None,
            };
        }
        let name = name.to_ascii_lowercase();
        let named = NAMED.iter().find(|(known, _)| *known == name).map(|(_, key)| key.clone());
        let header = || HEADERS.iter().find(|(known, _)| *known == name);
        named.or_else(|| header().map(|(_, header)| Key::Header(header)))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn names_have_no_case_but_tags_have() {
        assert_eq!(Key::parse("AWS:sourceIP"), Some(Key::SourceIp));
        assert_eq!(Key::parse("S3:X-Amz-ACL"), Some(Key::Header("x-amz-acl")));
        let tag = Key::parse("S3:existingObjectTag/A/b");
        assert_eq!(tag, Some(Key::ExistingTag("A/b".to_owned())));
        assert_eq!(Key::parse("s3:ExistingObjectTag/"), None);
        assert_eq!(Key::parse("aws:SourceVpce"), None);
    }
}
