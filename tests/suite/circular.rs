//! Circular operations: the rows A1 to A8 of the requirements.

use half::{bf16, f16};
use ndarray::{Array1, ArrayD, Axis, IxDyn, arr1, arr2, aview1};
use ndconv::init::Rng;
use ndconv::signal::{
    Circular, CircularMethod, CircularOperation, Complex, circulant, circular_convolve,
    circular_convolve_inverse, circular_convolve_to, circular_correlate,
    circular_correlate_conj_second, circular_correlate_inverse, circular_correlate_vjp,
    circular_wiener_inverse, involution, periodic_sum,
};
use ndconv::{Element, Error, Result, Tensor, ops};
use rstest::rstest;

use crate::arrays::{OPERATIONS, array, by_definition, distance, inner};

#[test]
fn a1_one_vector_against_a_batch() -> Result<()> {
    let x = arr2(&[[2.0, 3.0, 5.0], [4.0, 5.0, 6.0]]);
    let y = arr1(&[7.0, 11.0, 13.0]);
    let z = arr2(&[[112.0, 96.0, 102.0], [161.0, 151.0, 153.0]]).into_dyn();
    let direct = Circular::default().method(CircularMethod::Direct);
    assert_eq!(direct.correlate(&x, &y)?, z);
    let fft = Circular::default().method(CircularMethod::Fft);
    assert!(distance(&fft.correlate(&x, &y)?, &z) < 1e-12);
    // what the source prints is the correlation with the reversed vector
    let reversed = arr1(&[13.0, 11.0, 7.0]);
    let printed = arr2(&[[94.0, 108.0, 108.0], [149.0, 157.0, 159.0]]).into_dyn();
    assert_ne!(printed, z);
    assert_eq!(direct.correlate(&x, &reversed)?, printed);
    Ok(())
}

#[test]
fn a2_gradients_of_the_sum_of_squares() -> Result<()> {
    let x = arr2(&[[2.0, 3.0, 5.0], [4.0, 5.0, 6.0]]);
    let y = arr1(&[7.0, 11.0, 13.0]);
    let dz = circular_correlate(&x, &y)?.mapv(|z| 2.0 * z);
    let (dx, dy) = circular_correlate_vjp(&x, &y, &dz)?;
    let expected = arr2(&[[6332.0, 6388.0, 6500.0], [9554.0, 9610.0, 9666.0]]);
    assert_eq!(dx, expected.into_dyn());
    assert_eq!(dy, arr1(&[6650.0, 6730.0, 6770.0]).into_dyn());
    Ok(())
}

#[test]
fn a3_through_spectra_with_gradients_and_odd_lengths() -> Result<()> {
    let x = arr2(&[[2.0, 3.0, 5.0], [3.0, 4.0, 4.0], [5.0, 6.0, 7.0]]);
    let y = arr1(&[7.0, 11.0, 13.0]);
    let fft = Circular::default().method(CircularMethod::Fft);
    let expected = arr2(&[
        [112.0, 96.0, 102.0],
        [117.0, 113.0, 111.0],
        [192.0, 182.0, 184.0],
    ]);
    let z = fft.correlate(&x, &y)?;
    assert!(distance(&z, &expected.into_dyn()) < 1e-12);
    let (dx, dy) = fft.apply_vjp(CircularOperation::Correlate, &x, &y, &z)?;
    let direct = Circular::default().method(CircularMethod::Direct);
    let (exact_dx, exact_dy) = direct.apply_vjp(CircularOperation::Correlate, &x, &y, &z)?;
    assert!(distance(&dx, &exact_dx) < 1e-10 && distance(&dy, &exact_dy) < 1e-10);
    Ok(())
}

#[test]
fn a4_circulant_matrix() -> Result<()> {
    let c = circulant(&arr1(&[1.0, 2.0, 3.0, 5.0]))?;
    let rows = [
        [1.0, 5.0, 3.0, 2.0],
        [2.0, 1.0, 5.0, 3.0],
        [3.0, 2.0, 1.0, 5.0],
        [5.0, 3.0, 2.0, 1.0],
    ];
    assert_eq!(c, arr2(&rows));
    let b = arr1(&[7.0, 11.0, 13.0, 17.0]);
    let v = c.column(0);
    let product: Array1<f64> = c.dot(&b);
    assert_eq!(product.into_dyn(), circular_convolve(&v, &b)?);
    // correlation is the transposed matrix; the lags of circulant(a) b[::-1] run backwards
    let correlated = circular_correlate(&v, &b)?;
    assert_eq!(c.t().dot(&b).into_dyn(), correlated);
    let mut reversed = b.to_vec();
    reversed.reverse();
    let mut lags = c.dot(&arr1(&reversed)).to_vec();
    lags.reverse();
    assert_eq!(arr1(&lags).into_dyn(), correlated);
    Ok(())
}

