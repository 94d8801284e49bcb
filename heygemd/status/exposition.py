"""Prometheus' text format (version 0.0.4): what a scrape and the textfile collector read.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric with its samples.  Base units are in the name (seconds, bytes, ratio); a counter's ends in _total."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    samples: tuple[Sample, ...]


def one(name: str, kind: Literal["gauge", "counter"], help_text: str, value: float) -> Metric:
    """A metric without labels."""
    return Metric(name, kind, help_text, (({}, value),))


def by(name: str, kind: Literal["gauge", "counter"], help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    """A metric with one label, a sample for each of its values."""
    return Metric(name, kind, help_text, tuple(({label: key}, value) for key, value in values.items()))


def to_text(metrics: Iterable[Metric]) -> bytes:
    """All of them, UTF-8; a metric without a sample is left out."""
    lines: list[str] = []
    for metric in metrics:
        if metric.samples:
            lines += [f"# HELP {metric.name} {_escaped(metric.help)}", f"# TYPE {metric.name} {metric.kind}"]
            lines += [f"{metric.name}{_labels(labels)} {_number(value)}" for labels, value in metric.samples]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    quoted = (f'{name}="{_escaped(value, quote=True)}"' for name, value in labels.items())
    return "{" + ",".join(quoted) + "}"


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: float) -> str:
    if math.isfinite(value):
        return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
