"""A framework on the unmodified pymesos: runs the scenarios named on its command line one after the other, and writes
what it saw as JSON. It judges nothing: the test that started it does.

    pymesos_framework.py HOST:PORT RESULT.json SCENARIO...
"""

import json
import logging
import sys
import threading
import time
import uuid

from pymesos import MesosSchedulerDriver, Scheduler

DEADLINE = 120


class Framework(Scheduler):
    """Keeps offers until a scenario uses them, and every update with the time it came."""

    def __init__(self):
        self.changed = threading.Condition()
        self.offers = {}
        self.offers_seen = []
        self.updates = []
        self.framework_id = None
        self.errors = []

    def registered(self, driver, framework_id, master_info):
        with self.changed:
            self.framework_id = framework_id["value"]
            self.changed.notify_all()

    def resourceOffers(self, driver, offers):
        with self.changed:
            for offer in offers:
                self.offers[offer["id"]["value"]] = offer
                self.offers_seen.append(
                    {"at": time.time(), "agent": offer["agent_id"]["value"], "resources": summary(offer["resources"])}
                )
            self.changed.notify_all()

    def offerRescinded(self, driver, offer_id):
        with self.changed:
            self.offers.pop(offer_id["value"], None)

    def statusUpdate(self, driver, status):
        with self.changed:
            self.updates.append(
                {
                    "at": time.time(),
                    "task": status["task_id"]["value"],
                    "state": status["state"],
                    "reason": status.get("reason"),
                    "source": status.get("source"),
                    "message": status.get("message"),
                    "agent": status.get("agent_id", {}).get("value"),
                    "uuid": status.get("uuid"),
                    "limitation": status.get("limitation"),
                    "healthy": status.get("healthy"),
                    "check_status": status.get("check_status"),
                }
            )
            self.changed.notify_all()

    def error(self, driver, message):
        with self.changed:
            self.errors.append(message)
            self.changed.notify_all()

    def wait(self, what, true, seconds=DEADLINE):
        """Waits until `true()` gives something, or fails and says what was waited for."""
        end = time.time() + seconds
        with self.changed:
            while True:
                got = true()
                if got:
                    return got
                if self.errors:
                    raise RuntimeError("the master says: %s" % self.errors)
                left = end - time.time()
                if left <= 0:
                    last = [(u["task"], u["state"], u["reason"], u["message"]) for u in self.updates[-5:]]
                    raise RuntimeError("not within %d s: %s; last updates: %s" % (seconds, what, last))
                self.changed.wait(min(left, 1))

    def of(self, task):
        return [update for update in self.updates if update["task"] == task]

    def wait_state(self, task, states, seconds=DEADLINE):
        def reached():
            found = [update for update in self.of(task) if update["state"] in states]
            return found[0] if found else None

        return self.wait("%s in %s" % (task, states), reached, seconds)

    def wait_end(self, task, seconds=DEADLINE):
        return self.wait_state(task, TERMINAL, seconds)


TERMINAL = ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST")


def summary(resources):
    amounts = {}
    for resource in resources:
        if resource["type"] == "SCALAR":
            amounts[resource["name"]] = amounts.get(resource["name"], 0) + resource["scalar"]["value"]
    return amounts


def fits(offer, cpus, mem):
    have = summary(offer["resources"])
    return have.get("cpus", 0) + 1e-6 >= cpus and have.get("mem", 0) + 1e-6 >= mem


def new_task(name, command, cpus=0.1, mem=32):
    if isinstance(command, str):
        command = {"shell": True, "value": command}
    return {
        "task_id": {"value": "%s.%s" % (name, uuid.uuid4().hex[:8])},
        "name": name,
        "command": command,
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": mem}},
        ],
    }


