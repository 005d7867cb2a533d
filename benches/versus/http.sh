#!/usr/bin/env bash
# Strata, nginx and HAProxy as HTTP/1.1 reverse proxies, measured alike (docs/performance.md explains what and why).
#
#   benches/versus/http.sh            nine alternating rounds of a second, prints one Markdown table for each size
#   QUICK=1 benches/versus/http.sh    one short round; fails if something does not work, never on time
#   ROUNDS=5 SECONDS_EACH=3 ONLY="strata nginx-64k" KEEP_RECORDS=file benches/versus/http.sh
#
# Every proxy has core 0 to itself while it is measured; load (wrk, pace.c) and the endpoint (nginx, origin.conf) share
# core 1. It needs nginx, haproxy, wrk, curl, cc and python3, two cores, and target/release/strata (or STRATA=path).
set -Eeuo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
strata=${STRATA:-$root/target/release/strata}
quick=${QUICK:-0}
if [ "$quick" = 1 ]; then
    rounds=1 seconds=1 idle=200
else
    rounds=${ROUNDS:-9} seconds=${SECONDS_EACH:-1} idle=4000
fi
connections=64
declare -A bytes=([64]=64 [100k]=102400)

die() { echo "http.sh: $*" >&2; exit 1; }
for tool in nginx haproxy wrk curl cc python3 taskset; do command -v $tool >/dev/null || die "needs $tool"; done
[ "$(nproc)" -ge 2 ] || die "needs two cores: one for the proxy, one for load and endpoint"
ulimit -n 20000 || die "needs 20000 open files (ulimit -n)"

work=$(mktemp -d "${TMPDIR:-/tmp}/versus.XXXXXX")
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
trap 'echo "http.sh: line $LINENO failed" >&2' ERR

# ---- the parts ----

# Ahead of whatever else the machine does, where we may: a build on the same core would spoil the caches of one target only.
first=()
[ "$(nice -n -15 nice 2>/dev/null)" != -15 ] || first=(nice -n -15)
on_core() { # CORE COMMAND
    local core=$1
    shift
    exec ${first[@]+"${first[@]}"} taskset -c "$core" "$@"
}

targets=(nginx nginx-64k haproxy haproxy-64k)
if [ -x "$strata" ]; then
    targets=(strata "${targets[@]}")
else
    echo "http.sh: SKIPPED: strata, for $strata does not exist (cargo build --release); measuring the peers only" >&2
    [ "${STRATA_TEST_ALL:-}" != 1 ] || die "STRATA_TEST_ALL=1 allows no skip"
fi
[ -z "${ONLY:-}" ] || read -ra targets <<<"$ONLY"

free_ports() { # COUNT
    python3 -c 'import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))' "$1"
}

# The files in the tree are valid as they stand; here their ports are exchanged for free ones.
render() { # FILE VARIANT PORT STATUS_PORT
    local wake=()
    [ "$2" != 64k ] || wake=(-e 's/#64k# //')
    sed "${wake[@]}" -e "s/127.0.0.1:18000/127.0.0.1:$origin/" -e "s/127.0.0.1:1800[1-9]/127.0.0.1:$3/" \
        -e "s/127.0.0.1:1801[0-9]/127.0.0.1:$4/" "$1"
}

wait_for() { # PORT NAME
    for _ in $(seq 100); do
        curl -sf -o /dev/null "http://127.0.0.1:$1/64" && return
        sleep 0.05
    done
    cat "$work/$2.log" >&2
    die "$2 does not answer"
}

start() { # NAME: starts it on core 0 and sets pid_of[NAME], port_of[NAME]
    local name=$1 port status folder=$work/$1
    read -r port status < <(free_ports 2)
    mkdir -p "$folder/temp"
    case $name in
        nginx*) render nginx.conf "${name#nginx-}" "$port" "$status" >"$folder/conf"
            on_core 0 nginx -p "$folder" -c "$folder/conf" -e stderr ${as_root[@]+"${as_root[@]}"} &>"$work/$name.log" & ;;
        haproxy*) render haproxy.cfg "${name#haproxy-}" "$port" "$status" >"$folder/conf"
            on_core 0 haproxy -db -f "$folder/conf" &>"$work/$name.log" & ;;
        strata) render strata.toml "" "$port" "$status" >"$folder/strata.toml"
            on_core 0 "$strata" run "$folder/strata.toml" &>"$work/$name.log" & ;;
        *) die "no target is called $name" ;;
    esac
    pids+=($!)
    pid_of[$name]=$! port_of[$name]=$port
    wait_for "$port" "$name"
}

family() { # PID and its children
    echo "$1"
    cat /proc/"$1"/task/*/children 2>/dev/null | tr ' ' '\n' | sed '/^$/d'
}
cpu_ns() { # NAME: time on a core of all threads of the process and its children
    for pid in $(family "${pid_of[$1]}"); do cat /proc/"$pid"/task/*/schedstat 2>/dev/null; done |
        awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}
anonymous_kib() { # NAME: private memory that the process made itself (its code and files are not counted)
    for pid in $(family "${pid_of[$1]}"); do cat /proc/"$pid"/smaps_rollup; done |
        awk '/^Anonymous:/ { sum += $2 } END { print sum }'
}

