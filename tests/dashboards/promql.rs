//! Reads as much of PromQL as it takes to say which series a query asks for, by which labels it groups, and what it compares.
//!
//! Whether a query is right as a whole is for `promtool` and Prometheus to say.

/// One metric that a query asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    /// Label, operator and value.
    pub matchers: Vec<(String, String, String)>,
}

/// What a query asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub selectors: Vec<Selector>,
    /// Labels of `by`, `on`, `ignoring`, `without` and `group_…`.
    pub grouped: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(&'static str),
}

pub fn read(query: &str) -> Query {
    let tokens = tokens(query);
    let (mut read, mut at) = (Query::default(), 0);
    while let Some(token) = tokens.get(at) {
        at += 1;
        let Token::Word(word) = token else { continue };
        let next = tokens.get(at);
        let opens = |sign| next == Some(&Token::Sign(sign));
        if LISTS.contains(&word.as_str()) {
            let list = tokens[at..].iter().take_while(|token| **token != Token::Sign(")"));
            let labels = list.filter_map(|token| match token {
                Token::Word(label) => Some(label.clone()),
                _ => None,
            });
            read.grouped.extend(labels);
            at += tokens[at..].iter().position(|token| *token == Token::Sign(")")).unwrap_or(0);
        } else if WORDS.contains(&word.as_str()) || opens("(") || word.starts_with(|c: char| c.is_ascii_digit()) {
            // A function, a number, or a word of the language.
        } else {
            let matchers = if opens("{") { matchers(&tokens[at + 1..]) } else { Vec::new() };
            // Label, operator, value and comma each, and the braces.
            at += if opens("{") { tokens[at..].iter().position(|t| *t == Token::Sign("}")).unwrap_or(0) } else { 0 };
            read.selectors.push(Selector { metric: word.clone(), matchers });
        }
    }
    read
}

fn matchers(tokens: &[Token]) -> Vec<(String, String, String)> {
    let inside: Vec<&Token> = tokens.iter().take_while(|token| **token != Token::Sign("}")).collect();
    let one = |part: &[&Token]| match part {
        [Token::Word(label), Token::Sign(operator), Token::Text(value)] => {
            (label.clone(), (*operator).to_owned(), value.clone())
        }
        other => panic!("{other:?} is no matcher"),
    };
    let parts = inside.split(|token| **token == Token::Sign(","));
    parts.filter(|part| !part.is_empty()).map(one).collect()
}

/// The parts between which a query compares or chooses, without numbers: where each has data, the query had something to judge.
/// `a / b > 0.8 and on (x) c` gives `a / b` and `c`; `absent(a)` gives `a`.
pub fn sides(query: &str) -> Vec<String> {
    let query = unwrapped(query);
    for signs in [&SETS[..], &COMPARISONS[..]] {
        if let Some((left, right)) = split(query, signs) {
            return [sides(left), sides(without_modifiers(right))].concat();
        }
    }
    if let Some(inside) = query.strip_prefix("absent(").and_then(|rest| rest.strip_suffix(')')) {
        return sides(inside);
    }
    if query.parse::<f64>().is_ok() { Vec::new() } else { vec![query.to_owned()] }
}

/// At the first of `signs` that stands in no bracket.
fn split<'a>(query: &'a str, signs: &[&str]) -> Option<(&'a str, &'a str)> {
    let (mut depth, mut quoted) = (0, false);
    for (at, c) in query.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ if depth == 0 => {
                if let Some(sign) = signs.iter().find(|sign| query[at..].starts_with(**sign)) {
                    return Some((&query[..at], &query[at + sign.len()..]));
                }
            }
            _ => {}
        }
    }
    None
}

/// Without space and brackets around all of it.
fn unwrapped(query: &str) -> &str {
    let query = query.trim();
    let Some(inside) = query.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else { return query };
    let mut depth = 0;
    let closes_early = inside.chars().any(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth < 0
    });
    if closes_early { query } else { unwrapped(inside) }
}

/// What stands behind `bool`, `on (…)` and their like.
fn without_modifiers(right: &str) -> &str {
    let right = right.trim_start();
    let word = right.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(right.len());
    match &right[..word] {
        "bool" => without_modifiers(&right[word..]),
        list if LISTS.contains(&list) => {
            let end = right.find(')').map_or(right.len(), |at| at + 1);
            without_modifiers(&right[end..])
        }
        _ => right,
    }
}

fn tokens(query: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if first == '"' {
            let end = rest[1..].find('"').unwrap_or_else(|| panic!("an open string in {query}")) + 2;
            tokens.push(Token::Text(rest[1..end - 1].to_owned()));
            end
        } else if first == '[' {
            // A range.
            rest.find(']').unwrap_or_else(|| panic!("an open range in {query}")) + 1
        } else if first.is_ascii_alphanumeric() || matches!(first, '_' | ':' | '.') {
            let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            end
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.unwrap_or_else(|| panic!("{first:?} in {query}"));
            tokens.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[end..].trim_start();
    }
    tokens
}

const SETS: [&str; 3] = [" and ", " or ", " unless "];
const COMPARISONS: [&str; 6] = ["==", "!=", ">=", "<=", ">", "<"];
const SIGNS: [&str; 19] =
    ["=~", "!~", "==", "!=", ">=", "<=", ">", "<", "=", "(", ")", "{", "}", ",", "+", "-", "*", "/", "%"];
/// A list of labels follows.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 14] = [
    "and", "or", "unless", "bool", "offset", "sum", "min", "max", "avg", "count", "group", "stddev", "topk", "quantile",
];

#[test]
fn what_a_query_asks_for_is_read() {
    let query = r#"sum by (job, le) (rate(a_total{x="1", y=~"b|c"}[5m])) / (up > 0.1) and on (job) c{} == 1"#;
    let read = read(query);
    let matcher = |label: &str, operator: &str, value: &str| (label.to_owned(), operator.to_owned(), value.to_owned());
    let selector = |metric: &str, matchers| Selector { metric: metric.to_owned(), matchers };
    let a = selector("a_total", vec![matcher("x", "=", "1"), matcher("y", "=~", "b|c")]);
    assert_eq!(read.selectors, [a, selector("up", Vec::new()), selector("c", Vec::new())]);
    assert_eq!(read.grouped, ["job", "le", "job"]);
}

#[test]
fn a_query_is_split_where_it_compares_and_nowhere_else() {
    for (query, parts) in [
        ("a", &["a"][..]),
        ("a > 0.8", &["a"]),
        ("(a / (b > 0.1)) > 0.5 and on (job) c{x=\"1 > 2\"} == 1", &["a / (b > 0.1)", "c{x=\"1 > 2\"}"]),
        ("max by (x) (a) != min by (x) (a)", &["max by (x) (a)", "min by (x) (a)"]),
        ("(a) + (b) < 1", &["(a) + (b)"]),
        ("absent(up{job=\"x\"})", &["up{job=\"x\"}"]),
        ("count(a) or vector(0)", &["count(a)", "vector(0)"]),
    ] {
        assert_eq!(sides(query), parts, "{query}");
    }
}
