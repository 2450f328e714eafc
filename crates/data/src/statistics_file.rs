use std::collections::BTreeMap;
use std::path::Path;

use bae_codes::{
    BATCH, BUCKETS, Batches, Buckets, Clusters, CodeStatistics, Counting, Entry, FOLDS, GroupedStatistics,
    Label, PairCounts, SAMPLE_CLUSTERS, Sample, Shards, Subset, pair_index,
};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::error::DataError;
use crate::input_file::InputFile;
use crate::safetensors_file::Header;
use crate::tensors_out::{Tensor, Values, save_tensors};

/// What the metadata of such a file say under `kind`.
const KIND: &str = "code_statistics";

/// Writes counts of codes as safetensors of integers, all or nothing.
///
/// For all rows, and with a prefix `0.`, `1.`, … for each group in the order of `groups` in the metadata: `rows` U64 `[1]`, `ones` U64
/// `[d_sae]`, `l0` U64 `[d_sae + 1]` (rows by their number of ones), `bucket_rows` U64 `[64]` and `bucket_ones` U32 `[64, d_sae]`; where
/// they were counted also `batch_SIZE` U64 `[SIZE + 1]` (how often a feature has 0, 1, … ones in a batch of so many rows), `pair_rows` U64
/// `[4]` and `pairs` U32 `[4, d_sae (d_sae − 1) / 2]` (features i < j at j (j − 1) / 2 + i), `sample` U64 `[n, 5]` (of each cluster its number and rows, and the
/// priority and the halves of the code's hash of one row), `subset_patterns` U32 and `subset_counts` U64.
///
/// # Errors
/// `IO`, also where the file is there already and `overwrite` is not set.
pub fn save_statistics(
    path: &Path,
    statistics: &mut GroupedStatistics,
    overwrite: bool,
) -> Result<(), DataError> {
    let clusters = statistics.all().clusters().map(|clusters| match clusters {
        Clusters::Row => "row",
        Clusters::Sequence => "sequence",
    });
    let subset = statistics.all().counting().subset;
    let labels: Vec<Value> = statistics
        .groups()
        .keys()
        .map(|label| match label {
            Label::Number(number) => json!(number),
            Label::Text(text) => json!(text),
        })
        .collect();
    let shards = statistics.shards().map(|shards| json!({ "of": shards.of, "counted": shards.counted }));
    let metadata = [
        ("kind", KIND.to_owned()),
        ("d_sae", statistics.features().to_string()),
        ("rows", statistics.rows().to_string()),
        ("model_xxh3", statistics.model().to_owned()),
        ("clusters", clusters.unwrap_or_default().to_owned()),
        ("by", statistics.by().unwrap_or_default().to_owned()),
        ("groups", Value::from(labels).to_string()),
        ("subset", json!(subset).to_string()),
        ("shards", shards.unwrap_or(Value::Null).to_string()),
    ];
    let mut kept = vec![Kept::of(String::new(), statistics.all())];
    for (at, group) in statistics.groups().values_mut().enumerate() {
        kept.push(Kept::of(format!("{at}."), group));
    }
    let tensors: Vec<Tensor> = kept.iter().flat_map(Kept::tensors).collect();
    save_tensors(path, &metadata, &tensors, overwrite)
}

/// The tensors of one count, by name.
struct Kept {
    tensors: Vec<(String, Vec<usize>, Numbers)>,
}

enum Numbers {
    U32(Vec<u32>),
    U64(Vec<u64>),
}

