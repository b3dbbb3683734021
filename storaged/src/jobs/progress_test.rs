//! The core of jobs against a model that keeps every task in a list of its own.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn spec(shapes: &[Shape]) -> JobSpec {
    let phases = shapes.iter().map(|shape| match shape {
        Shape::Map => serde_json::json!({"exec": "cat"}),
        Shape::Reduce { count } => {
            serde_json::json!({"type": "reduce", "exec": "cat", "count": count})
        }
    });
    serde_json::from_value(serde_json::json!({"phases": phases.collect::<Vec<_>>()})).unwrap()
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = prop_oneof![
        3 => Just(Shape::Map),
        2 => (1..5_u32).prop_map(|count| Shape::Reduce { count }),
    ];
    prop::collection::vec(shape, 1..5)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Waiting,
    Ready,
    Running,
    Settled,
}

/// What a reader of the records would see.
struct Model {
    job: Progress,
    tasks: BTreeMap<(usize, u64), Task>,
    clearing: Vec<usize>,
    reducer_inputs: BTreeMap<(usize, u32), Vec<u64>>,
    errors: u64,
    outputs: u64,
    finished: u32,
}

impl Model {
    fn new(shapes: &[Shape]) -> Self {
        let mut tasks = BTreeMap::new();
        for (phase, shape) in shapes.iter().enumerate() {
            if let Shape::Reduce { count } = shape {
                tasks.extend((0..u64::from(*count)).map(|n| ((phase, n), Task::Waiting)));
            }
        }
        Self {
            job: Progress::new(&spec(shapes)),
            tasks,
            clearing: Vec::new(),
            reducer_inputs: BTreeMap::new(),
            errors: 0,
            outputs: 0,
            finished: 0,
        }
    }

    fn some_task(&self, state: Task, choice: usize) -> Option<(usize, u64)> {
        let found: Vec<_> =
            self.tasks.iter().filter(|(_, s)| **s == state).map(|(k, _)| *k).collect();
        (!found.is_empty()).then(|| found[choice % found.len()])
    }

    /// Applies an event that moves `task` to `to`.
    fn apply(&mut self, event: Event, task: Option<((usize, u64), Task)>) {
        let (job, effects) = step(&self.job, event, 7).unwrap();
        self.job = job;
        if let Some((key, to)) = task {
            assert_ne!(self.tasks.insert(key, to), Some(Task::Settled), "settled twice: {key:?}");
        }
        for effect in effects {
            match effect {
                Effect::AddTask { phase, number } => {
                    assert_eq!(self.tasks.insert((phase, number), Task::Ready), None);
                }
                Effect::AddReducerInput { phase, reducer, number } => {
                    self.reducer_inputs.entry((phase, reducer)).or_default().push(number);
                }
                Effect::OpenReducers { phase, count } => {
                    for n in 0..u64::from(count) {
                        let was = self.tasks.insert((phase, n), Task::Ready);
                        assert_eq!(was, Some(Task::Waiting));
                    }
                }
                Effect::AddOutput { number } => {
                    assert_eq!(number, self.outputs);
                    self.outputs += 1;
                }
                Effect::AddError { number } => {
                    assert_eq!(number, self.errors);
                    self.errors += 1;
                }
                Effect::Consumed { phase } => {
                    if let Shape::Reduce { .. } = self.job.phases[phase].shape {
                        self.clearing.push(phase);
                    }
                }
                Effect::Finished => self.finished += 1,
            }
        }
        self.check();
    }

    fn check(&self) {
        let count = |state| self.tasks.values().filter(|s| **s == state).count() as u64;
        let stats = self.job.stats();
        assert_eq!(stats.tasks, self.tasks.len() as u64);
        assert_eq!(stats.tasks_done, count(Task::Settled));
        assert_eq!((stats.errors, stats.outputs), (self.errors, self.outputs));
        assert_eq!(self.job.phases.iter().map(|p| p.ready).sum::<u64>(), count(Task::Ready));
        assert_eq!(self.job.phases.iter().map(|p| p.running).sum::<u64>(), count(Task::Running));
        let over = self.job.intake != Intake::Open
            && count(Task::Settled) == self.tasks.len() as u64
            && self.clearing.is_empty();
        assert_eq!(self.job.state() == JobState::Done, over);
        assert_eq!(self.finished, u32::from(over));
    }

    /// Picks one of the events that may happen now; none if the choice does not apply.
    fn act(&mut self, choice: u8, pick: usize) {
        let open = self.job.intake == Intake::Open;
        let cancelled = self.job.cancelled();
        let ready = self.some_task(Task::Ready, pick);
        let running = self.some_task(Task::Running, pick);
        match choice {
            0..=5 if open => self.apply(Event::InputAccepted, None),
            6 if open => self.apply(Event::InputRefused, None),
            7 if pick.is_multiple_of(4) && open => self.apply(Event::InputEnded, None),
            8 if pick.is_multiple_of(16) && !cancelled && self.finished == 0 => {
                self.apply(Event::Cancelled, None);
            }
            _ => self.act_on_task(choice, ready, running),
        }
    }

