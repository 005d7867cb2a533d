//! Value: the story as a tired person reads it: one thing a line, its name before it, what was decided marked with `>`.

use std::fmt::{self, Display, Formatter, Write as _};

use super::story::{Candidate, Choice, Fate, Other, PoolTold, RouteTold, Sent, Story, Verdict};

impl Display for Story {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let imagined = if self.from_imagined { " (somebody: --from says who)" } else { "" };
        match &self.request {
            Some(request) => writeln!(f, "request   {}", request.asked)?,
            None => writeln!(f, "connection")?,
        }
        writeln!(f, "from      {}{imagined}", self.from)?;
        if let Some(listener) = &self.listener {
            let how = if listener.reached { "" } else { " (not by this address: the service was named)" };
            writeln!(f, "listener  {}{how}", listener.address)?;
        }
        if let Some(service) = &self.service {
            writeln!(f, "service   {}: {}", service.name, service.mode)?;
        }
        self.routes(f)?;
        if let Some(sent) = &self.sent {
            show_sent(f, sent)?;
        }
        if let Some(pool) = &self.pool {
            show_pool(f, pool, self.choice.as_ref())?;
        }
        if let Some(choice) = &self.choice {
            show_choice(f, choice, self.pool.as_ref())?;
        }
        show_verdict(f, self)?;
        match (self.live, self.generation) {
            (true, Some(generation)) => writeln!(f, "\nas it is now, in generation {generation}"),
            (true, None) => writeln!(f, "\nas it is now"),
            (false, _) => writeln!(f, "\n{IMAGINED}"),
        }
    }
}

