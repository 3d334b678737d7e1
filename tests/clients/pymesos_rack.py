"""A framework on the unmodified pymesos that runs its tasks in one rack only: it reads the attribute `rack` of every
offer and declines the others. It writes what it saw as JSON and judges nothing.

    pymesos_rack.py HOST:PORT RESULT.json RACK TASKS
"""

import json
import logging
import sys
import threading
import time

from pymesos import MesosSchedulerDriver, Scheduler

DEADLINE = 120
TERMINAL = ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST")


class Framework(Scheduler):
    def __init__(self, rack, tasks):
        self.rack, self.waiting = rack, ["rack-%d" % number for number in range(tasks)]
        self.changed = threading.Condition()
        self.racks, self.placed, self.ends, self.errors = {}, {}, {}, []

    def resourceOffers(self, driver, offers):
        with self.changed:
            for offer in offers:
                agent = offer["agent_id"]["value"]
                racks = [a["text"]["value"] for a in offer.get("attributes", []) if a["name"] == "rack" and "text" in a]
                self.racks[agent] = racks
                tasks = []
                if racks == [self.rack] and self.waiting:
                    task_id = self.waiting.pop(0)
                    self.placed[task_id] = agent
                    tasks = [
                        {
                            "task_id": {"value": task_id},
                            "agent_id": offer["agent_id"],
                            "name": task_id,
                            "command": {"shell": True, "value": "echo here"},
                            "resources": [
                                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                                {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
                            ],
                        }
                    ]
                # Without tasks this declines.
                driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 0.5})

    def statusUpdate(self, driver, status):
        with self.changed:
            if status["state"] in TERMINAL:
                self.ends[status["task_id"]["value"]] = status["state"]
            self.changed.notify_all()

    def error(self, driver, message):
        with self.changed:
            self.errors.append(message)
            self.changed.notify_all()


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    master, result_file, rack, tasks = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    framework = Framework(rack, tasks)
    driver = MesosSchedulerDriver(framework, {"user": "root", "name": "pymesos in a rack"}, master)
    driver.start()
    end = time.time() + DEADLINE
    with framework.changed:
        while len(framework.ends) < tasks and not framework.errors and time.time() < end:
            framework.changed.wait(1)
        result = {
            "racks": framework.racks,
            "placed": framework.placed,
            "ends": framework.ends,
            "errors": framework.errors,
        }
    with open(result_file, "w") as file:
        json.dump(result, file, indent=1)
    driver.stop()
    driver.join()


if __name__ == "__main__":
    main()
