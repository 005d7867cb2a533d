#!/usr/bin/env bash
# A small network on this machine to look around in: client, router, switch, balancer and endpoints are network namespaces;
# Strata runs in the balancer and `strata echo` on the endpoints. Needs root, iproute2 and a built Strata.
#
#   deploy/lab.sh up MODE      MODE: l2, ipip, gue, nat, full-nat (l3); l4-nat, l4-full-nat, l4, l7; all
#   deploy/lab.sh try [COUNT]  asks each service that often, by TCP and UDP, and counts who answered
#   deploy/lab.sh status       what runs, and what Strata says of it
#   deploy/lab.sh shell HOST   a shell on client, router, switch, balancer or an endpoint
#   deploy/lab.sh down         removes everything
#
# LAB=NAME has a lab of its own beside others; STRATA=FILE is the binary (default: the newer one in target/).
#
# `all` runs conf/all-layers.toml as it is: endpoints are e11 (10.0.0.11) to e62. Every other mode has one service over
# three endpoints, for each family:
#
#   client ───── router ───── switch ─┬─ balancer  10.0.0.2   fd00::2
#   198.51.100.7   10.0.0.1           ├─ e1        10.0.0.41  fd00::41
#   2001:db8:51::7 fd00::1            ├─ e2        10.0.0.42  fd00::42
#                                     └─ e3        10.0.0.43  fd00::43     the VIP: 10.0.0.100  fd00::100
set -euo pipefail

lab=${LAB:-strata-lab}
state=${TMPDIR:-/tmp}/$lab
hosts=(client router switch balancer) # and the mode's endpoints
vip4=10.0.0.100 vip6=fd00::100
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    echo "lab: $*" >&2
    exit 1
}
on() { # HOST COMMAND…
    local host=$1
    shift
    ip netns exec "$lab-$host" "$@"
}

endpoints_of() { # MODE
    case $1 in
    all) echo e11 e12 e21 e22 e31 e32 e41 e42 e51 e52 e61 e62 ;;
    *) echo e1 e2 e3 ;;
    esac
}
last_of() { # ENDPOINT: the last number of its addresses
    case $1 in e?) echo "4${1#e}" ;; *) echo "${1#e}" ;; esac
}
every_host() { echo "${hosts[@]}" $(endpoints_of l2) $(endpoints_of all); }
mode() { cat "$state/mode"; }

is_up() { [ -e "/run/netns/$lab-client" ]; }
must_be_up() { is_up || fail "nothing is up: deploy/lab.sh up l2"; }

binary() {
    local file
    file=${STRATA:-$(ls -t "$here"/target/{release,debug}/strata 2>/dev/null | head -1)}
    [ -x "$file" ] || fail "there is no strata in target/: cargo build --release"
    echo "$file"
}

# ---- the network ----

wire() { # PORT HOST DEVICE: plugs a host into the switch
    ip -n "$lab-switch" link add "$1" type veth peer name "$3" netns "$lab-$2"
    ip -n "$lab-switch" link set "$1" master lan up
}

arm() { # HOST DEVICE IPV4 IPV6
    ip -n "$lab-$1" address add "$3/24" dev "$2"
    ip -n "$lab-$1" address add "$4/64" dev "$2" nodad
    ip -n "$lab-$1" link set "$2" up
}

network() { # MODE
    local host ends
    ends=$(endpoints_of "$1")
    for host in "${hosts[@]}" $ends; do
        ip netns add "$lab-$host"
        ip -n "$lab-$host" link set lo up
        # Addresses serve at once: nobody here has the same.
        on "$host" bash -c 'for scope in all default; do
            echo 0 > /proc/sys/net/ipv6/conf/$scope/accept_dad
            echo 0 > /proc/sys/net/ipv6/conf/$scope/accept_ra
        done'
    done
    ip -n "$lab-switch" link add lan type bridge forward_delay 0 mcast_snooping 0
    ip -n "$lab-switch" link set lan up
    wire router router eth0
    wire balancer balancer eth0
    for host in $ends; do wire "$host" "$host" eth0; done
    ip -n "$lab-router" link add far type veth peer name eth0 netns "$lab-client"

    arm client eth0 198.51.100.7 2001:db8:51::7
    arm router far 198.51.100.1 2001:db8:51::1
    arm router eth0 10.0.0.1 fd00::1
    arm balancer eth0 10.0.0.2 fd00::2
    for host in $ends; do arm "$host" eth0 "10.0.0.$(last_of "$host")" "fd00::$(last_of "$host")"; done
    local routers=router
    # Where endpoints have the balancer for a gateway, its kernel forwards what they send of their own.
    case $1 in nat | l4-nat | all) routers+=' balancer' ;; esac
    for host in $routers; do
        on "$host" bash -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
    done
    ip -n "$lab-client" route add default via 198.51.100.1
    ip -n "$lab-client" route add default via 2001:db8:51::1
    for host in balancer $ends; do
        ip -n "$lab-$host" route add default via 10.0.0.1
        ip -n "$lab-$host" route add default via fd00::1
    done
}

