//! `ndconv bench`: lists, timings, the report, the comparison.

use std::fs;

use serde_json::Value;

use crate::cases::scratch;
use crate::cli::ndconv;

#[test]
fn a_bench_a_report_and_a_comparison() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let layers = [
        "--layer",
        "conv2d n=1 c=2 k=4 size=6x5 kernel=3 pad=1 groups=2",
    ];
    let more = [
        "--layer",
        "conv_transpose1d n=2 c=2 k=3 size=4 kernel=3 stride=2",
    ];
    let quick = [
        "--repeats",
        "2",
        "--budget",
        "0.001",
        "--layout",
        "channels_first,channels_last",
    ];
    let common = [&["bench"][..], &layers, &more, &quick].concat();
    let report = path("report.html");
    let run = ndconv(&[&common[..], &["--json", "--report", &report]].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    let json = run.json();
    let results = json["results"].as_array().expect("results");
    assert_eq!(results.len(), 2 * 2 * 3, "layers, layouts, passes");
    assert!(results.iter().all(|r| r["gflops"].as_f64() > Some(0.0)));
    assert_eq!(
        results[0]["flops"],
        2 * 4 * 6 * 5 * 9,
        "one input channel a group"
    );
    assert!(json["ceilings"]["matrix_flops_per_second"]["f32"].as_f64() > Some(1e6));

    let page = fs::read_to_string(&report).expect("the report");
    assert_eq!(page.matches("<tr class=\"row\"").count(), results.len());
    assert_eq!(page.matches("<circle ").count(), results.len());
    assert!(
        page.contains("data-layers=\"2\"") && !page.contains("http"),
        "self-contained"
    );

    let torch = path("torch.json");
    fs::write(&torch, &run.out).expect("written");
    let compared = ndconv(&[&common[..], &["--json", "--compare", &torch]].concat()).json();
    let results = compared["results"].as_array().expect("results");
    assert!(results.iter().all(|r| r["speedup"].as_f64() > Some(0.0)));
    assert!(
        ndconv(&[&common[..], &["--compare", &torch]].concat())
            .out
            .contains("speed-up")
    );
    fs::write(&torch, "{\"results\":[{\"layer\":\"x\"}]}").expect("written");
    let run = ndconv(&[&common[..], &["--compare", &torch]].concat());
    assert_eq!(run.code, Some(2));
    assert!(
        run.err.contains("torch.json") && run.err.contains("seconds"),
        "{}",
        run.err
    );
}

#[test]
fn a_row_names_the_plan_that_ran() {
    let layer = "conv1d n=1 c=16 k=32 size=20 kernel=3 pad=1";
    let on = |device: &[&str]| {
        let args = ["bench", "--json", "--layer", layer, "--dtype", "f16"];
        let quick = ["--repeats", "1", "--budget", "0.001", "--device"];
        ndconv(&[&args[..], &quick, device].concat())
    };
    let plans = |device: &[&str]| {
        let run = on(device);
        assert_eq!(run.code, Some(0), "{}", run.err);
        let rows = run.json()["results"].as_array().expect("results").clone();
        assert_eq!(rows.len(), 3, "passes");
        let name = |row: &Value| row["algorithm"].as_str().expect("a name").to_owned();
        rows.iter().map(name).collect::<Vec<_>>()
    };
    assert!(plans(&["cpu"]).iter().all(|name| name == "cpu"));
    for plan in plans(&["emulator"]) {
        assert!(plan.starts_with("tensor_core, tile "), "{plan}");
    }
    for plan in plans(&["emulator", "--algorithm", "simt"]) {
        assert!(plan.starts_with("simt, tile "), "{plan}");
    }
    for wrong in [
        ["cpu", "--algorithm", "simt"],
        ["emulator", "--algorithm", "magic"],
    ] {
        let run = on(&wrong);
        assert_eq!((run.code, run.out.is_empty()), (Some(2), true), "{wrong:?}");
        assert!(run.err.contains("algorithm"), "{}", run.err);
    }
}

#[test]
fn lists_of_layers() {
    let folder = scratch();
    for (list, count) in [
        ("resnet50", 23),
        ("deepbench", 94),
        ("vnet3d", 18),
        ("cpu", 40),
        ("cpu_other", 56),
    ] {
        let run = ndconv(&["bench", "--shapes", list, "--list"]);
        assert_eq!(
            run.json().as_array().map(Vec::len),
            Some(count),
            "{list}: {}",
            run.err
        );
        let file = folder.path().join("list.json");
        fs::write(&file, &run.out).expect("written");
        let again = ndconv(&["bench", "--shapes", &file.to_string_lossy(), "--list"]);
        assert_eq!(again.out, run.out, "{list}");
    }
    let csv = folder.path().join("mine.csv");
    let csv_name = csv.to_string_lossy();
    fs::write(
        &csv,
        "name,N,C,D,H,K,T,R,pad,stride_d\nmine,2,3,8,9,4,1,3,1,2\n",
    )
    .expect("written");
    let layer = &ndconv(&["bench", "--shapes", &csv_name, "--list"]).json()[0];
    assert_eq!(layer["input"], serde_json::json!([8, 9, 9]));
    assert_eq!(layer["kernel_size"], serde_json::json!([1, 3, 3]));
    assert_eq!(layer["stride"], serde_json::json!([2, 1, 1]));
    for (text, hint) in [
        ("C,K,H,R,colour\n1,1,1,1,red\n", "colour"),
        ("C,K,H,R\n1,1,one,1\n", "row 1"),
        ("C,K,H,R\n1,1,2,3\n", "kernel"),
        ("C,K,H,R\n", "no layer"),
    ] {
        fs::write(&csv, text).expect("written");
        let run = ndconv(&["bench", "--shapes", &csv_name, "--list"]);
        assert_eq!(
            (run.code, run.err.lines().count()),
            (Some(2), 1),
            "{}",
            run.err
        );
        assert!(run.err.contains(hint), "{}", run.err);
    }
}

#[test]
fn plans_of_a_device_are_tried_and_results_saved() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (saved, cache) = (path("saved.json"), path("cache.json"));
    let tuned = format!("--autotune={cache}");
    let layer = "conv2d n=1 c=16 k=16 size=4 kernel=3 pad=1";
    let common = [
        "bench",
        "--layer",
        layer,
        "--repeats",
        "1",
        "--budget",
        "0.001",
    ];
    let device = ["--device", "emulator", "--tf32", &tuned, "--save", &saved];
    let run = ndconv(&[&common[..], &device].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    let json =
        |path: &str| -> Value { serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
    assert_eq!(json(&saved)["results"].as_array().unwrap().len(), 3);
    let environments = json(&cache)["environments"].clone();
    let questions = environments.as_object().unwrap().values();
    let questions: Vec<_> = questions
        .flat_map(|q| q.as_object().unwrap().keys())
        .collect();
    assert!(questions.iter().all(|q| q.contains("Tf32")));
    assert!(
        questions.iter().filter(|q| q.contains("c=16 k=16")).count() >= 3,
        "{questions:?}"
    );

    fs::write(&cache, "[]").unwrap();
    let run = ndconv(&[&common[..], &device].concat());
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(
        run.err.contains("warning: the autotune cache is ignored"),
        "{}",
        run.err
    );
    assert_eq!(fs::read_to_string(&cache).unwrap(), "[]");
    let run = ndconv(&[&common[..], &["--tf32"]].concat());
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("--device cuda"), "{}", run.err);
}
