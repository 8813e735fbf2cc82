//! Output sizes as PyTorch, Keras and ONNX compute them, row by row, errors included.

use ndconv::{ConvParams, Padding, PoolParams, PoolProblem, Result, Rules, TransposedSize};

const TABLE: &str = include_str!("../golden/shapes.csv");

/// A row of the table by column name.
struct Row<'a> {
    names: &'a [&'a str],
    fields: Vec<&'a str>,
}

impl<'a> Row<'a> {
    fn text(&self, name: &str) -> &'a str {
        let column = self.names.iter().position(|n| *n == name);
        self.fields[column.unwrap_or_else(|| panic!("no column {name}"))]
    }

    fn optional<V: std::str::FromStr>(&self, name: &str) -> Option<V> {
        let text = self.text(name);
        (!text.is_empty()).then(|| {
            text.parse()
                .unwrap_or_else(|_| panic!("column {name}: {text}"))
        })
    }

    fn size(&self, name: &str) -> usize {
        self.optional(name)
            .unwrap_or_else(|| panic!("column {name} is empty"))
    }

    fn padding(&self) -> Padding<1> {
        match self.text("padding") {
            "valid" => Padding::Valid,
            "same" => Padding::Same,
            "same_lower" => Padding::SameLower,
            "causal" => Padding::Causal,
            pair => {
                let (lo, hi) = pair.split_once(':').expect("lo:hi");
                let parse = |v: &str| v.parse().expect("a padding");
                Padding::Explicit([(parse(lo), parse(hi))])
            }
        }
    }

    /// The output size and, for transposed rows, what is cropped.
    fn compute(&self) -> Result<(usize, Option<(isize, isize)>)> {
        let rules = match self.text("rules") {
            "pytorch" => Rules::PyTorch,
            "keras" => Rules::Keras,
            "onnx" => Rules::Onnx,
            other => panic!("rules {other}"),
        };
        let x = [1, 1, self.size("input")];
        let w = [1, 1, self.size("kernel")];
        let params = ConvParams {
            stride: [self.size("stride")],
            padding: self.padding(),
            dilation: [self.size("dilation")],
            ..ConvParams::default()
        };
        match self.text("op") {
            "conv" => Ok((rules.problem(&x, &w, &params)?.output()[0], None)),
            "conv_transpose" => {
                let size = TransposedSize {
                    output_padding: self.optional("output_padding").map(|op| [op]),
                    output_shape: self.optional("output_shape").map(|o| [o]),
                };
                let p = rules.transposed(&x, &w, &params, &size)?;
                Ok((p.input()[0], Some(p.padding()[0])))
            }
            _ => {
                let pool = PoolParams {
                    stride: params.stride,
                    padding: params.padding,
                    dilation: params.dilation,
                    ceil_mode: self.text("ceil_mode") == "1",
                    ..PoolParams::new([w[2]])
                };
                Ok((PoolProblem::new(&x, &pool)?.axes()[0].output, None))
            }
        }
    }
}

#[test]
fn every_row_agrees() {
    let mut lines = TABLE.lines();
    let names: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let (mut rows, mut failures) = (0, String::new());
    for line in lines {
        let row = Row {
            names: &names,
            fields: line.split(',').collect(),
        };
        rows += 1;
        let (expected, got) = (row.text("expected"), row.compute());
        let pads = row.optional("pad_begin").zip(row.optional("pad_end"));
        let agrees = match &got {
            Ok((output, crop)) => {
                output.to_string() == expected && (pads.is_none() || *crop == pads)
            }
            Err(_) => expected == "error",
        };
        if !agrees {
            failures += &format!("{line}: got {got:?}\n");
        }
    }
    assert!(rows > 800, "only {rows} rows");
    assert!(failures.is_empty(), "\n{failures}");
}
