//! Golden vectors of PyTorch, JAX, Keras and ONNX, and of whole numbers: every case file, in its
//! own element type and in the others.

use std::path::PathBuf;

use ndconv::case::{self, Options};
use ndconv::{DType, Device};
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
    let mut failures = String::new();
    for file in files {
        match case::check_with(&file, &Device::Cpu, options) {
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

#[rstest]
fn every_case_in_each_type(
    #[values(DType::F64, DType::F32, DType::F16, DType::BF16)] dtype: DType,
) {
    let options = Options {
        dtype: Some(dtype),
        // rounding the inputs of a 16-bit run costs as much again as rounding the result
        tolerance: (dtype.size() == 2).then_some(if dtype == DType::F16 { 4e-3 } else { 3.2e-2 }),
        ..Options::default()
    };
    assert_all_pass(cases(), &options);
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