    fn act_on_task(
        &mut self,
        choice: u8,
        ready: Option<(usize, u64)>,
        running: Option<(usize, u64)>,
    ) {
        let cancelled = self.job.cancelled();
        match (choice, ready, running) {
            (9..=14, Some(key), _) if cancelled => {
                self.apply(Event::Swept(key.0), Some((key, Task::Settled)));
            }
            (9..=13, Some(key), _) => self.apply(Event::Claimed(key.0), Some((key, Task::Running))),
            (14, Some(key), _) => self.apply(Event::Refused(key.0), Some((key, Task::Settled))),
            (15, _, Some(key)) => self.apply(Event::Lost(key.0), Some((key, Task::Ready))),
            (16..=20, _, Some(key)) if !cancelled => {
                self.apply(Event::Committed(key.0), Some((key, Task::Settled)));
            }
            (16..=22, _, Some(key)) => self.apply(Event::Failed(key.0), Some((key, Task::Settled))),
            _ => {
                if let Some(phase) = self.clearing.pop() {
                    self.apply(Event::Cleared(phase), None);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn every_task_is_settled_once_and_the_job_is_done_when_none_is_left(
        shapes in shapes(),
        acts in prop::collection::vec((0..24_u8, 0..1000_usize), 0..200),
    ) {
        let mut model = Model::new(&shapes);
        for (choice, pick) in acts {
            model.act(choice, pick);
        }
        if model.job.intake == Intake::Open {
            model.apply(Event::InputEnded, None);
        }
        for turn in 0..100_000_usize {
            if model.finished == 1 {
                break;
            }
            model.act(9 + (turn % 2) as u8 * 7, turn);
            model.act(23, turn);
        }
        prop_assert_eq!(model.finished, 1);
    }

    #[test]
    fn any_event_leaves_counters_that_add_up_or_is_refused(
        shapes in shapes(),
        events in prop::collection::vec((0..11_u8, 0..6_usize), 0..60),
    ) {
        let mut job = Progress::new(&spec(&shapes));
        for (kind, phase) in events {
            let event = match kind {
                0 => Event::InputAccepted,
                1 => Event::InputRefused,
                2 => Event::InputEnded,
                3 => Event::Cancelled,
                4 => Event::Claimed(phase),
                5 => Event::Refused(phase),
                6 => Event::Committed(phase),
                7 => Event::Failed(phase),
                8 => Event::Lost(phase),
                9 => Event::Swept(phase),
                _ => Event::Cleared(phase),
            };
            if let Ok((next, _)) = step(&job, event, 1) {
                job = next;
            }
            for p in &job.phases {
                let waiting = match p.shape {
                    Shape::Reduce { count } if !p.opened => u64::from(count),
                    Shape::Reduce { .. } | Shape::Map => 0,
                };
                prop_assert_eq!(p.tasks, waiting + p.ready + p.running + p.settled);
            }
        }
    }

    #[test]
    fn inputs_are_spread_over_reducers_by_number(inputs in 0..40_u64, count in 1..7_u32) {
        let mut model = Model::new(&[Shape::Reduce { count }]);
        for _ in 0..inputs {
            model.apply(Event::InputAccepted, None);
        }
        for ((_, reducer), numbers) in model.reducer_inputs {
            let expected: Vec<u64> = (u64::from(reducer)..inputs).step_by(count as usize).collect();
            prop_assert_eq!(numbers, expected);
        }
    }
}

#[test]
fn a_reduce_phase_without_inputs_runs_all_the_same() {
    let mut model = Model::new(&[Shape::Map, Shape::Reduce { count: 2 }]);
    model.apply(Event::InputEnded, None);
    assert_eq!(model.job.claimable(1), 2);
    assert_eq!(model.job.state(), JobState::Queued);
}

#[test]
fn a_map_job_without_inputs_is_done_at_once() {
    let mut model = Model::new(&[Shape::Map, Shape::Map]);
    model.apply(Event::InputEnded, None);
    assert_eq!(model.job.state(), JobState::Done);
}

#[test]
fn a_reducer_waits_for_the_last_map() {
    let mut model = Model::new(&[Shape::Map, Shape::Reduce { count: 1 }]);
    model.apply(Event::InputAccepted, None);
    model.apply(Event::InputEnded, None);
    model.apply(Event::Claimed(0), Some(((0, 0), Task::Running)));
    assert_eq!(model.job.claimable(1), 0);
    model.apply(Event::Failed(0), Some(((0, 0), Task::Settled)));
    assert_eq!(model.job.claimable(1), 1);
}

#[test]
fn a_cancelled_job_takes_no_input_and_gives_no_task() {
    let mut model = Model::new(&[Shape::Map]);
    model.apply(Event::InputAccepted, None);
    model.apply(Event::Cancelled, None);
    assert_eq!(model.job.claimable(0), 0);
    assert_eq!(step(&model.job, Event::InputAccepted, 0), Err(Refusal::InputOver));
    assert_eq!(step(&model.job, Event::InputEnded, 0), Err(Refusal::InputOver));
    assert_eq!(step(&model.job, Event::Cancelled, 0), Err(Refusal::Over));
}

#[test]
fn ending_the_input_twice_is_fine_while_the_job_lives() {
    let mut model = Model::new(&[Shape::Reduce { count: 1 }]);
    model.apply(Event::InputEnded, None);
    model.apply(Event::InputEnded, None);
    assert_eq!(model.job.claimable(0), 1);
}
