//! Tells a task that fails by its own fault from one whose object cannot be read.
//!
//! A page that fails its check (fs-verity) or that the disk does not give is SIGBUS for whoever has it
//! mapped. The owner's program is not to blame then, so the object is read once more, within the zone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use wire::zone::Outcome;

/// What a shell exits with when SIGBUS ended its last command: 128 and the signal's number.
const SHELL_SIGBUS: u8 = 128 + libc::SIGBUS as u8;
/// Read at a time: enough for the disk, little of the zone's memory.
const BLOCK_BYTES: usize = 256 * 1024;

/// The outcome, with the system blamed if `input` cannot be read and that could have been the cause.
pub(super) fn blame(outcome: Outcome, input: Option<&File>) -> Outcome {
    let (Some(input), true) = (input, may_be_damage(&outcome)) else { return outcome };
    match read_all(input) {
        Ok(()) => outcome,
        Err((at, error)) => Outcome::Broken {
            message: format!("its object cannot be read at byte {at}: {error}: it is damaged"),
        },
    }
}

fn may_be_damage(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Signalled { signal } => *signal == libc::SIGBUS,
        Outcome::Exited { code } => *code == SHELL_SIGBUS,
        Outcome::InitFailed { .. } | Outcome::Broken { .. } => false,
    }
}

/// Reads a file to its end; where and why that failed.
fn read_all(file: &File) -> Result<(), (u64, io::Error)> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = 0;
    loop {
        match file.read_at(&mut block, at) {
            Ok(0) => return Ok(()),
            Ok(got) => at += got as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((at, error)),
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::io::Write;

    const BUS: Outcome = Outcome::Signalled { signal: libc::SIGBUS };

    #[test]
    fn a_program_that_raises_sigbus_over_a_sound_object_is_to_blame() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 3 * BLOCK_BYTES + 1]).unwrap();
        assert_eq!(blame(BUS, Some(&file)), BUS);
        assert_eq!(blame(BUS, None), BUS);
    }

    #[test]
    fn an_object_that_cannot_be_read_is_blamed_for_sigbus_alone() {
        // A directory stands for a file that gives errors.
        let unreadable = File::open("/").unwrap();
        let shell = Outcome::Exited { code: SHELL_SIGBUS };
        for outcome in [BUS, shell] {
            let blamed = blame(outcome, Some(&unreadable));
            assert!(matches!(blamed, Outcome::Broken { message } if message.contains("byte 0")));
        }
        for outcome in [Outcome::Exited { code: 1 }, Outcome::Signalled { signal: libc::SIGSEGV }] {
            assert_eq!(blame(outcome.clone(), Some(&unreadable)), outcome);
        }
    }
}
