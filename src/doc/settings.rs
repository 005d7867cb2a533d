//! Engine: decoding a plug-in's settings by its [`Grammar`]: `"name"`, or `{ type = "name", field = … }`.

use super::codes;
use super::cursor::{Item, SETTINGS, Table};
use super::diagnostic::{Diagnostic, quote};
use super::shape::Shape;
use super::span::Spanned;
use super::spec::{Field, Grammar, Kind, Settings, Value};
use super::suggest;

impl<'t> Item<'t> {
    /// The settings of one plug-in of `catalog`, complete with its defaults.
    pub fn settings(&self, catalog: &[&'static Grammar]) -> Option<Spanned<Settings>> {
        self.note(|| Shape::Plugin(catalog.iter().map(|grammar| grammar.name).collect()));
        if self.is_text() {
            let name = self.text()?;
            let grammar = self.grammar(name.value, catalog)?;
            return self.bare(grammar);
        }
        if !self.is_table() {
            return self.wrong(
                "a name or a table with a `type`",
                catalog.first().map(|grammar| format!("as in {}", quote(grammar.example))),
            );
        }
        let settings = self.table(SETTINGS, |table| decode(self, table, catalog))?;
        settings.map(|settings| Spanned::new(settings, self.span()))
    }

    /// The settings of the one plug-in that can be meant, without a `type`.
    pub fn fields(&self, grammar: &'static Grammar) -> Option<Spanned<Settings>> {
        self.note(|| Shape::Fields(grammar.name));
        let settings = self.table(SETTINGS, |table| decode_fields(table, grammar))?;
        settings.map(|settings| Spanned::new(settings, self.span()))
    }

    /// Just the name: right when every field may be absent.
    fn bare(&self, grammar: &'static Grammar) -> Option<Spanned<Settings>> {
        let missing: Vec<&str> = grammar.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
        if missing.is_empty() {
            return Some(Spanned::new(Settings::defaults(grammar), self.span()));
        }
        let fields = suggest::one_of(missing.iter().copied()).replace(" or ", " and ");
        self.report(
            Diagnostic::new(&codes::MISSING_KEY, self.span(), format!("`{}` needs {fields}", grammar.name))
                .help(format!("as in {}", quote(grammar.example))),
        );
        None
    }

    fn grammar(&self, name: &str, catalog: &[&'static Grammar]) -> Option<&'static Grammar> {
        match catalog.iter().find(|grammar| grammar.name == name) {
            Some(grammar) => Some(grammar),
            None => self.unknown_word(name, catalog.iter().map(|grammar| grammar.name)),
        }
    }
}

fn decode<'t>(item: &Item<'t>, table: &mut Table<'t>, catalog: &[&'static Grammar]) -> Option<Settings> {
    let named = table.get("type");
    let Some(named) = named else {
        let names = suggest::one_of(catalog.iter().map(|grammar| grammar.name));
        table.report(
            Diagnostic::new(&codes::MISSING_KEY, table.span(), format!("{} needs `type`", quote(item.key)))
                .label("`type` is missing")
                .help(format!("one of {names}")),
        );
        table.entries();
        return None;
    };
    let grammar = named.text().and_then(|name| item_type(item, &named, name.value, catalog));
    let Some(grammar) = grammar else {
        // Nothing can be said about the fields of an unknown type.
        table.entries();
        return None;
    };
    let settings = decode_fields(table, grammar);
    foreign(table, grammar, catalog);
    settings
}

/// Every field is read, even after one that is wrong.
fn decode_fields(table: &mut Table<'_>, grammar: &'static Grammar) -> Option<Settings> {
    let mut settings = Settings::defaults(grammar);
    let mut right = true;
    for field in grammar.fields {
        right &= decode_field(table, grammar, field, &mut settings);
    }
    right.then_some(settings)
}

fn item_type<'t>(
    item: &Item<'t>,
    named: &Item<'t>,
    name: &str,
    catalog: &[&'static Grammar],
) -> Option<&'static Grammar> {
    match catalog.iter().find(|grammar| grammar.name == name) {
        Some(grammar) => Some(grammar),
        // In the words of the outer key: "unknown balance", not "unknown type".
        None => named.called(item.key).unknown_word(name, catalog.iter().map(|grammar| grammar.name)),
    }
}

