#!/usr/bin/env python3
"""Encodes a corpus with `encode_batch` of Python's tokenizers, for comparison in `bench --data`.

Takes one JSON object as its argument and prints one: {"name", "seconds", "tokens", "peak_rss_mib"}. The clock runs
from the first byte read to the last token counted; imports and loading the tokenizer are left out. Documents go
through in batches of 100,000, so that a large corpus fits. The number of threads is RAYON_NUM_THREADS.
Needs the tokenizers package and nothing else.
"""
import csv
import itertools
import json
import resource
import sys
import time

import tokenizers


def documents(job):
    """The documents of all files, blank ones of plain text left out as Vulpes leaves them out."""
    for path in job["files"]:
        if job["kind"] == "text":
            with open(path, encoding="utf-8", newline="") as file:
                yield from (text for text in cut(file, job) if text.strip())
        else:
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = (json.loads(line) for line in file if line.strip()) if job["kind"] == "jsonl" else csv.DictReader(file)
                for row in rows:
                    text = row[job["text_column"]]
                    yield (text, row[job["pair_column"]]) if job["pair_column"] else text


def cut(file, job):
    if job["document"] == "line":
        return (line.rstrip("\n").removesuffix("\r") for line in file)
    return file.read().split(job["marker"]) if job["marker"] else [file.read()]


def main():
    job = json.loads(sys.argv[1])
    tokenizer = tokenizers.Tokenizer.from_file(job["tokenizer"])
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if job["max_len"]:
        tokenizer.enable_truncation(job["max_len"])
    start, tokens, rest = time.perf_counter(), 0, documents(job)
    while batch := list(itertools.islice(rest, 100_000)):
        encoded = tokenizer.encode_batch(batch, add_special_tokens=job["frame"])
        tokens += sum(len(one.ids) for one in encoded) + job["n_ends"] * len(batch)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    name = f"tokenizers {tokenizers.__version__}, encode_batch"
    print(json.dumps({"name": name, "seconds": seconds, "tokens": tokens, "peak_rss_mib": peak}))


if __name__ == "__main__":
    main()
