use std::collections::BTreeSet;
use std::path::Path;

use bae_codes::Label;

/// Short names for `names`, which are paths, perhaps with `#tensor`; see [`Dataset::labels`](crate::Dataset::labels).
pub(crate) fn labels(names: &[String]) -> Vec<Label> {
    let parts: Vec<(&str, &str)> = names
        .iter()
        .map(|name| match name.rsplit_once('#') {
            Some((path, tensor)) if Path::new(path).extension().is_some() => (path, tensor),
            _ => (name.as_str(), ""),
        })
        .collect();
    let stem = |path: &str| {
        let stem = Path::new(path).file_stem();
        stem.map_or_else(|| path.to_owned(), |stem| stem.to_string_lossy().into_owned())
    };
    let one_tensor = parts.windows(2).all(|two| two[0].1 == two[1].1);
    let mut short: Vec<String> = parts
        .iter()
        .map(|&(path, tensor)| if one_tensor { stem(path) } else { format!("{}#{tensor}", stem(path)) })
        .collect();
    let distinct = |texts: &[String]| texts.iter().collect::<BTreeSet<_>>().len();
    if distinct(&short) < distinct(names) {
        short = names.to_vec();
    }
    match numbers(&short) {
        Some(numbers) => numbers.into_iter().map(Label::Number).collect(),
        None => short.into_iter().map(Label::Text).collect(),
    }
}

/// The number in each of `texts`, if they are alike but for that, and there are several.
fn numbers(texts: &[String]) -> Option<Vec<i64>> {
    let (first, others) = texts.split_first().filter(|(_, others)| !others.is_empty())?;
    let common = |other: &String| first.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let prefix = others.iter().map(common).min()?;
    // a number that begins alike is still one number
    let digits = first.as_bytes()[..prefix].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let prefix = prefix - digits;
    let number = |text: &String| {
        let rest = text.get(prefix..)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        Some((rest[..digits].parse().ok()?, rest[digits..].to_owned()))
    };
    let all: Vec<(i64, String)> = texts.iter().map(number).collect::<Option<_>>()?;
    let alike = all.windows(2).all(|two| two[0].1 == two[1].1);
    let distinct = all.iter().map(|(number, _)| number).collect::<BTreeSet<_>>().len() == all.len();
    (alike && distinct).then(|| all.into_iter().map(|(number, _)| number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Vec<Label> {
        labels(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn files_that_differ_in_a_number_are_that_number() {
        let numbers = |values: &[i64]| values.iter().map(|&value| Label::Number(value)).collect::<Vec<_>>();
        assert_eq!(
            of(&["a/layer20_k00.npy", "a/layer20_k04.npy", "a/layer20_k16.npy"]),
            numbers(&[0, 4, 16])
        );
        assert_eq!(of(&["layer10.npy", "layer16.npy"]), numbers(&[10, 16]));
        assert_eq!(of(&["l1_x.npy#h", "l1000_x.npy#h"]), numbers(&[1, 1000]));
        assert_eq!(of(&["d/7/states.npy#a", "d/9/states.npy#a"]), numbers(&[7, 9]));
    }

    #[test]
    fn others_are_named() {
        let texts =
            |values: &[&str]| values.iter().map(|&value| Label::Text(value.into())).collect::<Vec<_>>();
        assert_eq!(of(&["x/a1.npy", "x/b2.npy"]), texts(&["a1", "b2"]));
        assert_eq!(of(&["x/states.npy"]), texts(&["states"]));
        assert_eq!(of(&["a.npz#x", "a.npz#y"]), texts(&["a#x", "a#y"]));
        assert_eq!(of(&["one/s.npy", "two/s.npy"]), texts(&["one/s.npy", "two/s.npy"]));
        assert_eq!(of(&["k1.npy", "k1.pt"]), texts(&["k1.npy", "k1.pt"]));
        assert_eq!(of(&["ä.npy", "ö.npy"]), texts(&["ä", "ö"]));
        assert_eq!(of(&["data[0]", "data[1]"]), [Label::Number(0), Label::Number(1)]);
    }
}
