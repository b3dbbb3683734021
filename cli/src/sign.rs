//! Signature Version 4 in the headers of a request, for S3 and for the job calls alike.

use crate::config::Keys;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use std::time::SystemTime;
use thiserror::Error;

/// The region in the signature's scope. A Mobula node is its own region; clients agree on this name.
const REGION: &str = "us-east-1";
/// The service in the signature's scope, on both ports.
const SERVICE: &str = "s3";

/// What the signature says of the body.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// Its digest is signed, so that the server refuses any other body.
    Signed(&'a [u8]),
    /// It is not known yet; the digest in the answer is compared instead.
    Unsigned,
}

/// Why a request could not be signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// The parameters are incomplete.
    #[error("the signer refuses its parameters")]
    Parameters(#[from] v4::signing_params::BuildError),
    /// The request has no form that could be signed.
    #[error("the request cannot be signed")]
    Request(#[from] aws_sigv4::http_request::SigningError),
}

/// The headers to add to a request, whose `headers` (with `host` among them) are signed.
///
/// # Errors
/// [`SignError`] if the URL is none.
pub fn headers(
    keys: &Keys,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    payload: Payload<'_>,
    now: SystemTime,
) -> Result<Vec<(String, String)>, SignError> {
    let mut settings = SigningSettings::default();
    // S3's rules: the path is signed as it is sent, and the payload's digest is a header.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity = Credentials::new(&keys.access, &keys.secret, None, None, "mobula").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name(SERVICE)
        .time(now)
        .settings(settings)
        .build()?
        .into();
    let body = match payload {
        Payload::Signed(bytes) => SignableBody::Bytes(bytes),
        Payload::Unsigned => SignableBody::UnsignedPayload,
    };
    let request = SignableRequest::new(method, url, headers.iter().copied(), body)?;
    let (instructions, _) = sign(request, &parameters)?.into_parts();
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Ok(instructions.headers().map(own).collect())
}

#[cfg(test)]
mod test {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn signed(url: &str, host: &str, payload: Payload<'_>) -> Vec<(String, String)> {
        let keys = Keys {
            access: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        };
        // 2013-05-24T00:00:00Z, the moment of the examples in S3's documentation.
        let now = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        headers(&keys, "GET", url, &[("host", host)], payload, now).unwrap()
    }

    #[test]
    fn the_published_example_gets_the_published_signature() {
        let host = "examplebucket.s3.amazonaws.com";
        let url = format!("https://{host}/?max-keys=2&prefix=J");
        let headers = signed(&url, host, Payload::Signed(b""));
        let authorization = &headers.iter().find(|(name, _)| name == "authorization").unwrap().1;
        let want = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
        assert!(authorization.ends_with(want), "{authorization}");
    }

    #[test]
    fn a_body_that_is_not_known_says_so() {
        let headers = signed("http://h/b/k", "h", Payload::Unsigned);
        let says = |(name, value): &(String, String)| {
            name == "x-amz-content-sha256" && value == "UNSIGNED-PAYLOAD"
        };
        assert!(headers.iter().any(says), "{headers:?}");
    }

    #[test]
    fn dots_and_double_slashes_in_keys_are_signed_as_they_are() {
        let one = signed("http://h/b/a//../k", "h", Payload::Unsigned);
        let other = signed("http://h/b/k", "h", Payload::Unsigned);
        assert_ne!(one, other);
    }
}
