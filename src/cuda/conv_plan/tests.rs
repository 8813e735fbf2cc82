use super::*;
use crate::cuda::conv_task::tests::{problem, task};
use crate::ops::Layouts;
use crate::problem::{ConvParams, ConvProblem};
use crate::shape::Layout;

const AMPERE: Traits = Traits {
    compute: 80,
    math: MathMode::Strict,
    preferred: None,
    nth: 0,
    workspace_limit: None,
};

#[test]
fn tensor_cores_take_what_they_are_fast_at() {
    let p = problem(8, [64, 64], 28, 3);
    let chosen = |dtype, traits: Traits| {
        let of = |pass| {
            let task = task(&p, pass, dtype, Layout::ChannelsLast);
            plan(&task, &traits).unwrap().algorithm
        };
        let [fprop, dgrad, wgrad] = Pass::ALL.map(of);
        assert!(fprop == dgrad && dgrad == wgrad);
        fprop
    };
    let tf32 = Traits {
        math: MathMode::Tf32,
        ..AMPERE
    };
    let turing = Traits {
        compute: 75,
        ..tf32
    };
    for dtype in [DType::F16, DType::BF16] {
        assert_eq!(chosen(dtype, AMPERE), Algorithm::TensorCore);
        assert_eq!(chosen(dtype, turing), Algorithm::Simt);
    }
    assert_eq!(chosen(DType::F32, AMPERE), Algorithm::Simt);
    assert_eq!(chosen(DType::F32, tf32), Algorithm::TensorCore);
    assert_eq!(chosen(DType::F64, AMPERE), Algorithm::TensorCore);
    // f64 squares are there, but slow
    let ada = Traits {
        compute: 89,
        ..AMPERE
    };
    assert_eq!(chosen(DType::F64, ada), Algorithm::Simt);
}

#[test]
fn a_preference_counts_where_it_applies() {
    let p = problem(1, [1, 2], 5, 3);
    let task_of = |dtype| task(&p, Pass::Fprop, dtype, Layout::ChannelsFirst);
    let with = |preferred| Traits {
        preferred,
        ..AMPERE
    };
    let chosen = |dtype, preferred| {
        let plan = plan(&task_of(dtype), &with(preferred)).unwrap();
        plan.algorithm
    };
    let mma = Some(Algorithm::TensorCore);
    assert_eq!(chosen(DType::F16, None), Algorithm::Direct);
    assert_eq!(chosen(DType::F16, Some(Algorithm::Simt)), Algorithm::Simt);
    assert_eq!(chosen(DType::F16, mma), Algorithm::TensorCore);
    assert_eq!(chosen(DType::F32, mma), Algorithm::Direct);
}

#[test]
fn the_tile_grows_with_the_problem() {
    let tile = |p: &ConvProblem<4>, pass, dtype| {
        let task = task(p, pass, dtype, Layout::ChannelsLast);
        plan(&task, &AMPERE).unwrap().tile
    };
    let (small, large) = (problem(1, [64, 64], 14, 3), problem(32, [256, 256], 28, 3));
    let few = problem(8, [24, 24], 28, 3);
    for pass in Pass::ALL {
        assert_eq!(tile(&small, pass, DType::F16), Tile::SMALL);
        assert_eq!(tile(&large, pass, DType::F16), Tile::LARGE);
        assert_eq!(tile(&large, pass, DType::F32), Tile::LARGE);
        assert_eq!(tile(&large, pass, DType::F64), Tile::SMALL);
        assert_eq!(tile(&few, pass, DType::F16), Tile::NARROW);
        assert_eq!(tile(&few, pass, DType::F32), Tile::NARROW);
    }
}

