//! What a request is for: a pure reading of its method and path.

use super::error::MantaError;
use crate::jobs::archive;
use crate::jobs::lists::Which;
use http::{Method, Uri};
use wire::job::JobId;

/// A request, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Below whose directory.
    pub login: String,
    /// What is wanted.
    pub what: What,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Something of jobs.
    Job(JobCall),
    /// Something of an object, by its full name.
    Object(ObjectCall, String),
}

/// Calls of the jobs API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobCall {
    /// CreateJob.
    Create,
    /// ListJobs.
    List,
    /// AddJobInputs.
    AddInputs(JobId),
    /// EndJobInput.
    EndInput(JobId),
    /// CancelJob.
    Cancel(JobId),
    /// GetJob.
    Get(JobId),
    /// GetJobInput, GetJobOutput, GetJobFailures, GetJobErrors.
    Read(JobId, Which),
}

/// Calls on objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectCall {
    /// GetObject.
    Get,
    /// HeadObject.
    Head,
    /// DeleteObject.
    Delete,
}

/// Reads a request.
///
/// # Errors
/// What to answer to a request for something that is not here.
pub fn route(method: &Method, uri: &Uri) -> Result<Call, MantaError> {
    let path = uri.path();
    let pieces = pieces(path)?;
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let (login, what) = match pieces.as_slice() {
        [login, "jobs"] => match *method {
            Method::POST => (login, What::Job(JobCall::Create)),
            Method::GET => (login, What::Job(JobCall::List)),
            _ => return Err(MantaError::method(method, path)),
        },
        [login, "jobs", id, "stor", _, ..] if id.parse::<JobId>().is_ok() => {
            (login, What::Object(object(method, path)?, format!("/{}", pieces.join("/"))))
        }
        // What was put away is an object, and only its owner can tell when it may go.
        [login, "jobs", id, file] if *method == Method::DELETE && is_archive(id, file) => {
            (login, What::Object(ObjectCall::Delete, format!("/{}", pieces.join("/"))))
        }
        [login, "jobs", id, rest @ ..] => (login, What::Job(job(method, path, id, rest)?)),
        [login, "stor" | "public", _, ..] => {
            (login, What::Object(object(method, path)?, format!("/{}", pieces.join("/"))))
        }
        _ => return Err(MantaError::not_found(path)),
    };
    Ok(Call { login: (*login).to_owned(), what })
}

/// Whether this is a file of a job that is put away.
fn is_archive(id: &str, file: &str) -> bool {
    let is_list = || Which::ALL.iter().any(|which| which.file() == file);
    id.parse::<JobId>().is_ok() && (file == archive::DESCRIPTION || is_list())
}

fn object(method: &Method, path: &str) -> Result<ObjectCall, MantaError> {
    match *method {
        Method::GET => Ok(ObjectCall::Get),
        Method::HEAD => Ok(ObjectCall::Head),
        Method::DELETE => Ok(ObjectCall::Delete),
        _ => Err(MantaError::method(method, path)),
    }
}

fn job(method: &Method, path: &str, id: &str, rest: &[&str]) -> Result<JobCall, MantaError> {
    let id: JobId = id.parse().map_err(|_| MantaError::not_found(path))?;
    let read = |which| JobCall::Read(id, which);
    let (served, call) = match rest {
        ["live", "in"] if method == Method::POST => (Method::POST, JobCall::AddInputs(id)),
        ["live", "in", "end"] => (Method::POST, JobCall::EndInput(id)),
        ["live", "cancel"] => (Method::POST, JobCall::Cancel(id)),
        ["live", "status"] | ["job.json"] => (Method::GET, JobCall::Get(id)),
        ["live", "in"] | ["in.txt"] => (Method::GET, read(Which::Inputs)),
        ["live", "out"] | ["out.txt"] => (Method::GET, read(Which::Outputs)),
        ["live", "fail"] | ["fail.txt"] => (Method::GET, read(Which::Failures)),
        ["live", "err"] | ["err.txt"] => (Method::GET, read(Which::Errors)),
        _ => return Err(MantaError::not_found(path)),
    };
    if *method == served { Ok(call) } else { Err(MantaError::method(method, path)) }
}

/// The pieces of a path, each decoded by itself; empty ones count for nothing.
fn pieces(path: &str) -> Result<Vec<String>, MantaError> {
    path.split('/').filter(|piece| !piece.is_empty()).map(decode).collect()
}

/// Undoes `%41`.
pub fn decode(text: &str) -> Result<String, MantaError> {
    let malformed = || MantaError::bad("InvalidResource", format!("{text} is malformed"));
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(malformed()) };
        decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
    }
    String::from_utf8(decoded).map_err(|_| malformed())
}

/// The values of a query's parameters.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// What to answer to one that is malformed.
    pub fn parse(uri: &Uri) -> Result<Self, MantaError> {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        Ok(Self(pairs.collect::<Result<_, MantaError>>()?))
    }

    /// A parameter's first value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "6b9b6cb5-2d1c-4f0e-9d54-0a0c2f1f6f55";

    fn read(method: &Method, path: &str) -> Result<What, u16> {
        let uri: Uri = path.parse().unwrap();
        route(method, &uri).map(|call| call.what).map_err(|e| e.response().status().as_u16())
    }

    #[test]
    fn mantas_calls_are_recognised() {
        let id: JobId = ID.parse().unwrap();
        let live = |rest: &str| format!("/ann/jobs/{ID}/live/{rest}");
        let job = |call| Ok(What::Job(call));
        assert_eq!(read(&Method::POST, "/ann/jobs"), job(JobCall::Create));
        assert_eq!(read(&Method::POST, &live("in")), job(JobCall::AddInputs(id)));
        assert_eq!(read(&Method::GET, &live("in")), job(JobCall::Read(id, Which::Inputs)));
        assert_eq!(read(&Method::POST, &live("in/end")), job(JobCall::EndInput(id)));
        assert_eq!(read(&Method::GET, &live("err")), job(JobCall::Read(id, Which::Errors)));
        assert_eq!(read(&Method::GET, &live("elsewhere")), Err(404));
        assert_eq!(read(&Method::PUT, &live("status")), Err(405));
    }

    #[test]
    fn objects_are_named_in_full_with_each_piece_decoded() {
        let name = format!("/ann/jobs/{ID}/stor/a b/%2f");
        let path = format!("/ann/jobs/{ID}//stor/a%20b/%252f");
        assert_eq!(read(&Method::GET, &path), Ok(What::Object(ObjectCall::Get, name)));
        assert_eq!(read(&Method::GET, "/ann/stor/%zz"), Err(400));
        assert_eq!(read(&Method::POST, "/ann/stor/b/k"), Err(405));
        assert_eq!(read(&Method::GET, "/ann"), Err(404));
    }

    proptest! {
        #[test]
        fn any_path_is_an_answer_never_a_panic(path in "/[a-z%0-9/.?=&]{0,60}") {
            if let Ok(uri) = path.parse::<Uri>() {
                let answers = [route(&Method::GET, &uri).is_ok(), Query::parse(&uri).is_ok()];
                prop_assert!(answers.len() == 2);
            }
        }
    }
}
