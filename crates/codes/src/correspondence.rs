use std::collections::BTreeMap;

use pathfinding::undirected::connected_components::separate_components;
use serde::Serialize;

use crate::{CodesError, best_matching};

/// What has become of a feature of one model in another, at a threshold of likeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// Matched with a feature of the other model, and neither of them has followers.
    Shared,
    /// Matched, and the other model has followers of it: there several features do what this one does.
    Split,
    /// A follower, or matched with a feature that is split: one feature of the other model does what this one and others do.
    Merged,
    /// No feature of the other model reaches the threshold.
    Missing,
    /// It never changes, so it is not like any.
    Constant,
}

/// Which features of one model are which of another, by likenesses between −1 and 1.
///
/// With a threshold t, pairs of features whose likeness is at least t are *alike*. Alike pairs are *matched* one to one so that
/// the sum of their likenesses is the largest there is ([`best_matching`]). A feature that is left over although it is like
/// some is the *follower* of the one it is most like (the lowest of equals): that one is matched, or the two would be.
#[derive(Clone, Debug, PartialEq)]
pub struct Correspondence {
    /// Matched pairs, by the first's feature.
    pub pairs: Vec<Pair>,
    /// Matched pairs with their followers, where there are any; by the first's feature.
    pub families: Vec<Family>,
    /// The features of the first model and of the second.
    pub sides: [Side; 2],
}

/// A feature of the first model and one of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Of the first.
    pub first: usize,
    /// Of the second.
    pub second: usize,
    /// Their score: −1 to 1, negative if one is like the other turned around.
    pub score: f64,
}

/// A matched pair, the first of each list, and its followers, the most alike first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Family {
    /// Of the first model: followers of the pair's second.
    #[serde(rename = "a")]
    pub first: Vec<usize>,
    /// Of the second model: followers of the pair's first.
    #[serde(rename = "b")]
    pub second: Vec<usize>,
}

/// The features of one model, seen from there.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// The class of each.
    pub classes: Vec<Class>,
    /// The feature of the other model that each is most like, and the score; none where no likeness is above 0.
    pub nearest: Vec<Option<(usize, f64)>>,
}

impl Side {
    /// Features of a class.
    pub fn count(&self, class: Class) -> usize {
        self.classes.iter().filter(|&&each| each == class).count()
    }

    /// Features that change.
    pub fn changing(&self) -> usize {
        self.classes.len() - self.count(Class::Constant)
    }

    /// The mean over features that change of the largest likeness (by decoders: the mean maximum cosine similarity); NaN where
    /// none changes.
    pub fn mean_nearest(&self) -> f64 {
        let changing = self.classes.iter().zip(&self.nearest).filter(|(class, _)| **class != Class::Constant);
        changing.map(|(_, nearest)| nearest.map_or(0.0, |(_, score)| score.abs())).sum::<f64>()
            / self.changing() as f64
    }
}

impl Correspondence {
    /// Twice the matched pairs over the features of both models that change: 0 to 1, and NaN where none changes.
    pub fn matched_fraction(&self) -> f64 {
        let changing: usize = self.sides.iter().map(Side::changing).sum();
        2.0 * self.pairs.len() as f64 / changing as f64
    }

    /// The mean likeness of matched pairs; NaN where there are none.
    pub fn mean_matched(&self) -> f64 {
        self.pairs.iter().map(|pair| pair.score.abs()).sum::<f64>() / self.pairs.len() as f64
    }
}

/// Takes scores row by row, keeps what reaches the threshold, and finds the [`Correspondence`].
///
/// Memory grows with the pairs that are alike, not with all.
pub struct Corresponding {
    threshold: f64,
    turning: bool,
    nearest: [Vec<Option<(usize, f64)>>; 2],
    alike: Vec<Pair>,
}

/// Features of one component times those of the other model in it, at most: 16384².
const MOST: usize = 1 << 28;

