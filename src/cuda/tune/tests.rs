use std::cell::RefCell;
use std::path::Path;

use super::*;
use crate::cuda::conv_plan::MathMode;
use crate::cuda::conv_task::tests::{problem, task};
use crate::shape::Layout;

/// Keeps what is logged; tests look for the names of their own files.
struct Log(Mutex<Vec<String>>);

static LOG: Log = Log(Mutex::new(Vec::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn listen() {
    // the second time it is this one already
    let _ = log::set_logger(&LOG);
    log::set_max_level(log::LevelFilter::Warn);
}

fn heard(words: &str) -> usize {
    let said = LOG.0.lock().unwrap();
    said.iter().filter(|line| line.contains(words)).count()
}

fn ampere() -> Traits {
    Traits {
        compute: 80,
        math: MathMode::Strict,
        preferred: None,
        workspace_limit: None,
        nth: 0,
    }
}

fn wgrad_plans() -> Vec<Plan> {
    let p = problem(8, [128, 128], 28, 3);
    let task = task(&p, Pass::Wgrad, DType::F16, Layout::ChannelsLast);
    plans(&task, &ampere()).unwrap()
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// Runs the race with plan `i` taking `times(i, run)` microseconds, or failing; and the number of
/// runs of each.
fn race(
    plans: &[Plan],
    times: impl Fn(usize, usize) -> Option<u64>,
) -> (Result<Winner>, Vec<usize>) {
    let runs = RefCell::new(vec![0; plans.len()]);
    let raced = fastest(plans, |plan| {
        let i = plans.iter().position(|p| p == plan).unwrap();
        let run = runs.borrow()[i];
        runs.borrow_mut()[i] += 1;
        times(i, run).map(micros).ok_or_else(|| Error::Cuda {
            what: format!("plan {i}"),
            reason: "it was to fail".into(),
        })
    });
    (raced, runs.into_inner())
}

#[test]
fn the_least_median_wins() {
    let plans = wgrad_plans();
    assert!(plans.len() > 8);
    let (raced, runs) = race(&plans, |i, run| {
        Some(match (i, run) {
            (_, 0) => 1, // the first run does not count
            (2, 3) => 1, // nor one lucky run
            (2, _) => 60,
            (5, 1 | 4) => 120, // nor two unlucky ones
            (5, _) => 50,
            (7, _) => 1000,
            _ => 70,
        })
    });
    let winner = raced.unwrap();
    assert_eq!((winner.plan, winner.time), (plans[5], micros(50)));
    let expected = |i| if i == 7 { 2 } else { 1 + RUNS };
    assert!((0..plans.len()).all(|i| runs[i] == expected(i)), "{runs:?}");
}

#[test]
fn plans_that_fail_are_left_out() {
    listen();
    let plans = wgrad_plans();
    let fails = |i: usize, run: usize| i != 3 && (i != 4 || run == 2);
    let (raced, _) = race(&plans, |i, run| (!fails(i, run)).then_some(9));
    let winner = raced.unwrap();
    assert_eq!((winner.plan, winner.short_of_memory), (plans[3], false));
    assert!(heard(&format!("leaves out {}", plans[4])) > 0);
    let (raced, runs) = race(&plans, |_, _| None);
    assert!(raced.unwrap_err().to_string().contains("plan 0"));
    assert_eq!(runs, vec![1; plans.len()]);
    assert!(race(&[], |_, _| None).0.is_err());
}

fn choice(i: usize) -> Choice {
    Choice::new(&wgrad_plans()[i], micros(7))
}

#[test]
fn a_cache_is_read_again_by_its_own_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("choices.json");
    let open = |environment: &str| Cache::open(&path, environment.into());
    let mut first = open("A100, kernels 1");
    let mut other = open("A100, kernels 2");
    assert_eq!(first.find("q"), None);
    first.record("q", choice(1));
    other.record("q", choice(2));
    let mut second = open("A100, kernels 1");
    second.record("r", choice(3));
    first.record("s", choice(4)); // by a process that has not seen "r"
    let again = open("A100, kernels 1");
    assert_eq!(again.find("q"), Some(choice(1)));
    assert_eq!(again.find("r"), Some(choice(3)));
    assert_eq!(again.find("s"), Some(choice(4)));
    assert_eq!(open("A100, kernels 2").find("q"), Some(choice(2)));
    assert_eq!(open("A100, kernels 3").find("q"), None);
    for (i, plan) in wgrad_plans().iter().enumerate() {
        assert_eq!(choice(1).is_of(plan), i == 1);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_no_cache_is_left_alone() {
    listen();
    let folder = tempfile::tempdir().unwrap();
    let contents = [
        "",
        "{\"ndconv_autotune\": 1, \"environ",
        "[1, 2]",
        "{\"ndconv_autotune\": 2, \"environments\": {}}",
        "{\"ndconv_autotune\": 1}",
        "{\"something\": \"else\"}",
    ];
    for (i, content) in contents.iter().enumerate() {
        let path = folder.path().join(format!("broken-{i}.json"));
        std::fs::write(&path, content).unwrap();
        let mut cache = Cache::open(&path, "here".into());
        let warnings = || heard(&path.display().to_string());
        assert_eq!((cache.find("q"), warnings()), (None, 1), "{content}");
        cache.record("q", choice(0));
        assert_eq!(cache.find("q"), Some(choice(0)), "in memory");
        assert_eq!(warnings(), 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), *content);
    }
    // an entry that makes no sense is as good as none
    let path = folder.path().join("nonsense.json");
    let entry = r#"{"ndconv_autotune": 1, "environments": {"here": {"q": {"plan": 64,
        "microseconds": 1.0}, "r": 5}}}"#;
    std::fs::write(&path, entry).unwrap();
    let cache = Cache::open(&path, "here".into());
    assert_eq!((cache.find("q"), cache.find("r")), (None, None));
    let mut nowhere = Cache::open(Path::new("/nowhere/at/all.json"), "here".into());
    nowhere.record("q", choice(0));
    assert!(heard("/nowhere/at/all.json") > 0);
}

#[test]
fn questions_differ_in_all_that_matters() {
    let p = problem(8, [128, 128], 28, 3);
    let q = problem(8, [128, 128], 28, 5);
    let ask = |p: &ConvProblem<4>, pass, dtype, layout, write, traits| {
        let task = task(p, pass, dtype, layout);
        let question = Question {
            problem: *p,
            pass,
            dtype,
            layouts: task.layouts,
            write,
            traits,
        };
        question.to_string()
    };
    let (first, last) = (Layout::ChannelsFirst, Layout::ChannelsLast);
    let (over, add) = (Write::Overwrite, Write::Accumulate);
    let tf32 = Traits {
        math: MathMode::Tf32,
        ..ampere()
    };
    let limited = Traits {
        workspace_limit: Some(5),
        ..ampere()
    };
    let all = [
        ask(&p, Pass::Fprop, DType::F32, first, over, ampere()),
        ask(&q, Pass::Fprop, DType::F32, first, over, ampere()),
        ask(&p, Pass::Dgrad, DType::F32, first, over, ampere()),
        ask(&p, Pass::Fprop, DType::F16, first, over, ampere()),
        ask(&p, Pass::Fprop, DType::F32, last, over, ampere()),
        ask(&p, Pass::Fprop, DType::F32, first, add, ampere()),
        ask(&p, Pass::Fprop, DType::F32, first, over, tf32),
        ask(&p, Pass::Fprop, DType::F32, first, over, limited),
    ];
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "{all:#?}");
}
