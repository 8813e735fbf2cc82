//! Fourier transforms of many short signals at once: lane `l` of every vector belongs to signal
//! `l`, so that a butterfly is a handful of vector operations and no lane meets another.
//!
//! A real signal of `n = 2 h` elements is the complex one `z[t] = x[2 t] + i x[2 t + 1]` of `h`.
//! Its transform splits off one digit of the frequency a stage (Gentleman and Sande, 1966), in
//! place, and leaves the frequencies with their digits reversed; the inverse undoes stage after
//! stage from there. Products of spectra do not mind the order. With `Z` the transform of `z` and
//! `w = exp(-2 pi i / n)`, the bins of `x` are
//!
//! ```text
//! 2 X[k] = (Z[k] + conj Z[h - k]) - i w^k (Z[k] - conj Z[h - k])
//! ```
//!
//! `2 X[0]` and `2 X[h]` are real and share the place of bin 0.
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled; indices keep the block structure visible"
)]

use std::f64::consts::TAU;

use super::{Level, MicroKernel, Op, Vector};

/// The transforms of real signals of one length.
pub(crate) struct FourierPlan<A> {
    /// `h`, at least 1.
    half: usize,
    /// In forward order. `radix * part` of the first is `h`, of any other the `part` before.
    stages: Vec<Stage<A>>,
    /// Every `k` of `1..=h / 2`.
    splits: Vec<Split<A>>,
    turns: Turns<A>,
    /// Of a product of two spectra, each twice what it is, to the inverse's result.
    scale: A,
}

struct Stage<A> {
    radix: usize,
    /// Elements from one input of a butterfly to the next.
    part: usize,
    /// `exp(-2 pi i j q / (radix * part))`, for `j` below `part` and `q` from 1 below `radix`.
    twiddles: Vec<[A; 2]>,
}

/// Bins `k` and `h - k`.
struct Split<A> {
    /// Where they are; both below `h`.
    places: [usize; 2],
    /// `w^k`
    twiddle: [A; 2],
}

/// Real numbers of the butterflies.
#[derive(Clone, Copy)]
struct Turns<A> {
    one_half: A,
    /// Sine of 1/3 turn.
    third: A,
    /// Cosine and sine of 1/5 and 2/5 turn.
    fifth: [A; 2],
    two_fifths: [A; 2],
}

/// An operand of a product: a spectrum in every lane, or the same one in all.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'a, A> {
    Lanes(&'a [A]),
    One(&'a [A]),
}

impl<A: MicroKernel> FourierPlan<A> {
    /// For even lengths without a prime factor above 5. `number` rounds to `A`.
    pub fn new(n: usize, number: impl Fn(f64) -> A) -> Option<Self> {
        let half = Some(n / 2).filter(|&half| half > 0 && n.is_multiple_of(2))?;
        let root = |of: usize, power: usize| {
            let angle = -TAU * (power % of) as f64 / of as f64;
            [number(angle.cos()), number(angle.sin())]
        };
        let (mut stages, mut rest) = (Vec::new(), half);
        for radix in [5, 3, 4, 2] {
            while rest.is_multiple_of(radix) {
                let (size, part) = (rest, rest / radix);
                let powers = (0..part).flat_map(|j| (1..radix).map(move |q| j * q));
                let twiddles = powers.map(|power| root(size, power)).collect();
                stages.push(Stage {
                    radix,
                    part,
                    twiddles,
                });
                rest = part;
            }
        }
        if rest > 1 {
            return None;
        }
        let place = |mut k: usize| {
            stages.iter().fold(0, |place, stage| {
                let digit = k % stage.radix;
                k /= stage.radix;
                place + digit * stage.part
            })
        };
        let split = |k| Split {
            places: [place(k), place(half - k)],
            twiddle: root(n, k),
        };
        let (cos, sin) = (
            |turn: f64| number((TAU * turn).cos()),
            |turn: f64| number((TAU * turn).sin()),
        );
        let turns = Turns {
            one_half: number(0.5),
            third: sin(1.0 / 3.0),
            fifth: [cos(0.2), sin(0.2)],
            two_fifths: [cos(0.4), sin(0.4)],
        };
        Some(FourierPlan {
            half,
            splits: (1..=half / 2).map(split).collect(),
            stages,
            turns,
            scale: number(0.25 / n as f64),
        })
    }

    /// Elements of a signal, and numbers of a spectrum.
    pub fn len(&self) -> usize {
        2 * self.half
    }

    /// Signals to spectra in place: `data` is `(len, lanes)`.
    pub fn forward(&self, level: Level, data: &mut [A]) {
        A::dispatch(level, Transform::<A, false> { plan: self, data });
    }

    /// Sums of products of spectra to signals.
    pub fn inverse(&self, level: Level, data: &mut [A]) {
        A::dispatch(level, Transform::<A, true> { plan: self, data });
    }

    /// The products `a b`, or `conj(a) b`, scaled for the inverse, added to `sum` or, first, in its
    /// place.
    pub fn multiply(
        &self,
        level: Level,
        factors: [Factor<A>; 2],
        conj: bool,
        first: bool,
        sum: &mut [A],
    ) {
        let product = Product {
            plan: self,
            factors,
            conj,
            first,
            sum,
        };
        A::dispatch(level, product);
    }
}

struct Transform<'a, A, const INVERSE: bool> {
    plan: &'a FourierPlan<A>,
    data: &'a mut [A],
}