impl Corresponding {
    /// Of models with so many features. With `turning`, a feature and the same one turned around are one: the likeness of two
    /// is |score|, otherwise it is the score.
    ///
    /// # Panics
    /// Unless 0 < `threshold` ≤ 1.
    pub fn new(first: usize, second: usize, threshold: f64, turning: bool) -> Self {
        assert!(threshold > 0.0 && threshold <= 1.0, "a threshold of {threshold}");
        Self { threshold, turning, nearest: [vec![None; first], vec![None; second]], alike: vec![] }
    }

    /// Takes the scores of feature `first` of the first model with all of the second; NaN counts as 0.
    ///
    /// # Errors
    /// [`CodesError::Alike`] if the system does not give the memory.
    ///
    /// # Panics
    /// If there is not a score for each feature of the second model.
    pub fn add(&mut self, first: usize, scores: &[f64]) -> Result<(), CodesError> {
        let [of_first, of_second] = &mut self.nearest;
        assert_eq!(scores.len(), of_second.len(), "a score for each feature");
        for (second, (&score, nearest)) in scores.iter().zip(of_second).enumerate() {
            let likeness = if self.turning { score.abs() } else { score };
            let above =
                |nearest: &Option<(usize, f64)>| likeness > nearest.map_or(0.0, |(_, score)| score.abs());
            if above(&of_first[first]) {
                of_first[first] = Some((second, score));
            }
            if above(nearest) {
                *nearest = Some((first, score));
            }
            if likeness >= self.threshold {
                self.alike.try_reserve(1).map_err(|_| CodesError::Alike)?;
                self.alike.push(Pair { first, second, score });
            }
        }
        Ok(())
    }

    /// What they come to. `constant[side][feature]` says which features never change: they must have had no score but 0.
    ///
    /// # Errors
    /// [`CodesError::Alike`] if more features hang together than can be matched.
    pub fn solve(self, constant: [&[bool]; 2]) -> Result<Correspondence, CodesError> {
        let pairs = matched(&self.alike, self.nearest[0].len())?;
        let mut partner = self.nearest.each_ref().map(|side| vec![None; side.len()]);
        for pair in &pairs {
            partner[0][pair.first] = Some(pair.second);
            partner[1][pair.second] = Some(pair.first);
        }
        let is_alike = |&(_, score): &(usize, f64)| score.abs() >= self.threshold;
        // followers[side][feature]: those on the other side
        let mut followers = self.nearest.each_ref().map(|side| vec![vec![]; side.len()]);
        for side in 0..2 {
            for (feature, nearest) in self.nearest[side].iter().enumerate() {
                if let Some((leader, score)) = nearest.filter(is_alike)
                    && partner[side][feature].is_none()
                {
                    followers[1 - side][leader].push((feature, score.abs()));
                }
            }
        }
        followers.iter_mut().flatten().for_each(|list| list.sort_by(|a, b| b.1.total_cmp(&a.1)));
        let families = pairs.iter().filter_map(|&Pair { first, second, .. }| {
            let (of_first, of_second) = (&followers[0][first], &followers[1][second]);
            let with = |head: usize, followers: &[(usize, f64)]| {
                std::iter::once(head).chain(followers.iter().map(|each| each.0)).collect()
            };
            (!of_first.is_empty() || !of_second.is_empty())
                .then(|| Family { first: with(first, of_second), second: with(second, of_first) })
        });
        let families = families.collect();
        let class = |side: usize, feature: usize| match partner[side][feature] {
            _ if constant[side][feature] => Class::Constant,
            Some(_) if !followers[side][feature].is_empty() => Class::Split,
            Some(other) if !followers[1 - side][other].is_empty() => Class::Merged,
            Some(_) => Class::Shared,
            None if self.nearest[side][feature].as_ref().is_some_and(is_alike) => Class::Merged,
            None => Class::Missing,
        };
        let classes =
            [0, 1].map(|side| (0..partner[side].len()).map(|feature| class(side, feature)).collect());
        let [first, second] = classes;
        let [near_first, near_second] = self.nearest;
        let sides =
            [Side { classes: first, nearest: near_first }, Side { classes: second, nearest: near_second }];
        Ok(Correspondence { pairs, families, sides })
    }
}

