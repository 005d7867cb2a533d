//! What words a label may have: the closed lists of the code, for the page of metrics and for whoever asks for a word.

use strata::admin::Why;
use strata::base::Reason;
use strata::health::{Health, Intent};
use strata::net::pressure::Resource;
use strata::observe::cells::UpstreamError;
use strata::observe::packets::Lost;
use strata::seam::source::{Refusal, Trouble};
use strata::state::{Family, Io};
use strata::wire::http1::Reject;
use strata::{balance, probe, source};

/// The words of `label` on `metric`; `None` where they are names, addresses or numbers of the configuration or of a request.
pub fn of(metric: &str, label: &str) -> Option<Vec<&'static str>> {
    let packets = || Reason::ALL.iter().filter(|reason| reason.is_of_packets()).map(|reason| reason.word());
    Some(match (label, metric) {
        ("mode", _) => vec!["l2", "l3", "l4", "l7"],
        ("engine", _) => vec!["http", "proxy", Io::Ring.engine(), Io::AfXdp.engine(), Io::Pnet.engine(), "none"],
        ("family", _) => Family::ALL.map(Family::word).to_vec(),
        ("intent", _) => Intent::ALL.map(Intent::word).to_vec(),
        ("health", _) => Health::ALL.map(Health::word).to_vec(),
        ("balance", _) => balance::CATALOG.iter().map(|spec| spec.grammar.name).collect(),
        ("probe", _) => probe::CATALOG.iter().map(|spec| spec.grammar.name).chain(["none"]).collect(),
        ("kind", metric) if metric.starts_with("strata_source_") => {
            source::CATALOG.iter().map(|spec| spec.grammar.name).collect()
        }
        ("reason", "strata_source_refused") => Refusal::ALL.map(Refusal::word).to_vec(),
        ("reason", "strata_source_failures_total") => Trouble::ALL.map(Trouble::word).to_vec(),
        ("kind", _) => UpstreamError::ALL.map(UpstreamError::word).to_vec(),
        ("resource", _) => Resource::ALL.map(Resource::word).to_vec(),
        ("log", _) => vec!["access", "program"],
        ("result", _) => vec!["passed", "failed", "impossible"],
        ("protocol", "strata_requests_total") => vec!["http1"],
        ("protocol", _) => vec!["tcp", "udp"],
        ("reason", "strata_admin_requests_refused_total") => Why::ALL.iter().map(|why| why.word()).collect(),
        ("reason", "strata_interface_frames_lost_total") => Lost::ALL.iter().map(|why| why.word()).collect(),
        ("reason", "strata_stray_packets_dropped_total") => packets().collect(),
        ("reason", "strata_drops_total") => {
            let words = Reason::ALL.iter().map(|reason| reason.word());
            words.chain(Reject::ALL.iter().map(|reject| reject.word())).collect()
        }
        _ => return None,
    })
}