# ---- what runs on it ----

at() { # ADDRESS PORT
    case $1 in *:*) echo "[$1]:$2" ;; *) echo "$1:$2" ;; esac
}

# One service, pool and, for what rewrites packets, VIP of each family; or every layer.
configuration() { # MODE
    if [ "$1" = all ]; then
        cat "$here/conf/all-layers.toml"
        return
    fi
    printf '[metrics]\nlisten = "127.0.0.1:9901"\n[admin]\nlisten = "127.0.0.1:9900"\n'
    printf '[cluster]\nhash_key = "4f1c2a9be0d37758a6c4e1902b7d5f63"\n'
    family "$1" 4 $vip4 10.0.0
    family "$1" 6 $vip6 fd00:
}

family() { # MODE NUMBER VIP NETWORK
    local mode=$1 lab=lab$2 vip=$3 sign=. service probe='' endpoints='' number address
    [ "$2" = 4 ] || sign=:
    local source=$4${sign}3 # what endpoints see with full NAT: no host has it
    case $mode in
    l2) service='mode = "l2"' ;;
    ipip | gue | nat) service="mode = \"l3\"\nforward = \"$mode\"" ;;
    full-nat) service="mode = \"l3\"\nforward = \"full-nat\"\nsource = \"$source\"" ;;
    l4-nat) service='mode = "l4"\nforward = "nat"\nports = ["80/tcp", "80/udp"]' ;;
    l4-full-nat) service="mode = \"l4\"\nforward = \"full-nat\"\nsource = \"$source\"\nports = [\"80/tcp\", \"80/udp\"]" ;;
    l4 | l7) service="mode = \"$mode\"\nlisten = \"$(at "$vip" 80)\"" ;;
    *) fail "there is no mode $mode: l2, ipip, gue, nat, full-nat, l4-nat, l4-full-nat, l4, l7 or all" ;;
    esac
    case $mode in
    l4 | l7) ;;
    *)
        printf '[vip.%s]\naddress = "%s"\ninterface = "eth0"\n' $lab "$vip"
        service="$service\nvip = \"$lab\""
        ;;
    esac
    for number in 1 2 3; do
        address=$4${sign}4$number
        case $mode in
        l4* | l7) endpoints+="\"$(at "$address" 80)\", " ;;
        # These keep the port, whichever it is; only the probe has to know one.
        *) endpoints+="\"$address\", " probe=', port = 80' ;;
        esac
    done
    printf "[service.$lab]\n$service\npool = \"$lab\"\n"
    printf '[pool.%s]\nprobe = { type = "http", path = "/healthz", interval = "1s"%s }\n' $lab "$probe"
    printf 'endpoints = [%s]\n' "${endpoints%, }"
}

start() { # HOST NAME COMMAND…: in the background, with a log
    local host=$1 log=$state/$2.log
    shift 2
    # Of its own session: Ctrl-C in the shell that brought the lab up is not for it.
    setsid ip netns exec "$lab-$host" "$@" >"$log" 2>&1 </dev/null &
}

