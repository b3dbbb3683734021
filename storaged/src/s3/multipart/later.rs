//! Answers that take long: after a while the head goes out, then white space, so that nobody on the way takes
//! the connection for dead; the outcome, good or bad, is the document that follows. AWS does the same.

use super::timer::Sleep;
use crate::s3::Payload;
use bytes::Bytes;
use http_body::Frame;
use s3s::dto::CompleteMultipartUploadOutput;
use s3s::xml::{Serialize, Serializer};
use s3s::{Body, S3Error, S3Response, S3Result, StdError};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

/// How long an outcome is waited for before the head goes out: until then a failure has a status of its own.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// Between two pieces of white space: libraries wait 60 s for a byte.
pub(super) const PULSE: Duration = Duration::from_secs(10);

const DECLARATION: Bytes = Bytes::from_static(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
const SPACE: Bytes = Bytes::from_static(b" ");

type Work = Pin<Box<dyn Future<Output = S3Result<CompleteMultipartUploadOutput>> + Send>>;

/// The answer to work: its outcome if it comes in time.
///
/// # Errors
/// The work's own, if it fails in time.
pub(super) async fn answer(
    mut work: Work,
    patience: Duration,
    pulse: Duration,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let mut sleep = Sleep::new(patience);
    let outcome = std::future::poll_fn(|cx| {
        if let Poll::Ready(outcome) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        Pin::new(&mut sleep).poll(cx).map(|()| None)
    });
    match outcome.await {
        Some(outcome) => outcome.map(S3Response::new),
        None => {
            let pulse = Pulse { state: State::Declaration(work), sleep: Sleep::new(pulse), pulse };
            let body = Body::http_body_unsync(pulse);
            let mut response = S3Response::new(CompleteMultipartUploadOutput::default());
            response.extensions.insert(Payload::Stream(Arc::new(Mutex::new(Some(body)))));
            Ok(response)
        }
    }
}

enum State {
    Declaration(Work),
    Working(Work),
    Done,
}

/// The body: white space until the work is done.
struct Pulse {
    state: State,
    sleep: Sleep,
    pulse: Duration,
}

impl http_body::Body for Pulse {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => Poll::Ready(None),
            State::Declaration(work) => {
                self.state = State::Working(work);
                Poll::Ready(Some(Ok(Frame::data(DECLARATION))))
            }
            State::Working(mut work) => {
                if let Poll::Ready(outcome) = work.as_mut().poll(cx) {
                    return Poll::Ready(Some(document(outcome).map(Frame::data)));
                }
                self.state = State::Working(work);
                std::task::ready!(Pin::new(&mut self.sleep).poll(cx));
                self.sleep = Sleep::new(self.pulse);
                Poll::Ready(Some(Ok(Frame::data(SPACE))))
            }
        }
    }
}

/// The outcome as a document without its declaration, which went before.
fn document(outcome: S3Result<CompleteMultipartUploadOutput>) -> Result<Bytes, StdError> {
    match outcome {
        Ok(output) => {
            let mut bytes = Vec::with_capacity(512);
            output.serialize(&mut Serializer::new(&mut bytes))?;
            Ok(crate::s3::document::readable(&bytes).unwrap_or(bytes).into())
        }
        Err(error) => error_document(&error),
    }
}

fn error_document(error: &S3Error) -> Result<Bytes, StdError> {
    let mut bytes = Vec::with_capacity(256);
    let mut writer = Serializer::new(&mut bytes);
    writer.element("Error", |writer| {
        writer.content("Code", error.code().as_str())?;
        writer.content("Message", error.message().unwrap_or_default())
    })?;
    Ok(bytes.into())
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::committer::wait;
    use http_body::Body as _;
    use s3s::s3_error;

    fn slow(outcome: S3Result<CompleteMultipartUploadOutput>) -> Work {
        Box::pin(async move {
            Sleep::new(Duration::from_millis(60)).await;
            outcome
        })
    }

    fn text(response: S3Response<CompleteMultipartUploadOutput>) -> String {
        let mut response = response;
        let Some(Payload::Stream(body)) = response.extensions.remove::<Payload>() else {
            panic!("there is no stream")
        };
        let mut body = body.lock().unwrap().take().unwrap();
        let mut all = Vec::new();
        while let Some(frame) = wait(std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)))
        {
            all.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn what_is_done_in_time_is_answered_as_it_is() {
        let work = Box::pin(async { Err(s3_error!(InvalidPart, "no")) });
        assert!(wait(answer(work, PATIENCE, PULSE)).is_err());
        let work = Box::pin(async { Ok(CompleteMultipartUploadOutput::default()) });
        let answer = wait(answer(work, PATIENCE, PULSE)).unwrap();
        assert!(answer.extensions.is_empty());
    }

    #[test]
    fn what_takes_long_is_white_space_and_then_the_outcome() {
        let (patience, pulse) = (Duration::from_millis(1), Duration::from_millis(10));
        let key = Some("k<y".to_owned());
        let output = CompleteMultipartUploadOutput { key, ..Default::default() };
        let text_of = |outcome| text(wait(answer(slow(outcome), patience, pulse)).unwrap());
        let good = text_of(Ok(output));
        let rest = good.strip_prefix(std::str::from_utf8(&DECLARATION).unwrap()).unwrap();
        assert!(rest.starts_with("  "), "{rest}");
        assert!(rest.trim_start().starts_with("<CompleteMultipartUploadResult"), "{rest}");
        assert!(rest.contains("<Key>k&lt;y</Key>"), "{rest}");
        let bad = text_of(Err(s3_error!(InvalidPart, "a & b")));
        assert!(
            bad.ends_with("<Error><Code>InvalidPart</Code><Message>a &amp; b</Message></Error>")
        );
    }
}
