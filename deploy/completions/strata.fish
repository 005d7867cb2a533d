# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_strata_global_optspecs
    string join \n h/help V/version
end

function __fish_strata_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_strata_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_strata_using_subcommand
    set -l cmd (__fish_strata_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c strata -n "__fish_strata_needs_command" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_needs_command" -s V -l version -d 'Print version'
complete -c strata -n "__fish_strata_needs_command" -f -a "run" -d 'Serve what FILE says until told to stop (HUP reloads, USR2 upgrades, TERM drains, a second TERM or INT stops at once)'
complete -c strata -n "__fish_strata_needs_command" -f -a "check" -d 'Say whether each FILE is a valid configuration, with every mistake it has'
complete -c strata -n "__fish_strata_needs_command" -f -a "demo" -d 'Show Strata at work on this machine: three echo endpoints, an L7 and an L4 service, metrics and admin'
complete -c strata -n "__fish_strata_needs_command" -f -a "quick" -d 'Balance without a file: `strata quick l7 --listen :8080 --to 10.0.0.11:8080,10.0.0.12:8080`'
complete -c strata -n "__fish_strata_needs_command" -f -a "status" -d 'What is served, over which endpoints, and how they are'
complete -c strata -n "__fish_strata_needs_command" -f -a "top" -d 'Rates, latencies, errors and states of what is served, live; keys sort, filter and drain (h shows them)'
complete -c strata -n "__fish_strata_needs_command" -f -a "drain" -d 'No new work for an endpoint; what is open finishes. Until `restore`, or until Strata ends: it is not in the file'
complete -c strata -n "__fish_strata_needs_command" -f -a "maintain" -d 'Take an endpoint out; it is not probed either'
complete -c strata -n "__fish_strata_needs_command" -f -a "restore" -d 'Give an endpoint back what the file says'
complete -c strata -n "__fish_strata_needs_command" -f -a "weight" -d 'Set an endpoint\'s weight until the file changes it'
complete -c strata -n "__fish_strata_needs_command" -f -a "reload" -d 'Read the file again; waits, and reports what changed or every mistake'
complete -c strata -n "__fish_strata_needs_command" -f -a "events" -d 'The last changes and their causes: reloads, states, weights, drains, what ran out'
complete -c strata -n "__fish_strata_needs_command" -f -a "upgrade" -d 'Have a new process of the binary that is in its place now take over, without losing a connection; waits until it serves'
complete -c strata -n "__fish_strata_needs_command" -f -a "dump" -d 'The whole configuration as a file: defaults filled in, secrets masked, and the line that each value came from'
complete -c strata -n "__fish_strata_needs_command" -f -a "diff" -d 'What a reload would change in the running Strata; exits 0 if nothing, 1 if something, 2 on trouble'
complete -c strata -n "__fish_strata_needs_command" -f -a "list" -d 'What there is to choose from, and what words mean; without a topic, the topics'
complete -c strata -n "__fish_strata_needs_command" -f -a "gen" -d 'The schema of the configuration, the manual page, completions for a shell'
complete -c strata -n "__fish_strata_needs_command" -f -a "healthcheck" -d 'Exit 0 when Strata is ready, for container health checks'
complete -c strata -n "__fish_strata_needs_command" -f -a "echo" -d 'Run a small endpoint that says who it is and what it was asked: HTTP over TCP, and UDP at the same port'
complete -c strata -n "__fish_strata_needs_command" -f -a "try" -d 'Ask HTTP services again and again, and count who answered; exits 1 where an answer is missing or somebody else\'s'
complete -c strata -n "__fish_strata_needs_command" -f -a "docker-proxy" -d 'Let a Docker source ask an engine, and nobody change one: passes questions to its socket, and refuses everything else'
complete -c strata -n "__fish_strata_needs_command" -f -a "explain" -d 'Say what becomes of one packet, and why: service, slot, endpoint, what is rewritten, or why it is dropped'
complete -c strata -n "__fish_strata_needs_command" -f -a "replay" -d 'Run a capture through the model that decides about packets: each verdict with its reason'
complete -c strata -n "__fish_strata_needs_command" -f -a "doctor" -d 'Find what will break the packet modes on this host, a balancer or an endpoint, with the command that mends it'
complete -c strata -n "__fish_strata_needs_command" -f -a "setup-endpoint" -d 'On an endpoint of a packet mode: print what it needs there, or apply it, or take it back'
complete -c strata -n "__fish_strata_needs_command" -f -a "decapsulate" -d 'On an endpoint whose kernel has no tunnels: take IPIP or GUE headers off'
complete -c strata -n "__fish_strata_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c strata -n "__fish_strata_using_subcommand run" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand check" -l json -d 'Diagnostics as JSON, one document'
complete -c strata -n "__fish_strata_using_subcommand check" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand demo" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand quick" -l listen -d 'Where clients connect to: :8080 is every address, or 10.0.0.1:8080' -r
complete -c strata -n "__fish_strata_using_subcommand quick" -l to -d 'The endpoints: 10.0.0.11:8080,10.0.0.12:8080' -r
complete -c strata -n "__fish_strata_using_subcommand quick" -l balance -d 'How an endpoint is picked' -r -f -a "round-robin\t''
weighted-round-robin\t''
random\t''
first\t''
least-connections\t''
p2c\t''
source-hash\t''
ring-hash\t''
rendezvous\t''
maglev\t''"
complete -c strata -n "__fish_strata_using_subcommand quick" -l admin -d 'Where `strata status`, `explain`, `drain` and their like ask; or none' -r
complete -c strata -n "__fish_strata_using_subcommand quick" -l metrics -d 'Where Prometheus asks; or none' -r
complete -c strata -n "__fish_strata_using_subcommand quick" -l print-config -d 'Print the file that this means, and serve nothing'
complete -c strata -n "__fish_strata_using_subcommand quick" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand status" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand status" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand status" -l json
complete -c strata -n "__fish_strata_using_subcommand status" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand top" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand top" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand top" -l interval -d 'Time between two looks, which rates are over: 500ms, 2s' -r
complete -c strata -n "__fish_strata_using_subcommand top" -l iterations -d 'Print so many intervals as text, and end' -r
complete -c strata -n "__fish_strata_using_subcommand top" -l sort -d 'By which column' -r -f -a "file\t''
name\t''
requests\t''
connections\t''
packets\t''
bytes\t''
latency\t''
errors\t''
drops\t''
state\t''"
complete -c strata -n "__fish_strata_using_subcommand top" -l filter -d 'Only what has this in a name, pool, state or cause' -r
complete -c strata -n "__fish_strata_using_subcommand top" -l once -d 'Print one interval as text, and end'
complete -c strata -n "__fish_strata_using_subcommand top" -l json -d 'One document a line instead of text'
complete -c strata -n "__fish_strata_using_subcommand top" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand drain" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand drain" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand drain" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand maintain" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand maintain" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand maintain" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand restore" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand restore" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand restore" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand weight" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand weight" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand weight" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand reload" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand reload" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand reload" -l config -d 'Ask where this file says that it is asked, with its token; before --admin' -r -F
complete -c strata -n "__fish_strata_using_subcommand reload" -l pid -d 'Where nobody can be asked by that file, send this process SIGHUP; then only its log tells the outcome' -r
complete -c strata -n "__fish_strata_using_subcommand reload" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand events" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand events" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand events" -l since -d 'Those of so long, as in 10m; or those after an event\'s number, as in 128' -r
complete -c strata -n "__fish_strata_using_subcommand events" -l limit -d 'At most so many, the last ones' -r
complete -c strata -n "__fish_strata_using_subcommand events" -l json -d 'One JSON document'
complete -c strata -n "__fish_strata_using_subcommand events" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand upgrade" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand upgrade" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand upgrade" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand dump" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand dump" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand dump" -l json -d 'Values and places, one document'
complete -c strata -n "__fish_strata_using_subcommand dump" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand diff" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand diff" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand diff" -l json
complete -c strata -n "__fish_strata_using_subcommand diff" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand list" -l json
complete -c strata -n "__fish_strata_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c strata -n "__fish_strata_using_subcommand gen; and not __fish_seen_subcommand_from schema man completions help" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand gen; and not __fish_seen_subcommand_from schema man completions help" -f -a "schema" -d 'The JSON schema of the configuration, for editors'
complete -c strata -n "__fish_strata_using_subcommand gen; and not __fish_seen_subcommand_from schema man completions help" -f -a "man" -d 'The manual page, in roff: `strata gen man | man -l -`'
complete -c strata -n "__fish_strata_using_subcommand gen; and not __fish_seen_subcommand_from schema man completions help" -f -a "completions" -d 'Completions for a shell, to source or to put where it looks for them'
complete -c strata -n "__fish_strata_using_subcommand gen; and not __fish_seen_subcommand_from schema man completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c strata -n "__fish_strata_using_subcommand gen; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand gen; and __fish_seen_subcommand_from man" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand gen; and __fish_seen_subcommand_from completions" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand gen; and __fish_seen_subcommand_from help" -f -a "schema" -d 'The JSON schema of the configuration, for editors'
complete -c strata -n "__fish_strata_using_subcommand gen; and __fish_seen_subcommand_from help" -f -a "man" -d 'The manual page, in roff: `strata gen man | man -l -`'
complete -c strata -n "__fish_strata_using_subcommand gen; and __fish_seen_subcommand_from help" -f -a "completions" -d 'Completions for a shell, to source or to put where it looks for them'
complete -c strata -n "__fish_strata_using_subcommand gen; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c strata -n "__fish_strata_using_subcommand healthcheck" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand healthcheck" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand healthcheck" -l service -d 'Of this service alone; without it, when any is served' -r
complete -c strata -n "__fish_strata_using_subcommand healthcheck" -l all -d 'Not before everything is served'
complete -c strata -n "__fish_strata_using_subcommand healthcheck" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand echo" -l listen -d 'For TCP and UDP' -r
complete -c strata -n "__fish_strata_using_subcommand echo" -l name -d 'What it calls itself; default: its address, or the host\'s name where it listens on every address' -r
complete -c strata -n "__fish_strata_using_subcommand echo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c strata -n "__fish_strata_using_subcommand try" -l count -d 'Requests for each URL' -r
complete -c strata -n "__fish_strata_using_subcommand try" -l wait -d 'Until then whoever should answer may be missing; what is asked meanwhile is not counted' -r
complete -c strata -n "__fish_strata_using_subcommand try" -l timeout -d 'For each answer' -r
complete -c strata -n "__fish_strata_using_subcommand try" -s H -l header -d 'A field of each request, as in \'Host: api.example.com\'; may be given several times' -r
complete -c strata -n "__fish_strata_using_subcommand try" -l every -d 'Go on until stopped, one request for each URL every so often, and print what was counted every ten seconds' -r
complete -c strata -n "__fish_strata_using_subcommand try" -l client-kept -d 'Endpoints must see this host\'s own address as the client\'s'
complete -c strata -n "__fish_strata_using_subcommand try" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand docker-proxy" -l listen -d 'Where a source asks: tcp://ADDRESS as its `socket`. Only it may reach this' -r
complete -c strata -n "__fish_strata_using_subcommand docker-proxy" -l socket -d 'The engine\'s' -r -F
complete -c strata -n "__fish_strata_using_subcommand docker-proxy" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand explain" -l config -d 'Explain by this configuration, every endpoint up; absent: ask the running Strata' -r -F
complete -c strata -n "__fish_strata_using_subcommand explain" -l admin -d 'Its admin listener: an address, or unix:/path; default: that of the packaged service, where there is one, else 127.0.0.1:9900' -r
complete -c strata -n "__fish_strata_using_subcommand explain" -l token-file -d 'The file of its token, where it has one; or the token itself in STRATA_ADMIN_TOKEN' -r -F
complete -c strata -n "__fish_strata_using_subcommand explain" -l from -d 'Of a request: the client\'s address, with a port where one matters' -r
complete -c strata -n "__fish_strata_using_subcommand explain" -s H -l header -d 'Of a request: a field, as in \'Cookie: session=7\'; may be given several times' -r
complete -c strata -n "__fish_strata_using_subcommand explain" -l service -d 'Of a request: the service, where the URL does not say it' -r
complete -c strata -n "__fish_strata_using_subcommand explain" -l in -d 'Of a packet: the interface that it comes in by; default: the VIP\'s' -r
complete -c strata -n "__fish_strata_using_subcommand explain" -l live -d 'Ask the running Strata, with its health, intents, weights and counts: the default without --config'
complete -c strata -n "__fish_strata_using_subcommand explain" -l json -d 'One JSON document'
complete -c strata -n "__fish_strata_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c strata -n "__fish_strata_using_subcommand replay" -l config -d 'The configuration' -r -F
complete -c strata -n "__fish_strata_using_subcommand replay" -l out -d 'Also show each packet as it leaves'
complete -c strata -n "__fish_strata_using_subcommand replay" -l ours -d 'Leave out what is passed on to the kernel, and what this machine sent itself'
complete -c strata -n "__fish_strata_using_subcommand replay" -l json -d 'One JSON document a packet'
complete -c strata -n "__fish_strata_using_subcommand replay" -s h -l help -d 'Print help'
complete -c strata -n "__fish_strata_using_subcommand doctor" -l mode -d 'How packets come to the endpoint' -r -f -a "l2\t'The frame\'s address is rewritten: the VIP is on `lo`, and nobody may learn of it by ARP'
ipip\t'IP in IP'
gue\t'Generic UDP encapsulation, port 6080'
nat\t'Replies leave through the balancer'"
complete -c strata -n "__fish_strata_using_subcommand doctor" -l vip -d 'An address that clients reach; may be given several times. `nat` needs none' -r
complete -c strata -n "__fish_strata_using_subcommand doctor" -l interface -d 'Where packets come in; default: the interface of the default route' -r
complete -c strata -n "__fish_strata_using_subcommand doctor" -l balancer -d 'Strata\'s own address, which `nat` needs' -r
complete -c strata -n "__fish_strata_using_subcommand doctor" -l mtu -d 'Bytes of a packet that fit on the way from the balancer to a tunnel\'s end, where that is less than the interface\'s MTU' -r
complete -c strata -n "__fish_strata_using_subcommand doctor" -l endpoint -d 'This host is an endpoint: look whether it is set up for --mode'
complete -c strata -n "__fish_strata_using_subcommand doctor" -l userspace -d '`strata decapsulate` takes the place of a tunnel device'
complete -c strata -n "__fish_strata_using_subcommand doctor" -l json -d 'One JSON document'
complete -c strata -n "__fish_strata_using_subcommand doctor" -l checks -d 'List what is looked at'
complete -c strata -n "__fish_strata_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c strata -n "__fish_strata_using_subcommand setup-endpoint" -l mode -d 'How packets come: mode `l2`, or the `forward` of an l3 or l4 service' -r -f -a "l2\t'The frame\'s address is rewritten: the VIP is on `lo`, and nobody may learn of it by ARP'
ipip\t'IP in IP'
gue\t'Generic UDP encapsulation, port 6080'
nat\t'Replies leave through the balancer'"
complete -c strata -n "__fish_strata_using_subcommand setup-endpoint" -l vip -d 'An address that clients reach; may be given several times. `nat` needs none' -r
complete -c strata -n "__fish_strata_using_subcommand setup-endpoint" -l interface -d 'Where packets come in; default: the interface of the default route' -r
complete -c strata -n "__fish_strata_using_subcommand setup-endpoint" -l balancer -d 'Strata\'s own address. For `nat` it becomes the gateway; for tunnels its family is the outer header\'s' -r
complete -c strata -n "__fish_strata_using_subcommand setup-endpoint" -l mtu -d 'Bytes of a packet that fit on the way from the balancer to a tunnel\'s end, where that is less than the interface\'s MTU' -r
complete -c strata -n "__fish_strata_using_subcommand setup-endpoint" -l state -d 'Keeps the record of what has been changed' -r -F
complete -c strata -n "__fish_strata_using_subcommand setup-endpoint" -l userspace -d 'No tunnel device: `strata decapsulate` runs here and takes its place'
complete -c strata -n "__fish_strata_using_subcommand setup-endpoint" -l apply -d 'Do it, instead of printing it'
complete -c strata -n "__fish_strata_using_subcommand setup-endpoint" -l undo -d 'Take back what --apply has changed, and nothing else'
complete -c strata -n "__fish_strata_using_subcommand setup-endpoint" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c strata -n "__fish_strata_using_subcommand decapsulate" -l mode -d 'What the balancer puts before each packet' -r -f -a "ipip\t'IP in IP: protocols 4 and 41'
gue\t'Generic UDP encapsulation, port 6080'"
complete -c strata -n "__fish_strata_using_subcommand decapsulate" -l vip -d 'Whose packets are taken; may be given several times' -r
complete -c strata -n "__fish_strata_using_subcommand decapsulate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "run" -d 'Serve what FILE says until told to stop (HUP reloads, USR2 upgrades, TERM drains, a second TERM or INT stops at once)'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "check" -d 'Say whether each FILE is a valid configuration, with every mistake it has'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "demo" -d 'Show Strata at work on this machine: three echo endpoints, an L7 and an L4 service, metrics and admin'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "quick" -d 'Balance without a file: `strata quick l7 --listen :8080 --to 10.0.0.11:8080,10.0.0.12:8080`'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "status" -d 'What is served, over which endpoints, and how they are'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "top" -d 'Rates, latencies, errors and states of what is served, live; keys sort, filter and drain (h shows them)'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "drain" -d 'No new work for an endpoint; what is open finishes. Until `restore`, or until Strata ends: it is not in the file'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "maintain" -d 'Take an endpoint out; it is not probed either'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "restore" -d 'Give an endpoint back what the file says'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "weight" -d 'Set an endpoint\'s weight until the file changes it'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "reload" -d 'Read the file again; waits, and reports what changed or every mistake'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "events" -d 'The last changes and their causes: reloads, states, weights, drains, what ran out'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "upgrade" -d 'Have a new process of the binary that is in its place now take over, without losing a connection; waits until it serves'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "dump" -d 'The whole configuration as a file: defaults filled in, secrets masked, and the line that each value came from'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "diff" -d 'What a reload would change in the running Strata; exits 0 if nothing, 1 if something, 2 on trouble'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "list" -d 'What there is to choose from, and what words mean; without a topic, the topics'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "gen" -d 'The schema of the configuration, the manual page, completions for a shell'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "healthcheck" -d 'Exit 0 when Strata is ready, for container health checks'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "echo" -d 'Run a small endpoint that says who it is and what it was asked: HTTP over TCP, and UDP at the same port'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "try" -d 'Ask HTTP services again and again, and count who answered; exits 1 where an answer is missing or somebody else\'s'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "docker-proxy" -d 'Let a Docker source ask an engine, and nobody change one: passes questions to its socket, and refuses everything else'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "explain" -d 'Say what becomes of one packet, and why: service, slot, endpoint, what is rewritten, or why it is dropped'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "replay" -d 'Run a capture through the model that decides about packets: each verdict with its reason'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "doctor" -d 'Find what will break the packet modes on this host, a balancer or an endpoint, with the command that mends it'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "setup-endpoint" -d 'On an endpoint of a packet mode: print what it needs there, or apply it, or take it back'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "decapsulate" -d 'On an endpoint whose kernel has no tunnels: take IPIP or GUE headers off'
complete -c strata -n "__fish_strata_using_subcommand help; and not __fish_seen_subcommand_from run check demo quick status top drain maintain restore weight reload events upgrade dump diff list gen healthcheck echo try docker-proxy explain replay doctor setup-endpoint decapsulate help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c strata -n "__fish_strata_using_subcommand help; and __fish_seen_subcommand_from gen" -f -a "schema" -d 'The JSON schema of the configuration, for editors'
complete -c strata -n "__fish_strata_using_subcommand help; and __fish_seen_subcommand_from gen" -f -a "man" -d 'The manual page, in roff: `strata gen man | man -l -`'
complete -c strata -n "__fish_strata_using_subcommand help; and __fish_seen_subcommand_from gen" -f -a "completions" -d 'Completions for a shell, to source or to put where it looks for them'
