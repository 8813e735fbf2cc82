//! Seeded data and tensors built from it, without any help from the code under test.

use ndconv::{DType, Element, Layout, Tensor};

/// SplitMix64 (Steele, Lea and Flood, 2014): a whole generator in four lines.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low + 1) as u64) as i64
    }

    /// Whole numbers of `-magnitude..=magnitude`: sums of their products are exact.
    pub fn integers(&mut self, len: usize, magnitude: i64) -> Vec<f64> {
        (0..len)
            .map(|_| self.between(-magnitude, magnitude) as f64)
            .collect()
    }

    /// Numbers of -1..1 that `T` holds exactly.
    pub fn reals<T: Element>(&mut self, len: usize) -> Vec<f64> {
        let unit = |bits: u64| (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        (0..len)
            .map(|_| T::from_f64(unit(self.bits())).to_f64())
            .collect()
    }
}

pub fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// For every element in channels-first order: where it stands in `layout`.
fn places(shape: &[usize], layout: Layout) -> Vec<usize> {
    let (channels, pixels) = (shape[1], elements(&shape[2..]));
    let mut places = Vec::with_capacity(elements(shape));
    for n in 0..shape[0] {
        for c in 0..channels {
            for i in 0..pixels {
                places.push(match layout {
                    Layout::ChannelsFirst => (n * channels + c) * pixels + i,
                    Layout::ChannelsLast => (n * pixels + i) * channels + c,
                });
            }
        }
    }
    places
}

/// The shape in memory of a tensor with this channels-first shape.
pub fn memory_shape(shape: &[usize], layout: Layout) -> Vec<usize> {
    match layout {
        Layout::ChannelsFirst => shape.to_vec(),
        Layout::ChannelsLast => [&shape[..1], &shape[2..], &shape[1..2]].concat(),
    }
}

/// A tensor of a channels-first shape, stored in `layout`, from values in channels-first order.
pub fn tensor<T: Element>(shape: &[usize], layout: Layout, values: &[f64]) -> Tensor<T> {
    assert_eq!(values.len(), elements(shape));
    let mut data = vec![T::default(); values.len()];
    for (place, &value) in places(shape, layout).into_iter().zip(values) {
        data[place] = T::from_f64(value);
    }
    Tensor::from_vec(&memory_shape(shape, layout), data)
        .unwrap()
        .with_layout(layout)
}

/// The values of a tensor in channels-first order.
pub fn values<T: Element>(shape: &[usize], tensor: &Tensor<T>) -> Vec<f64> {
    assert_eq!(tensor.shape(), memory_shape(shape, tensor.layout()));
    let data = tensor.to_vec().unwrap();
    places(shape, tensor.layout())
        .into_iter()
        .map(|place| data[place].to_f64())
        .collect()
}

/// A vector as a tensor of one axis: a bias.
pub fn vector<T: Element>(values: &[f64]) -> Tensor<T> {
    let data = values.iter().map(|&v| T::from_f64(v)).collect();
    Tensor::from_vec(&[values.len()], data).unwrap()
}

/// A tensor full of NaN: whatever an operation leaves unwritten shows.
pub fn poisoned<T: Element>(shape: &[usize], layout: Layout) -> Tensor<T> {
    tensor(shape, layout, &vec![f64::NAN; elements(shape)])
}

/// Every value rounded to `T` once.
pub fn rounded<T: Element>(values: &[f64]) -> Vec<f64> {
    values.iter().map(|&v| T::from_f64(v).to_f64()).collect()
}

/// Allowed `max|got - expected| / max(1, max|expected|)` for sums of `terms` products.
pub fn tolerance(dtype: DType, terms: usize) -> f64 {
    let base = match dtype {
        DType::F64 => 1e-11,
        DType::F32 => 1e-5,
        DType::F16 => 2e-3,
        DType::BF16 => 1.6e-2,
    };
    base * (terms as f64 / 256.0).sqrt().max(1.0)
}

#[track_caller]
pub fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: number of elements");
    let scale = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs() / scale;
        // written so that NaN fails
        let close = error <= tolerance;
        assert!(
            close,
            "{what}[{i}]: got {got}, expected {expected}: {error:e} > {tolerance:e}"
        );
    }
}

/// Equality of every value; tells where the first difference is.
#[track_caller]
pub fn assert_same(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}: number of elements");
    if let Some(i) = (0..got.len()).find(|&i| got[i] != expected[i]) {
        let differ = (0..got.len()).filter(|&i| got[i] != expected[i]).count();
        panic!(
            "{what}[{i}]: got {}, expected {} ({differ} of {} differ)",
            got[i],
            expected[i],
            got.len()
        );
    }
}
