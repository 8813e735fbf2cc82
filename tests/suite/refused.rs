//! Layers, losses and optimisers fed nonsense: a typed error each time, never a panic.

use half::f16;
use ndconv::init::{Init, Rng};
use ndconv::layer::{
    AvgPool2d, Conv, Conv2d, ConvTranspose2d, Dense, Dropout, Flatten, GlobalAvgPool, Layer,
    MaxPool, MaxPool2d, Sequential, Softmax,
};
use ndconv::ops::{self, Activation};
use ndconv::optim::{Adam, Optimizer, Sgd};
use ndconv::{
    ConvParams, Device, Error, GeometryError, Layout, Padding, PoolParams, Result, Rules, Tensor,
    TransposedSize, loss,
};
use proptest::prelude::*;

fn zeros(shape: &[usize]) -> Tensor<f32> {
    Tensor::zeros(shape, &Device::Cpu).expect("a small tensor")
}

#[track_caller]
fn assert_shape<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::Shape { .. })), "{result:?}");
}

#[track_caller]
fn assert_argument<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(Error::Argument { .. })), "{result:?}");
}

#[test]
fn builders_refuse_impossible_sizes() {
    let rng = &mut Rng::new(0);
    let build = |i, o, k, rng: &mut Rng| Conv2d::<f32>::builder(i, o, k).build(rng);
    assert_shape(build(0, 1, [3, 3], rng));
    assert_shape(build(1, 0, [3, 3], rng));
    assert_shape(build(1, 1, [3, 0], rng));
    let huge = build(usize::MAX, 2, [3, 3], rng);
    assert!(matches!(huge, Err(Error::TooLarge { .. })), "{huge:?}");
    let too_much = build(1 << 20, 1 << 20, [64, 64], rng);
    assert!(
        matches!(
            too_much,
            Err(Error::OutOfMemory { .. } | Error::TooLarge { .. })
        ),
        "{too_much:?}"
    );
    let groups = |g, rng: &mut Rng| Conv2d::<f32>::builder(4, 6, [1, 1]).groups(g).build(rng);
    assert!(groups(2, rng).is_ok());
    for g in [0, 3, 4, usize::MAX] {
        assert_argument(groups(g, rng));
    }
    assert_shape(Dense::<f32>::new(0, 3, rng));
    assert_argument(Init::FanIn.tensor::<f32>(&[1], 0, 0, rng));
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let params = ConvParams::<2>::default();
    let conv = |w: &[usize], b: Option<&[usize]>| {
        Conv::<f32, 2>::new(zeros(w), b.map(zeros), params, Rules::Native)
    };
    assert!(conv(&[4, 2, 3, 3], Some(&[4])).is_ok());
    assert_shape(conv(&[4, 2, 3], None));
    assert_shape(conv(&[4, 0, 3, 3], None));
    assert_shape(conv(&[4, 2, 3, 3], Some(&[2])));
    let transposed = |b: &[usize]| {
        let size = TransposedSize::default();
        ConvTranspose2d::new(
            zeros(&[4, 2, 3, 3]),
            Some(zeros(b)),
            params,
            Rules::Native,
            size,
        )
    };
    assert!(transposed(&[2]).is_ok());
    assert_shape(transposed(&[4]));
    assert_shape(Dense::with_weights(zeros(&[2, 3, 1]), None));
    assert_shape(Dense::with_weights(zeros(&[2, 3]), Some(zeros(&[3]))));
}

