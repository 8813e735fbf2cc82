//! Trains a small convolutional net to read handwritten digits.
//!
//! ```text
//! cargo run --release --example digits
//! cargo run --release --example digits -- --seed 3 --epochs 30 --device cpu
//! cargo run --release --example digits -- --data path/to/mnist
//! ```
//!
//! The bundled digits are shuffled by the seed, and the last fifth of them is held out; MNIST has a
//! test set of its own. The number of epochs is fixed beforehand and the weights of the last epoch
//! are the result, so the accuracy printed at the end is that of images which nothing was chosen by.
//! `target/digits/` gets the curves (`curves.svg`) and the weights (`weights.safetensors`).

mod augment;
#[path = "../shared/mod.rs"]
mod shared;
mod train;

use std::process::ExitCode;

use clap::Parser;
use ndconv::init::{Init, Rng};
use ndconv::layer::{Conv2d, Dense, Dropout, Flatten, Layer, MaxPool2d, Sequential};
use ndconv::ops::Activation;
use ndconv::{Layout, Padding, io};

use shared::cli::{self, Common, Result, say};
use shared::data::{self, Images};
use shared::plot::{Panel, SeriesLabelPosition, write_svg};
use shared::progress::Progress;
use train::{Score, Trainer};

/// Trains a small convolutional net to read handwritten digits
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// How often every image is seen [default: 20; with --data 4]
    #[arg(long, value_name = "N", value_parser = cli::epochs(), allow_negative_numbers = true)]
    epochs: Option<usize>,
    /// Images a step
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = cli::batch())]
    batch: usize,
    /// The highest learning rate of the schedule
    #[arg(
        long,
        value_name = "RATE",
        default_value_t = 3e-3,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = cli::learning_rate())]
    learning_rate: f64,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    let rng = &mut Rng::new(args.common.seed);
    let (train, test) = load(&args.common, rng)?;
    let classes = 1 + train
        .labels
        .iter()
        .chain(&test.labels)
        .max()
        .map_or(0, |&l| l.into());
    let [rows, columns] = train.size;
    say(&format!(
        "data: {} images to learn, {} to test, {rows}x{columns}",
        train.len(),
        test.len()
    ))?;
    let device = args.common.open_device()?;
    let out = args.common.open_out("digits")?;

    let mut net = build([rows, columns], classes, rng)?;
    net.move_to(&device)?;
    say(&format!(
        "{}",
        net.summary(&[args.batch, 1, rows, columns], Layout::ChannelsFirst)?
    ))?;

    let few = if args.common.data.is_some() { 4 } else { 20 };
    let epochs = args.epochs.unwrap_or(few);
    let mut trainer = Trainer::new(
        net,
        device,
        epochs,
        args.batch,
        args.learning_rate,
        rng.clone(),
    )?;
    let progress = Progress::new((epochs * trainer.steps_per_epoch(&train)) as u64);
    let (mut learned, mut tested) = (Vec::new(), Vec::new());
    for epoch in 1..=epochs {
        learned.push(trainer.epoch(&train, || progress.step())?);
        cli::check_loss(learned[epoch - 1].loss)?;
        tested.push(trainer.test(&test)?);
        let (l, t) = (learned[epoch - 1], tested[epoch - 1]);
        progress.epoch(format!(
            "epoch {epoch:>2}/{epochs}  loss {:.4}, accuracy {:.4}  test loss {:.4}, accuracy {:.4}",
            l.loss, l.accuracy, t.loss, t.accuracy
        ))?;
    }
    progress.finish();

    let curves = out.join("curves.svg");
    write_svg(&curves, &panels(&learned, &tested))?;
    let weights = out.join("weights.safetensors");
    io::save_parameters(&trainer.net, &weights)?;
    say(&format!(
        "curves: {}\nweights: {}",
        curves.display(),
        weights.display()
    ))?;
    let accuracy = tested.last().map_or(0.0, |t| t.accuracy);
    say(&format!("test accuracy: {accuracy:.4}"))
}

/// The images to learn from, and those to test with.
fn load(common: &Common, rng: &mut Rng) -> Result<(Images, Images)> {
    let Some(folder) = &common.data else {
        let digits = data::digits()?;
        let order = rng.permutation(digits.len());
        let (train, test) = order.split_at(digits.len() - digits.len() / 5);
        return Ok((digits.select(train), digits.select(test)));
    };
    let (train, test) = (data::idx(folder, "train")?, data::idx(folder, "t10k")?);
    if test.size != train.size {
        let [expected, got] = [train.size, test.size].map(|[h, w]| format!("{h}x{w}"));
        let folder = folder.display();
        return Err(format!("{folder}: expected test images of {expected}, got {got}").into());
    }
    Ok((train, test))
}

/// Three convolutions of 3x3, halving the image twice, and one dense layer.
fn build([rows, columns]: [usize; 2], classes: usize, rng: &mut Rng) -> Result<Sequential<f32>> {
    if rows.min(columns) < 4 {
        return Err(format!("the net expects images of at least 4x4, got {rows}x{columns}").into());
    }
    let conv = |inputs, outputs, rng: &mut Rng| {
        Conv2d::builder(inputs, outputs, [3, 3])
            .padding(Padding::Same)
            .init(Init::KaimingNormal)
            .build(rng)
    };
    Ok(Sequential::new()
        .then(conv(1, 16, rng)?)
        .then(Activation::Relu)
        .then(conv(16, 32, rng)?)
        .then(Activation::Relu)
        .then(MaxPool2d::new([2, 2]))
        .then(conv(32, 64, rng)?)
        .then(Activation::Relu)
        .then(MaxPool2d::new([2, 2]))
        .then(Flatten)
        .then(Dropout::new(0.3)?)
        .then(Dense::new(64 * (rows / 4) * (columns / 4), classes, rng)?))
}

fn panels(learned: &[Score], tested: &[Score]) -> [Panel<'static>; 2] {
    let curves = |of: fn(&Score) -> f64| {
        let [train, test] = [learned, tested].map(|scores| scores.iter().map(of).collect());
        vec![("training, augmented", train), ("test", test)]
    };
    [
        Panel {
            title: "Loss",
            axis: "cross-entropy",
            log: true,
            legend: SeriesLabelPosition::UpperRight,
            curves: curves(|s| s.loss),
        },
        Panel {
            title: "Accuracy",
            axis: "share of images read right",
            log: false,
            legend: SeriesLabelPosition::LowerRight,
            curves: curves(|s| s.accuracy),
        },
    ]
}
