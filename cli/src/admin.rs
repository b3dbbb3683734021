//! A node's admin API, as the commands for nodes, zones and images ask it.

use crate::config::Settings;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http::{Body, Call, Dialect, Http, Repeat, Who};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader};

/// Whom to ask, and by which right.
#[derive(Debug, Clone, Copy)]
pub struct Admin<'a> {
    http: &'a Http,
    /// Where it listens.
    pub endpoint: &'a Endpoint,
    /// The admin token.
    pub token: &'a str,
}

impl<'a> Admin<'a> {
    /// The admin API that the settings name.
    pub fn new(http: &'a Http, settings: &'a Settings) -> Result<Self, Failure> {
        Ok(Self { http, endpoint: &settings.admin, token: settings.token()? })
    }

    fn call(&self, what: &str, method: &'static str, target: String) -> Call<'a> {
        Call {
            what: what.to_owned(),
            method,
            endpoint: self.endpoint,
            target,
            headers: Vec::new(),
            who: Who::Token(self.token),
            // A busy daemon is reported at once: whoever asks how a node is wants to know just that.
            repeat: Repeat::Never,
            dialect: Dialect::Json,
        }
    }

    /// Asks, and reads the answer.
    pub fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        method: &'static str,
        target: String,
    ) -> Result<T, Failure> {
        self.exchange(&self.call(what, method, target), Body::Empty)
    }

    /// Asks with a document, and reads the answer.
    pub fn tell<T: DeserializeOwned>(
        &self,
        what: &str,
        method: &'static str,
        target: String,
        document: &impl Serialize,
    ) -> Result<T, Failure> {
        let text = crate::output::json(document)?;
        self.exchange(&self.call(what, method, target), Body::Bytes(text.as_bytes()))
    }

    fn exchange<T: DeserializeOwned>(&self, call: &Call<'_>, body: Body<'_>) -> Result<T, Failure> {
        let answer = self.http.fetch(call, body)?;
        serde_json::from_slice(&answer)
            .map_err(|error| Failure::Nonsense { what: call.what.clone(), why: error.to_string() })
    }

    /// Asks for documents, one a line, and hands each to `take` as it comes, until `take` has enough or
    /// nothing follows.
    pub fn lines<T: DeserializeOwned>(
        &self,
        what: &str,
        target: String,
        mut take: impl FnMut(T) -> Result<Flow, Failure>,
    ) -> Result<(), Failure> {
        let call = self.call(what, "GET", target);
        let answer = self.http.follow(&call)?;
        let nonsense = |why: String| Failure::Nonsense { what: what.to_owned(), why };
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let line = line.map_err(|error| {
                let source = Box::new(ureq::Error::Io(error));
                let endpoint = self.endpoint.to_string();
                Failure::Broken { what: what.to_owned(), endpoint, source }
            })?;
            if let Ok(wire::admin::Problem { code, message }) = serde_json::from_str(&line) {
                let what = what.to_owned();
                // It was said on the way: with a head of its own it would have been a 503, or a 404.
                let status = if code.starts_with("NoSuch") { 404 } else { 503 };
                let (code, message) = (crate::output::plain(&code), crate::output::plain(&message));
                return Err(Failure::Refused { what, status, code, message, hint: "" });
            }
            let read = serde_json::from_str(&line).map_err(|error| nonsense(error.to_string()))?;
            if take(read)? == Flow::Enough {
                break;
            }
        }
        Ok(())
    }
}

/// Whether more is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It is.
    More,
    /// It is not.
    Enough,
}