#[test]
fn inputs_that_do_not_fit_are_refused() -> Result<()> {
    let rng = &mut Rng::new(0);
    let conv = Conv2d::<f32>::builder(2, 3, [3, 3]).build(rng)?;
    assert_shape(conv.forward(&zeros(&[1, 4, 8, 8])));
    assert_shape(conv.forward(&zeros(&[1, 2, 8])));
    assert_shape(conv.forward(&zeros(&[0, 2, 8, 8])));
    let small = conv.forward(&zeros(&[1, 2, 8, 2]));
    let reason = GeometryError::KernelTooLarge {
        extent: 3,
        padded: 2,
    };
    assert!(
        matches!(small, Err(Error::Geometry { axis: 1, reason: r }) if r == reason),
        "{small:?}"
    );
    // a channels-last image read as channels-first has 8 channels
    assert_shape(conv.forward(&zeros(&[1, 8, 8, 2])));
    let x = zeros(&[1, 2, 8, 8]);
    assert_shape(conv.backward(&x, &zeros(&[1, 3, 8, 8])));
    let other_layout = zeros(&[1, 6, 6, 3]).with_layout(Layout::ChannelsLast);
    assert_shape(conv.backward(&x, &other_layout));

    let dense = Dense::<f32>::new(4, 2, rng)?;
    let message = dense.forward(&x).unwrap_err().to_string();
    assert!(message.contains("Flatten"), "{message}");
    assert_shape(dense.backward(&zeros(&[3, 4]), &zeros(&[3, 2, 1])));
    assert_shape(dense.backward(&zeros(&[3, 4]), &zeros(&[2, 2])));

    assert_shape(MaxPool2d::new([2, 2]).forward(&zeros(&[1, 2, 8])));
    assert_shape(AvgPool2d::new([2, 2]).backward(&x, &x));
    assert_shape(GlobalAvgPool.forward(&zeros(&[5])));
    assert_shape(GlobalAvgPool.backward(&x, &x));
    assert_shape(Softmax.forward(&zeros(&[5])));
    assert_shape(Activation::Relu.backward(&x, &zeros(&[1])));
    assert_shape(Flatten.backward(&x, &zeros(&[1, 3])));
    assert_shape(Layer::<f32>::backward(
        &Dropout::new(0.5)?,
        &x,
        &zeros(&[1]),
    ));
    let zero_stride = PoolParams {
        stride: [1, 0],
        ..PoolParams::new([2, 2])
    };
    let pooled = MaxPool::with_params(zero_stride).forward(&x);
    assert!(
        matches!(pooled, Err(Error::Geometry { axis: 1, .. })),
        "{pooled:?}"
    );
    Ok(())
}

#[test]
fn losses_and_optimisers_refuse() -> Result<()> {
    assert_shape(loss::cross_entropy(&zeros(&[2, 3, 1]), &[0, 1]));
    assert_shape(loss::cross_entropy(&zeros(&[2, 3]), &[0]));
    assert_shape(loss::cross_entropy(&zeros(&[0, 3]), &[]));
    assert_argument(loss::cross_entropy(&zeros(&[2, 3]), &[0, 3]));
    assert_shape(loss::mean_squared_error(&zeros(&[2]), &zeros(&[3])));
    assert_shape(loss::binary_cross_entropy(&zeros(&[0]), &zeros(&[0])));
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        assert_argument(Sgd::<f32>::new(bad));
        assert_argument(Adam::<f32>::new(bad));
        assert_argument(Sgd::<f32>::new(0.1)?.momentum(bad));
        assert_argument(Adam::<f32>::decoupled(0.1, bad));
        assert_argument(Adam::<f32>::new(0.1)?.betas([0.9, bad]));
        assert_argument(Dropout::new(bad));
        assert_argument(ops::dropout(&zeros(&[1]), bad, 0));
    }
    assert_argument(Dropout::new(1.0));

    let rng = &mut Rng::new(0);
    let mut dense = Dense::<f32>::new(3, 2, rng)?;
    let mut sgd = Sgd::new(0.1)?;
    assert_shape(sgd.step(&mut dense, &[zeros(&[2, 3])]));
    assert_shape(sgd.step(&mut dense, &[zeros(&[3, 2]), zeros(&[2])]));
    sgd.step(&mut dense, &[zeros(&[2, 3]), zeros(&[2])])?;
    let mut other = Dense::<f32>::new(2, 2, rng)?;
    assert_shape(sgd.step(&mut other, &[zeros(&[2, 2]), zeros(&[2])]));
    Ok(())
}

#[test]
fn another_nets_tape_is_refused() -> Result<()> {
    let one = Sequential::<f32>::new().then(Flatten);
    let two = Sequential::<f32>::new().then(Flatten).then(Flatten);
    let tape = one.record(&zeros(&[1, 2]))?;
    assert_argument(two.backward_of(&tape, &zeros(&[1, 2])));
    Ok(())
}

