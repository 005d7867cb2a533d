#!/usr/bin/env python3
"""Medians and ratios of packets.sh's records as Markdown.

A record is `TARGET FLOWS STEP OFFERED DELIVERED CPU_NS BUSY_NS`: rates in a second, times for a packet delivered.
"""

import statistics
import sys

MODES = ["l2", "ipip", "gue", "l3-nat", "l3-full-nat", "l4-nat", "l4-full-nat"]
NAMES = ["kernel", *MODES, *(f"af-xdp:{mode}" for mode in MODES), "pnet:l2", "pnet:l4-nat"]
TITLES = {"kernel": "kernel: nftables DNAT"}
LOOPS = {"": "", "af-xdp": "AF_XDP, ", "pnet": "pnet's loop, "}


def read(path):
    """{(target, flows, step): [(offered, delivered, cpu_ns, busy_ns) of each round]}"""
    values = {}
    for line in open(path):
        target, flows, step, *rest = line.split()
        values.setdefault((target, int(flows), step), []).append(tuple(map(float, rest)))
    return values


values = read(sys.argv[1])
fixed = int(sys.argv[2])
targets = [name for name in NAMES if any(key[0] == name for key in values)]
counts = sorted({key[1] for key in values})


def title(target):
    loop, _, mode = target.rpartition(":")
    return TITLES.get(target, LOOPS[loop] + mode.replace("-", " ", 1))


def median(target, flows, step, column):
    found = values.get((target, flows, step))
    return statistics.median(row[column] for row in found) if found else None


def ratio(target, other, flows):
    mine, theirs = median(target, flows, "most", 1), median(other, flows, "most", 1)
    return f"{mine / theirs:.2f}" if mine and theirs else ""


for flows in counts:
    rounds = len(values[(targets[0], flows, "most")])
    count = f"{flows:,}".replace(",", " ")
    print(f"\n### {count} flow{'s' * (flows > 1)}, {rounds} round(s), medians\n")
    print("| | most, M packets/s | to the kernel | to pnet's loop | CPU ns/packet then | lost then "
          f"| CPU ns/packet at {fixed / 1e6:g} M/s | flooded, M packets/s |")
    print("|---|---|---|---|---|---|---|---|")
    for target in targets:
        pnet = "pnet:l2" if target.endswith("l2") else "pnet:l4-nat"
        offered, most = median(target, flows, "most", 0), median(target, flows, "most", 1)
        cells = [f"{most / 1e6:.2f}", ratio(target, "kernel", flows), ratio(target, pnet, flows),
                 f"{median(target, flows, 'most', 2):.0f}", f"{max(0, 1 - most / offered) * 100:.0f} %",
                 f"{median(target, flows, 'fixed', 2):.0f}", f"{median(target, flows, 'flood', 1) / 1e6:.2f}"]
        print(f"| {title(target)} | {' | '.join(cells)} |")
