//! Blocks of addresses, as policies write them (RFC 4632, RFC 4291). Pure.

use std::net::IpAddr;

/// Prefixes shorter than these are the public, in AWS's definition: a /8 of IPv4, a /32 of IPv6.
const NARROW_BITS: (u8, u8) = (8, 32);

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    /// Reads `address/bits`, or one address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Net> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let digits = |bits: &&str| !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let bits = match bits {
            None => most,
            Some(bits) => Some(bits).filter(digits)?.parse().ok()?,
        };
        (bits <= most).then_some(Net { address, bits })
    }

    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u32::from(own) ^ u32::from(other);
                differ.checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = u128::from(own) ^ u128::from(other);
                differ.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
        }
    }

    /// Whether it is small enough not to be the public.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        self.bits >= if self.address.is_ipv4() { NARROW_BITS.0 } else { NARROW_BITS.1 }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_read_as_they_are_written() {
        let contains =
            |net: &str, address: &str| Net::parse(net).unwrap().contains(address.parse().unwrap());
        assert!(contains("192.0.2.0/24", "192.0.2.255") && !contains("192.0.2.0/24", "192.0.3.0"));
        assert!(contains("0.0.0.0/0", "203.0.113.9") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1") && contains("::/0", "::1"));
        assert!(contains("192.0.2.7", "::ffff:192.0.2.7") && !contains("192.0.2.7", "192.0.2.8"));
        for wrong in ["", "/", "192.0.2.0/", "192.0.2.0/33", "192.0.2.0/+8", "::/129", "a/8"] {
            assert_eq!(Net::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_block_holds_exactly_what_shares_its_bits(own: u32, other: u32, bits in 0_u8..=32) {
            let own_address = std::net::Ipv4Addr::from(own);
            let net = Net::parse(&format!("{own_address}/{bits}")).unwrap();
            let shared = (own ^ other).leading_zeros() >= u32::from(bits);
            prop_assert_eq!(net.contains(IpAddr::V4(other.into())), shared);
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let address = text.split('/').next().and_then(|text| text.parse().ok());
            prop_assert!(Net::parse(&text).is_none_or(|net| net.contains(address.unwrap())));
        }
    }
}
