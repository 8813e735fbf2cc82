//! The graph: facts from the text file, and what of them is held out.

use std::collections::{BTreeMap, BTreeSet};

use ndconv::init::Rng;

use crate::curves::Result;

/// (subject, relation, ?) and the right object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Query {
    pub subject: usize,
    pub relation: usize,
    pub object: usize,
}

pub struct Graph {
    pub entities: Vec<String>,
    pub relations: Vec<String>,
    /// Facts as (subject, relation, object), each with the fact that says the same backwards.
    facts: Vec<[Query; 2]>,
}

pub struct Split {
    pub train: Vec<Query>,
    pub test: Vec<Query>,
    /// All true objects of a question.
    known: BTreeMap<(usize, usize), BTreeSet<usize>>,
    entities: usize,
}

const RELATIONS: [&str; 7] = [
    "borders",
    "has the capital",
    "is the capital of",
    "lies in",
    "contains",
    "is part of",
    "has the part",
];

/// Per relation: the one that says it backwards, and whether some of it is held out.
const BACKWARDS: [(usize, bool); 7] = [
    (0, true),
    (2, false),
    (1, false),
    (4, true),
    (3, false),
    (6, false),
    (5, false),
];

impl Graph {
    /// Reads lines of `country | capital | region | neighbours`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut numbers = BTreeMap::new();
        let mut entities = Vec::new();
        let mut number = |name: &str| {
            *numbers.entry(name.to_string()).or_insert_with(|| {
                entities.push(name.to_string());
                entities.len() - 1
            })
        };
        let mut triples = BTreeSet::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            let [country, capital, region, neighbours] = fields[..] else {
                return Err(format!("{line:?} has not four fields").into());
            };
            let subject = number(country);
            let place = number(region);
            triples.insert((subject, 3, place));
            triples.insert((place, 5, number(continent(region)?)));
            if !capital.is_empty() {
                triples.insert((subject, 1, number(capital)));
            }
            for neighbour in neighbours
                .split(',')
                .map(str::trim)
                .filter(|n| !n.is_empty())
            {
                triples.insert((subject, 0, number(neighbour)));
            }
        }
        let one_sided = triples
            .iter()
            .find(|(s, r, o)| *r == 0 && !triples.contains(&(*o, 0, *s)));
        if let Some((s, _, o)) = one_sided {
            return Err(format!("{} borders {} but not back", entities[*s], entities[*o]).into());
        }
        let facts = triples
            .into_iter()
            .filter(|(s, r, o)| *r != 0 || s < o)
            .map(|(subject, relation, object)| {
                let backwards = BACKWARDS[relation].0;
                let there = Query {
                    subject,
                    relation,
                    object,
                };
                let back = Query {
                    subject: object,
                    relation: backwards,
                    object: subject,
                };
                [there, back]
            });
        let facts = facts.collect();
        let relations = RELATIONS.map(str::to_string).to_vec();
        Ok(Graph {
            entities,
            relations,
            facts,
        })
    }

    /// Holds out a tenth of the borders and of the regions, both directions of a fact together;
    /// every country keeps a border if it has any.
    pub fn split(&self, rng: &mut Rng) -> Split {
        let mut borders = vec![0; self.entities.len()];
        for [fact, _] in self.facts.iter().filter(|f| f[0].relation == 0) {
            borders[fact.subject] += 1;
            borders[fact.object] += 1;
        }
        let (mut train, mut test) = (Vec::new(), Vec::new());
        let mut known: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
        for i in rng.permutation(self.facts.len()) {
            let [fact, back] = self.facts[i];
            for q in [fact, back] {
                known
                    .entry((q.subject, q.relation))
                    .or_default()
                    .insert(q.object);
            }
            let is_border = fact.relation == 0;
            let keeps = match is_border {
                true => borders[fact.subject].min(borders[fact.object]) > 1,
                false => borders[fact.subject] > 0,
            };
            let held_out = BACKWARDS[fact.relation].1 && keeps && rng.uniform() < 0.1;
            if !held_out {
                train.extend([fact, back]);
                continue;
            }
            test.push(fact);
            if is_border {
                test.push(back);
                borders[fact.subject] -= 1;
                borders[fact.object] -= 1;
            }
        }
        train.sort_unstable();
        test.sort_unstable();
        let entities = self.entities.len();
        Split {
            train,
            test,
            known,
            entities,
        }
    }
}

impl Split {
    /// The entities that are no true object of this question, and not its subject: nothing here
    /// is related to itself.
    pub fn competitors(&self, query: &Query) -> impl Iterator<Item = usize> {
        let known = self.known.get(&(query.subject, query.relation));
        let subject = query.subject;
        (0..self.entities)
            .filter(move |e| *e != subject && known.is_none_or(|known| !known.contains(e)))
    }
}

fn continent(region: &str) -> Result<&'static str> {
    let last = region.split(' ').next_back();
    match last {
        Some("Europe") => Ok("Europe"),
        Some("Africa") => Ok("Africa"),
        Some("America" | "Caribbean") => Ok("the Americas"),
        _ => Err(format!("no continent for the region {region:?}").into()),
    }
}
