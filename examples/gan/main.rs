//! Trains a small DCGAN (Radford, Metz and Chintala, 2016) to write digits.
//!
//! ```text
//! cargo run --release --example gan
//! cargo run --release --example gan -- --seed 3 --epochs 20 --device cpu
//! cargo run --release --example gan -- --data path/to/mnist
//! ```
//!
//! The generator makes images from noise by transposed convolutions, the discriminator tells them
//! from written ones by strided convolutions, and each learns from the other. It shows what the
//! gradients of a transposed convolution are:
//!
//! - its forward pass spreads every input value over a window of the output, which is what the
//!   input gradient of a convolution does;
//! - so its gradient in the input is in turn a plain strided convolution of the output's gradient
//!   with the same weight;
//! - its gradient in the weight is that convolution's with input and output in each other's place;
//! - its gradient in the bias is the **sum** of the output's gradient over batch and positions, for
//!   the bias is added at every one of them. The mean, which one meets, learns too slowly by as many
//!   times as there are positions.
//!
//! The generator's step uses them all: the loss's gradient goes back through the discriminator into
//! its *input*, which is the generator's output, and from there through the transposed layers.
//!
//! A line an epoch tells the discriminator's loss against the generator's, and the probability that
//! written and made digits have of being written ones, as the discriminator sees it.
//!
//! `target/gan/` gets the images (`samples.png`, made from the same noise at every run of a seed),
//! the curves (`curves.svg`) and the weights (`generator.safetensors`, `discriminator.safetensors`).

mod picture;
#[path = "../shared/mod.rs"]
mod shared;
mod train;

use std::process::ExitCode;

use clap::Parser;
use ndconv::init::Rng;
use ndconv::{Layout, io};

use shared::cli::{self, Common, Result, say};
use shared::data;
use shared::plot::{Panel, SeriesLabelPosition, write_svg};
use shared::progress::Progress;
use train::{Gan, Score};

/// Trains a small DCGAN to write digits
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// How often every image is seen [default: 100; with --data 5]
    #[arg(long, value_name = "N", value_parser = cli::epochs(), allow_negative_numbers = true)]
    epochs: Option<usize>,
    /// Images a step
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = cli::batch())]
    batch: usize,
    /// Adam's learning rate for both nets, until it falls to 0 in the second half
    #[arg(
        long,
        value_name = "RATE",
        default_value_t = 2e-3,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = cli::learning_rate())]
    learning_rate: f64,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    let images = match &args.common.data {
        None => data::digits()?,
        Some(folder) => data::idx(folder, "train")?,
    };
    let [rows, columns] = images.size;
    say(&format!("data: {} images, {rows}x{columns}", images.len()))?;
    let device = args.common.open_device()?;
    let out = args.common.open_out("gan")?;

    let few = if args.common.data.is_some() { 5 } else { 100 };
    let epochs = args.epochs.unwrap_or(few);
    let batch = args.batch.min(images.len());
    let rng = Rng::new(args.common.seed);
    let mut gan = Gan::new(images.size, batch, args.learning_rate, device, rng)?;
    let noise = train::noise_shape(batch);
    say(&format!(
        "generator\n{}",
        gan.generator.summary(&noise, Layout::ChannelsFirst)?
    ))?;
    let image = [batch, 1, rows, columns];
    say(&format!(
        "discriminator\n{}",
        gan.discriminator.summary(&image, Layout::ChannelsFirst)?
    ))?;

    let progress = Progress::new((epochs * gan.steps_per_epoch(&images)) as u64);
    let mut scores = Vec::with_capacity(epochs);
    for epoch in 1..=epochs {
        // calm at the end: at a full learning rate the two nets chase each other for ever
        let left = (epochs + 1 - epoch) as f64 / epochs as f64;
        gan.set_learning_rate(args.learning_rate * (2.0 * left).min(1.0))?;
        let score = gan.epoch(&images, || progress.step())?;
        cli::check_loss(score.discriminator + score.generator)?;
        progress.epoch(format!(
            "epoch {epoch:>3}/{epochs}  loss {:.4} against {:.4}  taken for written {:.2}, made {:.2}",
            score.discriminator, score.generator, score.real, score.fake
        ))?;
        scores.push(score);
    }
    progress.finish();

    let samples = out.join("samples.png");
    picture::write_png(&samples, images.size, &gan.samples(picture::COUNT)?)?;
    let curves = out.join("curves.svg");
    write_svg(&curves, &panels(&scores))?;
    let weights = ["generator.safetensors", "discriminator.safetensors"].map(|name| out.join(name));
    io::save_parameters(&gan.generator, &weights[0])?;
    io::save_parameters(&gan.discriminator, &weights[1])?;
    say(&format!("curves: {}", curves.display()))?;
    say(&format!(
        "weights: {}, {}",
        weights[0].display(),
        weights[1].display()
    ))?;
    say(&format!("samples: {}", samples.display()))
}

fn panels(scores: &[Score]) -> [Panel<'static>; 2] {
    let curve = |of: fn(&Score) -> f64| scores.iter().map(of).collect();
    [
        Panel {
            title: "Loss",
            axis: "binary cross-entropy",
            log: false,
            legend: SeriesLabelPosition::UpperRight,
            curves: vec![
                ("discriminator", curve(|s| s.discriminator)),
                ("generator", curve(|s| s.generator)),
            ],
        },
        Panel {
            title: "What the discriminator takes for written",
            axis: "mean probability",
            log: false,
            legend: SeriesLabelPosition::LowerRight,
            curves: vec![
                ("written digits", curve(|s| s.real)),
                ("made digits", curve(|s| s.fake)),
            ],
        },
    ]
}
