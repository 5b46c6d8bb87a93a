"""What the server counts, for Prometheus: one registry for each server, so that several fit into a process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STEPS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.12, 0.24, 0.5, 1.0)
LATE = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.5, 1.0, 5.0)
LENGTHS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600)


class Metrics:
    """Counters, gauges and histograms; safe to use from any thread."""

    def __init__(self) -> None:
        self.registry = r = CollectorRegistry()
        self.slots = Gauge("duologue_slots", "Conversations that fit", registry=r)
        self.active = Gauge("duologue_sessions_active", "Conversations that have a slot", registry=r)
        self.queued = Gauge("duologue_sessions_queued", "Clients that wait for a slot", registry=r)
        self.paused = Gauge("duologue_sessions_paused", "Slots kept for clients that lost their line", registry=r)
        self.begun = Counter("duologue_sessions", "Conversations that got a slot", registry=r)
        self.resumed = Counter("duologue_sessions_resumed", "Conversations taken up again", registry=r)
        self.ended = Counter("duologue_sessions_ended", "Conversations that ended", ["why"], registry=r)
        self.refused = Counter("duologue_refused", "Requests that were refused", ["why"], registry=r)
        self.length = Histogram("duologue_session_seconds", "Lengths of talks", buckets=LENGTHS, registry=r)
        self.waited = Histogram("duologue_begin_seconds", "From connecting to the handshake", registry=r)
        self.frames = Counter("duologue_frames", "Frames of all talks", registry=r)
        self.step = Histogram("duologue_step_seconds", "One frame of everybody", buckets=STEPS, registry=r)
        self.start_late = Histogram("duologue_start_late_seconds", "Ticks that began late", buckets=LATE, registry=r)
        self.late = Histogram(
            "duologue_late_seconds", "Frames ready too late to be heard in time", buckets=LATE, registry=r
        )
        self.lost = Counter("duologue_clock_lost_seconds", "Time that was given up, not caught up", registry=r)
        self.failures = Counter("duologue_step_failures", "Frames that failed", registry=r)
        self.dropped = Counter("duologue_dropped_seconds", "Users' sound thrown away: too fast", registry=r)
        self.starved = Counter("duologue_starved_seconds", "Silence in the place of users' sound", registry=r)
        self.unsent = Counter("duologue_unsent_frames", "Frames that a client did not take in time", registry=r)
        self.ignored = Counter("duologue_messages_ignored", "Messages of no use", ["kind"], registry=r)
        self.recordings = Counter("duologue_recordings", "Recordings written", registry=r)

    def page(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self.registry)
