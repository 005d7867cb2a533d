//! Value: every bound in Strata, with its reason. Nothing on the data path grows past what stands here.

use std::time::Duration;

/// Bytes of a whole request or response head (hardening B14). Beyond: 431, or 414 when the target alone is too long.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Bytes of a request target (hardening B14). RFC 9112 §3 recommends at least 8000.
pub const TARGET_BYTES: usize = 8 * 1024;
/// Fields in a head (hardening B14).
pub const FIELDS: usize = 100;
/// Options that Connection names in one head: each is looked for among all fields.
pub const CONNECTION_OPTIONS: usize = 32;
/// Bytes of a method (hardening B15).
pub const METHOD_BYTES: usize = 32;
/// Bytes of chunk extensions in one body (hardening A21, CVE-2023-39326).
pub const CHUNK_EXTENSION_BYTES: usize = 4 * 1024;
/// Bytes of one trailer section.
pub const TRAILER_BYTES: usize = 8 * 1024;
/// Hexadecimal digits of a chunk size (hardening A19): 16 digits are all of `u64`.
pub const CHUNK_SIZE_DIGITS: usize = 16;
/// Interim (1xx) responses before a final one (hardening A33).
pub const INTERIM_RESPONSES: u32 = 10;
/// Bytes of an unread request body that are drained after an early response before the connection is closed (A29).
pub const EARLY_DRAIN_BYTES: u64 = 64 * 1024;

