"""What each sentence of sql/checks looks at, and what it means when a run breaks it.

A run belongs to one suite: `campaign` when one of our campaigns recorded it, `recording` when it is a trace,
a log or a table of somebody else. The same sentence may be a condition in one and a remark in the other.
"""

from dataclasses import dataclass
from typing import Literal

Policy = Literal["fail", "quarantine", "warn"]
Suite = Literal["campaign", "recording"]
SUITES: tuple[Suite, ...] = ("campaign", "recording")


@dataclass(frozen=True)
class Check:
    """A check of rows of `judges`; `value` is the column of its offending rows whose range is told.

    Its policy, by suite, when it is broken: `fail` stops the pipeline, `quarantine` leaves the offending
    batches out of training and scoring (`excluded_batches`), `warn` only tells. None: it does not concern
    such runs.
    """

    judges: str
    campaign: Policy | None
    recording: Policy | None
    value: str | None = None

    def policy(self, suite: Suite) -> Policy | None:
        """What it means in a suite."""
        return self.campaign if suite == "campaign" else self.recording


CHECKS = {
    "batches_are_numbered_once": Check("batches", "fail", "fail", "batches"),
    "batches_have_positive_duration": Check("batches", "quarantine", "quarantine", "duration_ns"),
    # How far the clocks of others may be wrong is not known.
    "batches_of_one_process_do_not_overlap": Check("batches", "quarantine", "warn", "overlap_ns"),
    # Effects are held against what they differ by.
    "clocks_agree_to_a_millisecond": Check("runs", "warn", None, "clock_uncertainty_ns"),
    # Their times are right all the same.
    "clocks_were_not_set": Check("runs", "warn", None, "clock_step_ns"),
    "complete_runs_have_batches_in_every_window": Check("runs", "fail", None),
    # A busy host samples late.
    "complete_runs_have_counters_at_their_rate": Check("runs", "warn", None, "samples_per_s"),
    # A trace may count in words, which become NaN.
    "counters_are_finite": Check("counters", "fail", "warn", "value"),
    "devices_are_numbered_once": Check("devices", "fail", "fail", "devices"),
    # A busy front end answers late; without its metrics a run is still a run.
    "engine_metrics_are_told_most_of_the_time": Check("engine_metrics", "warn", None, "answered_ratio"),
    "event_durations_are_not_negative": Check("events", "fail", "fail", "duration_ns"),
    "event_launches_are_there": Check("events", "fail", "fail"),
    "events_are_as_many_as_were_kept": Check("events", "fail", "fail", "missing_rows"),
    "faults_were_proved_and_undone": Check("runs", "fail", None),
    "file_rows_add_up": Check("files", "fail", "fail", "rows_in"),
    # A killed recorder leaves a torn last line.
    "no_line_is_in_quarantine": Check("files", "warn", "warn"),
    "published_curves_are_within_bounds": Check("published_curves", None, "fail", "mape_ratio"),
    "published_scores_agree_with_their_parts": Check("published_comparison", None, "warn", "suspicion_score"),
    "request_times_are_in_order": Check("requests", "fail", "fail", "e2e_ms"),
    "request_tokens_are_not_negative": Check("requests", "fail", "fail"),
    "requests_are_numbered_once": Check("requests", "fail", "fail", "requests"),
    "run_ids_are_unique": Check("runs", "fail", "fail", "runs"),
    # What is missing is told by its rows.
    "scheduler_slices_are_whole": Check("scheduler_slices", "warn", None, "lost_events"),
    "tokens_are_not_negative": Check("batches", "quarantine", "quarantine"),
    "usage_counters_are_finite": Check("function_usage", "fail", "fail", "mu_pct"),
    "usage_cycles_have_one_start": Check("function_usage", "fail", "fail"),
    "usage_shares_agree_with_their_times": Check("function_usage", "fail", "fail", "beta_pct"),
    "window_marks_are_in_order": Check("runs", "fail", None),
}


def of_suite(suite: Suite) -> dict[str, Policy]:
    """The checks of a suite, in order, and what each means there."""
    found = {name: check.policy(suite) for name, check in CHECKS.items()}
    return {name: policy for name, policy in found.items() if policy is not None}
