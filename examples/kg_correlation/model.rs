//! Holographic embeddings as a layer.

use ndarray::{Array2, ArrayView2, Axis};
use ndconv::layer::{Gradients, Layer};
use ndconv::{Error, Layout, Result, Tensor, ops};

/// Scores every entity as the object of (subject, relation): `(r convolved with s) . o`, which is
/// HolE's `r . (s correlated with o)`.
///
/// Input `(queries, 2)`, the numbers of subject and relation; output `(queries, entities)`.
#[derive(Debug)]
pub struct Hole {
    entities: Tensor<f32>,
    relations: Tensor<f32>,
}

/// Divided by this, a cosine becomes a logit.
const TEMPERATURE: f32 = 0.25;

impl Hole {
    pub fn new(entities: Tensor<f32>, relations: Tensor<f32>) -> Result<Self> {
        Ok(Hole {
            entities,
            relations,
        })
    }

    /// The numbers in `x`, checked.
    fn numbers(&self, x: &Tensor<f32>) -> Result<[Vec<usize>; 2]> {
        let rows = x.to_vec()?;
        let column = |c: usize, size: usize| {
            let column = rows.iter().skip(c).step_by(2);
            column
                .map(|&v| Some(v as usize).filter(|&n| n < size && n as f32 == v))
                .collect::<Option<Vec<usize>>>()
        };
        let [entities, relations] = [&self.entities, &self.relations].map(|t| t.shape()[0]);
        match (x.shape(), column(0, entities), column(1, relations)) {
            ([_, 2], Some(subjects), Some(relations)) => Ok([subjects, relations]),
            _ => Err(Error::Shape {
                what: "queries".into(),
                expected: "(queries, 2) numbers of entities and relations".into(),
                got: format!("{:?}", x.shape()),
            }),
        }
    }

    /// The rows of both tables that the queries name.
    fn rows(&self, x: &Tensor<f32>) -> Result<[Tensor<f32>; 2]> {
        let [subjects, relations] = self.numbers(x)?;
        Ok([
            Tensor::from_array(&matrix(&self.entities)?.select(Axis(0), &subjects))?,
            Tensor::from_array(&matrix(&self.relations)?.select(Axis(0), &relations))?,
        ])
    }
}

fn matrix(tensor: &Tensor<f32>) -> Result<Array2<f32>> {
    let shape = (tensor.shape()[0], tensor.shape()[1]);
    Array2::from_shape_vec(shape, tensor.to_vec()?).map_err(|e| Error::Shape {
        what: "matrix".into(),
        expected: "two axes".into(),
        got: e.to_string(),
    })
}

/// Adds each row to the row of the table that it came from.
fn scatter(rows: ArrayView2<f32>, numbers: &[usize], table: &mut Array2<f32>) {
    for (row, &number) in rows.rows().into_iter().zip(numbers) {
        let mut target = table.row_mut(number);
        target += &row;
    }
}

impl Layer<f32> for Hole {
    fn forward(&self, x: &Tensor<f32>) -> Result<Tensor<f32>> {
        let [s, r] = self.rows(x)?;
        let query = matrix(&ops::circular_convolve(&r, &s)?)?;
        let scores = query.dot(&matrix(&self.entities)?.t()) / TEMPERATURE;
        Tensor::from_array(&scores)
    }

    fn backward(&self, x: &Tensor<f32>, dy: &Tensor<f32>) -> Result<Gradients<f32>> {
        let [subjects, relations] = self.numbers(x)?;
        let [s, r] = self.rows(x)?;
        let dy = matrix(dy)? / TEMPERATURE;
        let entities = matrix(&self.entities)?;
        let query = matrix(&ops::circular_convolve(&r, &s)?)?;
        let mut d_entities = dy.t().dot(&query);
        let d_query = Tensor::from_array(&dy.dot(&entities))?;
        let (dr, ds) = ops::circular_convolve_backward(&r, &s, &d_query)?;
        scatter(matrix(&ds)?.view(), &subjects, &mut d_entities);
        let mut d_relations = Array2::zeros(matrix(&self.relations)?.dim());
        scatter(matrix(&dr)?.view(), &relations, &mut d_relations);
        Ok(Gradients {
            input: Tensor::zeros(x.shape(), &x.device())?, // numbers have no slope
            parameters: vec![
                Tensor::from_array(&d_entities)?,
                Tensor::from_array(&d_relations)?,
            ],
        })
    }

    fn output_shape(&self, x: &[usize], _layout: Layout) -> Result<Vec<usize>> {
        Ok(vec![
            x.first().copied().unwrap_or(0),
            self.entities.shape()[0],
        ])
    }

    fn describe(&self) -> String {
        format!(
            "HolE({:?}, {:?})",
            self.entities.shape(),
            self.relations.shape()
        )
    }

    fn parameters(&self) -> Vec<(String, &Tensor<f32>)> {
        vec![
            ("entities".into(), &self.entities),
            ("relations".into(), &self.relations),
        ]
    }

    fn parameters_mut(&mut self) -> Vec<(String, &mut Tensor<f32>)> {
        vec![
            ("entities".into(), &mut self.entities),
            ("relations".into(), &mut self.relations),
        ]
    }
}
