"""A Toil workflow: counts the words of some texts in a job each, and adds them up in another.

    toil_words.py JOBSTORE RESULT --batchSystem mesos --mesosEndpoint HOST:PORT
"""

import sys

from toil.common import Toil
from toil.job import Job

NEEDS = {"memory": "64M", "cores": 0.5, "disk": "32M", "preemptible": False}
TEXTS = ["one two three", "four five", "six", ""]


def count(job, text):
    return len(text.split())


def add(job, counts):
    return sum(counts)


def begin(job):
    counts = [job.addChildJobFn(count, text, **NEEDS).rv() for text in TEXTS]
    return job.addFollowOnJobFn(add, counts, **NEEDS).rv()


if __name__ == "__main__":
    result = sys.argv.pop(2)
    options = Job.Runner.getDefaultArgumentParser().parse_args()
    with Toil(options) as toil:
        total = toil.start(Job.wrapJobFn(begin, **NEEDS))
    with open(result, "w") as file:
        file.write(str(total))
