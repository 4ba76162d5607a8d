"""Prints the copyright file of a package (DEP-5): ours, and that of every library which is linked into the program.

    packaging/copyright.py TRIPLE [FEATURE…]

A licence such as MIT wants its words and the names of its holders to go with the binary, so both are read from the
sources that the program was built from. Where a library offers Apache-2.0 we take that, since Debian has its text. A
licence that this script does not know, or a library without the text of its own, ends it: somebody has to look.
"""

import json
import pathlib
import re
import subprocess
import sys

# What a licence is called in DEP-5, and how its text is known when it is seen.
KNOWN = {
    "Apache-2.0": ("Apache-2.0", None),
    "BSD-3-Clause": ("BSD-3-clause", "Redistribution and use in source and binary forms"),
    "ISC": ("ISC", "Permission to use, copy, modify, and"),
    "MIT": ("Expat", "Permission is hereby granted, free of charge"),
}

HEAD = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: twinagent
Comment:
 The program is linked with the libraries below crates/, each with its version
 there, and with the standard library of Rust. Their sources are those of the
 Rust package registry, by the checksums in the Cargo.lock of twinagent.

Files: *
Copyright: 2026 the twinagent maintainers
License: Apache-2.0

Files: rust/library/*
Copyright: the Rust Project contributors
License: Apache-2.0
"""

APACHE = """\
License: Apache-2.0
 Licensed under the Apache License, Version 2.0. You may not use the files
 except in compliance with the License. Unless required by applicable law or
 agreed to in writing, software distributed under the License is distributed on
 an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express
 or implied.
 .
 On Debian systems its full text is in /usr/share/common-licenses/Apache-2.0.
"""


def chosen(expression):
    """The licences under which we take a library, all of which hold.

    >>> chosen("MIT OR Apache-2.0"), chosen("Unlicense/MIT"), chosen("Apache-2.0 AND ISC")
    (['Apache-2.0'], ['MIT'], ['Apache-2.0', 'ISC'])
    >>> chosen("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT")
    ['Apache-2.0']
    >>> chosen("GPL-3.0 AND MIT")
    Traceback (most recent call last):
    ValueError: nobody has decided about the licence GPL-3.0 AND MIT
    """
    offers = [part.strip(" ()").split(" AND ") for part in re.split(r" OR |/", expression)]
    offers = [offer for offer in offers if all(one in KNOWN for one in offer)]
    if not offers:
        raise ValueError(f"nobody has decided about the licence {expression}")
    return min(offers, key=lambda offer: [one != "Apache-2.0" for one in offer])


def linked(metadata):
    """The packages that are linked into our program: what it needs when it runs, without macros.

    >>> def package(name, kind): return {"id": name, "name": name, "version": "1", "targets": [{"kind": [kind]}]}
    >>> def need(name, kind): return {"pkg": name, "dep_kinds": [{"kind": kind}]}
    >>> packages = [package("us", "bin"), package("lib", "lib"), package("macro", "proc-macro"), package("inner", "lib")]
    >>> nodes = [{"id": "us", "deps": [need("lib", None), need("macro", None), need("inner", "dev")]},
    ...          {"id": "lib", "deps": []}, {"id": "macro", "deps": [need("inner", None)]}, {"id": "inner", "deps": []}]
    >>> [one["name"] for one in linked({"packages": packages, "resolve": {"root": "us", "nodes": nodes}})]
    ['lib']
    """
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    seen, open_ends = set(), [metadata["resolve"]["root"]]
    while open_ends:
        for dep in nodes[open_ends.pop()]["deps"]:
            is_macro = any("proc-macro" in target["kind"] for target in packages[dep["pkg"]]["targets"])
            if dep["pkg"] not in seen and not is_macro and any(kind["kind"] is None for kind in dep["dep_kinds"]):
                seen.add(dep["pkg"])
                open_ends.append(dep["pkg"])
    return sorted((packages[one] for one in seen), key=lambda package: (package["name"], package["version"]))


def is_holder(line):
    """Whether the line names a holder, and is not part of a licence's text or of a form to be filled in.

    >>> [is_holder(one) for one in ("Copyright (c) 2020 A", "copyright notice and this", "Copyright [yyyy] [name]")]
    [True, False, False]
    """
    return bool(re.match(r"\W*copyright\b.*(\d{4}|\(c\)|©)", line, re.IGNORECASE)) and "[yyyy]" not in line


def texts_of(package):
    """The licence files of a library."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [one for one in sorted(folder.iterdir()) if re.match(r"(?i)(un)?licen[cs]e|copying|notice", one.name)]
    return [one.read_text(encoding="utf-8") for one in files if one.is_file()]


def holders(package, texts):
    """Who holds the copyright, in the library's own words."""
    lines = (line.strip(" \t*/#-") for text in texts for line in text.splitlines() if is_holder(line))
    found = [re.sub(r"(?i)^(copyright\b|\(c\)|©|[:\s])+", "", line) for line in lines]
    return list(dict.fromkeys(found)) or [", ".join(package["authors"]) or f"the authors of {package['name']}"]


def words(text, mark):
    """The text of a licence from the paragraph that has its mark, without titles and holders.

    >>> words("MIT License\\n\\nCopyright (c) 2020 A\\n\\nPermission is hereby\\ngranted.\\n\\nNo warranty.\\n", "Permission is")
    'Permission is hereby\\ngranted.\\n\\nNo warranty.'
    """
    paragraphs = [paragraph.strip() for paragraph in re.split(r"\n\s*\n", text)]
    first = next(index for index, paragraph in enumerate(paragraphs) if mark in " ".join(paragraph.split()))
    kept = ("\n".join(line for line in paragraph.splitlines() if not is_holder(line)) for paragraph in paragraphs[first:])
    return "\n\n".join(paragraph for paragraph in kept if paragraph)


def field(text):
    """Indented as the continuation of a field."""
    return "\n".join(f" {line.strip()}" if line.strip() else " ." for line in text.splitlines())


def copyright(packages):
    """The whole file."""
    paragraphs, licences = [HEAD], {}
    for package in packages:
        texts, names = texts_of(package), []
        for licence in chosen(package["license"]):
            name, mark = KNOWN[licence]
            if mark:
                text = next((text for text in texts if mark in " ".join(text.split())), None)
                if text is None:
                    sys.exit(f"{package['name']} {package['version']} is under {licence} and has no text of it")
                text = words(text, mark)
                # The same words with other line breaks are the same licence.
                key = name, re.sub(r"\W+", " ", text).lower()
                if key not in licences:
                    count = sum(1 for other, _ in licences if other == name)
                    licences[key] = f"{name}-{count + 1}" if count else name, text
                name = licences[key][0]
            names.append(name)
        paragraphs.append(
            f"Files: crates/{package['name']}-{package['version']}/*\n"
            f"Copyright: {field(chr(10).join(holders(package, texts))).strip()}\n"
            f"License: {' and '.join(names)}\n"
        )
    paragraphs += [f"License: {name}\n{field(text)}\n" for name, text in sorted(licences.values())]
    return "\n".join([*paragraphs, APACHE])


if __name__ == "__main__":
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={sys.argv[1]}"]
    command.append(f"--features={','.join(sys.argv[2:])}")
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(copyright(linked(metadata)), end="")