/// First size of a connection's buffer: holds nearly every head, so an idle or small exchange stays small.
pub const BUFFER_START_BYTES: usize = 4 * 1024;
/// Size a buffer grows to for bulk: 16 KiB costs 1.3 × and 128 KiB 1.6 × the CPU of 64 KiB (`notes/floors.md` §1).
pub const BUFFER_BULK_BYTES: usize = 64 * 1024;
/// A client connection keeps its exchange's memory this long after an answer: two ticks tell a busy client from an idle one.
pub const BUSY_TIME: Duration = Duration::from_millis(100);
/// Exchanges that a worker keeps in this way, some 5 KiB each: a crowd that comes and idles must not leave its memory behind.
pub const WARM_EXCHANGES: usize = 256;
/// Free buffers of each size that a worker keeps.
pub const BUFFERS_KEPT: usize = 256;
/// Bytes that one `splice` moves: a pipe's default size. 1 MiB pipes measured no better (`notes/floors.md` §1).
pub const SPLICE_BYTES: usize = 64 * 1024;
/// Bytes that one direction of a relay carries through buffers before it is spliced: short flows never pay for a pipe.
pub const SPLICE_AFTER_BYTES: u64 = 1024 * 1024;
/// Bytes left of a body of known length from which on it is spliced: from here two copies cost more than a pipe.
pub const SPLICE_BODY_BYTES: u64 = 32 * 1024;
/// Pipes of one worker with bytes in them. Four workers' are what the kernel gives an ordinary user in full size
/// (`fs.pipe-user-pages-soft`); transfers beyond go through buffers.
pub const PIPES: usize = 256;
/// Empty pipes that a worker keeps; each is two descriptors.
pub const PIPES_KEPT: usize = 32;
/// Reads of one direction of a relay before other connections of the worker get their turn: 1 MiB, about 0.3 ms.
pub const RELAY_TURN: u32 = 16;
/// Bytes that a client may still send to an endpoint that takes no more, while it reads the answer.
pub const REFUSED_BYTES: u64 = 64 * 1024;
/// Connections in a row from a gateway of this host after which client addresses seem to be lost: more than a person makes by hand
/// before somebody else comes, less than a minute of traffic.
pub const GATEWAY_CLIENTS: u32 = 50;
/// Connections waiting to be accepted, for each worker's socket. The kernel lowers it to `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Bytes of a configuration, all its files together: 10 000 routes are about 1 MiB, and a wrong file name must not fill the memory.
pub const CONFIG_BYTES: usize = 4 * 1024 * 1024;
/// Files that a configuration may include: one for each service of the largest, and no folder that was not meant.
pub const CONFIG_FILES: usize = 1024;
/// Bytes of a file that a secret stands in: keys and tokens have tens, and a wrong file name must not fill the memory.
pub const SECRET_BYTES: usize = 8 * 1024;
/// Mistakes reported of one file. Nobody reads more, and a binary file would make one a byte.
pub const DIAGNOSTICS: usize = 200;
/// Bytes of a service's or pool's name: it is a metric label and a log word.
pub const NAME_BYTES: usize = 64;
/// Worker threads. Each costs a listener socket for every address.
pub const WORKERS: u64 = 1024;
/// Tests in one configuration. Each costs some µs at every check and reload.
pub const TESTS: usize = 4096;
/// Services, pools and VIPs in one configuration, each: ids are 16 bits, and ids of removed names stay taken.
pub const NAMES: usize = 4096;
/// Endpoints in one pool.
pub const POOL_ENDPOINTS: usize = 4096;
/// Mistakes that are told of what one source has found; the others are counted. Nobody reads more.
pub const SOURCE_MISTAKES: usize = 50;
/// The same, of one container or name: who has mended so many looks again.
pub const MAKER_MISTAKES: usize = 5;
/// Routes of a service that has a source: each finding compiles them anew, 10 000 in some 20 ms.
pub const SOURCE_ROUTES: usize = 10_000;
/// Bytes of an answer's datagram that a name server is told to keep to: it fits every path unfragmented (DNS flag day 2020).
pub const DNS_DATAGRAM: usize = 1232;
/// Pointers in one name of a DNS message: each has to lead further back, and a name has at most 127 parts.
pub const DNS_POINTERS: usize = 127;
/// Aliases from the name that was asked for to the one that has addresses; as in BIND and Unbound.
pub const DNS_ALIASES: usize = 16;
/// Addresses of all hosts that one name's SRV records lead to: four times a pool, so that some may be refused. Each host may have
/// thousands, and there may be thousands of hosts.
pub const DNS_ADDRESSES: usize = 4 * POOL_ENDPOINTS;
/// Hosts of SRV records that are asked for at once.
pub const DNS_AT_ONCE: usize = 16;
/// Bytes of a file of endpoints: the most of them are well below 1 MiB, and a wrong name must not fill the memory.
pub const SOURCE_FILE_BYTES: usize = 4 * 1024 * 1024;
/// Findings that wait for the control thread, of all sources: each is whole, so that a source that waits loses nothing.
pub const SOURCE_QUEUE: usize = 64;
/// Findings that come within this of each other make one generation; and between two generations, at least this passes. Where somebody
/// takes no more work it is known at once, and only the former lies between two generations.
pub const SOURCE_BURST: Duration = Duration::from_millis(50);
pub const SOURCE_PAUSE: Duration = Duration::from_millis(250);
/// How long a start or a reload waits for the first finding of a source that is new: a name server that answers does so in less.
pub const SOURCE_FIRST: Duration = Duration::from_secs(3);
/// How often it is looked whether an endpoint that leaves is idle.
pub const SOURCE_LEAVING: Duration = Duration::from_secs(1);
/// How long it takes until a source that has ended by a mistake of ours is begun again.
pub const SOURCE_AGAIN: Duration = Duration::from_secs(5);
/// Bytes of what sources of services have found, handed over at an upgrade: 4 KiB for each of as many containers as are followed.
pub const HANDED_OVER_BYTES: usize = 16 * 1024 * 1024;
/// Containers of one Docker engine that carry labels of ours: some 5 KiB each.
pub const DOCKER_CONTAINERS: usize = 4096;
/// Labels of ours on one container: a dozen say all there is to say, and ten routes with their parts are forty.
pub const DOCKER_LABELS: usize = 64;
/// Bytes of a Docker engine's list of containers: some 2 KiB for each of thousands.
pub const DOCKER_LIST_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of what it says of one: some 10 KiB, and the last five outputs of its health check, 4 KiB each.
pub const DOCKER_CONTAINER_BYTES: usize = 1024 * 1024;
/// Bytes of one event: some 500, and the container's labels.
pub const DOCKER_EVENT_BYTES: usize = 256 * 1024;
/// Slots of a Maglev table: a prime of at least 100 × the endpoints (Maglev, §3.4), 131 KiB as packed `u16`.
pub const MAGLEV_SLOTS: usize = 65_537;
/// Slots of one service's table, a prime: 10 MiB, and 1220 slots for each of the most endpoints.
pub const SERVICE_SLOTS: u64 = 5_000_011;
/// Bytes of the tables of all packet services, 2 for each slot, beyond which they fall out of a core's cache: 8 services of the
/// default size cost 145 ns a packet where one costs 59 (DESIGN §6).
pub const TABLE_BYTES: u64 = 1024 * 1024;
/// Addresses of one VIP. Each is announced, answered for, and looked up.
pub const VIP_ADDRESSES: usize = 256;
/// Port ranges of one service.
pub const PORT_RANGES: usize = 256;
/// Bytes of an interface's name: the kernel's `IFNAMSIZ` without its zero.
pub const INTERFACE_BYTES: usize = 15;
/// Bytes of what `explain` is asked through the admin API, escapes included: well inside of the head that it comes in.
pub const EXPLAIN_QUERY_BYTES: usize = 16 * 1024;
/// Slots of all packet services for which the running Strata explains a packet: it builds their tables once more, which takes half a
/// second of the control thread.
pub const EXPLAIN_SLOTS: usize = 1 << 22;
/// Members that `explain` has pickers look at to find how likely each is: some 20 ms, on the control thread.
pub const EXPLAIN_WORK: usize = 1 << 21;
/// Turns in one period of weighted round robin: every pool of 65 endpoints is exact at any weights, and 128 KiB is the most.
pub const TURNS: u64 = 65_536;
/// Points on a hash ring, 6 bytes each: a pool of 4096 has its full 256 points an endpoint.
pub const RING_POINTS: u64 = 1 << 20;
/// Largest weight. Ratios beyond this are a mistake, and it keeps a pool's sum well inside 32 bits.
pub const WEIGHT: u16 = 1000;
/// Endpoints tried for one request or connection before it is given up.
pub const TRIES: usize = 3;
/// Endpoints beyond those whose host said at once that nobody is there: it cost nobody anything, and where several servers of a pool are
/// ended at the same time, a request would meet no other.
pub const ABSENT: usize = 3;
/// Requests that wait for another worker to close an idle connection, in a pool whose queue is shorter: each waits for 50 ms.
pub const IDLE_WAITERS: u32 = 64;
/// Idle connections to one endpoint that a worker keeps, and for how long: shorter than most servers' own keep-alive.
pub const UPSTREAM_IDLE: usize = 512;
pub const UPSTREAM_IDLE_TIME: Duration = Duration::from_secs(30);
/// Bytes a second below which a request body is a slow attack, once its first timeout has passed (hardening F2).
pub const BODY_BYTES_PER_SECOND: u64 = 500;
/// After an error answer the client's bytes are read away for this long, so that the answer is not reset under it (A29).
pub const LINGER: Duration = Duration::from_secs(2);
/// Retry budget: this share of requests, plus [`RETRY_FLOOR_PER_SECOND`] (SRE book, Envoy).
pub const RETRY_PERCENT: u32 = 20;
pub const RETRY_FLOOR_PER_SECOND: u32 = 10;

