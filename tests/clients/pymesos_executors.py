"""A framework on the unmodified pymesos that has executors of its own, told on its standard input what to do.

    pymesos_executors.py MASTER EXECUTOR.json

EXECUTOR.json is the ExecutorInfo without its id and framework. One order a line:

    launch EXECUTOR TASK=DATA ...    on one offer, all in one ACCEPT
    say EXECUTOR TEXT                a message to it
    kill TASK

It prints `registered`, `TASK STATE REASON` for every new status (`-` for no reason), `TASK data TEXT` before one that
has data, `said EXECUTOR TEXT` for a message, and `lost EXECUTOR STATUS` for an executor that ended.
"""

import json
import logging
import sys
import threading

from pymesos import MesosSchedulerDriver, Scheduler, decode_data, encode_data


def say(*words):
    print(*words, flush=True)


class Owner(Scheduler):
    def __init__(self, executor):
        self.executor, self.framework = executor, None
        self.lock = threading.Lock()
        self.orders, self.agents, self.seen = [], {}, set()

    def registered(self, driver, framework_id, master_info):
        self.framework = framework_id
        say("registered")

    def reregistered(self, driver, master_info):
        say("registered")

    def launch(self, executor, tasks):
        with self.lock:
            self.orders.append((executor, tasks))

    def resourceOffers(self, driver, offers):
        for offer in offers:
            with self.lock:
                # An executor stays where it is.
                here = lambda order: self.agents.get(order[0], offer["agent_id"]) == offer["agent_id"]
                order = next(filter(here, self.orders), None)
                if order:
                    self.orders.remove(order)
                    self.agents[order[0]] = offer["agent_id"]
            if not order:
                driver.declineOffer(offer["id"], {"refuse_seconds": 0.2})
                continue
            executor = dict(self.executor, executor_id={"value": order[0]}, framework_id=self.framework)
            tasks = [
                {
                    "task_id": {"value": name},
                    "name": name,
                    "agent_id": offer["agent_id"],
                    "executor": executor,
                    "data": encode_data(data.encode()),
                    "resources": [
                        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                        {"name": "mem", "type": "SCALAR", "scalar": {"value": 16}},
                    ],
                }
                for name, data in (task.split("=", 1) for task in order[1])
            ]
            driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 0.2})

    def statusUpdate(self, driver, status):
        name, uuid = status["task_id"]["value"], status.get("uuid")
        if uuid and uuid in self.seen:
            return
        self.seen.add(uuid)
        if status.get("data"):
            say(name, "data", decode_data(status["data"]).decode())
        say(name, status["state"], status.get("reason", "-"))

    def frameworkMessage(self, driver, executor_id, agent_id, message):
        say("said", executor_id["value"], decode_data(message).decode())

    def executorLost(self, driver, executor_id, agent_id, status):
        with self.lock:
            self.agents.pop(executor_id["value"], None)
        say("lost", executor_id["value"], status)


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    with open(sys.argv[2]) as file:
        owner = Owner(json.load(file))
    info = {"user": "root", "name": "pymesos executors", "checkpoint": True, "failover_timeout": 3600}
    driver = MesosSchedulerDriver(owner, info, sys.argv[1])
    driver.start()
    for line in sys.stdin:
        what, argument = line.rstrip("\n").split(" ", 1)
        if what == "launch":
            executor, *tasks = argument.split(" ")
            owner.launch(executor, [task.replace("_", " ") for task in tasks])
            driver.reviveOffers()
        elif what == "say":
            executor, text = argument.split(" ", 1)
            driver.sendFrameworkMessage({"value": executor}, owner.agents[executor], encode_data(text.encode()))
        elif what == "kill":
            driver.killTask({"value": argument})
    driver.stop()
    driver.join()


if __name__ == "__main__":
    main()
