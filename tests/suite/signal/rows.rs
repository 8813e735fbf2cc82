//! Every number of the requirement rows B and C, by its row.

use ndarray::{Array1, Array2, Array3, arr1, arr2, s};
use ndconv::signal::*;

use super::{METHODS, assert_close, whole};

fn exact(mode: Mode) -> Convolution {
    Convolution::new(mode).method(Method::Direct)
}

#[test]
fn b1_one_axis() {
    let (a, b) = (arr1(&[4.0, 5.0, 6.0]), arr1(&[2.0, 3.0]));
    assert_eq!(
        exact(Mode::Full).convolve(&a, &b).unwrap(),
        arr1(&[8.0, 22.0, 27.0, 18.0])
    );
    assert_eq!(
        exact(Mode::Valid).convolve(&a, &b).unwrap(),
        arr1(&[22.0, 27.0])
    );
}

#[test]
fn b1_two_axes() {
    let a = arr2(&[[2.0, 3.0], [3.0, 1.0]]);
    let b = arr2(&[[4.0, 5.0, 6.0], [0.0, -1.0, 1.0]]);
    let full = arr2(&[
        [8.0, 22.0, 27.0, 18.0],
        [12.0, 17.0, 22.0, 9.0],
        [0.0, -3.0, 2.0, 1.0],
    ]);
    for method in METHODS {
        let got = Convolution::new(Mode::Full)
            .method(method)
            .convolve(&a, &b)
            .unwrap();
        assert_close(
            &got.into_dyn(),
            &full.clone().into_dyn(),
            1e-14,
            method.name(),
        );
    }
}

#[test]
fn b1_three_axes_reverse_every_axis() {
    let (a, b) = (whole::<f64>(&[2, 3, 2], 1), whole::<f64>(&[2, 2, 3], 2));
    let full = exact(Mode::Full).convolve(&a, &b).unwrap();
    let mut flipped = b.view();
    (0..3).for_each(|axis| flipped.invert_axis(ndarray::Axis(axis)));
    assert_eq!(exact(Mode::Full).correlate(&a, &flipped).unwrap(), full);
    assert_eq!(full[[0, 0, 0]], a[[0, 0, 0]] * b[[0, 0, 0]]);
    assert_eq!(full[[2, 3, 3]], a[[1, 2, 1]] * b[[1, 1, 2]]);
}

#[test]
fn b2_alignments_of_an_even_kernel() {
    let (a, b) = (arr1(&[1.0, 2.0, 3.0, 4.0]), arr1(&[1.0, 10.0]));
    let same = |align| {
        exact(Mode::Same)
            .align(align)
            .convolve(&a, &b)
            .unwrap()
            .to_vec()
    };
    assert_eq!(same(Align::Numpy), [1.0, 12.0, 23.0, 34.0]);
    assert_eq!(same(Align::Scipy), [1.0, 12.0, 23.0, 34.0]);
    assert_eq!(same(Align::Ndimage), [12.0, 23.0, 34.0, 40.0]);
    assert_eq!(same(Align::Matlab), [12.0, 23.0, 34.0, 40.0]);
    assert_eq!(same(Align::Causal), [1.0, 12.0, 23.0, 34.0]);
    // a kernel longer than the signal
    let valid = |align| exact(Mode::Valid).align(align).convolve(&b, &a);
    assert_eq!(valid(Align::Scipy).unwrap().len(), 3);
    assert_eq!(valid(Align::Matlab).unwrap().len(), 0);
    assert!(matches!(
        valid(Align::Torch),
        Err(ndconv::Error::Geometry { axis: 0, .. })
    ));
}

#[test]
fn b3_boundaries() {
    let (a, w) = (arr1(&[1.0, 2.0, 4.0]), arr1(&[1.0, 10.0, 100.0]));
    let at = |boundary| ndimage::correlate(&a, &w, boundary, &[]).unwrap().to_vec();
    assert_eq!(at(Boundary::Reflect), [211.0, 421.0, 442.0]);
    assert_eq!(at(Boundary::Mirror), [212.0, 421.0, 242.0]);
    assert_eq!(at(Boundary::Nearest), [211.0, 421.0, 442.0]);
    assert_eq!(at(Boundary::Wrap), [214.0, 421.0, 142.0]);
    assert_eq!(at(Boundary::Constant(7.0)), [217.0, 421.0, 742.0]);
}

