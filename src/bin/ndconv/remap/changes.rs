//! What becomes of a weight.

use ndconv::io::{Archive, StoredTensor};
use ndconv::remap::{self, Rearrangement, WeightKind, WeightLayout};
use ndconv::{Error, Layout, Result};

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Change {
    /// The layer's own flattened input, or the common one.
    DenseToConv {
        own: Option<Vec<usize>>,
        input: Option<Vec<usize>>,
    },
    ConvToDense,
    Dense,
    Conv,
    ConvTranspose,
    Depthwise(Option<usize>),
}

/// A weight and where its elements go.
#[derive(Debug)]
pub struct Changed {
    plan: Rearrangement,
    pub form: Form,
    pub from: WeightLayout,
    pub to: WeightLayout,
    pub flatten: Layout,
}

/// What there is to verify.
#[derive(Clone, Debug)]
pub enum Form {
    /// Dense before, a convolution of this input after.
    DenseToConv,
    /// A convolution before, dense after.
    ConvToDense,
    /// The same layer in another order.
    Same,
}

impl Changed {
    pub fn new(
        tensor: &StoredTensor,
        change: Change,
        from: WeightLayout,
        to: WeightLayout,
        flatten: Layout,
    ) -> Result<Self> {
        let name = tensor.name();
        let named = |error| match error {
            Error::Shape { expected, got, .. } => Error::Shape {
                what: format!("{name} as {from}"),
                expected,
                got,
            },
            other => other,
        };
        let source = Rearrangement::new(tensor.shape())?;
        let native = |kind| from.plan_to_native(source, kind).map_err(named);
        let (plan, form) = match change {
            Change::DenseToConv { own, input } => {
                let native = native(WeightKind::Dense)?;
                let features = native.shape()[1];
                let covers = |s: &Vec<usize>| s.iter().product::<usize>() == features;
                let input = match (own, input) {
                    (Some(own), _) => own,
                    (None, Some(input)) if covers(&input) => input,
                    // kernel size 1: the features are the channels
                    (None, Some(input)) => [vec![features], vec![1; input.len() - 1]].concat(),
                    (None, None) => {
                        let expected = "its flattened input: --input CxHxW, or --dense LAYER=CxHxW";
                        return Err(Error::Shape {
                            what: name.into(),
                            expected: expected.into(),
                            got: "neither".into(),
                        });
                    }
                };
                let conv = remap::plan_dense_to_conv(native, &input, flatten).map_err(named)?;
                let plan = to.plan_from_native(conv, WeightKind::Conv, 1)?;
                (plan, Form::DenseToConv)
            }
            Change::ConvToDense => {
                let dense = remap::plan_conv_to_dense(native(WeightKind::Conv)?, flatten)?;
                let plan = to.plan_from_native(dense, WeightKind::Dense, 1)?;
                (plan, Form::ConvToDense)
            }
            Change::Dense | Change::Conv | Change::ConvTranspose | Change::Depthwise(_) => {
                let (kind, channels) = match change {
                    Change::Dense => (WeightKind::Dense, None),
                    Change::Conv => (WeightKind::Conv, None),
                    Change::ConvTranspose => (WeightKind::ConvTranspose, None),
                    Change::Depthwise(channels) => (WeightKind::Depthwise, channels),
                    _ => (WeightKind::Conv, None),
                };
                let native = native(kind)?;
                let groups = channels.unwrap_or(native.shape()[0]);
                (to.plan_from_native(native, kind, groups)?, Form::Same)
            }
        };
        Ok(Changed {
            plan,
            form,
            from,
            to,
            flatten,
        })
    }

    pub fn shape(&self) -> Vec<usize> {
        self.plan.shape()
    }

    /// Where its elements go.
    pub fn plan(&self) -> &Rearrangement {
        &self.plan
    }
}

/// The weight of a layer: the tensor of that name, or of that name with what libraries call a
/// weight behind it.
pub fn weight<'a>(archive: &'a Archive, layer: &str) -> Result<&'a StoredTensor> {
    const WEIGHTS: [&str; 9] = [
        "",
        ".weight",
        "/kernel",
        "/kernel:0",
        ".kernel",
        "/vars/0",
        ".W",
        "/W",
        "_W",
    ];
    let known = WEIGHTS.iter().find_map(|end| {
        let name = format!("{layer}{end}");
        archive.tensors().iter().find(|t| t.name() == name)
    });
    match known {
        Some(tensor) => Ok(tensor),
        None => archive.find(layer), // says what there is
    }
}
