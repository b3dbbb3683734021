//! The clock's floor: time that has certainly passed. A machine with an empty RTC battery wakes up in the
//! past, and every signature made or checked then is wrong.

use super::files::{self, FileError, Readers};
use std::path::Path;
use sys::clock;

/// The last time that was saved, in seconds since 1970.
const SAVED: &str = "/data/node/clock";
/// The release, with the date of the image.
const RELEASE: &str = "/etc/mobula/release.json";
/// How often the time is saved: what a crash may cost of it.
pub const SAVE_MS: u64 = 5 * 60_000;
/// The clock may be so far behind the floor without a word: saving and RTCs round.
const TOLERANCE_S: u64 = 120;
/// No image is used for longer: a clock so far ahead of it is wrong.
const IMAGE_AGE_S_MAX: u64 = 20 * 365 * 86_400;
/// The most bytes of the two files.
const FILE_BYTES_MAX: usize = 4096;

/// What to do about the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Set it to this.
    pub set_s: Option<u64>,
    /// Tell people this.
    pub say: Option<String>,
}

/// Decides from what the clock says (seconds since 1970) and what has certainly passed.
#[must_use]
pub fn judge(now_s: u64, image_s: u64, saved_s: u64) -> Verdict {
    let floor_s = image_s.max(saved_s);
    let advice = "requests signed with the right time will be refused: set the machine's clock";
    if now_s < floor_s {
        let behind_s = floor_s - now_s;
        let say = (behind_s > TOLERANCE_S).then(|| {
            format!(
                "the clock is {} behind what is known to have passed and is set forward; {advice}",
                span(behind_s)
            )
        });
        return Verdict { set_s: Some(floor_s), say };
    }
    let ahead_s = now_s - floor_s;
    let say = (image_s > 0 && ahead_s > IMAGE_AGE_S_MAX)
        .then(|| format!("the clock is {} ahead of this image; {advice}", span(ahead_s)));
    Verdict { set_s: None, say }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Puts the clock on its floor; gives what to tell people.
#[must_use]
pub fn put_on_floor(data_disk: bool) -> Option<String> {
    let saved_s = if data_disk { saved_s() } else { 0 };
    let verdict = judge(clock::wall_s(), image_s(), saved_s);
    if let Some(Err(error)) = verdict.set_s.map(clock::set_wall_s) {
        return Some(format!("cannot set the clock: {error}"));
    }
    verdict.say
}

/// Saves the time.
///
/// # Errors
/// [`FileError`].
pub fn save() -> Result<(), FileError> {
    files::replace(Path::new(SAVED), clock::wall_s().to_string().as_bytes(), Readers::ROOT)
}

fn saved_s() -> u64 {
    let bytes = files::read(Path::new(SAVED), FILE_BYTES_MAX).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().parse().unwrap_or(0)
}

fn image_s() -> u64 {
    let bytes = files::read(Path::new(RELEASE), FILE_BYTES_MAX).ok().flatten().unwrap_or_default();
    let release: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    release.and_then(|release| release.get("image_epoch")?.as_u64()).unwrap_or(0)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_clock_that_is_right_is_left_alone() {
        assert_eq!(judge(1000, 900, 990), Verdict { set_s: None, say: None });
    }

    #[test]
    fn a_clock_in_the_past_is_set_forward_and_reported() {
        let verdict = judge(0, 1_700_000_000, 1_800_000_000);
        assert_eq!(verdict.set_s, Some(1_800_000_000));
        assert!(verdict.say.unwrap().contains("behind"));
    }

    #[test]
    fn a_clock_a_few_seconds_behind_is_set_without_a_word() {
        assert_eq!(judge(1000, 900, 1001), Verdict { set_s: Some(1001), say: None });
    }

    #[test]
    fn a_clock_decades_ahead_is_reported_and_not_touched() {
        let verdict = judge(1_700_000_000 + 2 * IMAGE_AGE_S_MAX, 1_700_000_000, 0);
        assert_eq!(verdict.set_s, None);
        assert!(verdict.say.unwrap().contains("ahead"));
    }

    proptest! {
        #[test]
        fn the_clock_never_goes_back(now_s: u64, image_s: u64, saved_s: u64) {
            let verdict = judge(now_s, image_s, saved_s);
            prop_assert!(verdict.set_s.unwrap_or(now_s) >= now_s.max(image_s).max(saved_s));
        }
    }
}
