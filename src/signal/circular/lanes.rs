//! Circular operations on many short rows: a row a lane, through transforms across the lanes.

use std::ops::Range;

use rayon::prelude::*;

use super::CircularOperation;
use super::engine::{CHUNK, PARALLEL};
use super::geometry::Pairing;
use crate::cpu::output::by_parts;
use crate::cpu::simd::{Factor, FourierPlan, Level, transpose};
use crate::signal::Real;
use crate::signal::kept::{keep, take};

/// `z[o] = sum over its pairs (i, j) of a[i] op b[j]`, rows of as many elements as the plan has,
/// unless there are too few rows to fill the lanes.
pub(super) fn sums<R: Real>(
    operation: CircularOperation,
    plan: &FourierPlan<R>,
    [a, b]: [&[R]; 2],
    pairing: &Pairing,
) -> Option<Vec<R>> {
    let rows = Rows::new(plan);
    let (outputs, lanes) = (pairing.outputs(), rows.lanes);
    let each = pairing.len().checked_div(outputs)?;
    // lanes hold outputs, or pairs of one output
    let by_output = outputs >= lanes && each <= CHUNK;
    if each == 0 || !(by_output || each >= lanes) {
        return None;
    }
    let sums = Sums {
        operation,
        rows,
        a: Operand::new(rows, a, pairing.len()),
        b: Operand::new(rows, b, pairing.len()),
    };
    let n = plan.len();
    if by_output {
        let [out] = rows.by_groups(outputs, |memory, outputs, [out]| {
            for step in 0..each {
                let pairs = outputs.clone().map(|o| pairing.of(o)[step]);
                sums.add(pairs, step == 0, memory);
            }
            plan.inverse(rows.level, &mut memory.sum);
            rows.store(&memory.sum, out);
        });
        return Some(out);
    }
    let mut z = vec![R::zero(); outputs * n];
    for (o, z) in z.chunks_mut(n).enumerate() {
        let part = |memory: &mut Memory<R>, pairs: &[(usize, usize)]| {
            for (step, pairs) in pairs.chunks(lanes).enumerate() {
                sums.add(pairs.iter().copied(), step == 0, memory);
            }
            let vectors = memory.sum.chunks(lanes);
            vectors.map(|lanes| lanes.iter().copied().sum()).collect()
        };
        let parts: Vec<Vec<R>> = pairing
            .of(o)
            .par_chunks(CHUNK)
            .map_init(|| Memory::new(rows), part)
            .collect();
        let memory = &mut Memory::new(rows);
        memory.sum.fill(R::zero());
        for part in parts {
            let first_lane = memory.sum.iter_mut().step_by(lanes);
            first_lane.zip(part).for_each(|(sum, part)| *sum += part);
        }
        plan.inverse(rows.level, &mut memory.sum);
        rows.store(&memory.sum, z);
    }
    Some(z)
}

/// Two sums over three operands of as many rows, row by row: every spectrum is made once.
pub(super) fn both_sums<R: Real>(
    sums: [(CircularOperation, super::Operand, super::Operand); 2],
    plan: &FourierPlan<R>,
    operands: [&[R]; 3],
) -> Option<[Vec<R>; 2]> {
    let rows = Rows::new(plan);
    let count = operands[0].len() / plan.len();
    (count >= rows.lanes).then(|| {
        rows.by_groups(count, |memory, numbers, out| {
            for (loaded, elements) in memory.loaded.iter_mut().zip(operands) {
                rows.load(elements, numbers.clone(), loaded);
                plan.forward(rows.level, &mut loaded.lanes);
            }
            for ((operation, a, b), out) in sums.into_iter().zip(out) {
                let factors = [a, b].map(|o| Factor::Lanes(&memory.loaded[o as usize].lanes));
                let conj = operation == CircularOperation::Correlate;
                plan.multiply(rows.level, factors, conj, true, &mut memory.sum);
                plan.inverse(rows.level, &mut memory.sum);
                rows.store(&memory.sum, out);
            }
        })
    })
}

/// How rows go into lanes and back.
#[derive(Clone, Copy)]
struct Rows<'a, R> {
    plan: &'a FourierPlan<R>,
    level: Level,
    lanes: usize,
}

impl<'a, R: Real> Rows<'a, R> {
    fn new(plan: &'a FourierPlan<R>) -> Self {
        let level = Level::best();
        let lanes = R::geometry(level).lanes;
        Rows { plan, level, lanes }
    }

    /// Results of `count` rows each, made a group of rows with these numbers at a time.
    fn by_groups<const N: usize>(
        &self,
        count: usize,
        make: impl Fn(&mut Memory<R>, Range<usize>, [&mut [R]; N]) + Sync + Send,
    ) -> [Vec<R>; N] {
        let (n, lanes) = (self.plan.len(), self.lanes);
        let least = PARALLEL.div_ceil(n * lanes);
        let work = || Memory::new(*self);
        by_parts(count * n, n * lanes, least, work, |memory, group, out| {
            let first = group * lanes;
            make(memory, first..count.min(first + lanes), out);
        })
    }