record() { echo "$*" >>"$work/records"; }

# ---- what is measured ----

saturate() { # NAME SIZE SECONDS: 64 connections as fast as they go
    local before after requests duration broken refused p50 p99 result
    before=$(cpu_ns "$1")
    result=$(on_core 1 wrk -t1 -c$connections -d"$3"s -s wrk.lua "http://127.0.0.1:${port_of[$1]}/$2")
    after=$(cpu_ns "$1")
    read -r requests duration broken refused p50 p99 < <(sed -n 's/^RESULT //p' <<<"$result")
    [ "$broken" = 0 ] && [ "$refused" = 0 ] || die "$1: $broken broken exchanges, $refused answers beyond 399"
    [ "$requests" -gt 0 ] || die "$1: no request succeeded"
    echo "cpu_us $((after - before)) $requests rate $requests $duration p50 $p50 p99 $p99"
}

pace_at() { # NAME SIZE RATE SECONDS: open loop at a constant rate
    local before requests errors p50 p99 result
    before=$(cpu_ns "$1")
    result=$(on_core 1 "$work/pace" rate "${port_of[$1]}" "/$2" "$3" "$4" $connections) || die "$1: paced load failed"
    read -r requests errors p50 p99 < <(sed -n 's/^RESULT //p' <<<"$result")
    echo "half_cpu $(($(cpu_ns "$1") - before)) $requests half_p50 $p50 half_p99 $p99"
}

memory() { # NAME: of a fresh process that has warmed up, before and after idle connections that made one request each
    local name=$1 before after answer
    coproc HOLD { "$work/pace" idle "${port_of[$name]}" /64 100; }
    local hold=$HOLD_PID
    read -r answer <&"${HOLD[0]}" || die "$name: idle connections failed"
    exec {HOLD[1]}>&-
    wait "$hold" || die "$name: idle connections were closed"
    sleep 0.3
    before=$(anonymous_kib "$name")
    coproc HOLD { "$work/pace" idle "${port_of[$name]}" /64 "$idle"; }
    hold=$HOLD_PID
    read -r answer <&"${HOLD[0]}" || die "$name: idle connections failed"
    sleep 1
    after=$(anonymous_kib "$name")
    exec {HOLD[1]}>&-
    wait "$hold" || die "$name: idle connections were closed"
    record "$name idle idle_kib $(python3 -c "print(($after - $before) / $idle)")"
}

same_words() { # every proxy must tell the endpoint the same, or they do not do the same work
    local name seen first=""
    for name in "${targets[@]}"; do
        seen=$(curl -sf -H 'Host: versus.test' "http://127.0.0.1:${port_of[$name]}/seen")
        seen=$(sed -E 's/via=1\.1 [^ ]+/via=1.1 …/' <<<"$seen")
        first=${first:-$seen}
        [ "$seen" = "$first" ] || die "$name tells the endpoint \"$seen\", ${targets[0]} \"$first\""
        for size in 64 100k; do
            got=$(curl -sf "http://127.0.0.1:${port_of[$name]}/$size" | cmp - "$work/origin/www/$size" && echo same)
            [ "$got" = same ] || die "$name does not relay /$size whole"
        done
    done
    echo "Every proxy tells the endpoint: $first" >&2
}

# ---- the run ----

declare -A pid_of port_of
as_root=()
[ "$(id -u)" != 0 ] || as_root=(-g "user root;")
cc -O2 -o "$work/pace" pace.c
mkdir -p "$work"/origin/{www,temp}
for size in "${!bytes[@]}"; do
    head -c "${bytes[$size]}" /dev/zero | tr '\0' 'x' >"$work/origin/www/$size"
done
read -r origin < <(free_ports 1)
render origin.conf "" 0 0 >"$work/origin/conf"
on_core 1 nginx -p "$work/origin" -c "$work/origin/conf" -e stderr ${as_root[@]+"${as_root[@]}"} &>"$work/origin.log" &
pids+=($!)
wait_for "$origin" origin

for name in "${targets[@]}"; do
    start "$name"
    memory "$name"
done
same_words

for name in "${targets[@]}"; do
    for size in 64 100k; do saturate "$name" $size 1 >/dev/null; done
done
for round in $(seq "$rounds"); do
    for size in 64 100k; do
        for name in "${targets[@]}"; do
            result=$(saturate "$name" $size "$seconds")
            record "$name $size $result"
        done
    done
    targets=("${targets[@]:1}" "${targets[0]}") # another begins the next round
    echo "round $round of $rounds done, load average $(cut -d' ' -f1-3 /proc/loadavg)" >&2
done
for size in 64 100k; do
    rate=$(python3 table.py half "$work/records" $size)
    record "- $size offered $rate"
    for round in $(seq "$rounds"); do
        for name in "${targets[@]}"; do
            result=$(pace_at "$name" $size "$rate" "$seconds")
            record "$name $size $result"
        done
        targets=("${targets[@]:1}" "${targets[0]}")
    done
done
[ -z "${KEEP_RECORDS:-}" ] || cp "$work/records" "$KEEP_RECORDS"
python3 table.py print "$work/records"
