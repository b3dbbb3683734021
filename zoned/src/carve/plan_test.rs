//! The plan by example, and against a cgroup that is a map.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const DISK: Disk = Disk { major: 254, minor: 16 };

fn value(settings: &[Setting], file: &str) -> String {
    settings.iter().find(|s| s.file == file).unwrap().value.clone()
}

#[test]
fn the_default_carve_writes_what_differs_from_a_fresh_cgroup() {
    let steps = plan(&of_zone(&Carve::default(), Some(DISK)), |setting| Some(fresh(setting)));
    let files: Vec<&str> = steps.iter().map(|step| step.file).collect();
    let expected = ["memory.max", "memory.oom.group", "memory.swap.max", "pids.max"];
    assert_eq!(files, expected);
}

#[test]
fn rates_are_spelled_for_the_disk_that_holds_the_data() {
    let io = IoRates { write_bytes: Some(1_000_000), reads: Some(50), ..IoRates::default() };
    let carve = Carve { cpu_milli: Some(1500), io, ..Carve::default() };
    let all = of_zone(&carve, Some(DISK));
    assert_eq!(value(&all, "io.max"), "254:16 rbps=max wbps=1000000 riops=50 wiops=max");
    assert_eq!(value(&all, "cpu.max"), "150000 100000");
    assert!(of_zone(&carve, None).iter().all(|setting| setting.file != "io.max"));
}

#[test]
fn what_the_kernel_says_is_understood_in_its_own_spelling() {
    let all = of_zone(&Carve { cpus: Some("1,0".to_owned()), ..Carve::default() }, Some(DISK));
    let find = |file: &str| all.iter().find(|s| s.file == file).unwrap();
    assert_eq!(in_force(find("io.weight"), "default 100\n8:0 50\n"), "100");
    assert!(holds(find("cpuset.cpus"), &in_force(find("cpuset.cpus"), "0-1\n")));
    assert!(!holds(find("cpuset.cpus"), "0"));
    let other = in_force(find("io.max"), "8:0 rbps=1 wbps=max riops=max wiops=max\n");
    assert!(holds(find("io.max"), &other), "{other}");
    let capped = in_force(find("io.max"), "254:16 rbps=1 wbps=max riops=max wiops=max\n");
    assert!(!holds(find("io.max"), &capped));
}

#[test]
fn a_controller_that_is_missing_is_named_with_what_is_lost() {
    let controllers = Controllers::parse("cpuset cpu io hugetlb pids\n");
    assert!(controllers.has(Controller::Io) && !controllers.has(Controller::Memory));
    let expected = ["no memory controller: zones have no memory limit of their own"];
    assert_eq!(controllers.degraded(), expected);
}

fn any_rates() -> impl Strategy<Value = IoRates> {
    let rate = || prop::option::of(1..u64::MAX);
    (rate(), rate(), rate(), rate()).prop_map(|(read_bytes, write_bytes, reads, writes)| IoRates {
        read_bytes,
        write_bytes,
        reads,
        writes,
    })
}

prop_compose! {
    fn any_carve()(
        cpu_weight in 1..10_000_u32,
        cpu_milli in prop::option::of(10..100_000_u32),
        cpus in prop::option::of("[0-9]{1,2}(,[0-9]{1,2}){0,4}"),
        memory_mib in 8..u32::MAX,
        memory_low_mib in 0..8_u32,
        io_weight in 1..10_000_u32,
        io in any_rates(),
        pids in 4..4_194_304_u32,
    ) -> Carve {
        Carve { cpu_weight, cpu_milli, cpus, memory_mib, memory_low_mib, io_weight, io, pids, ..Carve::default() }
    }
}

/// A cgroup whose files say what was written to them, as this kernel would spell it.
#[derive(Default)]
struct Model(BTreeMap<&'static str, String>);

impl Model {
    fn write(&mut self, setting: &Setting) {
        let text = match setting.kept {
            Kept::Exactly | Kept::ToPages | Kept::AsList => format!("{}\n", setting.value),
            Kept::AsDefault => format!("default {}\n", setting.value),
            Kept::AsLine(disk) if setting.value == io_max(disk, &IoRates::default()) => {
                String::new()
            }
            Kept::AsLine(_) => format!("8:0 rbps=1 wbps=1 riops=1 wiops=1\n{}\n", setting.value),
        };
        self.0.insert(setting.file, text);
    }

    fn read(&self, setting: &Setting) -> String {
        self.0.get(setting.file).map_or_else(|| fresh(setting), |text| in_force(setting, text))
    }
}

proptest! {
    #[test]
    fn after_the_plan_all_limits_are_in_force_and_nothing_is_left_to_do(
        carves in prop::collection::vec(any_carve(), 1..5),
    ) {
        let mut cgroup = Model::default();
        for carve in carves {
            let desired = of_zone(&carve, Some(DISK));
            for step in plan(&desired, |setting| Some(cgroup.read(setting))) {
                prop_assert!(!step.value.contains('\n'));
                cgroup.write(&step);
            }
            for setting in &desired {
                prop_assert!(holds(setting, &cgroup.read(setting)), "{setting:?}");
            }
            prop_assert_eq!(plan(&desired, |setting| Some(cgroup.read(setting))), []);
        }
    }

    #[test]
    fn one_change_is_one_write(carve in any_carve(), memory_mib in 8..u32::MAX) {
        let before = of_zone(&carve, Some(DISK));
        let after = of_zone(&Carve { memory_mib, ..carve }, Some(DISK));
        let known = |setting: &Setting| {
            before.iter().find(|other| other.file == setting.file).map(|other| other.value.clone())
        };
        let steps = plan(&after, known);
        prop_assert!(steps.len() <= 1 && steps.iter().all(|step| step.file == "memory.max"));
    }

    #[test]
    fn a_zone_has_one_end_of_memory_and_nothing_slows_it_before(carve in any_carve()) {
        let all = of_zone(&carve, Some(DISK));
        let max = (u64::from(carve.memory_mib) * MIB).to_string();
        let memory = all.iter().filter(|setting| setting.controller == Controller::Memory);
        for setting in memory {
            let expected = match setting.file {
                "memory.max" => setting.value == max,
                "memory.low" => setting.value.parse::<u64>().unwrap() <= max.parse().unwrap(),
                "memory.oom.group" => setting.value == "1",
                "memory.swap.max" => setting.value == "0",
                _ => false,
            };
            prop_assert!(expected, "{setting:?}");
        }
    }

    #[test]
    fn any_list_is_read_or_none(text in "[0-9,\\- a]{0,20}") {
        let _read_without_a_panic = processors(&text);
    }
}
