//! Circular operations: identities, gradients, holographic memory, errors.

use ndarray::{Array1, Array2, ArrayD, Axis, arr1};
use ndconv::init::Rng;
use ndconv::layer::{CircularConv, Layer};
use ndconv::signal::{
    Circular, CircularMethod, CircularOperation, Complex, Scalar, circulant, circular_convolve,
    circular_convolve_inverse, circular_convolve_vjp, circular_correlate, hrr, involution,
    periodic_sum,
};
use ndconv::{Error, Result, Tensor, gradcheck};
use rstest::rstest;

use crate::arrays::{OPERATIONS, array, by_definition, distance, inner};

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

/// Rows that fill the lanes of every instruction set, some lanes left over, with and without
/// broadcasting; lengths with every radix, even and odd.
#[rstest]
fn many_rows_agree_with_the_definition(
    #[values(2, 6, 34, 50, 64, 90, 97, 100, 105, 128, 250, 512)] n: usize,
) -> Result<()> {
    let shapes: [[&[usize]; 2]; 6] = [
        [&[37], &[37]],
        [&[37], &[]],
        [&[], &[37]],
        [&[3, 1], &[1, 21]],
        [&[2, 18], &[2, 1]],
        [&[16, 4], &[4]],
    ];
    let rng = &mut Rng::new(n as u64);
    for shapes in shapes {
        let [x, y] = shapes.map(|batch| array::<f64>(&[batch, &[n]].concat(), rng));
        for operation in OPERATIONS {
            let by = |method| Circular::default().method(method);
            let (direct, fft) = (by(CircularMethod::Direct), by(CircularMethod::Fft));
            let z = direct.apply(operation, &x, &y)?;
            let tolerance = 1e-14 * n as f64;
            assert!(distance(&z, &fft.apply(operation, &x, &y)?) < tolerance);
            let narrow = |a: &ArrayD<f64>| a.mapv(|v| v as f32);
            let single = fft.apply(operation, &narrow(&x), &narrow(&y))?;
            assert!(distance(&z, &single.mapv(f64::from)) < 1e-5 * (n as f64).sqrt());
            let gradients = |by: &Circular| by.apply_vjp(operation, &x, &y, &z);
            let (exact, fft) = (gradients(&direct)?, gradients(&fft)?);
            let scale = (z.len() as f64).sqrt();
            assert!(distance(&exact.0, &fft.0) < tolerance * scale);
            assert!(distance(&exact.1, &fft.1) < tolerance * scale);
        }
    }
    Ok(())
}

/// A result of several megabytes, its last rows included.
#[test]
fn a_long_batch_is_its_rows() -> Result<()> {
    let rng = &mut Rng::new(11);
    let (x, y) = (array::<f64>(&[1203, 500], rng), array::<f64>(&[500], rng));
    let z = circular_correlate(&x, &y)?;
    for row in [0, 1, 600, 1199, 1200, 1202] {
        let alone = circular_correlate(&x.index_axis(Axis(0), row), &y)?;
        let here = z.index_axis(Axis(0), row).to_owned();
        assert!(distance(&alone, &here) < 1e-12);
    }
    Ok(())
}

#[test]
fn lanes_do_not_meet() -> Result<()> {
    let rng = &mut Rng::new(7);
    let (mut x, y) = (array::<f32>(&[37, 100], rng), array::<f32>(&[100], rng));
    let before = circular_correlate(&x, &y)?;
    for (row, value) in [(1, f32::NAN), (17, f32::INFINITY), (36, 1e30)] {
        x.index_axis_mut(Axis(0), row).fill(value);
    }
    let after = circular_correlate(&x, &y)?;
    for row in (0..37).filter(|row| ![1, 17, 36].contains(row)) {
        let of = |z: &ArrayD<f32>| z.index_axis(Axis(0), row).to_owned();
        assert_eq!(of(&before), of(&after));
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
