"""Compares every installed file of the pinned clients with the hashes in its package's RECORD, and the versions with
requirements.txt. Prints a line a package; the exit status is 1 if anything differs.

    verify_installed.py requirements.txt...
"""

import base64
import hashlib
import importlib.metadata
import sys

bad = 0
for requirements in sys.argv[1:]:
    for line in open(requirements):
        if "==" not in line or line.startswith("#"):
            continue
        name, version = line.split()[0].split("==")
        distribution = importlib.metadata.distribution(name)
        verified = 0
        if distribution.version != version:
            print("%s: %s is installed, %s is wanted" % (name, distribution.version, version))
            bad += 1
        for file in distribution.files or []:
            if file.hash is None:  # RECORD itself, and byte code made later
                continue
            with open(file.locate(), "rb") as content:
                digest = hashlib.new(file.hash.mode, content.read()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                print("%s: %s differs from the package's record" % (name, file))
                bad += 1
            verified += 1
        if not verified:
            print("%s: the record names no file" % name)
            bad += 1
        print("%s %s: %d files as recorded" % (name, distribution.version, verified))
sys.exit(1 if bad else 0)