impl<A: Copy, const INVERSE: bool> Op<A> for Transform<'_, A, INVERSE> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let plan = self.plan;
        assert!(self.data.len() >= 2 * plan.half * V::LANES);
        let data = self.data.as_mut_ptr();
        // SAFETY: the level is the caller's promise; `data` holds the vectors of `half` complex
        // numbers, which the stages and splits of a plan stay inside.
        unsafe {
            if INVERSE {
                splits::<V, true>(plan, data);
            }
            if let Some((first, others)) = plan.stages.split_first() {
                let number = plan.half / first.part;
                if !INVERSE {
                    stage::<V, false>(first, &plan.turns, data, 1);
                }
                // one part after the other through all the stages that remain: it stays in the cache
                for i in 0..number {
                    let part = data.add(2 * i * first.part * V::LANES);
                    for s in 0..others.len() {
                        let s = if INVERSE { others.len() - 1 - s } else { s };
                        let blocks = first.part / (others[s].radix * others[s].part);
                        stage::<V, INVERSE>(&others[s], &plan.turns, part, blocks);
                    }
                }
                if INVERSE {
                    stage::<V, true>(first, &plan.turns, data, 1);
                }
            }
            if !INVERSE {
                splits::<V, false>(plan, data);
            }
        }
    }
}

/// A vector of complex numbers.
#[derive(Clone, Copy)]
struct Z<V> {
    re: V,
    im: V,
}

/// # Safety
/// The level of `V` must be available, and memory valid for what the methods load and store.
impl<V: Vector> Z<V> {
    #[inline(always)]
    unsafe fn load(data: *const V::Scalar, place: usize) -> Self {
        // SAFETY: as above.
        unsafe {
            let at = data.add(2 * place * V::LANES);
            let (re, im) = (V::load(at), V::load(at.add(V::LANES)));
            Z { re, im }
        }
    }

    #[inline(always)]
    unsafe fn store(self, data: *mut V::Scalar, place: usize) {
        // SAFETY: as above.
        unsafe {
            let at = data.add(2 * place * V::LANES);
            self.re.store(at);
            self.im.store(at.add(V::LANES));
        }
    }