impl Kept {
    fn of(prefix: String, statistics: &mut CodeStatistics) -> Self {
        let features = statistics.features();
        let mut tensors = vec![];
        let mut keep = |name: &str, shape: Vec<usize>, numbers| {
            tensors.push((format!("{prefix}{name}"), shape, numbers));
        };
        keep("rows", vec![1], Numbers::U64(vec![statistics.rows()]));
        keep("ones", vec![features], Numbers::U64(statistics.counts().ones().to_vec()));
        keep("l0", vec![features + 1], Numbers::U64(statistics.l0().to_vec()));
        keep("bucket_rows", vec![BUCKETS], Numbers::U64(statistics.buckets().rows().to_vec()));
        let mut ones = vec![0; BUCKETS * features];
        for bucket in 0..BUCKETS {
            let of = statistics.buckets().ones_of(bucket);
            ones[bucket * features..][..of.len()].copy_from_slice(of);
        }
        keep("bucket_ones", vec![BUCKETS, features], Numbers::U32(ones));
        if let Some(batches) = statistics.batches() {
            let mut counts = batches.counts();
            if counts.is_empty() {
                // says that they are counted, for parts without rows are merged too
                counts.insert(BATCH, vec![0; BATCH + 1]);
            }
            for (size, counts) in counts {
                keep(&format!("batch_{size}"), vec![size + 1], Numbers::U64(counts));
            }
        }
        if let Some(pairs) = statistics.pairs() {
            let both: Vec<u32> = (0..FOLDS).flat_map(|fold| pairs.both(fold).iter().copied()).collect();
            keep("pair_rows", vec![FOLDS], Numbers::U64((0..FOLDS).map(|fold| pairs.rows(fold)).collect()));
            keep("pairs", vec![FOLDS, both.len() / FOLDS], Numbers::U32(both));
        }
        if let Some(sample) = statistics.sample() {
            let entries = sample.entries();
            let numbers = |&Entry { cluster, rows, priority, code }: &Entry| {
                [cluster, rows, priority, code as u64, (code >> 64) as u64]
            };
            let numbers = entries.iter().flat_map(numbers).collect();
            keep("sample", vec![entries.len(), 5], Numbers::U64(numbers));
        }
        if let Some(subset) = statistics.subset() {
            let counts = subset.counts();
            keep("subset_patterns", vec![counts.len()], Numbers::U32(counts.keys().copied().collect()));
            keep("subset_counts", vec![counts.len()], Numbers::U64(counts.values().copied().collect()));
        }
        Self { tensors }
    }

    fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.tensors.iter().map(|(name, shape, numbers)| {
            let values = match numbers {
                Numbers::U32(numbers) => Values::U32(numbers),
                Numbers::U64(numbers) => Values::U64(numbers),
            };
            (name.as_str(), shape.as_slice(), values)
        })
    }
}

/// Whether a safetensors file holds what [`save_statistics`] writes.
pub(crate) fn is_statistics(header: &Header) -> bool {
    header.metadata.get("kind").is_some_and(|kind| kind == KIND)
}

