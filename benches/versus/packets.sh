#!/usr/bin/env bash
# What a packet costs in each packet mode of Strata by its ring and by AF_XDP, through the kernel's own nftables DNAT, and through
# pnet's plain loop, measured alike (docs/performance.md explains what and why).
#
#   benches/versus/packets.sh            five alternating rounds, prints Markdown tables
#   QUICK=1 benches/versus/packets.sh    one short round; fails if something does not work, never on time
#   ROUNDS=3 FLOWS="1 100000" ONLY="kernel l4-nat pnet:l4-nat" KEEP_RECORDS=file benches/versus/packets.sh
#
# Two namespaces and one wire: the generator (packets.c) on core 1 sends to the VIP, the balancer on core 0 sends back on the same
# wire, and the generator's end counts and drops. It needs root, iproute2, nftables, ethtool, cc and python3, two cores, and
# target/release/strata (or STRATA=path).
set -Eeuo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
strata=${STRATA:-$root/target/release/strata}
if [ "${QUICK:-0}" = 1 ]; then
    rounds=1 step_ms=20 final_ms=100 counts="1 100000"
else
    rounds=${ROUNDS:-5} step_ms=${STEP_MS:-150} final_ms=${FINAL_MS:-1000} counts="1 1000 100000"
fi
fixed=200000 # packets a second that every target takes
read -ra flows <<<"${FLOWS:-$counts}"

die() { echo "packets.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "network namespaces need root"
for tool in ip nft ethtool cc python3 taskset chrt; do command -v $tool >/dev/null || die "needs $tool"; done
[ "$(nproc)" -ge 2 ] || die "needs two cores: one for the balancer, one for load and sink"

# What is before the colon moves the packets: the kernel, Strata's ring, AF_XDP, pnet's loop.
modes=(l2 ipip gue l3-nat l3-full-nat l4-nat l4-full-nat)
targets=(kernel "${modes[@]}" "${modes[@]/#/af-xdp:}" pnet:l2 pnet:l4-nat)
if [ ! -x "$strata" ]; then
    echo "packets.sh: SKIPPED: Strata, for $strata does not exist (cargo build --release); measuring the kernel only" >&2
    [ "${STRATA_TEST_ALL:-}" != 1 ] || die "STRATA_TEST_ALL=1 allows no skip"
    targets=(kernel)
fi
[ -z "${ONLY:-}" ] || read -ra targets <<<"$ONLY"

work=$(mktemp -d "${TMPDIR:-/tmp}/versus.XXXXXX")
load=packets-$$-load balancer=packets-$$-balancer
out=g$$ wire=b$$ # names of both ends, which their kernel threads have too
running=""
declare -A kept=() # settings of the machine as they were
cleanup() {
    stop
    for setting in "${!kept[@]}"; do echo "${kept[$setting]}" >"$setting" || true; done
    ip netns del $load 2>/dev/null || true
    ip netns del $balancer 2>/dev/null || true
    rm -rf "$work"
}
stop() {
    [ -z "$running" ] || { kill "$running" 2>/dev/null; wait "$running" 2>/dev/null; } || true
    running=""
}
trap cleanup EXIT
trap 'exit 130' INT TERM
trap 'echo "packets.sh: line $LINENO failed" >&2' ERR

# ---- the wire ----

# Ahead of whatever else the machine does: a priority counts within a session only where the kernel groups by sessions, so the
# session gets one too. Becomes the command, so that its process is known.
on_core() { # CORE COMMAND
    local core=$1
    shift
    exec setsid nice -n -15 taskset -c "$core" bash -c '
        ! [ -e /proc/self/autogroup ] || echo -15 >/proc/self/autogroup
        exec "$@"' - "$@"
}
within() { # NAMESPACE COMMAND
    local namespace=$1
    shift
    ip netns exec "$namespace" "$@"
}
thread_of() { # DEVICE: the kernel thread that receives on it
    local entry
    for entry in /proc/[0-9]*; do
        case $(cat "$entry/comm" 2>/dev/null || true) in napi/"$1"-*) basename "$entry" && return ;; esac
    done
    die "no kernel thread receives on $1: this kernel has no threaded NAPI"
}

