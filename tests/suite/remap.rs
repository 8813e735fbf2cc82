//! Weight layouts and dense layers as convolutions: requirements F1 to F3.

use ndarray::{ArrayD, IxDyn};
use ndconv::init::{Init, Rng};
use ndconv::layer::{
    Conv, Conv2d, Dense, Flatten, Gradients, Layer, MaxPool2d, Sequential, Softmax,
};
use ndconv::ops::Activation;
use ndconv::remap::{self, Rearrangement, WeightKind, WeightLayout};
use ndconv::{ConvParams, Error, Layout, Padding, Result, Rules, Tensor};

pub fn numbered(shape: &[usize]) -> ArrayD<u32> {
    let count = shape.iter().product::<usize>() as u32;
    ArrayD::from_shape_vec(IxDyn(shape), (0..count).collect()).unwrap()
}

pub fn random(shape: &[usize], seed: u64) -> Tensor<f64> {
    Init::Normal(1.0)
        .tensor(shape, 1, 1, &mut Rng::new(seed))
        .unwrap()
}

#[track_caller]
pub fn assert_close(a: &Tensor<f64>, b: &Tensor<f64>) {
    let (a, b) = (
        a.to_layout(Layout::ChannelsFirst).unwrap(),
        b.to_layout(Layout::ChannelsFirst).unwrap(),
    );
    assert_eq!(a.len(), b.len());
    let pairs = a.to_vec().unwrap().into_iter().zip(b.to_vec().unwrap());
    let worst = pairs.fold(0.0f64, |m, (a, b)| m.max((a - b).abs() / b.abs().max(1.0)));
    assert!(worst < 1e-11, "worst error {worst:e}");
}

