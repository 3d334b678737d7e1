"""Counts the words below a directory with the unmodified DPark, and writes what it found as JSON.

    dpark_words.py -m MASTER -M MEM -c CPUS DIRECTORY RESULT.json
"""

import json
import sys

from dpark import DparkContext

directory, result = sys.argv[-2:]
words = DparkContext().textFile(directory, splitSize=20000).flatMap(lambda line: line.split())
counts = words.map(lambda word: (word, 1)).reduceByKey(lambda a, b: a + b, 4).collectAsMap()
with open(result, "w") as file:
    json.dump(counts, file)
