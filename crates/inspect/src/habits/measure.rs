//! The six scores of a head, and the rules that name it by them.

use serde::Serialize;

/// A head is named after a target of at least this share of its weight.
const MOST: f64 = 0.5;
/// From this score on a head is named "position only" or "spread out".
const NEARLY_ALL: f64 = 0.9;

/// What a head does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Habit {
    /// It attends to the previous token.
    PreviousToken,
    /// It attends to the first token.
    FirstToken,
    /// It attends to other occurrences of the same token.
    SameToken,
    /// It attends to the token after an earlier occurrence of the same token.
    Induction,
    /// It attends to positions, independent of the tokens there.
    PositionOnly,
    /// It attends to everything equally.
    SpreadOut,
}

impl std::fmt::Display for Habit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PreviousToken => "previous token",
            Self::FirstToken => "first token",
            Self::SameToken => "same token",
            Self::Induction => "induction",
            Self::PositionOnly => "position only",
            Self::SpreadOut => "spread out",
        })
    }
}

/// The scores of one head, each from 0 to 1, means over queries and texts; `None` if they apply to no query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HeadHabits {
    /// The weight on the token before, from the third token on.
    pub previous_token: Option<f64>,
    /// The weight on the first token, from the third token on.
    pub first_token: Option<f64>,
    /// The weight on other positions with the query's own token, if there are any.
    pub same_token: Option<f64>,
    /// The weight on what came after an earlier position with the query's own token.
    pub induction: Option<f64>,
    /// What the rows of two texts of one length have in common: 1 minus half the sum of the absolute differences.
    pub position_only: Option<f64>,
    /// The entropy of a row divided by its maximum.
    pub spread_out: Option<f64>,
}

impl HeadHabits {
    /// The scores, each with its habit.
    pub fn numbers(&self) -> [(Habit, Option<f64>); 6] {
        [
            (Habit::PreviousToken, self.previous_token),
            (Habit::FirstToken, self.first_token),
            (Habit::SameToken, self.same_token),
            (Habit::Induction, self.induction),
            (Habit::PositionOnly, self.position_only),
            (Habit::SpreadOut, self.spread_out),
        ]
    }

    /// The name by the rules: the largest of previous token, first token, same token and induction if it is half of
    /// the weight or more; else spread out, else position only, from 0.9 on.
    pub fn name(&self) -> Option<Habit> {
        let numbers = self.numbers();
        let looks_at = numbers[..4].iter().filter_map(|(habit, share)| Some((*habit, (*share)?)));
        let greatest = looks_at.max_by(|one, other| one.1.total_cmp(&other.1));
        if let Some((habit, _)) = greatest.filter(|(_, share)| *share >= MOST) {
            return Some(habit);
        }
        let nearly_all = |share: &Option<f64>| share.is_some_and(|share| share >= NEARLY_ALL);
        // Uniform attention is independent of the tokens as well: it is tested first.
        let [.., position_only, spread_out] = numbers;
        [spread_out, position_only].into_iter().find(|(_, share)| nearly_all(share)).map(|(habit, _)| habit)
    }
}

/// The attention of one head on one text.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The tokens, `[T]`.
    pub ids: Vec<u32>,
    /// The weights, `[T][T]`.
    pub weights: Vec<Vec<f32>>,
    /// 1 if a query (row) may attend to the key (column), `[T][T]`.
    pub mask: Vec<Vec<u8>>,
}

impl Pattern {
    /// The weight of query `q` on its visible `keys`; `None` if none of them is visible.
    fn on(&self, q: usize, keys: impl Iterator<Item = usize>) -> Option<f64> {
        let allowed = keys.filter(|&k| k < self.ids.len() && self.mask[q][k] == 1);
        let mut found = None;
        for k in allowed {
            *found.get_or_insert(0.0) += f64::from(self.weights[q][k]);
        }
        found
    }

    /// The other positions with the token at position `q`.
    fn same(&self, q: usize) -> impl Iterator<Item = usize> {
        (0..self.ids.len()).filter(move |&k| k != q && self.ids[k] == self.ids[q])
    }

    fn n_seen(&self, q: usize) -> usize {
        self.mask[q].iter().filter(|cell| **cell == 1).count()
    }

    /// The entropy of a row divided by that of a uniform one; `None` if only one key is visible.
    fn spread(&self, q: usize) -> Option<f64> {
        let n = self.n_seen(q);
        let weights = self.weights[q].iter().map(|&w| f64::from(w)).filter(|w| *w > 0.0);
        (n > 1).then(|| weights.map(|w| -w * w.ln()).sum::<f64>() / (n as f64).ln())
    }
}

