//! A net with Flatten and Dense layers, trained on single digits, reads a strip of many.
//!
//! ```text
//! cargo run --release --example dense_to_conv
//! cargo run --release --example dense_to_conv -- --seed 3 --digits 30
//! ```
//!
//! The net takes one window of the size of a digit. `ndconv::remap::make_convolutional` turns its
//! dense layers into convolutions; then it takes the whole strip at once, and gives for every
//! position what it would have given for the window there. `target/dense_to_conv/heat_map.png`
//! shows the strip above, and below it a row a class: dark where the net is sure.

mod picture;
#[path = "../shared/mod.rs"]
#[allow(dead_code)] // plots and folders of other data are for the other examples
mod shared;
mod strip;

use std::process::ExitCode;

use clap::Parser;
use ndconv::init::{Init, Rng};
use ndconv::layer::{Conv2d, Dense, Dropout, Flatten, Layer, Mode, Sequential, Softmax};
use ndconv::ops::Activation;
use ndconv::optim::{Adam, Optimizer};
use ndconv::{Device, Layout, Tensor, loss, remap};

use shared::cli::{self, Common, Result, say};
use shared::data::{self, Images};
use shared::progress::Progress;
use strip::{BETWEEN, CLASSES, Strip};

/// Trains a net of dense layers on single digits, and slides it over a strip of many
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Training steps of 64 windows each
    #[arg(long, value_name = "N", default_value_t = 900)]
    steps: usize,
    /// Digits on the strip
    #[arg(long, value_name = "N", default_value_t = 16)]
    digits: usize,
}

const BATCH: usize = 64;

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    let rng = &mut Rng::new(args.common.seed);
    let digits = data::digits()?;
    let order = rng.permutation(digits.len());
    let (train, test) = order.split_at(digits.len() - digits.len() / 5);
    let (train, test) = (digits.select(train), digits.select(test));
    let device = args.common.open_device()?;
    let out = args.common.open_out("dense_to_conv")?;

    let mut net = build(train.size, rng)?;
    net.move_to(&device)?;
    learn(&mut net, &train, args.steps, &device, rng)?;
    net.set_mode(Mode::Eval);

    let [rows, columns] = test.size;
    let window = [1, 1, rows, columns];
    let before = net.summary(&window, Layout::ChannelsFirst)?;
    let strip = Strip::random(&test, args.digits.max(1), rng);
    let windows = strip.all_windows()?.to_device(&device)?;
    let one_by_one = net.forward(&windows)?.to_vec()?;

    let error = remap::make_convolutional(&mut net, &window, Layout::ChannelsFirst)?;
    let x = strip.tensor()?.to_device(&device)?;
    let map = net.forward(&x)?;
    say(&format!("{before}"))?;
    say(&format!(
        "as a convolution: {}",
        net.summary(x.shape(), Layout::ChannelsFirst)?
    ))?;
    say(&format!("worst error on a single window: {error:.1e}"))?;

    // (1, classes, 1, positions) against (positions, classes)
    let positions = map.shape()[3];
    let map = map.to_vec()?;
    let worst = (0..positions * CLASSES)
        .map(|i| (map[i % CLASSES * positions + i / CLASSES] - one_by_one[i]).abs())
        .fold(0.0, f32::max);
    say(&format!(
        "worst error of the map against {positions} windows one by one: {worst:.1e}"
    ))?;

    let chances = Softmax
        .forward(&Tensor::from_vec(&[1, CLASSES, 1, positions], map)?)?
        .to_vec()?;
    let chance = |class: usize, position: usize| chances[class * positions + position];
    let read = |position: usize| {
        let best =
            (0..BETWEEN).max_by(|&a, &b| chance(a, position).total_cmp(&chance(b, position)));
        best.unwrap_or(0)
    };
    let right = strip
        .places
        .iter()
        .filter(|&&(at, label)| read(at) == label)
        .count();
    let text: String = strip
        .places
        .iter()
        .map(|&(at, _)| read(at).to_string())
        .collect();
    say(&format!(
        "read: {text} ({right} of {} right)",
        strip.places.len()
    ))?;

    let path = out.join("heat_map.png");
    picture::write_png(&path, &strip, &chances, &train)?;
    say(&format!("heat map: {}", path.display()))
}

/// Two convolutions without padding, so that every window is read on its own, and two dense
/// layers.
fn build([rows, columns]: [usize; 2], rng: &mut Rng) -> Result<Sequential<f32>> {
    let init = Init::KaimingNormal;
    let features = 24 * (rows - 4) * (columns - 4);
    Ok(Sequential::new()
        .then(Conv2d::builder(1, 16, [3, 3]).init(init).build(rng)?)
        .then(Activation::Relu)
        .then(Conv2d::builder(16, 24, [3, 3]).init(init).build(rng)?)
        .then(Activation::Relu)
        .then(Flatten)
        .then(Dropout::new(0.3)?)
        .then(Dense::with_init(features, 64, init, rng)?)
        .then(Activation::Relu)
        .then(Dense::with_init(64, CLASSES, init, rng)?))
}

fn learn(
    net: &mut Sequential<f32>,
    images: &Images,
    steps: usize,
    device: &Device,
    rng: &mut Rng,
) -> Result<()> {
    let mut optimizer = Adam::decoupled(2e-3, 0.02)?;
    let progress = Progress::new(steps as u64);
    let (mut sum, mut count) = (0.0, 0);
    for step in 0..steps {
        optimizer.set_learning_rate(2e-3 * (1.0 - step as f64 / steps as f64))?;
        let (x, targets) = strip::batch(images, BATCH, rng)?;
        net.set_mode(Mode::Train { seed: rng.bits() });
        let tape = net.record(&x.to_device(device)?)?;
        let (loss, gradient) = loss::cross_entropy(tape.output(), &targets)?;
        cli::check_loss(loss)?;
        let gradients = net.parameter_gradients_of(&tape, &gradient)?;
        optimizer.step(net, &gradients)?;
        progress.step();
        (sum, count) = (sum + loss, count + 1);
        if (step + 1) % 300 == 0 || step + 1 == steps {
            progress.epoch(format!(
                "step {:>4}/{steps}  loss {:.4}",
                step + 1,
                sum / f64::from(count)
            ))?;
            (sum, count) = (0.0, 0);
        }
    }
    progress.finish();
    Ok(())
}
