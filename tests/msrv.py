"""Holds `rust-version` of Cargo.toml, the one place where it is written, without a second toolchain.

Every crate that our library or programs are built from (not those of the tests alone) must itself declare a version
no higher than ours, or none. That our own code uses nothing newer is held by clippy (`incompatible_msrv`).

Prints our version; exits 1 and names each crate that asks for more.
"""

import json
import subprocess
import sys


def version(text):
    """The version as numbers.

    >>> version("1.88") < version("1.88.1") < version("1.100.0")
    True
    >>> version("1.88") == version("1.88.0")
    True
    """
    parts = [int(part) for part in text.split("-")[0].split(".")]
    return parts + [0] * (3 - len(parts))


def demanding(metadata):
    """Our version, and the crates of the build that ask for a newer one.

    >>> def package(name, rust): return {"id": name, "name": name, "version": "1.0.0", "rust_version": rust}
    >>> def need(name, kind): return {"pkg": name, "dep_kinds": [{"kind": kind}]}
    >>> packages = [package("us", "1.88"), package("old", None), package("new", "1.90"), package("test", "1.91")]
    >>> nodes = [{"id": "us", "deps": [need("old", None), need("test", "dev")]}, {"id": "new", "deps": []},
    ...          {"id": "old", "deps": [need("new", "build")]}, {"id": "test", "deps": []}]
    >>> demanding({"packages": packages, "resolve": {"root": "us", "nodes": nodes}})
    ('1.88', ['new 1.0.0 asks for Rust 1.90'])
    """
    packages = {package["id"]: package for package in metadata["packages"]}
    needs = {
        node["id"]: [
            dep["pkg"] for dep in node["deps"] if any(kind["kind"] in (None, "build") for kind in dep["dep_kinds"])
        ]
        for node in metadata["resolve"]["nodes"]
    }
    root = metadata["resolve"]["root"]
    ours = packages[root]["rust_version"]
    seen, open_ends = {root}, [root]
    while open_ends:
        for need in needs[open_ends.pop()]:
            if need not in seen:
                seen.add(need)
                open_ends.append(need)
    newer = [
        f"{package['name']} {package['version']} asks for Rust {package['rust_version']}"
        for package in (packages[one] for one in sorted(seen))
        if package["rust_version"] and version(package["rust_version"]) > version(ours)
    ]
    return ours, newer


if __name__ == "__main__":
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--all-features"]
    command.append("--filter-platform=x86_64-unknown-linux-gnu")
    ours, newer = demanding(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    print(ours)
    if newer:
        sys.exit("\n".join([*newer, "hint: hold the crate back in Cargo.lock, or raise rust-version and say so"]))