/// Reads counts of codes.
///
/// # Errors
/// `IO`; `UNSUPPORTED_FORMAT` if the file holds something else; `CORRUPT_FILE` if its counts contradict each other.
pub fn load_statistics(path: &Path) -> Result<GroupedStatistics, DataError> {
    let file = InputFile::open(path)?;
    let header = Header::read(&file)?;
    let shown = path.display();
    if !is_statistics(&header) {
        return Err(DataError::format(format!(
            "{shown} holds no counts of codes, only {}; give a file that `bae entropy --out` wrote",
            header.listing()
        )));
    }
    let damaged = |why: String| DataError::corrupt(format!("{shown}: {why}; count again"));
    let text = |key: &str| {
        header
            .metadata
            .get(key)
            .map(String::as_str)
            .ok_or_else(|| damaged(format!("{key} is missing from the metadata")))
    };
    let json = |key: &str| -> Result<Value, DataError> {
        serde_json::from_str(text(key)?).map_err(|error| damaged(format!("{key} in the metadata: {error}")))
    };
    let not = |key: &str| damaged(format!("{key} in the metadata is not what it should be"));
    let features = text("d_sae")?.parse::<u32>().map_err(|_| not("d_sae"))? as usize;
    let clusters = match text("clusters")? {
        "row" => Some(Clusters::Row),
        "sequence" => Some(Clusters::Sequence),
        "" => None,
        _ => return Err(not("clusters")),
    };
    let subset: Vec<usize> = serde_json::from_value(json("subset")?).map_err(|_| not("subset"))?;
    let by = Some(text("by")?.to_owned()).filter(|by| !by.is_empty());
    let label = |label: &Value| match label {
        Value::String(text) => Ok(Label::Text(text.clone())),
        _ => label.as_i64().map(Label::Number).ok_or_else(|| not("groups")),
    };
    let labels: Vec<Label> = match json("groups")? {
        Value::Array(labels) => labels.iter().map(label).collect::<Result<_, _>>()?,
        _ => return Err(not("groups")),
    };
    let shards = match json("shards")? {
        Value::Null => None,
        shards => {
            let of: u32 = serde_json::from_value(shards["of"].clone()).map_err(|_| not("shards"))?;
            let counted = serde_json::from_value(shards["counted"].clone()).map_err(|_| not("shards"))?;
            Some(Shards { of, counted })
        }
    };
    let stored = Stored { file: &file, header: &header, features, clusters, subset: &subset };
    let read = |prefix: &str| match stored.count(prefix) {
        Err(Trouble::Damage(why)) => Err(damaged(why)),
        Err(Trouble::Other(error)) => Err(error),
        Ok(count) => Ok(count),
    };
    let mut all = read("")?;
    let mut groups = BTreeMap::new();
    if by.is_none() && !labels.is_empty() {
        return Err(not("groups"));
    }
    for (at, label) in labels.into_iter().enumerate() {
        let twice = damaged(format!("group {label} is there twice"));
        if groups.insert(label, read(&format!("{at}."))?).is_some() {
            return Err(twice);
        }
    }
    if by.is_some() && !are_all(&mut groups, &mut all)? {
        return Err(damaged("the groups together are not all rows".into()));
    }
    let is_part = |shards: &Shards| {
        shards.of <= Shards::MOST && shards.counted.iter().all(|shard| (1..=shards.of).contains(shard))
    };
    if !shards.as_ref().is_none_or(is_part) {
        return Err(not("shards"));
    }
    Ok(GroupedStatistics::from_counts(all, by, groups, text("model_xxh3")?.to_owned(), shards))
}

/// Whether groups add up to what was counted over all rows (batches apart, which groups have none of).
fn are_all(
    groups: &mut BTreeMap<Label, CodeStatistics>,
    all: &mut CodeStatistics,
) -> Result<bool, DataError> {
    let counting = Counting { batches: false, ..all.counting() };
    let mut sum = CodeStatistics::new(all.features(), &counting)
        .map_err(|error| DataError::out_of_memory(error.to_string()))?;
    let added = groups.values().all(|group| sum.merge(group).is_ok());
    Ok(added
        && (sum.l0(), sum.buckets(), sum.sample(), sum.subset())
            == (all.l0(), all.buckets(), all.sample(), all.subset())
        && sum.pairs() == all.pairs())
}

struct Stored<'a> {
    file: &'a InputFile,
    header: &'a Header,
    features: usize,
    clusters: Option<Clusters>,
    subset: &'a [usize],
}

enum Trouble {
    Damage(String),
    Other(DataError),
}

impl From<DataError> for Trouble {
    fn from(error: DataError) -> Self {
        Self::Other(error)
    }
}