#[test]
fn a5_inverses() -> Result<()> {
    let y = arr1(&[7.0, 11.0, 13.0]);
    let exact = arr1(&[-94.0, 30.0, 92.0]).mapv(|v| v / 868.0).into_dyn();
    let v = circular_correlate_inverse(&y)?;
    assert!(distance(&v, &exact) < 1e-15);
    let u = circular_convolve_inverse(&y)?;
    assert!(distance(&u, &involution(&v)?) < 1e-15);
    let one = arr1(&[1.0, 0.0, 0.0]).into_dyn();
    assert!(distance(&circular_correlate(&y, &v)?, &one) < 1e-14);
    assert!(distance(&circular_convolve(&y, &u)?, &one) < 1e-14);
    let back = involution(&y)?;
    assert_eq!(back, arr1(&[7.0, 13.0, 11.0]).into_dyn());
    Ok(())
}

#[test]
fn a5_singular_spectra_are_named() -> Result<()> {
    let bin_of = |y: &[f64]| match circular_convolve_inverse(&aview1(y)) {
        Err(Error::Singular { row, bin, .. }) => (row, bin),
        other => panic!("{other:?}"),
    };
    assert_eq!(bin_of(&[1.0, -1.0, 0.0]), (0, vec![0]));
    assert_eq!(bin_of(&[1.0, 1.0]), (0, vec![1]));
    assert_eq!(bin_of(&[0.0; 7]), (0, vec![0]));
    assert_eq!(bin_of(&[1.0, f64::NAN, 3.0]).0, 0);
    let cosine: Vec<f64> = (0..64).map(|i| (f64::from(i) * 0.7).sin()).collect();
    assert!(circular_convolve_inverse(&aview1(&cosine)).is_ok());
    // rows of a batch, and two axes
    let rows = arr2(&[[1.0, 0.0], [1.0, -1.0]]);
    let error = circular_correlate_inverse(&rows).unwrap_err();
    assert!(matches!(&error, Error::Singular { row: 1, bin, .. } if bin == &[0]));
    assert!(error.to_string().contains("Wiener"), "{error}");
    let both = Circular::over(&[0, 1]);
    let checkered = arr2(&[[1.0, 1.0], [1.0, 1.0]]);
    let error = both.inverse(CircularOperation::Convolve, &checkered);
    assert!(matches!(error, Err(Error::Singular { bin, .. }) if bin == [0, 1]));
    Ok(())
}

#[test]
fn a5_wiener_inverse_tends_to_the_exact_one() -> Result<()> {
    let y = arr1(&[7.0, 11.0, 13.0, 2.0]);
    for operation in OPERATIONS {
        let exact = Circular::default().inverse(operation, &y)?;
        let near = circular_wiener_inverse(operation, &y, 1e-12)?;
        assert!(distance(&exact, &near) < 1e-12);
        let damped = circular_wiener_inverse(operation, &y, 1e3)?;
        assert!(inner(&damped, &damped) < inner(&exact, &exact));
    }
    for noise in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = circular_wiener_inverse(CircularOperation::Convolve, &y, noise);
        assert!(matches!(refused, Err(Error::Argument { .. })));
    }
    Ok(())
}

#[test]
fn a6_which_argument_is_conjugated() -> Result<()> {
    let (a, b) = (arr1(&[1.0, 2.0, 3.0]), arr1(&[0.0, 1.0, 0.0]));
    assert_eq!(
        circular_correlate(&a, &b)?,
        arr1(&[2.0, 1.0, 3.0]).into_dyn()
    );
    let second = circular_correlate_conj_second(&a, &b)?;
    assert_eq!(second, arr1(&[2.0, 3.0, 1.0]).into_dyn());
    assert_eq!(second, circular_correlate(&b, &a)?);
    assert_eq!(second, involution(&circular_correlate(&a, &b)?)?);
    let rng = &mut Rng::new(6);
    let (a, b) = (array::<Complex<f64>>(&[9], rng), array(&[9], rng));
    let z = circular_correlate(&a, &b)?;
    let expected = by_definition(
        CircularOperation::Correlate,
        a.as_slice().unwrap(),
        b.as_slice().unwrap(),
    );
    assert!(distance(&z, &arr1(&expected).into_dyn()) < 1e-12);
    Ok(())
}

