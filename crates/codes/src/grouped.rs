use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::{BitMatrix, CodeStatistics, CodesError, Counting};

/// What a group of rows is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Label {
    /// A value of a column, or the number by which files differ.
    Number(i64),
    /// A file.
    Text(String),
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// Which of several equal parts of the rows were counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards {
    /// Parts there are.
    pub of: u32,
    /// Those that were counted, from 1.
    pub counted: BTreeSet<u32>,
}

impl Shards {
    /// Parts of a division, at most: a report lists those that are missing.
    pub const MOST: u32 = 1 << 16;

    /// Parts that were not counted, from 1.
    pub fn missing(&self) -> Vec<u32> {
        (1..=self.of).filter(|shard| !self.counted.contains(shard)).collect()
    }
}

/// Counts over all rows, and over groups of rows where they were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupedStatistics {
    all: CodeStatistics,
    by: Option<String>,
    groups: BTreeMap<Label, CodeStatistics>,
    /// Checksum of the model that made the codes; empty if that is not known.
    model: String,
    shards: Option<Shards>,
}

/// Bytes that all counts may take.
const MOST_BYTES: u64 = 4 << 30;

impl GroupedStatistics {
    /// No rows yet, of codes with `features` bits that the model of this checksum makes. `by` says what groups are made of.
    ///
    /// # Errors
    /// As [`CodeStatistics::new`].
    pub fn new(
        features: usize,
        counting: &Counting,
        by: Option<String>,
        model: String,
    ) -> Result<Self, CodesError> {
        Ok(Self {
            all: CodeStatistics::new(features, counting)?,
            by,
            groups: BTreeMap::new(),
            model,
            shards: None,
        })
    }

    /// From counts that were kept.
    pub fn from_counts(
        all: CodeStatistics,
        by: Option<String>,
        groups: BTreeMap<Label, CodeStatistics>,
        model: String,
        shards: Option<Shards>,
    ) -> Self {
        Self { all, by, groups, model, shards }
    }

    /// Says that what is counted is part `shard` (from 1) of `of`.
    pub fn of_shard(mut self, shard: u32, of: u32) -> Self {
        self.shards = Some(Shards { of, counted: [shard].into() });
        self
    }

    /// Counts the rows of `codes`, which are numbered from `first_row` on; `sequences` says which sequence each is of,
    /// `labels` which group.
    ///
    /// # Errors
    /// As [`CodeStatistics::add`]; [`CodesError::Groups`] if there are so many groups that their counts take more than 4 GiB.
    ///
    /// # Panics
    /// If there are not as many sequences or labels as rows.
    pub fn add(
        &mut self,
        codes: &BitMatrix,
        first_row: u64,
        sequences: Option<&[i64]>,
        labels: Option<&[Label]>,
    ) -> Result<(), CodesError> {
        self.all.add(codes, first_row, sequences)?;
        let Some(labels) = labels else { return Ok(()) };
        assert_eq!(labels.len(), codes.rows(), "one label a row");
        for (row, label) in labels.iter().enumerate() {
            let number = first_row + row as u64;
            let group = match self.groups.get_mut(label) {
                Some(group) => group,
                None => {
                    // before it is taken: one chunk of rows may be of thousands of groups
                    let groups = self.groups.len() + 1;
                    let pairs = if self.all.sample().is_some() {
                        CodeStatistics::pair_bytes(self.all.features())
                    } else {
                        0
                    };
                    let bytes = pairs.saturating_mul(groups as u64);
                    if bytes > MOST_BYTES {
                        return Err(CodesError::Groups { groups, bytes });
                    }
                    let counting = Counting { batches: false, ..self.all.counting() };
                    let group = CodeStatistics::new(self.all.features(), &counting)?;
                    self.groups.entry(label.clone()).or_insert(group)
                }
            };
            group.add_row(number, sequences.map(|sequences| sequences[row]), codes.row(row));
        }
        let bytes = self.groups.values().map(CodeStatistics::bytes).sum::<u64>();
        if bytes > MOST_BYTES {
            return Err(CodesError::Groups { groups: self.groups.len(), bytes });
        }
        Ok(())
    }

