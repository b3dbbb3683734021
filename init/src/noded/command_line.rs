//! A word of the kernel's command line (bootparam(7)): words are apart by spaces, and double quotes keep
//! spaces in a word.

/// The value of the last `name=value` among the words; none if there is none.
#[must_use]
pub fn value(line: &str, name: &str) -> Option<String> {
    words(line).into_iter().rev().find_map(|word| {
        let (key, value) = word.split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_of_a_name_counts() {
        let line = "console=ttyS0 mobula.config=YQ== panic=10 mobula.config=Yg==\n";
        assert_eq!(value(line, "mobula.config").as_deref(), Some("Yg=="));
    }

    #[test]
    fn a_name_that_only_begins_so_is_another() {
        assert_eq!(value("mobula.configuration=x quiet", "mobula.config"), None);
        assert_eq!(value("mobula.config quiet", "mobula.config"), None);
    }

    #[test]
    fn quotes_keep_spaces() {
        assert_eq!(value("a=\"b c\" d=e", "a").as_deref(), Some("b c"));
        assert_eq!(value("\"a=b c\" d=e", "a").as_deref(), Some("b c"));
    }

    proptest! {
        #[test]
        fn any_line_is_an_answer_never_a_panic(line in ".{0,300}", name in "[a-z.]{1,10}") {
            if let Some(value) = value(&line, &name) {
                prop_assert!(!value.contains('"'));
            }
        }
    }
}
