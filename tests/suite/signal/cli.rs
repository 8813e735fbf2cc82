//! `ndconv convolve`, `correlate` and `xcorr` as a shell sees them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image::{GrayImage, Luma, Rgba, RgbaImage};
use ndarray::{Array1, Array2, arr1, arr2};
use ndarray_npy::{ReadableElement, WritableElement, read_npy, write_npy};
use ndconv::signal::Complex;

use crate::cases::scratch;

fn ndconv(folder: &Path, line: &str) -> Output {
    Command::new(crate::program())
        .args(line.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("the program starts")
}

fn succeeds(folder: &Path, line: &str) -> String {
    let output = ndconv(folder, line);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {err}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Exit code 2 and one line that names what is wrong.
fn fails(folder: &Path, line: &str, naming: &str) {
    let output = ndconv(folder, line);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line}: {err}");
    assert!(
        err.contains(naming) && err.lines().count() == 1,
        "{line}: {err}"
    );
}

fn write<T: WritableElement + Clone>(folder: &Path, name: &str, values: &[T]) {
    write_npy(folder.join(name), &arr1(values)).expect("written");
}

fn read<T: ReadableElement>(file: PathBuf) -> Vec<T> {
    let array: Array1<T> = read_npy(file).expect("an array");
    array.into_raw_vec_and_offset().0
}

#[test]
fn arrays() {
    let folder = scratch();
    let at = folder.path();
    write(at, "a.npy", &[4.0f64, 5.0, 6.0]);
    write(at, "b.npy", &[2i32, 3]);
    succeeds(at, "convolve a.npy b.npy -o c.npy");
    assert_eq!(read::<f64>(at.join("c.npy")), [8.0, 22.0, 27.0, 18.0]);
    succeeds(
        at,
        "convolve a.npy b.npy --mode same --align matlab -o c.npy",
    );
    assert_eq!(read::<f64>(at.join("c.npy")), [22.0, 27.0, 18.0]);
    let json = succeeds(at, "correlate a.npy b.npy --mode valid --json -o c.npy");
    assert_eq!(read::<f64>(at.join("c.npy")), [23.0, 28.0]);
    assert!(json.contains("\"method\": \"direct\""), "{json}");

    let i = Complex::new(0.0f32, 1.0);
    write(at, "i.npy", &[i]);
    write(at, "x.npy", &[1.0f32, 2.0]);
    succeeds(at, "correlate x.npy i.npy -o c.npy");
    let c = read::<Complex<f32>>(at.join("c.npy"));
    assert_eq!(c, [Complex::new(0.0, -1.0), Complex::new(0.0, -2.0)]);
}

#[test]
fn xcorr() {
    let folder = scratch();
    let at = folder.path();
    write(at, "x.npy", &[2.0f64, 0.0, 0.0, 1.0]);
    write(at, "y.npy", &[1.0f64, 0.0, -1.0, 2.0]);
    let out = succeeds(at, "xcorr x.npy y.npy --maxlag 3");
    let values: Vec<f64> = out
        .lines()
        .map(|l| {
            l.split('\t')
                .nth(1)
                .and_then(|v| v.parse().ok())
                .expect("a value")
        })
        .collect();
    let expected = [4.0, -2.0, 0.0, 4.0, -1.0, 0.0, 1.0];
    assert!(
        values
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-12),
        "{out}"
    );
    write_npy(at.join("m.npy"), &arr2(&[[1.0, 0.0], [2.0, 1.0]])).expect("written");
    succeeds(at, "xcorr m.npy -o r.npy");
    let r: Array2<f64> = read_npy(at.join("r.npy")).expect("an array");
    assert_eq!(r.dim(), (3, 4));
    assert!(succeeds(at, "xcorr x.npy --scaling coeff --json").contains("\"lags\""));
}

#[test]
fn images() {
    let folder = scratch();
    let at = folder.path();
    let step = GrayImage::from_fn(9, 7, |x, _| Luma([if x < 4 { 10 } else { 50 }]));
    step.save(at.join("step.png")).expect("written");
    succeeds(
        at,
        "correlate --image step.png --kernel sobel-x -o edges.png",
    );
    let edges = image::open(at.join("edges.png"))
        .expect("an image")
        .to_luma8();
    assert_eq!(edges.dimensions(), (9, 7));
    assert_eq!([3, 4, 5].map(|x| edges.get_pixel(x, 3)[0]), [160, 160, 0]);
    succeeds(
        at,
        "convolve --image step.png --kernel sobel-y -o edges.png",
    );
    let edges = image::open(at.join("edges.png"))
        .expect("an image")
        .to_luma8();
    assert!(edges.pixels().all(|p| p[0] == 0));

    let flat = RgbaImage::from_pixel(8, 8, Rgba([200, 100, 7, 9]));
    flat.save(at.join("flat.png")).expect("written");
    for kernel in ["gaussian:2.5", "box:5"] {
        succeeds(
            at,
            &format!("convolve --image flat.png --kernel {kernel} -o out.png"),
        );
        let out = image::open(at.join("out.png"))
            .expect("an image")
            .to_rgba8();
        assert!(
            out.pixels().all(|p| *p == Rgba([200, 100, 7, 9])),
            "{kernel}"
        );
    }
}

#[test]
fn nonsense() {
    let folder = scratch();
    let at = folder.path();
    write(at, "a.npy", &[1.0f64, 2.0]);
    std::fs::write(at.join("broken.npy"), b"\x93NUMPY\x01\x00").expect("written");
    std::fs::write(at.join("text.png"), b"no image").expect("written");
    fails(at, "convolve a.npy none.npy -o c.npy", "none.npy");
    fails(at, "convolve a.npy broken.npy -o c.npy", "broken.npy");
    fails(at, "convolve a.npy a.npy --mode some -o c.npy", "some");
    fails(at, "convolve a.npy a.npy --axes 3 -o c.npy", "axes");
    fails(at, "convolve a.npy a.npy", "--output");
    fails(at, "convolve a.npy a.npy -o nowhere/c.npy", "nowhere");
    fails(
        at,
        "convolve --image text.png --kernel laplace -o c.png",
        "text.png",
    );
    let image = GrayImage::new(3, 3);
    image.save(at.join("i.png")).expect("written");
    fails(
        at,
        "convolve --image i.png --kernel gaussian:x -o c.png",
        "gaussian:x",
    );
    fails(at, "convolve --image i.png --kernel box:-1 -o c.png", "box");
    fails(at, "convolve --image i.png --kernel blur -o c.png", "blur");
    fails(
        at,
        "convolve --image i.png --kernel laplace -o c.jpg",
        "c.jpg",
    );
    assert!(!at.join("c.npy").exists() && !at.join("c.png").exists());
}
