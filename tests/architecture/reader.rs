//! Reads just enough Rust for the rules: blanks comments and literals, cuts words, expands use trees, resolves `super`.
//!
//! Not here: types, macros' insides, renamed imports.

/// The text with comments, strings and characters as blanks; lines stay where they are.
pub fn blank_comments_and_literals(text: &str) -> String {
    let source: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < source.len() {
        let end = skip_from(&source, at);
        for &c in &source[at..end.max(at + 1)] {
            out.push(if end == at || c == '\n' { c } else { ' ' });
        }
        at = end.max(at + 1);
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn skip_from(source: &[char], at: usize) -> usize {
    let is = |index: usize, c: char| source.get(index) == Some(&c);
    let starts_word = at == 0 || !(source[at - 1].is_alphanumeric() || source[at - 1] == '_');
    match source[at] {
        '/' if is(at + 1, '/') => (at..source.len()).find(|&i| is(i, '\n')).unwrap_or(source.len()),
        '/' if is(at + 1, '*') => {
            let (mut depth, mut i) = (1, at + 2);
            while depth > 0 && i < source.len() {
                match (source[i], source.get(i + 1)) {
                    ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
                    ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
            }
            i
        }
        '"' => quoted(source, at + 1, '"'),
        // A lifetime has no closing quote right after its first character.
        '\'' if is(at + 1, '\\') || is(at + 2, '\'') => quoted(source, at + 1, '\''),
        'b' | 'c' if starts_word && is(at + 1, '"') => quoted(source, at + 2, '"'),
        'b' if starts_word && is(at + 1, '\'') => quoted(source, at + 2, '\''),
        'r' | 'b' | 'c' if starts_word => {
            let mark = if is(at, 'r') { at + 1 } else { at + 2 };
            let hashes = source[mark.min(source.len())..].iter().take_while(|c| **c == '#').count();
            if !(is(mark - 1, 'r') && is(mark + hashes, '"')) {
                return at;
            }
            let closes = |i: usize| is(i, '"') && (1..=hashes).all(|hash| is(i + hash, '#'));
            (mark + hashes + 1..source.len()).find(|&i| closes(i)).map_or(source.len(), |i| i + hashes + 1)
        }
        _ => at,
    }
}

fn quoted(source: &[char], from: usize, quote: char) -> usize {
    let mut i = from;
    while i < source.len() && source[i] != quote {
        i += if source[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(source.len())
}

#[derive(Clone)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// Words, `::` and single signs.
pub fn tokenize(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let length = if word > 0 {
                word
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { text: rest[..length].to_owned(), line: index + 1 });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// The tokens without items under `#[cfg(test)]`: what a test imports binds nothing that ships.
pub fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let marked = tokens[at..].iter().map(|token| token.text.as_str()).take(MARK.len()).eq(MARK);
        if !marked {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        at += MARK.len();
        while at < tokens.len() {
            let sign = tokens[at].text.as_str();
            at += 1;
            match sign {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && (sign == ";" || sign == "}") {
                break;
            }
        }
    }
    kept
}

/// Every path the tokens name, use trees expanded, `self` and `super` resolved to `crate::…`, with the line of its last name.
pub fn paths(tokens: &[Token], module: &[String]) -> Vec<(Vec<String>, usize)> {
    let mut found = Vec::new();
    let mut inline: Vec<(String, usize)> = Vec::new(); // modules opened in this file, with the depth of their braces
    let (mut depth, mut at) = (0, 0);
    while at < tokens.len() {
        let text = tokens[at].text.as_str();
        let follows = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text.as_str());
        let here = || module.iter().cloned().chain(inline.iter().map(|(name, _)| name.clone())).collect::<Vec<_>>();
        match text {
            // `+ use<…>` of a type captures and imports nothing.
            "use" if follows(1) != "<" => {
                let mut trees = Vec::new();
                at = use_tree(tokens, at + 1, &[], &mut trees);
                found.extend(trees.into_iter().map(|(names, line)| (resolve(names, &here()), line)));
                continue;
            }
            "mod" if follows(2) == "{" => inline.push((follows(1).to_owned(), depth + 1)),
            "{" => depth += 1,
            "}" => {
                inline.retain(|(_, opened)| *opened < depth);
                depth -= 1;
            }
            _ if is_name(text) && follows(1) == "::" => {
                let (mut names, mut end) = (vec![text.to_owned()], at + 1);
                while end + 1 < tokens.len() && tokens[end].text == "::" && is_name(&tokens[end + 1].text) {
                    names.push(tokens[end + 1].text.clone());
                    end += 2;
                }
                let is_macro = names.len() == 2 && tokens.get(end).is_some_and(|token| token.text == "!");
                if !is_macro {
                    found.push((resolve(names, &here()), tokens[end - 1].line));
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Expands the use tree at `at`; returns where it ends.
fn use_tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<(Vec<String>, usize)>) -> usize {
    let mut names = prefix.to_vec();
    while at < tokens.len() {
        let token = &tokens[at];
        match token.text.as_str() {
            "{" => {
                at += 1;
                while at < tokens.len() && tokens[at].text != "}" {
                    at = use_tree(tokens, at, &names, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => at += 1, // the new name says nothing
            "::" => {}
            _ => names.push(token.text.clone()),
        }
        at += 1;
    }
    if let Some(last) = at.checked_sub(1).and_then(|last| tokens.get(last)) {
        found.push((names, last.line));
    }
    at
}

fn resolve(names: Vec<String>, here: &[String]) -> Vec<String> {
    let mut base: Vec<String> = here.to_vec();
    let mut rest = names.as_slice();
    if !rest.first().is_some_and(|first| first == "self" || first == "super") {
        return names;
    }
    while let [first, more @ ..] = rest {
        match first.as_str() {
            "self" => {}
            "super" => drop(base.pop()),
            _ => break,
        }
        rest = more;
    }
    std::iter::once("crate".to_owned()).chain(base).chain(rest.iter().cloned()).collect()
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}