impl Stored<'_> {
    /// One count, of which everything agrees with everything else.
    fn count(&self, prefix: &str) -> Result<CodeStatistics, Trouble> {
        let features = self.features;
        let name = |what: &str| format!("{prefix}{what}");
        let damage = |what: &str, why: &str| Err(Trouble::Damage(format!("{prefix}{what} {why}")));
        let rows = self.u64s(&name("rows"), &[1])?[0];
        let l0 = self.u64s(&name("l0"), &[features + 1])?;
        let bucket_rows = self.u64s(&name("bucket_rows"), &[BUCKETS])?;
        let bucket_ones = self.u32s(&name("bucket_ones"), &[BUCKETS, features])?;
        if rows > u64::from(u32::MAX) || sum(&l0) != Some(rows) || sum(&bucket_rows) != Some(rows) {
            return damage("rows", "are not as many as those counted");
        }
        for (bucket, &rows) in bucket_rows.iter().enumerate() {
            let ones = &bucket_ones[bucket * features..][..features];
            if ones.iter().any(|&ones| u64::from(ones) > rows) {
                return damage("bucket_ones", "are more than there are rows");
            }
        }
        let buckets = Buckets::from_counts(bucket_rows, &bucket_ones, features);
        let ones = buckets.ones(features);
        if ones != self.u64s(&name("ones"), &[features])? {
            return damage("ones", "are not those of the buckets");
        }
        let of_rows = l0
            .iter()
            .enumerate()
            .try_fold(0u64, |sum, (ones, &rows)| sum.checked_add((ones as u64).checked_mul(rows)?));
        if of_rows != Some(ones.iter().sum()) {
            return damage("l0", "does not agree with the ones of the features");
        }
        if rows > 0 && self.clusters.is_none() {
            return damage("clusters", "are unknown");
        }
        let clusters = self.clusters.filter(|_| rows > 0);
        let subset = if self.subset.is_empty() {
            None
        } else {
            let subset = Subset::new(features, self.subset.to_vec());
            let subset = subset.map_err(|error| Trouble::Damage(error.to_string()))?;
            let patterns = self.u32s_of_any_length(&name("subset_patterns"))?;
            let counts = self.u64s(&name("subset_counts"), &[patterns.len()])?;
            if sum(&counts) != Some(rows) {
                return damage("subset_counts", "do not sum to the rows");
            }
            let counts = patterns.into_iter().zip(counts).collect();
            Some(subset.with_counts(counts).map_err(|error| Trouble::Damage(error.to_string()))?)
        };
        let joint = if self.header.tensor(&name("pairs")).is_some() {
            Some((self.pairs(prefix, &buckets)?, self.sample(prefix, rows)?))
        } else {
            None
        };
        let batches = if prefix.is_empty() { self.batches(rows)? } else { None };
        Ok(CodeStatistics::from_counts(clusters, l0, buckets, batches, joint, subset))
    }

    fn pairs(&self, prefix: &str, buckets: &Buckets) -> Result<PairCounts, Trouble> {
        let features = self.features;
        let pairs = features.saturating_mul(features.saturating_sub(1)) / 2;
        let rows = self.u64s(&format!("{prefix}pair_rows"), &[FOLDS])?;
        let both = self.u32s(&format!("{prefix}pairs"), &[FOLDS, pairs])?;
        let mut folds = vec![];
        for (fold, &fold_rows) in rows.iter().enumerate() {
            let both = &both[fold * pairs..][..pairs];
            let mut ones = vec![0u64; features];
            let mut of_buckets = 0;
            for bucket in (fold..BUCKETS).step_by(FOLDS) {
                of_buckets += buckets.rows()[bucket];
                ones.iter_mut().zip(buckets.ones_of(bucket)).for_each(|(sum, &ones)| *sum += u64::from(ones));
            }
            if of_buckets != fold_rows {
                return Err(Trouble::Damage(format!("{prefix}pair_rows are not those of the buckets")));
            }
            // two features are on together in no more rows than either, and no fewer than their overlap must be
            let possible = (0..features).all(|j| {
                (0..j).all(|i| {
                    let both = u64::from(both[pair_index(i, j)]);
                    both <= ones[i].min(ones[j]) && both + fold_rows >= ones[i] + ones[j]
                })
            });
            if !possible {
                return Err(Trouble::Damage(format!("{prefix}pairs cannot be counts of these ones")));
            }
            folds.push((fold_rows, both.to_vec()));
        }
        Ok(PairCounts::from_counts(features, folds))
    }

    fn sample(&self, prefix: &str, rows: u64) -> Result<Sample, Trouble> {
        let name = format!("{prefix}sample");
        let count = self.header.tensor(&name).and_then(|sample| sample.shape.first().copied()).unwrap_or(0);
        let numbers = self.u64s(&name, &[count, 5])?;
        let entry = |numbers: &[u64; 5]| Entry {
            cluster: numbers[0],
            rows: numbers[1],
            priority: numbers[2],
            code: u128::from(numbers[3]) | u128::from(numbers[4]) << 64,
        };
        let entries: Vec<Entry> = numbers.as_chunks().0.iter().map(entry).collect();
        let of_rows: Vec<u64> = entries.iter().map(|entry| entry.rows).collect();
        let of_rows = sum(&of_rows).filter(|&sum| sum == rows || count == SAMPLE_CLUSTERS && sum < rows);
        let sample = Sample::from_entries(entries);
        if of_rows.is_none() || sample.entries().len() != count {
            return Err(Trouble::Damage(format!("{name} is none of {rows} rows")));
        }
        Ok(sample)
    }

    fn batches(&self, rows: u64) -> Result<Option<Batches>, Trouble> {
        let start = "batch_";
        let mut are_counted = false;
        let mut counts = BTreeMap::new();
        let mut batched = 0u64;
        for tensor in &self.header.tensors {
            let Some(size) = tensor.name.strip_prefix(start) else { continue };
            let size: usize = match size.parse() {
                Ok(size) if (1..=BATCH).contains(&size) => size,
                _ => return Err(Trouble::Damage(format!("{} is no size of a batch", tensor.name))),
            };
            let of_size = self.u64s(&tensor.name, &[size + 1])?;
            let features = self.features.max(1) as u64;
            let whole = sum(&of_size).filter(|sum| sum % features == 0);
            let rows = whole.and_then(|sum| (sum / features).checked_mul(size as u64));
            batched = rows.and_then(|rows| batched.checked_add(rows)).unwrap_or(u64::MAX);
            are_counted = true;
            if of_size.iter().any(|&count| count > 0) {
                counts.insert(size, of_size);
            }
        }
        if are_counted && batched != rows {
            return Err(Trouble::Damage(format!("{start}* are of {batched} rows, not of {rows}")));
        }
        Ok(are_counted.then(|| Batches::from_counts(counts)))
    }

    fn u64s(&self, name: &str, shape: &[usize]) -> Result<Vec<u64>, Trouble> {
        let bytes = self.bytes(name, Dtype::U64, Some(shape))?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }

    fn u32s(&self, name: &str, shape: &[usize]) -> Result<Vec<u32>, Trouble> {
        let bytes = self.bytes(name, Dtype::U32, Some(shape))?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }

    fn u32s_of_any_length(&self, name: &str) -> Result<Vec<u32>, Trouble> {
        let bytes = self.bytes(name, Dtype::U32, None)?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }

    fn bytes(&self, name: &str, dtype: Dtype, shape: Option<&[usize]>) -> Result<Vec<u8>, Trouble> {
        let tensor = self.header.tensor(name);
        let Some(tensor) = tensor.filter(|tensor| {
            tensor.dtype == dtype && shape.map_or(tensor.shape.len() == 1, |shape| tensor.shape == shape)
        }) else {
            let shape = shape.map_or("[n]".to_owned(), |shape| format!("{shape:?}"));
            return Err(Trouble::Damage(format!("there is no {dtype} tensor {name} of shape {shape}")));
        };
        let length = tensor.shape.iter().product::<usize>() as u64 * (dtype.bitsize() as u64 / 8);
        Ok(self.file.bytes(tensor.offset, length)?)
    }
}

