//! Losses, activations and optimisers against PyTorch's numbers, and what 16-bit weights need.

use half::{bf16, f16};
use ndconv::layer::{Dense, Layer, Softmax};
use ndconv::ops::Activation;
use ndconv::optim::{Adam, Optimizer, Sgd};
use ndconv::{Element, Result, Tensor, loss};
use rstest::rstest;
use serde_json::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/training.json")).expect("well-formed JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn shape(value: &Value) -> Vec<usize> {
    numbers(&value["shape"])
        .into_iter()
        .map(|v| v as usize)
        .collect()
}

fn tensor(row: &Value, name: &str) -> Result<Tensor<f64>> {
    Tensor::from_vec(&shape(row), numbers(&row[name]))
}

#[track_caller]
fn assert_close(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!(
            (g - e).abs() <= 1e-12 * e.abs().max(1.0),
            "[{i}]: got {g}, expected {e}"
        );
    }
}

#[test]
fn losses_as_pytorch() -> Result<()> {
    let golden = &golden()["losses"];
    let check = |row: &Value, (loss, gradient): (f64, Tensor<f64>)| -> Result<()> {
        assert_close(&[loss], &numbers(&row["y"]));
        assert_close(&gradient.to_vec()?, &numbers(&row["dx"]));
        Ok(())
    };
    let row = &golden["cross_entropy"];
    let classes: Vec<usize> = numbers(&row["classes"])
        .iter()
        .map(|&v| v as usize)
        .collect();
    check(row, loss::cross_entropy(&tensor(row, "x")?, &classes)?)?;
    let row = &golden["binary_cross_entropy"];
    let targets = tensor(row, "targets")?;
    check(
        row,
        loss::binary_cross_entropy(&tensor(row, "x")?, &targets)?,
    )?;
    let row = &golden["mean_squared_error"];
    let targets = tensor(row, "targets")?;
    check(row, loss::mean_squared_error(&tensor(row, "x")?, &targets)?)
}

#[rstest]
#[case::relu("relu", Activation::Relu)]
#[case::leaky_relu("leaky_relu", Activation::LeakyRelu { slope: 0.2 })]
#[case::sigmoid("sigmoid", Activation::Sigmoid)]
#[case::tanh("tanh", Activation::Tanh)]
#[case::softmax("softmax", Softmax)]
fn activations_as_pytorch(#[case] name: &str, #[case] layer: impl Layer<f64>) -> Result<()> {
    let row = &golden()["activations"][name];
    let x = tensor(row, "x")?;
    assert_close(&layer.forward(&x)?.to_vec()?, &numbers(&row["y"]));
    let gradients = layer.backward(&x, &tensor(row, "dy")?)?;
    assert_close(&gradients.input.to_vec()?, &numbers(&row["dx"]));
    Ok(())
}

fn optimiser(name: &str) -> Result<Box<dyn Optimizer<f64>>> {
    Ok(match name {
        "sgd" => Box::new(Sgd::new(0.1)?),
        "sgd_momentum_decay" => Box::new(Sgd::new(0.1)?.momentum(0.9)?.weight_decay(0.01)?),
        "sgd_nesterov" => Box::new(
            Sgd::new(0.1)?
                .momentum(0.9)?
                .nesterov()
                .weight_decay(0.01)?,
        ),
        "adam" => Box::new(Adam::new(0.01)?),
        "adam_decay" => Box::new(
            Adam::new(0.01)?
                .betas([0.8, 0.99])?
                .epsilon(1e-6)?
                .weight_decay(0.1)?,
        ),
        "adamw" => Box::new(Adam::decoupled(0.01, 0.1)?),
        other => panic!("no optimiser {other}"),
    })
}

#[rstest]
fn optimisers_as_pytorch(
    #[values(
        "sgd",
        "sgd_momentum_decay",
        "sgd_nesterov",
        "adam",
        "adam_decay",
        "adamw"
    )]
    name: &str,
) -> Result<()> {
    let golden = &golden()["optimisers"];
    let start = Tensor::from_vec(&[2, 3], numbers(&golden["start"]))?;
    let mut layer = Dense::with_weights(start, None)?;
    let mut optimiser = optimiser(name)?;
    let steps = golden["after"][name].as_array().expect("steps");
    let gradients = golden["gradients"].as_array().expect("gradients");
    for (gradient, after) in gradients.iter().zip(steps) {
        let gradient = Tensor::from_vec(&[2, 3], numbers(gradient))?;
        optimiser.step(&mut layer, &[gradient])?;
        assert_close(&layer.weight().to_vec()?, &numbers(after));
    }
    Ok(())
}

fn one_weight<T: Element>(value: f64) -> Result<Dense<T>> {
    Dense::with_weights(Tensor::from_vec(&[1, 1], vec![T::from_f64(value)])?, None)
}

fn weight<T: Element>(layer: &Dense<T>) -> Result<f64> {
    Ok(layer.weight().to_vec()?[0].to_f64())
}

/// 1 - 1000 * 1e-4 is 0.9, but no single step of 1e-4 changes a 16-bit 1.
fn small_steps_add_up<T: Element>() -> Result<()> {
    let mut layer = one_weight::<T>(1.0)?;
    let mut sgd = Sgd::new(1e-4)?;
    for _ in 0..1000 {
        let gradient = Tensor::from_vec(&[1, 1], vec![T::from_f64(1.0)])?;
        sgd.step(&mut layer, &[gradient])?;
    }
    assert_eq!(weight(&layer)?, T::from_f64(0.9).to_f64());
    Ok(())
}

#[test]
fn sixteen_bit_weights_have_a_master_copy() -> Result<()> {
    small_steps_add_up::<f16>()?;
    small_steps_add_up::<bf16>()
}

#[test]
fn a_weight_written_between_steps_wins_over_its_master_copy() -> Result<()> {
    let mut layer = one_weight::<bf16>(1.0)?;
    let mut sgd = Sgd::new(0.5)?;
    let one = Tensor::from_vec(&[1, 1], vec![bf16::ONE])?;
    sgd.step(&mut layer, std::slice::from_ref(&one))?;
    for (_, parameter) in Layer::parameters_mut(&mut layer) {
        parameter.overwrite(&[bf16::from_f64(8.0)])?;
    }
    sgd.step(&mut layer, &[one])?;
    assert_eq!(weight(&layer)?, 7.5);
    Ok(())
}
