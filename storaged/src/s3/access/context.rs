//! What a request says of the condition keys. Pure but for the clock, which is read once.

use super::policy::Key;
use crate::front::Origin;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, REFERER, USER_AGENT};
use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

/// The header that holds the tags an object is to have.
const TAGGING: HeaderName = HeaderName::from_static("x-amz-tagging");

/// A request, as far as conditions ask about it.
pub struct Context<'a> {
    /// The account that asks; none if nobody signed.
    pub account: Option<&'a str>,
    /// Whose the bucket is.
    pub owner: &'a str,
    /// Where the request comes from.
    pub origin: Origin,
    /// Its headers, or what stands for them in a form.
    pub headers: &'a HeaderMap,
    /// Its query, as it came.
    pub query: &'a str,
    /// The version that is meant.
    pub version: Option<&'a str>,
    /// The tags of the object there is.
    pub object_tags: Option<&'a [(String, String)]>,
    /// The tags that are to be, if they are not in the headers.
    pub tags: Option<&'a [(String, String)]>,
    /// Whether the headers are the fields of a form.
    pub form: bool,
    /// When.
    pub now: SystemTime,
}

impl Context<'_> {
    /// The values of a key; none if the request says nothing of it.
    #[must_use]
    pub fn values(&self, key: &Key) -> Option<Vec<String>> {
        if let Key::RequestTagKeys = key {
            let tags = self.request_tags()?;
            return Some(tags.into_iter().map(|(key, _)| key.into_owned()).collect());
        }
        self.value(key).map(|value| vec![value])
    }

    fn value(&self, key: &Key) -> Option<String> {
        let account = || self.account.map(str::to_owned);
        match key {
            Key::SourceIp => self.origin.address.map(|address| address.to_string()),
            Key::SecureTransport => Some(self.origin.secure.to_string()),
            Key::CurrentTime => Some(crate::jobs::time::rfc3339(self.ms())),
            Key::EpochTime => Some((self.ms() / 1000).to_string()),
            Key::PrincipalAccount | Key::Username => account(),
            Key::UserId => Some(self.account.unwrap_or("anonymous").to_owned()),
            Key::PrincipalArn => self.account.map(|name| format!("arn:aws:iam::{name}:root")),
            Key::PrincipalType => {
                Some(if self.account.is_some() { "Account" } else { "Anonymous" }.to_owned())
            }
            Key::UserAgent => self.header(&USER_AGENT),
            Key::Referer => self.header(&REFERER),
            Key::ResourceAccount => Some(self.owner.to_owned()),
            Key::Prefix => self.parameter("prefix"),
            Key::Delimiter => self.parameter("delimiter"),
            Key::MaxKeys => self.parameter("max-keys"),
            Key::AuthType => self.account.map(|_| self.auth_type().to_owned()),
            Key::SignatureVersion => self.account.map(|_| "AWS4-HMAC-SHA256".to_owned()),
            Key::VersionId => self.version.map(str::to_owned),
            Key::ExistingTag(name) => {
                let tags = self.object_tags?;
                tags.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
            }
            Key::RequestTag(name) => {
                let tags = self.request_tags()?;
                tags.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
            }
            Key::RequestTagKeys => None,
            Key::Header(name) => self.header(&HeaderName::from_static(name)),
        }
    }

    fn ms(&self) -> u64 {
        let since = self.now.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Several headers of one name are one with commas (RFC 9110, 5.3).
    fn header(&self, name: &HeaderName) -> Option<String> {
        let values = self.headers.get_all(name).iter();
        let values: Vec<_> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// A parameter of the query: the protocol library refuses it twice, so the first is the one.
    fn parameter(&self, name: &str) -> Option<String> {
        let mut all = form_urlencoded::parse(self.query.as_bytes());
        all.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    fn auth_type(&self) -> &'static str {
        match (self.form, self.headers.contains_key(AUTHORIZATION)) {
            (true, _) => "POST",
            (false, true) => "REST-HEADER",
            (false, false) => "REST-QUERY-STRING",
        }
    }

    fn request_tags(&self) -> Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
        if let Some(tags) = self.tags {
            let tags = tags.iter().map(|(key, value)| (key.into(), value.into()));
            return Some(tags.collect());
        }
        let text = self.headers.get(TAGGING)?;
        Some(form_urlencoded::parse(text.as_bytes()).collect())
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_request_says_what_conditions_ask() {
        let mut headers = HeaderMap::new();
        let all =
            [("user-agent", "u"), ("x-amz-acl", "private"), ("x-amz-tagging", "a=1&b%20c=d+e")];
        for (name, value) in all {
            headers.insert(name, value.parse().unwrap());
        }
        let tags = [("old".to_owned(), "yes".to_owned())];
        let origin = Origin { address: Some("192.0.2.1".parse().unwrap()), secure: false };
        let context = Context {
            account: Some("ada"),
            owner: "bob",
            origin,
            headers: &headers,
            query: "list-type=2&prefix=a%2Fb+c&max-keys=7",
            version: None,
            object_tags: Some(&tags),
            tags: None,
            form: false,
            now: UNIX_EPOCH + Duration::from_secs(1_795_338_367),
        };
        let said = |name: &str| context.values(&Key::parse(name).unwrap()).map(|v| v.join("|"));
        for (name, value) in [
            ("aws:SourceIp", "192.0.2.1"),
            ("aws:SecureTransport", "false"),
            ("aws:CurrentTime", "2026-11-22T09:06:07.000Z"),
            ("aws:EpochTime", "1795338367"),
            ("aws:PrincipalAccount", "ada"),
            ("aws:PrincipalArn", "arn:aws:iam::ada:root"),
            ("aws:PrincipalType", "Account"),
            ("aws:username", "ada"),
            ("aws:userid", "ada"),
            ("aws:UserAgent", "u"),
            ("aws:ResourceAccount", "bob"),
            ("s3:prefix", "a/b c"),
            ("s3:max-keys", "7"),
            ("s3:authType", "REST-QUERY-STRING"),
            ("s3:signatureversion", "AWS4-HMAC-SHA256"),
            ("s3:ExistingObjectTag/old", "yes"),
            ("s3:RequestObjectTag/b c", "d e"),
            ("s3:RequestObjectTagKeys", "a|b c"),
            ("s3:x-amz-acl", "private"),
        ] {
            assert_eq!(said(name).as_deref(), Some(value), "{name}");
        }
        for name in ["aws:Referer", "s3:delimiter", "s3:VersionId", "s3:RequestObjectTag/old"] {
            assert_eq!(said(name), None, "{name}");
        }
        let nobody = Context { account: None, object_tags: None, ..context };
        for name in ["aws:username", "aws:PrincipalAccount", "s3:authType", "s3:signatureversion"] {
            assert_eq!(nobody.values(&Key::parse(name).unwrap()), None, "{name}");
        }
        assert_eq!(nobody.values(&Key::UserId), Some(vec!["anonymous".to_owned()]));
    }
}