/// Flow records of one process, for all services in transition at once: half a million are 40 MiB, touched as they are needed.
pub const FLOW_RECORDS: usize = 1 << 19;
/// Locks that the records are spread over: workers rarely meet at one of 64, and each is held for some 50 ns.
pub const FLOW_RECORD_SHARDS: usize = 64;
/// Records that may be of flows which prove nothing (a SYN without data yet, UDP): one in this many of all, so that a flood of
/// them leaves room for established connections.
pub const FLOW_UNPROVEN_SHARE: usize = 2;
/// Records that one hold of a lock sweeps: 16 KiB, a few µs.
pub const FLOW_SWEEP: usize = 256;
/// Records that an insertion into a full shard looks at for one that has expired, and translated flows, of each pool of ports that
/// would do, for one that may give its port.
pub const FLOW_RECLAIM: usize = 16;
/// A TCP flow that is silent for longer may change its endpoint, if the service says nothing else; as in IPVS.
pub const TCP_IDLE: Duration = Duration::from_secs(15 * 60);
/// The same for UDP and others; as in Katran.
pub const FLOW_IDLE: Duration = Duration::from_secs(30);
/// The same for a TCP flow whose client sent FIN or RST: FIN-WAIT of IPVS, twice Linux's.
pub const TCP_CLOSING_IDLE: Duration = Duration::from_secs(120);
/// A SYN's record waits this long for the data that proves it: SYN-RECEIVED of IPVS and the last SYN-ACK that Linux repeats.
pub const TCP_UNPROVEN_IDLE: Duration = Duration::from_secs(60);
/// After a slot moved, a SYN that was seen before still goes to the endpoint it named before, which may have answered. Clients repeat
/// after 1, 2, 4 and 8 s (RFC 6298 §2), so every handshake under way shows itself by then.
pub const SYN_GRACE: Duration = Duration::from_secs(10);
/// Bits in which that is remembered, two for a SYN, twice 128 KiB for the last 10 to 20 s. At 10 000 new flows a second some 5 % of
/// those that come within the grace are taken for repeated ones.
pub const SYN_BITS: usize = 1 << 20;
/// How far behind the others a worker's table and clock may be: a batch of packets, which takes milliseconds.
pub const TABLE_SKEW: Duration = Duration::from_secs(1);
/// Flows under full NAT or recorded NAT, 250 bytes each with the way back: 32 MiB. Two of our addresses have ports for as many.
pub const NAT_FLOWS: usize = 1 << 17;
/// Of them, one in this many may be of datagrams and go last of all that may go; above that they go as the others do. So a flood that
/// makes such flows leaves room for handshakes as long as fewer than the other three quarters are connections.
pub const NAT_DATAGRAM_SHARE: usize = 4;
/// Our addresses that full NAT lends ports of at a time; each takes 4 MiB. As many again may wait for their last flows to end.
pub const NAT_SOURCES: usize = 16;
/// Ports that are lent: above those that services listen on (RFC 6335 §6).
pub const NAT_PORTS: std::ops::RangeInclusive<u16> = 1024..=u16::MAX;
/// A port rests between two flows while there are others: TIME-WAIT of Linux.
pub const NAT_PORT_REST: Duration = Duration::from_secs(60);
/// A port of UDP rests before it goes to another client of the same endpoint: what answers takes less, but for some DNS.
pub const NAT_DATAGRAM_REST: Duration = Duration::from_secs(1);
/// A flow that was not answered, or did not answer back, keeps its port this long. Clients repeat a SYN after 1, 2, 4 and 8 s.
pub const NAT_OPENING_IDLE: Duration = Duration::from_secs(20);
/// Fragmented datagrams under way, 130 bytes each. At full they push each other out, so honest ones need a flood to leave them
/// some ms: 8192 last 80 ms at 100 000 a second.
pub const FRAGMENTED: usize = 8192;
/// A datagram's fragments come within this: RFC 791 §3.2 suggests 15 s and allows less than RFC 8200's 60.
pub const FRAGMENT_TIME: Duration = Duration::from_secs(15);
/// A datagram that was silent for this long has lost a fragment, and its identification may mean another one.
pub const FRAGMENT_GAP: Duration = Duration::from_secs(1);
/// Ranges of one datagram that are known while fragments are missing between them. In order there is one.
pub const FRAGMENT_PIECES: usize = 4;

