//! Where events of buckets may be delivered, and whom that place is believed. What is taken here is taken by storaged, too: a
//! mistake is told where the configuration is read, and never keeps the store from starting.

use super::value::checked;
use serde::{Deserialize, Serialize};

checked! {
    /// What configurations of buckets call a webhook.
    WebhookName, "a webhook's name is 1 to 64 letters, digits, - and _",
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    }
}
checked! {
    /// Where a webhook is.
    WebhookUrl,
    "a webhook's URL is http:// or https://, a host, perhaps a port, a path and a query, without user and password, \
     at most 1024 characters",
    is_url
}
checked! {
    /// Certificates of authorities, as PEM.
    Authorities,
    "certificates are PEM: lines of base64 between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----, one at least, \
     and nothing else but blank lines and comments that begin with #",
    is_pem
}

/// The longest URL, in bytes: all webhooks are to fit one line of an environment file, of 64 KiB.
const URL_BYTES_MAX: usize = 1024;

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest.filter(|_| text.len() <= URL_BYTES_MAX) else { return false };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/?".contains(&b);
    is_host(host)
        && port.is_none_or(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
        })
        && path.bytes().all(legal)
}

/// A name or an address of IPv4.
fn is_host(text: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_pem(text: &str) -> bool {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut found = 0;
    let mut inside: Option<String> = None;
    for line in text.lines().map(str::trim_end) {
        match &mut inside {
            None if line == BEGIN => inside = Some(String::new()),
            None if line.is_empty() || line.starts_with('#') => {}
            None => return false,
            Some(base64) if line == END => {
                if !is_base64(base64) {
                    return false;
                }
                found += 1;
                inside = None;
            }
            Some(base64) => base64.push_str(line),
        }
    }
    found > 0 && inside.is_none()
}

/// Whether a text is base64 of something (RFC 4648, 4), its last unused bits zero.
fn is_base64(text: &str) -> bool {
    let bare = text.trim_end_matches('=');
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    // What the last letter may be: four bits or two of it are not used.
    let last: &[u8] = match text.len() - bare.len() {
        0 => return !bare.is_empty() && bare.len().is_multiple_of(4) && bare.bytes().all(legal),
        1 => b"AEIMQUYcgkosw048",
        2 => b"AQgw",
        _ => return false,
    };
    text.len().is_multiple_of(4)
        && bare.bytes().all(legal)
        && bare.bytes().last().is_some_and(|letter| last.contains(&letter))
}

macro_rules! shown {
    ($($name:ident)*) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        })*
    };
}
shown! { WebhookName WebhookUrl Authorities }

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn urls_are_addresses_without_secrets_before_the_host() {
        for good in [
            "http://h",
            "https://hooks.example:8443/a/b?c=d&e=%20",
            "http://10.0.2.2:80?x",
            "https://h/a:b@c",
        ] {
            assert!(is_url(good), "{good}");
        }
        for bad in [
            "",
            "h",
            "ftp://h",
            "http://",
            "http://:80",
            "http://h:",
            "http://h:65536",
            "http://h:+1",
            "http://u:p@h/",
            "http://h/a b",
            "http://h/#f",
            "http://h/ü",
            "http://a..b",
            "http://[::1]/",
            "http://h/\\",
            "HTTP://h",
        ] {
            // An empty port is no number.
            assert!(!is_url(bad), "{bad}");
        }
    }

    #[test]
    fn certificates_are_whole_and_alone() {
        let pem = |body: &str| {
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        };
        for good in ["AAAA", "AAA=", "AA==", "AAAA\nAAAA\r\nAA=="] {
            assert!(is_pem(&pem(good)), "{good}");
        }
        assert!(is_pem(&format!("# one\n{}\n{}", pem("AAAA"), pem("AAAA"))));
        for bad in ["", "A", "AAA", "AAAB=", "AAB=", "AB==", "A===", "AA=A", "AA A", "ä==="] {
            assert!(!is_pem(&pem(bad)), "{bad}");
        }
        assert!(!is_pem("") && !is_pem(&format!("x{}", pem("AAAA"))));
        assert!(!is_pem("-----BEGIN CERTIFICATE-----\nAAAA\n"));
    }
}
