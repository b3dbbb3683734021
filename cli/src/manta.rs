//! Manta's job calls, one function each.

use crate::config::{Keys, Settings};
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http::{Answer, Body, Call, Dialect, Http, Repeat, Who};
use crate::name::{encode_path, encode_value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use wire::job::{JobError, JobId, JobSpec, JobView};

/// Jobs on one page of a listing: the most that Manta gives.
const PAGE_JOBS: usize = 1024;

/// The most bytes in a line of a list: far more than a name, or an error with its three names, has.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// An account's jobs.
#[derive(Debug)]
pub struct Manta<'a> {
    http: &'a Http,
    endpoint: &'a Endpoint,
    keys: Keys,
    /// The account's name.
    pub account: &'a str,
}

/// A job as a listing shows it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// Its id: jobs are directories named so.
    pub name: String,
    /// When it was made.
    #[serde(default)]
    pub mtime: serde_json::Value,
}

impl<'a> Manta<'a> {
    /// The account that is configured.
    pub fn new(http: &'a Http, settings: &'a Settings) -> Result<Self, Failure> {
        let (keys, account) = (settings.keys()?, settings.account()?);
        Ok(Self { http, endpoint: &settings.manta, keys, account })
    }

    fn call(&self, what: String, method: &'static str, target: String) -> Call<'_> {
        let (endpoint, who) = (self.endpoint, Who::Keys(&self.keys));
        let repeat = if method == "POST" { Repeat::IfRefused } else { Repeat::Always };
        let (headers, dialect) = (Vec::new(), Dialect::Json);
        Call { what, method, endpoint, target, headers, who, repeat, dialect }
    }

    fn of_job(&self, verb: &str, job: JobId, method: &'static str, rest: &str) -> Call<'_> {
        let target = encode_path(&format!("/{}/jobs/{job}/{rest}", self.account));
        self.call(format!("{verb} job {job}"), method, target)
    }

    /// CreateJob.
    pub fn create(&self, spec: &JobSpec) -> Result<JobId, Failure> {
        let target = encode_path(&format!("/{}/jobs", self.account));
        let mut call = self.call("make a job".to_owned(), "POST", target);
        call.headers.push(("content-type", "application/json; type=job".to_owned()));
        let body = crate::output::json(spec)?;
        let answer = self.http.send(&call, Body::Bytes(body.as_bytes()))?;
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let id = location.and_then(|path| path.rsplit('/').next()?.parse().ok());
        id.ok_or_else(|| Failure::Nonsense {
            what: call.what.clone(),
            why: format!("its Location is {location:?}, /LOGIN/jobs/ID was expected"),
        })
    }

    /// AddJobInputs; no name may hold a line break.
    pub fn add_inputs(&self, job: JobId, names: &[String]) -> Result<(), Failure> {
        let mut call = self.of_job("add inputs to", job, "POST", "live/in");
        call.headers.push(("content-type", "text/plain".to_owned()));
        let body = names.join("\n");
        self.http.send(&call, Body::Bytes(body.as_bytes())).map(drop)
    }

    /// EndJobInput.
    pub fn end_input(&self, job: JobId) -> Result<(), Failure> {
        self.order("end the input of", job, "live/in/end")
    }

    /// CancelJob.
    pub fn cancel(&self, job: JobId) -> Result<(), Failure> {
        self.order("cancel", job, "live/cancel")
    }

    fn order(&self, verb: &str, job: JobId, rest: &str) -> Result<(), Failure> {
        let mut call = self.of_job(verb, job, "POST", rest);
        call.headers.push(("content-type", "application/json".to_owned()));
        self.http.send(&call, Body::Bytes(b"{}")).map(drop)
    }

    /// GetJob.
    pub fn status(&self, job: JobId) -> Result<JobView, Failure> {
        let call = self.of_job("look at", job, "GET", "live/status");
        let answer = self.http.fetch(&call, Body::Empty)?;
        serde_json::from_slice(&answer)
            .map_err(|error| Failure::Nonsense { what: call.what.clone(), why: error.to_string() })
    }

    /// ListJobs.
    pub fn jobs(&self, running: bool) -> Result<Vec<JobRow>, Failure> {
        let base = encode_path(&format!("/{}/jobs", self.account));
        if running {
            let call = self.call("list jobs".to_owned(), "GET", format!("{base}?state=running"));
            return lines(&call.what, &self.http.fetch(&call, Body::Empty)?);
        }
        let mut all: Vec<JobRow> = Vec::new();
        loop {
            let marker = all.last().map(|row| encode_value(&row.name));
            let marker = marker.map(|name| format!("&marker={name}")).unwrap_or_default();
            let target = format!("{base}?limit={PAGE_JOBS}{marker}");
            let call = self.call("list jobs".to_owned(), "GET", target);
            let page: Vec<JobRow> = lines(&call.what, &self.http.fetch(&call, Body::Empty)?)?;
            let full = page.len() >= PAGE_JOBS;
            let known = all.len();
            // A page begins with its marker, which is the last row of the page before.
            let last = all.last().map(|row| row.name.clone());
            all.extend(page.into_iter().filter(|row| Some(&row.name) != last.as_ref()));
            if !full || all.len() == known {
                return Ok(all);
            }
        }
    }

    /// Gives `take` the names of a job's inputs (`in`) or outputs (`out`), as they come, until it breaks
    /// off.
    pub fn each_name(
        &self,
        job: JobId,
        which: &str,
        mut take: impl FnMut(&str) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        self.each_line(job, which, |_, line| take(line))
    }

    /// GetJobErrors: gives `take` a job's errors, as they come, until it breaks off.
    pub fn each_error(
        &self,
        job: JobId,
        mut take: impl FnMut(JobError) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        self.each_line(job, "err", |what, line| {
            let error = serde_json::from_str(line);
            take(error.map_err(|error| Failure::Nonsense {
                what: what.to_owned(),
                why: error.to_string(),
            })?)
        })
    }

    /// Gives `take` the lines of one of a job's lists that are not empty, and what they were asked for.
    fn each_line(
        &self,
        job: JobId,
        which: &str,
        mut take: impl FnMut(&str, &str) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let mut call = self.of_job("look at", job, "GET", &format!("live/{which}"));
        let answer = match self.http.send(&call, Body::Empty) {
            // Manta forgets the live lists of old jobs and keeps the archive.
            Err(Failure::Refused { status: 404, .. }) => {
                call = self.of_job("look at", job, "GET", &format!("{which}.txt"));
                self.http.send(&call, Body::Empty)?
            }
            answer => answer?,
        };
        let nonsense = |why: String| Failure::Nonsense { what: call.what.clone(), why };
        let mut reader = BufReader::new(answer.into_body().into_reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            let got = (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if got.map_err(|error| nonsense(error.to_string()))? == 0 {
                return Ok(());
            }
            let text = std::str::from_utf8(&line).map_err(|error| nonsense(error.to_string()))?;
            let text = text.trim_end_matches(['\r', '\n']);
            if !text.is_empty() && take(&call.what, text)?.is_break() {
                return Ok(());
            }
        }
    }

    /// GetObject by its full name (`/login/…`), from byte `from`; if `same` is given, only as long as it
    /// is still that one.
    pub fn get(&self, path: &str, from: u64, same: Option<&str>) -> Result<Answer, Failure> {
        let mut call = self.call(format!("get {path}"), "GET", encode_path(path));
        if from > 0 {
            call.headers.push(("range", format!("bytes={from}-")));
        }
        if let Some(etag) = same {
            call.headers.push(("if-match", etag.to_owned()));
        }
        self.http.send(&call, Body::Empty)
    }
}

/// Reads JSON documents, one a line.
fn lines<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<Vec<T>, Failure> {
    let full = bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    full.map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::Nonsense { what: what.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_listing_is_read_line_by_line_whatever_else_a_line_says() {
        let text = b"{\"name\":\"a\",\"type\":\"directory\",\"mtime\":\"t\"}\r\n\n{\"name\":\"b\"}";
        let rows: Vec<JobRow> = lines("list jobs", text).unwrap();
        assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_broken_line_is_nonsense() {
        assert!(matches!(lines::<JobRow>("x", b"{"), Err(Failure::Nonsense { .. })));
    }
}
