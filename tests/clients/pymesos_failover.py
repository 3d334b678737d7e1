"""A framework on the unmodified pymesos that runs tasks while masters die, and writes what became of them as JSON.

    pymesos_failover.py MASTER RESULT.json TASKS SECONDS

A task whose launch was lost with a leader is asked for when the framework is back, and counted as never launched when
the master does not know it. Prints a line whenever it is registered and for each end, so that a test can tell how far it is.
"""

import json
import logging
import sys
import threading
import time

from pymesos import MesosSchedulerDriver, Scheduler

TERMINAL = ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR")
UNKNOWN = ("TASK_LOST", "TASK_DROPPED", "TASK_GONE", "TASK_UNKNOWN")


class Books(Scheduler):
    def __init__(self, count):
        self.lock = threading.Condition()
        self.waiting = ["task-%d" % number for number in range(count)]
        self.ends = {}
        self.never = []
        self.registrations = 0
        self.launched_at = 0.0

    def registered(self, driver, framework_id, master_info):
        self.came_back()

    def reregistered(self, driver, master_info):
        self.came_back()

    def came_back(self):
        with self.lock:
            self.registrations += 1
        print("registered", flush=True)

    def resourceOffers(self, driver, offers):
        for offer in offers:
            with self.lock:
                due = time.time() - self.launched_at > 0.2
                names = [self.waiting.pop() for _ in range(min(2, len(self.waiting)))] if due else []
                for name in names:
                    self.ends[name] = []
                if names:
                    self.launched_at = time.time()
            tasks = [
                {
                    "task_id": {"value": name},
                    "name": name,
                    "agent_id": offer["agent_id"],
                    "command": {"shell": True, "value": "sleep 0.3"},
                    "resources": [
                        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                        {"name": "mem", "type": "SCALAR", "scalar": {"value": 16}},
                    ],
                }
                for name in names
            ]
            driver.launchTasks(offer["id"], tasks, {"refuse_seconds": 0.1})

    def statusUpdate(self, driver, status):
        name, state = status["task_id"]["value"], status["state"]
        with self.lock:
            if status.get("uuid") and state in TERMINAL and [status["uuid"], state] not in self.ends[name]:
                self.ends[name].append([status["uuid"], state])
                print("end", flush=True)
            elif not status.get("uuid") and state in UNKNOWN and not self.ends[name] and name not in self.never:
                self.never.append(name)
                print("never", flush=True)

    def open(self):
        with self.lock:
            return [name for name, ends in self.ends.items() if not ends and name not in self.never]

    def done(self):
        return not self.waiting and not self.open()


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    master, result_file, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    books = Books(count)
    info = {"user": "root", "name": "pymesos failover", "checkpoint": True, "failover_timeout": 3600}
    driver = MesosSchedulerDriver(books, info, master)
    driver.start()
    end, asked = time.time() + seconds, time.time()
    while not books.done() and time.time() < end:
        time.sleep(0.2)
        if time.time() - asked > 5 and books.open():
            asked = time.time()
            try:
                driver.reconcileTasks([{"task_id": {"value": name}} for name in books.open()])
            except Exception as error:  # there is no leader at this moment
                logging.info("cannot reconcile now: %s", error)
    with open(result_file, "w") as file:
        json.dump({"ends": books.ends, "never": books.never, "registrations": books.registrations}, file, indent=1)
    driver.stop()
    driver.join()


if __name__ == "__main__":
    main()
