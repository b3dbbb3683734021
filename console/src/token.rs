//! The bearer token: read afresh for each request, so that a new one counts at once; compared in
//! constant time, so that answers do not tell how much of a guess was right.

use crate::problem::Problem;
use hyper::header::HeaderValue;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use subtle::ConstantTimeEq;

/// The most bytes of a token; a longer file is not ours.
const TOKEN_BYTES_MAX: u64 = 4096;
/// The fewest bytes of a token that is worth the name: 16 random ones in base64 are 22.
const TOKEN_BYTES_MIN: usize = 16;

/// Checks what a client sent in `Authorization` against the token in `file`.
pub fn check(file: &Path, header: Option<&HeaderValue>) -> Result<(), Problem> {
    let token = read(file)?;
    let header = header.ok_or_else(Problem::token_absent)?;
    let given = header.to_str().ok().and_then(bearer).ok_or_else(Problem::token_absent)?;
    if bool::from(given.as_bytes().ct_eq(token.as_bytes())) {
        Ok(())
    } else {
        Err(Problem::token_wrong())
    }
}

fn read(file: &Path) -> Result<String, Problem> {
    let mut text = String::new();
    let read =
        File::open(file).and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| Problem::token_file(file, &error.to_string()))?;
    let token = text.trim();
    if token.len() < TOKEN_BYTES_MIN {
        let why = format!("it holds fewer than {TOKEN_BYTES_MIN} bytes");
        return Err(Problem::token_file(file, &why));
    }
    Ok(token.to_owned())
}

/// The token in `Bearer TOKEN`.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod test {
    use super::*;
    use std::io::Write;

    const TOKEN: &str = "0123456789abcdef0123";

    fn outcome(file: &str, header: Option<&str>) -> Result<(), u16> {
        let mut held = tempfile::NamedTempFile::new().unwrap();
        held.write_all(file.as_bytes()).unwrap();
        let header = header.map(|text| HeaderValue::from_str(text).unwrap());
        check(held.path(), header.as_ref()).map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn the_token_opens_and_its_final_line_break_does_not_count() {
        assert_eq!(outcome(&format!("{TOKEN}\n"), Some(&format!("Bearer {TOKEN}"))), Ok(()));
        assert_eq!(outcome(TOKEN, Some(&format!("bearer {TOKEN}"))), Ok(()));
    }

    #[test]
    fn another_token_or_none_is_401() {
        let wrong = format!("Bearer {TOKEN}x");
        let shorter = format!("Bearer {}", &TOKEN[1..]);
        for header in [None, Some(""), Some(TOKEN), Some("Bearer "), Some(&wrong), Some(&shorter)] {
            assert_eq!(outcome(TOKEN, header), Err(401), "{header:?}");
        }
    }

    #[test]
    fn an_empty_file_opens_to_nobody() {
        assert_eq!(outcome("", Some("Bearer ")), Err(503));
        assert_eq!(outcome("\n", Some("Bearer \n".trim())), Err(503));
    }

    #[test]
    fn a_missing_file_is_503_and_named() {
        let problem = check(Path::new("/nowhere/token"), None).unwrap_err();
        assert_eq!(problem.status.as_u16(), 503);
        assert!(problem.message.contains("/nowhere/token"));
    }
}
