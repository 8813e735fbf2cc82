//! Circular operations: the rows A1 to A8 of the requirements, identities, gradients, errors.

use half::{bf16, f16};
use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn, arr1, arr2, aview1};
use ndconv::init::Rng;
use ndconv::layer::{CircularConv, Layer};
use ndconv::signal::{
    Circular, CircularMethod, CircularOperation, Complex, Scalar, circulant, circular_convolve,
    circular_convolve_inverse, circular_convolve_to, circular_convolve_vjp, circular_correlate,
    circular_correlate_conj_second, circular_correlate_inverse, circular_correlate_vjp,
    circular_wiener_inverse, hrr, involution, periodic_sum,
};
use ndconv::{Element, Error, Result, Tensor, gradcheck, ops};
use rstest::rstest;

const OPERATIONS: [CircularOperation; 2] =
    [CircularOperation::Convolve, CircularOperation::Correlate];

fn array<S: Scalar>(shape: &[usize], rng: &mut Rng) -> ArrayD<S> {
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        let [re, im] = [rng.normal(), rng.normal()].map(<S::Real as Element>::from_f64);
        S::from_parts(re, im)
    })
}

fn distance<S: Scalar>(a: &ArrayD<S>, b: &ArrayD<S>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let differences = a.iter().zip(b).map(|(a, b)| (*a - *b).norm_sqr());
    let worst = differences.map(|d| Element::to_f64(d).sqrt());
    worst.fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

fn inner<S: Scalar>(a: &ArrayD<S>, b: &ArrayD<S>) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| (a.conj() * *b).re());
    products.map(Element::to_f64).sum()
}

/// The definition, modulo by modulo, for one row.
fn by_definition<S: Scalar>(operation: CircularOperation, x: &[S], y: &[S]) -> Vec<S> {
    let n = x.len();
    (0..n)
        .map(|i| {
            (0..n).fold(S::zero(), |sum, k| {
                sum + match operation {
                    CircularOperation::Convolve => x[k] * y[(n + i - k) % n],
                    CircularOperation::Correlate => x[k].conj() * y[(k + i) % n],
                }
            })
        })
        .collect()
}

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

fn methods_agree<S: Scalar>(tolerance: f64) -> Result<()> {
    let rng = &mut Rng::new(1);
    for n in [1, 2, 3, 5, 8, 13, 31, 64, 97, 100, 127] {
        let (x, y) = (array::<S>(&[2, n], rng), array::<S>(&[n], rng));
        for operation in OPERATIONS {
            let by = |method| Circular::default().method(method).apply(operation, &x, &y);
            let direct = by(CircularMethod::Direct)?;
            assert!(distance(&direct, &by(CircularMethod::Fft)?) < tolerance * n as f64);
            assert!(distance(&direct, &by(CircularMethod::Auto)?) < tolerance * n as f64);
            let row = x.as_slice().unwrap();
            let defined = by_definition(operation, &row[n..], y.as_slice().unwrap());
            let second = direct.index_axis(Axis(0), 1).to_owned();
            assert!(distance(&second, &arr1(&defined).into_dyn()) < tolerance * n as f64);
        }
    }
    Ok(())
}

#[test]
fn direct_and_fft_agree_with_the_definition() -> Result<()> {
    methods_agree::<f64>(1e-14)?;
    methods_agree::<Complex<f64>>(1e-14)?;
    methods_agree::<f32>(1e-5)?;
    methods_agree::<Complex<f32>>(1e-5)
}

