//! Shell: where endpoints and routes come from beside the file, one file a kind. To add one: its file with a `SPEC`, its `mod` line, its
//! line in [`CATALOG`].

use crate::doc::Grammar;
use crate::seam::source::Spec;

mod dns;
pub mod docker;
mod file;

/// Every kind of source, in the order in which help and documentation list them.
pub static CATALOG: &[Spec] = &[dns::SPEC, file::SPEC, docker::SPEC];

/// The source of that name (`source = { type = "NAME" }`).
pub fn find(name: &str) -> Option<&'static Spec> {
    CATALOG.iter().find(|spec| spec.grammar.name == name)
}

/// What a pool's `source` may be.
pub fn of_pools() -> Vec<&'static Grammar> {
    CATALOG.iter().map(|spec| &spec.grammar).collect()
}

/// What an `l7` service's `source` may be.
pub fn of_services() -> Vec<&'static Grammar> {
    CATALOG.iter().filter(|spec| spec.routes).map(|spec| &spec.grammar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{Settings, Value};
    use crate::seam::source::{DRAIN, Owner, Place, drain};

    #[test]
    fn every_kind_can_be_built_and_says_how_long_members_may_leave() {
        for spec in CATALOG {
            assert!(spec.grammar.fields.iter().any(|field| field.name == DRAIN.name), "{}", spec.grammar.name);
            let mut settings = Settings::defaults(&spec.grammar);
            for field in spec.grammar.fields.iter().filter(|field| field.required) {
                settings.values.insert(field.name, Value::Text("name".to_owned()));
            }
            assert_eq!(drain(&settings).as_secs(), 30, "{}", spec.grammar.name);
            let place = Place { owner: Owner::Pool("web".into()), folder: "/".into(), probes: Vec::new() };
            (spec.build)(&settings, &place);
            assert!(std::ptr::eq(find(spec.grammar.name).unwrap(), spec));
        }
    }
}
