"""What the server counts, in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Telemetry:
    """Counters of one server.

    Attributes:
      requests: finished requests, by route and status.
      seconds: of requests that were answered with an image.
      queue: requests that are read, wait or run.
      batches: images of each batch.
      computing: seconds of each batch.
    """

    def __init__(self) -> None:
        """Creates counters at zero."""
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "ditfuse_requests", "finished requests", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "ditfuse_request_seconds",
            "seconds from a request to its image",
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue = Gauge(
            "ditfuse_queue", "requests that are read, wait or run", registry=registry
        )
        self.batches = Histogram(
            "ditfuse_batch_images", "images per batch", buckets=(1, 2, 4, 8, 16), registry=registry
        )
        self.computing = Histogram(
            "ditfuse_batch_seconds", "seconds per batch", buckets=_SECONDS, registry=registry
        )

    def observe_batch(self, size: int, seconds: float) -> None:
        """Counts a batch."""
        self.batches.observe(size)
        self.computing.observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """Returns the page of metrics and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
