//! Golden vectors of PyTorch, JAX, Keras and ONNX, and of whole numbers: every case file, in its
//! own element type and in the others.

use std::path::PathBuf;

use ndconv::case::{self, Options};
use ndconv::{Algorithm, CopyTiming, CudaDevice, DType, Device};
use rstest::rstest;

fn cases() -> Vec<PathBuf> {
    let folder = crate::root().join("tests/golden/cases");
    let files = case::find(folder).expect("the golden cases are part of the repository");
    assert!(files.len() > 300, "only {} golden cases", files.len());
    files
}

fn is_integer(path: &std::path::Path) -> bool {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().starts_with("integer_")
}

/// Every file must pass, and the failures are listed together.
fn assert_all_pass(files: impl IntoIterator<Item = PathBuf>, options: &Options) {
    assert_all_pass_on(&Device::Cpu, files, options);
}

fn assert_all_pass_on(
    device: &Device,
    files: impl IntoIterator<Item = PathBuf>,
    options: &Options,
) {
    let mut failures = String::new();
    for file in files {
        match case::check_with(&file, device, options) {
            Ok(report) if report.passed() => {}
            Ok(report) => failures += &report.to_string(),
            Err(error) => failures += &format!("{error}\n"),
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

#[test]
fn every_case_in_its_own_type() {
    assert_all_pass(cases(), &Options::default());
}

fn in_type(dtype: DType) -> Options {
    Options {
        dtype: Some(dtype),
        // rounding the inputs of a 16-bit run costs as much again as rounding the result
        tolerance: (dtype.size() == 2).then_some(if dtype == DType::F16 { 4e-3 } else { 3.2e-2 }),
        ..Options::default()
    }
}

#[rstest]
fn every_case_in_each_type(
    #[values(DType::F64, DType::F32, DType::F16, DType::BF16)] dtype: DType,
) {
    assert_all_pass(cases(), &in_type(dtype));
}

#[rstest]
#[case(DType::F32, Algorithm::Simt)]
#[case(DType::F32, Algorithm::Direct)]
#[case(DType::F16, Algorithm::Simt)]
#[case(DType::F16, Algorithm::TensorCore)]
#[case(DType::F16, Algorithm::Direct)]
#[case(DType::BF16, Algorithm::Simt)]
#[case(DType::BF16, Algorithm::TensorCore)]
#[case(DType::BF16, Algorithm::Direct)]
fn every_case_by_every_algorithm(#[case] dtype: DType, #[case] algorithm: Algorithm) {
    let emulator = CudaDevice::emulator(dtype as u64, CopyTiming::Late).expect("built for tests");
    emulator.prefer(Some(algorithm));
    assert_all_pass_on(&Device::Cuda(emulator), cases(), &in_type(dtype));
}

#[rstest]
fn whole_numbers_are_exact(#[values(DType::F64, DType::F32)] dtype: DType) {
    let options = Options {
        dtype: Some(dtype),
        exact: true,
        ..Options::default()
    };
    assert_all_pass(cases().into_iter().filter(|f| is_integer(f)), &options);
}

#[test]
fn whole_numbers_are_exact_in_the_type_of_the_file() {
    let options = Options {
        exact: true,
        ..Options::default()
    };
    assert_all_pass(cases().into_iter().filter(|f| is_integer(f)), &options);
}
