//! Holographic embeddings of a small knowledge graph, trained from facts about the world.
//!
//! ```text
//! cargo run --release --example kg_correlation
//! cargo run --release --example kg_correlation -- 3    # another seed
//! ```
//!
//! HolE (Nickel, Rosasco and Poggio, 2016) scores a fact (subject, relation, object) as
//! `r . (s correlated with o)`, which is `(r convolved with s) . o`: one circular operation gives
//! the query that every object is compared with. `world.txt` beside this file holds countries,
//! their capitals, regions and neighbours; a seeded tenth of the links between countries and of the
//! countries' regions is held out, and what is learned from the rest has to predict them.
//! Reported are the filtered mean reciprocal rank and hits@k of the held-out links.
//! `target/kg_correlation/` gets the curves (`training.svg`) and the weights.

#[path = "../shared/curves.rs"]
mod curves;
mod facts;
mod model;

use std::process::ExitCode;
use std::time::Instant;

use curves::{Panel, Result, SeriesLabelPosition, folder, write_svg};
use facts::{Graph, Query, Split};
use model::Hole;
use ndconv::init::{Init, Rng};
use ndconv::layer::Layer;
use ndconv::optim::{Adam, Optimizer};
use ndconv::{Tensor, io, loss};

const DIMENSION: usize = 128;
const EPOCHS: usize = 40;
const BATCH: usize = 64;
const LEARNING_RATE: f64 = 1e-2;
const WEIGHT_DECAY: f64 = 1.5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kg_correlation: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let seed = match std::env::args().nth(1) {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| format!("the seed {text:?} is not a number"))?,
    };
    let start = Instant::now();
    let graph = Graph::parse(include_str!("world.txt"))?;
    let rng = &mut Rng::new(seed);
    let split = graph.split(rng);
    println!(
        "{} entities, {} relations, {} facts to learn, {} held out (seed {seed})",
        graph.entities.len(),
        graph.relations.len(),
        split.train.len(),
        split.test.len()
    );

    let shape = |rows: usize| [rows, DIMENSION];
    let init = Init::Normal((1.0 / DIMENSION as f64).sqrt());
    let entities = init.tensor(&shape(graph.entities.len()), DIMENSION, 1, rng)?;
    // a spectrum of mean magnitude 1, so that a query is as long as its subject
    let relations = init.tensor(&shape(graph.relations.len()), DIMENSION, 1, rng)?;
    let mut model = Hole::new(entities, relations)?;
    let mut adam = Adam::decoupled(LEARNING_RATE, WEIGHT_DECAY)?;
    let (mut losses, mut ranks) = (Vec::new(), Vec::new());
    for epoch in 1..=EPOCHS {
        // to zero over the second half
        let left = 2.0 * (EPOCHS - epoch + 1) as f64 / EPOCHS as f64;
        adam.set_learning_rate(LEARNING_RATE * left.min(1.0))?;
        let loss = train(&mut model, &mut adam, &split.train, rng)?;
        losses.push((epoch as f64, loss));
        if epoch % 10 == 0 || epoch == 1 {
            let score = evaluate(&model, &split, &split.test)?;
            ranks.push((epoch as f64, score.reciprocal));
            println!(
                "epoch {epoch:>3}: loss {loss:.3}, held-out MRR {:.3}",
                score.reciprocal
            );
        }
    }

    println!(
        "\n{:<24}{:>7}{:>8}{:>8}{:>8}{:>8}",
        "held out", "facts", "MRR", "hits@1", "hits@3", "hits@10"
    );
    let all = evaluate(&model, &split, &split.test)?;
    for (relation, name) in graph.relations.iter().enumerate() {
        let of_it = split.test.iter().filter(|q| q.relation == relation);
        let score = evaluate(&model, &split, &of_it.copied().collect::<Vec<_>>())?;
        if score.facts > 0 {
            score.print(name);
        }
    }
    all.print("all");
    chance(&graph, &split).print("all, by chance");

    println!("\nheld-out questions and the three best answers (known facts left out):");
    for query in split.test.iter().step_by(split.test.len().div_ceil(8)) {
        let best = answers(&model, &split, query)?;
        let names: Vec<&str> = best.iter().map(|&e| graph.entities[e].as_str()).collect();
        println!(
            "  {} {} ? {}   (right: {})",
            graph.entities[query.subject],
            graph.relations[query.relation],
            names.join(", "),
            graph.entities[query.object]
        );
    }

    let out = folder("kg_correlation")?;
    io::save_parameters(&model, out.join("weights.safetensors"))?;
    let panel = |title, axis, log, curve| Panel {
        title,
        axes: ["epoch", axis],
        log: [false, log],
        legend: SeriesLabelPosition::LowerRight,
        curves: vec![(axis, curve, None)],
    };
    let panels = [
        panel(
            "Learning the facts",
            "cross-entropy of the training facts",
            true,
            losses,
        ),
        panel("Predicting what was held out", "filtered MRR", false, ranks),
    ];
    write_svg(&out.join("training.svg"), &panels)?;
    println!("{:.1} s in all", start.elapsed().as_secs_f64());
    Ok(())
}

