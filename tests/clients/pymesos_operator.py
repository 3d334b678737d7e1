"""An operator on the unmodified pymesos: subscribes to the event stream, and makes calls when told to on its standard
input, one order a line; each is answered by a line `done`. It judges nothing: the test that started it does.

    pymesos_operator.py HOST:PORT RESULT.json

    look NAME       every GET call that has an answer on any cluster; the answers are kept under NAME
    change          changes weights, quota, reservations, volumes, logging and maintenance, reads them back, and undoes them
    gone AGENT_ID   marks the agent gone and keeps which agents are left
    end             writes the result
"""

import json
import logging
import sys
import threading
import time

from pymesos import MesosOperatorMasterDriver, OperatorMaster

DEADLINE = 60
ROLE = "clients-role"


class Watcher(OperatorMaster):
    """Keeps every event with the time it came."""

    def __init__(self):
        self.lock = threading.Lock()
        self.events = []

    def keep(self, kind, event):
        with self.lock:
            self.events.append({"at": time.time(), "kind": kind, "event": event})

    def taskAdded(self, task_info):
        self.keep("task_added", task_info)

    def taskUpdated(self, task_info):
        self.keep("task_updated", task_info)

    def frameworkAdded(self, framework_info):
        self.keep("framework_added", framework_info)

    def frameworkUpdated(self, framework_info):
        self.keep("framework_updated", framework_info)

    def frameworkRemoved(self, framework_info):
        self.keep("framework_removed", framework_info)

    def agentAdded(self, agent_info):
        self.keep("agent_added", agent_info)

    def agentRemoved(self, agent_info):
        self.keep("agent_removed", agent_info)


class Subscribed(logging.Handler):
    """The driver tells nobody but its log that the stream has begun."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.seen = threading.Event()

    def emit(self, record):
        if "subscribed with cluster state" in record.getMessage():
            self.seen.set()


def look(driver):
    """Every read the driver has for a master."""
    return {
        "health": driver.getHealth(),
        "flags": driver.getFlags(),
        "version": driver.getVersion(),
        "metrics": driver.getMetrics(5000000000),
        "logging_level": driver.getLoggingLevel(),
        "state": driver.getState(),
        "frameworks": driver.getFrameworks(),
        "executors": driver.getExecutors(),
        "tasks": driver.getTasks(),
        "agents": driver.getAgents(),
        "roles": driver.getRoles(),
        "weights": driver.getWeights(),
        "master": driver.getMaster(),
        "maintenance_status": driver.getMaintenanceStatus(),
        "maintenance_schedule": driver.getMaintenanceSchedule(),
        "quota": driver.getQuota(),
    }


def reservation(name, amount):
    return {
        "name": name,
        "type": "SCALAR",
        "scalar": {"value": amount},
        "reservations": [{"type": "DYNAMIC", "role": ROLE, "principal": "operator"}],
    }


def agent_of(driver, agent_id):
    for agent in driver.getAgents()["get_agents"]["agents"]:
        if agent["agent_info"]["id"]["value"] == agent_id:
            return agent
    raise RuntimeError("no agent %s" % agent_id)


def change(driver):
    """Each change is read back, and then undone, so that frameworks find everything as it was."""
    seen = {}

    driver.updateWeights([{"role": ROLE, "weight": 2.5}])
    seen["weights"] = driver.getWeights()
    driver.updateWeights([{"role": ROLE, "weight": 1.0}])

    guarantee = [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.25}}]
    driver.setQuota({"role": ROLE, "guarantee": guarantee})
    seen["quota"] = driver.getQuota()
    driver.removeQuota(ROLE)
    seen["quota_removed"] = driver.getQuota()

    agent_id = driver.getAgents()["get_agents"]["agents"][0]["agent_info"]["id"]["value"]
    seen["agent"] = agent_id
    driver.reserveResources(agent_id, [reservation("cpus", 0.2), reservation("disk", 32)])
    seen["reserved"] = agent_of(driver, agent_id)
    volume = reservation("disk", 32)
    volume["disk"] = {
        "persistence": {"id": "clients-volume", "principal": "operator"},
        "volume": {"mode": "RW", "container_path": "data"},
    }
    driver.createVolumes(agent_id, [volume])
    seen["volume"] = agent_of(driver, agent_id)
    driver.destroyVolumes(agent_id, [volume])
    driver.unreserveResources(agent_id, [reservation("cpus", 0.2), reservation("disk", 32)])
    seen["unreserved"] = agent_of(driver, agent_id)

    driver.setLoggingLevel(1, 60000000000)
    seen["logging_level"] = driver.getLoggingLevel()

    machine = {"hostname": "not-in-this-rack", "ip": "192.0.2.1"}
    window = {
        "machine_ids": [machine],
        "unavailability": {"start": {"nanoseconds": int(time.time() + 3600) * 1000000000}},
    }
    driver.updateMaintenanceSchedule([window])
    seen["schedule"] = driver.getMaintenanceSchedule()
    seen["draining"] = driver.getMaintenanceStatus()
    driver.startMaintenance([machine])
    seen["down"] = driver.getMaintenanceStatus()
    driver.stopMaintenance([machine])
    driver.updateMaintenanceSchedule([])
    seen["schedule_empty"] = driver.getMaintenanceSchedule()
    return seen


def main():
    master, result_file = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("pymesos").setLevel(logging.INFO)
    subscribed = Subscribed()
    logging.getLogger("pymesos.operator_v1").addHandler(subscribed)

    watcher = Watcher()
    driver = MesosOperatorMasterDriver(master, watcher)
    driver.start()
    if not subscribed.seen.wait(DEADLINE):
        raise RuntimeError("not subscribed within %d s" % DEADLINE)
    print("subscribed", flush=True)

    result = {"python": sys.version.split()[0], "looks": {}, "events": watcher.events}
    for line in sys.stdin:
        order, _, rest = line.strip().partition(" ")
        if order == "look":
            result["looks"][rest] = look(driver)
        elif order == "change":
            result["change"] = change(driver)
        elif order == "gone":
            driver.markAgentGone(rest)
            result["after_gone"] = driver.getAgents()
        elif order == "end":
            break
        else:
            raise RuntimeError("no order %r" % line)
        print("done", flush=True)
    driver.stop()
    with watcher.lock:
        with open(result_file, "w") as file:
            json.dump(result, file)
    print("done", flush=True)


main()
