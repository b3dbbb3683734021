//! Why a request is refused before anybody looks at what it asks for.

use http::StatusCode;
use thiserror::Error;

/// What is wrong with a request as HTTP. After any of these the connection is closed: where the next
/// request would start is not to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "each message says what its variant is")]
pub enum Refusal {
    #[error("the head is longer than {max} bytes", max = super::limits::HEAD_BYTES_MAX)]
    HeadTooLong,
    #[error("the head has more than {max} fields", max = super::limits::HEADERS_MAX)]
    TooManyFields,
    #[error("the target is longer than {max} bytes", max = super::limits::TARGET_BYTES_MAX)]
    TargetTooLong,
    #[error("a line of the head does not end with CR LF")]
    BareLineEnd,
    #[error("a header field is folded over two lines")]
    FoldedField,
    #[error("the head is no HTTP request")]
    Head,
    #[error("this method is not allowed here")]
    Method,
    #[error("this method is not known here")]
    MethodUnknown,
    #[error("the target is not a path")]
    Target,
    #[error("the version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
    #[error("there must be one Host field")]
    Host,
    #[error("there is more than one Content-Length")]
    LengthTwice,
    #[error("the Content-Length is no number of bytes")]
    Length,
    #[error("there are both a Content-Length and a Transfer-Encoding")]
    LengthAndEncoding,
    #[error("the only Transfer-Encoding served is chunked, in HTTP/1.1")]
    Encoding,
    #[error("the only expectation met is 100-continue")]
    Expectation,
    #[error("a chunk's size line is wrong")]
    ChunkSize,
    #[error("a chunk does not end with CR LF")]
    ChunkEnd,
    #[error("the trailer is wrong or too long")]
    Trailer,
    #[error("the request took too long to arrive")]
    Slow,
    #[error("the server is shutting down or has too many connections")]
    Busy,
    #[error("the request could not be answered in time")]
    NoAnswer,
    #[error("something went wrong while answering; it is in the server's log")]
    Internal,
}

impl Refusal {
    /// The status it is answered with.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::HeadTooLong | Refusal::TooManyFields => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Refusal::TargetTooLong => StatusCode::URI_TOO_LONG,
            Refusal::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Encoding | Refusal::MethodUnknown => StatusCode::NOT_IMPLEMENTED,
            Refusal::Expectation => StatusCode::EXPECTATION_FAILED,
            Refusal::Slow => StatusCode::REQUEST_TIMEOUT,
            Refusal::Busy | Refusal::NoAnswer => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::BareLineEnd
            | Refusal::FoldedField
            | Refusal::Head
            | Refusal::Target
            | Refusal::Host
            | Refusal::LengthTwice
            | Refusal::Length
            | Refusal::LengthAndEncoding
            | Refusal::ChunkSize
            | Refusal::ChunkEnd
            | Refusal::Trailer => StatusCode::BAD_REQUEST,
        }
    }
}
