//! What a record of jobs holds: whoever counts references to blobs asks here, key by key.

use super::key::JOBS;
use super::progress::Progress;
use super::record::{
    AttemptRecord, Bytes, ErrorRecord, Head, Input, NameRecord, Record, RecordError, TaskRecord,
    TaskState,
};

/// Where the phase stands in the keys that have one: behind keyspace, table and job.
const PHASE_AT: usize = 18;

/// Reads a record of any kind, whose key starts with the keyspace of jobs; the blob that the job holds
/// through it, if it does.
///
/// # Errors
/// When the value is not what the key says.
pub fn held_blob(key: &[u8], value: &[u8]) -> Result<Option<u64>, RecordError> {
    debug_assert_eq!(key.first(), Some(&JOBS));
    let first_phase = key.get(PHASE_AT..PHASE_AT + 4) == Some(&[0; 4]);
    let of = |input: &Input| match input.bytes {
        // Behind the first phase a blob is its object's.
        Bytes::Blob(blob) if first_phase => Some(blob),
        Bytes::Blob(_) | Bytes::Inline | Bytes::Version(_) => None,
    };
    match key.get(1) {
        Some(b'h') => Head::decode(value).map(|_| None),
        Some(b'p') => Progress::decode(value).map(|_| None),
        Some(b't') => {
            let task = TaskRecord::decode(value)?;
            Ok(match task.state {
                TaskState::Ready | TaskState::Running { .. } => task.input.as_ref().and_then(of),
                TaskState::Done | TaskState::Failed => None,
            })
        }
        Some(b'q') => Input::decode(value).map(|input| of(&input)),
        Some(b'x') => AttemptRecord::decode(value).map(|_| None),
        Some(b'i' | b'o') => NameRecord::decode(value).map(|_| None),
        Some(b'e') => ErrorRecord::decode(value).map(|_| None),
        // Their keys say it all.
        Some(_) | None => Ok(None),
    }
}

#[cfg(test)]
mod test {
    use super::super::key;
    use super::*;
    use uuid::Uuid;
    use wire::job::JobId;

    #[test]
    fn a_job_holds_the_inputs_of_tasks_of_its_first_phase_until_they_are_settled() {
        let job = JobId(Uuid::from_u128(4));
        let input = Input {
            name: "/a/stor/b".into(),
            p0: None,
            bytes: Bytes::Blob(9),
            size: 1,
            md5: [0; 16],
        };
        let task = TaskRecord::ready(Some(input.clone()));
        let held = |phase, task: &TaskRecord| {
            held_blob(&key::task(job, phase, 3), &task.encode()).unwrap()
        };
        assert_eq!(held(0, &task), Some(9));
        assert_eq!(held(1, &task), None);
        assert_eq!(held(0, &TaskRecord { state: TaskState::Done, ..task }), None);
        let reduced = |phase| held_blob(&key::reducer_input(job, phase, 0, 1), &input.encode());
        assert_eq!((reduced(0).unwrap(), reduced(2).unwrap()), (Some(9), None));
        assert!(held_blob(&key::task(job, 0, 3), &[9, 9]).is_err());
    }
}
