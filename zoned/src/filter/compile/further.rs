//! A short filter for where another one is in force already: what it does not refuse it allows.
//!
//! A process loads it while a tenant waits. The kernel checks and compiles each of its instructions, and runs it for every
//! number that the filters before always allow; so a verdict stands in it once, and what is alone among numbers that
//! are allowed takes one comparison.

use super::{IF_AT_LEAST, IF_EQUAL, Leaf, NUMBER_AT, Policy, Range, give, load, ranges, tested};
use sys::seccomp::Instruction;

/// So many exceptions are looked for one after the other.
const ROW: usize = 2;

/// Numbers that are not like all others: those of one range.
struct Exception<'a> {
    first: u32,
    /// The first behind it.
    end: u32,
    rule: Leaf<'a>,
}

/// Where a comparison leads.
#[derive(Clone, Copy)]
enum Target {
    /// To another one.
    Comparison(usize),
    /// To one of the leaves.
    Leaf(usize),
}

/// A comparison with the number.
struct Comparison {
    code: u16,
    operand: u32,
    then: Target,
    otherwise: Target,
}

/// What is made of a policy.
struct Builder<'a> {
    comparisons: Vec<Comparison>,
    leaves: Vec<Leaf<'a>>,
}

/// The filter that does what `policy` says where another one is in force that kills a process which calls as another
/// architecture than x86-64: it does not ask again.
///
/// # Panics
/// If it would be longer than a jump: it is for policies with few rules.
#[must_use]
pub fn compile(policy: &Policy) -> Vec<Instruction> {
    let ranges = ranges(policy);
    let otherwise = Leaf::Verdict(policy.otherwise);
    let ends = ranges.iter().skip(1).map(|range| range.first).chain([u32::MAX]);
    let exceptions: Vec<Exception<'_>> = ranges
        .iter()
        .zip(ends)
        .filter(|(range, _)| range.rule != otherwise)
        .map(|(&Range { first, rule }, end)| Exception { first, end, rule })
        .collect();
    let mut builder = Builder { comparisons: Vec::new(), leaves: vec![otherwise] };
    builder.search(&exceptions);
    builder.filter()
}

impl<'a> Builder<'a> {
    /// Tells exceptions apart, by halves; gives where that begins.
    fn search(&mut self, exceptions: &[Exception<'a>]) -> Target {
        if exceptions.len() <= ROW {
            return self.row(exceptions);
        }
        let (low, high) = exceptions.split_at(exceptions.len() / 2);
        let at = self.reserve(IF_AT_LEAST, high[0].first);
        let below = self.search(low);
        let above = self.search(high);
        self.lead(at, above, below)
    }

    /// Looks for one after the other.
    fn row(&mut self, exceptions: &[Exception<'a>]) -> Target {
        let Some((one, rest)) = exceptions.split_first() else { return Target::Leaf(0) };
        let leaf = self.leaf(one.rule);
        if one.end == one.first + 1 {
            let at = self.reserve(IF_EQUAL, one.first);
            let rest = self.row(rest);
            return self.lead(at, leaf, rest);
        }
        let at = self.reserve(IF_AT_LEAST, one.end);
        let inner = self.reserve(IF_AT_LEAST, one.first);
        let inner = self.lead(inner, leaf, Target::Leaf(0));
        let rest = self.row(rest);
        self.lead(at, rest, inner)
    }

    /// A comparison that comes before whatever it leads to.
    fn reserve(&mut self, code: u16, operand: u32) -> usize {
        let (then, otherwise) = (Target::Leaf(0), Target::Leaf(0));
        self.comparisons.push(Comparison { code, operand, then, otherwise });
        self.comparisons.len() - 1
    }

    fn lead(&mut self, at: usize, then: Target, otherwise: Target) -> Target {
        let comparison = &mut self.comparisons[at];
        (comparison.then, comparison.otherwise) = (then, otherwise);
        Target::Comparison(at)
    }

    fn leaf(&mut self, leaf: Leaf<'a>) -> Target {
        let known = self.leaves.iter().position(|known| *known == leaf);
        Target::Leaf(known.unwrap_or_else(|| {
            self.leaves.push(leaf);
            self.leaves.len() - 1
        }))
    }

    /// The comparisons, and the leaves behind them.
    fn filter(&self) -> Vec<Instruction> {
        let mut code = Vec::new();
        let mut starts = Vec::new();
        for leaf in &self.leaves {
            starts.push(self.comparisons.len() + code.len());
            match *leaf {
                Leaf::Verdict(verdict) => code.push(give(verdict)),
                Leaf::Tests(tests, then) => code.extend(tested(tests, then)),
            }
        }
        let jump = |from: usize, to: Target| {
            let to = match to {
                Target::Comparison(at) => at,
                Target::Leaf(leaf) => starts[leaf],
            };
            u8::try_from(to - from - 1).expect("a filter for few rules is no longer than a jump")
        };
        let compare = |(at, comparison): (usize, &Comparison)| Instruction {
            code: comparison.code,
            then: jump(at, comparison.then),
            otherwise: jump(at, comparison.otherwise),
            operand: comparison.operand,
        };
        let comparisons = self.comparisons.iter().enumerate().map(compare);
        [load(NUMBER_AT)].into_iter().chain(comparisons).chain(code).collect()
    }
}