/// Addresses of this machine to which endpoints' packets stay the kernel's under `nat`, loopback and link-local ones not counted:
/// each takes 9 of the 4096 instructions of a classifier, and more than half would be theirs.
pub const OWN_ADDRESSES: usize = 256;
/// Replies of endpoints that an interface's classifiers look for under `nat`: one for each range of ports of each endpoint, 10
/// instructions or so. Two for each endpoint of the largest pool; what is none of them costs 30 µs to find out at that many.
pub const REPLY_RULES: usize = 8192;

/// Frames that are decided before any of them is sent: enough to share a system call, few enough to wait for (some 15 µs).
pub const PACKET_BATCH: usize = 64;
/// Bytes free before a received frame, for a tunnel's header (IPv6, UDP and GUE are 60 at most).
pub const PACKET_HEADROOM: usize = 128;
/// Bytes of one worker's receive ring: 2240 Ethernet frames, 3 ms at 0.7 M packets/s. The kernel goes round all of it, so what is
/// touched of a larger one is in no cache.
pub const PACKET_RING_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of an `AF_XDP` queue: 4096 chunks of 2 KiB, as many frames as two receive rings of the packet socket have, 4 ms at 1 M packets/s.
/// They cannot be paged out, so that 64 queues take half a gigabyte.
pub const PACKET_QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// `AF_XDP` queues of an interface that frames are taken from: a card has one for each core at most. Frames of others come by the ring.
pub const PACKET_QUEUES: usize = 64;
/// Rules by which the XDP program of an interface takes packets; those of others come by the ring. The kernel's verifier follows each way
/// through the program: 1024 rules take it 0.2 s, with 256 addresses that are kept 0.8 s, and beyond some 2700 for IPv6 it gives up.
pub const XDP_RULES: usize = 1024;
/// Bytes of one worker's send ring: 640 Ethernet frames. What a card has not sent yet stays there.
pub const PACKET_SEND_BYTES: usize = 1024 * 1024;
/// Bytes of a ring's slot at most; a longer frame (jumbo, or one that the kernel merged) is copied beside the ring.
pub const PACKET_SLOT_BYTES: usize = 16 * 1024;
/// Bytes that wait in a packet socket, each way: some 200 merged frames of 64 KiB.
pub const PACKET_SOCKET_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of a frame: what the kernel merges when nobody raised `gro_max_size`, with its header.
pub const PACKET_FRAME_BYTES: usize = 64 * 1024 + 64;
/// Bytes of segments of merged frames that wait to be sent: a batch of Ethernet frames is 110 KiB, and one of the longest 64.
pub const PACKET_DIVIDED_BYTES: usize = 256 * 1024;

