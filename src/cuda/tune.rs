//! The fastest plan of a convolution, found by running them all.

mod cache;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::cache::{Cache, Choice};
use super::buffer::DeviceBuffer;
use super::conv_plan::{self, Plan, Traits, plans};
use super::conv_task::Task;
use super::device::CudaDevice;
use super::kernel;
use crate::element::DType;
use crate::error::{Error, Result};
use crate::ops::{Layouts, Write};
use crate::problem::{ConvProblem, Pass};

/// Runs of a plan whose median counts, after one that does not.
const RUNS: usize = 5;

/// How many times as long as the best one a plan may take to be run more than once.
const HOPELESS: u32 = 3;

/// Whether a device tries out how to run its convolutions.
///
/// Where it is on, the first convolution of its kind (problem, pass, element type, memory orders,
/// [`MathMode`](crate::MathMode), workspace limit) runs by every plan that the planner lists, some
/// times over, and later ones by the fastest. Plans that fail are left out, with a warning through
/// the crate `log`. Two plans may add in different orders, so the last bits of a result can differ
/// from one choice to another; a cache makes the choices once and for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Autotune {
    /// The planner decides.
    #[default]
    Off,
    /// Measurements decide.
    On {
        /// A file that keeps the choices, for this and other devices. What was measured with
        /// another GPU, driver or build of the kernels does not count. A file that is no such
        /// cache is left alone, with a warning. `None` keeps them in memory.
        cache: Option<PathBuf>,
    },
}

/// What a device has tried out so far.
#[derive(Default)]
pub(super) struct Tuner(Mutex<State>);

#[derive(Default)]
struct State {
    mode: Autotune,
    chosen: HashMap<Question, Plan>,
    cache: Option<Cache>,
}

/// All that a choice depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Question {
    problem: ConvProblem<4>,
    pass: Pass,
    dtype: DType,
    layouts: Layouts,
    write: Write,
    traits: Traits,
}

impl Tuner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CudaDevice {
    /// From now on convolutions of this device, in every clone, are tuned so. Choices made before
    /// are forgotten, and those of the cache file are read.
    ///
    /// ```
    /// use ndconv::{Autotune, CopyTiming, CudaDevice};
    /// # if let Ok(device) = CudaDevice::emulator(0, CopyTiming::Eager) {
    /// assert_eq!(device.autotune(), Autotune::Off);
    /// device.set_autotune(Autotune::On { cache: None });
    /// # }
    /// ```
    pub fn set_autotune(&self, mode: Autotune) {
        let cache = match &mode {
            Autotune::On { cache: Some(path) } => {
                let environment =
                    format!("{}, kernels {}", self.backend().identity(), kernel::hash());
                Some(Cache::open(path, environment))
            }
            _ => None,
        };
        *self.tuner().lock() = State {
            mode,
            chosen: HashMap::new(),
            cache,
        };
    }

    /// How convolutions of this device are tuned.
    pub fn autotune(&self) -> Autotune {
        self.tuner().lock().mode.clone()
    }
}

/// The plan for a pass: the planner's first, or where the device is tuned the fastest. `run` runs
/// a plan into a buffer like `result`, whose content it may spoil only when it overwrites.
pub(super) fn plan(
    device: &CudaDevice,
    task: &Task,
    write: Write,
    result: &mut DeviceBuffer,
    mut run: impl FnMut(&Plan, &mut DeviceBuffer) -> Result<()>,
) -> Result<Plan> {
    let (question, plans) = match settled(device, task, write)? {
        Settled::Known(plan) => return Ok(plan),
        Settled::Open(question, plans) => (question, plans),
    };
    let mut race = |result: &mut DeviceBuffer| {
        let backend = device.backend();
        fastest(&plans, |plan| {
            let start = backend.mark()?;
            run(plan, result)?;
            backend.elapsed(start, backend.mark()?)
        })
    };
    let raced = match write {
        Write::Overwrite => race(result),
        // what is there must be added to once
        Write::Accumulate => device.with_scratch(result.bytes(), race),
    };
    match raced {
        Ok(winner) => {
            device.tuner().lock().choose(*question, winner);
            Ok(winner.plan)
        }
        // not a property of the plans: there may be room the next time
        Err(Error::OutOfMemory { .. }) => {
            log::warn!("{}: no memory to tune {question} in", device.name());
            conv_plan::plan(task, &question.traits)
        }
        Err(error) => Err(error),
    }
}

/// What is known of a task before anything is run.
enum Settled {
    Known(Plan),
    /// To be found out among these plans.
    Open(Box<Question>, Vec<Plan>),
}

