#!/usr/bin/python3
"""No Grafana: what stands in its place where its image cannot be had (tests/docker/bases).

Reads what is provisioned as Grafana does, from the same places, and says what is wrong: YAML and JSON that do not parse, a data source
that nobody answers at, a folder of dashboards that is not mounted or empty, two dashboards of one uid, panels whose data source is not
provisioned. Only where all is well does /api/health answer 200. It draws nothing.

Called by the name of `wget` it is what the image's health check calls: exits 0 if the URL answers 200."""

import http.server
import json
import os
import pathlib
import signal
import sys
import urllib.request

PROVISIONING = pathlib.Path(os.environ.get("GF_PATHS_PROVISIONING", "/etc/grafana/provisioning"))


def documents(kind):
    import yaml

    found = []
    for path in sorted((PROVISIONING / kind).glob("*.y*ml")):
        try:
            found.append((path, yaml.safe_load(path.read_text()) or {}))
        except yaml.YAMLError as error:
            yield f"{path}: {error}"
    if not found:
        yield f"nothing in {PROVISIONING / kind}"
    yield found


def used(node):
    """The uids of data sources that a dashboard names."""
    if isinstance(node, dict):
        source = node.get("datasource")
        if isinstance(source, dict) and "uid" in source:
            yield source["uid"]
        for inner in node.values():
            yield from used(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from used(inner)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return answer.status == 200
    except OSError:
        return False


def wrong():
    """What is wrong with what is provisioned."""
    said = []
    read = {}
    for kind in ("datasources", "dashboards"):
        *mistakes, read[kind] = documents(kind)
        said += mistakes
    uids = {"-- Grafana --", "-- Dashboard --", "-- Mixed --", "grafana"}
    for path, document in read["datasources"]:
        for source in document.get("datasources") or []:
            uids.add(source.get("uid"))
            if source.get("type") != "prometheus":
                said.append(f"{path}: {source.get('name')} is no Prometheus")
            elif not answers(source["url"].rstrip("/") + "/-/ready"):
                said.append(f"{path}: nobody is ready at {source['url']}")
    seen = {}
    for path, document in read["dashboards"]:
        for provider in document.get("providers") or []:
            folder = pathlib.Path(provider["options"]["path"])
            boards = sorted(folder.glob("**/*.json"))
            if not boards:
                said.append(f"{path}: no dashboard in {folder}")
            for board in boards:
                try:
                    content = json.loads(board.read_text())
                except ValueError as error:
                    said.append(f"{board}: {error}")
                    continue
                uid = content.get("uid")
                if not uid or not content.get("title"):
                    said.append(f"{board}: no uid or no title")
                if uid in seen:
                    said.append(f"{board}: has the uid of {seen[uid]}")
                seen[uid] = board
                for source in set(used(content)) - uids:
                    if not str(source).startswith("$"):
                        said.append(f"{board}: data source {source} is not provisioned")
    return said


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        mistakes = wrong() if self.path == "/api/health" else None
        status = 404 if mistakes is None else 503 if mistakes else 200
        body = json.dumps({"stand-in": True, "wrong": mistakes}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


if os.path.basename(sys.argv[0]) == "wget":
    sys.exit(0 if answers(sys.argv[-1]) else 1)
# The first process of a container has no default for it.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("stand-in: this is no Grafana; it only judges what is provisioned", flush=True)
for mistake in wrong():
    print("stand-in:", mistake, flush=True)
http.server.ThreadingHTTPServer(("", int(os.environ.get("GF_SERVER_HTTP_PORT", "3000"))), Health).serve_forever()
