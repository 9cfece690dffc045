//! Measuring two targets beside each other.

use crate::{cpu, h2load, targets::Target};

/// How often each of the two is measured, by turns.
const PAIRS: usize = 7;

/// How many requests one measurement takes.
const REQUESTS: usize = 40_000;

/// How many requests a target answers before it is measured.
const WARM_UP: usize = 5_000;

/// The CPU time per request of two targets, in microseconds, by turns.
pub struct Comparison {
    pairs: Vec<(f64, f64)>,
}

impl Comparison {
    /// Measures `one`, `other`, `one`, `other` and so on, so that a machine that becomes busy slows both down.
    pub async fn of(one: &Target, other: &Target) -> Self {
        for target in [one, other] {
            h2load::load(target, WARM_UP).await;
        }
        let mut pairs = Vec::with_capacity(PAIRS);
        for _ in 0..PAIRS {
            pairs.push((cost(one).await, cost(other).await));
        }
        Self { pairs }
    }

    /// A row of a table: the two costs, then what the first is of the second.
    pub fn row(&self, one: &Target, other: &Target) -> String {
        let of = |read: fn(&(f64, f64)) -> f64| Spread::of(self.pairs.iter().map(read));
        let (left, right, ratio) = (of(|pair| pair.0), of(|pair| pair.1), of(|pair| pair.0 / pair.1));
        format!(
            "| {} | {} | {:.1} | {:.1} | {:.2} | {:.2}-{:.2} |",
            one.name, other.name, left.median, right.median, ratio.median, ratio.least, ratio.most
        )
    }
}

async fn cost(target: &Target) -> f64 {
    let before = cpu::time(target.process);
    h2load::load(target, REQUESTS).await;
    let nanoseconds = cpu::time(target.process).saturating_sub(before);
    target.forget_log();
    nanoseconds as f64 / 1_000.0 / REQUESTS as f64
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        Self { least: values[0], median: values[values.len() / 2], most: values[values.len() - 1] }
    }
}