# Receiving is a kernel thread's on both ends, so that it can be pinned: the balancer's shares core 0 with the balancer, as
# interrupts would, and is measured with it; the sink's goes before the generator on core 1.
receive_on() { # NAMESPACE DEVICE CORE
    within "$1" ethtool -K "$2" gro on
    within "$1" bash -c "echo 1 >/sys/class/net/$2/threaded"
    taskset -pc "$3" "$(thread_of "$2")" >/dev/null
}

for namespace in $load $balancer; do
    ip netns add $namespace
    # No word but the load's: neither end looks for IPv6 routers or neighbours.
    within $namespace bash -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
done
ip -n $balancer link add $wire address 02:00:00:00:00:02 numrxqueues 1 numtxqueues 1 \
    type veth peer name $out address 02:00:00:00:0f:ff numrxqueues 1 numtxqueues 1 netns $load
ip -n $load link set $out up
ip -n $balancer link set $wire up
ip -n $balancer link set lo up
ip -n $balancer address add 10.0.0.2/24 dev $wire
ip -n $balancer neigh add 10.0.0.1 lladdr 02:00:00:00:00:01 dev $wire nud permanent
for number in {41..56}; do
    ip -n $balancer neigh add 10.0.0.$number lladdr "$(printf '02:00:00:00:01:%02x' "$number")" dev $wire nud permanent
done
ip -n $balancer route add default via 10.0.0.1
# A packet leaves by the interface that it came in by, and nobody is told of a shorter way.
within $balancer bash -c 'for key in ip_forward=1 conf/all/rp_filter=0 conf/default/rp_filter=0 conf/all/send_redirects=0 \
    conf/default/send_redirects=0 conf/'$wire'/send_redirects=0 conf/'$wire'/rp_filter=0; do
    echo ${key#*=} >/proc/sys/net/ipv4/${key%=*}
done'
receive_on $balancer $wire 0
receive_on $load $out 1
renice -n -15 -p "$(thread_of $wire)" >/dev/null
chrt -f -p 1 "$(thread_of $out)"
cc -O2 -o "$work/packets" packets.c

# What core 0 sends is freed on core 1 (a card would give it back to where it came from), and the kernel keeps no more than a few
# pages of what another core has freed: without this Strata makes new ones for a fifth of its time, in some runs and not in others.
for setting in /sys/kernel/slab/{skbuff_head_cache,skbuff_small_head}/min_partial; do
    [ -w "$setting" ] || continue
    kept[$setting]=$(cat "$setting")
    echo 20000 >"$setting"
done

# ---- the targets ----

configuration() { # MODE IO
    local pool="" number mode=$1 layer=${1%%-*} port=""
    case $mode in ipip | gue) layer=l3 ;; l4-*) port=:8080 ;; esac
    for number in {41..56}; do pool+="\"10.0.0.$number$port\", "; done
    cat <<END
workers = 1
[metrics]
listen = "127.0.0.1:9901"
[cluster]
hash_key = "4f1c2a9be0d37758a6c4e1902b7d5f63"
[packets]
io = "$2"
[vip.bench]
address = "10.0.0.100"
interface = "$wire"
[service.bench]
mode = "$layer"
vip = "bench"
pool = "bench"
flow_timeouts = { other = "1h" }
END
    case $mode in
    ipip | gue) echo "forward = \"$mode\"" ;;
    *-full-nat) printf 'forward = "full-nat"\nsource = ["10.0.0.3", "10.0.0.4", "10.0.0.5"]\n' ;;
    *-nat) echo 'forward = "nat"' ;;
    esac
    [[ $mode != l4-* ]] || echo 'ports = "80/udp"'
    printf '[pool.bench]\nendpoints = [%s]\n' "${pool%, }"
}

# The kernel's: each flow's first packet finds its endpoint by a hash in a map, conntrack knows it from then on.
nftables() {
    local number map=""
    for number in {41..56}; do map+="$((number - 41)) : 10.0.0.$number, "; done
    cat <<END
table ip bench {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        ip daddr 10.0.0.100 udp dport 80 dnat to jhash ip saddr . udp sport mod 16 map { ${map%, } } : 8080
    }
}
END
}

