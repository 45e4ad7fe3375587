"""CASES: the cases of all families, from the files `cases_*.py` beside this one. Every registered op must have one."""

from __future__ import annotations

import importlib
from pathlib import Path

from ops.case import Case

FILES = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
CASES: list[Case] = [case for name in FILES for case in importlib.import_module(f"ops.{name}").CASES]