/// One pass over the facts in random order; the mean loss.
fn train(model: &mut Hole, adam: &mut Adam<f32>, facts: &[Query], rng: &mut Rng) -> Result<f64> {
    let order = rng.permutation(facts.len());
    let mut total = 0.0;
    for batch in order.chunks(BATCH) {
        let batch: Vec<Query> = batch.iter().map(|&i| facts[i]).collect();
        let x = questions(&batch)?;
        let objects: Vec<usize> = batch.iter().map(|q| q.object).collect();
        let (loss, gradient) = loss::cross_entropy(&model.forward(&x)?, &objects)?;
        let gradients = model.parameter_gradients(&x, &gradient)?;
        adam.step(model, &gradients)?;
        total += loss * batch.len() as f64;
    }
    Ok(total / facts.len() as f64)
}

/// `(queries, 2)`: the numbers of subjects and relations.
fn questions(queries: &[Query]) -> Result<Tensor<f32>> {
    let numbers = queries.iter().flat_map(|q| [q.subject, q.relation]);
    let numbers = numbers.map(|n| n as f32).collect();
    Ok(Tensor::from_vec(&[queries.len(), 2], numbers)?)
}

/// Filtered ranking: other true objects of a question do not count against the right one.
struct Score {
    facts: usize,
    reciprocal: f64,
    hits: [f64; 3],
}

impl Score {
    fn of(ranks: &[f64]) -> Self {
        let mean = |f: &dyn Fn(f64) -> f64| {
            ranks.iter().map(|&r| f(r)).sum::<f64>() / ranks.len().max(1) as f64
        };
        Score {
            facts: ranks.len(),
            reciprocal: mean(&|r| 1.0 / r),
            hits: [1.0, 3.0, 10.0].map(|k| mean(&|r| f64::from(u8::from(r <= k)))),
        }
    }

    fn print(&self, name: &str) {
        let [one, three, ten] = self.hits;
        let (facts, reciprocal) = (self.facts, self.reciprocal);
        println!("{name:<24}{facts:>7}{reciprocal:>8.3}{one:>8.3}{three:>8.3}{ten:>8.3}");
    }
}

fn evaluate(model: &Hole, split: &Split, queries: &[Query]) -> Result<Score> {
    let ranks = queries.iter().map(|query| {
        let scores = scores(model, query)?;
        let right = scores[query.object];
        let others = split.competitors(query).filter(|&e| scores[e] > right);
        let ties = split.competitors(query).filter(|&e| scores[e] == right);
        Ok(1.0 + others.count() as f64 + ties.count() as f64 / 2.0)
    });
    Ok(Score::of(&ranks.collect::<Result<Vec<f64>>>()?))
}

/// What guessing would reach.
fn chance(graph: &Graph, split: &Split) -> Score {
    let mut rng = Rng::new(0);
    let ranks = split.test.iter().flat_map(|query| {
        let others = split.competitors(query).count().min(graph.entities.len());
        let rng = &mut rng;
        let guess = move |_| 1.0 + (rng.uniform() * (others + 1) as f64).floor();
        (0..50).map(guess).collect::<Vec<f64>>()
    });
    let mut score = Score::of(&ranks.collect::<Vec<f64>>());
    score.facts = split.test.len();
    score
}

fn scores(model: &Hole, query: &Query) -> Result<Vec<f32>> {
    Ok(model.forward(&questions(&[*query])?)?.to_vec()?)
}

fn answers(model: &Hole, split: &Split, query: &Query) -> Result<Vec<usize>> {
    let scores = scores(model, query)?;
    let right = std::iter::once(query.object);
    let mut candidates: Vec<usize> = split.competitors(query).chain(right).collect();
    candidates.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    candidates.truncate(3);
    Ok(candidates)
}