endpoints() { # MODE
    local host setup ports port listening=()
    for host in $(endpoints_of "$1"); do
        ports=80
        case $1-$host in
        l2-* | all-e4?) setup=(--mode l2 --vip "$vip4,$vip6") ;;
        ipip-* | gue-*) setup=(--mode "$1" --vip "$vip4,$vip6") ;;
        nat-* | l4-nat-* | all-e5?) setup=(--mode nat --balancer 10.0.0.2,fd00::2) ;;
        *) setup=() ;;
        esac
        case $1-$host in # where conf/all-layers.toml has them
        all-e[12]?) ports=8080 ;;
        all-e3?) ports=5432 ;;
        all-e4?) ports="80 7000" ;;
        all-e5?) ports="25 587" ;;
        all-e6?) ports=5353 ;;
        esac
        if [ ${#setup[@]} -gt 0 ]; then
            # Where the kernel has no tunnels, `strata decapsulate` takes their place.
            if ! on $host "$strata" setup-endpoint "${setup[@]}" --state "$state" --apply >"$state/$host-setup.log" 2>&1; then
                case $1 in ipip | gue) ;; *) cat "$state/$host-setup.log" && return 1 ;; esac
                on $host "$strata" setup-endpoint "${setup[@]}" --state "$state" --userspace --apply >"$state/$host-setup.log"
                start $host $host-decapsulate "$strata" decapsulate --mode "$1" --vip "$vip4,$vip6"
            fi
        fi
        for port in $ports; do
            start $host $host-$port "$strata" echo --listen "[::]:$port" --name $host
            listening+=("$host $port")
        done
    done
    # Strata's first probe must find them: whoever fails it is out until the next.
    for host in "${listening[@]}"; do
        await_listening $host
    done
}

# Waits up to 10 seconds.
await_listening() { # HOST PORT
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        # It is there for UDP last.
        [ -z "$(on "$1" ss -Hlun "sport = :$2")" ] || return 0
        sleep 0.1
    done
    echo "lab: nothing listens on $1, port $2" >&2
    return 1
}

fetch() { # HOST ADDRESS PORT PATH: the answer of an HTTP server, by bash alone
    on "$1" timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET %s HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n" "$2" >&3 &&
        cat <&3' "$2" "$3" "$4"
}

# Waits up to 10 seconds, or until it has ended.
await_ready() { # PID MODE
    local tries metrics=127.0.0.1
    [ "$2" != all ] || metrics=10.0.0.2
    for ((tries = 0; tries < 100; tries++)); do
        [[ $(fetch balancer $metrics 9901 '/readyz?all' 2>/dev/null) != *" 200 "* ]] || return 0
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    echo "lab: Strata is not ready" >&2
    return 1
}

# ---- commands ----

up() { # MODE
    [ "$(id -u)" = 0 ] || fail "network namespaces need root"
    command -v ip >/dev/null || fail "\`ip\` is not here: install iproute2"
    ! is_up || fail "it is up already: deploy/lab.sh down"
    strata=$(binary)
    mkdir -p "$state"
    local text
    text=$(configuration "$1")
    printf '%s\n' "$text" >"$state/strata.toml"
    if ! "$strata" check "$state/strata.toml" >"$state/check.log"; then
        cat "$state/strata.toml" "$state/check.log"
        rm -r "$state"
        fail "this Strata does not take the configuration above"
    fi
    echo "$1" >"$state/mode"
    echo "$strata" >"$state/binary"
    trap down EXIT
    trap 'exit 1' INT TERM
    network "$1"
    endpoints "$1"
    case $1 in
    l4 | l7)
        ip -n "$lab-balancer" address add $vip4/32 dev eth0
        ip -n "$lab-balancer" address add $vip6/128 dev eth0 nodad
        ;;
    esac
    start balancer strata "$strata" run "$state/strata.toml"
    if ! await_ready $! "$1"; then
        tail -20 "$state/strata.log"
        exit 1
    fi
    trap - EXIT
    local first pool=lab4
    first=$(endpoints_of "$1" | cut -d ' ' -f 1)
    [ "$1" != all ] || first=e41 pool=game
    cat <<END
The lab is up in mode $1. Worth trying:
  $0 try                 who answers when the client asks
  $0 status              what Strata says
  $0 shell client        then: curl http://$vip4/  ping $vip4  ip neigh
  $0 shell $first            then: ip address show lo; tcpdump -eni eth0
  $0 shell balancer      then: $strata drain $pool ENDPOINT  and ask again
  $0 down                removes it
