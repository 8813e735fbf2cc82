//! Many cases at once, for a user's own tests.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Options, Report, check_with, find};
use crate::device::Device;
use crate::error::{Error, Result};

/// What became of many cases.
///
/// ```
/// use ndconv::case::Summary;
/// let nothing = Summary::default();
/// assert_eq!(nothing.to_string(), "0 passed, 0 failed, 0 skipped");
/// ```
#[derive(Debug, Default)]
pub struct Summary {
    /// Every file with its report, or with why there is none.
    pub cases: Vec<(PathBuf, Result<Report>)>,
}

impl Summary {
    fn count(&self, which: impl Fn(&Result<Report>) -> bool) -> usize {
        self.cases.iter().filter(|(_, case)| which(case)).count()
    }

    /// Cases of which every tensor passed.
    pub fn passed(&self) -> usize {
        self.count(|case| matches!(case, Ok(report) if report.passed()))
    }

    /// Cases of which a tensor did not pass.
    pub fn failed(&self) -> usize {
        self.count(|case| matches!(case, Ok(report) if !report.passed()))
    }

    /// Cases that the device does not offer, in the element type asked for.
    pub fn skipped(&self) -> usize {
        self.count(|case| matches!(case, Err(Error::Unsupported { .. })))
    }

    /// Files that could not be read, or are not a case.
    pub fn unreadable(&self) -> usize {
        self.cases.len() - self.passed() - self.failed() - self.skipped()
    }

    /// Whether nothing failed and every file could be read.
    pub fn is_success(&self) -> bool {
        self.failed() == 0 && self.unreadable() == 0
    }
}

/// What did not pass, and then the counts.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, case) in &self.cases {
            match case {
                Ok(report) => {
                    for row in report.rows.iter().filter(|row| !row.passed) {
                        writeln!(f, "{} {row}", report.name)?;
                    }
                }
                Err(error @ (Error::Io { .. } | Error::Format { .. })) => writeln!(f, "{error}")?,
                Err(error) => writeln!(f, "{}: {error}", path.display())?,
            }
        }
        let (passed, failed, skipped) = (self.passed(), self.failed(), self.skipped());
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Runs the case file at a path, or every case of a folder.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read, [`Error::Format`] when there is no case in it;
/// what is wrong with a single file is in the summary.
///
/// ```no_run
/// use ndconv::{Device, case::{self, Options}};
/// let summary = case::check_all("tests/cases", &Device::Cpu, &Options::default())?;
/// assert!(summary.is_success(), "{summary}");
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn check_all(path: impl AsRef<Path>, device: &Device, options: &Options) -> Result<Summary> {
    let path = path.as_ref();
    let files = find(path)?;
    if files.is_empty() {
        return Err(Error::format(path, "there is no .safetensors file in it"));
    }
    let run = |file: PathBuf| {
        let report = check_with(&file, device, options);
        (file, report)
    };
    Ok(Summary {
        cases: files.into_iter().map(run).collect(),
    })
}

/// What a test of [`cases!`](crate::cases) says when it fails.
#[doc(hidden)]
pub fn verdict(path: &Path, device: &Device, options: &Options) -> Result<(), String> {
    match check_all(path, device, options) {
        Ok(summary) if summary.is_success() => Ok(()),
        Ok(summary) => Err(format!("\n{summary}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The folder of a package that was built in the folder `built`. Where that is gone, because the
/// built tests were taken to another machine, it is `NDCONV_ROOT` or else the current folder.
#[doc(hidden)]
pub fn package(built: &str) -> PathBuf {
    let built = PathBuf::from(built);
    if built.is_dir() {
        return built;
    }
    match std::env::var_os("NDCONV_ROOT") {
        Some(root) => root.into(),
        None => std::env::current_dir().unwrap_or_default(),
    }
}

/// The cases of a folder that are not among these names: paths from the folder, without the
/// extension.
#[doc(hidden)]
pub fn unlisted(folder: &Path, names: &[&str]) -> Result<(), String> {
    let name = |file: &PathBuf| {
        let inside = file.strip_prefix(folder).unwrap_or(file);
        inside
            .with_extension("")
            .to_string_lossy()
            .replace('\\', "/")
    };
    let files = find(folder).map_err(|e| e.to_string())?;
    let missing: Vec<String> = files
        .iter()
        .map(name)
        .filter(|n| !names.contains(&&n[..]))
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} has cases without a test: {}",
            folder.display(),
            missing.join(", ")
        )),
    }
}

