//! Uploads in parts: the calls of one, and a load of uploads that wait a while between their parts and their end, which
//! a power cut must not take from them.

use crate::load::{Act, History, LARGE_BYTES_MIN, Operation, Position, content};
use crate::s3::{Answer, Ask, Client};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of the first part of an upload in two: the least that S3 allows.
pub const PART_BYTES: usize = 5 << 20;
/// Uploads that wait at a time.
const WAITING: usize = 4;
/// Keys they go to: more than wait, so that no two wait for one.
const KEYS: usize = 8;
/// Bytes of a part that is the only or the last one, at most; at least so many that the object surely is a file.
const LAST_BYTES_MAX: usize = 200_000;
/// One upload in so many has two parts.
const TWO_PARTS: u32 = 12;
/// Between two uploads: they are to wait, not to be many.
const PAUSE: Duration = Duration::from_millis(50);

/// The answer, unless there is none or it is "not now". A refusal is an error.
///
/// # Errors
/// If it is another one than expected.
pub fn ask(client: &Client, ask: &Ask<'_>, good: u16) -> Result<Option<Answer>> {
    match client.request(ask) {
        Err(_) => Ok(None),
        Ok(answer) if answer.status >= 500 => Ok(None),
        Ok(answer) => {
            answer.expect(good).with_context(|| format!("{} {}", ask.method, ask.path)).map(Some)
        }
    }
}

/// One upload. Each call gives nothing when there was no answer, or "not now".
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// Asks.
    pub client: &'a Client,
    /// The object's path: `/bucket/key`.
    pub path: &'a str,
}

impl Upload<'_> {
    /// Begins; its id.
    ///
    /// # Errors
    /// If it is refused.
    pub fn begin(&self) -> Result<Option<String>> {
        let begin =
            Ask { query: &[("uploads", "")], body: Some(b""), ..Ask::new("POST", self.path) };
        let Some(begun) = ask(self.client, &begin, 200)? else { return Ok(None) };
        begun.elements("UploadId").pop().context("an upload without an id").map(Some)
    }

    /// Sends a part; its entity tag.
    ///
    /// # Errors
    /// If it is refused.
    pub fn part(&self, id: &str, number: u32, bytes: &[u8]) -> Result<Option<String>> {
        let query = [("partNumber", &*number.to_string()), ("uploadId", id)];
        let put = Ask { query: &query, body: Some(bytes), ..Ask::new("PUT", self.path) };
        Ok(ask(self.client, &put, 200)?.map(|put| put.header("etag").to_owned()))
    }

    /// Completes it of these parts; whether that was acknowledged.
    ///
    /// # Errors
    /// If it is refused.
    pub fn complete<'t>(
        &self,
        id: &str,
        parts: impl IntoIterator<Item = (u32, &'t str)>,
    ) -> Result<bool> {
        let parts = parts.into_iter().map(|(number, tag)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
        });
        let list = parts.collect::<String>();
        let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let query = [("uploadId", id)];
        let body = Some(body.as_bytes());
        let complete = Ask { query: &query, body, ..Ask::new("POST", self.path) };
        let answer = ask(self.client, &complete, 200)?;
        // It may be told in the body that it failed, when the answer had begun before.
        Ok(answer.is_some_and(|answer| answer.text().contains("<ETag>")))
    }
}

/// A part, and by which position it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    range: Range<usize>,
    tag: String,
    ended: u64,
}

/// An upload that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    key: String,
    id: String,
    seed: u64,
    bytes: usize,
    parts: Vec<Part>,
    /// How far the world had come when its completion was sent.
    closing: u64,
}

impl Waiting {
    /// The parts that must be there as of `position`; none once its completion may have come in between.
    fn promised(&self, position: u64) -> &[Part] {
        let promised = self.parts.iter().take_while(|part| part.ended <= position).count();
        if self.closing <= position { &[] } else { &self.parts[..promised] }
    }
}

/// What became of the load.
#[derive(Debug, Clone, Default)]
pub struct Waited(Vec<Waiting>);

