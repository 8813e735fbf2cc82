//! What the algorithms are tested with beside random problems.

use super::*;

/// Two axes and a padding of 1.
pub fn conv(x: [usize; 4], w: [usize; 4], stride: usize, groups: usize) -> ConvProblem<4> {
    let params = ConvParams {
        stride: [stride; 2],
        groups,
        padding: Padding::uniform(1),
        ..ConvParams::default()
    };
    ConvProblem::<2>::new(&x, &w, &params).unwrap().lift()
}

/// Problems with few channels a group.
pub fn grouped() -> Vec<ConvProblem<4>> {
    vec![
        // groups that share a vector of channels, of as many source channels and of fewer
        conv([2, 40, 9, 21], [40, 8, 3, 3], 1, 5),
        conv([1, 12, 11, 19], [24, 2, 3, 3], 2, 6),
        // groups of whole vectors of channels, of one and of several, of fewer source channels
        conv([2, 32, 7, 21], [32, 16, 3, 3], 1, 2),
        conv([1, 12, 11, 19], [64, 3, 3, 3], 2, 4),
        conv([2, 6, 7, 10], [48, 1, 1, 5], 1, 6),
        // rows of too many elements to be copied
        conv([1, 64, 9, 12], [64, 8, 7, 5], 1, 8),
    ]
}