fn settled(device: &CudaDevice, task: &Task, write: Write) -> Result<Settled> {
    let traits = device.traits();
    if device.tuner().lock().mode == Autotune::Off {
        return conv_plan::plan(task, &traits).map(Settled::Known);
    }
    let question = Question {
        problem: *task.problem,
        pass: task.pass,
        dtype: task.dtype,
        layouts: task.layouts,
        write,
        traits,
    };
    if let Some(plan) = device.tuner().lock().chosen.get(&question) {
        return Ok(Settled::Known(*plan));
    }
    let mut plans = plans(task, &traits)?;
    // what the user prefers, and can have, is not for measurements to decide
    let wish = traits.preferred;
    if wish.is_some() && wish == plans.first().map(|plan| plan.algorithm) {
        plans.retain(|plan| Some(plan.algorithm) == wish);
    }
    Ok(match device.tuner().lock().remembered(&question, &plans) {
        Some(plan) => Settled::Known(plan),
        None => Settled::Open(Box::new(question), plans),
    })
}

/// The plan that a task has now: the one measured, or until then the planner's first.
pub(super) fn current(device: &CudaDevice, task: &Task, write: Write) -> Result<Plan> {
    match settled(device, task, write)? {
        Settled::Known(plan) => Ok(plan),
        Settled::Open(question, _) => conv_plan::plan(task, &question.traits),
    }
}

/// The fastest of some plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Winner {
    plan: Plan,
    /// The median.
    time: Duration,
    /// Another plan had no memory to run in: not to be kept for times when there is more.
    short_of_memory: bool,
}

impl State {
    /// The choice of the cache file, if it is one of these plans.
    fn remembered(&mut self, question: &Question, plans: &[Plan]) -> Option<Plan> {
        let choice = self.cache.as_ref()?.find(&question.to_string())?;
        let plan = plans.iter().find(|plan| choice.is_of(plan)).copied()?;
        self.chosen.insert(*question, plan);
        Some(plan)
    }

    fn choose(&mut self, question: Question, winner: Winner) {
        self.chosen.insert(question, winner.plan);
        if let (Some(cache), false) = (&mut self.cache, winner.short_of_memory) {
            let choice = Choice::new(&winner.plan, winner.time);
            cache.record(&question.to_string(), choice);
        }
    }
}

/// The plan that takes the least time. Plans that fail are left out; if all do, what the first one
/// said is the error.
fn fastest(plans: &[Plan], mut time: impl FnMut(&Plan) -> Result<Duration>) -> Result<Winner> {
    let mut best: Option<(Plan, Duration)> = None;
    let mut failure = None;
    let mut short_of_memory = false;
    for plan in plans {
        match median(|| time(plan), best.map(|(_, time)| time)) {
            Ok(median) if best.is_none_or(|(_, time)| median < time) => {
                best = Some((*plan, median));
            }
            Ok(_) => {}
            Err(error) => {
                log::warn!("autotuning leaves out {plan}: {error}");
                short_of_memory |= matches!(error, Error::OutOfMemory { .. });
                failure.get_or_insert(error);
            }
        }
    }
    let nothing = || Error::Unsupported {
        what: "a convolution without a plan".into(),
    };
    let (plan, time) = best.ok_or_else(|| failure.unwrap_or_else(nothing))?;
    Ok(Winner {
        plan,
        time,
        short_of_memory,
    })
}

fn median(mut time: impl FnMut() -> Result<Duration>, best: Option<Duration>) -> Result<Duration> {
    time()?; // loads code, finds memory
    let first = time()?;
    if best.is_some_and(|best| first > best.saturating_mul(HOPELESS)) {
        return Ok(first);
    }
    let mut times = vec![first];
    for _ in 1..RUNS {
        times.push(time()?);
    }
    times.sort_unstable();
    Ok(times[RUNS / 2])
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question {
            problem: p,
            layouts,
            traits,
            ..
        } = self;
        let (pass, dtype) = (self.pass.name(), self.dtype);
        let (x, w) = (layouts.activation, layouts.weight);
        write!(f, "{pass} {dtype} {x} weight {w}")?;
        write!(f, " n={} c={}", p.batch(), p.in_channels())?;
        write!(f, " k={} groups={}", p.out_channels(), p.groups())?;
        write!(f, " size={:?} kernel={:?}", p.input(), p.kernel_size())?;
        write!(f, " stride={:?} dilation={:?}", p.stride(), p.dilation())?;
        write!(f, " pad={:?} output={:?}", p.padding(), p.output())?;
        write!(f, " {:?} {:?}", self.write, traits.math)?;
        if let Some(algorithm) = traits.preferred {
            write!(f, " prefer={algorithm}")?;
        }
        if let Some(limit) = traits.workspace_limit {
            write!(f, " workspace={limit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