    /// Rows of these numbers into the lanes; lanes without a row are 0.
    fn load(
        &self,
        rows: &[R],
        numbers: impl Iterator<Item = usize> + Clone,
        memory: &mut Loaded<R>,
    ) {
        let (n, lanes) = (self.plan.len(), self.lanes);
        let count = numbers.clone().count();
        let Some(first) = numbers.clone().next() else {
            return;
        };
        if count < lanes {
            memory.lanes.fill(R::zero());
        }
        let consecutive = numbers.clone().zip(first..).all(|(number, i)| number == i);
        let from = if consecutive {
            &rows[first * n..]
        } else {
            memory.gathered.clear();
            numbers.for_each(|i| memory.gathered.extend_from_slice(&rows[i * n..][..n]));
            &memory.gathered
        };
        transpose(self.level, from, n, (count, n), &mut memory.lanes, lanes);
    }

    /// The first lanes as rows.
    fn store(&self, lanes: &[R], rows: &mut [R]) {
        let n = self.plan.len();
        let size = (n, rows.len() / n);
        transpose(self.level, lanes, self.lanes, size, rows, n);
    }
}

/// One operand: its rows, or their spectra where each is met more than once.
enum Operand<'a, R> {
    Rows(&'a [R]),
    Spectra(Vec<R>),
}

impl<'a, R: Real> Operand<'a, R> {
    fn new(rows: Rows<R>, elements: &'a [R], meetings: usize) -> Self {
        let n = rows.plan.len();
        if elements.len() >= meetings.saturating_mul(n) {
            return Operand::Rows(elements);
        }
        let [spectra] = rows.by_groups(elements.len() / n, |memory, numbers, [spectra]| {
            let [loaded, ..] = &mut memory.loaded;
            rows.load(elements, numbers, loaded);
            rows.plan.forward(rows.level, &mut loaded.lanes);
            rows.store(&loaded.lanes, spectra);
        });
        Operand::Spectra(spectra)
    }

    /// The spectra of rows of these numbers.
    fn spectra<'s>(
        &'s self,
        rows: Rows<R>,
        numbers: impl Iterator<Item = usize> + Clone,
        memory: &'s mut Loaded<R>,
    ) -> Factor<'s, R> {
        match self {
            Operand::Rows(elements) => {
                rows.load(elements, numbers, memory);
                rows.plan.forward(rows.level, &mut memory.lanes);
            }
            Operand::Spectra(spectra) => {
                let mut same = numbers.clone();
                if let Some(first) = same.next()
                    && same.all(|number| number == first)
                {
                    return Factor::One(&spectra[first * rows.plan.len()..]);
                }
                rows.load(spectra, numbers, memory);
            }
        }
        Factor::Lanes(&memory.lanes)
    }
}

struct Sums<'a, R> {
    operation: CircularOperation,
    rows: Rows<'a, R>,
    a: Operand<'a, R>,
    b: Operand<'a, R>,
}

impl<R: Real> Sums<'_, R> {
    /// Adds the spectra of `a[i] op b[j]`, a pair a lane, to the sums.
    fn add(
        &self,
        pairs: impl Iterator<Item = (usize, usize)> + Clone,
        first: bool,
        memory: &mut Memory<R>,
    ) {
        let Rows { plan, level, .. } = self.rows;
        let [of_a, of_b, _] = &mut memory.loaded;
        let a = self.a.spectra(self.rows, pairs.clone().map(|p| p.0), of_a);
        let b = self.b.spectra(self.rows, pairs.map(|p| p.1), of_b);
        let conj = self.operation == CircularOperation::Correlate;
        plan.multiply(level, [a, b], conj, first, &mut memory.sum);
    }
}

/// Rows in lanes.
#[derive(Default)]
struct Loaded<R> {
    lanes: Vec<R>,
    gathered: Vec<R>,
}

/// Memory of one thread, which it keeps for the next call.
struct Memory<R: Real> {
    loaded: [Loaded<R>; 3],
    sum: Vec<R>,
}

impl<R: Real> Memory<R> {
    fn new(rows: Rows<R>) -> Self {
        let (mut loaded, mut sum) = take::<([Loaded<R>; 3], Vec<R>)>();
        let size = rows.plan.len() * rows.lanes;
        for lanes in loaded.iter_mut().map(|l| &mut l.lanes).chain([&mut sum]) {
            lanes.resize(size, R::zero());
        }
        Memory { loaded, sum }
    }
}

impl<R: Real> Drop for Memory<R> {
    fn drop(&mut self) {
        let Memory { loaded, sum } = self;
        keep((std::mem::take(loaded), std::mem::take(sum)));
    }
}
