//! Timing the passes of a layer.

use std::time::{Duration, Instant};

use ndconv::init::Rng;
use ndconv::{ConvProblem, DType, Device, Element, Layout, Result, Tensor, Write, ops};

use super::layers::LayerSpec;

/// A pass of a layer; which contraction it is depends on whether the layer is transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LayerPass {
    /// The output.
    Forward,
    /// The gradient in the input.
    Dgrad,
    /// The gradient in the weight.
    Wgrad,
}

impl LayerPass {
    pub fn name(self) -> &'static str {
        match self {
            LayerPass::Forward => "forward",
            LayerPass::Dgrad => "dgrad",
            LayerPass::Wgrad => "wgrad",
        }
    }

    /// The contraction of the problem behind the layer.
    fn contraction(self, transposed: bool) -> ndconv::Pass {
        match (self, transposed) {
            (LayerPass::Forward, false) | (LayerPass::Dgrad, true) => ndconv::Pass::Fprop,
            (LayerPass::Forward, true) | (LayerPass::Dgrad, false) => ndconv::Pass::Dgrad,
            (LayerPass::Wgrad, _) => ndconv::Pass::Wgrad,
        }
    }
}

/// How often to repeat.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Timed runs of a pass, at most.
    pub repeats: usize,
    /// No further run of a pass is begun after this.
    pub budget: Duration,
}

/// What was measured of one pass.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Every timed run, in seconds, shortest first.
    pub sorted: Vec<f64>,
    /// Multiplications and additions of the pass.
    pub flops: f64,
    /// Bytes of the operands and the result, each once.
    pub bytes: f64,
    /// What ran it: the plan on a GPU, else the device.
    pub algorithm: String,
}

impl Timing {
    pub fn median(&self) -> f64 {
        let n = self.sorted.len();
        (self.sorted[(n - 1) / 2] + self.sorted[n / 2]) / 2.0
    }
}

/// Times a pass of a layer.
pub fn time(
    layer: &LayerSpec,
    pass: LayerPass,
    dtype: DType,
    layout: Layout,
    device: &Device,
    effort: Effort,
) -> Result<Timing> {
    macro_rules! by_rank {
        ($type:ty) => {
            match layer.rank() {
                1 => run::<$type, 1>(layer, pass, layout, device, effort),
                2 => run::<$type, 2>(layer, pass, layout, device, effort),
                3 => run::<$type, 3>(layer, pass, layout, device, effort),
                _ => run::<$type, 4>(layer, pass, layout, device, effort),
            }
        };
    }
    match dtype {
        DType::F16 => by_rank!(half::f16),
        DType::BF16 => by_rank!(half::bf16),
        DType::F32 => by_rank!(f32),
        DType::F64 => by_rank!(f64),
    }
}

fn run<T: Element, const N: usize>(
    layer: &LayerSpec,
    pass: LayerPass,
    layout: Layout,
    device: &Device,
    effort: Effort,
) -> Result<Timing> {
    let p: ConvProblem<N> = layer.problem()?;
    let contraction = pass.contraction(layer.transposed);
    let x = random::<T>(&p.x_shape(), layout, device, 1)?;
    let w = random::<T>(&p.w_shape(), layout, device, 2)?;
    let y = random::<T>(&p.y_shape(), layout, device, 3)?;
    let mut result = match contraction {
        ndconv::Pass::Fprop => y.clone(),
        ndconv::Pass::Dgrad => x.clone(),
        ndconv::Pass::Wgrad => w.clone(),
    };
    let sorted = repeat(effort, || {
        match contraction {
            ndconv::Pass::Fprop => ops::fprop_into(&p, &x, &w, None, &mut result, Write::Overwrite),
            ndconv::Pass::Dgrad => ops::dgrad_into(&p, &y, &w, None, &mut result, Write::Overwrite),
            ndconv::Pass::Wgrad => ops::wgrad_into(&p, &x, &y, &mut result, Write::Overwrite),
        }?;
        device.synchronize() // a launch returns before the kernel has run
    })?;
    let algorithm = match device {
        Device::Cuda(gpu) => gpu
            .conv_plan(&p, contraction, T::DTYPE, layout, layout)?
            .to_string(),
        _ => device.to_string(),
    };
    Ok(Timing {
        sorted,
        algorithm,
        flops: p.flops(contraction) as f64,
        bytes: p.bytes(contraction, size_of::<T>()) as f64,
    })
}

/// Seconds of each run after a first one that is not counted, shortest first. A first run that
/// uses up the budget is the only one, and counts.
pub fn repeat(effort: Effort, mut run: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let begin = Instant::now();
    run()?;
    let first = begin.elapsed();
    let mut seconds = Vec::new();
    while seconds.len() < effort.repeats && begin.elapsed() < effort.budget {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    if seconds.is_empty() {
        seconds.push(first.as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

/// Values in -1..1, none of them 0 or denormal.
fn random<T: Element>(
    channels_first: &[usize],
    layout: Layout,
    device: &Device,
    seed: u64,
) -> Result<Tensor<T>> {
    let shape = layout.from_channels_first(channels_first);
    let mut rng = Rng::new(seed);
    // a few thousand values over and over: drawing every one takes longer than the layer
    let some: Vec<T> = (0..4093)
        .map(|_| T::from_f64(2.0 * rng.uniform() - 1.0))
        .collect();
    let count = shape.iter().product();
    let data = some.iter().copied().cycle().take(count).collect();
    Tensor::from_vec(&shape, data)?
        .with_layout(layout)
        .to_device(device)
}