#[test]
fn f1_vgg_rows_are_where_the_table_says() {
    let weight = numbered(&[2, 25088]);
    let first = remap::dense_to_conv(&weight, &[512, 7, 7], Layout::ChannelsFirst).unwrap();
    let last = remap::dense_to_conv(&weight, &[512, 7, 7], Layout::ChannelsLast).unwrap();
    assert_eq!(first.shape(), [2, 512, 7, 7]);
    for (c, h, w) in [
        (0, 0, 0),
        (1, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
        (511, 6, 6),
        (317, 2, 5),
    ] {
        let row = |n: usize| 25088 + n as u32;
        assert_eq!(first[[1, c, h, w]], row(c * 49 + h * 7 + w));
        assert_eq!(last[[1, c, h, w]], row((h * 7 + w) * 512 + c));
    }
    assert_eq!(
        remap::conv_to_dense(&first, Layout::ChannelsFirst).unwrap(),
        weight
    );
    assert_eq!(
        remap::conv_to_dense(&last, Layout::ChannelsLast).unwrap(),
        weight
    );
    // the whole layer as a plan, without its 411 MB
    let plan = Rearrangement::new(&[4096, 25088]).unwrap();
    let plan = remap::plan_dense_to_conv(plan, &[512, 7, 7], Layout::ChannelsFirst).unwrap();
    assert_eq!(plan.shape(), [4096, 512, 7, 7]);
    assert!(plan.is_reshape());
}

#[test]
fn f1_theano_weights_are_reversed_as_well() {
    // W.T.reshape(out, 512, 7, 7)[:, :, ::-1, ::-1]
    let w = numbered(&[25088, 3]);
    let native = WeightLayout::Theano
        .to_native(&w, WeightKind::Dense)
        .unwrap();
    let conv = remap::dense_to_conv(&native, &[512, 7, 7], Layout::ChannelsFirst).unwrap();
    let theano = WeightLayout::Theano
        .from_native(&conv, WeightKind::Conv)
        .unwrap();
    let mut expected = w
        .t()
        .as_standard_layout()
        .to_owned()
        .into_shape_with_order(vec![3, 512, 7, 7])
        .unwrap();
    expected.invert_axis(ndarray::Axis(2));
    expected.invert_axis(ndarray::Axis(3));
    assert_eq!(theano, expected);
}

#[test]
fn f1_outputs_are_equal_at_vgg_size() {
    let dense = Dense::<f64>::new(25088, 4, &mut Rng::new(1)).unwrap();
    for layout in Layout::ALL {
        let x = random(&layout.from_channels_first(&[2, 512, 7, 7]), 2).with_layout(layout);
        let conv = remap::dense_layer_to_conv(&dense, 512, [7, 7], layout).unwrap();
        let map = conv.forward(&x).unwrap();
        assert_eq!(map.channels_first_shape(), [2, 4, 1, 1]);
        assert_close(&map, &dense.forward(&Flatten.forward(&x).unwrap()).unwrap());
    }
}

fn dense_and_back<const N: usize>(spatial: [usize; N]) {
    let features = 3 * spatial.iter().product::<usize>();
    let dense = Dense::<f64>::new(features, 5, &mut Rng::new(3)).unwrap();
    for layout in Layout::ALL {
        let shape = layout.from_channels_first(&[&[2, 3][..], &spatial].concat());
        let x = random(&shape, 4).with_layout(layout);
        let y = dense.forward(&Flatten.forward(&x).unwrap()).unwrap();
        let conv = remap::dense_layer_to_conv(&dense, 3, spatial, layout).unwrap();
        assert_close(&conv.forward(&x).unwrap(), &y);
        let back = remap::conv_layer_to_dense(&conv, spatial, layout).unwrap();
        assert_eq!(
            back.weight().to_vec().unwrap(),
            dense.weight().to_vec().unwrap()
        );
        assert_eq!(
            back.bias().unwrap().to_vec().unwrap(),
            dense.bias().unwrap().to_vec().unwrap()
        );
        let pointwise: Conv<f64, N> = remap::dense_layer_to_pointwise(&dense).unwrap();
        let rows = Flatten.forward(&x).unwrap();
        let column = rows
            .reshape(&[&[2, features][..], &[1; N]].concat())
            .unwrap();
        assert_close(&pointwise.forward(&column).unwrap(), &y);
    }
}

#[test]
fn f1_every_rank_and_back_with_the_bias() {
    dense_and_back([5]);
    dense_and_back([2, 3]);
    dense_and_back([2, 3, 2]);
    dense_and_back([2, 1, 3, 2]);
}

#[test]
fn f1_a_convolution_with_groups_dilation_and_padding_as_a_dense_layer() {
    let params = ConvParams {
        padding: Padding::Explicit([(1, 0), (0, 2)]),
        dilation: [2, 1],
        stride: [9, 9],
        groups: 2,
        ..ConvParams::default()
    };
    let conv = Conv::<f64, 2>::new(
        random(&[6, 2, 3, 4], 5),
        Some(random(&[6], 6)),
        params,
        Rules::Native,
    )
    .unwrap();
    for layout in Layout::ALL {
        let x = random(&layout.from_channels_first(&[2, 4, 6, 5]), 7).with_layout(layout);
        let dense = remap::conv_layer_to_dense(&conv, [6, 5], layout).unwrap();
        let y = dense.forward(&Flatten.forward(&x).unwrap()).unwrap();
        assert_close(&conv.forward(&x).unwrap(), &y);
    }
}

fn digits(rng: &mut Rng) -> Result<Sequential<f64>> {
    Ok(Sequential::new()
        .then(Conv2d::builder(1, 4, [3, 3]).build(rng)?)
        .then(Activation::Relu)
        .then(MaxPool2d::new([2, 2]))
        .then(Flatten)
        .then(Dense::new(4 * 3 * 3, 16, rng)?)
        .then(Activation::Relu)
        .then(Dense::new(16, 10, rng)?)
        .then(Softmax))
}

#[test]
fn f2_the_converted_net_slides_and_gives_a_map() {
    for layout in Layout::ALL {
        let window_net = digits(&mut Rng::new(8)).unwrap();
        let mut net = digits(&mut Rng::new(8)).unwrap();
        let shape = layout.from_channels_first(&[1, 1, 8, 8]);
        let error = remap::make_convolutional(&mut net, &shape, layout).unwrap();
        assert!(error < 1e-12, "{error:e}");
        let strip = random(&[1, 1, 8, 20], 9).to_layout(layout).unwrap();
        let map = net.forward(&strip).unwrap();
        assert_eq!(map.channels_first_shape(), [1, 10, 1, 7]);
        let map = map
            .to_layout(Layout::ChannelsFirst)
            .unwrap()
            .to_array()
            .unwrap();
        let strip = strip
            .to_layout(Layout::ChannelsFirst)
            .unwrap()
            .to_array()
            .unwrap();
        for position in 0..7 {
            let from = 2 * position; // the pooling's stride
            let window = strip
                .slice(ndarray::s![.., .., .., from..from + 8])
                .to_owned();
            let window = Tensor::from_array(&window)
                .unwrap()
                .to_layout(layout)
                .unwrap();
            let y = window_net.forward(&window).unwrap();
            let column = map.slice(ndarray::s![.., .., 0, position]).to_owned();
            assert_close(&Tensor::from_array(&column).unwrap(), &y);
        }
    }
}

#[test]
fn f2_a_net_that_cannot_slide_is_left_alone() {
    let mut net = Sequential::<f64>::new().then(Activation::Relu);
    assert!(remap::make_convolutional(&mut net, &[1, 4], Layout::ChannelsFirst).is_err());
    let rng = &mut Rng::new(0);
    let mut net = Sequential::new()
        .then(Flatten)
        .then(Dense::<f64>::new(18, 4, rng).unwrap());
    assert!(remap::make_convolutional(&mut net, &[1, 2, 3, 4], Layout::ChannelsFirst).is_err());
    assert_eq!(net.layers()[0].describe(), "Flatten");
}

#[test]
fn f2_nets_within_nets_slide() {
    for layout in Layout::ALL {
        let rng = &mut Rng::new(4);
        let features = Sequential::new()
            .then(Conv2d::builder(1, 4, [3, 3]).build(rng).unwrap())
            .then(
                Sequential::new()
                    .then(Activation::Relu)
                    .then(MaxPool2d::new([2, 2])),
            );
        let head = Sequential::new()
            .then(Dense::<f64>::new(4 * 3 * 3, 6, rng).unwrap())
            .then(Sequential::new())
            .then(Sequential::new().then(Dense::new(6, 3, rng).unwrap()));
        let mut net = Sequential::new().then(features).then(Flatten).then(head);
        let shape = layout.from_channels_first(&[1, 1, 8, 8]);
        let window = random(&[1, 1, 8, 8], 3).to_layout(layout).unwrap();
        let y = net.forward(&window).unwrap();
        let names: Vec<String> = net.parameters().into_iter().map(|(name, _)| name).collect();
        remap::make_convolutional(&mut net, &shape, layout).unwrap();
        let strip = random(&[1, 1, 10, 14], 3).to_layout(layout).unwrap();
        let map = net.forward(&strip).unwrap();
        assert_eq!(map.channels_first_shape(), [1, 3, 2, 4]);
        let after = net.forward(&window).unwrap();
        assert_close(&after.reshape(y.shape()).unwrap(), &y);
        let still: Vec<String> = net.parameters().into_iter().map(|(name, _)| name).collect();
        assert_eq!(still, names, "every layer stays in its net");
    }
}

#[test]
fn f2_a_refused_net_within_a_net_is_left_alone() {
    /// Gives what the shape of its input is: no two forms of a net agree.
    #[derive(Debug)]
    struct Axes;
    impl Layer<f64> for Axes {
        fn forward(&self, x: &Tensor<f64>) -> ndconv::Result<Tensor<f64>> {
            Tensor::full(x.shape(), x.shape().len() as f64, &x.device())
        }
        fn backward(&self, x: &Tensor<f64>, dy: &Tensor<f64>) -> ndconv::Result<Gradients<f64>> {
            let (input, parameters) = (Tensor::full(x.shape(), 0.0, &dy.device())?, Vec::new());
            Ok(Gradients { input, parameters })
        }
        fn output_shape(&self, x: &[usize], _layout: Layout) -> ndconv::Result<Vec<usize>> {
            Ok(x.to_vec())
        }
        fn describe(&self) -> String {
            "Axes".into()
        }
    }
    let inner = Sequential::new()
        .then(Flatten)
        .then(Dense::<f64>::new(18, 4, &mut Rng::new(0)).unwrap());
    let mut outer = Sequential::new().then(inner).then(Axes);
    let refused = remap::make_convolutional(&mut outer, &[1, 2, 3, 3], Layout::ChannelsFirst);
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
    assert_eq!(outer.layers()[0].inner()[0].describe(), "Flatten");
    assert!(outer.layers()[0].inner()[1].describe().starts_with("Dense"));
}

#[test]
fn f3_layouts_in_the_order_of_each_library() {
    let native = numbered(&[6, 2, 5, 7]);
    let at = |w: &ArrayD<u32>, index: &[usize]| w[index];
    let cases: [(&str, &[usize], &[usize]); 6] = [
        ("pytorch", &[6, 2, 5, 7], &[3, 1, 4, 2]),
        ("onnx", &[6, 2, 5, 7], &[3, 1, 4, 2]),
        ("keras", &[5, 7, 2, 6], &[4, 2, 1, 3]),
        ("theano", &[6, 2, 5, 7], &[3, 1, 0, 4]),
        ("OIHW", &[6, 2, 5, 7], &[3, 1, 4, 2]),
        ("WIHO", &[7, 2, 5, 6], &[2, 1, 4, 3]),
    ];
    for (name, shape, index) in cases {
        let layout: WeightLayout = name.parse().unwrap();
        let theirs = layout.from_native(&native, WeightKind::Conv).unwrap();
        assert_eq!(theirs.shape(), shape, "{name}");
        assert_eq!(at(&theirs, index), native[[3, 1, 4, 2]], "{name}");
        assert_eq!(
            layout.to_native(&theirs, WeightKind::Conv).unwrap(),
            native,
            "{name}"
        );
    }
    // transposed: native (in, out / groups, k..)
    let cases: [(&str, &[usize], &[usize]); 4] = [
        ("pytorch", &[6, 2, 5, 7], &[3, 1, 4, 2]),
        ("keras", &[5, 7, 2, 6], &[4, 2, 1, 3]),
        ("theano", &[6, 2, 5, 7], &[3, 1, 0, 4]),
        ("HWIO", &[5, 7, 6, 2], &[0, 4, 3, 1]),
    ];
    for (name, shape, index) in cases {
        let layout: WeightLayout = name.parse().unwrap();
        let theirs = layout
            .from_native(&native, WeightKind::ConvTranspose)
            .unwrap();
        assert_eq!(theirs.shape(), shape, "{name}");
        assert_eq!(at(&theirs, index), native[[3, 1, 4, 2]], "{name}");
        assert_eq!(
            layout
                .to_native(&theirs, WeightKind::ConvTranspose)
                .unwrap(),
            native,
            "{name}"
        );
    }
    let dense = numbered(&[3, 4]);
    for name in ["keras", "theano", "HWIO"] {
        let layout: WeightLayout = name.parse().unwrap();
        let theirs = layout.from_native(&dense, WeightKind::Dense).unwrap();
        assert_eq!(theirs, dense.t().to_owned().into_dyn(), "{name}");
        assert_eq!(layout.to_native(&theirs, WeightKind::Dense).unwrap(), dense);
    }
    let volumes: WeightLayout = "OIDHW".parse().unwrap();
    assert_eq!(volumes.to_string(), "OIDHW");
    for wrong in ["OIH W", "OHW", "OOIHW", "OI", "HWIOXYZ", "theono", ""] {
        assert!(wrong.parse::<WeightLayout>().is_err(), "{wrong}");
    }
}

#[test]
fn f3_depthwise_is_in_times_multiplier() {
    // Keras (k.., in, multiplier): output channel = in * multiplier + m
    let keras = numbered(&[3, 3, 4, 2]);
    let depthwise = WeightKind::Depthwise;
    let native = WeightLayout::Keras.to_native(&keras, depthwise).unwrap();
    assert_eq!(native.shape(), [8, 1, 3, 3]);
    assert_eq!(native[[2 * 2 + 1, 0, 1, 2]], keras[[1, 2, 2, 1]]);
    let back = WeightLayout::Keras
        .from_native_in_groups(&native, depthwise, 4)
        .unwrap();
    assert_eq!(back, keras);
    assert!(
        WeightLayout::Keras
            .from_native_in_groups(&native, depthwise, 3)
            .is_err()
    );
    assert!(
        WeightLayout::Keras
            .from_native_in_groups(&native, depthwise, 0)
            .is_err()
    );
}
