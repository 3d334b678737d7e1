"""An executor on the unmodified pymesos: many tasks, each doing what its `data` says, or what it is told by message.

Data of a task: `finish` ends it at once, `wait` keeps it until the message `finish TASK` or `fail TASK`, `sleep N` ends
it after N seconds. The message `ping X` is answered by `pong X`, `die N` ends the process with that code.
"""

import logging
import os
import sys
import threading
import time

from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


class Worker(Executor):
    def __init__(self):
        self.waiting = {}

    def registered(self, driver, executor_info, framework_info, agent_info):
        logging.info("registered on %s", agent_info["hostname"])

    def reregistered(self, driver, agent_info):
        logging.info("reregistered")

    def tell(self, driver, task_id, state, data=None):
        status = {"task_id": task_id, "state": state}
        if data is not None:
            status["data"] = encode_data(data)
        # While the agent is away there is nobody to tell.
        for _ in range(300):
            try:
                driver.sendStatusUpdate(dict(status))
                return
            except Exception as error:
                logging.info("cannot tell %s of %s yet: %s", state, task_id["value"], error)
                time.sleep(0.2)

    def launchTask(self, driver, task):
        task_id, what = task["task_id"], decode_data(task["data"]).decode()
        self.tell(driver, task_id, "TASK_RUNNING")
        if what == "wait":
            self.waiting[task_id["value"]] = task_id
            return
        delay = float(what.split(" ")[1]) if what.startswith("sleep ") else 0
        done = threading.Timer(delay, self.tell, [driver, task_id, "TASK_FINISHED", b"by %d" % os.getpid()])
        done.daemon = True
        done.start()

    def killTask(self, driver, task_id):
        self.waiting.pop(task_id["value"], None)
        self.tell(driver, task_id, "TASK_KILLED")

    def frameworkMessage(self, driver, message):
        what, argument = decode_data(message).decode().split(" ", 1)
        if what == "ping":
            driver.sendFrameworkMessage(encode_data(b"pong " + argument.encode()))
        elif what == "die":
            os._exit(int(argument))
        elif argument in self.waiting:
            state = "TASK_FINISHED" if what == "finish" else "TASK_FAILED"
            # Not here: this is the thread that would hear that the agent is back.
            threading.Thread(target=self.tell, args=[driver, self.waiting.pop(argument), state]).start()

    def shutdown(self, driver):
        logging.info("shut down")


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    print(" ".join("%s=%s" % pair for pair in sorted(os.environ.items()) if pair[0].startswith("MESOS_")), flush=True)
    driver = MesosExecutorDriver(Worker())
    driver.run()


if __name__ == "__main__":
    main()
