//! Layers: shapes, gradients, files, and the rows of the models that they were made for.

use ndconv::init::{Init, Rng};
use ndconv::layer::{
    AvgPool2d, Conv1d, Conv2d, Conv3d, Conv4d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d,
    ConvTranspose4d, Dense, Dropout, Flatten, GlobalAvgPool, Layer, MaxPool1d, MaxPool2d, Mode,
    Sequential, Softmax,
};
use ndconv::ops::Activation;
use ndconv::{Device, Layout, Padding, PaddingMode, PoolParams, Result, Rules, Tensor, gradcheck};
use rstest::rstest;

fn random(shape: &[usize], seed: u64) -> Result<Tensor<f64>> {
    Init::Normal(1.0).tensor(shape, 1, 1, &mut Rng::new(seed))
}

/// E1: the model of a Keras user with signals of 9000 steps.
#[test]
fn e1_summary_of_the_conv1d_model() -> Result<()> {
    let rng = &mut Rng::new(0);
    let conv = |i, o, k, rng: &mut Rng| Conv1d::<f32>::builder(i, o, [k]).build(rng);
    let net = Sequential::new()
        .then(conv(1, 32, 11, rng)?)
        .then(conv(32, 32, 3, rng)?)
        .then(MaxPool1d::new([2]))
        .then(conv(32, 64, 3, rng)?)
        .then(conv(64, 64, 3, rng)?)
        .then(MaxPool1d::new([2]))
        .then(Flatten)
        .then(Dense::new(143_680, 256, rng)?)
        .then(Dense::new(256, 1, rng)?);
    let summary = net.summary(&[1, 1, 9000], Layout::ChannelsFirst)?;
    let lengths: Vec<usize> = summary.rows[..6]
        .iter()
        .map(|r| r.output_shape[2])
        .collect();
    assert_eq!(lengths, [8990, 8988, 4494, 4492, 4490, 2245]);
    assert_eq!(summary.rows[6].output_shape, [1, 143_680]);
    assert_eq!(summary.parameters(), 36_804_641);
    let table = summary.to_string();
    for text in ["Conv1d(1, 32, [11])", "[1, 32, 8990]", "36,804,641"] {
        assert!(table.contains(text), "{text} is not in\n{table}");
    }
    let last_axis = net.summary(&[1, 9000, 1], Layout::ChannelsLast)?;
    assert_eq!(last_axis.rows[0].output_shape, [1, 8990, 32]);
    Ok(())
}

#[test]
fn e1_a_wrong_rank_says_which_axis_is_missing() -> Result<()> {
    let conv = Conv1d::<f32>::builder(1, 4, [3]).build(&mut Rng::new(0))?;
    let message = |shape: &[usize]| -> Result<String> {
        let x = Tensor::zeros(shape, &Device::Cpu)?;
        Ok(conv.forward(&x).unwrap_err().to_string())
    };
    assert!(message(&[8, 9000])?.contains("add a channel axis"));
    assert!(message(&[9000])?.contains("add a batch and a channel axis"));
    Ok(())
}

/// E2: the sizes of a strided convolution and of its adjoint.
#[test]
fn e2_conv2d_against_its_transpose() -> Result<()> {
    let rng = &mut Rng::new(0);
    for (padding, down, up) in [(Padding::Same, 14, 28), (Padding::Valid, 13, 29)] {
        let conv = Conv2d::<f32>::builder(1, 2, [3, 3])
            .stride([2, 2])
            .padding(padding)
            .build(rng)?;
        let layout = Layout::ChannelsFirst;
        assert_eq!(
            conv.output_shape(&[1, 1, 28, 28], layout)?,
            [1, 2, down, down]
        );
        let transposed = ConvTranspose2d::<f32>::builder(2, 1, [3, 3])
            .stride([2, 2])
            .padding(padding)
            .rules(Rules::Keras)
            .build(rng)?;
        assert_eq!(
            transposed.output_shape(&[1, 2, 14, 14], layout)?,
            [1, 1, up, up]
        );
    }
    Ok(())
}

/// E3: the three gradients of a transposed convolution; that of the bias is a sum.
#[test]
fn e3_transposed_convolution_trains() -> Result<()> {
    let mut layer = ConvTranspose2d::<f64>::builder(3, 2, [3, 3])
        .stride([2, 2])
        .padding(Padding::uniform(1))
        .output_padding([1, 0])
        .build(&mut Rng::new(1))?;
    let x = random(&[2, 3, 4, 5], 2)?;
    assert!(gradcheck(&mut layer, &x, 1.0)?.worst() < 1e-12);
    let y = layer.forward(&x)?;
    let ones = Tensor::full(y.shape(), 1.0, &Device::Cpu)?;
    let dbias = layer.backward(&x, &ones)?.bias().unwrap().to_vec()?;
    assert_eq!(dbias, [(y.len() / 2) as f64; 2]);
    Ok(())
}