class Scenarios:
    def __init__(self, driver, framework):
        self.driver = driver
        self.framework = framework

    def launch(self, task, cpus, mem):
        """Launches on the first offer that holds so much."""
        framework = self.framework

        def take():
            for key, offer in framework.offers.items():
                if fits(offer, cpus, mem):
                    return framework.offers.pop(key)
            return None

        offer = framework.wait("an offer of cpus %s and mem %s" % (cpus, mem), take)
        task["agent_id"] = offer["agent_id"]
        self.driver.launchTasks(offer["id"], [task], {"refuse_seconds": 0})
        return task["task_id"]["value"]

    def run(self, name, command, cpus=0.1, mem=32, seconds=DEADLINE, **more):
        """Launches one task and waits for its end."""
        task = new_task(name, command, cpus, mem)
        task.update(more)
        began = time.time()
        task_id = self.launch(task, cpus, mem)
        end = self.framework.wait_end(task_id, seconds)
        return {"task": task_id, "end": end, "seconds": end["at"] - began}

    # ---- the scenarios, by the names they are asked for

    def hundred(self):
        """A hundred short tasks, at most ten on an offer, so that no node gets them all."""
        waiting = [new_task("hundred-%d" % n, "echo task %d; sleep 0.2" % n) for n in range(100)]
        ids = [task["task_id"]["value"] for task in waiting]
        began = time.time()
        while waiting:
            with self.framework.changed:
                while not self.framework.offers:
                    if not self.framework.changed.wait(DEADLINE):
                        raise RuntimeError("no offer for %d more tasks" % len(waiting))
                key, offer = self.framework.offers.popitem()
            have = summary(offer["resources"])
            room = int(min(have.get("cpus", 0) / 0.1 + 1e-6, have.get("mem", 0) / 32 + 1e-6, 10))
            batch, waiting = waiting[:room], waiting[room:]
            for task in batch:
                task["agent_id"] = offer["agent_id"]
            # Without tasks this declines.
            self.driver.launchTasks(offer["id"], batch, {"refuse_seconds": 0 if batch else 1})
        ends = [self.framework.wait_end(task, 300) for task in ids]
        return {"tasks": ids, "ends": ends, "seconds": time.time() - began}

    def decline(self):
        """Declines every node for an hour, sees nothing for a while, revives, is offered them again."""
        framework = self.framework
        framework.wait("offers", lambda: len({o["agent_id"]["value"] for o in framework.offers.values()}) >= 2)
        declined = set()
        end = time.time() + 4
        while time.time() < end:
            with framework.changed:
                offers, framework.offers = framework.offers, {}
            for key, offer in offers.items():
                declined.add(offer["agent_id"]["value"])
                self.driver.declineOffer({"value": key}, {"refuse_seconds": 3600})
            time.sleep(0.2)
        quiet_from = time.time()
        time.sleep(6)
        seen = [offer for offer in framework.offers_seen if offer["at"] >= quiet_from]
        revived_at = time.time()
        self.driver.reviveOffers()
        framework.wait("offers after REVIVE", lambda: {o["agent_id"]["value"] for o in framework.offers.values()} >= declined)
        return {"declined": sorted(declined), "while_declined": len(seen), "seconds_to_revive": time.time() - revived_at}

    def kill(self):
        task = new_task("kill", "sleep 1000")
        task_id = self.launch(task, 0.1, 32)
        self.framework.wait_state(task_id, ["TASK_RUNNING"])
        asked = time.time()
        self.driver.killTask({"value": task_id})
        end = self.framework.wait_end(task_id)
        return {"task": task_id, "end": end, "seconds": end["at"] - asked}

    def stubborn(self):
        """Ignores SIGTERM: the grace of its kill policy passes before SIGKILL."""
        task = new_task("stubborn", "trap 'echo ignored' TERM; echo ready; while :; do sleep 0.1; done")
        task["kill_policy"] = {"grace_period": {"nanoseconds": 2000000000}}
        task_id = self.launch(task, 0.1, 32)
        self.framework.wait_state(task_id, ["TASK_RUNNING"])
        time.sleep(2)
        asked = time.time()
        self.driver.killTask({"value": task_id})
        end = self.framework.wait_end(task_id)
        return {"task": task_id, "end": end, "seconds": end["at"] - asked}

    def reconcile(self):
        """Explicitly a running task and one nobody knows, then implicitly everything."""
        framework = self.framework
        task_id = self.launch(new_task("reconcile", "sleep 1000"), 0.1, 32)
        framework.wait_state(task_id, ["TASK_RUNNING"])
        before = len(framework.updates)
        self.driver.reconcileTasks([{"task_id": {"value": task_id}}, {"task_id": {"value": "nobody-knows-me"}}])

        def answered():
            new = framework.updates[before:]
            return new if {u["task"] for u in new} >= {task_id, "nobody-knows-me"} else None

        explicit = list(framework.wait("answers to the explicit reconciliation", answered))
        before = len(framework.updates)
        self.driver.reconcileTasks([])
        framework.wait("an answer to the implicit reconciliation", lambda: [u for u in framework.updates[before:] if u["task"] == task_id])
        implicit = framework.updates[before:]
        self.driver.killTask({"value": task_id})
        framework.wait_end(task_id)
        return {"task": task_id, "explicit": explicit, "implicit": implicit}

    def exit3(self):
        return self.run("exit3", "exit 3")

    def unknown(self):
        return self.run("unknown", {"shell": False, "value": "/no/such/program", "arguments": ["/no/such/program"]})

    def environment(self):
        variables = [{"name": "GREETING", "value": "hello there"}, {"name": "EMPTY", "value": ""}]
        command = {"shell": True, "value": "env; pwd; echo to-stderr >&2", "environment": {"variables": variables}}
        return self.run("environment", command)

    def too_much(self):
        """Asks for more than the offer it is launched on holds."""
        task = new_task("too-much", "true", cpus=1000)
        task_id = self.launch(task, 0.1, 32)
        return {"task": task_id, "end": self.framework.wait_end(task_id)}

    def memory(self):
        """Allocates 100 MiB against a limit of 32."""
        return self.run("memory", "head -c 100m /dev/zero | tail >/dev/null; echo survived; exit 9", cpus=0.5)

    def pids(self):
        """A fork bomb. What it came to is told by the shell alone, which could not start a program any more."""
        command = (
            "mkfifo /tmp/never; exec 3<>/tmp/never; read max </sys/fs/cgroup/pids.max; echo max $max; "
            "bomb() { bomb & bomb & read nothing <&3; }; (bomb) 2>/dev/null & "
            "peak=0; i=0; while [ $i -lt 10 ]; do read -t 1 nothing <&3; read now </sys/fs/cgroup/pids.current; "
            "[ $now -gt $peak ] && peak=$now; i=$((i+1)); done; echo peak $peak; "
            "while read key value; do echo event $key $value; done </sys/fs/cgroup/pids.events; exit 0"
        )
        return self.run("pids", command, cpus=0.5, mem=256)

    def cpu(self):
        """Burns on every processor for 30 s with half a cpu, and reads its own cpu.stat before and after."""
        command = (
            "look() { while read key value; do [ $key = usage_usec ] && usage=$value; done </sys/fs/cgroup/cpu.stat; "
            "read up rest </proc/uptime; echo $1 $usage $up; }; "
            "(while :; do :; done) & (while :; do :; done) & "
            "sleep 2; look before; sleep 30; look after; kill %1 %2; exit 0"
        )
        return self.run("cpu", command, cpus=0.5, mem=32)

    def checks(self):
        """One task whose check sees a file come and go, one whose health check fails after a while."""
        framework = self.framework
        script = "sleep 6; touch seen; sleep 6; rm seen; sleep 1000"
        seen = new_task("seen", script)
        seen["check"] = {
            "type": "COMMAND",
            "command": {"command": {"value": "test -e seen"}},
            "delay_seconds": 0,
            "interval_seconds": 1,
        }
        seen = self.launch(seen, 0.1, 32)
        sick = new_task("sick", "touch well; sleep 5; rm well; sleep 1000")
        sick["health_check"] = {
            "type": "COMMAND",
            "command": {"value": "test -e well"},
            "delay_seconds": 0,
            "interval_seconds": 1,
            "grace_period_seconds": 0,
            "consecutive_failures": 2,
        }
        sick = self.launch(sick, 0.1, 32)
        end = framework.wait_end(sick)

        def saw():
            codes = [(update["check_status"] or {}).get("command", {}).get("exit_code") for update in framework.of(seen)]
            return len([code for code in codes if code is not None]) >= 3

        framework.wait("three changes of the check", saw)
        self.driver.killTask({"value": seen})
        framework.wait_end(seen)
        return {"seen": framework.of(seen), "sick": framework.of(sick), "end": end}


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    master, result_file, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    framework = Framework()
    info = {"user": "root", "name": "pymesos acceptance", "checkpoint": True}
    driver = MesosSchedulerDriver(framework, info, master)
    driver.start()
    result = {"python": sys.version.split()[0], "scenarios": {}, "failures": {}}
    try:
        framework.wait("the framework to be registered", lambda: framework.framework_id, 60)
        result["framework"] = framework.framework_id
        result["version"] = driver.version
        scenarios = Scenarios(driver, framework)
        for name in names:
            began = time.time()
            try:
                result["scenarios"][name] = getattr(scenarios, name)()
            except Exception as error:  # the others still tell something
                result["failures"][name] = "%s: %s" % (type(error).__name__, error)
            print("%s took %.1f s" % (name, time.time() - began), file=sys.stderr, flush=True)
    finally:
        result["updates"] = framework.updates
        result["offers_seen"] = len(framework.offers_seen)
        with open(result_file, "w") as file:
            json.dump(result, file, indent=1)
        driver.stop()
        driver.join()


if __name__ == "__main__":
    main()
