//! The rules of a bucket for web pages of other origins: what they allow. Pure.

use crate::s3::document::from_xml;
use http::{HeaderName, Method};
use s3s::dto::{CORSConfiguration, CORSRule};
use s3s::{S3Result, s3_error};

/// Rules of a bucket: as S3 has it.
const RULES_MAX: usize = 100;
/// Bytes of a rule's id: as S3 has it.
const ID_BYTES_MAX: usize = 255;
/// Bytes of a configuration: as S3 has it.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// The methods that a rule may name, in S3's spelling.
const METHODS: [Method; 5] = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD];

/// A bucket's rules, the first that fits counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    origins: Vec<Pattern>,
    headers: Vec<Pattern>,
    /// What pages may do.
    pub methods: Vec<Method>,
    /// Headers of an answer that pages may read.
    pub expose: Vec<HeaderName>,
    /// How long a browser may remember a preflight, in seconds.
    pub max_age: Option<u32>,
}

/// A text in which one `*` may stand for any text, the empty one too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    start: String,
    /// What comes after the `*`, if there is one.
    end: Option<String>,
}

impl Pattern {
    fn of(text: &str) -> Option<Pattern> {
        let (start, end) = match text.split_once('*') {
            None => (text, None),
            Some((_, end)) if end.contains('*') => return None,
            Some((start, end)) => (start, Some(end.to_owned())),
        };
        Some(Pattern { start: start.to_owned(), end })
    }

    fn is_any(&self) -> bool {
        self.start.is_empty() && self.end.as_deref() == Some("")
    }

    fn fits(&self, text: &str) -> bool {
        match &self.end {
            None => self.start == text,
            Some(end) => {
                text.strip_prefix(&self.start).is_some_and(|rest| rest.ends_with(end.as_str()))
            }
        }
    }
}

impl Rule {
    fn of(rule: &CORSRule) -> S3Result<Rule> {
        if rule.id.as_ref().is_some_and(|id| id.len() > ID_BYTES_MAX) {
            return Err(s3_error!(InvalidRequest, "an ID has at most {ID_BYTES_MAX} bytes"));
        }
        if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
            return Err(s3_error!(MalformedXML, "a rule allows methods and origins"));
        }
        let expose = rule.expose_headers.iter().flatten().map(|name| exposed(name));
        let methods = rule.allowed_methods.iter().map(|method| allowed_method(method));
        let max_age = rule.max_age_seconds.map(u32::try_from).transpose();
        Ok(Rule {
            origins: patterns("AllowedOrigin", rule.allowed_origins.iter())?,
            headers: patterns("AllowedHeader", rule.allowed_headers.iter().flatten())?
                .into_iter()
                .map(Pattern::lowercase)
                .collect(),
            methods: methods.collect::<S3Result<_>>()?,
            expose: expose.collect::<S3Result<_>>()?,
            max_age: max_age.map_err(|_| s3_error!(MalformedXML, "MaxAgeSeconds is negative"))?,
        })
    }

    /// Whether pages of any origin fit.
    #[must_use]
    pub fn is_for_any(&self) -> bool {
        self.origins.iter().any(Pattern::is_any)
    }
}

impl Pattern {
    fn lowercase(self) -> Pattern {
        let end = self.end.map(|end| end.to_ascii_lowercase());
        Pattern { start: self.start.to_ascii_lowercase(), end }
    }
}

fn patterns<'a>(what: &str, texts: impl Iterator<Item = &'a String>) -> S3Result<Vec<Pattern>> {
    let pattern = |text: &'a String| {
        Pattern::of(text).ok_or_else(|| {
            s3_error!(InvalidRequest, "{what} \"{text}\" can not have more than one wildcard.")
        })
    };
    texts.map(pattern).collect()
}

fn allowed_method(text: &str) -> S3Result<Method> {
    let known = METHODS.into_iter().find(|method| method.as_str() == text);
    known.ok_or_else(|| {
        s3_error!(
            InvalidRequest,
            "Found unsupported HTTP method in CORS config. Unsupported method is {text}"
        )
    })
}

fn exposed(text: &str) -> S3Result<HeaderName> {
    if text.contains('*') {
        return Err(s3_error!(
            InvalidRequest,
            "ExposeHeader \"{text}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
        ));
    }
    text.parse().map_err(|_| s3_error!(InvalidRequest, "\"{text}\" is no name of a header"))
}