#[test]
fn b4_images_through_the_spectrum() {
    let a: Array2<f64> = whole(&[7, 5], 3).into_dimensionality().unwrap();
    let b: Array2<f64> = whole(&[4, 3], 4).into_dimensionality().unwrap();
    let fft = Convolution::new(Mode::Full)
        .method(Method::Fft)
        .convolve(&a, &b)
        .unwrap();
    assert_eq!(fft.dim(), (7 + 4 - 1, 5 + 3 - 1));
    let crop = fft.slice(s![2..2 + 7, 1..1 + 5]).to_owned().into_dyn(); // from floor(k / 2)
    let same = Convolution::new(Mode::Same)
        .align(Align::Matlab)
        .method(Method::Fft);
    assert_close(
        &same.convolve(&a, &b).unwrap().into_dyn(),
        &crop,
        1e-13,
        "same",
    );
}

#[test]
fn b5_some_axes_and_lags() {
    let (a, b) = (whole::<f64>(&[3, 8], 5), whole::<f64>(&[3, 4], 6));
    let rows = Convolution::new(Mode::Full)
        .axes(&[1])
        .method(Method::Fft)
        .convolve(&a, &b)
        .unwrap();
    for i in 0..3 {
        let (a, b) = (a.slice(s![i, ..]), b.slice(s![i, ..]));
        let row = exact(Mode::Full).convolve(&a, &b).unwrap().into_dyn();
        assert_close(
            &rows.slice(s![i, ..]).to_owned().into_dyn(),
            &row,
            1e-13,
            "row",
        );
    }
    let lags = |mode| correlation_lags(4, 3, mode, Align::Scipy).unwrap();
    assert_eq!(lags(Mode::Full), [-2, -1, 0, 1, 2, 3]);
    assert_eq!(lags(Mode::Same), [-1, 0, 1, 2]);
    assert_eq!(lags(Mode::Valid), [0, 1]);
    assert_eq!(fft::next_fast_len(1021), 1024);
}

/// A scalar field of 5x5 scatters one 3x3 kernel per channel: the full result and its crop.
#[test]
fn b6_sliding_scatter() {
    let kernels = whole::<f64>(&[3, 3, 3], 7); // (channel, 3, 3)
    let field = whole::<f64>(&[5, 5], 8);
    let scatter = exact(Mode::Full).axes(&[1, 2]);
    let field3 = field.clone().insert_axis(ndarray::Axis(0));
    let full = scatter.convolve(&field3, &kernels).unwrap();
    assert_eq!(full.shape(), [3, 7, 7]);
    let mut by_hand = Array3::zeros((3, 7, 7));
    for ((i, j), &v) in field
        .view()
        .into_dimensionality::<ndarray::Ix2>()
        .unwrap()
        .indexed_iter()
    {
        let mut patch = by_hand.slice_mut(s![.., i..i + 3, j..j + 3]);
        patch.scaled_add(
            v,
            &kernels
                .view()
                .into_dimensionality::<ndarray::Ix3>()
                .unwrap(),
        );
    }
    assert_eq!(full, by_hand.into_dyn());
    let same = exact(Mode::Same)
        .axes(&[1, 2])
        .convolve(&field3, &kernels)
        .unwrap();
    assert_eq!(same, full.slice(s![.., 1..6, 1..6]).to_owned().into_dyn());

    // the weight gradient: correlate(pad(values, 1), field, valid)
    let values = whole::<f64>(&[3, 5, 5], 9);
    let crop = exact(Mode::Same).axes(&[1, 2]);
    let gradient = crop.convolve_vjp(&field3, &kernels, &values).unwrap().b;
    assert_eq!(gradient.shape(), [3, 3, 3]);
    let margin = [[1, 1]; 2];
    for c in 0..3 {
        let mut padded = Array2::<f64>::zeros((5 + margin[0][0] + margin[0][1], 7));
        padded
            .slice_mut(s![1..6, 1..6])
            .assign(&values.slice(s![c, .., ..]));
        let field: Array2<f64> = field.clone().into_dimensionality().unwrap();
        let expected = exact(Mode::Valid).correlate(&padded, &field).unwrap();
        assert_eq!(gradient.slice(s![c, .., ..]), expected);
    }
}

#[test]
fn b7_gradients_by_every_method() {
    let (a, b) = (arr1(&[4.0, 5.0, 6.0]), arr1(&[2.0, 3.0]));
    for method in METHODS {
        let full = Convolution::new(Mode::Full).method(method);
        let dz = arr1(&[1.0, 0.0, 2.0, -1.0]);
        let g = full.convolve_vjp(&a, &b, &dz).unwrap();
        // da = correlate(dz, b, valid), db = correlate(dz, a, valid)
        let name = method.name();
        assert_close(
            &g.a.into_dyn(),
            &arr1(&[2.0, 6.0, 1.0]).into_dyn(),
            1e-13,
            name,
        );
        assert_close(&g.b.into_dyn(), &arr1(&[16.0, 4.0]).into_dyn(), 1e-13, name);
    }
}