    #[inline(always)]
    unsafe fn splat([re, im]: [V::Scalar; 2]) -> Self {
        // SAFETY: as above.
        unsafe {
            let (re, im) = (V::splat(re), V::splat(im));
            Z { re, im }
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe {
            let (re, im) = (self.re.add(other.re), self.im.add(other.im));
            Z { re, im }
        }
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe {
            let (re, im) = (self.re.subtract(other.re), self.im.subtract(other.im));
            Z { re, im }
        }
    }

    /// `self - i other`
    #[inline(always)]
    unsafe fn subtract_turned(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe {
            let (re, im) = (self.re.add(other.im), self.im.subtract(other.re));
            Z { re, im }
        }
    }

    /// `self + i other`
    #[inline(always)]
    unsafe fn add_turned(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe {
            let (re, im) = (self.re.subtract(other.im), self.im.add(other.re));
            Z { re, im }
        }
    }

    #[inline(always)]
    unsafe fn conj(self) -> Self {
        // SAFETY: as above.
        unsafe {
            Z {
                re: self.re,
                im: V::zero().subtract(self.im),
            }
        }
    }

    /// `self * factor + sum`, `factor` real.
    #[inline(always)]
    unsafe fn scale_add(self, factor: V, sum: Self) -> Self {
        // SAFETY: as above.
        unsafe {
            Z {
                re: self.re.multiply_add(factor, sum.re),
                im: self.im.multiply_add(factor, sum.im),
            }
        }
    }

    #[inline(always)]
    unsafe fn scale(self, factor: V) -> Self {
        // SAFETY: as above.
        unsafe {
            let (re, im) = (self.re.multiply(factor), self.im.multiply(factor));
            Z { re, im }
        }
    }

    #[inline(always)]
    unsafe fn multiply(self, other: Self) -> Self {
        // SAFETY: as above.
        unsafe {
            let minus = V::zero().subtract(other.im);
            Z {
                re: self.im.multiply_add(minus, self.re.multiply(other.re)),
                im: self.im.multiply_add(other.re, self.re.multiply(other.im)),
            }
        }
    }
}

/// One stage of `blocks` blocks that follow each other.
///
/// # Safety
/// The level of `V` must be available, and `data` valid for `blocks * radix * part` complex numbers.
#[inline(always)]
unsafe fn stage<V: Vector, const INVERSE: bool>(
    stage: &Stage<V::Scalar>,
    turns: &Turns<V::Scalar>,
    data: *mut V::Scalar,
    blocks: usize,
) {
    // SAFETY: as this function.
    unsafe {
        match stage.radix {
            2 => butterflies::<V, 2, INVERSE>(stage, turns, data, blocks),
            3 => butterflies::<V, 3, INVERSE>(stage, turns, data, blocks),
            4 => butterflies::<V, 4, INVERSE>(stage, turns, data, blocks),
            _ => butterflies::<V, 5, INVERSE>(stage, turns, data, blocks),
        }
    }
}

/// # Safety
/// As [`stage`].
#[inline(always)]
unsafe fn butterflies<V: Vector, const R: usize, const INVERSE: bool>(
    stage: &Stage<V::Scalar>,
    turns: &Turns<V::Scalar>,
    data: *mut V::Scalar,
    blocks: usize,
) {
    let part = stage.part;
    // SAFETY: places are below `blocks * R * part`; the rest as this function.
    unsafe {
        for base in (0..blocks).map(|block| block * R * part) {
            for j in 0..part {
                let mut z = [Z::<V>::load(data, base + j); R];
                for q in 1..R {
                    z[q] = Z::load(data, base + j + q * part);
                }
                if INVERSE && j > 0 {
                    let twiddles = &stage.twiddles[j * (R - 1)..][..R - 1];
                    for q in 1..R {
                        z[q] = z[q].multiply(Z::splat(twiddles[q - 1]).conj());
                    }
                }
                z = butterfly(z, turns);
                if !INVERSE && j > 0 {
                    let twiddles = &stage.twiddles[j * (R - 1)..][..R - 1];
                    for q in 1..R {
                        z[q] = z[q].multiply(Z::splat(twiddles[q - 1]));
                    }
                }
                for q in 0..R {
                    // the inverse is the transform read backwards
                    let from = if INVERSE { (R - q) % R } else { q };
                    z[from].store(data, base + j + q * part);
                }
            }
        }
    }
}

/// The transform of `R` numbers.
///
/// # Safety
/// The level of `V` must be available.
#[inline(always)]
unsafe fn butterfly<V: Vector, const R: usize>(
    z: [Z<V>; R],
    turns: &Turns<V::Scalar>,
) -> [Z<V>; R] {
    let mut out = z;
    // SAFETY: the level as this function.
    unsafe {
        match z[..] {
            [a, b] => out.copy_from_slice(&[a.add(b), a.subtract(b)]),
            [a, b, c] => {
                let sum = b.add(c);
                let turned = b.subtract(c).scale(V::splat(turns.third));
                let middle = a.subtract(sum.scale(V::splat(turns.one_half)));
                out.copy_from_slice(&[
                    a.add(sum),
                    middle.subtract_turned(turned),
                    middle.add_turned(turned),
                ]);
            }
            [a, b, c, d] => {
                let (even, odd) = (a.add(c), b.add(d));
                let (even_turned, odd_turned) = (a.subtract(c), b.subtract(d));
                out.copy_from_slice(&[
                    even.add(odd),
                    even_turned.subtract_turned(odd_turned),
                    even.subtract(odd),
                    even_turned.add_turned(odd_turned),
                ]);
            }
            [a, b, c, d, e] => {
                let [cos_1, sin_1] = turns.fifth.map(|v| V::splat(v));
                let [cos_2, sin_2] = turns.two_fifths.map(|v| V::splat(v));
                let (outer, inner) = (b.add(e), c.add(d));
                let (outer_turned, inner_turned) = (b.subtract(e), c.subtract(d));
                let first = inner.scale_add(cos_2, outer.scale_add(cos_1, a));
                let second = inner.scale_add(cos_1, outer.scale_add(cos_2, a));
                let first_turned = inner_turned.scale_add(sin_2, outer_turned.scale(sin_1));
                let second_turned = outer_turned
                    .scale(sin_2)
                    .subtract(inner_turned.scale(sin_1));
                out.copy_from_slice(&[
                    a.add(outer).add(inner),
                    first.subtract_turned(first_turned),
                    second.subtract_turned(second_turned),
                    second.add_turned(second_turned),
                    first.add_turned(first_turned),
                ]);
            }
            _ => {}
        }
    }
    out
}

/// From `Z` to `2 X`, or from `X` to `2 Z`.
///
/// # Safety
/// The level of `V` must be available, and `data` valid for `half` complex numbers.
#[inline(always)]
unsafe fn splits<V: Vector, const INVERSE: bool>(
    plan: &FourierPlan<V::Scalar>,
    data: *mut V::Scalar,
) {
    // SAFETY: places are below `half`; the rest as this function.
    unsafe {
        let Z { re, im } = Z::<V>::load(data, 0);
        let (mut sum, mut difference) = (re.add(im), re.subtract(im));
        if !INVERSE {
            (sum, difference) = (sum.add(sum), difference.add(difference));
        }
        Z {
            re: sum,
            im: difference,
        }
        .store(data, 0);
        for Split { places, twiddle } in &plan.splits {
            let [k, mirrored] = *places;
            let (a, b) = (Z::<V>::load(data, k), Z::load(data, mirrored).conj());
            let (even, odd) = (a.add(b), a.subtract(b));
            let twiddle = Z::splat(*twiddle);
            let (x, y) = if INVERSE {
                let odd = odd.multiply(twiddle.conj());
                (even.add_turned(odd), even.subtract_turned(odd))
            } else {
                let odd = odd.multiply(twiddle);
                (even.subtract_turned(odd), even.add_turned(odd))
            };
            x.store(data, k);
            y.conj().store(data, mirrored);
        }
    }
}

struct Product<'a, A> {
    plan: &'a FourierPlan<A>,
    factors: [Factor<'a, A>; 2],
    conj: bool,
    first: bool,
    sum: &'a mut [A],
}

impl<A: Copy> Op<A> for Product<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = A>>(self) {
        let size = 2 * self.plan.half;
        for factor in &self.factors {
            match factor {
                Factor::Lanes(values) => assert!(values.len() >= size * V::LANES),
                Factor::One(values) => assert!(values.len() >= size),
            }
        }
        assert!(self.sum.len() >= size * V::LANES);
        // SAFETY: the level is the caller's promise, the lengths were just checked.
        unsafe {
            match self.factors {
                [Factor::Lanes(a), Factor::Lanes(b)] => self.each::<V, false, false>(a, b),
                [Factor::Lanes(a), Factor::One(b)] => self.each::<V, false, true>(a, b),
                [Factor::One(a), Factor::Lanes(b)] => self.each::<V, true, false>(a, b),
                [Factor::One(a), Factor::One(b)] => self.each::<V, true, true>(a, b),
            }
        }
    }
}

