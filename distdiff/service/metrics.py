"""What the service counts, in the form that Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class _Now(Collector):
    """What is looked at when somebody asks."""

    def __init__(self, service: Any) -> None:
        self._service = service

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        service = self._service
        yield GaugeMetricFamily("distdiff_jobs_waiting", "Jobs that wait for their turn", value=len(service.queue))
        yield GaugeMetricFamily("distdiff_systems", "Systems held", value=len(service.systems))
        yield GaugeMetricFamily("distdiff_traces", "Functions of modules being traced", value=service.tracers.under_way)
        yield GaugeMetricFamily("distdiff_traces_waiting", "Functions of modules that wait for being traced",
                                value=service.tracers.waiting)
        width = GaugeMetricFamily("distdiff_batch_width", "Requests for a product of a system that one solve answers, "
                                  "at most", labels=["system", "kind"])
        for name, system in tuple(service.systems.items()):
            for kind, most in tuple(system.widths.items()):
                width.add_metric([name, kind], most)
        yield width
        memory = GaugeMetricFamily("distdiff_rank_memory_bytes", "Resident memory after the last command",
                                   labels=["rank"])
        time = CounterMetricFamily("distdiff_rank_processor_seconds", "Processors' time until the last command",
                                   labels=["rank"])
        for rank, used in enumerate(service.ranks.used):
            memory.add_metric([str(rank)], used.memory)
            time.add_metric([str(rank)], used.seconds)
        yield memory
        yield time


class Metrics:
    """The service's own registry: nothing of the process or of other libraries is in it."""

    def __init__(self, service: Any) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Now(service))
        self.jobs = Counter("distdiff_jobs", "Jobs that ended", ["kind", "state"], registry=self.registry)
        self.solves = Counter("distdiff_solves", "Solves, one for a batch of right-hand sides", ["kind"],
                              registry=self.registry)
        self.columns = Counter("distdiff_right_hand_sides", "Right-hand sides solved for", ["kind"],
                               registry=self.registry)
        self.batch = Histogram("distdiff_batch_size", "Right-hand sides of a solve", ["kind"],
                               buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=self.registry)
        self.solving = Histogram("distdiff_solve_seconds", "Time of a solve, on rank 0", ["kind"],
                                 buckets=tuple(4.0**k * 1e-4 for k in range(11)), registry=self.registry)
        self.job = Histogram("distdiff_job_seconds", "Time from a job's arrival to its end", ["kind"],
                             buckets=tuple(4.0**k * 1e-4 for k in range(11)), registry=self.registry)
        self.requests = Counter("distdiff_http_requests", "Requests answered", ["status"], registry=self.registry)
        self._answered: dict[int, Any] = {}  # of `requests`, by status: finding it takes longer than counting
        self.busy = Gauge("distdiff_busy", "1 while a command is carried out", registry=self.registry)

    def solved(self, kind: str, count: int, seconds: float) -> None:
        self.solves.labels(kind).inc()
        self.columns.labels(kind).inc(count)
        self.batch.labels(kind).observe(count)
        self.solving.labels(kind).observe(seconds)

    def ended(self, job: Any) -> None:
        self.jobs.labels(job.kind, job.state).inc()
        self.job.labels(job.kind).observe(time.time() - job.submitted)

    def answered(self, status: int) -> None:
        counter = self._answered.get(status)
        if counter is None:
            counter = self._answered[status] = self.requests.labels(str(status))
        counter.inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
