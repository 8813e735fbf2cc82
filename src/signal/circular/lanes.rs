//! Circular operations on many short rows: a row a lane, through transforms across the lanes.

use rayon::prelude::*;

use super::CircularOperation;
use super::engine::{CHUNK, PARALLEL};
use super::geometry::Pairing;
use crate::cpu::simd::{Factor, FourierPlan, Level, transpose};
use crate::signal::Real;
use crate::signal::kept::{keep, take};

/// `out[o] = sum over its pairs (i, j) of a[i] op b[j]`, rows of as many elements as the plan has,
/// unless there are too few rows to fill the lanes.
pub(super) fn sums<R: Real>(
    operation: CircularOperation,
    plan: &FourierPlan<R>,
    [a, b]: [&[R]; 2],
    pairing: &Pairing,
    out: &mut [R],
) -> bool {
    let level = Level::best();
    let lanes = R::geometry(level).lanes;
    let (rows, outputs) = (Rows { plan, level, lanes }, pairing.outputs());
    let Some(each) = pairing.len().checked_div(outputs) else {
        return false;
    };
    // lanes hold outputs, or pairs of one output
    let by_output = outputs >= lanes && each <= CHUNK;
    if each == 0 || !(by_output || each >= lanes) {
        return false;
    }
    let sums = Sums {
        operation,
        rows,
        a: Operand::new(rows, a, pairing.len()),
        b: Operand::new(rows, b, pairing.len()),
    };
    let n = plan.len();
    if by_output {
        let one = |memory: &mut Memory<R>, (group, out): (usize, &mut [R])| {
            let first = group * lanes;
            let outputs = first..first + out.len() / n;
            for step in 0..each {
                let pairs = outputs.clone().map(|o| pairing.of(o)[step]);
                sums.add(pairs, step == 0, memory);
            }
            plan.inverse(level, &mut memory.sum);
            rows.store(&memory.sum, out);
        };
        let groups = |out| rows.groups(out).enumerate();
        if pairing.len().saturating_mul(n) < PARALLEL {
            let mut memory = Memory::new(rows);
            out.chunks_mut(n * lanes)
                .enumerate()
                .for_each(|item| one(&mut memory, item));
        } else {
            groups(out).for_each_init(|| Memory::new(rows), one);
        }
        return true;
    }
    for (o, out) in out.chunks_mut(n).enumerate() {
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
        plan.inverse(level, &mut memory.sum);
        rows.store(&memory.sum, out);
    }
    true
}

/// How rows go into lanes and back.
#[derive(Clone, Copy)]
struct Rows<'a, R> {
    plan: &'a FourierPlan<R>,
    level: Level,
    lanes: usize,
}

impl<R: Real> Rows<'_, R> {
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

    /// As many rows at a time as there are lanes.
    fn groups<'r>(&self, rows: &'r mut [R]) -> rayon::slice::ChunksMut<'r, R> {
        rows.par_chunks_mut(self.plan.len() * self.lanes)
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
        let mut spectra = vec![R::zero(); elements.len()];
        let each = |memory: &mut Memory<R>, (group, spectra): (usize, &mut [R])| {
            let (first, memory) = (group * rows.lanes, &mut memory.a);
            rows.load(elements, first..first + spectra.len() / n, memory);
            rows.plan.forward(rows.level, &mut memory.lanes);
            rows.store(&memory.lanes, spectra);
        };
        rows.groups(&mut spectra)
            .enumerate()
            .for_each_init(|| Memory::new(rows), each);
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
        let a = self
            .a
            .spectra(self.rows, pairs.clone().map(|p| p.0), &mut memory.a);
        let b = self.b.spectra(self.rows, pairs.map(|p| p.1), &mut memory.b);
        let conj = self.operation == CircularOperation::Correlate;
        plan.multiply(level, [a, b], conj, first, &mut memory.sum);
    }
}

/// Rows in lanes.
struct Loaded<R> {
    lanes: Vec<R>,
    gathered: Vec<R>,
}

/// Memory of one thread, which it keeps for the next call.
struct Memory<R: Real> {
    a: Loaded<R>,
    b: Loaded<R>,
    sum: Vec<R>,
}

impl<R: Real> Memory<R> {
    fn new(rows: Rows<R>) -> Self {
        let [mut a, mut b, mut sum, of_a, of_b] = take::<[Vec<R>; 5]>();
        for lanes in [&mut a, &mut b, &mut sum] {
            lanes.resize(rows.plan.len() * rows.lanes, R::zero());
        }
        let loaded = |lanes, gathered| Loaded { lanes, gathered };
        Memory {
            a: loaded(a, of_a),
            b: loaded(b, of_b),
            sum,
        }
    }
}

impl<R: Real> Drop for Memory<R> {
    fn drop(&mut self) {
        let Memory { a, b, sum } = self;
        let all = [
            &mut a.lanes,
            &mut b.lanes,
            sum,
            &mut a.gathered,
            &mut b.gathered,
        ];
        keep(all.map(std::mem::take));
    }
}