/// How long a reload waits for the tables of its packet services: 4096 services fill theirs in some 5 s.
pub const TABLES_TIME: Duration = Duration::from_secs(30);

/// How long the kernel may take for an answer to a netlink request: it has it at once.
pub const NETLINK_ANSWER: Duration = Duration::from_secs(2);
/// Bytes of one datagram of such an answer: what the kernel makes at most (`NLMSG_GOODSIZE` grows to 32 KiB for dumps).
pub const NETLINK_BYTES: usize = 64 * 1024;

/// Questions that `strata doctor` asks in one round, three times each: enough for 100 endpoints with a few VIPs, and no burst
/// that a switch would notice.
pub const DOCTOR_QUESTIONS: usize = 512;

/// How long a process that takes over waits for the first result of every probe: longer than the keeper of health does before it
/// says who is up.
pub const FIRST_PROBES: Duration = Duration::from_secs(6);
/// Probes in flight at once, over all pools.
pub const PROBES_IN_FLIGHT: usize = 256;
/// Ways through VIPs that one probe of an endpoint takes, one after the other: more would take long.
pub const PROBE_PATHS: usize = 16;
/// Connections through VIPs whose packets are known, those that ended in the last two seconds among them: 8 at once for each
/// probe in flight.
pub const PROBE_PASSAGES: usize = 2048;
/// Bytes of a frame of ours to an endpoint that is probed: 1280 of a datagram, and what goes before it (a VLAN tag, a tunnel).
pub const PROBE_FRAME_BYTES: usize = 1400;
/// Bytes of a probe's answer that are read and matched.
pub const PROBE_BODY_BYTES: usize = 64 * 1024;

