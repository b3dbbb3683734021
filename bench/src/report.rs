//! What comes out: a table of figures, ratios and bars, in Markdown.

use crate::statistics::{Median, median, ratio_of_medians, with_interval};
use std::fmt::Write;

/// What a ratio must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Bar {
    fn is_met(self, value: f64) -> bool {
        match self {
            Bar::AtMost(most) => value <= most,
            Bar::AtLeast(least) => value >= least,
        }
    }

    fn text(self) -> String {
        match self {
            Bar::AtMost(most) => format!("≤ {most}"),
            Bar::AtLeast(least) => format!("≥ {least}"),
        }
    }
}

/// One figure of ours and of a peer, in interleaved rounds.
#[derive(Debug)]
pub struct Comparison {
    what: String,
    figure: &'static str,
    peer: &'static str,
    ours: f64,
    theirs: f64,
    ratio: Median,
    pairs: usize,
    bar: Option<Bar>,
}

impl Comparison {
    /// From pairs of figures: ours, theirs.
    pub fn new(
        what: &str,
        figure: &'static str,
        peer: &'static str,
        pairs: Vec<(f64, f64)>,
        bar: Option<Bar>,
    ) -> Comparison {
        let ratios: Vec<_> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        Comparison {
            what: what.to_owned(),
            figure,
            peer,
            ours: median(&ours),
            theirs: median(&theirs),
            ratio: with_interval(&ratios),
            pairs: ratios.len(),
            bar,
        }
    }

    /// From figures of single runs, the medians of which are compared: ours, theirs.
    pub fn of_medians(
        what: &str,
        figure: &'static str,
        peer: &'static str,
        ours: &[f64],
        theirs: &[f64],
        bar: Option<Bar>,
    ) -> Comparison {
        Comparison {
            what: what.to_owned(),
            figure,
            peer,
            ours: median(ours),
            theirs: median(theirs),
            ratio: ratio_of_medians(ours, theirs),
            pairs: ours.len().min(theirs.len()),
            bar,
        }
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Report {
    comparisons: Vec<Comparison>,
    facts: Vec<(String, String, Option<bool>)>,
    failures: Vec<(String, String)>,
}

/// A bar, and what was found beside it.
struct Held {
    what: String,
    found: String,
    met: bool,
}

impl Report {
    /// Adds a comparison, and says it at once.
    pub fn compare(&mut self, comparison: Comparison) {
        println!("{}", row(&comparison));
        self.comparisons.push(comparison);
    }

    /// Adds a figure that stands for itself, and whether its bar is met if it has one.
    pub fn fact(&mut self, what: &str, value: String, met: Option<bool>) {
        println!("| {what} | {value} | {} |", verdict(met));
        self.facts.push((what.to_owned(), value, met));
    }

    /// Adds that a part could not be measured, and why.
    pub fn fail(&mut self, part: &str, why: String) {
        println!("| {part} | failed: {why} |");
        self.failures.push((part.to_owned(), why));
    }

    /// Parts that could not be measured.
    pub fn failures(&self) -> usize {
        self.failures.len()
    }

    /// All bars that were looked at, those that are missed first.
    fn held(&self) -> Vec<Held> {
        let compared = self.comparisons.iter().filter_map(|comparison| {
            let Comparison { what, figure, peer, ratio, bar, .. } = comparison;
            let bar = (*bar)?;
            let found = format!("{:.3} {}", ratio.value, bar.text());
            let met = bar.is_met(ratio.value);
            Some(Held { what: format!("{what}, {figure}, beside {peer}"), found, met })
        });
        let facts = self.facts.iter().filter_map(|(what, value, met)| {
            Some(Held { what: what.clone(), found: value.clone(), met: (*met)? })
        });
        let mut held: Vec<Held> = compared.chain(facts).collect();
        held.sort_by_key(|held| held.met);
        held
    }

    /// The last table: each bar, met or missed, and what could not be measured.
    pub fn bars(&self) -> String {
        let held = self.held();
        let met = held.iter().filter(|held| held.met).count();
        let missed = held.len() - met;
        let failed = self.failures.len();
        let mut text = format!("{met} bars met, {missed} missed; {failed} parts failed\n\n");
        text += "| bar | found | |\n| --- | --- | --- |\n";
        for Held { what, found, met } in &held {
            let verdict = if *met { "met" } else { "**MISSED**" };
            text += &format!("| {what} | {found} | {verdict} |\n");
        }
        for (part, why) in &self.failures {
            text += &format!("| {part} | {why} | **FAILED** |\n");
        }
        text
    }

    /// The whole text.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        if !self.comparisons.is_empty() {
            text += "| what | figure | ours | peer | | ratio | 95 % | pairs | bar | |\n";
            text += "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
            for comparison in &self.comparisons {
                text += &row(comparison);
                text += "\n";
            }
        }
        if !self.facts.is_empty() {
            text += "\n| what | | bar |\n| --- | --- | --- |\n";
            for (what, value, met) in &self.facts {
                // A String takes all text.
                writeln!(text, "| {what} | {value} | {} |", verdict(*met))
                    .expect("a String takes all");
            }
        }
        text
    }
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        None => "",
        Some(true) => "met",
        Some(false) => "**MISSED**",
    }
}

fn row(comparison: &Comparison) -> String {
    let Comparison { what, figure, peer, ours, theirs, ratio, pairs, bar } = comparison;
    let digits = |value: f64| match value.abs() {
        value if value >= 1000.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    };
    let (asked, met) = match bar {
        None => (String::new(), ""),
        Some(bar) => (bar.text(), verdict(Some(bar.is_met(ratio.value)))),
    };
    format!(
        "| {what} | {figure} | {} | {} | {peer} | {:.3} | {:.3}–{:.3} | {pairs} | {asked} | {met} |",
        digits(*ours),
        digits(*theirs),
        ratio.value,
        ratio.low,
        ratio.high
    )
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_bar_is_met_by_the_median_of_ratios() {
        let pairs = vec![(10.0, 10.0), (30.0, 10.0), (15.0, 10.0)];
        let comparison = Comparison::new("GET", "CPU", "nginx", pairs, Some(Bar::AtMost(1.5)));
        assert_eq!(comparison.ratio.value, 1.5);
        assert!(row(&comparison).ends_with("| ≤ 1.5 | met |"));
        let mut report = Report::default();
        report.compare(Comparison::new(
            "PUT",
            "rate",
            "x",
            vec![(1.0, 2.0)],
            Some(Bar::AtLeast(1.0)),
        ));
        report.fact("memory", "5 MiB".into(), None);
        assert!(report.markdown().contains("**MISSED**") && report.markdown().contains("5 MiB"));
    }

    #[test]
    fn the_last_table_has_every_bar_and_every_failure() {
        let mut report = Report::default();
        let pair = |bar| Comparison::new("PUT", "rate", "x", vec![(1.0, 2.0)], bar);
        report.compare(pair(Some(Bar::AtMost(0.5))));
        report.compare(pair(Some(Bar::AtLeast(0.6))));
        report.compare(pair(None));
        report.fact("restart", "6 s".into(), Some(false));
        report.fact("memory", "5 MiB".into(), None);
        report.fail("zones", "not root".into());
        let text = report.bars();
        assert!(text.starts_with("1 bars met, 2 missed; 1 parts failed"), "{text}");
        assert!(text.contains("zones | not root | **FAILED**") && !text.contains("memory"));
        assert!(text.find("MISSED").unwrap() < text.find("| met |").unwrap(), "{text}");
    }
}