#[rstest]
#[case(&[2, 5, 6], &[2, 5, 6], &[1, 2])]
#[case(&[4, 3, 5], &[4, 1, 5], &[0, -1])]
#[case(&[7, 2, 3], &[7, 1, 1], &[0])]
#[case(&[3, 4, 2, 5], &[3, 4, 2, 5], &[0, 1, 2, 3])]
#[case(&[1, 9], &[6, 9], &[-1])]
#[case(&[3, 200, 4], &[200, 1], &[1])]
fn several_axes_agree_and_are_adjoint(
    #[case] x: &[usize],
    #[case] y: &[usize],
    #[case] axes: &[isize],
) -> Result<()> {
    let rng = &mut Rng::new(2);
    let (x, y) = (array::<Complex<f64>>(x, rng), array::<Complex<f64>>(y, rng));
    let real = |a: &ArrayD<Complex<f64>>| a.mapv(|v| v.re);
    for operation in OPERATIONS {
        let direct = Circular::over(axes).method(CircularMethod::Direct);
        let fft = Circular::over(axes).method(CircularMethod::Fft);
        let z = direct.apply(operation, &x, &y)?;
        assert!(distance(&z, &fft.apply(operation, &x, &y)?) < 1e-11);
        let (rx, ry) = (real(&x), real(&y));
        let real_z = direct.apply(operation, &rx, &ry)?;
        assert!(distance(&real_z, &fft.apply(operation, &rx, &ry)?) < 1e-11);

        // <dz, op(x', y)> = <dx, x'> and <dz, op(x, y')> = <dy, y'>, real parts of both
        let dz = array::<Complex<f64>>(z.shape(), rng);
        for circular in [direct, fft] {
            let (dx, dy) = circular.apply_vjp(operation, &x, &y, &dz)?;
            let (u, v) = (array(x.shape(), rng), array(y.shape(), rng));
            let along_x = inner(&dz, &circular.apply(operation, &u, &y)?);
            let along_y = inner(&dz, &circular.apply(operation, &x, &v)?);
            assert!((along_x - inner(&dx, &u)).abs() < 1e-10);
            assert!((along_y - inner(&dy, &v)).abs() < 1e-10);
        }
    }
    Ok(())
}

#[test]
fn one_vector_against_a_long_batch_sums_in_a_fixed_order() -> Result<()> {
    let rng = &mut Rng::new(3);
    let (x, y) = (array::<f64>(&[1000, 40], rng), array::<f64>(&[40], rng));
    let dz = array::<f64>(&[1000, 40], rng);
    for operation in OPERATIONS {
        let by = |method| {
            let circular = Circular::default().method(method);
            circular.apply_vjp(operation, &x, &y, &dz)
        };
        let (fft, direct) = (by(CircularMethod::Fft)?, by(CircularMethod::Direct)?);
        assert!(distance(&fft.0, &direct.0) < 1e-11);
        assert!(distance(&fft.1, &direct.1) < 1e-10);
        assert_eq!(fft, by(CircularMethod::Fft)?);
    }
    Ok(())
}

#[test]
fn inverse_undoes_binding_over_two_axes() -> Result<()> {
    let rng = &mut Rng::new(4);
    let y = array::<f64>(&[3, 6, 7], rng);
    let x = array::<f64>(&[3, 6, 7], rng);
    let circular = Circular::over(&[1, 2]);
    let inverse = circular.inverse(CircularOperation::Convolve, &y)?;
    let back = circular.convolve(&circular.convolve(&x, &y)?, &inverse)?;
    assert!(distance(&back, &x) < 1e-10);
    Ok(())
}

#[rstest]
#[case(&[11], &[2, 11], CircularOperation::Correlate)]
#[case(&[3, 8], &[2, 3, 8], CircularOperation::Correlate)]
#[case(&[3, 1, 40], &[2, 3, 2, 40], CircularOperation::Convolve)]
fn layer_gradients(
    #[case] weight: &[usize],
    #[case] input: &[usize],
    #[case] operation: CircularOperation,
) -> Result<()> {
    let rng = &mut Rng::new(5);
    let filter = CircularConv::<f64>::new(weight, rng)?.weight().clone();
    let mut layer = CircularConv::with_weights(operation, filter)?;
    let x = Tensor::from_array(&array::<f64>(input, rng))?;
    let check = gradcheck(&mut layer, &x, 1.0)?;
    assert!(check.worst() < 1e-11, "{check:?}");
    assert_eq!(layer.forward(&x)?.shape(), input);
    Ok(())
}

