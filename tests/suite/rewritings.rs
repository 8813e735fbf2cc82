//! Rewritings that leave a layer's values alone: matrices, zero stuffing, folding, rearrangements.

use ndarray::{Array2, ArrayD, IxDyn};
use ndconv::init::Rng;
use ndconv::io::{Archive, Entry, Writer};
use ndconv::layer::{Conv, ConvTranspose, Layer};
use ndconv::remap::{self, BatchNorm, Rearrangement, WeightKind, WeightLayout, ZeroStuffed};
use ndconv::{
    ConvParams, ConvProblem, Device, Error, Layout, Padding, PaddingMode, Rules, Tensor,
    TransposedSize,
};
use proptest::prelude::*;

use crate::remap::{assert_close, numbered, random};

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
        let count = moved.len();
        let mut cut = |end: usize| (rng.uniform() * end as f64) as usize;
        let (begin, end) = (cut(count), count - cut(count));
        for range in [0..count, 0..end, begin..count, begin.min(end)..end.max(begin)] {
            let mut got = vec![0; range.len() * width];
            plan.gather(&bytes(&source), width, range.clone(), &mut got).unwrap();
            prop_assert_eq!(&got, &expected[range.start * width..range.end * width]);
        }
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
fn large_arrays_move_as_small_ones_do() {
    // past a block, a group of slabs and a task on every axis that has them
    let shapes: [(&[usize], &[usize]); 5] = [
        (&[300, 700], &[1, 0]),
        (&[130, 9, 70], &[1, 2, 0]),
        (&[37, 67, 90], &[2, 1, 0]),
        (&[70, 3, 40, 20], &[1, 3, 0, 2]),
        (&[2, 67, 1100], &[0, 2, 1]),
    ];
    for (shape, order) in shapes {
        let plan = Rearrangement::new(shape).unwrap().permute(order).unwrap();
        let source = numbered(shape);
        let expected = source.view().permuted_axes(IxDyn(order));
        let expected: Vec<u8> = expected.iter().flat_map(|v| v.to_le_bytes()).collect();
        let bytes: Vec<u8> = source.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut got = vec![0; bytes.len()];
        plan.gather(&bytes, 4, 0..source.len(), &mut got).unwrap();
        assert!(got == expected, "{shape:?} {order:?}");
        let range = 12_345..source.len() - 777;
        let mut got = vec![0; range.len() * 4];
        plan.gather(&bytes, 4, range.clone(), &mut got).unwrap();
        assert!(
            got == expected[range.start * 4..range.end * 4],
            "{shape:?} {order:?} in part"
        );
    }
}

/// The bytes of a file's first tensor that was rearranged into other files, between two others.
fn written(archive: &Archive, plan: &Rearrangement) -> Vec<u8> {
    let tensor = &archive.tensors()[0];
    let folder = tempfile::tempdir().unwrap();
    let mut written = Vec::new();
    for name in ["all.safetensors", "all.npz"] {
        let path = folder.path().join(name);
        let entry = |name: &str, shape| Entry {
            name: name.into(),
            shape,
            dtype: tensor.dtype(),
        };
        let entries = vec![
            entry("a", vec![1]),
            entry("b", plan.shape()),
            entry("c", vec![1]),
        ];
        let mut writer = Writer::create(&path, entries, &Default::default()).unwrap();
        let one = vec![7; tensor.bytes() / tensor.len()];
        writer.tensor(|target| Ok(target.write_all(&one)?)).unwrap();
        let mut reported = 0;
        writer
            .rearranged(archive, tensor, plan, |n| reported += n)
            .unwrap();
        assert_eq!(reported, tensor.bytes(), "{name}");
        writer.tensor(|target| Ok(target.write_all(&one)?)).unwrap();
        writer.finish().unwrap();
        let all = Archive::open(&path).unwrap();
        let read = |name| all.read(all.find(name).unwrap()).unwrap();
        assert_eq!((read("a"), read("c")), (one.clone(), one), "{name}");
        written.push(read("b"));
    }
    assert!(written[0] == written[1]);
    written.swap_remove(0)
}

