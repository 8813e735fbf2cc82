//! A convolution as the matrix that it is.

use ndarray::{ArrayD, IxDyn};
use num_traits::Num;

use crate::error::{Error, Result};
use crate::problem::ConvProblem;
use crate::shape::check_elements;

/// The matrix of a convolution: row `(k, *output)` and column `(c, *input)`, channels-first, such
/// that its product with a flattened image is the flattened result.
///
/// It is a Toeplitz matrix per pair of channels for zero padding and stride 1, and a circulant one
/// for [`crate::PaddingMode::Circular`] with as many outputs as inputs. The transposed convolution
/// is its transpose. Its size is the product of both images' sizes: this is for checking and for
/// small layers.
///
/// # Errors
/// [`Error::Shape`] for a weight of another shape than the problem's, [`Error::TooLarge`],
/// [`Error::OutOfMemory`].
///
/// ```
/// use ndarray::ArrayD;
/// use ndconv::{ConvParams, ConvProblem, remap::conv_matrix};
/// let w = ArrayD::from_shape_vec(vec![1, 1, 2], vec![1, 2]).unwrap();
/// let problem = ConvProblem::<1>::new(&[1, 1, 3], w.shape(), &ConvParams::default())?;
/// assert_eq!(conv_matrix(&problem, &w)?.into_raw_vec_and_offset().0, [1, 2, 0, 0, 1, 2]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn conv_matrix<A: Clone + Num, const N: usize>(
    problem: &ConvProblem<N>,
    weight: &ArrayD<A>,
) -> Result<ArrayD<A>> {
    let shape = problem.w_shape();
    if weight.shape() != shape {
        let expected = format!("{shape:?}");
        return Err(Error::shape("weight", expected, weight.shape()));
    }
    let output = problem.output();
    let positions: usize = output.iter().product();
    let pixels: usize = problem.input().iter().product();
    let [rows, columns] = [
        check_elements("matrix rows", &[problem.out_channels(), positions])?,
        check_elements("matrix columns", &[problem.in_channels(), pixels])?,
    ];
    let elements = check_elements("matrix", &[rows, columns])?;
    let mut matrix = Vec::new();
    matrix
        .try_reserve_exact(elements)
        .map_err(|_| Error::OutOfMemory {
            what: format!("the {rows} x {columns} matrix of a convolution"),
            requested: elements.saturating_mul(size_of::<A>()),
        })?;
    matrix.resize(elements, A::zero());

    let per_group = [
        problem.out_channels() / problem.groups(),
        problem.in_channels() / problem.groups(),
    ];
    for position in 0..positions {
        let out = unravel(position, &output);
        for (tap, value) in weight.indexed_iter() {
            let tap = ndarray::Dimension::slice(&tap).to_vec();
            let pixel = (0..N).try_fold(0, |flat, a| {
                let i = problem.input_index(a, out[a], tap[2 + a])?;
                Some(flat * problem.input()[a] + i)
            });
            let Some(pixel) = pixel else { continue };
            let group = tap[0] / per_group[0];
            let row = tap[0] * positions + position;
            let column = (group * per_group[1] + tap[1]) * pixels + pixel;
            let entry = &mut matrix[row * columns + column];
            *entry = entry.clone() + value.clone(); // folded padding reads an input twice
        }
    }
    ArrayD::from_shape_vec(IxDyn(&[rows, columns]), matrix)
        .map_err(|e| Error::shape("matrix", "a shape that ndarray can hold", e.to_string()))
}

fn unravel<const N: usize>(mut index: usize, sizes: &[usize; N]) -> [usize; N] {
    let mut position = [0; N];
    for a in (0..N).rev() {
        position[a] = index % sizes[a];
        index /= sizes[a];
    }
    position
}