/// The pairs of the best matching, by their first. Solved for each part that hangs together: most are a pair or two.
fn matched(alike: &[Pair], features: usize) -> Result<Vec<Pair>, CodesError> {
    let mut linked: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for pair in alike {
        linked.entry(pair.first).or_insert_with(|| vec![pair.first]).push(features + pair.second);
    }
    let groups: Vec<Vec<usize>> = linked.into_values().collect();
    let (_, component_of_group) = separate_components(&groups);
    let component_of: BTreeMap<usize, usize> =
        groups.iter().map(|group| group[0]).zip(component_of_group).collect();
    let mut components: BTreeMap<usize, Vec<&Pair>> = BTreeMap::new();
    for pair in alike {
        components.entry(component_of[&pair.first]).or_default().push(pair);
    }
    let mut matched: Vec<Pair> = vec![];
    for pairs in components.into_values() {
        let sorted = |of: fn(&Pair) -> usize| {
            let mut features: Vec<usize> = pairs.iter().map(|pair| of(pair)).collect();
            features.sort_unstable();
            features.dedup();
            features
        };
        let (firsts, seconds) = (sorted(|pair| pair.first), sorted(|pair| pair.second));
        let cells = firsts.len().saturating_mul(seconds.len());
        if cells > MOST {
            return Err(CodesError::Alike);
        }
        let mut scores = vec![];
        scores.try_reserve_exact(cells).map_err(|_| CodesError::Alike)?;
        scores.resize(cells, 0.0);
        let place = |list: &[usize], feature| list.binary_search(&feature).expect("one of them");
        for pair in &pairs {
            let at = place(&firsts, pair.first) * seconds.len() + place(&seconds, pair.second);
            scores[at] = pair.score.abs();
        }
        let best: BTreeMap<usize, usize> = best_matching(&scores, seconds.len())
            .into_iter()
            .map(|(row, column)| (firsts[row], seconds[column]))
            .collect();
        // those that are not alike stand for no match
        matched.extend(pairs.into_iter().filter(|pair| best.get(&pair.first) == Some(&pair.second)));
    }
    matched.sort_unstable_by_key(|pair| pair.first);
    Ok(matched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Class::{Constant, Merged, Missing, Shared, Split};
    use proptest::prelude::*;

    fn of(scores: &[&[f64]], threshold: f64, turning: bool) -> Correspondence {
        let columns = scores[0].len();
        let mut corresponding = Corresponding::new(scores.len(), columns, threshold, turning);
        scores.iter().enumerate().for_each(|(row, scores)| corresponding.add(row, scores).unwrap());
        let constant = |mut all: Vec<bool>, is: &dyn Fn(usize) -> bool| {
            all.iter_mut().enumerate().for_each(|(at, constant)| *constant = is(at));
            all
        };
        let rows = constant(vec![false; scores.len()], &|row| scores[row].iter().all(|&score| score == 0.0));
        let all = constant(vec![false; columns], &|j| scores.iter().all(|row| row[j] == 0.0));
        corresponding.solve([&rows, &all]).unwrap()
    }

    #[test]
    fn each_class() {
        let found = of(
            &[
                &[0.9, 0.1, 0.0, 0.2, 0.1, 0.0],
                &[0.1, 0.8, 0.7, 0.1, 0.2, 0.0],
                &[0.0, 0.1, 0.0, -0.6, 0.1, 0.0],
                &[0.0, 0.0, 0.1, -0.8, 0.1, 0.0],
                &[0.4, 0.0, 0.0, 0.1, 0.1, 0.0],
                &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            ],
            0.5,
            true,
        );
        assert_eq!(found.sides[0].classes, [Shared, Split, Merged, Merged, Missing, Constant]);
        assert_eq!(found.sides[1].classes, [Shared, Merged, Merged, Split, Missing, Constant]);
        let pairs: Vec<_> = found.pairs.iter().map(|pair| (pair.first, pair.second, pair.score)).collect();
        assert_eq!(pairs, [(0, 0, 0.9), (1, 1, 0.8), (3, 3, -0.8)]);
        let family =
            |first: &[usize], second: &[usize]| Family { first: first.into(), second: second.into() };
        assert_eq!(found.families, [family(&[1], &[1, 2]), family(&[3, 2], &[3])]);
        assert_eq!(found.matched_fraction(), 0.6);
        assert!((found.mean_matched() - 2.5 / 3.0).abs() < 1e-12);
        assert!((found.sides[0].mean_nearest() - (0.9 + 0.8 + 0.6 + 0.8 + 0.4) / 5.0).abs() < 1e-12);
        assert_eq!(found.sides[0].nearest[2], Some((3, -0.6)));
        assert_eq!(found.sides[0].nearest[5], None);
    }

    #[test]
    fn opposite_features_are_alike_only_where_turning() {
        assert_eq!(of(&[&[-0.9]], 0.5, true).sides[0].classes, [Shared]);
        let found = of(&[&[-0.9]], 0.5, false);
        assert_eq!((found.sides[0].classes[0], found.sides[0].nearest[0]), (Missing, None));
        assert!(found.mean_matched().is_nan());
    }

    /// Greedily 0 would take 0 and leave 1 alone.
    #[test]
    fn the_sum_decides() {
        let found = of(&[&[0.9, 0.8], &[0.8, 0.0]], 0.5, true);
        assert_eq!(found.pairs.iter().map(|pair| pair.second).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(found.matched_fraction(), 1.0);
    }

    proptest! {
        #[test]
        fn is_what_the_definitions_say(
            (columns, scores) in (1usize..7, 1usize..7).prop_flat_map(|(rows, columns)| {
                (Just(columns), prop::collection::vec(-10i32..=10, rows * columns))
            }),
            threshold in 1i32..=10, turning: bool,
        ) {
            // tenths: ties and hits of the threshold are common
            let scores: Vec<f64> = scores.iter().map(|&tenths| f64::from(tenths) / 10.0).collect();
            let rows: Vec<&[f64]> = scores.chunks(columns).collect();
            let threshold = f64::from(threshold) / 10.0;
            let found = of(&rows, threshold, turning);
            let likeness = |i: usize, j: usize| if turning { rows[i][j].abs() } else { rows[i][j] };
            // a matching of alike pairs, and none has a larger sum: all cells below the threshold as 0
            let cells: Vec<f64> = (0..scores.len())
                .map(|at| likeness(at / columns, at % columns))
                .map(|likeness| if likeness >= threshold { likeness } else { 0.0 })
                .collect();
            let best: f64 = best_matching(&cells, columns).iter().map(|&(i, j)| cells[i * columns + j]).sum();
            let sum: f64 = found.pairs.iter().map(|pair| likeness(pair.first, pair.second)).sum();
            prop_assert!((sum - best).abs() < 1e-9);
            prop_assert!(found.pairs.iter().all(|pair| likeness(pair.first, pair.second) >= threshold));
            for side in 0..2 {
                let mut seen: Vec<_> =
                    found.pairs.iter().map(|pair| [pair.first, pair.second][side]).collect();
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), found.pairs.len());
            }
            // each feature in one class, and what is alike to none is the only one missing
            for (i, class) in found.sides[0].classes.iter().enumerate() {
                let alike = (0..columns).any(|j| likeness(i, j) >= threshold);
                prop_assert_eq!(!alike, matches!(class, Missing | Constant));
            }
            let [first, second] = &found.sides;
            prop_assert_eq!(first.count(Shared), second.count(Shared));
            prop_assert_eq!(first.count(Shared), found.pairs.len() - found.families.len());
            // a family has as many merged ones on one side as make the other's split
            let members: [usize; 2] = [
                found.families.iter().map(|family| family.first.len()).sum(),
                found.families.iter().map(|family| family.second.len()).sum(),
            ];
            prop_assert_eq!(members, [first, second].map(|side| side.count(Split) + side.count(Merged)));
        }
    }
}
