//! Weight layouts and dense layers as convolutions: requirements F1 to F3.

use ndarray::{Array2, ArrayD, IxDyn};
use ndconv::init::{Init, Rng};
use ndconv::layer::{
    Conv, Conv2d, ConvTranspose, Dense, Flatten, Layer, MaxPool2d, Sequential, Softmax,
};
use ndconv::ops::Activation;
use ndconv::remap::{self, BatchNorm, Rearrangement, WeightKind, WeightLayout, ZeroStuffed};
use ndconv::{
    ConvParams, ConvProblem, Device, Error, Layout, Padding, PaddingMode, Result, Rules, Tensor,
    TransposedSize,
};
use proptest::prelude::*;

fn numbered(shape: &[usize]) -> ArrayD<u32> {
    let count = shape.iter().product::<usize>() as u32;
    ArrayD::from_shape_vec(IxDyn(shape), (0..count).collect()).unwrap()
}

fn random(shape: &[usize], seed: u64) -> Tensor<f64> {
    Init::Normal(1.0)
        .tensor(shape, 1, 1, &mut Rng::new(seed))
        .unwrap()
}

#[track_caller]
fn assert_close(a: &Tensor<f64>, b: &Tensor<f64>) {
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
    let inner = Sequential::new()
        .then(Flatten)
        .then(Dense::<f64>::new(18, 4, rng).unwrap());
    let mut outer = Sequential::new().then(inner);
    let refused = remap::make_convolutional(&mut outer, &[1, 2, 3, 3], Layout::ChannelsFirst);
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
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

#[test]
fn a_circular_convolution_is_a_circulant_matrix() {
    let w = ArrayD::from_shape_vec(vec![1, 1, 3], vec![1, 2, 3]).unwrap();
    let params = ConvParams {
        padding: Padding::Explicit([(0, 2)]),
        padding_mode: PaddingMode::Circular,
        ..ConvParams::default()
    };
    let problem = ConvProblem::<1>::new(&[1, 1, 4], w.shape(), &params).unwrap();
    let matrix = remap::conv_matrix(&problem, &w).unwrap();
    let expected = [[1, 2, 3, 0], [0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1]];
    assert_eq!(matrix, Array2::from(expected.to_vec()).into_dyn());
}

fn modes() -> impl Strategy<Value = PaddingMode> {
    use PaddingMode::*;
    prop::sample::select(vec![Zeros, Reflect, Replicate, Circular])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_convolution_times_an_image_is_its_matrix_times_the_image(
        (k, d, s, g) in (1usize..4, 1usize..3, 1usize..3, 1usize..3),
        (lo, hi, mode) in (0usize..3, 0usize..3, modes()),
    ) {
        let params = ConvParams {
            stride: [s, 1], dilation: [d, 1], groups: g, padding_mode: mode,
            padding: Padding::Explicit([(lo, hi), (hi, lo)]),
        };
        let conv = Conv::<f64, 2>::new(random(&[2 * g, 2, k, 2], 1), None, params, Rules::Native).unwrap();
        let x = random(&[1, 2 * g, 6, 4], 2);
        let problem = conv.problem(x.shape()).unwrap();
        let matrix = remap::conv_matrix(&problem, &conv.weight().to_array().unwrap()).unwrap();
        let matrix = matrix.into_dimensionality::<ndarray::Ix2>().unwrap();
        let y = matrix.dot(&ndarray::Array1::from(x.to_vec().unwrap()));
        assert_close(&conv.forward(&x).unwrap(), &Tensor::from_array(&y).unwrap());
    }

    #[test]
    fn a_transposed_convolution_is_one_of_a_zero_stuffed_input(
        (k, d, s, g) in (1usize..5, 1usize..3, 1usize..4, 1usize..3),
        (lo, hi, op) in (0usize..4, 0usize..4, 0usize..3),
    ) {
        let params = ConvParams {
            stride: [s, 2], dilation: [d, 1], groups: g,
            padding: Padding::Explicit([(lo, hi), (1, 0)]), ..ConvParams::default()
        };
        let size = TransposedSize { output_padding: Some([op, 0]), output_shape: None };
        let up = ConvTranspose::<f64, 2>::new(
            random(&[2 * g, 3, k, 2], 1), Some(random(&[3 * g], 2)), params, Rules::Native, size,
        ).unwrap();
        let x = random(&[2, 2 * g, 4, 3], 3);
        let Ok(y) = up.forward(&x) else { return Ok(()) }; // cropped away
        for layout in Layout::ALL {
            let x = x.to_layout(layout).unwrap();
            let steps = ZeroStuffed::new(&up, &x.channels_first_shape()).unwrap();
            let stuffed = steps.stuff(&x).unwrap();
            assert_eq!(stuffed.channels_first_shape(), steps.shape());
            assert_close(&steps.conv.forward(&stuffed).unwrap(), &y);
        }
        if op == 0 && lo < d * (k - 1) + 1 && hi < d * (k - 1) + 1 {
            // the convolution that pads what the transposed one does not crop, and back
            let reach = [d * (k - 1), 1];
            let padding = Padding::Explicit([(reach[0] - lo, reach[0] - hi), (0, 1)]);
            let weight = remap::swap_weight(&up.weight().to_array().unwrap(), g).unwrap();
            let params = ConvParams { stride: [1, 1], padding, ..params };
            let conv = Conv::<f64, 2>::new(
                Tensor::from_array(&weight).unwrap(), up.bias().cloned(), params, Rules::Native,
            ).unwrap();
            let again = ZeroStuffed::undo(&conv, [s, 2]).unwrap();
            assert_close(&again.forward(&x).unwrap(), &y);
        }
    }

    #[test]
    fn bytes_move_as_elements_do(
        shape in prop::collection::vec(1usize..5, 3..6),
        seed in 0u64..1000,
        width in prop::sample::select(vec![1usize, 2, 4, 8, 3]),
    ) {
        let rng = &mut Rng::new(seed);
        let order = rng.permutation(shape.len());
        let mut plan = Rearrangement::new(&shape).unwrap().permute(&order).unwrap();
        let reversed: Vec<usize> = (0..shape.len()).filter(|_| rng.uniform() < 0.3).collect();
        for &axis in &reversed {
            plan = plan.reverse(axis).unwrap();
        }
        let source = numbered(&shape);
        let mut view = source.view().permuted_axes(IxDyn(&order));
        reversed.iter().for_each(|&axis| view.invert_axis(ndarray::Axis(axis)));
        let moved = plan.apply(&source).unwrap();
        prop_assert_eq!(&moved, &view);
        let bytes = |a: &ArrayD<u32>| -> Vec<u8> {
            a.iter().flat_map(|v| (0..width).map(move |i| (v >> (i % 4 * 8)) as u8)).collect()
        };
        let expected = bytes(&moved);
        let (count, mut got) = (moved.len(), Vec::new());
        let cut = (rng.uniform() * count as f64) as usize;
        plan.gather(&bytes(&source), width, 0..cut, &mut got).unwrap();
        plan.gather(&bytes(&source), width, cut..count, &mut got).unwrap();
        prop_assert_eq!(&got, &expected);
        got.clear();
        plan.gather(&bytes(&source), width, 0..count, &mut got).unwrap();
        prop_assert_eq!(&got, &expected);
    }

    #[test]
    fn every_layout_and_kind_round_trips(
        taps in prop::collection::vec(1usize..4, 1..5), channels in 1usize..4, groups in 1usize..4,
    ) {
        for layout in WeightLayout::NAMED {
            let native = numbered(&[&[channels * groups, 2][..], &taps].concat());
            for kind in [WeightKind::Conv, WeightKind::ConvTranspose] {
                let theirs = layout.from_native(&native, kind).unwrap();
                prop_assert_eq!(&layout.to_native(&theirs, kind).unwrap(), &native);
            }
            let native = numbered(&[&[channels * groups, 1][..], &taps].concat());
            let kind = WeightKind::Depthwise;
            let theirs = layout.from_native_in_groups(&native, kind, groups).unwrap();
            prop_assert_eq!(&layout.to_native(&theirs, kind).unwrap(), &native);
        }
    }
}

#[test]
fn batch_norm_folds_into_the_convolution() {
    let norm = |channels| BatchNorm {
        gamma: Some(random(&[channels], 1)),
        beta: Some(random(&[channels], 2)),
        mean: random(&[channels], 3),
        variance: Tensor::full(&[channels], 0.7, &Device::Cpu).unwrap(),
        epsilon: 1e-3,
    };
    let params = ConvParams {
        groups: 2,
        ..ConvParams::default()
    };
    let x = random(&[2, 4, 5, 5], 4);
    let conv = Conv::<f64, 2>::new(random(&[6, 2, 3, 3], 5), None, params, Rules::Keras).unwrap();
    let folded = remap::fold_batch_norm(&conv, &norm(6)).unwrap();
    check_folded(
        &conv.forward(&x).unwrap(),
        &folded.forward(&x).unwrap(),
        &norm(6),
    );
    assert_eq!(folded.rules(), Rules::Keras);
    let up = ConvTranspose::<f64, 2>::new(
        random(&[4, 3, 3, 3], 5),
        Some(random(&[6], 6)),
        params,
        Rules::PyTorch,
        TransposedSize::default(),
    )
    .unwrap();
    let folded = remap::fold_batch_norm_transposed(&up, &norm(6)).unwrap();
    check_folded(
        &up.forward(&x).unwrap(),
        &folded.forward(&x).unwrap(),
        &norm(6),
    );
    assert!(remap::fold_batch_norm(&conv, &norm(5)).is_err());
    let flat = BatchNorm {
        variance: random(&[6], 9).reshape(&[6]).unwrap(),
        epsilon: -9.0,
        ..norm(6)
    };
    assert!(matches!(
        remap::fold_batch_norm(&conv, &flat),
        Err(Error::Argument { .. })
    ));
}

fn check_folded(plain: &Tensor<f64>, folded: &Tensor<f64>, norm: &BatchNorm<f64>) {
    let value = |t: &Option<Tensor<f64>>, c: usize| t.as_ref().unwrap().to_vec().unwrap()[c];
    let mut expected = plain.to_array().unwrap();
    for (index, v) in expected.indexed_iter_mut() {
        let c = index[1];
        let (mean, variance) = (
            norm.mean.to_vec().unwrap()[c],
            norm.variance.to_vec().unwrap()[c],
        );
        let normal = (*v - mean) / (variance + norm.epsilon).sqrt();
        *v = normal * value(&norm.gamma, c) + value(&norm.beta, c);
    }
    assert_close(folded, &Tensor::from_array(&expected).unwrap());
}

#[test]
fn impossible_rearrangements_are_errors() {
    let plan = || Rearrangement::new(&[4, 6]).unwrap();
    assert!(plan().permute(&[0, 0]).is_err());
    assert!(plan().permute(&[0, 2]).is_err());
    assert!(plan().permute(&[0]).is_err());
    assert!(plan().reverse(2).is_err());
    assert!(plan().split(1, &[4, 2]).is_err());
    assert!(plan().split(2, &[1]).is_err());
    assert!(plan().merge(1..3).is_err());
    let crossed = plan().permute(&[1, 0]).unwrap().merge(0..2).unwrap();
    assert!(matches!(
        crossed.split(0, &[8, 3]),
        Err(Error::Unsupported { .. })
    ));
    assert!(plan().apply(&numbered(&[6, 4])).is_err());
    assert!(plan().gather(&[0; 23], 1, 0..2, &mut Vec::new()).is_err());
    assert!(plan().gather(&[0; 24], 1, 0..25, &mut Vec::new()).is_err());
    assert!(Rearrangement::new(&[usize::MAX, 2]).is_err());
    let empty = Rearrangement::new(&[0, 3]).unwrap().reverse(0).unwrap();
    assert_eq!(
        empty.apply(&ArrayD::<u8>::zeros(vec![0, 3])).unwrap().len(),
        0
    );
}