Files: $state/strata.toml, $state/*.log
END
}

# Every service: its name, where the client reaches it, and the path to ask for, or `-` where it is asked by datagrams.
services() { # MODE
    if [ "$1" = all ]; then
        printf '%s\n' "game $vip4 80 /" "game $vip4 7000 -" 'mail 10.0.0.101 25 /' 'names 10.0.0.101 53 /' 'names 10.0.0.101 53 -' \
            'database 10.0.0.2 5432 /' 'site 10.0.0.2 80 /' 'site 10.0.0.2 80 /api/users'
        return
    fi
    printf '%s\n' "lab4 $vip4 80 /" "lab6 $vip6 80 /"
    case $1 in l4 | l7) ;; *) printf '%s\n' "lab4 $vip4 80 -" "lab6 $vip6 80 -" ;; esac
}

try() { # [COUNT]
    must_be_up
    local count=${1:-30} name address port path failed=0
    while read -r name address port path; do
        if [ "$path" = - ]; then
            echo "$name: $count datagrams from the client to $(at "$address" "$port")"
        else
            echo "$name: $count requests from the client to $(at "$address" "$port")$path"
        fi
        # One process asks them all, each on a connection, or from a port, of its own.
        on client timeout 60 bash -c '
            kind=tcp
            [ "$2" != - ] || kind=udp
            for ((i = 0; i < $3; i++)); do
                answer=none
                if exec 3<>"/dev/$kind/$0/$1"; then
                    if [ $kind = udp ]; then
                        # Datagrams get lost on a busy machine.
                        for try in 1 2 3; do
                            printf "who is it?\n" >&3
                            # Bash would read one byte, and the kernel drop the rest of the datagram.
                            line=$(timeout 3 head -n 1 <&3)
                            [[ $line != "endpoint "* ]] || { answer=${line#endpoint } && break; }
                        done
                    else
                        printf "GET %s HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n" "$2" >&3
                        while read -t 3 -r line <&3; do
                            [[ $line == "endpoint "* ]] && answer=${line#endpoint } && break
                        done
                    fi
                    exec 3>&-
                fi 2>/dev/null
                echo "$answer"
            done' "$address" "$port" "$path" "$count" </dev/null | sort | uniq -c | tee "$state/tally"
        ! grep -q none "$state/tally" && [ -s "$state/tally" ] || failed=1
    done < <(services "$(mode)")
    if on client sh -c 'command -v ping' >/dev/null; then
        for address in $(services "$(mode)" | cut -d ' ' -f 2 | sort -u); do
            printf 'ping %s: ' "$address"
            on client ping -c 3 -i 0.2 -W 1 -q "$address" </dev/null | grep transmitted || failed=1
        done
    fi
    [ $failed = 0 ] || echo "some requests had no answer" >&2
    return $failed
}

status() {
    must_be_up
    local host pids
    echo "mode $(mode), files in $state"
    for host in "${hosts[@]}" $(endpoints_of "$(mode)"); do
        pids=$(ip netns pids "$lab-$host" | tr '\n' ' ')
        printf '%-9s %-46s %s\n' "$host" "$(ip -n "$lab-$host" -br address show scope global | awk '$1 != "lan" { $2 = ""; print }' | tr '\n' ' ')" \
            "${pids:+runs $pids}"
    done
    on balancer "$(cat "$state/binary")" status
}

shell() { # HOST
    must_be_up
    [ -e "/run/netns/$lab-$1" ] || fail "there is no host $1: ${hosts[*]} $(endpoints_of "$(mode)")"
    on "$1" env PS1="[$1] \w # " bash --norc -i
}

down() {
    local host pid tries
    # Whatever runs in these namespaces runs for the lab.
    for host in $(every_host); do
        [ -e "/run/netns/$lab-$host" ] || continue
        for pid in $(ip netns pids "$lab-$host"); do kill "$pid" 2>/dev/null || true; done
    done
    for host in $(every_host); do
        [ -e "/run/netns/$lab-$host" ] || continue
        for ((tries = 0; tries < 30; tries++)); do
            [ -n "$(ip netns pids "$lab-$host")" ] || break
            sleep 0.1
        done
        for pid in $(ip netns pids "$lab-$host"); do kill -KILL "$pid" 2>/dev/null || true; done
        ip netns del "$lab-$host"
    done
    rm -rf "$state"
    echo "nothing is left of $lab"
}

case ${1:-} in
up) up "${2:?which mode: l2, ipip, gue, nat, full-nat, l4-nat, l4-full-nat, l4, l7 or all}" ;;
try) try "${2:-30}" ;;
status) status ;;
shell) shell "${2:?which host: ${hosts[*]}, or an endpoint}" ;;
down) down ;;
# What this file begins with.
*) sed -n '1d;/^#/!q;s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