/// Access records, or lines of the log, waiting for their writer; beyond this they are counted and lost, traffic is not (hardening J8).
pub const LOG_QUEUE: usize = 8192;
/// Bytes of those records: hostile fields make long lines.
pub const LOG_QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// How long the end of the process waits for a log to be written out: a disk that lives has done so.
pub const LOG_FINISH: Duration = Duration::from_secs(1);
/// Bytes of a field from the network that a record shows; the rest is cut off.
pub const LOG_FIELD_BYTES: usize = 2 * 1024;
/// Events (connect failures, …) waiting for the control thread.
pub const CONTROL_QUEUE: usize = 4096;
/// Connections on their way from one worker to another, for each receiver; beyond this the acceptor keeps them.
pub const HANDOVER_QUEUE: usize = 256;
/// While draining, a kept-alive connection without a request stays this long, so that a request on its way is still answered.
pub const DRAIN_IDLE_GRACE: Duration = Duration::from_secs(1);
/// Bytes of an admin request body (hardening J14).
pub const ADMIN_BODY_BYTES: usize = 64 * 1024;
/// Bytes of a configuration that is sent to be compared, one at a time: the largest, with its secrets, and escaped as JSON.
pub const ADMIN_CANDIDATE_BYTES: usize = 3 * CONFIG_BYTES;
/// Connections to the admin and metrics listeners, each.
pub const ADMIN_CONNECTIONS: usize = 64;
/// How long a connection to them may take for a request head, its body, or to say nothing (slow clients hold one of those).
pub const ADMIN_IDLE: Duration = Duration::from_secs(10);
/// How long it may take until an answer is taken: 10 MiB of metrics at 3 Mbit/s. Who does not read holds one of those as well.
pub const ADMIN_ANSWER: Duration = Duration::from_secs(30);
/// Time between two looks of `top`: shorter ones cost the control side more than they show; nobody waits for longer ones.
pub const TOP_INTERVAL_LEAST: Duration = Duration::from_millis(100);
pub const TOP_INTERVAL_MOST: Duration = Duration::from_secs(3600);
/// Characters that `top` shows of one name, and takes of a filter: a line of a terminal.
pub const TOP_TEXT_CHARS: usize = 64;
/// Lines and columns that `top` draws at most: a terminal may claim to be of any size.
pub const TOP_SCREEN: usize = 1024;
/// Bytes of the admin API's token: what cannot be guessed, and fits into a header.
pub const ADMIN_TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=512;
/// Changes and their causes that are kept to be shown, some 200 bytes each: a bad night of a hundred endpoints.
pub const EVENTS: usize = 2048;
/// Bytes of one of them: all mistakes of a refused reload may be long, and stand in the log and in the diagnostics.
pub const EVENT_BYTES: usize = 2 * 1024;
/// Refused requests to the admin API are logged once in this time, with their number: whoever guesses does not fill the log.
pub const ADMIN_REFUSED_LOG: Duration = Duration::from_secs(1);
/// How long the control side may take for an answer that a document can do without.
pub const ADMIN_REPORT: Duration = Duration::from_millis(500);

/// Per cent of descriptors or memory in use from which on idle connections are closed, and from which on none is taken any more
/// (Envoy's overload manager, hardening J10). Each ends only this much below, so that nothing flaps.
pub const SHED_PERCENT: u64 = 95;
pub const FULL_PERCENT: u64 = 98;
pub const PRESSURE_EASES: u64 = 4;
/// How often it is looked how much is in use: at 2000 new connections a second of 20 000 descriptors that is 1 % of them.
pub const PRESSURE_ROUND: Duration = Duration::from_millis(100);
/// While idle connections are closed, each look closes one in so many: enough to be through in a second, and no stampede of
/// clients that connect anew.
pub const SHED_SHARE: u64 = 8;
/// How often a thread shows that it gets to its tasks, and after which silence it counts as stuck: the longest that a commit of a
/// large configuration holds the control thread is a part of that.
pub const BEAT: Duration = Duration::from_millis(100);
pub const STUCK: Duration = Duration::from_secs(5);
/// Descriptors that are not for connections: listeners, log files, probes, timers. Of a small limit a quarter.
pub const DESCRIPTORS_RESERVED: u64 = 256;

