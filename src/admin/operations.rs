//! Value: the operations of the admin API, in one table: what is routed, what `Allow` says, and what `openapi` describes.
//!
//! Nothing is answered that does not stand here. Not here: answers (`api`).

use hyper::Method;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Dashboard,
    DashboardFile,
    Metrics,
    Alive,
    Ready,
    Status,
    Services,
    Pools,
    Config,
    Dump,
    Explain,
    Events,
    Diagnostics,
    OpenApi,
    Reload,
    Upgrade,
    Compare,
    Drain,
    Maintain,
    Restore,
    Weight,
}

/// One path, which takes one method; HEAD goes where GET does.
#[derive(Debug)]
pub struct Operation {
    pub action: Action,
    pub does: Does,
    /// `{name}` stands for one segment.
    pub path: &'static str,
    pub summary: &'static str,
    pub reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Nothing: it is a GET.
    Read,
    /// Nothing, and takes a document: it is a POST all the same.
    Judge,
    /// Something, by POST, and is logged with who asked and what came of it.
    Change,
}

/// Who gets an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On the admin listener, with its token where there is one.
    Operator,
    /// There too, and without the token: the page that asks for it.
    Visitor,
    /// As an operator, and on the metrics listener, where nobody is asked who he is.
    Scraper,
    /// As a visitor, and on the metrics listener: whoever checks whether the process lives knows no token.
    Anybody,
}

impl Reach {
    pub const fn needs_token(self) -> bool {
        matches!(self, Reach::Operator | Reach::Scraper)
    }

    pub const fn is_of_metrics(self) -> bool {
        matches!(self, Reach::Scraper | Reach::Anybody)
    }
}

const fn read(action: Action, path: &'static str, summary: &'static str) -> Operation {
    Operation { action, does: Does::Read, path, summary, reach: Reach::Operator }
}

const fn change(action: Action, path: &'static str, summary: &'static str) -> Operation {
    Operation { action, does: Does::Change, path, summary, reach: Reach::Operator }
}

/// All there are.
pub static OPERATIONS: &[Operation] = &[
    Operation { reach: Reach::Visitor, ..read(Action::Dashboard, "/", "The dashboard: a page that shows all this") },
    Operation { reach: Reach::Visitor, ..read(Action::DashboardFile, "/dashboard/{file}", "A file of that page") },
    Operation { reach: Reach::Anybody, ..read(Action::Alive, "/healthz", "Whether the process lives") },
    Operation { reach: Reach::Anybody, ..read(Action::Ready, "/readyz", "Whether traffic is taken") },
    Operation { reach: Reach::Scraper, ..read(Action::Metrics, "/metrics", "Metrics, for Prometheus") },
    read(Action::Status, "/api/status", "Everything that `strata status` shows"),
    read(Action::Services, "/api/services", "Services, with their counts"),
    read(Action::Pools, "/api/pools", "Pools, with the state of their endpoints"),
    read(Action::Config, "/api/config", "The configuration in force, defaults filled in and secrets masked"),
    read(Action::Dump, "/api/dump", "The same, with the file and line of each value"),
    read(Action::Explain, "/api/explain", "What becomes of a request or a packet, and why"),
    read(Action::Events, "/api/events", "The last changes and their causes, oldest first"),
    read(
        Action::Diagnostics,
        "/api/diagnostics",
        "Warnings of the configuration in force, and mistakes of the one last refused",
    ),
    read(Action::OpenApi, "/api/openapi.json", "This description"),
    change(Action::Reload, "/api/reload", "Read the file again; answers when it is in force or refused"),
    change(Action::Upgrade, "/api/upgrade", "Have a new process take over; answers when it serves, or cannot"),
    Operation { does: Does::Judge, ..change(Action::Compare, "/api/diff", "What a reload would change") },
    change(Action::Drain, "/api/pools/{pool}/endpoints/{endpoint}/drain", "No new work for an endpoint"),
    change(
        Action::Maintain,
        "/api/pools/{pool}/endpoints/{endpoint}/maintain",
        "Take an endpoint out, and do not probe it",
    ),
    change(
        Action::Restore,
        "/api/pools/{pool}/endpoints/{endpoint}/restore",
        "Give an endpoint back what the file says",
    ),
    change(
        Action::Weight,
        "/api/pools/{pool}/endpoints/{endpoint}/weight",
        "Set an endpoint's weight until the file changes it",
    ),
];

impl Action {
    /// What a description and the log call it.
    pub const fn word(self) -> &'static str {
        match self {
            Action::Dashboard => "dashboard",
            Action::DashboardFile => "dashboard-file",
            Action::Metrics => "metrics",
            Action::Alive => "alive",
            Action::Ready => "ready",
            Action::Status => "status",
            Action::Services => "services",
            Action::Pools => "pools",
            Action::Config => "config",
            Action::Dump => "dump",
            Action::Explain => "explain",
            Action::Events => "events",
            Action::Diagnostics => "diagnostics",
            Action::OpenApi => "openapi",
            Action::Reload => "reload",
            Action::Upgrade => "upgrade",
            Action::Compare => "diff",
            Action::Drain => "drain",
            Action::Maintain => "maintain",
            Action::Restore => "restore",
            Action::Weight => "weight",
        }
    }
}

impl Operation {
    /// Which operation a path is, and what stands for its `{name}`s.
    pub fn find(segments: &[String]) -> Option<(&'static Operation, Vec<&str>)> {
        OPERATIONS.iter().find_map(|operation| Some((operation, operation.names(segments)?)))
    }

    fn names<'s>(&self, segments: &'s [String]) -> Option<Vec<&'s str>> {
        let mut names = Vec::new();
        let mut wanted = self.path.split('/').skip(1);
        for segment in segments {
            let wanted = wanted.next()?;
            if wanted.starts_with('{') {
                names.push(segment.as_str());
            } else if wanted != segment {
                return None;
            }
        }
        wanted.next().is_none().then_some(names)
    }

    pub fn takes(&self, method: &Method) -> bool {
        match self.does {
            Does::Read => *method == Method::GET || *method == Method::HEAD,
            Does::Judge | Does::Change => *method == Method::POST,
        }
    }

    /// For the field of this name.
    pub fn allow(&self) -> &'static str {
        match self.does {
            Does::Read => "GET, HEAD",
            Does::Judge | Does::Change => "POST",
        }
    }
}