/// E6: every layer that the models need has the right gradients.
#[rstest]
#[case::conv1d(Conv1d::builder(2, 4, [3]).groups(2).build(&mut Rng::new(1)), &[2, 2, 7], 1.0)]
#[case::conv2d(Conv2d::builder(2, 3, [3, 2]).stride([2, 1]).build(&mut Rng::new(1)), &[2, 2, 6, 5], 1.0)]
#[case::conv2d_circular(
    Conv2d::builder(1, 2, [3, 3]).padding(Padding::Same).padding_mode(PaddingMode::Circular).build(&mut Rng::new(1)),
    &[1, 1, 4, 5], 1.0)]
#[case::conv3d(Conv3d::builder(1, 2, [2, 2, 3]).build(&mut Rng::new(1)), &[1, 1, 3, 4, 4], 1.0)]
#[case::conv4d(Conv4d::builder(1, 2, [2, 1, 2, 2]).build(&mut Rng::new(1)), &[1, 1, 2, 3, 3, 2], 1.0)]
#[case::conv_transpose1d(ConvTranspose1d::builder(2, 2, [3]).stride([3]).build(&mut Rng::new(1)), &[2, 2, 4], 1.0)]
#[case::conv_transpose3d(ConvTranspose3d::builder(1, 2, [2, 2, 2]).stride([2, 1, 1]).build(&mut Rng::new(1)), &[1, 1, 2, 3, 2], 1.0)]
#[case::conv_transpose4d(ConvTranspose4d::builder(1, 1, [2, 1, 2, 2]).build(&mut Rng::new(1)), &[1, 1, 2, 2, 2, 2], 1.0)]
#[case::dense(Dense::new(5, 3, &mut Rng::new(1)), &[4, 5], 1.0)]
#[case::max_pool(Ok(MaxPool2d::new([2, 2])), &[2, 2, 5, 4], 1e-6)]
#[case::avg_pool(
    Ok(AvgPool2d::with_params(PoolParams { padding: Padding::uniform(1), ..PoolParams::new([3, 2]) })),
    &[2, 2, 5, 4], 1.0)]
#[case::global_avg_pool(Ok(GlobalAvgPool), &[2, 3, 4, 2], 1.0)]
#[case::leaky_relu(Ok(Activation::LeakyRelu { slope: 0.1 }), &[3, 4], 1e-6)]
#[case::sigmoid(Ok(Activation::Sigmoid), &[3, 4], 1e-5)]
#[case::tanh(Ok(Activation::Tanh), &[3, 4], 1e-5)]
#[case::softmax(Ok(Softmax), &[3, 4, 2], 1e-5)]
#[case::flatten(Ok(Flatten), &[3, 4, 2], 1.0)]
fn e6_gradients(
    #[case] layer: Result<impl Layer<f64>>,
    #[case] shape: &[usize],
    #[case] step: f64,
    #[values(Layout::ChannelsFirst, Layout::ChannelsLast)] layout: Layout,
) -> Result<()> {
    let x = random(shape, 3)?.to_layout(layout)?;
    let check = gradcheck(&mut layer?, &x, step)?;
    assert!(check.worst() < 1e-8, "{check:?}");
    Ok(())
}

#[test]
fn gradcheck_sees_a_wrong_gradient() -> Result<()> {
    #[derive(Debug)]
    struct Wrong;
    impl Layer<f64> for Wrong {
        fn forward(&self, x: &Tensor<f64>) -> Result<Tensor<f64>> {
            Layer::forward(&Activation::Tanh, x)
        }
        fn backward(
            &self,
            x: &Tensor<f64>,
            dy: &Tensor<f64>,
        ) -> Result<ndconv::layer::Gradients<f64>> {
            Layer::backward(&Activation::Sigmoid, x, dy)
        }
        fn output_shape(&self, x: &[usize], _: Layout) -> Result<Vec<usize>> {
            Ok(x.to_vec())
        }
        fn describe(&self) -> String {
            "Wrong".into()
        }
    }
    assert!(gradcheck(&mut Wrong, &random(&[8], 0)?, 1e-5)?.worst() > 1e-3);
    Ok(())
}

/// A net's gradients are right in both layouts, and its two ways back agree.
#[rstest]
fn sequential(#[values(Layout::ChannelsFirst, Layout::ChannelsLast)] layout: Layout) -> Result<()> {
    let rng = &mut Rng::new(5);
    let mut net = Sequential::<f64>::new()
        .then(Activation::Tanh)
        .then(
            Conv2d::builder(2, 3, [3, 3])
                .padding(Padding::Same)
                .build(rng)?,
        )
        .then(Activation::Tanh)
        .then(Sequential::new().then(AvgPool2d::new([2, 2])).then(Flatten))
        .then(Dense::new(3 * 2 * 2, 2, rng)?);
    let x = random(&[2, 2, 4, 5], 6)?.to_layout(layout)?;
    assert!(gradcheck(&mut net, &x, 1e-5)?.worst() < 1e-8);

    let names: Vec<String> = net.parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["1.weight", "1.bias", "4.weight", "4.bias"]);
    let tape = net.record(&x)?;
    let dy = random(&[2, 2], 7)?;
    let all = net.backward_of(&tape, &dy)?.parameters;
    let parameters_alone = net.parameter_gradients_of(&tape, &dy)?;
    for (a, b) in all.iter().zip(&parameters_alone) {
        assert_eq!(a.to_vec()?, b.to_vec()?);
    }
    assert_eq!(all.len(), parameters_alone.len());
    Ok(())
}

