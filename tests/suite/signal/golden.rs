//! Numbers of NumPy, SciPy, `scipy.ndimage` and of the documented rules of MATLAB and PyTorch.

use ndarray::{Array1, ArrayD, IxDyn};
use ndconv::signal::{Align, Boundary, Complex, Convolution, Method, Real, Scalar, Xcorr};
use serde_json::Value;

use super::{METHODS, assert_close};

const FILE: &str = include_str!("../../golden/signal.json");

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn sizes<T: TryFrom<i64>>(value: &Value) -> Option<Vec<T>> {
    let list = value.as_array()?.iter();
    list.map(|v| v.as_i64().and_then(|v| T::try_from(v).ok()))
        .collect()
}

fn array<S: Scalar>(value: &Value) -> ArrayD<S> {
    let data = numbers(&value["data"]);
    let of = |v: f64| S::of(v).re();
    let elements = match S::COMPLEX {
        true => data
            .chunks(2)
            .map(|p| S::from_parts(of(p[0]), of(p[1])))
            .collect(),
        false => data.iter().map(|&v| S::of(v)).collect(),
    };
    let shape = sizes::<usize>(&value["shape"]).expect("a shape");
    ArrayD::from_shape_vec(IxDyn(&shape), elements).expect("as many elements as the shape says")
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().expect("text")
}

fn convolution(case: &Value) -> Convolution {
    let mode = text(case, "mode").parse().expect("a mode");
    let align: Align = text(case, "align").parse().expect("an alignment");
    let boundary = match case["boundary"].as_str() {
        None => Boundary::ZERO,
        Some("constant") => Boundary::Constant(case["cval"].as_f64().expect("cval")),
        Some("reflect") => Boundary::Reflect,
        Some("mirror") => Boundary::Mirror,
        Some("nearest") => Boundary::Nearest,
        Some("wrap") => Boundary::Wrap,
        Some(other) => panic!("boundary {other}"),
    };
    let mut convolution = Convolution::new(mode).align(align).boundary(boundary);
    if let Some(axes) = sizes::<usize>(&case["axes"]) {
        convolution = convolution.axes(&axes);
    }
    if let Some(origin) = sizes::<isize>(&case["origin"]) {
        convolution = convolution.origin(&origin);
    }
    convolution
}

fn check<S: Scalar>(case: &Value, index: usize, tolerance: f64) {
    let (a, b, z) = (
        array::<S>(&case["a"]),
        array::<S>(&case["b"]),
        array::<S>(&case["z"]),
    );
    for method in METHODS.into_iter().chain([Method::Auto]) {
        let convolution = convolution(case).method(method);
        let got = match text(case, "op") {
            "convolve" => convolution.convolve(&a, &b),
            _ => convolution.correlate(&a, &b),
        };
        let name = format!(
            "case {index}, {} by {method}: {convolution:?}",
            text(case, "source")
        );
        let got = got.unwrap_or_else(|error| panic!("{name}: {error}"));
        if method == Method::Direct {
            assert_eq!(got, z, "{name}");
        } else {
            assert_close(&got, &z, tolerance, &name);
        }
    }
}

fn check_all<R: Real>(tolerance: f64) {
    let file: Value = serde_json::from_str(FILE).expect("JSON");
    let cases = file["cases"].as_array().expect("cases");
    assert!(cases.len() >= 300, "only {} cases", cases.len());
    for (index, case) in cases.iter().enumerate() {
        match case["complex"].as_bool() {
            Some(true) => check::<Complex<R>>(case, index, tolerance),
            _ => check::<R>(case, index, tolerance),
        }
    }
}

#[test]
fn cases_f64() {
    check_all::<f64>(1e-13);
}

#[test]
fn cases_f32() {
    check_all::<f32>(2e-5);
}

#[test]
fn xcorr() {
    let file: Value = serde_json::from_str(FILE).expect("JSON");
    for (index, case) in file["xcorr"].as_array().expect("xcorr").iter().enumerate() {
        let signal = |key: &str| -> Array1<Complex<f64>> {
            array::<Complex<f64>>(&case[key])
                .into_dimensionality()
                .expect("one axis")
        };
        let mut xcorr = Xcorr::new().scaling(text(case, "scaling").parse().expect("a scaling"));
        if let Some(maxlag) = case["maxlag"].as_u64() {
            xcorr = xcorr.maxlag(maxlag as usize);
        }
        for method in METHODS.into_iter().chain([Method::Auto]) {
            let r = xcorr
                .method(method)
                .of(&signal("x"), &signal("y"))
                .expect("valid operands");
            let values = numbers(&case["values"]);
            let values = values.chunks(2).map(|p| Complex::new(p[0], p[1]));
            assert_eq!(r.lags.len(), r.values.len());
            assert_eq!(r.lags[0], -r.lags[r.lags.len() - 1]);
            assert_close(
                &r.values.into_dyn(),
                &values.collect::<Array1<_>>().into_dyn(),
                1e-13,
                &format!("xcorr {index} by {method}: {case}"),
            );
        }
    }
}
