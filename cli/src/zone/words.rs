//! Words of the command line that are more than a number: sizes, rates, processors, rules.

use std::net::IpAddr;
use wire::carve::{Protocol, Rule};

/// `NAME=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// A number of bytes with its unit.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("{unit:?} is no unit: K, M, G or T, each 1024 of the one before")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{digits:?} is no whole number"))?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is too much".to_owned())
}

/// A size in whole MiB.
pub fn mib(text: &str) -> Result<u32, String> {
    let bytes = bytes(text)?;
    match u32::try_from(bytes >> 20) {
        Ok(mib) if bytes % (1 << 20) == 0 => Ok(mib),
        Ok(_) => Err("it is counted in whole MiB: write 256M".to_owned()),
        Err(_) => Err("that is too much".to_owned()),
    }
}

/// A cap that can be taken away: `none` is 0 in [`wire::carve::CarveChange`].
pub fn rate(text: &str) -> Result<u64, String> {
    match text {
        "none" => Ok(0),
        _ => match bytes(text.strip_suffix("/s").unwrap_or(text))? {
            0 => Err("nothing at all is no rate; `none` takes the cap away".to_owned()),
            rate => Ok(rate),
        },
    }
}

/// Thousandths of a processor, from a decimal number.
pub fn cpus(text: &str) -> Result<u32, String> {
    if text == "none" {
        return Ok(0);
    }
    let no =
        || format!("{text:?} is no number of processors: write 0.5, with at most three decimals");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || (whole.is_empty() && part.is_empty()) {
        return Err(no());
    }
    let digits = format!("{whole}{part:0<3}");
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(no());
    }
    match digits.parse() {
        Ok(0) => Err("no processor at all is no cap; `none` takes the cap away".to_owned()),
        Ok(milli) => Ok(milli),
        Err(_) => Err(no()),
    }
}

/// A list of processors; `none` is all of them.
pub fn list(text: &str) -> Result<String, String> {
    Ok(if text == "none" { String::new() } else { text.to_owned() })
}

/// Whom a zone may talk to, as one word of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allow {
    /// Nobody.
    Nobody,
    /// Whom a rule names.
    Rule(Rule),
}

/// A rule, or `none`.
pub fn allow(text: &str) -> Result<Allow, String> {
    if text == "none" { Ok(Allow::Nobody) } else { rule(text).map(Allow::Rule) }
}

/// `tcp:10.0.0.0/8:80-443`, `udp:[::1]:53`; all of the address, all ports if not said.
pub fn rule(text: &str) -> Result<Rule, String> {
    let (protocol, rest) = text.split_once(':').ok_or("begin with tcp: or udp:")?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(format!("{protocol:?} is no protocol: tcp or udp")),
    };
    let (network, ports) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or("there is no ] after the address")?;
            let (bits, ports) = rest.split_once(':').unwrap_or((rest, ""));
            (format!("{address}{bits}"), ports)
        }
        None => {
            let (network, ports) = rest.split_once(':').unwrap_or((rest, ""));
            (network.to_owned(), ports)
        }
    };
    let (address, bits) = match network.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (network.as_str(), None),
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("{address:?} is no address; one with colons stands in [ ]"))?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match bits {
        None => all,
        Some(bits) => bits
            .parse()
            .ok()
            .filter(|bits| *bits <= all)
            .ok_or_else(|| format!("/{bits} is no length of a prefix: 0 to {all}"))?,
    };
    let port = |text: &str| text.parse().map_err(|_| format!("{text:?} is no port"));
    let (first_port, last_port) = match ports.split_once('-') {
        _ if ports.is_empty() => (0, u16::MAX),
        None => (port(ports)?, port(ports)?),
        Some((first, last)) => (port(first)?, port(last)?),
    };
    Ok(Rule { protocol, address, prefix, first_port, last_port })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!(mib("256M"), Ok(256));
        assert_eq!(mib("2GiB"), Ok(2048));
        assert!(mib("100K").is_err() && mib("1.5G").is_err() && mib("3X").is_err());
        assert!(mib("256").is_err(), "a number without a unit is not taken for MiB");
        assert_eq!((rate("10M"), rate("none"), rate("500")), (Ok(10 << 20), Ok(0), Ok(500)));
        assert_eq!(rate("1K/s"), Ok(1024));
        assert!(rate("0").is_err() && rate("99999999999T").is_err());
    }

    #[test]
    fn processors_are_counted_in_thousandths() {
        let read = ["0.5", "2", "1.25", ".01", "none"].map(|text| cpus(text).unwrap());
        assert_eq!(read, [500, 2000, 1250, 10, 0]);
        for wrong in ["", ".", "0", "0.0001", "-1", "x", "1e3"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rule_is_a_protocol_a_network_and_ports() {
        let read = rule("tcp:10.0.0.0/8:80-443").unwrap();
        assert_eq!((read.prefix, read.first_port, read.last_port), (8, 80, 443));
        let read = rule("udp:1.1.1.1").unwrap();
        assert_eq!((read.prefix, read.first_port, read.last_port), (32, 0, 65_535));
        let read = rule("udp:[fd00::]/8:53").unwrap();
        assert_eq!(
            (read.address.to_string(), read.prefix, read.last_port),
            ("fd00::".into(), 8, 53)
        );
        for wrong in ["10.0.0.1", "icmp:1.1.1.1", "tcp:fd00::1", "tcp:1.1.1.1/33", "tcp:1.1.1.1:x"]
        {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }
}