#[test]
fn a6_rows_do_not_mix_and_batches_broadcast() -> Result<()> {
    let rng = &mut Rng::new(61);
    let (x, y) = (array::<f64>(&[4, 3, 20], rng), array(&[3, 20], rng));
    for method in [CircularMethod::Direct, CircularMethod::Fft] {
        let circular = Circular::default().method(method);
        let z = circular.correlate(&x, &y)?;
        let by_batch = circular.correlate(&x, &y.broadcast(IxDyn(&[4, 3, 20])).unwrap())?;
        assert!(distance(&z, &by_batch) < 1e-12);
        for i in 0..4 {
            for j in 0..3 {
                let row = x.index_axis(Axis(0), i);
                let row = row.index_axis(Axis(0), j);
                let alone = circular.correlate(&row, &y.index_axis(Axis(0), j))?;
                let here = z.index_axis(Axis(0), i).index_axis(Axis(0), j).to_owned();
                assert!(distance(&alone, &here) < 1e-13);
            }
        }
    }
    Ok(())
}

#[test]
fn a7_periodic_sums() -> Result<()> {
    let long = Array1::from_iter((0..10).map(f64::from));
    assert_eq!(
        periodic_sum(&long, 4)?,
        arr1(&[12.0, 15.0, 8.0, 10.0]).into_dyn()
    );
    assert_eq!(
        periodic_sum(&arr1(&[1.0]), 3)?,
        arr1(&[1.0, 0.0, 0.0]).into_dyn()
    );
    let (a, b) = (arr1(&[1.0, 2.0, 3.0]), arr1(&[4.0, 5.0, 6.0]));
    let full = [4.0, 13.0, 28.0, 27.0, 18.0];
    assert_eq!(circular_convolve_to(&a, &b, 5)?, arr1(&full).into_dyn());
    for n in 1..8 {
        let wrapped = periodic_sum(&aview1(&full), n)?;
        assert!(distance(&circular_convolve_to(&a, &b, n)?, &wrapped) < 1e-12);
    }
    Ok(())
}

#[rstest]
#[case::f64(0.0f64, 0.0)]
#[case::f32(0.0f32, 1e-6)]
#[case::f16(f16::ZERO, 1e-3)]
#[case::bf16(bf16::ZERO, 8e-3)]
fn a8_every_element_type_with_gradients<T: Element>(#[case] _type: T, #[case] tolerance: f64) {
    let values = |v: &[f64]| v.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>();
    let tensor = |shape: &[usize], v: &[f64]| Tensor::from_vec(shape, values(v)).unwrap();
    let close = |tensor: Tensor<T>, expected: &[f64]| {
        for (v, e) in tensor.to_vec().unwrap().iter().zip(expected) {
            assert!((v.to_f64() - e).abs() <= tolerance * e.abs(), "{v} for {e}");
        }
    };
    let x = tensor(&[2, 3], &[2.0, 3.0, 5.0, 4.0, 5.0, 6.0]);
    let y = tensor(&[3], &[7.0, 11.0, 13.0]);
    let z = ops::circular_correlate(&x, &y).unwrap();
    close(z, &[112.0, 96.0, 102.0, 161.0, 151.0, 153.0]);
    let dz = tensor(&[2, 3], &[224.0, 192.0, 204.0, 322.0, 302.0, 306.0]);
    let (dx, dy) = ops::circular_correlate_backward(&x, &y, &dz).unwrap();
    close(dx, &[6332.0, 6388.0, 6500.0, 9554.0, 9610.0, 9666.0]);
    close(dy, &[6650.0, 6730.0, 6770.0]);
    let z = ops::circular_convolve(&y, &y).unwrap();
    close(z, &[335.0, 323.0, 303.0]);
}

#[test]
fn a8_long_rows_in_half_precision_accumulate_in_single() -> Result<()> {
    let rng = &mut Rng::new(8);
    let (x, y) = (array::<f32>(&[5, 301], rng), array::<f32>(&[301], rng));
    let narrow = |a: &ArrayD<f32>| Tensor::from_array(a)?.cast::<f16>();
    let (x, y) = (narrow(&x)?, narrow(&y)?);
    let z = ops::circular_convolve(&x, &y)?.cast::<f32>()?.to_array()?;
    let (wide_x, wide_y) = (x.cast::<f32>()?.to_array()?, y.cast::<f32>()?.to_array()?);
    let exact = circular_convolve(&wide_x, &wide_y)?;
    assert!(distance(&z, &exact) < 70.0 / 2048.0); // one rounding of values below 70
    Ok(())
}

#[test]
fn a6_rows_are_independent_whatever_stands_beside_them() -> Result<()> {
    let rng = &mut Rng::new(9);
    let (mut x, y) = (array::<f32>(&[4, 64], rng), array::<f32>(&[64], rng));
    let fft = Circular::default().method(CircularMethod::Fft);
    let before = fft.correlate(&x, &y)?;
    x.index_axis_mut(Axis(0), 1).fill(1e30);
    x.index_axis_mut(Axis(0), 2).fill(f32::NAN);
    let after = fft.correlate(&x, &y)?;
    for row in [0, 3] {
        assert_eq!(
            before.index_axis(Axis(0), row),
            after.index_axis(Axis(0), row)
        );
    }
    Ok(())
}
