//! In which order services start and stop, from who comes after whom.

use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;
use wire::service::ServiceName;

/// Who comes after whom.
pub type After = BTreeMap<ServiceName, Vec<ServiceName>>;

/// What is wrong with the order.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OrderError {
    /// A service waits for one that does not exist.
    #[error("{service} comes after {missing}, which does not exist: add it or correct `after`")]
    Missing {
        /// Who waits.
        service: ServiceName,
        /// For whom.
        missing: ServiceName,
    },
    /// Services wait for each other in a circle.
    #[error("{0:?} wait for each other in a circle: correct `after` of one of them")]
    Circle(Vec<String>),
}

/// Services whose order makes no sense, with the reason; the rest can be run without them.
#[must_use]
pub fn faults(after: &After) -> Vec<(ServiceName, OrderError)> {
    let mut faults = Vec::new();
    for (service, needs) in after {
        for missing in needs.iter().filter(|need| !after.contains_key(*need)) {
            let (service, missing) = (service.clone(), missing.clone());
            faults.push((service.clone(), OrderError::Missing { service, missing }));
        }
    }
    let known = |need: &&ServiceName| after.contains_key(*need);
    let mut placed: BTreeSet<&ServiceName> = BTreeSet::new();
    loop {
        let next: Vec<_> = after
            .iter()
            .filter(|(name, _)| !placed.contains(name))
            .filter(|(_, needs)| needs.iter().filter(known).all(|need| placed.contains(need)))
            .map(|(name, _)| name)
            .collect();
        if next.is_empty() {
            break;
        }
        placed.extend(next);
    }
    let stuck: Vec<_> = after.keys().filter(|name| !placed.contains(name)).collect();
    let names: Vec<_> = stuck.iter().map(ToString::to_string).collect();
    faults.extend(stuck.iter().map(|name| ((*name).clone(), OrderError::Circle(names.clone()))));
    faults
}

/// The stages of an ordered stop: who is in a stage may end at once with the others in it, and only when
/// everybody who comes after them has ended. Services in a circle make one last stage.
#[must_use]
pub fn stop_stages(after: &After) -> Vec<Vec<ServiceName>> {
    let mut left: BTreeSet<&ServiceName> = after.keys().collect();
    let mut stages = Vec::new();
    while !left.is_empty() {
        let needed: BTreeSet<_> =
            left.iter().filter_map(|name| after.get(*name)).flatten().collect();
        let mut stage: Vec<_> =
            left.iter().copied().filter(|name| !needed.contains(name)).cloned().collect();
        if stage.is_empty() {
            stage = left.iter().copied().cloned().collect();
        }
        left.retain(|name| !stage.contains(name));
        stages.push(stage);
    }
    stages
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::try_from(text.to_owned()).unwrap()
    }

    fn after(pairs: &[(&str, &[&str])]) -> After {
        pairs
            .iter()
            .map(|(who, needs)| (name(who), needs.iter().map(|n| name(n)).collect()))
            .collect()
    }

    #[test]
    fn services_stop_in_the_reverse_of_their_start() {
        let stages = stop_stages(&after(&[
            ("noded", &[]),
            ("storaged", &["noded"]),
            ("prefetcher", &["noded"]),
            ("zoned", &["storaged", "prefetcher"]),
            ("consoled", &["noded"]),
        ]));
        let shown: Vec<Vec<_>> =
            stages.iter().map(|stage| stage.iter().map(ServiceName::as_str).collect()).collect();
        assert_eq!(
            shown,
            [vec!["consoled", "zoned"], vec!["prefetcher", "storaged"], vec!["noded"]]
        );
    }

    #[test]
    fn a_service_that_waits_for_nobody_real_is_named() {
        let faults = faults(&after(&[("a", &["ghost"])]));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].1.to_string().contains("ghost"));
    }

    #[test]
    fn a_circle_is_named_and_still_stops() {
        let circle = after(&[("a", &["b"]), ("b", &["a"]), ("c", &[])]);
        assert_eq!(faults(&circle).len(), 2);
        assert_eq!(stop_stages(&circle).concat().len(), 3);
    }

    proptest! {
        #[test]
        fn everybody_stops_once_and_before_those_they_need(
            edges in proptest::collection::vec((0..12_usize, 0..12_usize), 0..40),
        ) {
            let mut after: After = (0..12).map(|n| (name(&format!("s{n}")), vec![])).collect();
            // An edge always points to a smaller number, so there is no circle.
            for (one, other) in edges.into_iter().filter(|(one, other)| one > other) {
                after.get_mut(&name(&format!("s{one}"))).unwrap().push(name(&format!("s{other}")));
            }
            prop_assert!(faults(&after).is_empty());
            let stages = stop_stages(&after);
            prop_assert_eq!(stages.concat().len(), after.len());
            let stage_of = |who: &ServiceName| stages.iter().position(|s| s.contains(who)).unwrap();
            for (who, needs) in &after {
                for need in needs {
                    prop_assert!(stage_of(who) < stage_of(need));
                }
            }
        }
    }
}
