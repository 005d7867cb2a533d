//! Engine: reads `[process]`: what this process may use of its machine, and whom it becomes.

use std::time::Duration;

use super::value::Process;
use crate::base::limits;
use crate::doc::{Item, Table, codes, quote};
use crate::state;

impl Default for Process {
    fn default() -> Process {
        let state::Process { max_connections, max_memory, user, keep_capabilities, upgrade_timeout } =
            state::Process::default();
        Process { max_connections, max_memory, user, keep_capabilities, upgrade_timeout }
    }
}

pub(super) fn read_process(table: &mut Table<'_>) -> Process {
    let count = table.get("max_connections").and_then(|item| item.integer(1, u64::from(u32::MAX)));
    let memory = table.get("max_memory").and_then(|item| item.size(LEAST_MEMORY, MOST_MEMORY));
    let user = table.get("user").and_then(|item| read_user(&item));
    let keep = table.get("keep_capabilities").map(|item| {
        let items = item.one_or_many();
        items.iter().filter_map(|item| item.one_of(CAPABILITIES)).map(|word| word.value).collect()
    });
    let timeout = table.get("upgrade_timeout");
    let timeout = timeout.and_then(|item| item.duration(Duration::from_secs(1), Duration::from_secs(3600)));
    Process {
        max_connections: count.and_then(|count| u32::try_from(count.value).ok()),
        max_memory: memory.map(|memory| memory.value),
        user,
        keep_capabilities: keep.unwrap_or_default(),
        upgrade_timeout: timeout.map_or(state::Process::UPGRADE_TIMEOUT, |timeout| timeout.value),
    }
}

/// A name, or `UID:GID`. Whether the machine has it is found out at start.
fn read_user(item: &Item<'_>) -> Option<String> {
    let text = item.text()?.value;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '$');
    if text.is_empty() || text.len() > limits::NAME_BYTES || !text.chars().all(is_plain) {
        let help = "a name of /etc/passwd, or numbers, as in \"65534:65534\"".to_owned();
        return item.fail(&codes::MALFORMED, format!("{} is no user", quote(text)), Some(help));
    }
    Some(text.to_owned())
}

/// Less than any Strata uses, and a mistake of units.
const LEAST_MEMORY: u64 = 4 * 1024 * 1024;
const MOST_MEMORY: u64 = 1 << 46;
const CAPABILITIES: &[(&str, &str)] = &[
    ("net-bind-service", "NET_BIND_SERVICE"),
    ("net-admin", "NET_ADMIN"),
    ("net-raw", "NET_RAW"),
    ("bpf", "BPF"),
    ("ipc-lock", "IPC_LOCK"),
];
