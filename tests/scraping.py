"""A scrape as Prometheus makes it."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families


def scrape(port: int) -> Mapping[str, float]:
    """`name{values of its labels}` → figure; nothing while nobody answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/metrics")
    except ConnectionRefusedError:
        return {}
    text = connection.getresponse().read().decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {f"{name}{{{','.join(labels.values())}}}": value for name, labels, value, *_ in samples}