/// The sum, if it can be told.
fn sum(counts: &[u64]) -> Option<u64> {
    counts.iter().try_fold(0u64, |sum, &count| sum.checked_add(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bae_codes::{BitMatrix, Counting};

    fn counted(pairs: bool) -> GroupedStatistics {
        let mut codes = BitMatrix::zeros(700, 5);
        for row in 0..700 {
            for feature in 0..5 {
                codes.set(row, feature, (row * 31 + feature * 17) % (feature + 2) == 0);
            }
        }
        let counting = Counting { batches: true, pairs, subset: vec![4, 1] };
        let mut counts =
            GroupedStatistics::new(5, &counting, Some("file".into()), "abc".into()).unwrap().of_shard(2, 3);
        let sequences: Vec<i64> = (0..700).map(|row| row / 9).collect();
        let labels: Vec<Label> = (0..700)
            .map(|row| if row < 10 { Label::Number(-4) } else { Label::Text(format!("f\"{}", row % 2)) })
            .collect();
        counts.add(&codes, 512, Some(&sequences), Some(&labels)).unwrap();
        counts
    }

    #[test]
    fn what_is_saved_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        for pairs in [false, true] {
            let path = folder.path().join(format!("{pairs}.safetensors"));
            let mut counts = counted(pairs);
            save_statistics(&path, &mut counts, false).unwrap();
            assert!(save_statistics(&path, &mut counts, false).is_err());
            let mut read = load_statistics(&path).unwrap();
            assert_eq!(read.all().batches().unwrap().counts(), counts.all().batches().unwrap().counts());
            // the open batch is closed by saving: the same file again
            let again = folder.path().join("again.safetensors");
            save_statistics(&again, &mut read, true).unwrap();
            assert_eq!(std::fs::read(&again).unwrap(), std::fs::read(&path).unwrap());
            assert_eq!(read.groups(), counts.groups());
            assert_eq!((read.by(), read.model(), read.rows()), (Some("file"), "abc", 700));
            assert_eq!(read.shards(), counts.shards());
        }
        let empty = folder.path().join("empty.safetensors");
        let mut none = GroupedStatistics::new(3, &Counting::default(), None, String::new()).unwrap();
        save_statistics(&empty, &mut none, false).unwrap();
        assert_eq!(load_statistics(&empty).unwrap(), none);
    }

    #[test]
    fn a_part_without_rows_can_be_merged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.safetensors");
        let counting = Counting { batches: true, pairs: true, subset: vec![4, 1] };
        let none = GroupedStatistics::new(5, &counting, Some("file".into()), "abc".into());
        save_statistics(&path, &mut none.unwrap().of_shard(1, 3), false).unwrap();
        let mut all = load_statistics(&path).unwrap();
        all.merge(&counted(true)).unwrap();
        assert_eq!(all.all().counting(), counting);
        assert_eq!(all.all().batches().unwrap().counts(), counted(true).all().batches().unwrap().counts());
    }

    /// What a header may claim without a panic, gigabytes of memory or silence.
    #[test]
    fn made_up_headers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.safetensors");
        save_statistics(&path, &mut counted(true), false).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
        for (what, with) in [
            (r#""d_sae":"5""#, format!(r#""d_sae":"{}""#, u64::MAX)),
            (r#""d_sae":"5""#, r#""d_sae":"4294967295""#.into()),
            (r#"\"of\":3"#, r#"\"of\":4294967295"#.into()),
            (r#"\"counted\":[2]"#, r#"\"counted\":[0]"#.into()),
            (r#"f\\\"1"#, r#"f\\\"0"#.into()),
            (r#""by":"file""#, r#""by":"""#.into()),
            (r#"[-4,"#, "[".into()),
        ] {
            assert!(header.contains(what), "{what} in {header}");
            let changed = header.replacen(what, &with, 1);
            let mut file = (changed.len() as u64).to_le_bytes().to_vec();
            file.extend_from_slice(changed.as_bytes());
            file.extend_from_slice(&bytes[8 + length..]);
            std::fs::write(&path, file).unwrap();
            let refused = load_statistics(&path).unwrap_err();
            assert_eq!(refused.code(), "CORRUPT_FILE", "{with}: {refused}");
        }
    }

    #[test]
    fn damage_anywhere_is_an_error_or_other_counts_that_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counts.safetensors");
        save_statistics(&path, &mut counted(true), false).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut refused = 0;
        let step = (bytes.len() / 1500).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, damaged).unwrap();
            match load_statistics(&path) {
                Ok(mut read) => {
                    assert_eq!(read.all().rows(), read.all().buckets().rows().iter().sum::<u64>())
                }
                Err(error) => {
                    assert!(!error.to_string().contains('\n'));
                    refused += 1;
                }
            }
        }
        // hashes of the sample and names of groups are as good as others
        assert!(refused > 200, "{refused}");
        for length in (0..bytes.len()).step_by(step * 5) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(load_statistics(&path).is_err());
        }
    }
}
