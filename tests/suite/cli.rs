//! The command line as a shell sees it: exit codes, standard output, standard error.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rstest::rstest;
use serde_json::Value;

use crate::cases::{plant, scratch, write};

/// What came of a run of the program.
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in {}", self.out))
    }

    fn last_line(&self) -> &str {
        self.out.lines().last().unwrap_or_default()
    }
}

pub fn ndconv<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Run {
    let output = Command::new(crate::program())
        .args(arguments)
        .env_remove("NO_COLOR")
        .current_dir(crate::root())
        .output()
        .expect("the program starts");
    Run {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

const KERAS: &str = "tests/golden/cases/keras_conv_transpose1d_same_dilation.safetensors";

/// A golden case with a wrong expectation; returns the file and the index.
fn planted(folder: &Path, golden: &str, tensor: &str) -> (String, Vec<usize>) {
    let golden = crate::root().join(golden);
    let mut bytes = fs::read(golden).expect("a golden case");
    let index = plant(&mut bytes, tensor, 7919).expect("the tensor is there");
    let file = folder.join("planted.safetensors");
    fs::write(&file, bytes).expect("written");
    (file.to_string_lossy().into_owned(), index)
}

#[test]
fn a_folder_of_good_cases() {
    let run = ndconv(&["check", "tests/cases"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(run.last_line(), "2 passed, 0 failed, 0 skipped");
    assert!(run.out.contains("max_pool_whole_input") && run.out.contains("[2, 3, 1, 1]"));
    assert!(!run.out.contains('\x1b') && run.err.is_empty());
}

#[test]
fn a_wrong_expectation_fails_at_its_index() {
    let folder = scratch();
    for tensor in ["y", "dx", "dw", "dbias"] {
        let (file, index) = planted(folder.path(), KERAS, tensor);
        let run = ndconv(&["check", &file]);
        assert_eq!(run.code, Some(1), "{}", run.err);
        assert_eq!(run.last_line(), "0 passed, 1 failed, 0 skipped");
        assert_eq!(run.out.matches("FAIL").count(), 1);
        let row = run.out.lines().find(|l| l.contains("FAIL")).expect("a row");
        assert!(row.contains(&format!(" {tensor} ")), "{row}");
        assert!(
            row.contains(&format!("FAIL at {index:?}: expected ")),
            "{row}"
        );

        let json = ndconv(&["check", "--json", &file]).json();
        let rows = json["cases"][0]["tensors"].as_array().expect("rows");
        let failed: Vec<_> = rows.iter().filter(|r| r["passed"] == false).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0]["index"], Value::from(index));
        assert_eq!((&json["failed"], &json["passed"]), (&1.into(), &0.into()));
    }
}

#[test]
fn malformed_files_are_named_and_the_others_run() {
    let folder = scratch();
    let bad = folder.path().join("bad.safetensors");
    fs::write(&bad, b"\xff\xff\xff\xff\xff\xff\xff\x7fno").expect("written");
    let bad = bad.to_string_lossy();
    let run = ndconv(&["check", &bad, "nowhere", "tests/cases/none*", "tests/cases"]);
    assert_eq!(run.code, Some(2));
    assert_eq!(run.last_line(), "2 passed, 0 failed, 0 skipped");
    assert_eq!(run.err.lines().count(), 3, "{}", run.err);
    for name in [&bad, "nowhere", "tests/cases/none*"] {
        assert!(run.err.contains(name), "{name} in {}", run.err);
    }
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("made");
    assert_eq!(
        ndconv(&[Path::new("check"), &empty]).code,
        Some(2),
        "nothing was checked"
    );
}

type Array<'a> = (&'a str, &'a [usize], &'a [f32]);

/// A convolution's case that passes, less the arrays of the names in `without`, and with `other`.
fn changed_case(path: &Path, without: &[&str], other: &[Array]) {
    let good: [Array; 8] = [
        ("x", &[1, 1, 3], &[1.0, 2.0, 3.0]),
        ("w", &[1, 1, 2], &[10.0, 1.0]),
        ("bias", &[1], &[0.5]),
        ("dy", &[1, 1, 2], &[1.0, 2.0]),
        ("y", &[1, 1, 2], &[12.5, 23.5]),
        ("dx", &[1, 1, 3], &[10.0, 21.0, 2.0]),
        ("dw", &[1, 1, 2], &[5.0, 8.0]),
        ("dbias", &[1], &[3.0]),
    ];
    let replaced = |name: &str| without.contains(&name) || other.iter().any(|o| o.0 == name);
    let mut arrays = other.to_vec();
    arrays.extend(good.into_iter().filter(|a| !replaced(a.0)));
    write(path, &[("op", "\"conv\"")], &arrays);
}

fn array<'a>(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> Array<'a> {
    (name, shape, values)
}

#[rstest]
#[case::no_input(&["x"], &[], "there is no tensor x")]
#[case::no_weight(&["w"], &[], "there is no tensor w")]
#[case::nothing_expected(&["y", "dx", "dw", "dbias"], &[], "none of y, dx, dw, dbias")]
#[case::no_output_gradient(&["dy"], &[], "dx is expected, but there is no tensor dy")]
#[case::no_bias(&["bias"], &[], "dbias is expected, but the layer has no such gradient")]
#[case::misspelt(&["dbias"], &[array("dbais", &[1], &[4.0])], "a tensor dbais")]
#[case::extra(&[], &[array("running_mean", &[1], &[0.0])], "a tensor running_mean")]
#[case::output_of_another_shape(
    &[], &[array("y", &[1, 1, 3], &[12.5, 23.5, 0.0])], "y has shape [1, 1, 3], but the layer gives [1, 1, 2]"
)]
#[case::output_of_another_rank(
    &[], &[array("y", &[1, 2], &[12.5, 23.5])], "y has shape [1, 2], but the layer gives [1, 1, 2]"
)]
#[case::gradient_of_another_shape(
    &[], &[array("dw", &[2, 1, 1], &[5.0, 8.0])], "dw has shape [2, 1, 1], but the layer gives [1, 1, 2]"
)]
#[case::output_gradient_of_another_shape(
    &[], &[array("dy", &[1, 1, 1], &[1.0])], "dy has shape [1, 1, 1], but the layer gives [1, 1, 2]"
)]
#[case::bias_of_another_shape(&[], &[array("bias", &[2], &[0.5, 0.5])], "bias")]
#[case::weight_of_another_rank(&[], &[array("w", &[1, 1, 2, 1], &[10.0, 1.0])], "weight")]
fn a_case_whose_arrays_do_not_fit_is_unreadable(
    #[case] without: &[&str],
    #[case] other: &[Array],
    #[case] says: &str,
) {
    let folder = scratch();
    let file = folder.path().join("case.safetensors");
    changed_case(&file, &[], &[]);
    let path = file.to_string_lossy();
    assert_eq!(
        ndconv(&["check", &path]).code,
        Some(0),
        "it passes as it is"
    );
    changed_case(&file, without, other);
    let run = ndconv(&["check", &path, "tests/cases"]);
    assert_eq!(run.code, Some(2), "{}", run.out);
    assert_eq!(
        run.last_line(),
        "2 passed, 0 failed, 0 skipped",
        "the others run"
    );
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    assert!(
        run.err.contains(says) && run.err.contains(&*path),
        "{}",
        run.err
    );
    let json = ndconv(&["check", "--json", &path]).json();
    assert_eq!(json["cases"][0]["status"], "unreadable");
    let reason = json["cases"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(says), "{reason}");
}