/// Whether the field is right; reports it otherwise.
fn decode_field(table: &mut Table<'_>, grammar: &'static Grammar, field: &Field, settings: &mut Settings) -> bool {
    let Some(given) = table.get(field.name) else {
        if field.required {
            let message = format!("`{}` needs `{}`: {}", grammar.name, field.name, field.help);
            table.report(
                Diagnostic::new(&codes::MISSING_KEY, table.span(), message)
                    .label(format!("`{}` is missing", field.name))
                    .help(format!("as in {}", quote(grammar.example))),
            );
        }
        return !field.required;
    };
    match value(&given, field.kind) {
        Some(value) => {
            settings.values.insert(field.name, value);
            true
        }
        None => false,
    }
}

fn value(item: &Item<'_>, kind: Kind) -> Option<Value> {
    match kind {
        Kind::Bool => item.bool().map(|v| Value::Bool(v.value)),
        Kind::Integer { min, max } => item.integer(min, max).map(|v| Value::Integer(v.value)),
        Kind::Number { min, max } => item.number(min, max).map(|v| Value::Number(v.value)),
        Kind::Duration { min, max } => item.duration(min, max).map(|v| Value::Duration(v.value)),
        Kind::Size => item.size(0, u64::MAX).map(|v| Value::Size(v.value)),
        Kind::Text => item.text().map(|v| Value::Text(v.value.to_owned())),
        Kind::Checked(check) => checked(item, check).map(Value::Text),
        Kind::Word(words) => {
            let text = item.text()?;
            if words.contains(&text.value) {
                return Some(Value::Text(text.value.to_owned()));
            }
            item.unknown_word(text.value, words.iter().copied())
        }
        Kind::Texts(check) => every(item, |element| text_or_number(element, check)).map(Value::Texts),
        Kind::Integers { min, max } => {
            every(item, |element| element.integer(min, max).map(|v| v.value)).map(Value::Integers)
        }
    }
}

/// Text, or a number that is as good as text: `expect = [200, "300-399"]`.
fn text_or_number(item: &Item<'_>, check: fn(&str) -> Result<(), String>) -> Option<String> {
    match item.digits() {
        Some(digits) => {
            item.read(&digits, &format!("a valid {}", quote(item.key)), |text| check(text).map(|()| text.to_owned()))
        }
        None => return checked(item, check),
    }
    .map(|text| text.value)
}

fn checked(item: &Item<'_>, check: fn(&str) -> Result<(), String>) -> Option<String> {
    item.parsed("text", |text| check(text).map(|()| text.to_owned())).map(|text| text.value)
}

/// All elements, each of which is read even after one that is wrong.
fn every<T>(item: &Item<'_>, read: impl Fn(&Item<'_>) -> Option<T>) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = item.one_or_many().iter().map(read).collect();
    read.into_iter().collect()
}

/// Reports fields that another type of the catalogue has: more helpful than "unknown".
fn foreign(table: &mut Table<'_>, grammar: &Grammar, catalog: &[&'static Grammar]) {
    let own = |name: &str| name == "type" || grammar.fields.iter().any(|field| field.name == name);
    let others = catalog.iter().flat_map(|other| other.fields.iter().map(|field| field.name));
    let mut names: Vec<&'static str> = others.filter(|name| !own(name) && table.has(name)).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let Some(given) = table.get(name) else { continue };
        let homes = catalog.iter().filter(|other| other.fields.iter().any(|field| field.name == name));
        let homes = suggest::one_of(homes.map(|other| other.name));
        table.report(
            Diagnostic::new(&codes::MISPLACED, given.key_span(), format!("`{}` has no setting `{name}`", grammar.name))
                .help(format!("it is a setting of {homes}")),
        );
    }
}
