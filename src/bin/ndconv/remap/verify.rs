//! Random inputs through both forms of a layer.

use ndconv::init::{Init, Rng};
use ndconv::io::{Archive, StoredTensor};
use ndconv::layer::{Conv, Dense, Flatten, Layer};
use ndconv::remap::WeightKind;
use ndconv::{ConvParams, DType, Element, Result, Rules, Tensor};

use super::changes::{Changed, Form};

/// The worst error, as `max|after - before| / max(1, max|before|)`, and what two orders of
/// summation may differ by; `None` where the layer did not change its form.
pub fn verify(
    archive: &Archive,
    written: &Archive,
    tensor: &StoredTensor,
    change: &Changed,
    inputs: usize,
) -> Result<Option<(f64, f64)>> {
    let double = tensor.dtype().float() == Some(DType::F64);
    match double {
        true => verify_in::<f64>(archive, written, tensor, change, inputs),
        false => verify_in::<f32>(archive, written, tensor, change, inputs),
    }
}

fn verify_in<T: Element>(
    archive: &Archive,
    written: &Archive,
    tensor: &StoredTensor,
    change: &Changed,
    inputs: usize,
) -> Result<Option<(f64, f64)>> {
    let name = tensor.name();
    let (dense_file, conv_file, dense_layout, conv_layout) = match change.form {
        Form::Same => return Ok(None),
        Form::DenseToConv => (archive, written, change.from, change.to),
        Form::ConvToDense => (written, archive, change.to, change.from),
    };
    let native = |file: &Archive, layout: ndconv::remap::WeightLayout, kind| -> Result<Tensor<T>> {
        let weight = file.tensor::<T>(name)?.to_array()?;
        Tensor::from_array(&layout.to_native(&weight, kind)?)
    };
    let conv = native(conv_file, conv_layout, WeightKind::Conv)?;
    let dense = native(dense_file, dense_layout, WeightKind::Dense)?;
    let input = conv.shape()[1..].to_vec();
    let features = dense.shape()[1];
    let dense = Dense::with_weights(dense, None)?;
    let worst = match input.len() {
        2 => compare::<T, 1>(&dense, conv, &input, change, inputs),
        3 => compare::<T, 2>(&dense, conv, &input, change, inputs),
        4 => compare::<T, 3>(&dense, conv, &input, change, inputs),
        _ => compare::<T, 4>(&dense, conv, &input, change, inputs),
    }?;
    let tolerance = if T::DTYPE == DType::F64 { 1e-11 } else { 1e-5 };
    let allowed = tolerance * (features as f64 / 256.0).sqrt().max(1.0);
    Ok(Some((worst, allowed)))
}

fn compare<T: Element, const N: usize>(
    dense: &Dense<T>,
    conv: Tensor<T>,
    input: &[usize],
    change: &Changed,
    inputs: usize,
) -> Result<f64> {
    let conv = Conv::<T, N>::new(conv, None, ConvParams::default(), Rules::Native)?;
    let layout = change.flatten;
    let mut worst = 0.0f64;
    for seed in 0..inputs {
        let shape = layout.from_channels_first(&[&[1], input].concat());
        let x = Init::Normal(1.0).tensor::<T>(&shape, 1, 1, &mut Rng::new(seed as u64))?;
        let x = x.with_layout(layout);
        let before = dense
            .forward(&Flatten.forward(&x)?)?
            .cast::<f64>()?
            .to_vec()?;
        let after = conv.forward(&x)?.cast::<f64>()?.to_vec()?;
        let scale = before.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        let error = before.iter().zip(&after).fold(0.0f64, |m, (b, a)| {
            let difference = (b - a).abs();
            if difference.is_nan() {
                f64::INFINITY
            } else {
                m.max(difference)
            }
        });
        worst = worst.max(error / scale);
    }
    Ok(worst)
}