#[test]
fn patterns_types_and_tolerances() {
    let folder = scratch();
    let (file, _) = planted(folder.path(), KERAS, "y");
    assert_eq!(ndconv(&["check", &file, "--atol", "3.5"]).code, Some(0));
    assert_eq!(ndconv(&["check", &file, "--rtol", "1e-3"]).code, Some(1));
    let golden = "tests/golden/cases/integer_conv1d*.safetensors";
    assert_eq!(ndconv(&["check", golden, "--exact"]).code, Some(0));
    let run = ndconv(&["check", golden, "--dtype", "f64", "--json"]);
    let json = run.json();
    assert_eq!(json["cases"][0]["dtype"], "f64");
    assert_eq!(
        json["passed"].as_u64(),
        json["cases"].as_array().map(|c| c.len() as u64)
    );
}

#[rstest]
#[case::no_such_command(&["chekc"], "chekc")]
#[case::no_such_flag(&["check", "--jsno", "x"], "--jsno")]
#[case::no_path(&["check"], "ndconv check --help")]
#[case::no_such_type(&["check", "--dtype", "f8", "x"], "f16, bf16, f32 or f64")]
#[case::no_such_device(&["check", "--device", "tpu", "x"], "tpu")]
#[case::no_such_gpu(&["check", "--device", "cuda:99", "x"], "CUDA")]
#[case::negative(&["check", "--rtol=-1", "x"], "negative")]
#[case::contradiction(&["check", "--exact", "--rtol", "1", "x"], "--exact")]
#[case::no_such_shell(&["completions", "cmd"], "bash")]
fn wrong_usage_is_one_line(#[case] arguments: &[&str], #[case] hint: &str) {
    let run = ndconv(arguments);
    assert_eq!(run.code, Some(2));
    assert!(run.out.is_empty());
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    assert!(
        run.err.starts_with("error: ") && run.err.contains(hint),
        "{}",
        run.err
    );
}

