use std::collections::BTreeMap;

use crate::CodesError;

/// How often each pattern of a few features occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    features: Vec<usize>,
    /// By pattern: bit i is the i-th of the features.
    counts: BTreeMap<u32, u64>,
}

impl Subset {
    /// Features in a subset, at most.
    pub const MOST: usize = 20;

    /// No rows yet.
    ///
    /// # Errors
    /// [`CodesError::Subset`] for features beyond `of`, given twice, or more than [`Subset::MOST`].
    pub fn new(of: usize, features: Vec<usize>) -> Result<Self, CodesError> {
        let refuse = |why: String| Err(CodesError::Subset { why });
        if features.len() > Self::MOST {
            return refuse(format!("{} features are more than {}", features.len(), Self::MOST));
        }
        for (at, feature) in features.iter().enumerate() {
            if *feature >= of {
                return refuse(format!(
                    "there is no feature {feature}, the last one is {}",
                    of.saturating_sub(1)
                ));
            }
            if features[..at].contains(feature) {
                return refuse(format!("feature {feature} is given twice"));
            }
        }
        Ok(Self { features, counts: BTreeMap::new() })
    }

    /// With counts that were kept.
    ///
    /// # Errors
    /// [`CodesError::Subset`], also for a pattern that such a subset does not have.
    pub fn with_counts(mut self, counts: BTreeMap<u32, u64>) -> Result<Self, CodesError> {
        if let Some((&pattern, _)) = counts.last_key_value()
            && pattern >> self.features.len() != 0
        {
            return Err(CodesError::Subset {
                why: format!("pattern {pattern} has more bits than {} features", self.features.len()),
            });
        }
        self.counts = counts;
        Ok(self)
    }

    /// The features, in the order in which they were asked for.
    pub fn features(&self) -> &[usize] {
        &self.features
    }

    /// By pattern (bit i is the i-th of the features) how often it occurs, if it does.
    pub fn counts(&self) -> &BTreeMap<u32, u64> {
        &self.counts
    }

    pub(crate) fn add(&mut self, words: &[u64]) {
        let bit = |feature: usize| (words[feature / 64] >> (feature % 64) & 1) as u32;
        let pattern =
            self.features.iter().enumerate().fold(0, |pattern, (at, &feature)| pattern | bit(feature) << at);
        *self.counts.entry(pattern).or_insert(0) += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (&pattern, &count) in &other.counts {
            *self.counts.entry(pattern).or_insert(0) += count;
        }
    }
}