#[test]
fn nan_goes_where_it_belongs() -> Result<()> {
    let x = Tensor::from_vec(&[1, 1, 5], vec![0.0, f32::NAN, 0.0, 0.0, 0.0])?;
    let weight = Tensor::full(&[1, 1, 2], 1.0, &Device::Cpu)?;
    let params = ConvParams {
        padding: Padding::Same,
        ..ConvParams::default()
    };
    let conv = Conv::<f32, 1>::new(weight, None, params, Rules::Native)?;
    let nan: Vec<bool> = conv
        .forward(&x)?
        .to_vec()?
        .iter()
        .map(|v| v.is_nan())
        .collect();
    assert_eq!(nan, [true, true, false, false, false]);
    assert!(Activation::Relu.forward(&x)?.to_vec()?[1].is_nan());
    assert!(
        Softmax
            .forward(&x.reshape(&[1, 5])?)?
            .to_vec()?
            .iter()
            .all(|v| v.is_nan())
    );
    let (loss, _) = loss::cross_entropy(&x.reshape(&[1, 5])?, &[0])?;
    assert!(loss.is_nan());
    let overflow = Tensor::from_vec(&[1], vec![f16::MAX])?;
    let doubled = Tensor::from_vec(&[1, 1], vec![f16::from_f32(2.0)])?;
    let y = Dense::with_weights(doubled, None)?.forward(&overflow.reshape(&[1, 1])?)?;
    assert_eq!(y.to_vec()?, [f16::INFINITY]);
    Ok(())
}

#[test]
fn devices_that_are_not_there_say_why() {
    for name in ["gpu", "cuda:", "cuda:x", "cuda:-1", ""] {
        assert_argument(name.parse::<Device>());
    }
    let (device, why_not) = Device::cuda_or_cpu(1 << 20);
    assert_eq!(device, Device::Cpu);
    assert!(why_not.is_some());
}

fn extreme() -> impl Strategy<Value = usize> {
    prop_oneof![
        0usize..5,
        Just(usize::MAX),
        Just(usize::MAX / 2),
        Just(isize::MAX as usize),
        Just(1 << 32),
        any::<usize>(),
    ]
}

proptest! {
    #[test]
    fn no_numbers_make_a_layer_panic(
        sizes in prop::array::uniform8(extreme()),
        numbers in prop::array::uniform8(extreme()),
        same in any::<bool>(),
    ) {
        let [stride, dilation, lo, hi, groups, op, out, kernel] = numbers;
        let weight = zeros(&[2, 1, 2]);
        let params = ConvParams::<1> {
            stride: [stride],
            padding: if same { Padding::Same } else { Padding::Explicit([(lo, hi)]) },
            dilation: [dilation],
            groups,
            ..ConvParams::default()
        };
        let shape = &sizes[..3];
        for rules in [Rules::Native, Rules::PyTorch, Rules::Keras, Rules::Onnx] {
            if let Ok(conv) = Conv::new(weight.clone(), None, params, rules) {
                let _ = conv.output_shape(shape, Layout::ChannelsFirst);
            }
            let size = TransposedSize { output_padding: Some([op]), output_shape: (!same).then_some([out]) };
            if let Ok(conv) = ndconv::layer::ConvTranspose::new(weight.clone(), None, params, rules, size) {
                let _ = conv.output_shape(shape, Layout::ChannelsLast);
            }
        }
        let pool = PoolParams { stride: [stride], dilation: [dilation], padding: params.padding, ceil_mode: same, ..PoolParams::new([kernel]) };
        let _ = Layer::<f32>::output_shape(&MaxPool::with_params(pool), shape, Layout::ChannelsFirst);
        let _ = Layer::<f32>::output_shape(&GlobalAvgPool, &sizes[..5], Layout::ChannelsFirst);
        let _ = Layer::<f32>::output_shape(&Flatten, &sizes, Layout::ChannelsFirst);
        let _ = Tensor::<f32>::zeros(&[sizes[0] | 1 << 60, sizes[1], sizes[2]], &Device::Cpu);
    }
}