    /// Adds the counts of `other`.
    ///
    /// # Errors
    /// As [`CodeStatistics::merge`]; [`CodesError::Other`] for counts of another model or other groups,
    /// [`CodesError::Shards`] for parts that were added before or are of another division. Nothing is added then.
    pub fn merge(&mut self, other: &GroupedStatistics) -> Result<(), CodesError> {
        if self.by != other.by {
            let by = |by: &Option<String>| by.clone().unwrap_or_else(|| "nothing".into());
            let why = format!("grouped by {}, the others by {}", by(&other.by), by(&self.by));
            return Err(CodesError::Other { why });
        }
        if self.model != other.model && !self.model.is_empty() && !other.model.is_empty() {
            return Err(CodesError::Other { why: "of codes of another model than the others".into() });
        }
        let shards = match (&self.shards, &other.shards) {
            (None, None) => None,
            (Some(a), Some(b)) if a.of == b.of => {
                if let Some(twice) = a.counted.intersection(&b.counted).next() {
                    return Err(CodesError::Shards {
                        why: format!("part {twice}/{} would be added twice", a.of),
                    });
                }
                Some(Shards { of: a.of, counted: a.counted.union(&b.counted).copied().collect() })
            }
            (a, b) => {
                let of = |shards: &Option<Shards>| match shards {
                    Some(shards) => format!("one of {} parts", shards.of),
                    None => "a whole".into(),
                };
                return Err(CodesError::Shards { why: format!("{} cannot be added to {}", of(b), of(a)) });
            }
        };
        self.all.merge(&other.all)?;
        for (label, group) in &other.groups {
            match self.groups.get_mut(label) {
                Some(known) => known.merge(group)?,
                None => {
                    self.groups.insert(label.clone(), group.clone());
                }
            }
        }
        self.shards = shards;
        if self.model.is_empty() {
            self.model.clone_from(&other.model);
        }
        Ok(())
    }

    /// Counts over all rows.
    pub fn all(&mut self) -> &mut CodeStatistics {
        &mut self.all
    }

    /// What groups are made of.
    pub fn by(&self) -> Option<&str> {
        self.by.as_deref()
    }

    /// Counts over each group, numbers first.
    pub fn groups(&mut self) -> &mut BTreeMap<Label, CodeStatistics> {
        &mut self.groups
    }

    /// Checksum of the model that made the codes; empty if that is not known.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Which parts of the rows were counted, if not simply all.
    pub fn shards(&self) -> Option<&Shards> {
        self.shards.as_ref()
    }

    /// Bits in a code (d_sae).
    pub fn features(&self) -> usize {
        self.all.features()
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.all.rows()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_counted_as_if_alone() {
        let mut codes = BitMatrix::zeros(6, 3);
        (0..6).for_each(|row| codes.set(row, row % 3, true));
        let labels: Vec<Label> = (0..6).map(|row| Label::Number(row / 4)).collect();
        let counting = Counting { batches: true, pairs: true, subset: vec![2, 0] };
        let new = || GroupedStatistics::new(3, &counting, Some("layer".into()), String::new()).unwrap();
        let mut all = new();
        all.add(&codes, 0, None, Some(&labels)).unwrap();
        let mut alone = CodeStatistics::new(3, &Counting { batches: false, ..counting.clone() }).unwrap();
        let rest = BitMatrix::from_bytes(&codes.to_bytes(4..6), 2, 3).unwrap();
        alone.add(&rest, 4, None).unwrap();
        assert_eq!(all.groups()[&Label::Number(1)], alone);

        let mut parts = new().of_shard(2, 2);
        parts.add(&rest, 4, None, Some(&labels[4..])).unwrap();
        let mut first = new().of_shard(1, 2);
        let start = BitMatrix::from_bytes(&codes.to_bytes(0..4), 4, 3).unwrap();
        first.add(&start, 0, None, Some(&labels[..4])).unwrap();
        assert_eq!(first.shards().unwrap().missing(), [2]);
        parts.merge(&first).unwrap();
        assert_eq!(parts.groups(), all.groups());
        let asked = std::cell::Cell::new(0);
        let once = || asked.replace(asked.get() + 1) == 0;
        assert_eq!((parts.report(once), asked.get()), (None, 2));
        assert_eq!(parts.report(|| true).unwrap().groups.unwrap().len(), 2);
        assert_eq!(parts.shards().unwrap().missing(), []);
        let twice = parts.merge(&first).unwrap_err();
        assert!(twice.to_string().contains("part 1/2 would be added twice"), "{twice}");
        assert!(parts.merge(&all).unwrap_err().to_string().contains("a whole cannot be added"));
        let other = GroupedStatistics::new(3, &counting, None, String::new()).unwrap();
        assert!(all.merge(&other).is_err());
        let mut of_model = GroupedStatistics::new(3, &counting, None, "a".into()).unwrap();
        let of_another = GroupedStatistics::new(3, &counting, None, "b".into()).unwrap();
        assert!(of_model.merge(&of_another).is_err());
        assert!(of_model.merge(&other).is_ok());
    }

    #[test]
    fn groups_that_would_take_too_much_are_refused_before_they_do() {
        // 135 MB of pairs a group
        let features = 4100;
        let counting = Counting { pairs: true, ..Counting::default() };
        let mut counts =
            GroupedStatistics::new(features, &counting, Some("position".into()), String::new()).unwrap();
        let labels: Vec<Label> = (0..2048).map(Label::Number).collect();
        let refused = counts.add(&BitMatrix::zeros(2048, features), 0, None, Some(&labels)).unwrap_err();
        assert!(matches!(refused, CodesError::Groups { groups: 32, .. }), "{refused}");
    }
}