/// Makes a test module of a folder of case files, in a crate of yours.
///
/// The folder is named from the crate's root. Without a list there is one test, `every_case`,
/// which looks at the folder when it runs:
///
/// ```
/// ndconv::cases! { golden: "tests/golden/cases" }
/// ```
///
/// Macros cannot list a folder, so with a test for each case they are named here; a file's name
/// that is no identifier goes behind `=`. One more test, `every_case_is_listed`, fails when the
/// folder has a case that is not here, and says which.
///
/// ```
/// use ndconv::{DType, Device, case::Options};
///
/// ndconv::cases! {
///     ours: "tests/cases" [conv_plain, conv_strided = "conv-strided", deep = "more/deep"],
///     device: Device::cuda_or_cpu(0).0,
///     options: Options { dtype: Some(DType::F32), ..Options::default() },
/// }
/// ```
#[macro_export]
macro_rules! cases {
    (
        $suite:ident: $folder:literal
        $(, device: $device:expr)? $(, options: $options:expr)? $(,)?
    ) => {
        #[cfg(test)]
        mod $suite {
            #[allow(unused_imports)]
            use super::*;

            #[test]
            fn every_case() {
                $crate::cases!(@check "", $folder; $($device)?; $($options)?);
            }
        }
    };
    (
        $suite:ident: $folder:literal [$($name:ident $(= $file:literal)?),* $(,)?]
        $(, device: $device:expr)? $(, options: $options:expr)? $(,)?
    ) => {
        $crate::cases! {
            @named $suite $folder [$($name $(= $file)?),*] [$($device)?] [$($options)?]
        }
    };
    (
        @named $suite:ident $folder:literal [$($name:ident $(= $file:literal)?),*]
        $device:tt $options:tt
    ) => {
        #[cfg(test)]
        mod $suite {
            #[allow(unused_imports)]
            use super::*;

            $(
                #[test]
                fn $name() {
                    $crate::cases!(
                        @each $folder; $crate::cases!(@file $name $(= $file)?); $device $options
                    );
                }
            )*

            #[test]
            fn every_case_is_listed() {
                let folder = $crate::case::package(env!("CARGO_MANIFEST_DIR")).join($folder);
                let names = [$($crate::cases!(@file $name $(= $file)?)),*];
                if let Err(missing) = $crate::case::unlisted(&folder, &names) {
                    panic!("{missing}");
                }
            }
        }
    };
    (@file $name:ident = $file:literal) => { $file };
    (@file $name:ident) => { stringify!($name) };
    (@each $folder:literal; $file:expr; [$($device:expr)?] [$($options:expr)?]) => {
        $crate::cases!(@check $file, $folder; $($device)?; $($options)?)
    };
    (@check $file:expr, $folder:literal; $($device:expr)?; $($options:expr)?) => {
        let mut path = $crate::case::package(env!("CARGO_MANIFEST_DIR")).join($folder);
        let file: &str = $file;
        if !file.is_empty() {
            path.push(format!("{file}.safetensors"));
        }
        #[allow(unused_variables)]
        let device = $crate::Device::Cpu;
        $(let device: $crate::Device = $device;)?
        #[allow(unused_variables)]
        let options = $crate::case::Options::default();
        $(let options: $crate::case::Options = $options;)?
        if let Err(failures) = $crate::case::verdict(&path, &device, &options) {
            panic!("{failures}");
        }
    };
}