impl Rules {
    /// The rules that a document holds.
    ///
    /// # Errors
    /// What S3 would say of it.
    pub fn parse(document: &[u8]) -> S3Result<Rules> {
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(s3_error!(
                MalformedXML,
                "a CORS configuration has at most {DOCUMENT_BYTES_MAX} bytes"
            ));
        }
        Rules::of(&from_xml(document)?)
    }

    /// The rules of a configuration.
    ///
    /// # Errors
    /// What S3 would say of it.
    pub fn of(configuration: &CORSConfiguration) -> S3Result<Rules> {
        let rules = &configuration.cors_rules;
        if rules.is_empty() || rules.len() > RULES_MAX {
            return Err(s3_error!(MalformedXML, "there are 1 to {RULES_MAX} rules"));
        }
        Ok(Rules(rules.iter().map(Rule::of).collect::<S3Result<_>>()?))
    }

    /// The first rule that lets a page of `origin` ask with this method and these headers, whose names
    /// may be in any case.
    #[must_use]
    pub fn find(&self, origin: &str, method: &str, headers: &[&str]) -> Option<&Rule> {
        let allows_header = |rule: &Rule, name: &str| {
            let name = name.to_ascii_lowercase();
            rule.headers.iter().any(|pattern| pattern.fits(&name))
        };
        self.0.iter().find(|rule| {
            rule.methods.iter().any(|allowed| allowed.as_str() == method)
                && rule.origins.iter().any(|pattern| pattern.fits(origin))
                && headers.iter().all(|name| allows_header(rule, name))
        })
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn rules(xml: &str) -> S3Result<Rules> {
        Rules::parse(format!("<CORSConfiguration>{xml}</CORSConfiguration>").as_bytes())
    }

    fn rule(inner: &str) -> String {
        format!("<CORSRule>{inner}</CORSRule>")
    }

    const ONE: &str = "<AllowedOrigin>https://*.example.org</AllowedOrigin>\
        <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod>\
        <AllowedHeader>X-Amz-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader>\
        <MaxAgeSeconds>60</MaxAgeSeconds>";

    #[test]
    fn a_rule_fits_by_origin_method_and_headers() {
        let rules = rules(&rule(ONE)).unwrap();
        let fits = |origin, method, headers: &[&str]| rules.find(origin, method, headers).is_some();
        assert!(fits("https://a.example.org", "GET", &[]));
        assert!(fits("https://a.example.org", "PUT", &["x-amz-date", "X-AMZ-ACL"]));
        assert!(!fits("http://a.example.org", "GET", &[]));
        assert!(!fits("https://a.example.org.evil", "GET", &[]));
        assert!(!fits("https://a.example.org", "DELETE", &[]));
        assert!(!fits("https://a.example.org", "GET", &["authorization"]));
        assert!(!fits("https://A.example.org".to_uppercase().as_str(), "GET", &[]));
    }

    #[test]
    fn a_wildcard_never_counts_a_letter_twice() {
        let pattern = Pattern::of("aba*aba").unwrap();
        assert!(!pattern.fits("aba") && !pattern.fits("ababa"));
        assert!(pattern.fits("abaaba") && pattern.fits("abaXaba"));
    }

    #[test]
    fn bad_rules_are_refused_as_s3_does() {
        let code = |xml: &str| rules(xml).unwrap_err().code().as_str().to_owned();
        let origin = "<AllowedOrigin>*</AllowedOrigin>";
        let method = "<AllowedMethod>GET</AllowedMethod>";
        assert_eq!(code(""), "MalformedXML");
        assert_eq!(code(&rule(origin)), "MalformedXML");
        assert_eq!(code(&rule(method)), "MalformedXML");
        assert_eq!(code(&rule("<Nonsense/>")), "MalformedXML");
        let with = |more: &str| rule(&format!("{origin}{method}{more}"));
        assert!(rules(&with("")).is_ok());
        let invalid = [
            "<AllowedMethod>PATCH</AllowedMethod>",
            "<AllowedMethod>get</AllowedMethod>",
            "<AllowedOrigin>*://*</AllowedOrigin>",
            "<AllowedHeader>**</AllowedHeader>",
            "<ExposeHeader>x-*</ExposeHeader>",
            "<ExposeHeader>a b</ExposeHeader>",
        ];
        for more in invalid {
            assert_eq!(code(&with(more)), "InvalidRequest", "{more}");
        }
        assert_eq!(code(&with("<MaxAgeSeconds>-1</MaxAgeSeconds>")), "MalformedXML");
        assert_eq!(code(&with("").repeat(RULES_MAX + 1)), "MalformedXML");
        assert!(rules(&with("").repeat(RULES_MAX)).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_rules_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // What matters is that it returns.
            drop(Rules::parse(&bytes));
        }

        #[test]
        fn a_pattern_fits_what_it_was_made_of(start in "[a-z]{0,4}", middle in "[a-z]{0,6}", end in "[a-z]{0,4}") {
            let pattern = Pattern::of(&format!("{start}*{end}")).unwrap();
            let text = format!("{start}{middle}{end}");
            prop_assert!(pattern.fits(&text));
            let foreign = format!("!{text}");
            prop_assert_eq!(pattern.fits(&foreign), start.is_empty());
        }
    }
}
