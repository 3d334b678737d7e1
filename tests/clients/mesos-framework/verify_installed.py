"""Compares every file under node_modules with the packages npm installed, and those with the hashes in
package-lock.json. Prints a line in sum; the exit status is 1 if anything differs.

    verify_installed.py DIR CACHE

DIR holds package-lock.json and node_modules, CACHE is the cache npm was given. npm keeps each package there as it came,
under its own sha512.
"""

import base64
import hashlib
import json
import pathlib
import sys
import tarfile

directory, cache = map(pathlib.Path, sys.argv[1:])
installed, bad = set(), []
packages = {k: v for k, v in json.loads((directory / "package-lock.json").read_text())["packages"].items() if k}
for place, package in packages.items():
    kind, value = package["integrity"].split("-", 1)
    wanted = base64.b64decode(value).hex()
    tarball = cache / "_cacache/content-v2" / kind / wanted[:2] / wanted[2:4] / wanted[4:]
    if hashlib.new(kind, tarball.read_bytes()).hexdigest() != wanted:
        bad.append("%s: the package in the cache is another" % place)
    with tarfile.open(tarball) as archive:
        for member in archive:
            if not member.isfile():
                continue
            # The first folder of a package is taken off, whatever its name.
            file = directory / place / pathlib.PurePosixPath(*pathlib.PurePosixPath(member.name).parts[1:])
            installed.add(file)
            content = archive.extractfile(member).read()
            # npm takes the carriage return off the first line of a program, or the kernel would look for `node\r`.
            unix = content.replace(b"\r\n", b"\n", 1) if content.startswith(b"#!") else content
            if not file.is_file() or file.read_bytes() not in (content, unix):
                bad.append("%s differs from the package" % file)
for file in (directory / "node_modules").rglob("*"):
    # npm's own note of what it did, and links to programs.
    if file.is_file() and not file.is_symlink() and file not in installed and file.name != ".package-lock.json":
        bad.append("%s is in no package" % file)
print("\n".join(bad + ["%d packages, %d files as they came" % (len(packages), len(installed))]))
sys.exit(1 if bad or not installed else 0)
