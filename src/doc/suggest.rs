//! Engine: "did you mean". The nearest of the words that would have been right, or none when nothing is near.

use strsim::{jaro_winkler, osa_distance};

/// Words longer than this are not typos of ours, and comparing them costs their square.
const LONGEST: usize = 64;

/// The candidate that `word` is most likely a slip of.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let folded = fold(word);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != word && candidate.len() <= LONGEST)
        .filter_map(|candidate| Some((distance(&folded, &fold(candidate))?, candidate)))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Lower is nearer; `None` when too far. `Round_Robin` is `round-robin`; `endpont` one slip from `endpoint`; `least-conn`
/// the start of `least-connections`.
fn distance(word: &str, candidate: &str) -> Option<f64> {
    if word == candidate {
        return Some(0.0);
    }
    let longer = word.chars().count().max(candidate.chars().count());
    let slips = osa_distance(word, candidate);
    // One slip in a word of two or three letters is a different word as often as not, but still worth offering.
    if slips <= 1.max(longer / 3) && slips < longer {
        return Some(slips as f64);
    }
    let start = word.len() >= 3 && candidate.starts_with(word) || candidate.len() >= 3 && word.starts_with(candidate);
    (start || jaro_winkler(word, candidate) >= 0.9).then_some(longer as f64)
}

fn fold(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_' | ' ' | '.')).flat_map(char::to_lowercase).collect()
}

/// `a`, `b` or `c`, for a help line.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_the_word_that_was_meant_and_strangers_find_none() {
        let words = ["listen", "endpoints", "round-robin", "least-connections", "weight", "timeouts", "pool", "p2c"];
        for (word, want) in [
            ("lisen", Some("listen")),
            ("Listen", Some("listen")),
            ("endpoint", Some("endpoints")),
            ("ednpoints", Some("endpoints")),
            ("round_robin", Some("round-robin")),
            ("RoundRobin", Some("round-robin")),
            ("leastconn", Some("least-connections")),
            ("timeout", Some("timeouts")),
            ("pol", Some("pool")),
            ("p2", Some("p2c")),
            ("certificate", None),
            ("x", None),
            ("", None),
            ("listen", None),
        ] {
            assert_eq!(nearest(word, words), want, "{word:?}");
        }
        assert_eq!(nearest(&"listen".repeat(1000), words), None);
    }

    #[test]
    fn lists_of_words_read_as_a_sentence() {
        assert_eq!(one_of(["a"]), "`a`");
        assert_eq!(one_of(["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
