//! Tensors that do not belong to a problem are refused by name, and layouts move elements rightly.

use ndconv::{ConvParams, ConvProblem, Device, Error, Layout, Padding, PaddingMode};
use ndconv::{PoolParams, PoolProblem, Tensor, Write, ops};
use rstest::rstest;

use crate::data::{Random, elements, tensor, values};

const FIRST: Layout = Layout::ChannelsFirst;
const LAST: Layout = Layout::ChannelsLast;

fn zeros(shape: &[usize], layout: Layout) -> Tensor<f32> {
    tensor(shape, layout, &vec![0.0; elements(shape)])
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.unwrap_err() {
        Error::Shape { what, .. } => what,
        other => panic!("not a shape error: {other:?}"),
    }
}

/// x 2 x 3 x 5 x 6, w 4 x 3 x 2 x 3, y 2 x 4 x 4 x 4.
fn problem() -> ConvProblem<2> {
    ConvProblem::new(&[2, 3, 5, 6], &[4, 3, 2, 3], &ConvParams::default()).unwrap()
}

#[test]
fn every_operand_is_checked() {
    let p = problem();
    let [x, w, y] = [p.x_shape(), p.w_shape(), p.y_shape()].map(|s| zeros(&s, FIRST));
    let wrong = [
        zeros(&[2, 3, 5, 7], FIRST),
        zeros(&[2, 3, 6, 5], FIRST),
        zeros(&[1, 3, 5, 6], FIRST),
        zeros(&[2, 90], FIRST),
        zeros(&[2, 3, 5, 6, 1], FIRST),
    ];
    for bad in &wrong {
        assert_eq!(refused(ops::fprop(&p, bad, &w, None)), "x");
        assert_eq!(refused(ops::fprop(&p, &x, bad, None)), "w");
        assert_eq!(
            refused(ops::fprop_into(
                &p,
                &x,
                &w,
                None,
                &mut bad.clone(),
                Write::Overwrite
            )),
            "y"
        );
        assert_eq!(refused(ops::dgrad(&p, bad, &w, None)), "dy");
        assert_eq!(refused(ops::dgrad(&p, &y, bad, None)), "w");
        assert_eq!(
            refused(ops::dgrad_into(
                &p,
                &y,
                &w,
                None,
                &mut bad.clone(),
                Write::Accumulate
            )),
            "dx"
        );
        assert_eq!(refused(ops::wgrad(&p, bad, &y, FIRST)), "x");
        assert_eq!(refused(ops::wgrad(&p, &x, bad, FIRST)), "dy");
        assert_eq!(
            refused(ops::wgrad_into(
                &p,
                &x,
                &y,
                &mut bad.clone(),
                Write::Overwrite
            )),
            "dw"
        );
    }
}

#[test]
fn a_bias_has_one_number_a_channel() {
    let p = problem();
    let [x, w, y] = [p.x_shape(), p.w_shape(), p.y_shape()].map(|s| zeros(&s, FIRST));
    for shape in [&[3][..], &[5], &[4, 1], &[1, 4], &[]] {
        let bias = zeros_of(shape);
        assert_eq!(refused(ops::fprop(&p, &x, &w, Some(&bias))), "bias");
    }
    assert_eq!(
        refused(ops::dgrad(&p, &y, &w, Some(&zeros_of(&[4])))),
        "bias"
    );
    assert!(ops::dgrad(&p, &y, &w, Some(&zeros_of(&[3]))).is_ok());
}

fn zeros_of(shape: &[usize]) -> Tensor<f32> {
    Tensor::zeros(shape, &Device::Cpu).unwrap()
}

/// Activations of one call share a layout; a tensor in the other one is refused even where its
/// shape happens to fit.
#[test]
fn layouts_do_not_mix() {
    let p = ConvProblem::<1>::new(&[2, 4, 4], &[4, 4, 1], &ConvParams::default()).unwrap();
    let [first, last] = [FIRST, LAST].map(|l| zeros(&[2, 4, 4], l));
    let w = zeros(&[4, 4, 1], LAST);
    let error = ops::fprop_into(&p, &first, &w, None, &mut last.clone(), Write::Overwrite);
    assert_eq!(refused(error), "y");
    let error = ops::dgrad_into(&p, &last, &w, None, &mut first.clone(), Write::Overwrite);
    assert_eq!(refused(error), "dx");
    assert_eq!(refused(ops::wgrad(&p, &first, &last, FIRST)), "dy");
    assert!(ops::wgrad(&p, &last, &last, FIRST).is_ok());
    let pool = PoolProblem::<1>::new(&[2, 4, 4], &PoolParams::new([1])).unwrap();
    assert_eq!(refused(ops::max_pool_backward(&pool, &first, &last)), "dy");
}

#[test]
fn results_keep_the_layout() {
    let p = problem();
    for (activation, weight) in [(FIRST, LAST), (LAST, FIRST)] {
        let x = zeros(&p.x_shape(), activation);
        let (w, y) = (zeros(&p.w_shape(), weight), zeros(&p.y_shape(), activation));
        let fresh = ops::fprop(&p, &x, &w, None).unwrap();
        assert_eq!((fresh.layout(), fresh.shape()), (activation, y.shape()));
        let fresh = ops::dgrad(&p, &y, &w, None).unwrap();
        assert_eq!((fresh.layout(), fresh.shape()), (activation, x.shape()));
        let fresh = ops::wgrad(&p, &x, &y, weight).unwrap();
        assert_eq!((fresh.layout(), fresh.shape()), (weight, w.shape()));
    }
}