#[test]
fn dropout_drops_its_share_and_its_gradient_the_same_elements() -> Result<()> {
    let mut net = Sequential::<f64>::new()
        .then(Dropout::new(0.3)?)
        .then(Dropout::new(0.3)?);
    let ones = Tensor::full(&[10_000], 1.0, &Device::Cpu)?;
    assert_eq!(net.forward(&ones)?.to_vec()?, ones.to_vec()?);

    net.set_mode(Mode::Train { seed: 4 });
    let y = net.forward(&ones)?.to_vec()?;
    let kept = y.iter().filter(|&&v| v != 0.0).count() as f64 / 1e4;
    // two independent masks keep 0.49; a shared one would keep 0.7
    assert!((kept - 0.49).abs() < 0.02, "{kept}");
    assert_eq!(net.backward(&ones, &ones)?.input.to_vec()?, y);
    assert_eq!(net.forward(&ones)?.to_vec()?, y, "one seed, one mask");
    net.set_mode(Mode::Train { seed: 5 });
    assert_ne!(net.forward(&ones)?.to_vec()?, y);
    Ok(())
}

#[test]
fn initialisers_have_the_stated_spread() -> Result<()> {
    let deviation = |init: Init| -> Result<f64> {
        let values = init
            .tensor::<f64>(&[100, 100], 50, 30, &mut Rng::new(0))?
            .to_vec()?;
        Ok((values.iter().map(|v| v * v).sum::<f64>() / 1e4).sqrt())
    };
    let third = 3f64.sqrt();
    for (init, expected) in [
        (Init::FanIn, (1.0 / 50f64).sqrt() / third),
        (Init::KaimingUniform, (2.0 / 50f64).sqrt()),
        (Init::KaimingNormal, (2.0 / 50f64).sqrt()),
        (Init::XavierUniform, (2.0 / 80f64).sqrt()),
        (Init::XavierNormal, (2.0 / 80f64).sqrt()),
        (Init::Normal(0.02), 0.02),
        (Init::Constant(0.5), 0.5),
    ] {
        let got = deviation(init)?;
        assert!(
            (got / expected - 1.0).abs() < 0.02,
            "{init:?}: {got}, {expected}"
        );
    }
    Ok(())
}

/// The parts of a backward pass are the parts of the whole.
#[test]
fn a_gradient_alone_is_the_one_of_the_whole() -> Result<()> {
    let rng = &mut Rng::new(8);
    let net = Sequential::<f64>::new()
        .then(
            ConvTranspose2d::builder(2, 3, [2, 3])
                .stride([2, 1])
                .build(rng)?,
        )
        .then(Activation::Tanh)
        .then(Conv2d::builder(3, 2, [3, 3]).build(rng)?)
        .then(Flatten)
        .then(Dense::new(2 * 4 * 3, 2, rng)?);
    let (x, dy) = (random(&[2, 2, 3, 3], 9)?, random(&[2, 2], 10)?);
    let tape = net.record(&x)?;
    let whole = net.backward_of(&tape, &dy)?;
    let alone = net.input_gradient_of(&tape, &dy)?;
    assert_eq!(alone.to_vec()?, whole.input.to_vec()?);
    assert_eq!(net.input_gradient(&x, &dy)?.to_vec()?, alone.to_vec()?);
    Ok(())
}

#[test]
fn a_layer_is_described_in_few_words() -> Result<()> {
    let rng = &mut Rng::new(0);
    let mut describe = |padding| -> Result<String> {
        let conv = Conv2d::<f32>::builder(4, 8, [3, 5])
            .padding(padding)
            .groups(2);
        Ok(conv.build(rng)?.describe())
    };
    let head = "Conv2d(4, 8, [3, 5]";
    assert_eq!(describe(Padding::Valid)?, format!("{head}, groups 2)"));
    assert_eq!(
        describe(Padding::Same)?,
        format!("{head}, padding same, groups 2)")
    );
    assert_eq!(
        describe(Padding::uniform(1))?,
        format!("{head}, padding 1, groups 2)")
    );
    let each = Padding::symmetric([1, 2]);
    assert_eq!(
        describe(each)?,
        format!("{head}, padding [1, 2], groups 2)")
    );
    let sides = Padding::Explicit([(1, 0), (2, 2)]);
    assert_eq!(
        describe(sides)?,
        format!("{head}, padding [(1, 0), (2, 2)], groups 2)")
    );
    let leaky = Activation::LeakyRelu { slope: 0.2 };
    assert_eq!(Layer::<f32>::describe(&leaky), "LeakyRelu(0.2)");
    Ok(())
}
