//! A small S3 client that can also misbehave: it sends what it is told to, signed as it is told to.

use crate::sigv4::{self, Keys, Parts};
use anyhow::{Context, Result, bail, ensure};
use std::time::{Duration, SystemTime};
use ureq::http;

/// How long one request may take: a large object over an emulated network card.
const REQUEST_TIME: Duration = Duration::from_secs(120);
/// The most bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// How a request is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// In its headers, the payload's hash among them.
    Signed,
    /// In its headers, the payload left out.
    Unsigned,
    /// In its headers, the payload in signed chunks of this many bytes.
    Chunks(usize),
    /// In its query.
    Presigned,
    /// In its headers, with a secret that is not the account's.
    WrongSecret,
    /// In its headers, as of this many seconds ago.
    Stale(u64),
    /// Not at all.
    Anonymous,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 200, …
    pub status: u16,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value, empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The answer, if its status is `status`.
    ///
    /// # Errors
    /// If it is another one; the body is part of the message.
    pub fn expect(self, status: u16) -> Result<Self> {
        let text: String = self.text().chars().take(600).collect();
        ensure!(self.status == status, "status {} instead of {status}: {text}", self.status);
        Ok(self)
    }

    /// The texts of all XML elements of this name, unescaped.
    #[must_use]
    pub fn elements(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let parts = text.split(&open).skip(1).filter_map(|rest| rest.split(&close).next());
        parts.map(unescape).collect()
    }
}

fn unescape(text: &str) -> String {
    let mut pieces = text.split('&');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once(';').unwrap_or((piece, ""));
        let number = name.strip_prefix('#').and_then(|digits| digits.parse().ok());
        let known = [("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("amp", '&')];
        let known = || known.iter().find(|(known, _)| *known == name).map(|(_, plain)| *plain);
        match number.and_then(char::from_u32).or_else(known) {
            Some(character) => plain.push(character),
            None => plain.push_str(&format!("&{name};")),
        }
        plain.push_str(rest);
    }
    plain
}

/// A client of one endpoint, as one account. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    authority: String,
    /// Whom it signs as.
    pub keys: Keys,
}