impl Story {
    fn routes(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let place =
            |file: &str, line: u32| if file.is_empty() { format!("line {line}") } else { format!("{file}:{line}") };
        let lead = |url: &str, priority: i64| {
            if priority == 0 { url.to_owned() } else { format!("{url} (priority {priority})") }
        };
        let mut rows: Vec<[String; 4]> = Vec::new();
        if let Some(RouteTold { url, priority, pool, file, line, why, .. }) = &self.route {
            rows.push([lead(url, *priority), format!("pool {pool}"), place(file, *line), format!("wins: {why}")]);
        }
        for Other { url, priority, pool, file, line, fate, why } in &self.others {
            let why = if *fate == Fate::Loses { format!("loses: {why}") } else { format!("misses: {why}") };
            rows.push([lead(url, *priority), format!("pool {pool}"), place(file, *line), why]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        for (number, [url, pool, place, why]) in rows.iter().enumerate() {
            let head = if number == 0 { "route" } else { "" };
            let mark = if number == 0 && self.route.is_some() { '>' } else { ' ' };
            let [a, b, c] = widths;
            writeln!(f, "{head:7} {mark} {url:a$}  {pool:b$}  {place:c$}  {why}")?;
        }
        match self.others_left_out {
            0 => Ok(()),
            more => writeln!(f, "          and {more} more that lose or nearly match"),
        }
    }
}

fn show_sent(f: &mut Formatter<'_>, sent: &Sent) -> fmt::Result {
    let changed = if sent.line_changed { " (not as the client wrote it)" } else { "" };
    writeln!(f, "sends     {}{changed}", sent.line)?;
    let signed = sent.removed.iter().map(|line| ('-', line)).chain(sent.added.iter().map(|line| ('+', line)));
    for (sign, line) in signed {
        writeln!(f, "        {sign} {line}")?;
    }
    if sent.trusted {
        writeln!(f, "          the client is one of `trusted_proxies`: what it says of its own clients is kept")?;
    }
    Ok(())
}

fn show_pool(f: &mut Formatter<'_>, pool: &PoolTold, choice: Option<&Choice>) -> fmt::Result {
    let PoolTold { name, balance, usable, serving, most_in_flight, endpoints } = pool;
    writeln!(f, "pool      {name}: {balance}, {usable} of {} usable", endpoints.len())?;
    for word in serving {
        writeln!(f, "          {}", unusual(word))?;
    }
    if let Some(most) = most_in_flight {
        writeln!(f, "          each carries at most {most} at once; what does not fit waits, or is refused")?;
    }
    let picked = choice.and_then(|choice| choice.endpoint.as_deref());
    let shown: Vec<&Candidate> = endpoints
        .iter()
        .enumerate()
        .filter(|(number, endpoint)| *number < SHOWN || picked == Some(&*endpoint.name))
        .map(|(_, endpoint)| endpoint)
        .collect();
    let name_width = shown.iter().map(|endpoint| endpoint.name.len()).max().unwrap_or(0);
    let states: Vec<String> = shown.iter().map(|e| format!("{}, {}", e.intent, e.health)).collect();
    let state_width = states.iter().map(String::len).max().unwrap_or(0);
    for (endpoint, state) in shown.iter().zip(&states) {
        let mark = if picked == Some(&*endpoint.name) { '>' } else { ' ' };
        let facts = facts(endpoint, serving, picked.is_some());
        writeln!(f, "        {mark} {:name_width$}  {state:state_width$}  {facts}", endpoint.name)?;
    }
    match endpoints.len() - shown.len() {
        0 => Ok(()),
        more => writeln!(f, "          and {more} more (--json has all)"),
    }
}

/// What there is to say of an endpoint. Its chance says nothing where the choice is `certain`.
fn facts(endpoint: &Candidate, serving: &[String], certain: bool) -> String {
    let mut text = match endpoint.weight_now {
        Some(now) => format!("weight {now:.1} of {}, warming up", endpoint.weight),
        None => format!("weight {}", endpoint.weight),
    };
    // Writing to a String cannot fail.
    if let Some(in_flight) = endpoint.in_flight {
        let _ = write!(text, "  in flight {in_flight}");
    }
    if let (Some(score), Some(name)) = (endpoint.score, &endpoint.score_name) {
        let score = if score >= 100.0 { format!("{score:.0}") } else { format!("{score:.3}") };
        let score = if score.contains('.') { score.trim_end_matches('0').trim_end_matches('.') } else { &score };
        let unit = endpoint.score_unit.as_ref().map(|unit| format!(" {unit}")).unwrap_or_default();
        let _ = write!(text, "  {name} {score}{unit}");
    }
    if endpoint.usable && !certain {
        let _ = match endpoint.chance {
            chance if chance >= 1.0 => write!(text, "  about {chance:.0} %"),
            chance if chance > 0.0 => write!(text, "  under 1 %"),
            _ => write!(text, "  never"),
        };
    }
    let is = |word: &str| serving.iter().any(|serving| serving == word);
    let fit = endpoint.intent == "ready" && endpoint.health == "up";
    if let Some(zone) = &endpoint.zone {
        let _ = write!(text, "  zone {zone}");
    }
    if endpoint.backup {
        text.push_str("  backup");
    }
    if endpoint.trial {
        text.push_str("  on trial: one at a time");
    }
    if endpoint.full {
        text.push_str("  full");
    }
    match (endpoint.usable, fit) {
        (true, _) => {}
        (false, true) if endpoint.backup != is("backup") => text.push_str(", stands by"),
        (false, true) if is("local") => text.push_str(", stands by"),
        (false, _) => text.push_str("  not usable"),
    }
    if let Some(cause) = endpoint.cause.as_ref().filter(|_| !endpoint.usable) {
        let _ = write!(text, ": {cause}");
    }
    text
}

fn unusual(word: &str) -> &'static str {
    match word {
        "panic" => "panic: so few are usable that all serve but what the operator took out",
        "backup" => "no primary is usable: backups serve",
        _ => "enough of this node's zone are usable: only they serve",
    }
}

fn show_choice(f: &mut Formatter<'_>, choice: &Choice, pool: Option<&PoolTold>) -> fmt::Result {
    match &choice.endpoint {
        Some(endpoint) => writeln!(f, "choice    {endpoint}, certain")?,
        None => {
            let possible = pool.map_or(0, |pool| pool.endpoints.iter().filter(|e| e.chance > 0.0).count());
            writeln!(f, "choice    one of {possible}, by chance")?;
        }
    }
    match &choice.key {
        Some(key) => writeln!(f, "          {}: {key}", choice.how)?,
        None => writeln!(f, "          {}", choice.how)?,
    }
    for note in &choice.notes {
        writeln!(f, "          {note}")?;
    }
    Ok(())
}

fn show_verdict(f: &mut Formatter<'_>, story: &Story) -> fmt::Result {
    let Verdict { action, why, status, meaning, way_out } = &story.verdict;
    let to = match (&story.choice, &story.pool) {
        (Some(Choice { endpoint: Some(endpoint), .. }), _) => format!(": to {endpoint}"),
        (Some(_), Some(pool)) => format!(": to pool {}", pool.name),
        _ => String::new(),
    };
    let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let status = status.map(|status| format!(", status {status}")).unwrap_or_default();
    writeln!(f, "verdict   {action}{to}{why}{status}")?;
    if let Some(meaning) = meaning {
        writeln!(f, "          {meaning}")?;
    }
    if let Some(way_out) = way_out {
        writeln!(f, "way out   {way_out}")?;
    }
    Ok(())
}

/// Endpoints that are shown.
const SHOWN: usize = 16;
const IMAGINED: &str =
    "imagined, for a file does not say it: every endpoint is up and idle; --live asks the running Strata";