impl<A: Copy> Product<'_, A> {
    /// # Safety
    /// The level of `V` must be available; `sum` and the factors must hold `half` complex numbers,
    /// of vectors or, where there is one for all lanes, of numbers.
    #[inline(always)]
    unsafe fn each<V: Vector<Scalar = A>, const ONE_A: bool, const ONE_B: bool>(
        self,
        a: &[A],
        b: &[A],
    ) {
        let sum = self.sum.as_mut_ptr();
        // SAFETY: as this function; places are below `half`.
        unsafe {
            let scale = V::splat(self.plan.scale);
            for place in 0..self.plan.half {
                let a = factor::<V, ONE_A>(a, place).scale(scale);
                let b = factor::<V, ONE_B>(b, place);
                let product = match (place, self.conj) {
                    // two real bins
                    (0, _) => Z {
                        re: a.re.multiply(b.re),
                        im: a.im.multiply(b.im),
                    },
                    (_, true) => b.multiply(a.conj()),
                    (_, false) => b.multiply(a),
                };
                let product = match self.first {
                    true => product,
                    false => product.add(Z::load(sum, place)),
                };
                product.store(sum, place);
            }
        }
    }
}

/// Complex number `place` of a factor.
///
/// # Safety
/// The level of `V` must be available, and the factor must hold that number.
#[inline(always)]
unsafe fn factor<V: Vector, const ONE: bool>(values: &[V::Scalar], place: usize) -> Z<V> {
    // SAFETY: as this function.
    unsafe {
        if ONE {
            let at = values.as_ptr().add(2 * place);
            Z::splat([*at, *at.add(1)])
        } else {
            Z::load(values.as_ptr(), place)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Rng;

    /// Circular convolutions and correlations of a row a lane, against the definition.
    fn check<A: MicroKernel + num_traits::Float>(tolerance: f64) {
        let number = |v: f64| A::from(v).unwrap();
        let rng = &mut Rng::new(1);
        for n in [
            2, 4, 6, 8, 10, 18, 24, 30, 32, 50, 64, 100, 180, 250, 512, 1000,
        ] {
            let plan = FourierPlan::new(n, number).unwrap();
            for level in Level::available() {
                let lanes = A::geometry(level).lanes;
                let mut random = || -> Vec<A> {
                    let numbers = (0..n * lanes).map(|_| number(rng.normal()));
                    numbers.collect()
                };
                let (a, b) = (random(), random());
                let (mut fa, mut fb) = (a.clone(), b.clone());
                plan.forward(level, &mut fa);
                plan.forward(level, &mut fb);
                let one: Vec<A> = fb.iter().copied().step_by(lanes).collect();
                for (conj, shared) in [(false, false), (true, false), (false, true), (true, true)] {
                    let factor = if shared {
                        Factor::One(&one)
                    } else {
                        Factor::Lanes(&fb)
                    };
                    let mut sum = vec![A::nan(); n * lanes];
                    // the product twice
                    plan.multiply(level, [Factor::Lanes(&fa), factor], conj, true, &mut sum);
                    plan.multiply(level, [Factor::Lanes(&fa), factor], conj, false, &mut sum);
                    plan.inverse(level, &mut sum);
                    for lane in 0..lanes {
                        let of_b = if shared { 0 } else { lane };
                        for i in 0..n {
                            let term = |k: usize| {
                                let at = if conj { (k + i) % n } else { (n + i - k) % n };
                                let (a, b) = (a[k * lanes + lane], b[at * lanes + of_b]);
                                a.to_f64().unwrap() * b.to_f64().unwrap()
                            };
                            let expected = 2.0 * (0..n).map(term).sum::<f64>();
                            let got = sum[i * lanes + lane].to_f64().unwrap();
                            assert!((got - expected).abs() < tolerance * (n + 8) as f64);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn circular_products_of_every_lane() {
        check::<f32>(5e-7);
        check::<f64>(1e-15);
    }

    #[test]
    fn lengths_without_a_plan() {
        for n in [0, 1, 3, 14, 22, 1001] {
            assert!(FourierPlan::new(n, |v| v).is_none());
        }
    }
}