/// Problems with several blocks of the reduction, tiles and splits, for all algorithms.
pub fn larger() -> Vec<ConvProblem<4>> {
    let conv_4d = |x: [usize; 6], w: [usize; 6], dilation| {
        let params = ConvParams {
            dilation: [dilation, 1, 1, dilation],
            padding: Padding::uniform(1),
            ..ConvParams::default()
        };
        ConvProblem::<4>::new(&x, &w, &params).unwrap()
    };
    let pointwise = |x: [usize; 4], w: [usize; 4]| {
        let problem = ConvProblem::<2>::new(&x, &w, &ConvParams::default());
        problem.unwrap().lift()
    };
    let dilated = |x: [usize; 4], w: [usize; 4], stride, dilation| {
        let params = ConvParams {
            stride: [1, stride],
            dilation: [2, dilation],
            groups: x[1],
            padding: Padding::uniform(3),
            ..ConvParams::default()
        };
        let problem = ConvProblem::<2>::new(&x, &w, &params).unwrap();
        problem.lift()
    };
    // windows side by side along the last axis
    let patches = |x: [usize; 4], w: [usize; 4], stride| {
        let params = ConvParams {
            stride: [stride, w[3]],
            ..ConvParams::default()
        };
        ConvProblem::<2>::new(&x, &w, &params).unwrap().lift()
    };
    // rows of the target that are longer than those of the source and the zeros between them
    let long_rows = (3..7).map(|after| {
        let params = ConvParams {
            groups: 3,
            padding: Padding::Explicit([(2, 2), (2, after)]),
            ..ConvParams::default()
        };
        let problem = ConvProblem::<2>::new(&[2, 12, 5, 4], &[12, 4, 3, 2], &params);
        problem.unwrap().lift()
    });
    let mut problems = vec![
        conv([1, 34, 15, 17], [37, 34, 3, 3], 1, 1),
        conv([3, 33, 9, 9], [16, 33, 3, 3], 2, 1),
        conv([2, 1, 40, 50], [9, 1, 3, 3], 1, 1),
        conv([2, 24, 30, 31], [24, 1, 3, 5], 1, 24),
        conv([2, 20, 70, 9], [40, 1, 3, 3], 2, 20),
        conv([1, 16, 40, 5], [2, 16, 4, 4], 2, 1),
        conv([1, 1, 3, 3000], [1, 1, 1, 40], 1, 1),
        // planes of one filter each, in rows of several vectors and blocks
        conv([2, 6, 21, 75], [6, 1, 5, 7], 1, 6),
        conv([1, 20, 14, 14], [20, 1, 3, 3], 1, 20),
        // channels in several vectors, whole and not, rows of several blocks
        conv([2, 83, 5, 27], [83, 1, 3, 5], 1, 83),
        conv([1, 40, 21, 19], [40, 1, 7, 3], 1, 40),
        conv([2, 35, 9, 38], [35, 1, 3, 5], 2, 35),
        conv([2, 28, 5, 14], [28, 1, 3, 3], 1, 28),
        // phases of a strided dgrad, several blocks of channels that come first
        conv([2, 37, 13, 22], [37, 1, 5, 5], 2, 37),
        conv([1, 20, 6, 9], [20, 1, 2, 3], 3, 20),
        // few channels a group, rows of several vectors
        conv([2, 32, 12, 67], [24, 8, 3, 3], 1, 4),
        conv([1, 12, 20, 37], [5, 12, 4, 4], 2, 1),
        conv([1, 5, 19, 70], [12, 5, 3, 3], 2, 1),
        // channels first, computed as if the channels came last
        conv([9, 40, 3, 11], [72, 40, 3, 3], 1, 1),
        conv([4, 80, 3, 11], [96, 40, 3, 3], 1, 2),
        conv([4, 64, 12, 9], [64, 64, 4, 4], 2, 1),
        // wgrad in several tiles of target channels, of source channels, of taps
        conv([1, 70, 3, 5], [150, 70, 3, 3], 1, 1),
        conv([1, 33, 7, 8], [128, 33, 9, 9], 1, 1),
        // taps too far apart to share a copy of the source
        conv([1, 12, 58, 100], [9, 12, 60, 1], 1, 1),
        // blocks of the reduction that end between the channels of a tap
        conv([1, 15, 9, 9], [40, 15, 5, 5], 1, 1),
        // rows of pixels in the same sets of the cache
        conv([1, 1024, 2, 4], [17, 1024, 1, 3], 1, 1),
        // images that are one where their pixels follow one another, in the same sets and not
        pointwise([5, 70, 3, 4], [33, 70, 1, 1]),
        pointwise([9, 256, 2, 3], [40, 256, 1, 1]),
        // one tap: outside of the source at the edges, with a stride, of groups, in several chunks and tiles
        conv([3, 40, 9, 11], [21, 40, 1, 1], 2, 1),
        conv([2, 24, 13, 11], [40, 12, 1, 1], 1, 2),
        pointwise([2, 20, 30, 21], [9, 20, 1, 1]),
        pointwise([1, 300, 5, 13], [270, 300, 1, 1]),
        // windows that do not overlap, that do along the other axis, and that leave a column
        patches([2, 3, 12, 20], [40, 3, 4, 4], 4),
        patches([3, 5, 7, 12], [9, 5, 3, 2], 2),
        patches([1, 17, 5, 13], [6, 17, 1, 3], 1),
        // kernels as large as the input
        pointwise([5, 6, 3, 4], [9, 6, 3, 4]),
        pointwise([2, 70, 2, 5], [33, 70, 2, 5]),
        // small images that are one tile, several of them one block of wgrad
        conv([3, 257, 3, 5], [260, 257, 3, 3], 1, 1),
        conv([5, 260, 5, 4], [257, 260, 3, 2], 2, 1),
        // neighbouring taps as one run, of many channels, in parts of lines, with a stride, of few target channels
        conv([2, 24, 9, 40], [40, 24, 3, 3], 1, 1),
        conv([1, 33, 7, 61], [20, 33, 3, 5], 1, 1),
        conv([2, 20, 11, 50], [7, 20, 2, 5], 2, 1),
        conv([1, 64, 5, 34], [3, 64, 3, 3], 1, 1),
        // one channel, rows beside each other: planes, boxes, blocks of the reduction, strides, parts of lines, few columns
        conv([2, 1, 13, 70], [24, 1, 3, 3], 1, 1),
        conv([1, 1, 31, 40], [20, 1, 19, 17], 2, 1),
        conv([3, 1, 9, 8], [33, 1, 5, 2], 2, 1),
        conv([1, 1, 9, 21], [12, 1, 5, 3], 4, 1),
        conv_4d([2, 1, 3, 4, 5, 9], [17, 1, 2, 3, 3, 3], 1),
        conv([2, 40, 7, 30], [1, 40, 3, 3], 1, 1),
        pointwise([9, 1, 3, 4], [40, 1, 3, 4]),
        // short lines, each of which reads with a tap what the next one does with the tap before
        conv([1, 8, 30, 9], [16, 8, 3, 3], 1, 1),
        conv_4d([1, 8, 4, 5, 7, 6], [16, 8, 3, 3, 3, 3], 1),
        conv([2, 12, 23, 7], [16, 12, 3, 3], 3, 1),
        // lines whose ends are computed apart: of one tile, of several, of phases, in a copy
        conv([2, 36, 14, 14], [40, 36, 3, 3], 1, 1),
        conv([1, 20, 40, 11], [36, 20, 3, 5], 1, 1),
        conv([1, 24, 20, 25], [40, 24, 3, 3], 2, 1),
        conv([1, 1024, 7, 12], [34, 1024, 3, 3], 1, 1),
        conv([1, 40, 9, 7], [24, 20, 3, 3], 1, 2),
        // small images next to each other: a tile, several, of phases, groups, channels that come first
        conv([8, 20, 4, 3], [24, 20, 3, 3], 1, 1),
        conv([32, 20, 5, 7], [33, 20, 3, 3], 1, 1),
        conv([12, 24, 5, 6], [40, 24, 3, 3], 2, 1),
        conv([16, 36, 3, 4], [44, 18, 3, 3], 1, 2),
        conv([8, 64, 7, 7], [96, 64, 3, 3], 1, 1),
        // every second or third position of a row reads with neighbouring taps, of all and of residues
        dilated([2, 24, 9, 21], [24, 1, 3, 3], 1, 2),
        dilated([1, 20, 7, 38], [40, 1, 2, 5], 2, 6),
        dilated([1, 33, 8, 26], [33, 1, 3, 3], 2, 3),
        // flat planes: several of them and boxes, parts of one, of several images
        conv_4d([1, 4, 4, 5, 7, 10], [5, 4, 3, 3, 3, 3], 1),
        conv_4d([2, 3, 6, 3, 4, 9], [8, 3, 3, 2, 3, 3], 2),
        conv([1, 3, 60, 20], [8, 3, 3, 3], 1, 1),
        conv([7, 8, 9, 20], [8, 8, 3, 3], 1, 1),
        // rows that are written once, whole vectors and not
        conv([1, 1, 33, 64], [32, 1, 3, 3], 1, 1),
        conv([1, 2, 9, 117], [16, 2, 3, 3], 1, 1),
        // long enough for transforms
        conv([1, 1, 2, 2600], [1, 1, 1, 700], 1, 1),
        conv([1, 2, 1, 2400], [2, 2, 1, 600], 1, 1),
    ];
    problems.extend(long_rows);
    problems
}
