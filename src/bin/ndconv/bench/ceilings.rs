//! What the machine can do at best, measured: copying memory and multiplying matrices.

use std::time::Duration;

use ndarray::{Array2, LinalgScalar};
use ndconv::{DType, Device, Layout, Result};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::layers::LayerSpec;
use super::measure::{Effort, LayerPass, repeat, time};

/// The measured ceilings of a device; what cannot be measured is `None`.
#[derive(Clone, Debug, Default)]
pub struct Ceilings {
    /// Bytes read and written per second when copying.
    pub copy: Option<f64>,
    /// Multiplications and additions per second of a matrix product, by element type.
    pub matrix: Vec<(DType, f64)>,
}

impl Ceilings {
    /// Takes about half a second per element type.
    pub fn measure(device: &Device, dtypes: &[DType]) -> Result<Self> {
        let effort = Effort {
            repeats: 7,
            budget: Duration::from_millis(300),
        };
        let copy = match device {
            Device::Cpu => Some(copy_bandwidth(effort)?),
            _ => None,
        };
        let mut matrix = Vec::new();
        let mut in_f32 = None; // the sums of f16 and bf16 are f32 as well
        for &dtype in dtypes {
            let own = own_rate(dtype, device, effort)?;
            let peer = match (device, dtype) {
                (Device::Cpu, DType::F64) => matrix_rate::<f64>(effort)?,
                (Device::Cpu, _) => match in_f32 {
                    Some(rate) => rate,
                    None => *in_f32.insert(matrix_rate::<f32>(effort)?),
                },
                _ => 0.0,
            };
            matrix.push((dtype, own.max(peer)));
        }
        Ok(Ceilings { copy, matrix })
    }

    pub fn matrix(&self, dtype: DType) -> Option<f64> {
        let found = self.matrix.iter().find(|(known, _)| *known == dtype);
        found.map(|(_, rate)| *rate)
    }

    pub fn to_json(&self) -> Value {
        let matrix = self
            .matrix
            .iter()
            .map(|(d, rate)| (d.name().to_string(), json!(rate)));
        json!({
            "copy_bytes_per_second": self.copy,
            "matrix_flops_per_second": serde_json::Map::from_iter(matrix),
        })
    }

    /// In one line, for people.
    pub fn describe(&self) -> String {
        let copy = self.copy.map(|rate| format!("copy {:.1} GB/s", rate / 1e9));
        let matrix = self.matrix.iter();
        let matrix =
            matrix.map(|(d, rate)| format!("{d} matrix product {:.1} GFLOP/s", rate / 1e9));
        copy.into_iter()
            .chain(matrix)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// A convolution of one tap is a matrix product: the best rate of growing ones, until one takes
/// long enough to fill every thread.
fn own_rate(dtype: DType, device: &Device, effort: Effort) -> Result<f64> {
    let mut best = 0.0f64;
    for channels in [64, 128, 256, 512, 1024] {
        let layer = LayerSpec {
            in_channels: channels,
            out_channels: channels,
            input: vec![channels],
            kernel_size: vec![1],
            ..LayerSpec::of_rank(1)
        };
        let layout = Layout::ChannelsFirst;
        let timing = time(&layer, LayerPass::Forward, dtype, layout, device, effort)?;
        best = best.max(timing.flops / timing.sorted[0]);
        if timing.median() > 5e-3 {
            break;
        }
    }
    Ok(best)
}

/// All threads copy between buffers that no cache holds; a byte read and written counts twice.
fn copy_bandwidth(effort: Effort) -> Result<f64> {
    const ELEMENTS: usize = 1 << 24; // of 8 bytes: 128 MiB
    let source = vec![1u64; ELEMENTS];
    let mut target = vec![0u64; ELEMENTS];
    let chunk = ELEMENTS.div_ceil(rayon::current_num_threads());
    let seconds = repeat(effort, || {
        let chunks = target.par_chunks_mut(chunk).zip(source.par_chunks(chunk));
        chunks.for_each(|(target, source)| target.copy_from_slice(source));
        Ok(())
    })?;
    std::hint::black_box(&target);
    Ok(2.0 * size_of_val(&source[..]) as f64 / seconds[0])
}

/// Every thread multiplies matrices of its own that fit its cache.
fn matrix_rate<T: LinalgScalar + From<f32> + Send + Sync>(effort: Effort) -> Result<f64> {
    const SIZE: usize = 384;
    let threads = rayon::current_num_threads();
    let matrix = || Array2::from_elem((SIZE, SIZE), T::from(0.5));
    let (a, b) = (matrix(), matrix());
    let mut results: Vec<Array2<T>> = (0..threads).map(|_| matrix()).collect();
    let seconds = repeat(effort, || {
        results.par_iter_mut().for_each(|c| {
            ndarray::linalg::general_mat_mul(T::from(1.0), &a, &b, T::from(0.0), c);
        });
        Ok(())
    })?;
    std::hint::black_box(&results);
    Ok(2.0 * (SIZE as f64).powi(3) * threads as f64 / seconds[0])
}
