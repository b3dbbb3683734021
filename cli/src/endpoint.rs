//! Where a service listens: an `http://HOST:PORT` and nothing behind it.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The authority of a service, as it goes into `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    authority: String,
}

/// What is wrong with the text of an endpoint.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    /// TLS, which the appliance does not speak yet.
    #[error("{0:?} asks for https, which this version does not speak: use http://HOST:PORT")]
    Tls(String),
    /// Anything else.
    #[error("{0:?} is no endpoint: write http://HOST:PORT, with nothing behind the port")]
    Form(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.starts_with("https://") {
            return Err(EndpointError::Tls(text.to_owned()));
        }
        let form = || EndpointError::Form(text.to_owned());
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: http::uri::Authority = rest.parse().map_err(|_| form())?;
        let whole = authority.as_str() == rest && !rest.contains('@');
        if !whole || authority.host().is_empty() {
            return Err(form());
        }
        // The default port does not go into `Host`, which is signed: leave it out from the start.
        let authority = rest.strip_suffix(":80").unwrap_or(rest).to_owned();
        Ok(Self { authority })
    }
}

impl Endpoint {
    /// `HOST:PORT`, as `Host` has it.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn parse(text: &str) -> Result<String, EndpointError> {
        text.parse::<Endpoint>().map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn scheme_and_final_slash_may_be_left_out() {
        assert_eq!(parse("127.0.0.1:9000").unwrap(), "http://127.0.0.1:9000");
        assert_eq!(parse("http://node/").unwrap(), "http://node");
        assert_eq!(parse("http://[::1]:9000").unwrap(), "http://[::1]:9000");
    }

    #[test]
    fn the_default_port_is_left_out_as_in_host() {
        assert_eq!(parse("http://node:80").unwrap(), "http://node");
    }

    #[test]
    fn https_paths_and_passwords_are_refused() {
        assert!(matches!(parse("https://node"), Err(EndpointError::Tls(_))));
        for bad in ["", "http://", "node/path", "http://user:pw@node", "no de"] {
            assert!(matches!(parse(bad), Err(EndpointError::Form(_))), "{bad}");
        }
    }
}
