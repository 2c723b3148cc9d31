"""Figures of a running server for Prometheus, at /metrics."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monailabel.interfaces.utils.app import apps
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.responses import Response

from resmtnet.monai_label.retention import downloads, volumes

logger = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ROUTE = re.compile(
    r"/(info|train|infer|batch|scoring|activelearning|datastore|model|session|logs|ohif|static|auth"
    r"|login|logout|health|ready|metrics|resmtnet|proxy|docs|openapi\.json)(?:/|$)"
)
_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_VERDICTS = ("published", "kept", "failed", "stopped")

REGISTRY = CollectorRegistry()
REQUEST_SECONDS = Histogram(
    "resmtnet_request_seconds",
    "Time from a request to the end of its answer.",
    ("route", "method", "status"),
    buckets=_BUCKETS_S,
    registry=REGISTRY,
)
RUNNING = Gauge(
    "resmtnet_requests_running", "Requests that run or wait.", ("route",), registry=REGISTRY
)
PUT_OFF = Counter(
    "resmtnet_requests_put_off", "Requests answered 503: too many at once.", ("route",),
    registry=REGISTRY,
)  # fmt: skip


def route_label(path: str) -> str:
    """Return the first step of a path, which names no patient and no study.

    >>> route_label("/proxy/dicom/wado/studies/1.2.3"), route_label("/wp-admin")
    ('/proxy', 'other')
    """
    match = _ROUTE.match(path)
    if match is None:
        return "/" if path == "/" else "other"
    return f"/{match[1]}"


def metrics_page() -> Response:
    """Return all figures in the text format of Prometheus."""
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE})


class _AppFigures:
    """What the app itself knows, read when it is asked for."""

    def collect(self) -> Iterator[Metric]:
        for app in list(apps.values()):
            for figures in (_model, _readings, _training, _caches):
                try:
                    yield from figures(app)
                except Exception as error:  # the other figures are still told
                    logger.warning("A figure cannot be read: %s", type(error).__name__)


def _gauge(name: str, told: str, value: float, **labels: str) -> Metric:
    gauge = GaugeMetricFamily(f"resmtnet_{name}", told, labels=list(labels))
    gauge.add_metric(list(labels.values()), value)
    return gauge


def _model(app: Any) -> Iterator[Metric]:
    now = app.shared.now
    info = now.model.info
    yield _gauge(
        "model_info",
        "The version that answers.",
        1,
        model=info.name,
        version=info.version,
        sha256=info.sha256[:16],
    )
    yield _gauge("model_warnings", "Warnings about the version that answers.", len(now.warnings))


def _readings(app: Any) -> Iterator[Metric]:
    yield _gauge("readings", "Readings in the database.", app.inbox.store.count())


def _training(app: Any) -> Iterator[Metric]:
    for trainer in app._trainers.values():
        stats = trainer.stats()
        yield _gauge("training_running", "Whether a training runs.", int(trainer.runs))
        last = GaugeMetricFamily(
            "resmtnet_last_training", "How the last training ended.", labels=["verdict"]
        )
        for verdict in _VERDICTS:
            last.add_metric([verdict], int(stats.get("verdict") == verdict))
        yield last


def _caches(app: Any) -> Iterator[Metric]:
    yield _gauge("open_cts", "CTs that are kept open.", app.shared.open_count())
    used = sum(kept.n_bytes for kept in (*volumes(), *downloads()))
    yield _gauge("cache_bytes", "CTs on the disk, decompressed or made into one file.", used)
    home = next(
        p for p in (Path(app.inbox.database), *Path(app.inbox.database).parents) if p.exists()
    )
    yield _gauge(
        "disk_free_bytes", "Free space where the readings are.", shutil.disk_usage(home).free
    )


REGISTRY.register(_AppFigures())
