"""Watches a server: every batch against its model as it comes, alarms said and written at once."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.lake_tables import lake_connection
from tasks.posting import POSTED, Poster, for_prefect
from tasks.prefect_server import noted
from tasks.sentinel.alarms import Drift, Incidents
from tasks.sentinel.detect import Judges
from tasks.sentinel.evaluate import CHAMPION
from tasks.sentinel.features import INTERVAL, TARGET, key_from
from tasks.sentinel.following import Batch
from tasks.sentinel.online import Scored, Scorer
from tasks.sentinel.records import ENGINES, Damaged, Records
from tasks.sentinel.registry import Registered, load_models
from tasks.sentinel.replay import batches_of
from tasks.settings import LprismError
from tasks.warehouse import execute

MOST_BYTES = 64 << 20  # of the file of a watch, and of the one before it

Event = dict[str, Any]
Tell = Callable[[Event], None]


class Written:
    """The watch's own file in the home, a JSON line an event; a full one is kept as .1, once."""

    def __init__(self, home: Path) -> None:
        self.path = home / "watch" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, event: Event) -> None:
        """Add one event; it is in the file when this returns. Raises LprismError."""
        try:
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()
            if self._file.tell() > MOST_BYTES:
                self._file.close()
                self.path.replace(f"{self.path}.1")
                self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise LprismError(f"{self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close it."""
        self._file.close()


@dataclass
class Session:
    """One session that is judged: its scorer, its incidents, and whether the model still fits."""

    judges: tuple[Registered, Registered | None]
    slo_tpot_ms: float | None
    tell: Tell
    counts: dict[str, int]
    scorer: Scorer = field(init=False)
    drift: Drift = field(default_factory=Drift)

    def __post_init__(self) -> None:
        self.scorer = Scorer(*self.judges)
        self.incidents = Incidents(self.slo_tpot_ms)

    def take(self, batch: Batch) -> None:
        """Judge one batch, and say what follows from it."""
        now, settled = self.scorer.take(batch)
        for row in settled:
            if row is not now and row.alarm and not row.said:
                self._alarm(row)
            self._settled(row)
        if now is not None:
            self.counts["batches"] += 1
            if now.alarm and not now.said:
                self._alarm(now)

    def end(self) -> None:
        """Nothing more comes of it."""
        for row in self.scorer.end():
            self._settled(row)
        self._say(self.incidents.end())

    def _settled(self, row: Scored) -> None:
        self._say(self.incidents.take(row))
        events, level = self.drift.take(row, self.incidents.open)
        self._say(events)
        if level:
            self.scorer.rebase(level)
            self._say(self.incidents.end("drift"))

    def _alarm(self, row: Scored) -> None:
        row.said = True
        self.counts["alarms"] += 1
        self.tell({
            "type": "alarm", "batch_index": row.index, "start_ns": row.start_ns, "model_id": row.model_id,
            "actual_ms": row.actual_ns / 1e6, "expected_ms": row.expected_ns / 1e6,
            "smoothed_residual": row.smoothed, "limit_residual": row.limit,
            "smoothed_interval_residual": row.smoothed_interval, "in_domain": row.in_domain,
            "rebased": row.rebased,
        })  # fmt: skip

    def _say(self, events: Iterable[Event]) -> None:
        for event in events:
            self.counts["incidents"] += event["type"] == "incident_opened"
            self.tell(event)


class Watch:
    """Tells of every event: to whoever asked, into the home, and of the few that matter to the posters."""

    def __init__(self, home: Path, target: str, tell: Tell, webhook: str | None = None) -> None:
        """Open the file. Raises SpecError when `webhook` is no web address."""
        self.target = target
        self.counts = dict.fromkeys(("batches", "alarms", "incidents", "damaged", "not_judged"), 0)
        self._posters = [Poster(webhook)] if webhook else []
        if api := os.environ.get("PREFECT_API_URL") or noted(home / "prefect"):
            self._posters.append(Poster(f"{api}/events", for_prefect))
        self._told_failed: set[str] = set()
        self._tell = tell
        self.written = Written(home)

    def tell(self, event: Event) -> None:
        """Say and write one event."""
        event = {**event, "target": self.target, "told_ns": time.time_ns()}
        self.written.write(event)
        if event["type"] in POSTED:
            for poster in self._posters:
                poster.post(event)
        self._tell(event)
        for poster in self._posters:
            if poster.failed and poster.host not in self._told_failed:
                self._told_failed.add(poster.host)
                self.tell({"type": "note", "text": f"{poster.host} does not take events: {poster.why}"})

    def close(self) -> None:
        """Say what came of it all."""
        for poster in self._posters:
            poster.close()
        failed = sum(poster.failed for poster in self._posters)
        self.tell({"type": "summary", **self.counts, "posts_failed": failed, "file": str(self.written.path)})
        self.written.close()


def models_of(home: Path, campaign: str) -> list[Registered]:
    """The models of a campaign. Raises LprismError when it has none."""
    with lake_connection(home, campaign) as con:
        return load_models(home, con, campaign)


def replay(home: Path, campaign: str, run_id: str, models: list[Registered], watch: Watch) -> None:
    """Judge a stored run as if it came now. Raises LprismError when no model fits it."""
    judges = Judges(models)
    session, judged = "", None
    with lake_connection(home, campaign) as con:
        engine, *key, slo = execute(con, "replayed_runs", run_id=run_id).fetchall()[0]
        of = key_from(key)
        for name, batch in batches_of(con, run_id):
            if name != session:
                if judged:
                    judged.end()
                session, judge = name, judges.of(name, of, TARGET)
                if judge is None:
                    raise LprismError(f"{run_id}: no model fits {engine} {key[0]}: name another --campaign")
                watch.tell({"type": "session", "session": name, "model_id": judge.model_id})
                judged = Session((judge, judges.of(name, of, INTERVAL)), slo, watch.tell, watch.counts)
            if judged:
                judged.take(batch)
    if judged:
        judged.end()


class Live:
    """Judges what a tail tells."""

    def __init__(
        self, models: list[Registered], watch: Watch, model_id: str | None, slo: float | None
    ) -> None:
        """Take the models; `model_id` is one that the user vouches for."""
        self._models, self._watch, self._slo = models, watch, slo
        self._model_id = model_id
        self._cpu: str | None = None
        self._folder: str | None = None
        self._begin({})

    def take(self, record: Event) -> None:
        """Take one record of the tail."""
        kind = record.get("type")
        if kind == "hello":
            self._cpu = record.get("cpu_model")
        elif kind == "session":
            self._go_to(record.get("folder"), record.get("doing") or {})
        elif kind in ("link", "note"):
            self._watch.tell(record)
        elif kind not in ("at", "beat"):
            self._judge(record)

    def _go_to(self, folder: str | None, doing: Event) -> None:
        """Begin a session; one that a link was lost in goes on."""
        if folder is not None and folder == self._folder:
            return
        self.end()
        self._begin(doing)
        self._folder = folder
        self._watch.tell({"type": "session", "session": folder, "text": folder or "nothing is recorded"})

    def end(self) -> None:
        """The session is over."""
        if self._session:
            for batch in self._records.end():
                self._session.take(batch)
            self._session.end()

    def _begin(self, doing: Event) -> None:
        self._doing = doing
        self._records = Records(doing)
        self._session: Session | None = None
        self._is_refused = False

    def _judge(self, record: Event) -> None:
        try:
            batches = self._records.take(record)
        except Damaged as error:
            self._watch.counts["damaged"] += 1
            if self._watch.counts["damaged"] == 1:
                text = f"a record cannot be read ({error}); further ones are only counted"
                self._watch.tell({"type": "note", "text": text})
            return
        for batch in batches:
            if self._session is None and not self._is_refused:
                self._choose()
            if self._session:
                self._session.take(batch)
            else:
                self._watch.counts["not_judged"] += 1

    def _choose(self) -> None:
        """Take the model that fits what the source tells of itself, or say why none does."""
        found = self._fitting()
        if isinstance(found, str):
            self._is_refused = True
            self._watch.tell({"type": "no_model", "text": found})
            return
        of_interval = next((m for m in self._champions(INTERVAL) if m.key == found.key), None)
        vouched = "; the server does not tell its configuration: held for the model's"
        text = f"judged by {found.model_id}{'' if 'engine_key' in self._doing else vouched}"
        self._watch.tell({"type": "model", "model_id": found.model_id, "text": text})
        self._session = Session((found, of_interval), self._slo, self._watch.tell, self._watch.counts)

    def _fitting(self) -> Registered | str:
        engine = ENGINES.get(self._records.source or "")
        if engine is None:
            return f"batches of {self._records.source} are of no engine that is known"
        candidates = [m for m in self._champions(TARGET) if self._model_id in (None, m.model_id)]
        candidates = [m for m in candidates if m.engine == engine]
        if not candidates:
            named = f" {self._model_id}" if self._model_id else ""
            return f"there is no {engine} champion{named}: see lprism models list"
        if key := self._doing.get("engine_key"):
            candidates = [m for m in candidates if m.key[0] == key]
            if not candidates:
                return (
                    f"no model of the server's configuration (engine_key {key}): train one on its normal runs"
                )
        if self._model_id is None:
            candidates = [m for m in candidates if self._cpu in (None, m.key[2])]
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            return f"no model of this CPU ({self._cpu}): train one here, or vouch for another with --model"
        names = ", ".join(m.model_id for m in candidates)
        return f"{len(candidates)} models may fit ({names}): say which with --model"

    def _champions(self, target: str) -> Iterator[Registered]:
        return (m for m in self._models if m.purpose == CHAMPION and m.model.target == target)


def follow(records: Iterator[Event], live: Live, seconds: float | None) -> None:
    """Judge until the records end, Ctrl-C, or for so many seconds."""
    end = time.monotonic() + seconds if seconds else float("inf")
    with closing(records) as coming:  # type: ignore[type-var]  # a generator
        try:
            for record in coming:
                live.take(record)
                if time.monotonic() > end:
                    break
        finally:
            live.end()
