//! Manta's job calls, signed with the same keys as S3.

use crate::s3::{Answer, Ask, Client};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::time::{Duration, Instant};
use wire::job::{JobId, JobSpec};

/// How often a waiting client asks.
const POLL: Duration = Duration::from_millis(300);

/// A job as GetJob shows it: what the tests look at.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// `queued`, `running`, `done`.
    pub state: String,
    /// Its counts.
    pub stats: Stats,
}

/// Counts of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "Manta's names")]
pub struct Stats {
    pub errors: u64,
    pub outputs: u64,
    pub retries: u64,
    pub tasks: u64,
    #[serde(rename = "tasksDone")]
    pub tasks_done: u64,
}

/// An error of a job.
#[derive(Debug, Clone, Deserialize)]
pub struct JobError {
    /// A stable word: `UserTaskError`, …
    pub code: String,
    /// What happened.
    pub message: String,
    /// The object the task read.
    #[serde(default)]
    pub input: Option<String>,
    /// The object that holds what the task wrote to stderr.
    #[serde(default)]
    pub stderr: Option<String>,
}

/// A client of the Manta port, as one account.
#[derive(Debug, Clone)]
pub struct Jobs {
    client: Client,
    login: String,
}

impl Jobs {
    /// A client that signs as `client` does, for the account `login`.
    #[must_use]
    pub fn new(client: Client, login: &str) -> Self {
        Self { client, login: login.to_owned() }
    }

    /// Sends a request below `/login/jobs`.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn request(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Result<Answer> {
        let path = format!("/{}/jobs{path}", self.login);
        let kind = body.map(|(kind, _)| ("content-type", kind));
        let body = body.map(|(_, body)| body);
        self.client.request(&Ask { headers: kind.as_slice(), body, ..Ask::new(method, &path) })
    }

    /// CreateJob.
    ///
    /// # Errors
    /// If the job is refused.
    pub fn create(&self, spec: &JobSpec) -> Result<JobId> {
        let body = serde_json::to_vec(spec)?;
        let answer = self.request("POST", "", Some(("application/json; type=job", &body)))?;
        let answer = answer.expect(201)?;
        let location = answer.header("location").to_owned();
        let id = location.rsplit('/').next().unwrap_or_default();
        id.parse().with_context(|| format!("no job in the location {location:?}"))
    }

    /// AddJobInputs.
    ///
    /// # Errors
    /// If they are refused.
    pub fn add_inputs(&self, job: JobId, inputs: &[String]) -> Result<()> {
        let body = inputs.join("\r\n");
        let path = format!("/{job}/live/in");
        self.request("POST", &path, Some(("text/plain", body.as_bytes())))?.expect(204)?;
        Ok(())
    }

    /// EndJobInput.
    ///
    /// # Errors
    /// If it is refused.
    pub fn end_input(&self, job: JobId) -> Result<()> {
        let path = format!("/{job}/live/in/end");
        self.request("POST", &path, Some(("application/json", b"{}")))?.expect(202)?;
        Ok(())
    }

    /// GetJob.
    ///
    /// # Errors
    /// If there is no such job.
    pub fn status(&self, job: JobId) -> Result<Status> {
        let answer = self.request("GET", &format!("/{job}/live/status"), None)?.expect(200)?;
        serde_json::from_slice(&answer.body).context("reading a job's status")
    }

    /// GetJobOutput.
    ///
    /// # Errors
    /// If there is no such job.
    pub fn outputs(&self, job: JobId) -> Result<Vec<String>> {
        let answer = self.request("GET", &format!("/{job}/live/out"), None)?.expect(200)?;
        Ok(answer.text().lines().map(str::to_owned).collect())
    }

    /// GetJobErrors.
    ///
    /// # Errors
    /// If there is no such job.
    pub fn errors(&self, job: JobId) -> Result<Vec<JobError>> {
        let answer = self.request("GET", &format!("/{job}/live/err"), None)?.expect(200)?;
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).context("reading a job's error")).collect()
    }

    /// Submits a job with all its inputs.
    ///
    /// # Errors
    /// If any part of it is refused.
    pub fn submit(&self, spec: &JobSpec, inputs: &[String]) -> Result<JobId> {
        let job = self.create(spec)?;
        if !inputs.is_empty() {
            self.add_inputs(job, inputs)?;
        }
        self.end_input(job)?;
        Ok(job)
    }

    /// Waits until a job is done.
    ///
    /// # Errors
    /// If it is not, `limit` from now. An answer that fails to come is asked for again: a daemon may be on
    /// its way back.
    pub fn wait(&self, job: JobId, limit: Duration) -> Result<Status> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status(job);
            match &status {
                Ok(status) if status.state == "done" => return Ok(status.clone()),
                _ if Instant::now() > deadline => bail!("job {job} is not done: {status:?}"),
                _ => std::thread::sleep(POLL),
            }
        }
    }

    /// An object by its full Manta name, over the Manta port.
    ///
    /// # Errors
    /// If there is no such object.
    pub fn object(&self, name: &str) -> Result<Vec<u8>> {
        let answer = self.client.request(&Ask::new("GET", name))?;
        ensure!(answer.status == 200, "GET {name}: status {}: {}", answer.status, answer.text());
        Ok(answer.body)
    }
}
