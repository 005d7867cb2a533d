//! Value: why a request to the admin API or the metrics listener is not answered with what it asked for, and how often that was.
//!
//! One word says why, and is the `reason` of `strata_admin_requests_refused_total`; the status follows from it. Not here: who may
//! ask what (`api`). A reload or a comparison that finds mistakes is no refusal: it did what was asked, and its answer says them.

use super::control::Refused;
use super::document::Problem;
use crate::doc::suggest;
use crate::observe::cells::Counter;

macro_rules! whys {
    ($(#[doc = $meaning:literal] $name:ident = $word:literal, $status:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Why { $(#[doc = $meaning] $name),* }

        impl Why {
            pub const ALL: &'static [Why] = &[$(Why::$name),*];

            pub const fn word(self) -> &'static str {
                match self { $(Why::$name => $word),* }
            }

            /// What it means, one line for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Why::$name => $meaning.trim_ascii()),* }
            }

            pub const fn status(self) -> u16 {
                match self { $(Why::$name => $status),* }
            }
        }
    };
}

whys! {
    /// Its Host is no name of this machine: a browser that was talked into it, or a proxy before the API.
    Host = "host", 403;
    /// A web page of another origin would have changed something.
    Origin = "origin", 403;
    /// It would have changed something, and the API is read-only.
    ReadOnly = "read-only", 403;
    /// It brought no token, and one is asked for.
    NoToken = "no-token", 401;
    /// It brought another token than the right one.
    WrongToken = "wrong-token", 401;
    /// Its body says of itself that it is no JSON, as a form of a web page does.
    ContentType = "content-type", 415;
    /// There is nothing at this path, or no pool or endpoint of this name.
    NotFound = "not-found", 404;
    /// The path takes another method.
    Method = "method", 405;
    /// What it says is not understood.
    BadRequest = "bad-request", 400;
    /// Its body is larger than any that is asked for.
    BodyTooLarge = "body-too-large", 413;
    /// Its body did not arrive in time.
    BodyTimeout = "body-timeout", 408;
    /// It was understood, and cannot be done now, or not to this object.
    Conflict = "conflict", 409;
    /// The process is stopping.
    Stopping = "stopping", 503;
}

/// How often each was the answer. One thread writes.
#[derive(Debug, Default)]
pub struct RefusalCounts([Counter; Why::ALL.len()]);

impl RefusalCounts {
    pub fn count(&self, why: Why) {
        self.0[why as usize].one();
    }

    pub fn of(&self, why: Why) -> u64 {
        self.0[why as usize].get()
    }
}

/// An answer that is none.
#[derive(Debug)]
pub struct Refusal {
    pub why: Why,
    pub problem: Problem,
    /// A field that this status comes with.
    pub field: Option<(&'static str, &'static str)>,
}

impl Refusal {
    pub fn new(why: Why, error: impl Into<String>) -> Refusal {
        Refusal { why, problem: Problem { error: error.into(), help: None }, field: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Refusal {
        self.problem.help = Some(help.into());
        self
    }

    pub fn not_found() -> Refusal {
        Refusal::new(Why::NotFound, "there is nothing here")
    }

    pub fn method(allow: &'static str) -> Refusal {
        let refusal = Refusal::new(Why::Method, format!("this takes {allow} only"));
        Refusal { field: Some(("allow", allow)), ..refusal }
    }

    /// RFC 6750 §3: no error code where nothing was given.
    pub fn unauthorised(given: bool) -> Refusal {
        let (why, error, challenge) = match given {
            true => {
                let challenge = "Bearer realm=\"strata\", error=\"invalid_token\"";
                (Why::WrongToken, "this is not the token of the admin API", challenge)
            }
            false => (Why::NoToken, "the admin API wants its token", "Bearer realm=\"strata\""),
        };
        let refusal = Refusal::new(why, error);
        Refusal { field: Some(("www-authenticate", challenge)), ..refusal }
            .help("send `Authorization: Bearer TOKEN`; commands take `--token-file FILE` or STRATA_ADMIN_TOKEN")
    }

    pub fn unknown(kind: &str, name: &str, known: &[&str]) -> Refusal {
        let refusal = Refusal::new(Why::NotFound, format!("there is no {kind} `{name}`"));
        match suggest::nearest(name, known.iter().copied()) {
            Some(near) => refusal.help(format!("did you mean `{near}`?")),
            None if known.len() <= LISTED => {
                refusal.help(format!("there is {}", suggest::one_of(known.iter().copied())))
            }
            None => refusal,
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        match refused {
            Refused::Unknown => Refusal::new(Why::NotFound, "the endpoint has just left the configuration"),
            Refused::Because(why) => Refusal::new(Why::Conflict, why),
        }
    }
}

/// Names that a help line lists.
const LISTED: usize = 8;