/// Coarse timers of a worker fire within this of their deadline.
pub const TIMER_TICK: Duration = Duration::from_millis(50);
/// Connections of a worker that a tick has look for what tells nobody: some µs each, in a time when others are to be served.
pub const LOOKS_AT_A_TICK: usize = 256;

/// ICMP errors that we answer packets with: one an interval, and so many at once. Both are Linux's (`icmp_msgs_per_sec`,
/// `icmp_msgs_burst`): enough for whoever looks for a fault, useless to a reflector. "Too big" goes by the same rate, but for each last byte
/// of senders' addresses: Linux tells that without a limit, and a sender that is not told goes on with what does not arrive.
pub const ICMP_ERROR_INTERVAL: Duration = Duration::from_millis(1);
pub const ICMP_ERROR_BURST: u32 = 50;
/// How often an address is defended against a stranger (RFC 5227 §1.1, `DEFEND_INTERVAL`).
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// Announcements of a VIP's address when it is new where it is, as many as keepalived makes. RFC 5227 §2.3 asks for two and RFC
/// 4861 §7.2.6 allows three in a row; both mean the first seconds only.
pub const ANNOUNCEMENTS: u32 = 5;
/// The first gap between them, which doubles: `RETRANS_TIMER` of RFC 4861 §10. The last comes 15 s after the first, so that a
/// port which spanning tree holds back for its forward delay (15 s, IEEE 802.1D §17.14) hears one.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// And from then on: a few small frames a minute for each address. Hosts that slept and ports that come up late hear them.
pub const ANNOUNCE_REFRESH: Duration = Duration::from_secs(60);
/// A virtual MAC that was silent for longer sends a frame: switches forget it after 300 s, and after 15 s while their spanning
/// tree changes (IEEE 802.1D §17.14). VRRP sends one a second.
pub const MAC_REMINDER: Duration = Duration::from_secs(10);
/// Addresses announced in one round of the control thread, 50 ms: three frames each, 4000 a second, which no switch minds.
pub const ANNOUNCED_AT_ONCE: usize = 64;
/// Strangers that claim VIPs, whose claims are told apart in the log: of a flood with ever other MACs, the first few say it.
pub const VIP_CLAIMANTS: usize = 64;
/// After a stranger's last word an address counts as contested for this long: three times the interval at which it is asked
/// for and told otherwise.
pub const CONTESTED: Duration = Duration::from_secs(30);
/// Next hops that the data path has the kernel ask for in a second: as many as its own table holds (`gc_thresh3`). Gateways and
/// endpoints are asked for besides, whoever floods us with clients that are not there.
pub const NEXT_HOPS_ASKED: usize = 1024;
/// Events that a worker remembers to have told of, 48 bytes each, and for how long it does not tell them again: a next hop that is
/// asked for answers within this, or not.
pub const EVENTS_TOLD: usize = 64;
pub const EVENT_REPEAT: Duration = Duration::from_millis(100);
/// Clients on our own links whose MAC addresses NAT knows: 256 KiB.
pub const LEARNED_NEIGHBORS: usize = 1 << 14;

/// Segments of one merged frame that it is taken apart into: 64 KiB of the least that Linux puts into each (`tcp_min_snd_mss`, 48
/// bytes) are 1366. A virtual machine may claim a byte, and would have 65 000 packets made of one.
pub const MERGED_SEGMENTS: usize = 1500;
/// VLAN tags of a frame: a customer's and a provider's (802.1ad). More is a loop or an attack (hardening G2).
pub const VLAN_TAGS: usize = 2;
/// IPv6 extension headers that are walked for a transport header (hardening G20).
pub const EXTENSION_HEADERS: usize = 8;
/// Bytes of one packet in a capture file: libpcap's `MAXIMUM_SNAPLEN`.
pub const CAPTURED_BYTES: usize = 256 * 1024;
