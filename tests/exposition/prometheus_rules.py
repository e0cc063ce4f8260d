"""What Prometheus asks of an exposition in the text format 0.0.4, by a reader of its own."""

import math
import re

METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
LABEL = re.compile(r'([^=,{}" ]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
SAMPLE = re.compile(r'([^ {]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? ([^ ]+)')
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]Inf|NaN")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
BOUNDS = {("histogram", "_bucket"): "le", ("summary", ""): "quantile"}


def broken_rules(body):
    """One line for each rule that the exposition breaks, with the line that breaks it."""
    broken = []
    families, helps, series, taken = {}, set(), set(), {}
    current = ""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        return [f"no UTF-8: {error}"]
    if text and not text.endswith("\n"):
        broken.append("no newline at its end")
    for line in text.split("\n")[:-1]:
        metadata = re.fullmatch(r"# (HELP|TYPE) ([^ ]+)(?: (.*))?", line)
        if metadata:
            keyword, name, rest = metadata.groups()
            if not METRIC_NAME.fullmatch(name):
                broken.append(f"name: {line}")
            if keyword == "HELP":
                if name in helps or name in families:
                    broken.append(f"HELP twice or late: {line}")
                helps.add(name)
                continue
            if name in families:
                broken.append(f"TYPE twice: {line}")
            if rest not in ("counter", "gauge", "untyped", "histogram", "summary"):
                broken.append(f"type: {line}")
            families[name] = rest
            current = name
            if any(taken.setdefault(name + suffix, name) != name for suffix in SUFFIXES.get(rest, ("",))):
                broken.append(f"two families with samples of one name: {line}")
            continue
        found = SAMPLE.fullmatch(line)
        if line.startswith("#") or not found:
            broken.append(f"neither metadata nor sample: {line}")
            continue
        name, inside, value = found.groups()
        kind = families.get(current)
        suffix = name.removeprefix(current)
        if kind is None or not name.startswith(current) or suffix not in SUFFIXES.get(kind, ("",)):
            broken.append(f"not with its family: {line}")
            continue
        labels = LABEL.findall((inside or "").removesuffix(","))
        if ",".join(f'{label}="{text}"' for label, text, _ in labels) != (inside or "").removesuffix(","):
            broken.append(f"labels: {line}")
        names = [label for label, _, _ in labels]
        if len(set(names)) != len(names):
            broken.append(f"label twice: {line}")
        if not all(LABEL_NAME.fullmatch(label) and not label.startswith("__") for label in names):
            broken.append(f"label name: {line}")
        if not NUMBER.fullmatch(value) or (math.isinf(float(value)) and "Inf" not in value):
            broken.append(f"number: {line}")
        bound = BOUNDS.get((kind, suffix))
        if bound and not NUMBER.fullmatch({label: text for label, text, _ in labels}.get(bound, "")):
            broken.append(f"no bound: {line}")
        if not bound and {"histogram": "le", "summary": "quantile"}.get(kind) in names:
            broken.append(f"a bound: {line}")
        key = (name, frozenset((label, text) for label, text, _ in labels if text))
        if key in series:
            broken.append(f"series twice: {line}")
        series.add(key)
    return broken
