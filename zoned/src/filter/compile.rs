//! Makes classic BPF of a [`Policy`]: a binary search over ranges of numbers, tests at its leaves.
//!
//! The kernel runs a filter for every system call number when it is loaded, to know which ones are
//! always allowed; a list of comparisons costs ten times what a tree does there.
//!
//! ```text
//!   arch is x86-64? ── no ──▶ kill
//!   number ≥ 158? ─┬─ no ──▶ number ≥ 56? …
//!                  └─ yes ─▶ …            ──▶ allow | errno | tests of arguments
//! ```

pub mod further;

use super::policy::{Policy, Rule, Test, Verdict};
use sys::seccomp::Instruction;

/// `AUDIT_ARCH_X86_64` of `linux/audit.h`.
pub const ARCH_X86_64: u32 = 0xc000_003e;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Where `struct seccomp_data` holds the number, the architecture and the arguments.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// A range of numbers that share a rule: from here to where the next one begins.
struct Range<'a> {
    first: u32,
    rule: Leaf<'a>,
}

#[derive(Clone, Copy, PartialEq)]
enum Leaf<'a> {
    Verdict(Verdict),
    Tests(&'a [(Test, Verdict)], Verdict),
}

/// The filter that does what `policy` says, and kills a process that calls as another architecture.
#[must_use]
pub fn compile(policy: &Policy) -> Vec<Instruction> {
    let mut filter = vec![
        load(ARCH_AT),
        Instruction { code: IF_EQUAL, then: 1, otherwise: 0, operand: ARCH_X86_64 },
        give(Verdict::Kill),
        load(NUMBER_AT),
    ];
    filter.extend(tree(&ranges(policy)));
    filter
}

/// All numbers from 0 up, in ranges as long as they can be.
fn ranges(policy: &Policy) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = Vec::new();
    let mut add = |first: u32, rule| {
        if ranges.last().is_none_or(|last| last.rule != rule) {
            ranges.push(Range { first, rule });
        }
    };
    let otherwise = Leaf::Verdict(policy.otherwise);
    let mut next = 0;
    for (&number, rule) in &policy.rules {
        if number > next {
            add(next, otherwise);
        }
        add(number, leaf(rule));
        next = number + 1;
    }
    add(next, otherwise);
    ranges
}

fn leaf(rule: &Rule) -> Leaf<'_> {
    match rule {
        Rule::Always(verdict) => Leaf::Verdict(*verdict),
        Rule::If { tests, then } => Leaf::Tests(tests, *then),
    }
}

