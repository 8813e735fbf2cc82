//! Circular operations: the elements widened, computed as the signal functions do, and rounded.

use crate::element::Element;
use crate::signal::circular::{Pairing, sums};
use crate::signal::{CircularMethod, CircularOperation};

/// `z[o] = sum over its pairs (i, j) of a[i] op b[j]`, boxes of the sizes `dims`.
pub(crate) fn circular<T: Element>(
    operation: CircularOperation,
    dims: &[usize],
    operands: [&[T]; 2],
    pairing: &Pairing,
    z: &mut [T],
) {
    let [a, b] = operands.map(|operand| {
        let mut wide = vec![T::Acc::default(); operand.len()];
        T::widen(operand, &mut wide);
        wide
    });
    let sums = sums(operation, CircularMethod::Auto, dims, [&a, &b], pairing);
    T::narrow(&sums, z);
}