/// Of every pass, element type and layout of dense, grouped and depthwise problems.
fn each_task(check: impl Fn(&Task)) {
    let grouped = ConvParams::<2> {
        groups: 4,
        stride: [2, 1],
        ..ConvParams::default()
    };
    let grouped = ConvProblem::new(&[3, 32, 20, 9], &[16, 8, 3, 2], &grouped).unwrap();
    let problems = [
        problem(1, [1, 1], 1, 1),
        problem(32, [256, 256], 28, 3),
        problem(8, [64, 96], 40, 1),
        grouped.lift(),
    ];
    for p in &problems {
        for pass in Pass::ALL {
            for dtype in DType::ALL {
                for activation in Layout::ALL {
                    for weight in Layout::ALL {
                        let layouts = Layouts { activation, weight };
                        let task = task(p, pass, dtype, activation);
                        check(&Task { layouts, ..task });
                    }
                }
            }
        }
    }
}

#[test]
fn plans_are_different_and_one_needs_no_workspace() {
    each_task(|task| {
        for preferred in Algorithm::ALL.map(Some).into_iter().chain([None]) {
            let traits = Traits {
                preferred,
                ..AMPERE
            };
            let plans = plans(task, &traits).unwrap();
            assert!(plans.iter().any(|p| p.workspace.total() == 0));
            for (i, plan) in plans.iter().enumerate() {
                assert!(!plans[..i].contains(plan), "{plan:?} twice");
                assert!(plan.algorithm.applies(task, &traits));
                let steps = plan.split.splits as usize * plan.split.length as usize;
                assert!(task.pass != Pass::Wgrad || steps >= task.steps());
            }
            let wish = preferred.filter(|a| a.applies(task, &traits));
            assert!(wish.is_none_or(|a| plans[0].algorithm == a));
        }
    });
}

#[test]
fn a_workspace_is_as_large_as_what_it_holds() {
    let p = problem(32, [256, 200], 28, 3);
    let bytes = |pass, dtype| {
        let task = task(&p, pass, dtype, Layout::ChannelsLast);
        let plans = plans(&task, &AMPERE).unwrap();
        (plans[0].workspace.total(), plans[0].split.splits as usize)
    };
    // 200 channels are whole chunks of 8, 256 as well
    let packed = 2 * 9 * 256 * 200;
    assert_eq!(bytes(Pass::Fprop, DType::F16), (packed, 1));
    assert_eq!(bytes(Pass::Dgrad, DType::BF16), (packed, 1));
    assert_eq!(bytes(Pass::Fprop, DType::F32), (0, 1));
    for (dtype, sum) in [(DType::F16, 4), (DType::F32, 4), (DType::F64, 8)] {
        let (bytes, splits) = bytes(Pass::Wgrad, dtype);
        assert!(splits > 1);
        assert_eq!(bytes, 9 * 256 * 200 * splits * sum);
    }
}

#[test]
fn a_limit_takes_the_first_plan_within_it() {
    each_task(|task| {
        let all = plans(task, &AMPERE).unwrap();
        for limit in all.iter().map(|p| p.workspace.total()).chain([0, 1000]) {
            let traits = Traits {
                workspace_limit: Some(limit),
                ..AMPERE
            };
            let first = all.iter().find(|p| p.workspace.total() <= limit);
            assert_eq!(Some(&plan(task, &traits).unwrap()), first);
        }
    });
}

#[test]
fn shared_memory_fits() {
    let simt = [
        (Tile::SMALL, 4),
        (Tile::SMALL, 8),
        (Tile::LARGE, 4),
        (Tile::NARROW, 4),
    ];
    for (tile, accumulator) in simt {
        assert!(simt_shared_bytes(tile, accumulator) <= 48 << 10);
    }
    // 100 KiB of a multiprocessor of sm_86 and sm_89, one of it for the system
    assert!(mma_shared_bytes(Tile::LARGE, 8) <= 99 << 10);
    for (tile, blocks) in [(Tile::SMALL, 3), (Tile::NARROW, 2)] {
        assert!(blocks * (mma_shared_bytes(tile, 8) + 1024) <= 100 << 10);
    }
    assert!(direct_shared_bytes(8) <= 48 << 10);
}