/// Finds the number's range by halves; the number is loaded.
fn tree(ranges: &[Range<'_>]) -> Vec<Instruction> {
    if let [range] = ranges {
        return match range.rule {
            Leaf::Verdict(verdict) => vec![give(verdict)],
            Leaf::Tests(tests, then) => tested(tests, then),
        };
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (below, above) = (tree(low), tree(high));
    let bound = high[0].first;
    let mut code = Vec::with_capacity(below.len() + above.len() + 2);
    // A conditional jump reaches 255 instructions; a longer one takes an unconditional jump on its way.
    if let Ok(far) = u8::try_from(below.len()) {
        code.push(Instruction { code: IF_AT_LEAST, then: far, otherwise: 0, operand: bound });
    } else {
        code.push(Instruction { code: IF_AT_LEAST, then: 0, otherwise: 1, operand: bound });
        let far = u32::try_from(below.len()).expect("a filter has at most 4,096 instructions");
        code.push(Instruction { code: JUMP, then: 0, otherwise: 0, operand: far });
    }
    code.extend(below);
    code.extend(above);
    code
}

/// Each test in turn; one that fails gives its verdict.
fn tested(tests: &[(Test, Verdict)], then: Verdict) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (test, or) in tests {
        code.push(load(ARGUMENTS_AT + 8 * u32::from(test.argument)));
        if test.mask != u32::MAX {
            code.push(Instruction { code: AND, then: 0, otherwise: 0, operand: test.mask });
        }
        for (at, &value) in test.one_of.iter().enumerate() {
            // Over the comparisons that are left, and over the verdict behind them; or over the jump that is
            // before it then.
            let skip = u8::try_from(test.one_of.len() - at).expect("a test has few values");
            code.push(Instruction { code: IF_EQUAL, then: skip, otherwise: 0, operand: value });
        }
        if test.negated {
            code.push(Instruction { code: JUMP, then: 0, otherwise: 0, operand: 1 });
        }
        code.push(give(*or));
    }
    code.push(give(then));
    code
}

const fn load(at: u32) -> Instruction {
    Instruction { code: LOAD, then: 0, otherwise: 0, operand: at }
}

const fn give(verdict: Verdict) -> Instruction {
    let operand = match verdict {
        Verdict::Allow => libc::SECCOMP_RET_ALLOW,
        Verdict::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        Verdict::Kill => libc::SECCOMP_RET_KILL_PROCESS,
    };
    Instruction { code: RETURN, then: 0, otherwise: 0, operand }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::filter::policy;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Runs a filter as the kernel would, and gives what it returns.
    fn run(filter: &[Instruction], number: u32, arch: u32, arguments: &[u64; 6]) -> u32 {
        counted(filter, number, arch, arguments).0
    }

    /// As [`run`], and how many instructions that took.
    fn counted(
        filter: &[Instruction],
        number: u32,
        arch: u32,
        arguments: &[u64; 6],
    ) -> (u32, usize) {
        let mut steps = 0;
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend(0_u64.to_le_bytes());
        arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
        let (mut at, mut a) = (0, 0);
        loop {
            let Instruction { code, then, otherwise, operand } = filter[at];
            at += 1;
            steps += 1;
            let jump = |holds| usize::from(if holds { then } else { otherwise });
            match code {
                LOAD => {
                    let from = operand as usize;
                    a = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
                }
                AND => a &= operand,
                JUMP => at += operand as usize,
                IF_EQUAL => at += jump(a == operand),
                IF_AT_LEAST => at += jump(a >= operand),
                RETURN => return (operand, steps),
                other => panic!("instruction {other:#x} is none of ours"),
            }
        }
    }

    fn same(policy: &Policy, filter: &[Instruction], number: u32, arguments: &[u64; 6]) -> bool {
        let expected = give(policy.decide(number, arguments)).operand;
        run(filter, number, ARCH_X86_64, arguments) == expected
    }

    fn any_verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![Just(Verdict::Allow), (0..40_u16).prop_map(Verdict::Errno), Just(Verdict::Kill)]
    }

    fn any_test() -> impl Strategy<Value = Test> {
        let mask = prop_oneof![Just(u32::MAX), any::<u32>(), 0..16_u32];
        (0..6_u8, mask, prop::collection::vec(0..8_u32, 1..20), any::<bool>())
            .prop_map(|(argument, mask, one_of, negated)| Test { argument, mask, one_of, negated })
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let tests = prop::collection::vec((any_test(), any_verdict()), 1..4);
        prop_oneof![
            any_verdict().prop_map(Rule::Always),
            (tests, any_verdict()).prop_map(|(tests, then)| Rule::If { tests, then })
        ]
    }

    fn few_rules() -> impl Strategy<Value = BTreeMap<u32, Rule>> {
        prop::collection::btree_map(0..400_u32, any_rule(), 0..6)
    }

    proptest! {
        #[test]
        fn any_policy_with_few_rules_is_compiled_to_what_it_says(
            rules in few_rules(),
            otherwise in any_verdict(),
            calls in prop::collection::vec((0..450_u32, prop::array::uniform6(0..10_u64)), 50),
        ) {
            // At most 6 rules of 3 tests with 19 values: kept below a jump by the number of values.
            let small = |rule: &Rule| match rule {
                Rule::If { tests, .. } => tests.iter().map(|(test, _)| test.one_of.len()).sum::<usize>() < 30,
                Rule::Always(_) => true,
            };
            let rules = rules.into_iter().filter(|(_, rule)| small(rule)).collect();
            let policy = Policy { rules, otherwise };
            let filter = further::compile(&policy);
            for number in policy.rules.keys().flat_map(|n| [n.saturating_sub(1), *n, n + 1]) {
                prop_assert!(same(&policy, &filter, number, &[3; 6]), "{number}");
            }
            for (number, arguments) in calls {
                prop_assert!(same(&policy, &filter, number, &arguments), "{number} {arguments:?}");
            }
        }

        #[test]
        fn any_policy_is_compiled_to_what_it_says(
            rules in prop::collection::btree_map(0..400_u32, any_rule(), 0..60),
            otherwise in any_verdict(),
            calls in prop::collection::vec((0..450_u32, prop::array::uniform6(0..10_u64)), 50),
        ) {
            let policy = Policy { rules, otherwise };
            let filter = compile(&policy);
            for (number, arguments) in calls {
                prop_assert!(same(&policy, &filter, number, &arguments), "{number} {arguments:?}");
            }
        }

        #[test]
        fn the_policy_of_tasks_holds_for_any_call(number: u32, arguments in prop::array::uniform6(any::<u64>())) {
            let policy = policy::task();
            prop_assert!(same(&policy, &compile(&policy), number, &arguments));
        }
    }

    #[test]
    fn the_policy_of_tasks_holds_for_every_number_there_is() {
        let policy = policy::task();
        let filter = compile(&policy);
        let values = [0, 1, 2, 3, 4, 0x5401, 0x5412, 0x1000_0000, 0x2000, u64::MAX];
        for number in 0..1024 {
            for value in values {
                assert!(same(&policy, &filter, number, &[value; 6]), "{number} {value:#x}");
            }
        }
    }

    #[test]
    fn a_further_filter_does_what_its_policy_says_and_is_short() {
        for policy in [policy::task(), policy::standing()] {
            let rest = policy::beyond_nursery(&policy);
            let (plain, filter) = (compile(&rest), further::compile(&rest));
            let values = [0, 1, 0x5401, 0x5412, 22, 24, 28, 47, 0x2000, u64::MAX];
            for number in (0..1024).chain([0x4000_0000, u32::MAX]) {
                for value in values {
                    assert!(same(&rest, &filter, number, &[value; 6]), "{number} {value:#x}");
                }
            }
            let steps = |filter: &[Instruction]| -> usize {
                (0..512).map(|number| counted(filter, number, ARCH_X86_64, &[0; 6]).1).sum()
            };
            assert!(steps(&filter) < steps(&plain), "{} {}", steps(&filter), steps(&plain));
            let (short, long) = (filter.len(), plain.len());
            assert!(short * 4 < long * 3, "{short} instructions and {long}");
            println!("{short} {long} {} {}", steps(&filter), steps(&plain));
        }
    }

    #[test]
    fn another_architecture_is_killed() {
        let filter = compile(&policy::task());
        let i386 = 0x4000_0003;
        assert_eq!(run(&filter, 0, i386, &[0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn the_numbers_of_x32_do_not_exist() {
        let policy = policy::task();
        let read_of_x32 = 0x4000_0000;
        let got = run(&compile(&policy), read_of_x32, ARCH_X86_64, &[0; 6]);
        assert_eq!(got, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    }

    #[test]
    fn the_filter_is_short_and_searched_by_halves() {
        let filter = compile(&policy::task());
        assert!(filter.len() < 512, "{} instructions", filter.len());
        let empty = Policy { rules: BTreeMap::new(), otherwise: Verdict::Allow };
        assert_eq!(compile(&empty).len(), 5);
    }
}
