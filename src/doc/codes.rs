//! Value: the code of every mistake a configuration can hold. Codes are stable: they are never reused for another
//! meaning, and the reference pages are made from this table.

use super::diagnostic::Severity;

#[derive(Debug)]
pub struct Code {
    /// `E` and three digits for an error, `W` and three digits for a warning.
    pub id: &'static str,
    /// One line: what is wrong in general, and why it matters.
    pub explain: &'static str,
    /// The mistake is that something is absent. Such a finding is dropped when the file has syntax errors: what is
    /// absent may stand in the part that could not be read.
    pub absence: bool,
}

impl Code {
    const fn new(id: &'static str, explain: &'static str) -> Code {
        Code { id, explain, absence: false }
    }

    const fn absence(id: &'static str, explain: &'static str) -> Code {
        Code { id, explain, absence: true }
    }

    pub fn severity(&self) -> Severity {
        if self.id.starts_with('W') { Severity::Warning } else { Severity::Error }
    }
}

/// The code with this id.
pub fn find(id: &str) -> Option<&'static Code> {
    CODES.iter().copied().find(|code| code.id == id)
}

// What the text is: `doc`.
pub static SYNTAX: Code = Code::new("E001", "the text is not valid TOML");
pub static NOT_UTF8: Code = Code::new("E002", "the file is not UTF-8 text");
pub static TOO_LARGE: Code = Code::new("E003", "the file is larger than any configuration should be");
pub static DUPLICATE_KEY: Code = Code::new("E004", "a key or a table is defined twice");
pub static TOO_MANY: Code = Code::new("E005", "more mistakes than are worth showing; the rest are left out");

// What a key holds: `doc`.
pub static UNKNOWN_KEY: Code =
    Code::new("E010", "a key that Strata does not know here; a typo would otherwise be silent");
pub static MISSING_KEY: Code = Code::absence("E011", "a key that must be given is absent");
pub static WRONG_KIND: Code = Code::new("E012", "a value of another kind than the key takes");
pub static OUT_OF_BOUNDS: Code = Code::new("E013", "a number, duration or size outside of what makes sense");
pub static MALFORMED: Code = Code::new("E014", "a text that does not read as what the key takes");
pub static UNKNOWN_WORD: Code = Code::new("E015", "a word or type that is not one of those the key takes");
pub static NOT_YET: Code = Code::new("E016", "something that Strata is designed to do but does not do yet");
pub static MISPLACED: Code = Code::new("E017", "a key that means nothing together with another one");

// What it all means: `config`.
pub static UNKNOWN_POOL: Code = Code::absence("E020", "a reference to a pool that is not defined");
pub static LISTEN_TAKEN: Code =
    Code::new("E021", "two listeners on addresses that overlap: a connection can have one owner");
pub static ENDPOINT_PORT: Code =
    Code::new("E022", "an endpoint without a port: proxies connect to an address and a port");
pub static PORT_ZERO: Code = Code::new("E023", "port 0 where a fixed port is needed");
pub static NO_ROUTE: Code = Code::absence("E024", "an l7 service without a route: every request would be refused");
pub static SAME_ROUTE: Code =
    Code::new("E025", "two routes of one service with the same url and priority: the second never wins");
pub static ADMIN_EXPOSED: Code =
    Code::new("E026", "the admin API on an address that others can reach, without a token");
pub static KEY_NEEDS_HTTP: Code =
    Code::new("E027", "a pool picks by something of an HTTP request but is used by a service that sees none");
pub static TOO_MANY_NAMES: Code =
    Code::new("E028", "more services, pools, endpoints or the like than the limits allow");
pub static BAD_URL: Code =
    Code::new("E029", "a route's url that is not host, path or both, or has a * where it cannot be");
pub static BAD_NAME: Code =
    Code::new("E030", "a service's, pool's or vip's name that would not do as a metric label or a URL");
pub static BAD_HASH_KEY: Code = Code::new("E031", "a cluster hash key that is not 16 bytes");
pub static ENDPOINT_NAME: Code = Code::new("E032", "an endpoint given by name: it has to be an address for now");
pub static WRONG_MODE: Code = Code::new("E033", "a key of another mode than the service's");
pub static LOOP: Code = Code::new("E034", "an endpoint that is the service's own listener, or a VIP of ours");
pub static UNKNOWN_VIP: Code = Code::absence("E035", "a reference to a vip that is not defined");
pub static SAME_VIP: Code =
    Code::new("E036", "an address that is given to a VIP twice: it has one owner and one place");