#[test]
fn boxes_of_ragged_sizes_and_all_widths() {
    let folder = tempfile::tempdir().unwrap();
    for (width, dtype) in [(1, "u1"), (2, "u2"), (4, "u4"), (8, "u8")] {
        // more than one box each way, none of them full at the end; 20 MB and more
        let shape = [317, 25 / width + 7, 2711];
        let plan = Rearrangement::new(&shape).unwrap();
        let elements: usize = shape.iter().product();
        let header = format!(
            "{{'descr': '<{dtype}', 'fortran_order': False, 'shape': ({}, {}, {}), }}\n",
            shape[0], shape[1], shape[2]
        );
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        let source: Vec<u8> = (0..elements as u64)
            .flat_map(|i| {
                i.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_be_bytes()
                    .into_iter()
                    .take(width)
            })
            .collect();
        bytes.extend(&source);
        let path = folder.path().join("source.npy");
        std::fs::write(&path, bytes).unwrap();
        let archive = Archive::open(&path).unwrap();
        for order in [[2, 1, 0], [2, 0, 1]] {
            for reversed in [None, Some(0)] {
                let mut plan = plan.clone().permute(&order).unwrap();
                if let Some(axis) = reversed {
                    plan = plan.reverse(axis).unwrap();
                }
                let mut expected = vec![0; source.len()];
                plan.gather(&source, width, 0..elements, &mut expected)
                    .unwrap();
                assert!(
                    written(&archive, &plan) == expected,
                    "{width} {order:?} {reversed:?}"
                );
            }
        }
    }
}

#[test]
fn files_are_rearranged_part_by_part_as_in_one_piece() {
    let shape = [2048, 5, 1500]; // 30 MB: several parts each way
    let values = (0..shape.iter().product()).map(|i: usize| half::f16::from_bits(i as u16));
    let array = ArrayD::from_shape_vec(IxDyn(&shape), values.collect()).unwrap();
    let file = tempfile::Builder::new().suffix(".npy").tempfile().unwrap();
    ndconv::io::write_npy(file.path(), &array).unwrap();
    let archive = Archive::open(file.path()).unwrap();
    let tensor = &archive.tensors()[0];
    let source = archive.read(tensor).unwrap();
    // rows that stay, columns, and neither
    for order in [[0, 2, 1], [2, 0, 1], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        for reversed in [None, Some(0), Some(1)] {
            let mut plan = Rearrangement::new(&shape).unwrap().permute(&order).unwrap();
            if let Some(axis) = reversed {
                plan = plan.reverse(axis).unwrap();
            }
            let mut expected = vec![0; source.len()];
            plan.gather(&source, 2, 0..array.len(), &mut expected)
                .unwrap();
            let mut got = Vec::new();
            archive.copy_rearranged(tensor, &plan, &mut got).unwrap();
            assert!(got == expected, "{order:?} {reversed:?}");
            if reversed.is_none() {
                assert!(written(&archive, &plan) == expected, "{order:?} as a file");
            }
        }
    }
    let other = Rearrangement::new(&[5]).unwrap();
    assert!(
        archive
            .copy_rearranged(tensor, &other, &mut Vec::new())
            .is_err()
    );
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
    assert!(plan().gather(&[0; 23], 1, 0..2, &mut [0; 2]).is_err());
    assert!(plan().gather(&[0; 24], 1, 0..25, &mut [0; 25]).is_err());
    assert!(plan().gather(&[0; 24], 1, 0..2, &mut [0; 3]).is_err());
    assert!(Rearrangement::new(&[usize::MAX, 2]).is_err());
    let empty = Rearrangement::new(&[0, 3]).unwrap().reverse(0).unwrap();
    assert_eq!(
        empty.apply(&ArrayD::<u8>::zeros(vec![0, 3])).unwrap().len(),
        0
    );
}