impl Client {
    /// A client of `http://authority`.
    #[must_use]
    pub fn new(authority: &str, keys: Keys) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_TIME))
            .allow_non_standard_methods(true)
            .build();
        Self { agent: config.new_agent(), authority: authority.to_owned(), keys }
    }

    /// The same client with its own connections.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self::new(&self.authority, self.keys.clone())
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn request(&self, request: &Ask<'_>) -> Result<Answer> {
        let mut signed = self.sign(request);
        let query = sigv4::query_string(&signed.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let uri = format!("http://{}{}{mark}{query}", self.authority, signed.path);
        let mut builder = http::Request::builder().method(request.method).uri(&uri);
        signed.headers.retain(|(name, _)| name != "host");
        for (name, value) in &signed.headers {
            builder = builder.header(name, value);
        }
        let answer = match &signed.body {
            Some(body) => self.agent.run(builder.body(&body[..])?),
            None => self.agent.run(builder.body(())?),
        };
        let answer = answer.with_context(|| format!("{} {uri}", request.method))?;
        let (head, mut body) = answer.into_parts();
        let body = body
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .with_context(|| format!("reading the answer to {} {uri}", request.method))?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    fn sign(&self, ask: &Ask<'_>) -> Signed {
        let ago = if let Signing::Stale(seconds) = ask.signing { seconds } else { 0 };
        let time = SystemTime::now() - Duration::from_secs(ago);
        let mut headers: Vec<(String, String)> = vec![("host".into(), self.authority.clone())];
        headers.extend(ask.headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        let mut query: Vec<(String, String)> =
            ask.query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let path = sigv4::percent(ask.path.as_bytes(), true);
        let mut body = ask.body.map(<[u8]>::to_vec);
        let mut keys = self.keys.clone();
        let payload = match ask.signing {
            Signing::Anonymous => return Signed { path, query, headers, body },
            Signing::Unsigned | Signing::Presigned => sigv4::UNSIGNED.to_owned(),
            Signing::Chunks(_) => sigv4::STREAMING.to_owned(),
            Signing::Signed | Signing::WrongSecret | Signing::Stale(_) => {
                sigv4::sha256(ask.body.unwrap_or_default())
            }
        };
        if ask.signing == Signing::WrongSecret {
            keys.secret.push('x');
        }
        if ask.signing == Signing::Presigned {
            let scope =
                format!("{}/{}/s3/aws4_request", &sigv4::timestamp(time)[..8], sigv4::REGION);
            for (name, value) in [
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
                ("X-Amz-Credential", format!("{}/{scope}", keys.access)),
                ("X-Amz-Date", sigv4::timestamp(time)),
                ("X-Amz-Expires", "600".to_owned()),
                ("X-Amz-SignedHeaders", names(&headers)),
            ] {
                query.push((name.to_owned(), value));
            }
        } else {
            headers.push(("x-amz-content-sha256".into(), payload.clone()));
            headers.push(("x-amz-date".into(), sigv4::timestamp(time)));
            if matches!(ask.signing, Signing::Chunks(_)) {
                let length = ask.body.unwrap_or_default().len();
                headers.push(("x-amz-decoded-content-length".into(), length.to_string()));
                headers.push(("content-encoding".into(), "aws-chunked".into()));
            }
        }
        let (query_now, headers_now) = (query.clone(), headers.clone());
        let parts = Parts {
            method: ask.method,
            path: &path,
            query: &query_now,
            headers: &headers_now,
            payload: &payload,
            time,
        };
        let signature = sigv4::sign(&keys, &parts);
        if ask.signing == Signing::Presigned {
            query.push(("X-Amz-Signature".into(), signature.hex));
        } else {
            headers.push(("authorization".into(), sigv4::authorization(&keys, &signature)));
            if let (Signing::Chunks(chunk), Some(plain)) = (ask.signing, ask.body) {
                body = Some(sigv4::chunks(&keys, &signature, time, plain, chunk));
            }
        }
        Signed { path, query, headers, body }
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// If there is no answer or it is not 200.
    pub fn create_bucket(&self, bucket: &str) -> Result<()> {
        let path = format!("/{bucket}");
        self.request(&Ask { body: Some(b""), ..Ask::new("PUT", &path) })?.expect(200)?;
        Ok(())
    }

    /// Stores an object, and gives its entity tag.
    ///
    /// # Errors
    /// If there is no answer or it is not 200.
    pub fn put(&self, bucket: &str, key: &str, body: &[u8]) -> Result<String> {
        let path = format!("/{bucket}/{key}");
        let answer = self.request(&Ask { body: Some(body), ..Ask::new("PUT", &path) })?;
        Ok(answer.expect(200)?.header("etag").to_owned())
    }

    /// An object's bytes, or `None` if there is no such object.
    ///
    /// # Errors
    /// If there is no answer, or it is neither 200 nor 404.
    pub fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let path = format!("/{bucket}/{key}");
        let answer = self.request(&Ask::new("GET", &path))?;
        match answer.status {
            404 => Ok(None),
            _ => Ok(Some(answer.expect(200)?.body)),
        }
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// If there is no answer or it is not 204.
    pub fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let path = format!("/{bucket}/{key}");
        self.request(&Ask::new("DELETE", &path))?.expect(204)?;
        Ok(())
    }

    /// All keys of a bucket, by as many pages of ListObjectsV2 as it takes.
    ///
    /// # Errors
    /// If there is no answer, it is not 200, or the pages go on for ever.
    pub fn keys(&self, bucket: &str) -> Result<Vec<String>> {
        let path = format!("/{bucket}");
        let mut keys = Vec::new();
        let mut token = String::new();
        for _ in 0..10_000 {
            let mut query = vec![("list-type", "2")];
            if !token.is_empty() {
                query.push(("continuation-token", &token));
            }
            let page =
                self.request(&Ask { query: &query, ..Ask::new("GET", &path) })?.expect(200)?;
            keys.extend(page.elements("Key"));
            match page.elements("NextContinuationToken").pop() {
                Some(next) => token = next,
                None => return Ok(keys),
            }
        }
        bail!("the listing of {bucket} does not end")
    }
}

fn names(headers: &[(String, String)]) -> String {
    let mut names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.join(";")
}

struct Signed {
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// A request before it is signed.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// GET, PUT, …
    pub method: &'a str,
    /// The path, not encoded: `/bucket/key`.
    pub path: &'a str,
    /// The query, not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers, their names in lower case; all are signed.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; `None` sends no length either.
    pub body: Option<&'a [u8]>,
    /// How it is signed.
    pub signing: Signing,
}

impl<'a> Ask<'a> {
    /// A signed request without query, further headers and body.
    #[must_use]
    pub const fn new(method: &'a str, path: &'a str) -> Self {
        Self { method, path, query: &[], headers: &[], body: None, signing: Signing::Signed }
    }
}
