"""A framework on the unmodified avmesos: launches tasks on both nodes, sees each to its end, kills one, reconciles, and
tears itself down. It writes what it saw as JSON and judges nothing: the test that started it does.

    avmesos_framework.py URL RESULT.json

avmesos handles a record when the next one has come, if only the heartbeat of every 15 s: all of this takes a minute.
"""

import json
import logging
import sys
import threading
import time
import uuid

from avmesos.client import MesosClient

DEADLINE = 150
SHORT = 10
ENDS = ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST")


def new_task(name, command):
    return {
        "task_id": {"value": "%s.%s" % (name, uuid.uuid4().hex[:8])},
        "name": name,
        "command": {"shell": True, "value": command},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
        ],
    }


class Framework:
    def __init__(self, url):
        self.changed = threading.Condition()
        self.driver = None
        self.updates = []
        self.errors = []
        self.heartbeats = 0
        self.launched_on = {}
        self.declined = 0
        self.waiting = [new_task("short-%d" % n, "echo short %d; sleep 0.5" % n) for n in range(SHORT)]
        self.waiting.append(new_task("long", "sleep 1000"))
        self.tasks = [task["task_id"]["value"] for task in self.waiting]
        self.client = MesosClient([url], frameworkName="avmesos on a rack", frameworkUser="root", max_reconnect=1)
        self.client.on(MesosClient.SUBSCRIBED, self.subscribed)
        self.client.on(MesosClient.OFFERS, self.offers)
        self.client.on(MesosClient.UPDATE, self.update)
        self.client.on(MesosClient.ERROR, self.error)
        self.client.on(MesosClient.DISCONNECTED, self.error)
        self.client.on(MesosClient.HEARTBEAT, self.heartbeat)

    def subscribed(self, driver):
        with self.changed:
            self.driver = driver
            self.changed.notify_all()

    def heartbeat(self, _):
        with self.changed:
            self.heartbeats += 1

    def error(self, message):
        with self.changed:
            self.errors.append(str(message))
            self.changed.notify_all()

    def offers(self, offers):
        """At most six tasks on an offer, so that one node does not get them all."""
        for offer in offers:
            with self.changed:
                batch, self.waiting = self.waiting[:6], self.waiting[6:]
            if batch:
                agent = offer.get_offer()["agent_id"]
                for task in batch:
                    task["agent_id"] = agent
                    self.launched_on[task["task_id"]["value"]] = agent["value"]
                offer.accept(batch, {"filters": {"refuse_seconds": 1}})
            else:
                self.declined += 1
                offer.decline({"filters": {"refuse_seconds": 60}})

    def update(self, update):
        status = update["status"]
        with self.changed:
            self.updates.append(
                {
                    "at": time.time(),
                    "task": status["task_id"]["value"],
                    "state": status["state"],
                    "reason": status.get("reason"),
                    "message": status.get("message"),
                    "agent": status.get("agent_id", {}).get("value"),
                }
            )
            self.changed.notify_all()

    def wait(self, what, true, seconds=DEADLINE):
        end = time.time() + seconds
        with self.changed:
            while not true():
                if self.errors:
                    raise RuntimeError("%s: %s" % (what, self.errors))
                left = end - time.time()
                if left <= 0:
                    last = [(u["task"], u["state"], u["message"]) for u in self.updates[-5:]]
                    raise RuntimeError("not within %d s: %s; last updates: %s" % (seconds, what, last))
                self.changed.wait(min(left, 1))

    def has(self, task, states, reason=None):
        return [
            u for u in self.updates if u["task"] == task and u["state"] in states and reason in (None, u["reason"])
        ]

    def run(self):
        thread = threading.Thread(target=self.client.register, daemon=True)
        thread.start()
        self.wait("SUBSCRIBED", lambda: self.driver)
        long = self.tasks[-1]
        self.wait("%s in TASK_RUNNING" % long, lambda: self.has(long, ["TASK_RUNNING"]))
        self.wait("the end of the short ones", lambda: all(self.has(task, ENDS) for task in self.tasks[:-1]))

        agent = self.launched_on[long]
        self.driver.reconcile([{"task_id": {"value": long}, "agent_id": {"value": agent}}, {"task_id": {"value": "nobody-knows-me"}}])
        self.wait(
            "answers to the reconciliation",
            lambda: all(
                [u for u in self.updates if u["task"] == task and u["reason"] == "REASON_RECONCILIATION"]
                for task in (long, "nobody-knows-me")
            ),
        )
        self.driver.kill(agent, long)
        self.wait("the end of %s" % long, lambda: self.has(long, ENDS))
        self.driver.suppress()
        self.driver.revive()

        self.client.tearDown()
        # It notices when the next record comes.
        thread.join(40)
        return {
            "python": sys.version.split()[0],
            "framework": self.client.frameworkId,
            "master": self.client.get_master_info(),
            "tasks": self.tasks,
            "launched_on": self.launched_on,
            "updates": self.updates,
            "heartbeats": self.heartbeats,
            "declined": self.declined,
            "ended": not thread.is_alive(),
        }


def main():
    url, result_file = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    result = Framework(url).run()
    with open(result_file, "w") as file:
        json.dump(result, file)


main()
