//! What the programs count of a zone's network.

use wire::standing::Stats;

/// What went over a zone's link, and what did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes out of the zone, from the header of IP on.
    pub out_bytes: u64,
    /// Packets out of the zone.
    pub out_packets: u64,
    /// Bytes into the zone.
    pub in_bytes: u64,
    /// Packets into the zone.
    pub in_packets: u64,
    /// Sockets, connections and datagrams that the policy refused.
    pub refused: u64,
    /// Packets beyond the rate, for which the sender was told to slow down.
    pub dropped: u64,
}

impl Counters {
    /// Adds them to what else is known of the zone.
    pub const fn tell(&self, stats: &mut Stats) {
        (stats.out_bytes, stats.out_packets) = (self.out_bytes, self.out_packets);
        (stats.in_bytes, stats.in_packets) = (self.in_bytes, self.in_packets);
        stats.refused = self.refused;
    }
}

/// Reads them as the programs write them ([`super::programs`]).
pub(super) fn counters(bytes: &[u8]) -> Counters {
    let number = |at: usize| {
        let part = bytes.get(at * 8..at * 8 + 8).and_then(|part| part.try_into().ok());
        part.map_or(0, u64::from_ne_bytes)
    };
    Counters {
        out_bytes: number(0),
        out_packets: number(1),
        in_bytes: number(2),
        in_packets: number(3),
        refused: number(4),
        dropped: number(5),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn each_number_has_its_place_and_what_is_missing_is_none() {
        let bytes: Vec<u8> = (1..=8_u64).flat_map(u64::to_ne_bytes).collect();
        let seen = counters(&bytes);
        assert_eq!((seen.out_bytes, seen.in_packets, seen.refused, seen.dropped), (1, 4, 5, 6));
        assert_eq!(counters(&bytes[..12]).out_packets, 0);
    }
}
