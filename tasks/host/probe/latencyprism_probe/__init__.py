"""The function probe: one record per batch, written by the server's processes themselves.

Loaded through the engines' own plugin entry points (`vllm.general_plugins`, `sglang.srt.plugins`) from a
folder on PYTHONPATH, by sitecustomize.py beside this package where an engine has none; nothing is installed
and no engine file is touched.

hooks.py wraps functions when their module is imported; the files of points say which of an engine's, and what
a batch is; calls.py is for functions that the user names (LPRISM_PROBE_POINTS); sink.py writes.
An error of the probe's own never reaches the server: it is counted, and said once on stderr.
Standard library only (Python >= 3.9).
"""

from .hooks import register

__all__ = ["register"]