at_least() { # SETTING NUMBER: of conntrack
    [ "$(within $balancer cat "/proc/sys/net/netfilter/$1")" -ge "$2" ] || die "$1 is below $2: sysctl -w net.netfilter.$1=$2"
}

start() { # TARGET: sets `threads`, whose time is measured, and `mode`, what packets must look like
    local io=ring
    mode=$1 threads=("$(thread_of $wire)")
    case $1 in
    kernel)
        mode=l4-nat
        nftables | within $balancer nft -f -
        # Flows must outlive the run, as Strata's do, and their table must not be the limit.
        within $balancer bash -c 'echo 3600 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout
            echo 3600 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream'
        # Both are the whole machine's, so they are not changed unasked.
        at_least nf_conntrack_max 200000
        at_least nf_conntrack_buckets 65536
        return ;;
    *:*) io=${1%:*} mode=${1#*:} ;;
    esac
    configuration "$mode" $io >"$work/strata.toml"
    "$strata" check "$work/strata.toml" >"$work/log" || { cat "$work/log" >&2 && die "$1: Strata does not take its configuration"; }
    on_core 0 ip netns exec $balancer "$strata" run "$work/strata.toml" &>"$work/log" &
    running=$!
    threads+=("$running")
}

end() { # TARGET
    case $1 in
    kernel) within $balancer nft delete table ip bench ;;
    *) stop ;;
    esac
}

# Frames that the wire's XDP program has given to sockets so far.
taken() { within $balancer ethtool -S $wire | awk '/rx_queue_[0-9]+_xdp_redirect:/ { sum += $2 } END { print sum + 0 }'; }

lost() { within $balancer cat /sys/class/net/$wire/statistics/tx_dropped; }

# Every flow through the target, and for AF_XDP through its socket: until there is one the ring carries everything in its place.
check() { # TARGET FLOWS: sets `checked`
    local before try
    for try in {1..5}; do
        before=$(taken)
        if ! checked=$(on_core 1 ip netns exec $load "$work/packets" check $out "$mode" "$2"); then
            tail -20 "$work/log" >&2
            die "$1 does not carry $2 flows"
        fi
        [[ $1 == af-xdp:* ]] || return 0
        [ $(($(taken) - before)) -lt "$2" ] || return 0
    done
    tail -20 "$work/log" >&2
    die "$1: AF_XDP takes $(($(taken) - before)) of $2 flows"
}

measure() { # TARGET FLOWS
    local before after checked
    check "$1" "$2"
    [ "$2" -lt 1000 ] || [ "$(cut -d' ' -f3 <<<"$checked")" = 16 ] || die "$1 does not use all endpoints: $checked"
    [ "$1" != kernel ] || [ "$(within $balancer cat /proc/sys/net/netfilter/nf_conntrack_count)" -ge "$2" ] || die "conntrack lacks flows"
    before=$(lost)
    (on_core 1 ip netns exec $load "$work/packets" load $out "$2" $step_ms $final_ms $fixed "${threads[@]}") \
        >"$work/steps" || die "$1: no load with $2 flows"
    after=$(lost)
    sed "s/^/$1 $2 /" "$work/steps" >>"$work/records"
    echo "$1 $2 sink $((after - before)) 0 0 0" >>"$work/records"
}

# ---- the run ----

: >"$work/records"
for round in $(seq "$rounds"); do
    for target in "${targets[@]}"; do
        start "$target"
        for count in "${flows[@]}"; do measure "$target" "$count"; done
        end "$target"
    done
    targets=("${targets[@]:1}" "${targets[0]}") # another begins the next round
    echo "round $round of $rounds done, load average $(cut -d' ' -f1-3 /proc/loadavg)" >&2
done
[ -z "${KEEP_RECORDS:-}" ] || cp "$work/records" "$KEEP_RECORDS"
python3 packets.py "$work/records" $fixed