#[test]
fn recording() {
    let folder = scratch();
    let case = folder.path().join("new.safetensors");
    let tensors: [(&str, &[usize], &[f32]); 3] = [
        ("x", &[1, 1, 3], &[1.0, 2.0, 3.0]),
        ("w", &[1, 1, 2], &[10.0, 1.0]),
        ("dy", &[1, 1, 2], &[1.0, 2.0]),
    ];
    write(&case, &[("op", "\"conv\"")], &tensors);
    let case = &case.to_string_lossy()[..];
    assert_eq!(
        ndconv(&["check", case]).code,
        Some(2),
        "nothing is expected yet"
    );

    let copy = folder.path().join("copy.safetensors");
    let copy = &copy.to_string_lossy()[..];
    assert_eq!(ndconv(&["check", case, "--record", copy]).code, Some(0));
    assert_eq!(
        ndconv(&["check", case]).code,
        Some(2),
        "the input is as it was"
    );
    assert_eq!(
        ndconv(&["check", copy, "--exact"]).last_line(),
        "1 passed, 0 failed, 0 skipped"
    );
    let again = ndconv(&["check", case, "--record", copy]);
    assert_eq!(again.code, Some(2), "nothing is overwritten");
    assert!(again.err.contains("exists already"), "{}", again.err);

    assert_eq!(ndconv(&["check", "--record", case]).code, Some(0));
    let json = ndconv(&["check", "--json", case]).json();
    let rows = json["cases"][0]["tensors"].as_array().expect("rows");
    let names: Vec<_> = rows.iter().filter_map(|r| r["tensor"].as_str()).collect();
    assert_eq!(names, ["y", "dx", "dw"]);
    let left: Vec<_> = fs::read_dir(folder.path())
        .expect("read")
        .flatten()
        .collect();
    assert_eq!(left.len(), 2, "no temporary file is left: {left:?}");
}

#[test]
fn devices_completions_and_manual() {
    let json = ndconv(&["devices", "--json"]).json();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert!(json["cpu"]["threads"].as_u64() >= Some(1));
    assert!(ndconv(&["devices"]).out.contains("threads"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = ndconv(&["completions", shell]);
        assert_eq!(run.code, Some(0));
        assert!(run.out.contains("check"), "{shell}");
    }
    assert!(ndconv(&["man"]).out.contains(".TH ndconv 1"));
    let folder = scratch();
    let pages = folder.path().join("man1");
    let run = ndconv(&[Path::new("man"), Path::new("--dir"), &pages]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(pages.join("ndconv.1").exists() && pages.join("ndconv-check.1").exists());
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = Command::new(crate::program())
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
}

/// Files that promise more than they hold: refused in a process that may not use much memory.
#[cfg(target_os = "linux")]
#[test]
fn promises_cost_no_memory() {
    let folder = scratch();
    let mut files = Vec::new();
    let header = |name: &str, text: &str, length: Option<u64>| {
        let path = folder.path().join(format!("{name}.safetensors"));
        let length = length.unwrap_or(text.len() as u64);
        let bytes = [&length.to_le_bytes()[..], text.as_bytes(), &[0; 64]].concat();
        fs::write(&path, bytes).expect("written");
        path
    };
    let shape = |s: &str| {
        let tensor = format!("{{\"dtype\":\"F32\",\"shape\":{s},\"data_offsets\":[0,64]}}");
        format!("{{\"__metadata__\":{{\"op\":\"dense\"}},\"x\":{tensor}}}")
    };
    files.push(header("length", "{}", Some(1 << 60)));
    files.push(header("longer", "{}", Some(1 << 20)));
    files.push(header("shape", &shape("[1099511627776]"), None));
    files.push(header("overflow", &shape("[9223372036854775807,4]"), None));
    files.push(header("wraps", &shape("[4294967296,4294967296,16]"), None));
    let big = "1000000000";
    let (pair, one) = (format!("[[{big},{big}]]"), format!("[{big}]"));
    let settings: [&[(&str, &str)]; 7] = [
        &[("op", "conv"), ("padding", &pair)],
        &[
            ("op", "conv"),
            ("padding", &pair),
            ("stride", &one),
            ("padding_mode", "replicate"),
        ],
        &[
            ("op", "conv"),
            ("padding", "same"),
            ("dilation", &one),
            ("padding_mode", "replicate"),
        ],
        &[("op", "conv_transpose"), ("stride", &one)],
        &[
            ("op", "conv_transpose"),
            ("stride", "[1000000001]"),
            ("output_padding", &one),
        ],
        &[
            ("op", "max_pool"),
            ("kernel_size", "[1000000000000]"),
            ("padding", "same"),
        ],
        &[
            ("op", "avg_pool"),
            ("kernel_size", &one),
            ("padding", "[[500000000,500000000]]"),
        ],
    ];
    for (number, settings) in settings.into_iter().enumerate() {
        let path = folder.path().join(format!("setting{number}.safetensors"));
        let tensors: [(&str, &[usize], &[f32]); 4] = [
            ("x", &[1, 1, 3], &[1.0, 2.0, 3.0]),
            ("w", &[1, 1, 2], &[10.0, 1.0]),
            ("dy", &[1, 1, 3], &[1.0, 2.0, 3.0]),
            ("dw", &[1, 1, 2], &[0.0, 0.0]),
        ];
        write(&path, settings, &tensors);
        files.push(path);
    }
    for file in files {
        let output = Command::new("sh")
            .args(["-c", "ulimit -v 600000; exec \"$0\" check \"$1\""])
            .arg(crate::program())
            .arg(&file)
            .env("RAYON_NUM_THREADS", "1")
            .output()
            .expect("the program starts");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{}: {err}", file.display());
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}