pub static VIP_LISTEN: Code = Code::new(
    "E037",
    "a listener on the address of a VIP: packet services take all that comes there, the kernel sees none of it",
);
pub static PORTS_TAKEN: Code =
    Code::new("E038", "ports of one VIP that two services take, or one twice: a packet can have one owner");
pub static MIXED_POOL: Code =
    Code::new("E039", "a pool of both proxies and packet services: what they need of an endpoint differs");
pub static NEEDS_COUNTS: Code = Code::new(
    "E040",
    "an algorithm that needs live counts in a pool of packet services, which count nothing in flight",
);
pub static FAMILY: Code =
    Code::new("E041", "an address whose family, IPv4 or IPv6, does not go with that of what it belongs to");
pub static KEPT_PORT: Code = Code::new(
    "E042",
    "an endpoint with a port in a pool of an l2 or l3 service, which keep the port that clients name",
);
pub static PROBE_PORT: Code = Code::new("E043", "a probe that connects, without a port, of endpoints without one");
pub static NOT_PRIME: Code =
    Code::new("E044", "a number of slots that is not a prime: an endpoint's walk over the table would miss some");
pub static NAT_REPLIES: Code =
    Code::new("E045", "nat of several ports to an endpoint's one: it could not tell which of them a reply is for");
pub static BAD_SOURCE: Code = Code::new("E046", "a source of full NAT that is a VIP or an endpoint, or is given twice");
pub static TAGGED: Code = Code::new(
    "E047",
    "a VIP whose frames have a VLAN tag, with what needs the kernel to know that VLAN: it would not work",
);

// What stands outside of the text: `doc`.
pub static NO_VARIABLE: Code = Code::new("E048", "an environment variable that is not set, and has no default here");
pub static BAD_VARIABLE: Code = Code::new("E049", "a `${…}` that does not read as a variable");
pub static BAD_INCLUDE: Code =
    Code::new("E050", "an include that cannot be read, stands in an included file, or has a `*` in a folder's name");
pub static TWO_FILES: Code =
    Code::new("E051", "a table, key or name that two files give: one of them would silently win");
pub static BAD_SECRET_FILE: Code =
    Code::new("E052", "the file of a secret that cannot be read, is empty, too large or no text");

pub static TEST_FAILED: Code =
    Code::new("E060", "a [[test]] of the file itself that fails: it does not do what its author says it does");
pub static BAD_TOKEN: Code =
    Code::new("E061", "a token of the admin API that can be guessed, or cannot be sent in a header");

pub static UNUSED_POOL: Code = Code::absence("W001", "a pool that no service uses");
pub static EMPTY_POOL: Code = Code::absence("W002", "a pool without endpoints: it answers 503 or closes");
pub static SAME_ENDPOINT: Code = Code::new("W003", "an endpoint named twice in one pool; the second is ignored");
pub static SHADOWED_ROUTE: Code =
    Code::new("W004", "a route that can never win because an earlier one takes all its requests");
pub static RANDOM_HASH_KEY: Code =
    Code::absence("W005", "a pool picks by hash but the key is random: a restart moves clients to other endpoints");
pub static NO_SERVICE: Code = Code::absence("W006", "a configuration without a service: nothing is served");
pub static PROBE_TIMEOUT: Code = Code::new(
    "W007",
    "a probe's timeout is longer than its interval: probes would overlap, so it is cut to the interval",
);
pub static IGNORED_WEIGHT: Code =
    Code::new("W008", "a weight, or a slow start, in a pool whose algorithm does not look at weights");
pub static TOO_MANY_WARNINGS: Code = Code::new("W009", "more warnings than are worth showing; the rest are left out");
pub static UNUSED_VIP: Code = Code::absence("W010", "a vip that no service uses");
pub static FEW_SLOTS: Code = Code::new("W011", "fewer than 100 slots for each endpoint: shares are uneven");
pub static LARGE_TABLES: Code =
    Code::new("W012", "tables of all services that outgrow a core's cache: every packet waits for memory");
