#!/usr/bin/env python3
"""Medians and ratios of http.sh's records as Markdown.

A record is `NAME SIZE KEY VALUE …`; a key may come many times, once a round. `cpu_us`, `half_cpu` and `rate` have two values,
of which the first is divided by the second.
"""

import statistics
import sys

NAMES = ["strata", "nginx", "nginx-64k", "haproxy", "haproxy-64k"]
SIZES = {"64": "64 B", "100k": "100 KB"}


def read(path):
    """{(name, size, key): [value of each round]}"""
    values = {}
    for line in open(path):
        name, size, *rest = line.split()
        while rest:
            key = rest.pop(0)
            value = float(rest.pop(0))
            if key in ("cpu_us", "half_cpu"):
                value = value / 1000 / float(rest.pop(0))
            elif key == "rate":
                value = value * 1e6 / float(rest.pop(0))
            values.setdefault((name, size, key), []).append(value)
    return values


def median(values, name, size, key):
    found = values.get((name, size, key))
    return statistics.median(found) if found else None


def peers(values, size, key):
    return [m for name in NAMES[1:] if (m := median(values, name, size, key)) is not None]


def half(values, size):
    """Half of what the fastest peer answers in a second; of Strata when it runs alone."""
    best = peers(values, size, "rate") or [median(values, "strata", size, "rate")]
    return round(max(best) / 2)


def ratio(mine, others, best):
    return f" ({mine / best(others):.2f})" if others and best(others) else ""


def print_tables(values):
    names = [n for n in NAMES if (n, "64", "rate") in values]
    for size, title in SIZES.items():
        offered = median(values, "-", size, "offered")
        rounds = len(values[(names[0], size, "rate")])
        print(f"\n### {title}, {rounds} round(s), medians; in brackets: ratio to the best peer\n")
        at = f"at {offered:.0f}/s"
        print(f"| proxy | CPU µs/request | requests/s | p50 ms | p99 ms | CPU µs/request {at} | p50 ms {at} | p99 ms {at} |")
        print("|---|---|---|---|---|---|---|---|")
        for name in names:
            cells = []
            columns = [("cpu_us", 1, 2, min), ("rate", 1, 0, max), ("p50", 1e3, 2, min), ("p99", 1e3, 2, min),
                       ("half_cpu", 1, 2, min), ("half_p50", 1e3, 2, min), ("half_p99", 1e3, 2, min)]
            for key, unit, digits, best in columns:
                mine = median(values, name, size, key)
                cells.append(f"{mine / unit:.{digits}f}" + ratio(mine, peers(values, size, key), best))
            print(f"| {name} | {' | '.join(cells)} |")
    print("\n### Memory\n\n| proxy | KiB of user memory per idle keep-alive connection |\n|---|---|")
    for name in names:
        mine = median(values, name, "idle", "idle_kib")
        print(f"| {name} | {mine:.2f}{ratio(mine, peers(values, 'idle', 'idle_kib'), min)} |")


values = read(sys.argv[2])
if sys.argv[1] == "half":
    print(half(values, sys.argv[3]))
else:
    print_tables(values)
