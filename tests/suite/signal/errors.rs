//! Nonsense gives a typed error, never a panic and never a wrong number.

use ndarray::{Array1, Array2, ArrayD, IxDyn, arr1, arr2};
use ndconv::Error;
use ndconv::signal::*;

use super::METHODS;

#[test]
fn empty_operands() {
    let (full, empty) = (arr1(&[1.0, 2.0]), Array1::<f64>::zeros(0));
    for method in METHODS {
        let c = Convolution::new(Mode::Full).method(method);
        assert!(matches!(
            c.convolve(&full, &empty),
            Err(Error::Shape { .. })
        ));
        assert!(matches!(
            c.correlate(&empty, &full),
            Err(Error::Shape { .. })
        ));
    }
    let scalar = ArrayD::<f64>::zeros(IxDyn(&[]));
    assert!(convolve(&scalar, &scalar, Mode::Full).is_err());
    assert!(xcorr(&full, &empty, Scaling::None, None).is_err());
    assert!(Xcorr::new().columns(&Array2::<f64>::zeros((3, 0))).is_err());
    assert!(correlation_lags(0, 3, Mode::Full, Align::Scipy).is_err());
}

#[test]
fn shapes_that_do_not_meet() {
    let (a, b) = (arr2(&[[1.0, 2.0, 3.0]]), arr2(&[[1.0], [2.0]]));
    assert!(matches!(
        convolve(&a, &b, Mode::Valid),
        Err(Error::Shape { .. })
    ));
    let (a, b) = (Array2::<f64>::ones((2, 4)), Array2::<f64>::ones((3, 2)));
    let rows = Convolution::new(Mode::Full).axes(&[1]);
    assert!(matches!(rows.convolve(&a, &b), Err(Error::Shape { .. })));
    assert!(matches!(
        rows.convolve(&arr1(&[1.0]), &a),
        Err(Error::Shape { .. })
    ));
    let wrong = Convolution::new(Mode::Full).convolve_vjp(&a, &b, &a);
    assert!(matches!(wrong, Err(Error::Shape { .. })));
}

#[test]
fn axes_and_origins_that_do_not_exist() {
    let a = Array2::<f64>::ones((4, 4));
    for axes in [&[2][..], &[0, 0], &[]] {
        let c = Convolution::new(Mode::Full).axes(axes);
        assert!(matches!(c.convolve(&a, &a), Err(Error::Argument { .. })));
    }
    for origin in [-3, 2, isize::MIN, isize::MAX] {
        let y = ndimage::convolve(&a, &a, Boundary::Wrap, &[origin]);
        assert!(matches!(y, Err(Error::Argument { .. })));
    }
    assert!(ndimage::convolve(&a, &a, Boundary::Wrap, &[0, 0, 0]).is_err());
    assert!(ndimage::correlate1d(&a, &[1.0], 2, Boundary::Wrap, 0).is_err());
    assert!(ndimage::correlate1d(&a, &[], 0, Boundary::Wrap, 0).is_err());
    let shifted = Convolution::new(Mode::Full).origin(&[1]);
    assert!(matches!(
        shifted.convolve(&a, &a),
        Err(Error::Unsupported { .. })
    ));
}

#[test]
fn five_axes_are_for_the_spectrum() {
    let a = ArrayD::<f64>::ones(IxDyn(&[2; 5]));
    let direct = Convolution::new(Mode::Full).method(Method::Direct);
    assert!(matches!(
        direct.convolve(&a, &a),
        Err(Error::Unsupported { .. })
    ));
    let full = convolve(&a, &a, Mode::Full).unwrap();
    assert!((full[[1; 5].as_slice()] - 32.0).abs() < 1e-12);
}

#[test]
fn sizes_beyond_memory() {
    let x = arr1(&[1.0, 2.0]);
    for maxlag in [usize::MAX, usize::MAX / 2, isize::MAX as usize] {
        let r = xcorr(&x, &x, Scaling::None, Some(maxlag));
        assert!(matches!(r, Err(Error::TooLarge { .. })), "{maxlag}");
    }
    assert!(fft::Plan::<f64>::new(0).is_err());
    assert!(fft::Plan::<f64>::new(usize::MAX).is_err());
    assert!(correlation_lags(usize::MAX, 2, Mode::Full, Align::Scipy).is_err());
    assert!(kernel::gaussian(f64::NAN).is_err());
    assert!(kernel::mean(0).is_err());
}

#[test]
fn fft_of_wrong_lengths() {
    let x = arr2(&[[1.0, 2.0, 3.0]]);
    assert!(fft::forward(&x, 2, 3).is_err());
    assert!(fft::forward(&x, 1, 2).is_err());
    let spectrum = fft::forward(&x, 1, 5).unwrap();
    assert!(fft::inverse::<f64, _, _>(&spectrum, 1, 7).is_err());
    let back = fft::inverse::<f64, _, _>(&spectrum, 1, 5).unwrap();
    assert!((back[[0, 2]] - 3.0).abs() < 1e-15 && back[[0, 4]].abs() < 1e-15);
}

#[test]
fn not_a_number_stays_where_it_is() {
    let x = arr1(&[1.0, f64::NAN, 1.0, 1.0, 1.0]);
    let y = Convolution::new(Mode::Same).method(Method::Direct);
    let y = y.convolve(&x, &arr1(&[1.0, 1.0])).unwrap();
    assert!(y[1].is_nan() && y[2].is_nan() && y[0] == 1.0 && y[4] == 2.0);
}
