//! Random initial values, the same on every machine for the same seed.

use rand::SeedableRng;
use rand::rand_core::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::element::Element;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A seeded source of random numbers: ChaCha with 8 rounds.
///
/// ```
/// use ndconv::init::Rng;
/// assert_eq!(Rng::new(3).uniform(), Rng::new(3).uniform());
/// ```
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Self {
        Rng(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        unit(self.bits())
    }

    /// Normal with mean 0 and standard deviation 1.
    pub fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// The numbers `0..len` in random order (Fisher-Yates).
    pub fn permutation(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for i in (1..len).rev() {
            let j = (self.uniform() * (i + 1) as f64) as usize;
            order.swap(i, j.min(i));
        }
        order
    }
}

/// The upper 53 bits as a number in [0, 1).
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Mixes a counter into a seed: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The distribution of a layer's initial weights.
///
/// `fan_in` is the number of inputs that one output sums over, `fan_out` the number of outputs
/// that one input takes part in.
///
/// ```
/// use ndconv::init::{Init, Rng};
/// let w = Init::XavierUniform.tensor::<f32>(&[4, 3, 5, 5], 75, 100, &mut Rng::new(0))?;
/// let bound = (6.0f32 / 175.0).sqrt();
/// assert!(w.to_vec()?.iter().all(|v| v.abs() <= bound));
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// Uniform within `1 / sqrt(fan_in)`: PyTorch's default for convolutions and linear layers.
    #[default]
    FanIn,
    /// Uniform within `sqrt(6 / fan_in)` (He et al., 2015), for layers before a ReLU.
    KaimingUniform,
    /// Normal of variance `2 / fan_in` (He et al., 2015), for layers before a ReLU.
    KaimingNormal,
    /// Uniform within `sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio, 2010): Keras' default.
    XavierUniform,
    /// Normal of variance `2 / (fan_in + fan_out)` (Glorot and Bengio, 2010).
    XavierNormal,
    /// Normal of this standard deviation.
    Normal(f64),
    /// The same number everywhere.
    Constant(f64),
}

impl Init {
    /// A tensor of independent values on the CPU.
    ///
    /// # Errors
    /// [`Error::Argument`] when both fans are 0, [`Error::TooLarge`], [`Error::OutOfMemory`].
    pub fn tensor<T: Element>(
        self,
        shape: &[usize],
        fan_in: usize,
        fan_out: usize,
        rng: &mut Rng,
    ) -> Result<Tensor<T>> {
        if fan_in == 0 {
            return Err(Error::argument("fan_in", "at least 1", fan_in));
        }
        let (fan_in, fan_out) = (fan_in as f64, fan_out as f64);
        let uniform = |bound: f64, rng: &mut Rng| (2.0 * rng.uniform() - 1.0) * bound;
        let mut draw = || match self {
            Init::FanIn => uniform((1.0 / fan_in).sqrt(), rng),
            Init::KaimingUniform => uniform((6.0 / fan_in).sqrt(), rng),
            Init::KaimingNormal => rng.normal() * (2.0 / fan_in).sqrt(),
            Init::XavierUniform => uniform((6.0 / (fan_in + fan_out)).sqrt(), rng),
            Init::XavierNormal => rng.normal() * (2.0 / (fan_in + fan_out)).sqrt(),
            Init::Normal(deviation) => rng.normal() * deviation,
            Init::Constant(value) => value,
        };
        let mut tensor = Tensor::zeros(shape, &crate::Device::Cpu)?;
        for value in tensor.on_cpu_mut("initial values")? {
            *value = T::from_f64(draw());
        }
        Ok(tensor)
    }

    /// The bias that goes with these weights: PyTorch draws it as the weights, the others have 0.
    pub(crate) fn bias(self) -> Init {
        match self {
            Init::FanIn => Init::FanIn,
            _ => Init::Constant(0.0),
        }
    }
}
