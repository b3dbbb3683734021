//! The calls of the jobs API.

use super::error::MantaError;
use super::lines::Lines;
use super::list::ListBody;
use super::reply::{created, empty, json, streamed, whole};
use super::route::{JobCall, Query};
use crate::jobs::time::rfc3339;
use crate::jobs::{JobFilter, Jobs, JobsError, LINES_MAX, Listed, archive};
use crate::store::AccountId;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;
use s3s::{Body, S3Request};
use std::pin::Pin;
use wire::job::{JOB_BYTES_MAX, JobId, JobSpec};

/// The most bytes of the name of a zone image.
const IMAGE_BYTES_MAX: usize = 64;
/// Jobs in a page of a list unless the request says otherwise, as with Manta.
const LIST_DEFAULT: usize = 256;
/// The most of them, as with Manta.
const LIST_MAX: usize = 1024;
/// Jobs looked at in a page of a filtered list.
const LOOKED_AT_MAX: usize = 1024;
/// Where a listing's rows are said to be directories.
const ROWS: &str = "application/x-json-stream; type=directory";

/// Who calls, and on what.
pub struct Caller<'a> {
    /// All jobs.
    pub jobs: &'a Jobs,
    /// The caller's account.
    pub account: AccountId,
    /// Its name.
    pub login: &'a str,
}

impl Caller<'_> {
    /// Answers a call of the jobs API.
    pub async fn job(
        &self,
        call: JobCall,
        request: S3Request<Body>,
    ) -> Result<Response<Body>, MantaError> {
        match call {
            JobCall::Create => self.create(request.input).await,
            JobCall::List => self.list(&Query::parse(&request.uri)?),
            JobCall::AddInputs(job) => {
                let end = Query::parse(&request.uri)?.get("end") == Some("true");
                self.add_inputs(job, request.input, end).await
            }
            JobCall::EndInput(job) => {
                self.jobs.end_input(self.account, job).await?;
                Ok(empty(StatusCode::ACCEPTED))
            }
            JobCall::Cancel(job) => {
                self.jobs.cancel(self.account, job).await?;
                Ok(empty(StatusCode::ACCEPTED))
            }
            JobCall::Get(job) => match self.jobs.view(self.account, job) {
                Ok(view) => Ok(json(StatusCode::OK, &view)),
                Err(error) => self.archived(job, archive::DESCRIPTION, error, &request.headers),
            },
            JobCall::Read(job, which) => {
                match ListBody::new(self.jobs.clone(), self.account, job, which) {
                    Ok(body) => Ok(streamed(which.content_type(), body)),
                    Err(error) => self.archived(job, which.file(), error, &request.headers),
                }
            }
        }
    }

    /// A file of a job that is not there any more, if it was put away; else the error stands.
    fn archived(
        &self,
        job: JobId,
        file: &str,
        error: JobsError,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, MantaError> {
        let path = archive::path(self.account, job, file);
        match error {
            JobsError::NoSuchJob(_) if self.is_there(&path)? => self.get(file, &path, headers),
            error => Err(error.into()),
        }
    }

    async fn create(&self, mut body: Body) -> Result<Response<Body>, MantaError> {
        let mut bytes = Vec::new();
        while let Some(piece) = next_piece(&mut body).await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > JOB_BYTES_MAX {
                let message = format!("a job's description has at most {JOB_BYTES_MAX} bytes");
                return Err(MantaError::bad("InvalidJob", message));
            }
        }
        let spec: JobSpec = serde_json::from_slice(&bytes)
            .map_err(|error| MantaError::bad("InvalidJob", error.to_string()))?;
        let images = spec.phases.iter().filter_map(|phase| phase.image.as_ref());
        if images.into_iter().any(|image| image.len() > IMAGE_BYTES_MAX) {
            let message = format!("an image's name has at most {IMAGE_BYTES_MAX} bytes");
            return Err(MantaError::bad("InvalidJob", message));
        }
        let id = self.jobs.create(self.account, self.login, spec).await?;
        Ok(created(&format!("/{}/jobs/{id}", self.login)))
    }

    async fn add_inputs(
        &self,
        job: JobId,
        mut body: Body,
        end: bool,
    ) -> Result<Response<Body>, MantaError> {
        let (mut reader, mut lines) = (Lines::default(), Vec::new());
        let malformed = |error: super::lines::LineError| {
            MantaError::bad("InvalidArgumentError", error.to_string())
        };
        // Also for an empty body: the job must be there and take input.
        let mut added = false;
        while let Some(piece) = next_piece(&mut body).await? {
            reader.push(&piece, &mut lines).map_err(malformed)?;
            while lines.len() >= LINES_MAX {
                let page = lines.drain(..LINES_MAX).collect();
                self.jobs.add_inputs(self.account, job, page).await?;
                added = true;
            }
        }
        reader.finish(&mut lines).map_err(malformed)?;
        while !lines.is_empty() || !added {
            let page = lines.drain(..lines.len().min(LINES_MAX)).collect();
            self.jobs.add_inputs(self.account, job, page).await?;
            added = true;
        }
        if end {
            self.jobs.end_input(self.account, job).await?;
        }
        Ok(empty(StatusCode::NO_CONTENT))
    }

    fn list(&self, query: &Query) -> Result<Response<Body>, MantaError> {
        let invalid = |message: String| MantaError::bad("InvalidParameter", message);
        let live = match query.get("state").or_else(|| query.get("status")) {
            None => false,
            Some("live" | "running") => true,
            Some(other) => {
                return Err(invalid(format!("state can be live or running, not {other}")));
            }
        };
        let filter = JobFilter { live, name: query.get("name").map(str::to_owned) };
        let max = match query.get("limit").map(str::parse::<usize>) {
            None if filter == JobFilter::default() => LIST_DEFAULT,
            None => LIST_MAX,
            Some(Ok(limit)) if (1..=LIST_MAX).contains(&limit) => limit,
            Some(_) => {
                let message = format!("limit is a number from 1 to {LIST_MAX}");
                return Err(MantaError::bad("InvalidArgumentError", message));
            }
        };
        let mut rows = Vec::new();
        for listed in self.rows(&filter, query.get("marker"), max)? {
            let row = serde_json::json!({
                "name": listed.id,
                "type": "directory",
                "mtime": rfc3339(listed.created_ms),
            });
            rows.extend(row.to_string().into_bytes());
            rows.push(b'\n');
        }
        Ok(whole(StatusCode::OK, ROWS, rows))
    }

    /// The newest first; a page begins with its marker, as with Manta.
    fn rows(
        &self,
        filter: &JobFilter,
        marker: Option<&str>,
        max: usize,
    ) -> Result<Vec<Listed>, MantaError> {
        let mut found = Vec::new();
        let mut after = None;
        if let Some(marker) = marker {
            let id = marker.parse::<JobId>();
            let id = id.map_err(|_| MantaError::bad("InvalidArgumentError", "marker is a job"))?;
            let marker = self.jobs.listed(self.account, id)?;
            found.push(marker.clone());
            after = Some(marker);
        }
        while found.len() < max {
            let looked_at = LOOKED_AT_MAX.min(max - found.len());
            let (page, more) = self.jobs.list(self.account, filter, after.as_ref(), looked_at)?;
            found.extend(page);
            match more {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        Ok(found)
    }
}

/// The next piece of a body.
async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, MantaError> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => {
                let message = format!("the body could not be read: {error}");
                return Err(MantaError::bad("BadRequest", message));
            }
        }
    }
}