pub static IGNORED_AFFINITY: Code =
    Code::new("W013", "affinity by packet where every port is TCP's: a connection stays together all the same");
pub static SHUT_IN: Code =
    Code::new("W014", "nat without ports: endpoints can send nothing but replies and pings through this machine");
pub static EMPTY_INCLUDE: Code = Code::new("W015", "an include that matches no file");
pub static PUBLIC_SECRET: Code = Code::new("W016", "the file of a secret that everybody on the machine can read");
pub static MASKED_SECRET: Code =
    Code::new("W017", "a secret that is only stars, as a dump shows it: everybody can know it");
/// Of a running process, not of a file.
pub static MASKED_CLIENTS: Code =
    Code::new("W018", "every client of a service seems to be this host's gateway: their addresses are lost on the way");
/// Of a running process as well: what sources have found is no part of a file.
pub static TEST_FAILS_BY_FOUND: Code =
    Code::new("W019", "a [[test]] that holds by the file alone, and fails with what sources have found");
/// Of a running process as well.
pub static NO_WAY: Code = Code::new(
    "W020",
    "this machine has no way to an endpoint under NAT, or in any packet mode one that carries no frames",
);

/// Every code, in order.
pub static CODES: &[&Code] = &[
    &SYNTAX,
    &NOT_UTF8,
    &TOO_LARGE,
    &DUPLICATE_KEY,
    &TOO_MANY,
    &UNKNOWN_KEY,
    &MISSING_KEY,
    &WRONG_KIND,
    &OUT_OF_BOUNDS,
    &MALFORMED,
    &UNKNOWN_WORD,
    &NOT_YET,
    &MISPLACED,
    &UNKNOWN_POOL,
    &LISTEN_TAKEN,
    &ENDPOINT_PORT,
    &PORT_ZERO,
    &NO_ROUTE,
    &SAME_ROUTE,
    &ADMIN_EXPOSED,
    &KEY_NEEDS_HTTP,
    &TOO_MANY_NAMES,
    &BAD_URL,
    &BAD_NAME,
    &BAD_HASH_KEY,
    &ENDPOINT_NAME,
    &WRONG_MODE,
    &LOOP,
    &UNKNOWN_VIP,
    &SAME_VIP,
    &VIP_LISTEN,
    &PORTS_TAKEN,
    &MIXED_POOL,
    &NEEDS_COUNTS,
    &FAMILY,
    &KEPT_PORT,
    &PROBE_PORT,
    &NOT_PRIME,
    &NAT_REPLIES,
    &BAD_SOURCE,
    &TAGGED,
    &NO_VARIABLE,
    &BAD_VARIABLE,
    &BAD_INCLUDE,
    &TWO_FILES,
    &BAD_SECRET_FILE,
    &TEST_FAILED,
    &BAD_TOKEN,
    &UNUSED_POOL,
    &EMPTY_POOL,
    &SAME_ENDPOINT,
    &SHADOWED_ROUTE,
    &RANDOM_HASH_KEY,
    &NO_SERVICE,
    &PROBE_TIMEOUT,
    &IGNORED_WEIGHT,
    &TOO_MANY_WARNINGS,
    &UNUSED_VIP,
    &FEW_SLOTS,
    &LARGE_TABLES,
    &IGNORED_AFFINITY,
    &SHUT_IN,
    &EMPTY_INCLUDE,
    &PUBLIC_SECRET,
    &MASKED_SECRET,
    &MASKED_CLIENTS,
    &TEST_FAILS_BY_FOUND,
    &NO_WAY,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_in_order_and_explained_in_one_line() {
        for pair in CODES.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} before {}", pair[0].id, pair[1].id);
        }
        for code in CODES {
            let (letter, digits) = code.id.split_at(1);
            assert!(matches!(letter, "E" | "W") && digits.len() == 3 && digits.parse::<u16>().is_ok(), "{}", code.id);
            assert!(!code.explain.ends_with('.') && !code.explain.contains('\n'), "{}", code.id);
            assert!(find(code.id).is_some_and(|found| std::ptr::eq(found, *code)));
        }
        assert!(find("E999").is_none());
    }
}
