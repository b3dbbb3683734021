//! Queues of links: `fq`, which keeps to departure times, and `tbf`, a token bucket (tc-fq(8), tc-tbf(8)).

use super::message::{Body, attribute, messages, word};
use super::{Link, NLM_F_CREATE, NLM_F_REPLACE, Netlink};
use std::io;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// The queue that a link's packets go to (`TC_H_ROOT`).
const ROOT: u32 = u32::MAX;
/// `TC_LINKLAYER_ETHERNET`: with it the kernel needs no table of times.
const ETHERNET: u8 = 1;
/// Bytes of a `struct tc_ratespec`; the rate is its last word.
const RATE_BYTES: usize = 12;

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes a second, headers of Ethernet included.
    pub rate: u64,
    /// Bytes that may pass at once.
    pub burst: u32,
    /// Bytes that may wait.
    pub limit: u32,
}

/// A `struct tcmsg`.
fn head(link: Link, parent: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(link.0.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(parent.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes
}

fn bucket(link: Link, bucket: Bucket) -> Body {
    let rate32 = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    let mut parameters = vec![0; RATE_BYTES];
    parameters[1] = ETHERNET;
    parameters[8..].copy_from_slice(&rate32.to_ne_bytes());
    // No second bucket for peaks.
    parameters.extend([0; RATE_BYTES]);
    parameters.extend(bucket.limit.to_ne_bytes());
    parameters.extend([0; 8]);
    Body::new(&head(link, ROOT)).text(TCA_KIND, "tbf").nested(TCA_OPTIONS, |options| {
        let options = options
            .with(TCA_TBF_PARMS, &parameters)
            .with(TCA_TBF_BURST, &bucket.burst.to_ne_bytes());
        if rate32 == u32::MAX {
            return options.with(TCA_TBF_RATE64, &bucket.rate.to_ne_bytes());
        }
        options
    })
}

/// The queue of a link: its kind, and a bucket's rate in bytes a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// `fq`, `tbf`, `noqueue`.
    pub kind: String,
    /// The rate of a `tbf`.
    pub rate: Option<u64>,
}

fn queue(body: &[u8], link: Link) -> Option<Queue> {
    let (found, parent) = (word(body, 4)?, word(body, 12)?);
    if found != link.0 || parent != ROOT {
        return None;
    }
    let attributes = body.get(20..)?;
    let kind = attribute(attributes, TCA_KIND)?;
    let kind = String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned();
    let options = attribute(attributes, TCA_OPTIONS).unwrap_or_default();
    let rate = attribute(options, TCA_TBF_PARMS).filter(|_| kind == "tbf");
    let rate = rate.and_then(|parameters| word(parameters, 8)).map(u64::from);
    let wide = attribute(options, TCA_TBF_RATE64)
        .and_then(|value| value.try_into().ok())
        .map(u64::from_ne_bytes);
    Some(Queue { rate: rate.map(|rate| wide.unwrap_or(rate)), kind })
}

impl Netlink {
    /// Gives a link the queue that holds each packet until its time (`skb->tstamp`).
    ///
    /// # Errors
    /// What the kernel says: ENOENT if it has no such queue.
    pub fn queue_by_time(&mut self, link: Link) -> io::Result<()> {
        let body = Body::new(&head(link, ROOT)).text(TCA_KIND, "fq");
        self.request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body.bytes())
    }

    /// Gives a link a token bucket, or changes the one it has.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn queue_by_bucket(&mut self, link: Link, limits: Bucket) -> io::Result<()> {
        let body = bucket(link, limits);
        self.request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body.bytes())
    }

    /// Takes a link's queue away; it then has the one it was made with.
    ///
    /// # Errors
    /// What the kernel says: ENOENT or EINVAL if it has none of ours.
    pub fn remove_queue(&mut self, link: Link) -> io::Result<()> {
        self.request(RTM_DELQDISC, 0, &head(link, ROOT))
    }

    /// The queue of a link.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn queue(&mut self, link: Link) -> io::Result<Option<Queue>> {
        let answers = self.dump(RTM_GETQDISC, &head(link, 0))?;
        let all = answers.iter().flat_map(|answer| messages(answer));
        Ok(all.into_iter().find_map(
            |(kind, _, body)| {
                if kind == RTM_NEWQDISC { queue(body, link) } else { None }
            },
        ))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_bucket_reads_as_it_was_written() {
        for rate in [8192, 4_000_000, 10_000_000_000] {
            let body = bucket(Link(3), Bucket { rate, burst: 4096, limit: 65_536 });
            let expected = Queue { kind: "tbf".to_owned(), rate: Some(rate) };
            assert_eq!(queue(body.bytes(), Link(3)), Some(expected));
            assert_eq!(queue(body.bytes(), Link(4)), None);
        }
    }
}
