//! Who answered, counted.

use std::collections::BTreeMap;

/// How many each endpoint has.
pub fn shares<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for name in names {
        *count.entry(name.to_owned()).or_default() += 1;
    }
    count
}
