//! Texts with wildcards and variables, as policies have them. Pure.
//!
//! `*` stands for any characters, `?` for one. From version 2012-10-17 on `${aws:username}` stands for
//! what the request says of that key, and `${*}`, `${?}`, `${$}` for the characters themselves.

use super::key::Key;

/// A variable that the request says nothing of: the statement it is in does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unresolved;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    One,
    Any,
    Variable(Key),
}

/// What a text is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Piece>);

/// How a pattern is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syntax {
    /// Whether `*` and `?` are wildcards.
    pub wildcards: bool,
    /// Whether `${…}` is a variable.
    pub variables: bool,
}

#[derive(Clone, Copy)]
enum Token {
    Char(char),
    One,
    Any,
}

impl Pattern {
    /// Reads a pattern; what is wrong with it otherwise.
    ///
    /// # Errors
    /// The variable that is none.
    pub fn parse(text: &str, syntax: Syntax) -> Result<Pattern, String> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(char) = rest.chars().next() {
            let piece = match char {
                '*' if syntax.wildcards => Piece::Any,
                '?' if syntax.wildcards => Piece::One,
                '$' if syntax.variables && rest.starts_with("${") => {
                    let end = rest.find('}').ok_or_else(|| rest.to_owned())?;
                    let name = &rest[2..end];
                    rest = &rest[end + 1..];
                    match name {
                        "*" | "?" | "$" => plain.push_str(name),
                        name => {
                            flush(&mut plain, &mut pieces);
                            let key = Key::parse(name).ok_or_else(|| name.to_owned())?;
                            pieces.push(Piece::Variable(key));
                        }
                    }
                    continue;
                }
                char => {
                    plain.push(char);
                    rest = &rest[char.len_utf8()..];
                    continue;
                }
            };
            flush(&mut plain, &mut pieces);
            pieces.push(piece);
            rest = &rest[1..];
        }
        flush(&mut plain, &mut pieces);
        Ok(Pattern(pieces))
    }

    /// Whether it stands for one text only.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// The keys whose values it needs.
    pub fn variables(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(key) => Some(key),
            Piece::Text(_) | Piece::One | Piece::Any => None,
        })
    }

    /// Whether a text matches.
    ///
    /// # Errors
    /// When a variable has no value.
    pub fn matches(
        &self,
        text: &str,
        fold_case: bool,
        value: &dyn Fn(&Key) -> Option<String>,
    ) -> Result<bool, Unresolved> {
        // Most are one text, or a text and a star.
        if let ([Piece::Text(own)], false) = (&self.0[..], fold_case) {
            return Ok(own == text);
        }
        let mut tokens = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::One => tokens.push(Token::One),
                Piece::Any => tokens.push(Token::Any),
                Piece::Text(own) => tokens.extend(own.chars().map(Token::Char)),
                // A value is only text, whatever characters it has.
                Piece::Variable(key) => {
                    let value = value(key).ok_or(Unresolved)?;
                    tokens.extend(value.chars().map(Token::Char));
                }
            }
        }
        let text: Vec<char> = text.chars().collect();
        Ok(glob(&tokens, &text, fold_case))
    }
}

fn flush(plain: &mut String, pieces: &mut Vec<Piece>) {
    if !plain.is_empty() {
        pieces.push(Piece::Text(std::mem::take(plain)));
    }
}

fn same(a: char, b: char, fold_case: bool) -> bool {
    a == b || (fold_case && a.to_lowercase().eq(b.to_lowercase()))
}

/// Goes back to the last star only: that is enough, and takes at most the product of both lengths.
fn glob(tokens: &[Token], text: &[char], fold_case: bool) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        let fits = match tokens.get(at) {
            Some(Token::Any) => {
                star = Some((at, read));
                at += 1;
                continue;
            }
            Some(Token::One) => true,
            Some(Token::Char(char)) => same(*char, text[read], fold_case),
            None => false,
        };
        if fits {
            (at, read) = (at + 1, read + 1);
        } else if let Some((place, from)) = star {
            star = Some((place, from + 1));
            (at, read) = (place + 1, from + 1);
        } else {
            return false;
        }
    }
    tokens[at..].iter().all(|token| matches!(token, Token::Any))
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const BOTH: Syntax = Syntax { wildcards: true, variables: true };

    fn matches(pattern: &str, text: &str) -> bool {
        let value = |key: &Key| (*key == Key::Username).then(|| "a*a".to_owned());
        Pattern::parse(pattern, BOTH).unwrap().matches(text, false, &value).unwrap()
    }

    #[test]
    fn wildcards_stand_for_what_they_should() {
        assert!(matches("a*c", "abbc") && matches("a*c", "ac") && !matches("a*c", "acd"));
        assert!(matches("a?c", "abc") && !matches("a?c", "ac") && matches("?", "ü"));
        assert!(matches("*a*b", "xaxbxb") && !matches("", "x") && matches("**", ""));
    }

    #[test]
    fn variables_are_only_text() {
        assert!(matches("home/${aws:username}/*", "home/a*a/x"));
        assert!(!matches("home/${AWS:UserName}/*", "home/aba/x"));
        assert!(matches("${*}${?}${$}", "*?$") && !matches("${*}", "x"));
        assert_eq!(Pattern::parse("${aws:nothing}", BOTH), Err("aws:nothing".to_owned()));
        assert!(Pattern::parse("${", BOTH).is_err());
        let none = |_: &Key| None;
        let pattern = Pattern::parse("${aws:userid}", BOTH).unwrap();
        assert_eq!(pattern.matches("x", false, &none), Err(Unresolved));
        let old = Syntax { wildcards: true, variables: false };
        let pattern = Pattern::parse("${aws:userid}", old).unwrap();
        assert_eq!(pattern.matches("${aws:userid}", false, &none), Ok(true));
    }

    #[test]
    fn case_is_folded_where_asked() {
        let none = |_: &Key| None;
        let pattern = Pattern::parse("ÄB", BOTH).unwrap();
        assert_eq!(pattern.matches("äb", true, &none), Ok(true));
        assert_eq!(pattern.matches("äb", false, &none), Ok(false));
    }

    /// The same by the book: all ways are tried.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|n| slow(rest, &text[n..])),
            Some(('?', rest)) => !text.is_empty() && slow(rest, &text[1..]),
            Some((char, rest)) => text.first() == Some(char) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_glob_is_what_trying_all_ways_finds(
            pattern in proptest::collection::vec(prop_oneof![Just('*'), Just('?'), Just('a'), Just('b')], 0..9),
            text in proptest::collection::vec(prop_oneof![Just('a'), Just('b')], 0..9),
        ) {
            let words: String = pattern.iter().collect();
            let written: String = text.iter().collect();
            prop_assert_eq!(matches(&words, &written), slow(&pattern, &text));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            if let Ok(pattern) = Pattern::parse(&text, BOTH) {
                let unresolved = pattern.variables().next().is_some();
                prop_assert_eq!(pattern.matches(&text, true, &|_| None).is_err(), unresolved);
            }
            let plain = Syntax { wildcards: false, variables: false };
            let pattern = Pattern::parse(&text, plain).unwrap();
            prop_assert_eq!(pattern.matches(&text, false, &|_| None), Ok(true));
        }
    }
}