#[test]
fn hrr_stores_and_finds() -> Result<()> {
    let rng = &mut Rng::new(7);
    let roles = hrr::random::<f64>(5, 1024, rng)?;
    let fillers = hrr::random::<f64>(5, 1024, rng)?;
    let trace = hrr::superpose(&hrr::bind(&roles, &fillers)?)?;
    let found = hrr::unbind(&trace, &roles)?;
    let table = hrr::similarity(
        &found.view().insert_axis(Axis(1)),
        &fillers.view().insert_axis(Axis(0)),
    )?;
    assert_eq!(table.shape(), [5, 5]);
    for i in 0..5 {
        for j in 0..5 {
            assert!(i == j || table[[i, i]] > table[[i, j]] + 0.2);
        }
    }
    let unitary = hrr::random_unitary::<f64>(2, 15, rng)?;
    let [role, filler] = [unitary.row(0), unitary.row(1)];
    let back = hrr::unbind(&hrr::bind(&role, &filler)?, &role)?;
    assert!(distance(&back, &filler.to_owned().into_dyn()) < 1e-14);
    assert_eq!(hrr::similarity(&role, &arr1(&[0.0; 15]))?.sum(), 0.0);
    Ok(())
}

#[test]
fn nonsense_is_refused() -> Result<()> {
    let shape = |r: Result<ArrayD<f64>>| assert!(matches!(r, Err(Error::Shape { .. })), "{r:?}");
    let argument = |r: Result<ArrayD<f64>>| {
        assert!(matches!(r, Err(Error::Argument { .. })), "{r:?}");
    };
    let (x, y) = (Array1::<f64>::zeros(3), Array1::<f64>::zeros(4));
    let empty = Array1::<f64>::zeros(0);
    let scalar = ndarray::arr0(1.0);
    shape(circular_convolve(&x, &y));
    shape(circular_convolve(&empty, &empty));
    argument(circular_convolve(&scalar, &scalar));
    shape(circular_correlate(&x, &scalar));
    shape(circular_correlate(
        &Array2::zeros((2, 3)),
        &Array2::zeros((5, 3)),
    ));
    argument(Circular::over(&[1]).convolve(&x, &x));
    argument(Circular::over(&[0, -1]).convolve(&x, &x));
    argument(Circular::over(&[]).convolve(&x, &x));
    argument(Circular::over(&[isize::MIN]).convolve(&x, &x));
    shape(Circular::over(&[-2]).convolve(&Array2::zeros((2, 3)), &x));
    shape(circular_convolve_vjp(&x, &x, &y).map(|(dx, _)| dx));
    shape(involution(&empty));
    shape(periodic_sum(&empty, 2));
    argument(periodic_sum(&x, 0));
    shape(circular_convolve_inverse(&empty));
    assert!(matches!(
        periodic_sum(&x, usize::MAX),
        Err(Error::TooLarge { .. })
    ));
    assert!(circulant(&empty).is_err());
    assert!(hrr::random::<f32>(1, 0, &mut Rng::new(0)).is_err());
    assert!(hrr::similarity(&x, &y).is_err() && hrr::superpose(&x).is_err());
    assert!(CircularConv::<f32>::new(&[2, 0], &mut Rng::new(0)).is_err());
    let layer = CircularConv::<f32>::new(&[2, 4], &mut Rng::new(0))?;
    for bad in [&[4][..], &[3, 4], &[1, 4], &[2, 5]] {
        let x = Tensor::from_vec(bad, vec![0.0; bad.iter().product()])?;
        assert!(matches!(layer.forward(&x), Err(Error::Shape { .. })));
    }
    // no rows are no error, and what is not a number stays one
    let none = circular_convolve(&Array2::<f64>::zeros((0, 3)), &x)?;
    assert_eq!(none.shape(), [0, 3]);
    let long = Array1::from_elem(50, f64::NAN);
    assert!(circular_convolve(&long, &long)?.iter().all(|v| v.is_nan()));
    Ok(())
}