/// A weight in the other layout is told by its shape.
#[test]
fn a_mislabelled_weight() {
    let p = problem();
    let x = zeros(&p.x_shape(), FIRST);
    let w = zeros(&p.w_shape(), LAST).with_layout(FIRST);
    assert_eq!(refused(ops::fprop(&p, &x, &w, None)), "w");
}

#[test]
fn poolings_check_their_operands() {
    let p = PoolProblem::<1>::new(&[2, 3, 8], &PoolParams::new([2])).unwrap();
    let (x, y) = (zeros(&[2, 3, 8], FIRST), zeros(&[2, 3, 4], FIRST));
    assert_eq!(refused(ops::max_pool(&p, &y)), "x");
    assert_eq!(refused(ops::avg_pool(&p, &y)), "x");
    assert_eq!(refused(ops::max_pool_backward(&p, &y, &y)), "x");
    assert_eq!(refused(ops::max_pool_backward(&p, &x, &x)), "dy");
    assert_eq!(refused(ops::avg_pool_backward(&p, &x)), "dy");
}

#[test]
fn a_bias_on_the_gradient_of_a_padding_mode() {
    let params = ConvParams {
        padding: Padding::uniform(1),
        padding_mode: PaddingMode::Circular,
        ..ConvParams::default()
    };
    let p = ConvProblem::<1>::new(&[1, 1, 4], &[1, 1, 3], &params).unwrap();
    let (dy, w) = (zeros(&[1, 1, 4], FIRST), zeros(&[1, 1, 3], FIRST));
    let result = ops::dgrad(&p, &dy, &w, Some(&zeros_of(&[1])));
    assert!(matches!(result, Err(Error::Unsupported { .. })));
}

#[rstest]
#[case(&[])]
#[case(&[4])]
fn bias_gradients_need_channels(#[case] shape: &[usize]) {
    assert_eq!(refused(ops::bgrad(&zeros_of(shape))), "dy");
}

/// The other sizes of an empty tensor are never multiplied with each other.
#[test]
fn empty_tensors() {
    let huge = 1 << 40;
    // strides are products of the other sizes
    let error = Tensor::<f32>::zeros(&[0, 3, huge, huge], &Device::Cpu).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(
        ops::bgrad(&zeros_of(&[0, 3, 5])).unwrap().to_vec().unwrap(),
        [0.0; 3]
    );
    assert_eq!(
        ops::bgrad(&zeros_of(&[2, 3, 0])).unwrap().to_vec().unwrap(),
        [0.0; 3]
    );
    assert_eq!(ops::bgrad(&zeros_of(&[2, 0, 3])).unwrap().len(), 0);
    for layout in Layout::ALL {
        let x = zeros_of(&[0, 3, huge, 1 << 10]).with_layout(layout);
        let channels = x.channels_first_shape()[1];
        if channels == 3 {
            assert_eq!(ops::bgrad(&x).unwrap().to_vec().unwrap(), [0.0; 3]);
        }
        for to in Layout::ALL {
            let moved = x.to_layout(to).unwrap();
            assert_eq!((moved.len(), moved.layout()), (0, to));
            assert_eq!(moved.channels_first_shape(), x.channels_first_shape());
        }
    }
}

#[test]
fn sizes_of_tensors() {
    let wrong = Tensor::from_vec(&[2, 3], vec![0.0f32; 5]);
    assert_eq!(refused(wrong), "tensor data");
    let x = zeros_of(&[2, 3]);
    assert_eq!(refused(x.reshape(&[7])), "reshape");
    assert!(x.reshape(&[3, 1, 2]).is_ok());
    let large = |shape: &[usize]| {
        matches!(
            Tensor::<f32>::zeros(shape, &Device::Cpu),
            Err(Error::TooLarge { .. })
        )
    };
    assert!(large(&[1 << 32, 1 << 32]));
    assert!(large(&[usize::MAX]));
    assert!(large(&[1 << 60]));
    assert!(matches!(
        x.reshape(&[1 << 33, 1 << 33]),
        Err(Error::TooLarge { .. })
    ));
    // 2^59 bytes can be addressed but not had
    let refused = Tensor::<f64>::zeros(&[1 << 56], &Device::Cpu);
    assert!(matches!(refused, Err(Error::OutOfMemory { requested, .. }) if requested == 1 << 59));
}

#[test]
fn layout_changes_move_every_element() {
    for shape in [
        &[2, 3, 5][..],
        &[1, 37, 6, 7],
        &[2, 33, 1, 65],
        &[3, 1, 4, 2, 2],
        &[2, 2, 3, 2, 2, 3],
    ] {
        let data = Random(1).integers(elements(shape), 1000);
        let first = tensor::<f64>(shape, FIRST, &data);
        let last = first.to_layout(LAST).unwrap();
        assert_eq!(values(shape, &last), data);
        assert_eq!(
            last.to_vec().unwrap(),
            tensor::<f64>(shape, LAST, &data).to_vec().unwrap()
        );
        assert_eq!(last.to_layout(FIRST).unwrap().to_vec().unwrap(), data);
    }
}

/// Writing to a tensor leaves its clones alone.
#[test]
fn clones_do_not_share_writes() {
    let p = problem();
    let x = tensor::<f32>(&p.x_shape(), FIRST, &vec![1.0; 180]);
    let w = tensor::<f32>(&p.w_shape(), FIRST, &vec![1.0; 72]);
    let before = zeros(&p.y_shape(), FIRST);
    let mut after = before.clone();
    ops::fprop_into(&p, &x, &w, None, &mut after, Write::Overwrite).unwrap();
    assert_eq!(before.to_vec().unwrap(), [0.0; 128]);
    assert_eq!(after.to_vec().unwrap(), [18.0; 128]);
}