#[test]
fn c1_xcorr() {
    let (x, y) = (arr1(&[2.0, 0.0, 0.0, 1.0]), arr1(&[1.0, 0.0, -1.0, 2.0]));
    let r = xcorr(&x, &y, Scaling::None, None).unwrap();
    assert_eq!(r.values, arr1(&[4.0, -2.0, 0.0, 4.0, -1.0, 0.0, 1.0]));
    assert_eq!(r.lags, (-3..=3).collect::<Vec<_>>());
    let r = xcorr(&x, &y, Scaling::Biased, Some(1)).unwrap();
    assert_eq!(
        (r.lags, r.values),
        (vec![-1, 0, 1], arr1(&[0.0, 1.0, -0.25]))
    );
    let r = xcorr(&x, &y, Scaling::Unbiased, Some(5)).unwrap();
    assert_eq!(
        r.values,
        arr1(&[
            0.0,
            0.0,
            4.0,
            -1.0,
            0.0,
            1.0,
            -1.0 / 3.0,
            0.0,
            1.0,
            0.0,
            0.0
        ])
    );
}

#[test]
fn c1_unequal_lengths() {
    let (x, y) = (arr1(&[1.0, 2.0, 3.0]), arr1(&[1.0]));
    let r = xcorr(&x, &y, Scaling::None, None).unwrap();
    assert_eq!(r.values, arr1(&[0.0, 0.0, 1.0, 2.0, 3.0]));
    assert!(xcorr(&x, &y, Scaling::Coeff, None).is_err());
}

#[test]
fn c1_complex_conjugates_the_second() {
    let i = Complex::new(0.0, 1.0);
    let r = xcorr(&arr1(&[i]), &arr1(&[i]), Scaling::None, None).unwrap();
    assert_eq!(r.values, arr1(&[Complex::new(1.0, 0.0)]));
    let r = xcorr(
        &arr1(&[i]),
        &arr1(&[Complex::new(1.0, 0.0)]),
        Scaling::None,
        None,
    )
    .unwrap();
    assert_eq!(r.values, arr1(&[i]));
}

#[test]
fn c1_matrix_columns() {
    let x: Array2<f64> = whole(&[5, 3], 11).into_dimensionality().unwrap();
    for scaling in [Scaling::None, Scaling::Unbiased, Scaling::Coeff] {
        let all = Xcorr::new().scaling(scaling).maxlag(3).columns(&x).unwrap();
        assert_eq!(all.values.dim(), (7, 9));
        for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
            let one = Xcorr::new()
                .scaling(scaling)
                .maxlag(3)
                .of(&x.column(i), &x.column(j))
                .unwrap();
            assert_eq!(all.values.column(3 * i + j), one.values);
        }
    }
}

#[test]
fn c2_coefficients() {
    let x = arr1(&[1.0, 3.0, 2.0, 5.0, 4.0, 4.5]);
    let (mean, n) = (x.mean().unwrap(), x.len() as f64);
    let variance = x.mapv(|v: f64| v * v).sum() / n - mean * mean;
    let r = Xcorr::new()
        .centred()
        .scaling(Scaling::Coeff)
        .auto(&x)
        .unwrap();
    let raw: Array1<f64> = x.mapv(|v| v - mean);
    for (&lag, &value) in r.lags.iter().zip(&r.values) {
        let pairs = (0..6isize).filter(|i| (0..6).contains(&(i + lag)));
        let sum: f64 = pairs
            .map(|i| raw[(i + lag) as usize] * raw[i as usize])
            .sum();
        assert!((value - sum / n / variance).abs() < 1e-14);
        assert!((-1.0..=1.0 + 1e-15).contains(&value));
    }
    assert!((r.values[5] - 1.0).abs() < 1e-15);
    // (R - mean^2) / var for the pair at lag 0
    let biased = xcorr(&x, &x, Scaling::Biased, Some(0)).unwrap().values[0];
    assert!(((biased - mean * mean) / variance - 1.0).abs() < 1e-14);
    // cross-covariance ignores what is added to a signal
    let y = arr1(&[2.0, 1.0, 0.0, 3.0, 1.0, 7.0]);
    let cov = xcov(&x, &y, Scaling::Unbiased, None)
        .unwrap()
        .values
        .into_dyn();
    let moved = xcov(&(&x + 10.0), &(&y - 5.0), Scaling::Unbiased, None).unwrap();
    assert_close(&moved.values.into_dyn(), &cov, 1e-13, "xcov");
}

/// The linear function and the circular one are two functions; this is the linear one.
#[test]
fn c3_linear_does_not_wrap() {
    let r = xcorr(
        &arr1(&[1.0, 0.0, 0.0]),
        &arr1(&[0.0, 0.0, 1.0]),
        Scaling::None,
        None,
    )
    .unwrap();
    assert_eq!(r.values, arr1(&[1.0, 0.0, 0.0, 0.0, 0.0]));
}