impl Waited {
    /// Begins uploads to `bucket`, sends their parts, and completes each when some more have come, until told to stop.
    /// Also gives what was completed.
    ///
    /// # Errors
    /// If something is refused.
    pub fn work(
        client: &Client,
        bucket: &str,
        seed: u64,
        position: &Position,
        stop: &AtomicBool,
    ) -> Result<(Self, History)> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut all, mut completed) = (Vec::new(), History::default());
        let mut waiting = VecDeque::new();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let key = format!("waiting/{}", number % KEYS);
            let first = if rng.u32(..TWO_PARTS) == 0 { PART_BYTES } else { 0 };
            let bytes = first + rng.usize(LARGE_BYTES_MIN..LAST_BYTES_MAX);
            let begun = begin(client, bucket, (&key, rng.u64(..)), (first, bytes), position)?;
            waiting.extend(begun);
            if waiting.len() > WAITING
                && let Some(mut oldest) = waiting.pop_front()
            {
                let done = end(client, bucket, &mut oldest, position)?;
                completed.keys.entry(done.key.clone()).or_default().push(done);
                all.push(oldest);
            }
            std::thread::sleep(PAUSE);
        }
        all.extend(waiting);
        Ok((Self(all), completed))
    }

    /// How many parts were acknowledged by `position` and not yet completed.
    #[must_use]
    pub fn promised(&self, position: u64) -> usize {
        self.0.iter().map(|waiting| waiting.promised(position).len()).sum()
    }

    /// Looks for each part that must be there, completes what they belong to, reads it, and gives what is wrong. Changes
    /// what the bucket holds.
    ///
    /// # Errors
    /// If a request gets no answer, or an odd one.
    pub fn check(&self, client: &Client, bucket: &str, position: u64) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for waiting in &self.0 {
            let promised = waiting.promised(position);
            let Some(last) = promised.last() else { continue };
            let path = format!("/{bucket}/{}", waiting.key);
            let query = [("uploadId", &*waiting.id)];
            let listed = client.request(&Ask { query: &query, ..Ask::new("GET", &path) })?;
            let sizes = listed.elements("Size");
            let found: BTreeMap<_, _> = listed.elements("ETag").into_iter().zip(sizes).collect();
            let lost = promised.iter().filter(|part| {
                found.get(&part.tag).is_none_or(|size| *size != part.range.len().to_string())
            });
            let lost = lost.count();
            if lost > 0 {
                let (of, status) = (promised.len(), listed.status);
                wrong.push(format!("{path}: {lost} of {of} parts are lost (status {status})"));
                continue;
            }
            let list = (1..).zip(promised.iter().map(|part| &*part.tag));
            let upload = Upload { client, path: &path };
            match upload.complete(&waiting.id, list) {
                Ok(true) => {}
                other => {
                    wrong.push(format!("{path}: its parts make no object: {other:?}"));
                    continue;
                }
            }
            let bytes = &content(waiting.seed, waiting.bytes)[..last.range.end];
            if client.get(bucket, &waiting.key)?.as_deref() != Some(bytes) {
                wrong.push(format!("{path}: the object is not its parts"));
            }
        }
        Ok(wrong)
    }
}

fn begin(
    client: &Client,
    bucket: &str,
    (key, seed): (&str, u64),
    (first, bytes): (usize, usize),
    position: &Position,
) -> Result<Option<Waiting>> {
    let path = format!("/{bucket}/{key}");
    let upload = Upload { client, path: &path };
    let Some(id) = upload.begin()? else { return Ok(None) };
    let all = content(seed, bytes);
    let mut parts = Vec::new();
    let ranges = [0..first, first..bytes];
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        let number = u32::try_from(parts.len() + 1)?;
        let Some(tag) = upload.part(&id, number, &all[range.clone()])? else { break };
        parts.push(Part { range, tag, ended: position() });
    }
    Ok(Some(Waiting { key: key.to_owned(), id, seed, bytes, parts, closing: u64::MAX }))
}

fn end(
    client: &Client,
    bucket: &str,
    waiting: &mut Waiting,
    position: &Position,
) -> Result<Operation> {
    waiting.closing = position();
    let path = format!("/{bucket}/{}", waiting.key);
    let list = (1..).zip(waiting.parts.iter().map(|part| &*part.tag));
    let acknowledged = Upload { client, path: &path }.complete(&waiting.id, list)?;
    let act = Act::Parts { seed: waiting.seed, bytes: waiting.bytes };
    Ok(Operation { key: waiting.key.clone(), act, acknowledged, ended: position() })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_part_is_promised_from_its_answer_to_the_completion() {
        let part = |ended| Part { range: 0..1, tag: String::new(), ended };
        let waiting = Waiting {
            key: "k".to_owned(),
            id: String::new(),
            seed: 0,
            bytes: 2,
            parts: vec![part(10), part(20)],
            closing: 30,
        };
        let promised = |position| waiting.promised(position).len();
        assert_eq!([9, 10, 19, 20, 29, 30].map(promised), [0, 1, 1, 2, 2, 0]);
    }
}