/// The scores of a head from its attention on some texts; texts of one length differ only in their tokens.
pub fn habits_of(patterns: &[Pattern]) -> HeadHabits {
    let over = |from: usize, number: &dyn Fn(&Pattern, usize) -> Option<f64>| -> Option<f64> {
        mean(patterns.iter().flat_map(|p| (from..p.ids.len()).filter_map(move |q| number(p, q))))
    };
    let previous = |p: &Pattern, q: usize| p.on(q, q.checked_sub(1).into_iter());
    // The token after an earlier position; the query itself and the token after it don't count.
    let after =
        |p: &Pattern, q: usize| p.on(q, p.same(q).filter(|&k| k < q).map(|k| k + 1).filter(|&k| k < q));
    let in_common = patterns.iter().enumerate().flat_map(|(at, one)| {
        let others = patterns[at + 1..].iter().filter(|other| other.ids.len() == one.ids.len());
        others.flat_map(move |other| {
            let rows = (0..one.ids.len()).filter(move |&q| one.n_seen(q) > 1);
            rows.map(move |q| {
                let pairs = one.weights[q].iter().zip(&other.weights[q]);
                1.0 - pairs.map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / 2.0
            })
        })
    });
    HeadHabits {
        previous_token: over(2, &previous),
        first_token: over(2, &|p, q| p.on(q, std::iter::once(0))),
        same_token: over(0, &|p, q| p.on(q, p.same(q))),
        induction: over(0, &after),
        position_only: mean(in_common),
        spread_out: over(0, &Pattern::spread),
    }
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = numbers.fold((0.0, 0usize), |(sum, n), number| (sum + number, n + 1));
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weights of a text's row: its ids, the row, the text's number.
    type Row = dyn Fn(&[u32], usize, usize) -> Vec<f32>;

    /// Two texts of 12 tokens, each of 6 drawn ones repeated, and one of 8; `row` sets the weights of each row.
    fn planted(row: &Row) -> HeadHabits {
        let texts: [&[u32]; 3] = [
            &[3, 9, 4, 7, 1, 8, 3, 9, 4, 7, 1, 8],
            &[6, 2, 5, 0, 9, 3, 6, 2, 5, 0, 9, 3],
            &[1, 4, 2, 8, 1, 4, 2, 8],
        ];
        let pattern = |(seed, ids): (usize, &&[u32])| Pattern {
            ids: ids.to_vec(),
            weights: (0..ids.len()).map(|q| row(ids, q, seed)).collect(),
            mask: (0..ids.len()).map(|q| (0..ids.len()).map(|k| u8::from(k <= q)).collect()).collect(),
        };
        habits_of(&texts.iter().enumerate().map(pattern).collect::<Vec<_>>())
    }

    /// All weight on one position if the query sees it; else on itself.
    fn one(ids: &[u32], q: usize, at: Option<usize>) -> Vec<f32> {
        let at = at.filter(|&at| at <= q).unwrap_or(q);
        (0..ids.len()).map(|k| f32::from(u8::from(k == at))).collect()
    }

    fn before(ids: &[u32], q: usize) -> Option<usize> {
        (0..q).rev().find(|&k| ids[k] == ids[q])
    }

    #[test]
    fn planted_habits_are_named_with_a_score_near_one() {
        let cases: [(Habit, &Row); 6] = [
            (Habit::PreviousToken, &|ids, q, _| one(ids, q, q.checked_sub(1))),
            (Habit::FirstToken, &|ids, q, _| one(ids, q, Some(0))),
            (Habit::SameToken, &|ids, q, _| one(ids, q, before(ids, q))),
            (Habit::Induction, &|ids, q, _| one(ids, q, before(ids, q).map(|k| k + 1))),
            (Habit::PositionOnly, &|ids, q, _| one(ids, q, q.checked_sub(2))),
            (Habit::SpreadOut, &|ids, q, _| {
                (0..ids.len()).map(|k| if k <= q { 1.0 / (q + 1) as f32 } else { 0.0 }).collect()
            }),
        ];
        for (habit, row) in cases {
            let habits = planted(row);
            assert_eq!(habits.name(), Some(habit), "{habits:?}");
            let (_, number) = habits.numbers().into_iter().find(|(known, _)| *known == habit).unwrap();
            assert!((number.unwrap() - 1.0).abs() < 1e-6, "{habit}: {habits:?}");
        }
    }

    #[test]
    fn heads_that_fit_no_rule_have_no_name() {
        // A position that depends on the words: a different one in each text.
        let habits = planted(&|ids, q, seed| one(ids, q, q.checked_sub(2 + seed)));
        assert_eq!(habits.name(), None, "{habits:?}");
        // 0.45 on the token before is less than half.
        let mixed = planted(&|ids, q, seed| {
            let [near, far] = [one(ids, q, q.checked_sub(1)), one(ids, q, q.checked_sub(2 + seed))];
            near.iter().zip(far).map(|(a, b)| 0.45 * a + 0.55 * b).collect()
        });
        assert_eq!(mixed.name(), None, "{mixed:?}");
        assert!((mixed.previous_token.unwrap() - 0.45).abs() < 0.15, "{mixed:?}");
    }

    #[test]
    fn a_fixed_offset_is_not_mistaken_for_induction() {
        // 5 positions back is the induction target in the long texts, but not in the short one.
        let habits = planted(&|ids, q, _| one(ids, q, q.checked_sub(5)));
        assert!(habits.induction.unwrap() < 0.9, "{habits:?}");
        assert!(habits.position_only.unwrap() > 0.99);
    }
}
