//! x
use ndconv::*;
#[test]
fn smoke() {
    let params = ConvParams::<2> {
        stride: [2, 1],
        padding: Padding::uniform(1),
        ..Default::default()
    };
    let p = ConvProblem::<2>::new(&[2, 3, 7, 9], &[4, 3, 3, 3], &params).unwrap();
    let x: Vec<f32> = (0..378).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
    let w: Vec<f32> = (0..108).map(|i| (i * 5 % 11) as f32 - 5.0).collect();
    let x = Tensor::from_vec(&[2, 3, 7, 9], x).unwrap();
    let w = Tensor::from_vec(&[4, 3, 3, 3], w).unwrap();
    let e = Device::emulator().unwrap();
    let y = ops::fprop(&p, &x, &w, None).unwrap();
    let t = std::time::Instant::now();
    let y2 = ops::fprop(
        &p,
        &x.to_device(&e).unwrap(),
        &w.to_device(&e).unwrap(),
        None,
    )
    .unwrap();
    println!("{:?}", t.elapsed());
    assert_eq!(y.to_vec().unwrap(), y2.to_vec().unwrap());
}
