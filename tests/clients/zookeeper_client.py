"""Looks for the leader with the unmodified kazoo, as Mesos's frameworks do, and prints a line of JSON for each it sees.

    zookeeper_client.py HOST:PORT,... LEADERS
"""

import json
import queue
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError, NotReadOnlyCallError

DEADLINE = 60


def leader(client):
    """The node with the lowest number."""
    nodes = sorted(name for name in client.get_children("/mesos") if name.startswith("json.info_"))
    if not nodes:
        return None
    try:
        data, stat = client.get("/mesos/" + nodes[0])
    except NoNodeError:
        return None
    assert stat.data_length == len(data) and stat.children_count == 0, stat
    address = json.loads(data)["address"]
    return {"leader": "%s:%d" % (address["ip"], address["port"]), "nodes": len(nodes)}


def main():
    hosts, count = sys.argv[1], int(sys.argv[2])
    client = KazooClient(hosts=hosts, timeout=5.0)
    client.start(timeout=DEADLINE)
    changes = queue.Queue()

    @client.ChildrenWatch("/mesos")
    def changed(_):
        changes.put(None)

    assert client.exists("/mesos") and client.exists("/nothing") is None
    children, stat = client.get_children("/mesos", include_data=True)
    assert stat.children_count == len(children), stat
    try:
        client.create("/mesos/other", b"")
        raise SystemExit("something was written")
    except NotReadOnlyCallError:
        pass
    seen = []
    while len(seen) < count:
        changes.get(timeout=DEADLINE)
        now = leader(client)
        if now is not None and (not seen or seen[-1]["leader"] != now["leader"]):
            seen.append(now)
            print(json.dumps(now), flush=True)
    client.stop()
    client.close()


main()
